"""Feature matrices as the kernels read them: in place where they can, else block by block."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.blocks import block_size
from infall._arrays.checks import MAX_DIM
from infall._arrays.convert import is_torch, refuse_gradient, to_numpy, widened

_BLOCK_ENTRIES = 2**22  # entries converted at a time: at most 32 MiB


class FeatureBlocks:
    """Features (N, d) in host memory, for the kernels: one block in place, or copies of rows.

    NumPy arrays, memory maps, sequences of numbers, and CPU tensors and arrays of other libraries
    are taken, in any layout and byte order. Of float16, bfloat16, float32 and float64, the blocks
    have the dtype of the features; bfloat16 comes as uint16, which stands for nothing else. All
    other real numbers come as float64.

    Raises TypeError for another dtype, and memory of a device; ValueError for another shape than
    (N, d).
    """

    def __init__(self, array: Any, name: str, *, dim: int | None = None) -> None:
        bits = _bfloat16_bits(array, name)
        self._rows = to_numpy(array, name) if bits is None else bits
        shape, dtype = self._rows.shape, self._rows.dtype
        if len(shape) != 2:
            raise ValueError(f"{name} has {len(shape)} axes; expected shape (N, d)")
        if shape[1] == 0 or shape[1] >= MAX_DIM:
            raise ValueError(f"{name} has {shape[1]} columns; expected 1 to 2**32 - 1")
        if dim is not None and shape[1] != dim:
            raise ValueError(f"{name} has {shape[1]} columns; expected {dim}")
        kept = bits is not None or (dtype.kind == "f" and dtype.itemsize <= 8)
        self.dtype: np.dtype[Any] = dtype.newbyteorder("=") if kept else np.dtype(np.float64)
        self.in_place = dtype == self.dtype and rows_are_readable(self._rows)

    def __len__(self) -> int:
        return len(self._rows)

    def __iter__(self) -> Iterator[tuple[slice, NDArray[Any]]]:
        """Yield slices of the rows, in order, and the rows."""
        count, dim = self._rows.shape
        step = count if self.in_place else max(1, block_size(_BLOCK_ENTRIES) // dim)
        for first in range(0, count, step or 1):
            rows = slice(first, min(first + step, count))
            yield rows, self._converted(rows)

    def whole(self) -> NDArray[Any]:
        """Return all rows in one block, a copy unless they are read in place."""
        return self._converted(slice(0, len(self)))

    def _converted(self, rows: slice) -> NDArray[Any]:
        if self.in_place:
            return self._rows[rows]
        with np.errstate(over="ignore"):  # of longdouble: infinite, and refused as that
            return np.array(self._rows[rows], dtype=self.dtype, order="C", subok=False)


def feature_rows(array: Any, name: str, *, dim: int | None = None) -> NDArray[Any]:
    """Return (N, d) features in one block, a copy only where the kernels cannot read them.

    Large features are read through `FeatureBlocks`, which raises the same errors.
    """
    return FeatureBlocks(array, name, dim=dim).whole()


def rows_are_readable(rows: NDArray[Any]) -> bool:
    """Whether kernels read features (N, d) as they lie in memory."""
    if len(rows) == 0:
        return True
    adjacent = rows.shape[1] == 1 or rows.strides[1] == rows.itemsize
    return adjacent and rows.strides[0] % rows.itemsize == 0 and rows.flags.aligned


def refuse_nonfinite(
    rows: NDArray[Any], name: str, num_threads: int, *, first_row: int = 0
) -> None:
    """Raise ValueError that names the first position of NaN or infinity, if there is one."""
    sample = int(_core.first_nonfinite(rows, num_threads))
    if sample >= 0:
        entries = float32_of(rows[sample : sample + 1])[0]
        column = int(np.argmin(np.isfinite(entries)))
        position = (first_row + sample, column)
        raise ValueError(f"{name} is not finite: {entries[column]} at position {position}")


def float32_of(rows: NDArray[Any]) -> NDArray[Any]:
    """Return features as NumPy numbers: bfloat16 widened to float32, others as they are."""
    if rows.dtype == np.uint16:
        return widened(rows)
    return rows


def _bfloat16_bits(array: Any, name: str) -> NDArray[Any] | None:
    dtype = getattr(array, "dtype", None)
    if getattr(dtype, "kind", "V") != "V" or "bfloat16" not in str(dtype):
        return None
    if isinstance(array, np.ma.MaskedArray):
        return None  # refused as that
    if is_torch(array):
        if array.device.type != "cpu":
            return None
        refuse_gradient(array, name)
        bits: NDArray[Any] = array.detach().view(sys.modules["torch"].int16).numpy()
        return bits.view(np.uint16)
    return np.asarray(array).view(np.uint16)  # of ml_dtypes, as JAX shows them too
