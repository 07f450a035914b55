"""Arrays in CUDA memory: whose they are, where they live, and what their library does for us.

Memory, copies and elementwise arithmetic on a device are the caller's library's (CuPy or PyTorch),
so that its allocator and current stream are used; the kernels are those of `infall._cuda`. Neither
library is imported, nor CUDA touched, before an array in device memory comes in.
"""

from __future__ import annotations

import importlib
import sys
import threading
from abc import abstractmethod
from collections.abc import Iterator
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infall._arrays.blocks import block_size
from infall._arrays.checks import check_two_axes, kind_of
from infall._arrays.convert import exchanged
from infall._arrays.place import Place, is_real

_BLOCK_ENTRIES = 2**21  # numbers of a block of vectors: 16 MiB as float64
# Handles of the __cuda_array_interface__ and of CUDA alike: 0 and 1 are one stream.
_LEGACY_DEFAULT_STREAM = 1


class _Entered(threading.local):
    """The contexts of the libraries in which this thread is, the innermost last."""

    def __init__(self) -> None:
        self.guards: list[Any] = []


_entered = _Entered()


class Device(Place):
    """One CUDA device as one array library sees it."""

    room = "_device"
    is_host = False
    library: ClassVar[str]

    def __init__(self, number: int) -> None:
        self.number = number
        self.xp = sys.modules[self.library]

    def __str__(self) -> str:
        return f"cuda:{self.number}"

    @property
    def description(self) -> str:
        return f"memory of {self} held by {self.library}"

    def __enter__(self) -> Device:
        guard = self._current()
        guard.__enter__()
        _entered.guards.append(guard)
        return self

    def __exit__(self, *error: Any) -> None:
        _entered.guards.pop().__exit__(*error)

    @abstractmethod
    def _current(self) -> Any:
        """Return a context of the library in which the device is the current one."""

    @property
    @abstractmethod
    def stream(self) -> int:
        """The caller's current stream on this device, a cudaStream_t."""

    @property
    def queue(self) -> tuple[int, int]:
        """Device and stream, as the last arguments of every kernel."""
        return self.number, self.stream

    @abstractmethod
    def arange(self, count: int) -> Any:
        """Return the numbers from 0 to count - 1, int64."""

    @abstractmethod
    def pointer(self, array: Any) -> int:
        """Return the address of the first element."""

    def pointers(self, *arrays: Any) -> tuple[int, ...]:
        """Return the addresses of the first elements."""
        return tuple(self.pointer(array) for array in arrays)

    @abstractmethod
    def element_strides(self, array: Any, name: str) -> tuple[int, ...]:
        """Return the strides in elements."""

    @abstractmethod
    def is_contiguous(self, array: Any) -> bool:
        """Whether the array is in C order."""

    def array(self, given: Any, name: str) -> Any:
        dtype = self.dtype_name(given)
        if not is_real(dtype):
            raise TypeError(
                f"{name} has dtype {dtype}; expected real numbers (floating point or integer)"
            )
        return given

    def returned(self, array: Any) -> Any:
        return array

    def scaled(self, array: Any, exponents: Any) -> Any:
        """Return array * 2**exponents, with the rounding of ldexp.

        Two factors, since one would leave the range of float64; powers are made from their bits,
        for exp2 is not exact everywhere and PyTorch's ldexp goes through binary32.
        """
        exponents = self.cast(exponents, "int64")
        half = exponents >> 1
        return array * self._power_of_two(half) * self._power_of_two(exponents - half)

    def _power_of_two(self, exponents: Any) -> Any:
        return ((exponents + 1023) << 52).view(self.xp.float64)

    def vectors(self, array: Any, name: str, *, dim: int | None = None) -> tuple[Any, bool]:
        # Values are not searched for NaN and infinity: that would wait for the current stream.
        rows, batched = self._two_axes(array, name, dim)
        return self.contiguous(self.cast(rows, "float64")), batched

    def vector_blocks(
        self, array: Any, name: str, *, dim: int | None = None
    ) -> tuple[Iterator[tuple[int, Any]], int, int, bool]:
        rows, batched = self._two_axes(array, name, dim)
        count, dim = (int(n) for n in rows.shape)
        step = max(1, block_size(_BLOCK_ENTRIES) // dim)

        def blocks() -> Iterator[tuple[int, Any]]:
            for first in range(0, count, step):
                block = self.cast(rows[first : first + step], "float64")
                largest = self.xp.amax(self.xp.abs(block), axis=1)
                yield first, self.scaled(block, -self.xp.frexp(largest)[1][:, None])

        return blocks(), count, dim, batched

    def _two_axes(self, array: Any, name: str, dim: int | None) -> tuple[Any, bool]:
        array = self.array(array, name)
        batched = check_two_axes(tuple(array.shape), name, dim)
        return array if batched else array[None], batched


class CuPyDevice(Device):
    library = "cupy"

    def __init__(self, number: int, namespace: Any = None) -> None:
        super().__init__(number)
        self._namespace = namespace  # of the library that the array was exchanged from

    def _current(self) -> Any:
        return self.xp.cuda.Device(self.number)

    @property
    def stream(self) -> int:
        with self._current():
            return int(self.xp.cuda.get_current_stream().ptr)

    def empty(self, shape: tuple[int, ...] | int, dtype: str) -> Any:
        return self.xp.empty(shape, dtype=dtype)

    def arange(self, count: int) -> Any:
        return self.xp.arange(count, dtype="int64")

    def upload(self, array: NDArray[Any]) -> Any:
        with self._current():
            return self.xp.asarray(array)  # CuPy locks a copy

    def download(self, array: Any) -> NDArray[Any]:
        with self._current():
            host: NDArray[Any] = self.xp.asnumpy(array)
        return host

    def pointer(self, array: Any) -> int:
        return int(array.data.ptr)

    def dtype_name(self, array: Any) -> str:
        return str(array.dtype.name)

    def element_strides(self, array: Any, name: str) -> tuple[int, ...]:
        if any(step % array.itemsize for step in array.strides):
            raise TypeError(f"{name} is not aligned to its element size; copy it first")
        return tuple(int(step) // int(array.itemsize) for step in array.strides)

    def contiguous(self, array: Any) -> Any:
        return self.xp.ascontiguousarray(array)

    def is_contiguous(self, array: Any) -> bool:
        return bool(array.flags.c_contiguous)

    def cast(self, array: Any, dtype: str) -> Any:
        return array.astype(dtype, copy=False)

    def returned(self, array: Any) -> Any:
        return array if self._namespace is None else exchanged(array, self._namespace)

    def recorded(self) -> Any:
        event = self.xp.cuda.Event(disable_timing=True)
        event.record()
        return event

    def wait_for(self, event: Any) -> None:
        self.xp.cuda.get_current_stream().wait_event(event)

    def wait_for_stream(self, stream: int) -> None:
        """Let the current stream wait, on the device, for what `stream` holds so far."""
        if max(stream, _LEGACY_DEFAULT_STREAM) == max(self.stream, _LEGACY_DEFAULT_STREAM):
            return
        with self._current():
            event = self.xp.cuda.Event(disable_timing=True)
            self.xp.cuda.runtime.eventRecord(event.ptr, stream)
            self.wait_for(event)


class TorchDevice(Device):
    library = "torch"

    def _current(self) -> Any:
        return self.xp.cuda.device(self.number)

    @property
    def stream(self) -> int:
        return int(self.xp.cuda.current_stream(self.number).cuda_stream)

    def empty(self, shape: tuple[int, ...] | int, dtype: str) -> Any:
        return self.xp.empty(shape, dtype=getattr(self.xp, dtype), device=str(self))

    def arange(self, count: int) -> Any:
        return self.xp.arange(count, dtype=self.xp.int64, device=str(self))

    def upload(self, array: NDArray[Any]) -> Any:
        # PyTorch warns of memory it may not write to.
        host = self.xp.from_numpy(np.require(array, requirements=["C", "W"]))
        return host.pin_memory().to(str(self), non_blocking=True)

    def download(self, array: Any) -> NDArray[Any]:
        if self.dtype_name(array) == "bfloat16":
            array = array.to(self.xp.float32)  # exact; NumPy has no such type
        host: NDArray[Any] = array.cpu().numpy()
        return host

    def pointer(self, array: Any) -> int:
        return int(array.data_ptr())

    def dtype_name(self, array: Any) -> str:
        return str(array.dtype).removeprefix("torch.")

    def element_strides(self, array: Any, name: str) -> tuple[int, ...]:
        return tuple(int(step) for step in array.stride())

    def contiguous(self, array: Any) -> Any:
        return array.contiguous()

    def is_contiguous(self, array: Any) -> bool:
        return bool(array.is_contiguous())

    def cast(self, array: Any, dtype: str) -> Any:
        return array.to(getattr(self.xp, dtype))

    def recorded(self) -> Any:
        event = self.xp.cuda.Event()
        event.record()
        return event

    def wait_for(self, event: Any) -> None:
        self.xp.cuda.current_stream(self.number).wait_event(event)


def cuda_kernels(name: str, array: Any) -> Any:
    """Return the compiled module `infall._cuda`.

    Raises RuntimeError if this build has none, naming the argument that asked for it.
    """
    try:
        return importlib.import_module("infall._cuda")
    except ImportError as error:
        what = f"{name} is a {kind_of(array)} in device memory"
        if array is None:
            what = f"{name} names a CUDA device"
        raise RuntimeError(
            f"{what}, but this build of infall has no CUDA kernels ({error}); build it where nvcc "
            "is, with `INFALL_CUDA=ON pip install .` or the CMake option -DINFALL_CUDA=ON, or "
            "copy the array to the host first"
        ) from None
