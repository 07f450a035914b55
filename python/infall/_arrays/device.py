"""Arrays in CUDA memory: whose they are, where they live, and what their library does for us.

Memory, copies and elementwise arithmetic on a device are the caller's library's (CuPy or PyTorch),
so that its allocator and current stream are used; the kernels are those of `infall._cuda`. Neither
library is imported, nor CUDA touched, before an array in device memory comes in.
"""

from __future__ import annotations

import importlib
import sys
import threading
from collections.abc import Iterator
from types import TracebackType
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from infall._arrays.checks import check_two_axes, kind_of
from infall._arrays.convert import exchanged, refuse_gradient

_DLPACK_CUDA = 2
_BLOCK_ENTRIES = 2**21  # numbers of a block of vectors: 16 MiB as float64
# Handles of the __cuda_array_interface__ and of CUDA alike: 0 and 1 are one stream.
_LEGACY_DEFAULT_STREAM = 1


class _Entered(threading.local):
    """The contexts of the libraries in which this thread is, the innermost last."""

    def __init__(self) -> None:
        self.guards: list[Any] = []


_entered = _Entered()


class Device:
    """One CUDA device as one array library sees it; a context in which it is the current one."""

    library: ClassVar[str]

    def __init__(self, number: int) -> None:
        self.number = number
        self.xp: Any = sys.modules[self.library]

    def __str__(self) -> str:
        return f"cuda:{self.number}"

    def __enter__(self) -> Device:
        guard = self._current()
        guard.__enter__()
        _entered.guards.append(guard)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        _entered.guards.pop().__exit__(kind, error, traceback)

    def _current(self) -> Any:
        raise NotImplementedError

    @property
    def stream(self) -> int:
        """The caller's current stream on this device, a cudaStream_t."""
        raise NotImplementedError

    def empty(self, shape: tuple[int, ...] | int, dtype: str) -> Any:
        """Return uninitialised memory of the library's allocator."""
        raise NotImplementedError

    def arange(self, count: int) -> Any:
        """Return the numbers from 0 to count - 1, int64."""
        raise NotImplementedError

    def upload(self, values: NDArray[Any]) -> Any:
        """Copy a small host array to the device, in the order of the current stream.

        Through page-locked memory: from other memory the driver may wait for the stream.
        """
        raise NotImplementedError

    def download(self, array: Any) -> NDArray[Any]:
        """Copy an array to the host, which waits for the current stream."""
        raise NotImplementedError

    def pointer(self, array: Any) -> int:
        """Return the address of the first element."""
        raise NotImplementedError

    def dtype_name(self, array: Any) -> str:
        """Return NumPy's name of the dtype, or ``"bfloat16"``."""
        raise NotImplementedError

    def element_strides(self, array: Any, name: str) -> tuple[int, ...]:
        """Return the strides in elements."""
        raise NotImplementedError

    def contiguous(self, array: Any) -> Any:
        """Return the array in C order: itself, or a copy on the device."""
        raise NotImplementedError

    def is_contiguous(self, array: Any) -> bool:
        """Whether the array is in C order."""
        raise NotImplementedError

    def cast(self, array: Any, dtype: str) -> Any:
        """Return the array with another dtype, itself if it has it."""
        raise NotImplementedError

    def returned(self, array: Any) -> Any:
        """Return a result as an array of the caller's library."""
        return array

    def recorded(self) -> Any:
        """Return an event: what the current stream holds so far is done."""
        raise NotImplementedError

    def wait_for(self, event: Any) -> None:
        """Let the current stream wait for an event, on the device."""
        raise NotImplementedError

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
        """Return float64 vectors of shape (B, k) in C order, and whether there was a batch axis.

        Values are not searched for NaN and infinity: that would wait for the current stream.
        """
        found, batched = self._two_axes(array, name, dim)
        return self.contiguous(self.cast(found, "float64")), batched

    def vector_blocks(
        self, array: Any, name: str, *, dim: int | None = None
    ) -> tuple[Iterator[tuple[int, Any]], int, int, bool]:
        """Return vectors block by block, each scaled by a power of two to magnitudes below one.

        Blocks, numbers and flag are those of `infall._arrays.vector_blocks`. Values are not
        searched for NaN, infinity and zero vectors: that would wait for the current stream.
        """
        found, batched = self._two_axes(array, name, dim)
        count, dim = (int(n) for n in found.shape)
        step = max(1, _BLOCK_ENTRIES // dim)

        def blocks() -> Iterator[tuple[int, Any]]:
            for first in range(0, count, step):
                block = self.cast(found[first : first + step], "float64")
                largest = self.xp.amax(self.xp.abs(block), axis=1)
                yield first, self.scaled(block, -self.xp.frexp(largest)[1][:, None])

        return blocks(), count, dim, batched

    def _two_axes(self, array: Any, name: str, dim: int | None) -> tuple[Any, bool]:
        dtype = self.dtype_name(array)
        if not dtype.startswith(("float", "bfloat", "int", "uint", "bool")):
            raise TypeError(
                f"{name} has dtype {dtype}; expected real numbers (floating point or integer)"
            )
        batched = check_two_axes(tuple(array.shape), name, dim)
        return array if batched else array[None], batched


class _CuPyDevice(Device):
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

    def upload(self, values: NDArray[Any]) -> Any:
        with self._current():
            return self.xp.asarray(values)  # CuPy locks a copy

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


class _TorchDevice(Device):
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

    def upload(self, values: NDArray[Any]) -> Any:
        # PyTorch warns of memory it may not write to.
        host = self.xp.from_numpy(np.require(values, requirements=["C", "W"]))
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


def located(array: Any, name: str) -> tuple[Device | None, Any]:
    """Return the device that an array lives on, and the array as one of the device's library.

    CuPy arrays and PyTorch tensors are taken as they are. Others (Numba, JAX, any array with
    `__cuda_array_interface__` version 2 or 3, or DLPack in CUDA memory) are viewed through CuPy,
    which is then imported. An array that names the stream it is written on
    (`__cuda_array_interface__` version 3) makes the caller's current stream wait for it, on the
    device; one that names none needs no waiting.

    Returns
    -------
    device : Device or None
        None for what is not in CUDA memory.
    array : array
        Without a device, what was given.

    Raises
    ------
    TypeError
        If the array cannot be read, or is a tensor that requires a gradient.
    RuntimeError
        If this build has no CUDA kernels.
    """
    if isinstance(array, (np.ndarray, np.generic, list, tuple)):
        return None, array
    torch, cupy = sys.modules.get("torch"), sys.modules.get("cupy")
    if torch is not None and isinstance(array, torch.Tensor):
        if not array.is_cuda:
            return None, array
        cuda_kernels(name, array)
        refuse_gradient(array, name)
        return _TorchDevice(int(array.device.index)), array.detach()
    if cupy is not None and isinstance(array, cupy.ndarray):
        cuda_kernels(name, array)
        return _CuPyDevice(int(array.device.id)), array
    interface = getattr(array, "__cuda_array_interface__", None)
    if interface is None:
        exchanged = hasattr(array, "__dlpack_device__")
        if not exchanged or int(array.__dlpack_device__()[0]) != _DLPACK_CUDA:
            return None, array
    cuda_kernels(name, array)
    return _through_cupy(array, interface, name)


def _through_cupy(array: Any, interface: dict[str, Any] | None, name: str) -> tuple[Device, Any]:
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        raise TypeError(
            f"{name} is a {kind_of(array)} in CUDA memory; expected a CuPy array or a PyTorch "
            f"tensor, for CuPy, through which others are read, cannot be imported: {error}"
        ) from None
    try:
        if interface is None:
            number = int(array.__dlpack_device__()[1])
            with cupy.cuda.Device(number):
                found = cupy.from_dlpack(array)  # the protocol hands over the current stream
        else:
            if interface["version"] not in (2, 3):
                raise ValueError(f"__cuda_array_interface__ version {interface['version']}")
            # Without its stream: CuPy would have the host wait for it.
            found = cupy.asarray(_Interface(array, {**interface, "stream": None}))
    except (RuntimeError, BufferError, KeyError, TypeError, ValueError) as error:
        raise TypeError(f"{name} is a {kind_of(array)} that cannot be read: {error}") from None
    namespace = None
    if hasattr(array, "__array_namespace__"):
        namespace = array.__array_namespace__()
    device = _CuPyDevice(int(found.device.id), namespace)
    stream = None if interface is None else interface.get("stream")
    if stream is not None:
        device.wait_for_stream(int(stream))
    return device, found


class _Interface:
    """What CuPy is shown of a foreign array, which it keeps alive."""

    def __init__(self, owner: Any, interface: dict[str, Any]) -> None:
        self.owner = owner
        self.__cuda_array_interface__ = interface


def located_with(device: Device | None, array: Any, name: str, first_name: str) -> Any:
    """Return an array of the library and device that the first argument lives on.

    Raises
    ------
    TypeError
        If it lives elsewhere, and as `located`.
    """
    there, found = located(array, name)
    places = [
        "host memory" if d is None else f"memory of {d} held by {d.library}"
        for d in (there, device)
    ]
    if places[0] != places[1]:
        raise TypeError(
            f"{name} is in {places[0]}, {first_name} in {places[1]}; expected both in one place"
        )
    return found


def named_device(name: str, like: Any) -> Device | None:
    """Return the device called "cpu" (None), "cuda" or "cuda:1".

    The library is PyTorch if `like` is a tensor, otherwise CuPy, which is imported. "cuda" is the
    library's current device.

    Raises
    ------
    TypeError
        If there is no CuPy.
    ValueError
        If there is no such device.
    RuntimeError
        If this build has no CUDA kernels; with CUDA's text, if there is no device at all.
    """
    number = device_number(name)
    if name == "cpu":
        return None
    kernels = cuda_kernels("device", None)
    count = int(kernels.device_count())
    if number is not None and number >= count:
        raise ValueError(f"device is {name!r}; there are {count} CUDA devices, from cuda:0 on")
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(like, torch.Tensor):
        return _TorchDevice(int(torch.cuda.current_device()) if number is None else number)
    try:
        cupy: Any = importlib.import_module("cupy")
    except ImportError as error:
        raise TypeError(
            f"device is {name!r}, but CuPy, which holds its arrays, cannot be imported: {error}"
        ) from None
    return _CuPyDevice(int(cupy.cuda.Device().id) if number is None else number)


def device_number(name: Any) -> int | None:
    """Return the number in "cuda:1"; None for "cpu" and "cuda".

    Raises
    ------
    TypeError, ValueError
        For what is not the name of a device.
    """
    if not isinstance(name, str):
        raise TypeError(f"device is {name!r}; expected 'cpu', 'cuda' or a name such as 'cuda:1'")
    if name in ("cpu", "cuda"):
        return None
    prefix, _, digits = name.partition(":")
    if prefix != "cuda" or not (digits.isascii() and digits.isdigit()):
        raise ValueError(f"device is {name!r}; expected 'cpu', 'cuda' or a name such as 'cuda:1'")
    return int(digits)


def cuda_kernels(name: str, array: Any) -> Any:
    """Return the compiled module `infall._cuda`.

    Raises
    ------
    RuntimeError
        If this build has none, naming the argument that asked for it.
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
