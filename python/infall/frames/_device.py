"""Vectors in CUDA memory and frames applied to them by the CUDA kernels.

The twin of `infall._frames_host`. Everything is queued on the current stream of the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.checks import check_two_axes
from infall._arrays.device import Device, cuda_kernels, located
from infall.frames._host import Host, Structure, Vectors, Watch

_BLOCK_ENTRIES = 2**24  # numbers of vectors that are worked on at a time
_BLOCK_VECTORS = 2**14


class OnDevice:
    """Memory of a CUDA device; a context in which it is the current one."""

    def __init__(self, device: Device, array: Any) -> None:
        self.device, self.array = device, array
        self.key = f"{device.library} {device}"

    def __enter__(self) -> OnDevice:
        self.device.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.device.__exit__(kind, error, traceback)

    def read(self, name: str, dim: int | None = None) -> Vectors:
        """Check kind and shape; values are taken as they are."""
        found = self.device.dtype_name(self.array)
        if not found.startswith(("float", "bfloat", "int", "uint", "bool")):
            raise TypeError(
                f"{name} has dtype {found}; expected real numbers (floating point or integer)"
            )
        batched = check_two_axes(tuple(int(n) for n in self.array.shape), name, dim)
        dtype = "float32" if found in ("float32", "float16", "bfloat16") else "float64"
        return Vectors(name, self.array if batched else self.array[None], dtype, batched, 0.0)

    def blocks(self, vectors: Vectors) -> Iterator[tuple[int, Any]]:
        """Return the vectors in C order and the dtype to compute with, block by block."""
        count, dim = (int(n) for n in vectors.rows.shape)
        step = min(_BLOCK_VECTORS, max(1, _BLOCK_ENTRIES // dim))
        for first in range(0, count, step):
            block = self.device.cast(vectors.rows[first : first + step], vectors.dtype)
            yield first, self.device.contiguous(block)

    def empty(self, shape: tuple[int, ...], dtype: str) -> Any:
        return self.device.empty(shape, dtype)

    def constant(self, values: NDArray[np.float64], dtype: str) -> Any:
        return self.device.upload(values.astype(dtype, copy=False))

    def recorded(self) -> Any:
        return self.device.recorded()

    def wait_for(self, event: Any) -> None:
        self.device.wait_for(event)

    def returned(self, array: Any) -> Any:
        return self.device.returned(array)

    def project(self, structure: Structure, x: Any, out: Any, threads: int, watch: Watch) -> None:
        self._launch("frame_project", structure, x, [out], watch)

    def synthesise(
        self, structure: Structure, x: Any, out: Any, threads: int, watch: Watch
    ) -> None:
        self._launch("frame_synthesise", structure, x, [out], watch)

    def top_logits(
        self, structure: Structure, x: Any, classes: Any, values: Any, threads: int, watch: Watch
    ) -> None:
        top = int(classes.shape[1])
        self._launch("frame_top_logits", structure, x, [classes, values], watch, top)

    def top_scores(
        self, scores: Any, labels: Any | None, classes: Any, values: Any, threads: int
    ) -> None:
        scores = self.device.contiguous(scores)
        count, columns = (int(n) for n in scores.shape)
        cuda_kernels("H", None).top_scores(
            self.device.dtype_name(scores),
            self.device.pointer(scores),
            0 if labels is None else self.device.pointer(labels),
            count,
            columns,
            int(classes.shape[1]),
            self.device.pointer(classes),
            self.device.pointer(values),
            self.device.number,
            self.device.stream,
        )

    def walsh_hadamard(self, x: Any, out: Any, factor: float, threads: int, watch: Watch) -> None:
        count, length = (int(n) for n in x.shape)
        cuda_kernels("x", None).walsh_hadamard(
            self.device.dtype_name(x),
            self.device.pointer(x),
            count,
            length.bit_length() - 1,
            factor,
            self.device.pointer(out),
            self.device.number,
            self.device.stream,
        )
        if watch is not None:
            watch(count)

    def _launch(
        self, kernel: str, structure: Structure, x: Any, out: list[Any], watch: Watch, *more: int
    ) -> None:
        device, kernels = self.device, cuda_kernels("H", None)
        count, dtype = len(x), device.dtype_name(x)
        norms = None if structure.norms is None else device.upload(structure.norms)
        shape = structure.num_classes, structure.dim, structure.hadamard
        workspace = device.empty(int(kernels.frame_workspace(dtype, *shape, count)), "uint8")
        getattr(kernels, kernel)(
            dtype,
            *shape,
            structure.seed,
            0 if norms is None else device.pointer(norms),
            device.pointer(x),
            count,
            *more,
            *(device.pointer(array) for array in out),
            device.pointer(workspace),
            device.number,
            device.stream,
        )
        if watch is not None:
            watch(count)


def place_of(array: Any, name: str) -> Host | OnDevice:
    """Return where an array lives.

    Raises
    ------
    TypeError
        As `infall._device.located`.
    """
    device, found = located(array, name)
    return Host(array) if device is None else OnDevice(device, found)
