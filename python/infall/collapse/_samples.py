"""Features of one layer, read where they lie or handed out block by block."""

from __future__ import annotations

from abc import ABC, abstractmethod
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import accumulate
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from infall._arrays.blocks import block_size
from infall._arrays.calls import Progress
from infall._arrays.checks import MAX_DIM, check_finite
from infall._arrays.convert import to_numpy
from infall._arrays.features import feature_rows, float32_of, refuse_nonfinite, rows_are_readable
from infall._arrays.host import Host
from infall._arrays.locate import place_of
from infall._arrays.place import Place, is_real
from infall._arrays.threads import thread_count

_BLOCK_BYTES = 2**26
KERNEL_DTYPES = ("float16", "bfloat16", "float32", "float64")

_Result = TypeVar("_Result")


class Samples(ABC):
    """Features (N, d) and how they are cut into blocks."""

    name: str  # of the argument they came as
    shape: tuple[int, int]  # (N, d), d not 0
    dtype: str  # of the features as they came
    place: Place = Host()  # where the blocks lie

    @abstractmethod
    def pieces(self, *, on_host: bool = False) -> Iterator[tuple[slice, Any]]:
        """Yield slices of the samples and their features as the kernels read them, in order."""

    def each(
        self,
        work: Callable[[Any, slice, Progress | None], _Result],
        progress: Progress | None,
        *,
        on_host: bool = False,
    ) -> Iterator[tuple[slice, _Result]]:
        """Yield slices of the samples and the result of work(features, slice, progress of all).

        Raises ValueError for NaN and infinity, with their position among all samples, and what
        `work` raises.
        """
        total = self.shape[0]
        for rows, block in self.pieces(on_host=on_host):
            within = progress and partial(_report_within, progress, rows.start, total)
            try:
                result = work(block, rows, within)
            except ValueError:
                if self.place.is_host or on_host:
                    self._refuse_nonfinite(block, rows.start)
                raise
            yield rows, result

    def require_finite(self) -> None:
        """Raise ValueError for NaN and infinity, with their position."""
        for rows, block in self.pieces(on_host=True):
            self._refuse_nonfinite(block, rows.start)

    def _refuse_nonfinite(self, block: Any, first_row: int) -> None:
        rows = feature_rows(block, self.name)
        refuse_nonfinite(rows, self.name, thread_count(None), first_row=first_row)

    def cut(self, bytes_per_sample: int, ends: Sequence[int] = ()) -> Iterator[slice]:
        # Where the array has chunks, of which `ends` are the last rows: whole ones, at least one.
        step, first = max(1, block_size(_BLOCK_BYTES) // bytes_per_sample), 0
        while first < self.shape[0]:
            last = min(first + step, self.shape[0])
            if len(ends):
                chunk = bisect_right(ends, last) - 1
                if chunk < 0 or ends[chunk] <= first:
                    chunk += 1
                last = ends[chunk]
            yield slice(first, last)
            first = last


class ArraySamples(Samples):
    """Features as they are given: read in place, or in blocks.

    Blocks are cut from memory maps, from arrays that are read from files (HDF5, Zarr, Dask: any
    with shape, dtype and slices), along the chunks these have, and from arrays in memory that the
    kernels do not read in place: other layouts, byte orders and integers.

    Raises TypeError for masked arrays and dtypes that are not real numbers; ValueError for another
    shape than (N, d), or d = 0.
    """

    def __init__(self, features: Any, name: str) -> None:
        self.name = name
        self.place, features = place_of(features, name)
        if self.place.is_host and not _can_be_cut(features):
            features = to_numpy(features, name)
        self.dtype = _dtype_name(features)
        if not is_real(self.dtype):
            raise TypeError(
                f"{name} has dtype {self.dtype}; expected real numbers (floating point or integer)"
            )
        shape = tuple(int(n) for n in features.shape)
        if len(shape) != 2 or not 0 < shape[1] < MAX_DIM:
            raise ValueError(f"{name} has shape {shape}; expected (N, d), d from 1 to 2**32 - 1")
        self.shape = shape[0], shape[1]
        self.features = features

    def pieces(self, *, on_host: bool = False) -> Iterator[tuple[slice, Any]]:
        pieces: Iterator[tuple[slice, Any]] = self.place.kernels("collapse").pieces(
            self.place, self, on_host
        )
        return pieces

    def float64_rows(self, rows: slice) -> NDArray[np.float64]:
        """Return some samples as finite float64 in host memory, a copy of these alone."""
        with self.place as place:
            block = place.download(self.features[rows])
        features = feature_rows(readable(block, self.name), self.name)
        copy = np.array(float32_of(features), float)
        check_finite(copy, self.name, first_row=rows.start)
        return copy

    def chunk_ends(self) -> Sequence[int]:
        # h5py and Zarr have the length of a chunk, Dask that of each.
        chunks = getattr(self.features, "chunks", None)
        if not isinstance(chunks, tuple) or len(chunks) != 2:
            return ()
        if isinstance(chunks[0], tuple):
            return list(accumulate(chunks[0]))
        step, count = int(chunks[0]), self.shape[0]
        return [*range(step, count, step), count]


class LineSamples(Samples):
    """Features (1 - t) first + t last in float64, of which only a block is made at a time."""

    name = "features"
    dtype = "float64"

    def __init__(self, first: ArraySamples, last: ArraySamples, time: float) -> None:
        if first.shape != last.shape:
            raise ValueError(
                f"last has shape {last.shape}, first {first.shape}; expected the same, for there "
                "is no line between features of different widths"
            )
        self.shape = first.shape
        self._first, self._last, self._time = first, last, time

    def pieces(self, *, on_host: bool = False) -> Iterator[tuple[slice, Any]]:
        for rows in self.cut(self.shape[1] * 8):
            block = self._first.float64_rows(rows) * (1.0 - self._time)
            block += self._last.float64_rows(rows) * self._time
            yield rows, block


def _can_be_cut(features: Any) -> bool:
    """Whether features are an array that need not be made one, whole, before it is cut."""
    if isinstance(features, (np.ma.MaskedArray, np.generic)):
        return False
    if "bfloat16" in str(getattr(features, "dtype", "")) or isinstance(features, np.ndarray):
        return True
    is_array = all(hasattr(features, name) for name in ("shape", "dtype", "__getitem__"))
    return is_array and not hasattr(features, "__dlpack__")


def _dtype_name(array: Any) -> str:
    return str(getattr(array.dtype, "name", array.dtype)).removeprefix("torch.")


def readable(block: Any, name: str) -> Any:
    """Return features (n, d) in host memory as the kernels read them: themselves, or a copy."""
    if is_readable(block):
        return block
    if _dtype_name(block) == "bfloat16":
        return np.ascontiguousarray(block) if isinstance(block, np.ndarray) else block.contiguous()
    return feature_rows(block, name)


def is_readable(block: Any) -> bool:
    if not isinstance(block, np.ndarray):  # a tensor of bfloat16, or an array that is cut
        is_tensor = hasattr(block, "__dlpack__")
        return is_tensor and (not hasattr(block, "stride") or block.stride()[1] == 1)
    if isinstance(block, np.ma.MaskedArray) or block.dtype.name not in KERNEL_DTYPES:
        return False
    return block.dtype.isnative and rows_are_readable(block)


def _report_within(
    progress: Progress, first: int, total: int, done: int, _: int, stage: str
) -> None:
    progress(first + done, total, stage)
