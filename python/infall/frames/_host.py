"""Vectors in host memory and frames applied to them by the CPU kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.calls import Watch
from infall._arrays.checks import check_two_axes
from infall._arrays.convert import to_numpy
from infall._arrays.features import feature_rows, float32_of
from infall._arrays.host import Host

_BLOCK_ENTRIES = 2**20  # numbers looked at, or converted, between two looks at Ctrl-C


class Structure(NamedTuple):
    """A frame that is applied by its structure: nothing of it is stored but the norms."""

    num_classes: int
    dim: int
    hadamard: bool
    seed: int
    norms: NDArray[np.float64] | None


class Vectors(NamedTuple):
    """Vectors (N, k) as they were given, and the dtype to compute with."""

    name: str
    rows: Any
    dtype: str
    batched: bool
    largest: float
    """A bound on the magnitudes; 0 on a device, where values are taken as they are."""
    is_bfloat16: bool = False
    """Whether the rows are the bits of bfloat16, as uint16."""

    def may_overflow(self, length: int, weight: float = 1.0) -> bool:
        """Whether sums of so many numbers, times weights, could leave the dtype on the way.

        Two unnormalised transforms and one sum after the other grow by less than length^3.
        """
        return self.largest * weight > float(np.finfo(self.dtype).max) / (4.0 * float(length) ** 3)

    def check_products(self, first: int, products: Any, overflowed: int | None = None) -> None:
        """Raise ValueError for the first vector, from `first` on, whose products overflowed.

        `overflowed` is the one that a kernel has stopped at: those before it are looked at.
        """
        step, end = _rows_per_block(products), len(products) if overflowed is None else overflowed
        for row in range(0, end, step):
            finite = np.isfinite(products[row : min(row + step, end)]).all(axis=1)
            if not finite.all():
                overflowed = row + int(np.argmin(finite))
                break
        if overflowed is not None:
            which = f"{self.name}[{first + overflowed}]" if self.batched else self.name
            raise ValueError(
                f"{which} is too long: its products overflow {self.dtype}; scale it down"
            )


def read(host: Host, array: Any, name: str, dim: int | None = None) -> Vectors:
    """Check kind, shape and values of vectors; nothing large is copied.

    float16 and bfloat16 are computed with as float32, integers as float64.
    """
    if not hasattr(array, "ndim"):
        array = to_numpy(array, name)
    batched = check_two_axes(tuple(array.shape), name, dim)
    if not batched:
        array = array[None]
    is_plain = isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
    is_bfloat16 = not is_plain and "bfloat16" in str(array.dtype)
    rows = feature_rows(array, name) if is_bfloat16 else to_numpy(array, name)
    largest = 0.0
    for first, columns, block in _pieces(rows, is_bfloat16):
        bound = _largest_magnitude(block)
        if not bound < math.inf:
            _refuse_nonfinite(block, name, first, columns, batched)
        largest = max(largest, bound)
    narrow = is_bfloat16 or (rows.dtype.kind == "f" and rows.dtype.itemsize <= 4)
    dtype = "float32" if narrow else "float64"
    return Vectors(name, rows, dtype, batched, largest, is_bfloat16)


def blocks(_: Host, vectors: Vectors) -> Iterator[tuple[int, NDArray[Any]]]:
    """Return the vectors in C order and the dtype to compute with: as they are, or by block."""
    rows, dtype = vectors.rows, np.dtype(vectors.dtype)
    if rows.dtype == dtype and rows.flags.c_contiguous and rows.flags.aligned:
        yield 0, rows
        return
    step = _rows_per_block(rows)
    for first in range(0, len(rows), step):
        block = np.empty(rows[first : first + step].shape, dtype)
        for row, columns, piece in _pieces(rows[first : first + step], vectors.is_bfloat16):
            block[row : row + len(piece), columns] = piece
        yield first, block


def project(
    _: Host, structure: Structure, x: Any, out: Any, threads: int, watch: Watch
) -> int | None:
    hadamard, seed, norms = structure[2:]
    return _core.frame_project(x, out, hadamard, seed, norms, threads, watch)


def synthesise(
    _: Host, structure: Structure, x: Any, out: Any, threads: int, watch: Watch
) -> int | None:
    hadamard, seed, norms = structure[2:]
    return _core.frame_synthesise(x, out, hadamard, seed, norms, threads, watch)


def top_logits(
    _: Host, structure: Structure, x: Any, classes: Any, logits: Any, threads: int, watch: Watch
) -> int | None:
    num_classes, _dim, hadamard, seed, norms = structure
    return _core.frame_top_logits(
        x, classes, logits, num_classes, hadamard, seed, norms, threads, watch
    )


def top_scores(
    _: Host, scores: Any, labels: Any | None, classes: Any, logits: Any, threads: int
) -> int | None:
    """Return the first vector with a score that is not finite, where nothing has meaning."""
    return _core.top_scores(scores, labels, classes, logits, threads, None)


def walsh_hadamard(_: Host, x: Any, out: Any, factor: float, threads: int, watch: Watch) -> None:
    _core.walsh_hadamard(x, out, factor, threads, watch)


def _pieces(rows: NDArray[Any], is_bfloat16: bool) -> Iterator[tuple[int, slice, NDArray[Any]]]:
    """Return first row, columns and entries of pieces, between which Ctrl-C is answered."""
    step, length = _rows_per_block(rows), int(rows.shape[1])
    for first in range(0, len(rows), step):
        for column in range(0, length, _BLOCK_ENTRIES):
            columns = slice(column, min(column + _BLOCK_ENTRIES, length))
            piece = rows[first : first + step, columns]
            yield first, columns, float32_of(piece) if is_bfloat16 else piece


def _rows_per_block(rows: NDArray[Any]) -> int:
    return max(1, _BLOCK_ENTRIES // int(rows.shape[1]))


def _largest_magnitude(block: NDArray[Any]) -> float:
    """Return a bound on the magnitudes of numbers: infinite or NaN where one of them is."""
    if block.dtype.kind != "f":
        return 2.0**64
    if block.dtype.itemsize == 2:  # float16, whose maximum NumPy takes long to find
        return 65504.0 if np.isfinite(block).all() else math.inf
    if block.flags.c_contiguous and block.size % 4096 == 0:
        block = block.reshape(-1, 4096)
    if block.shape[1] <= 8192:  # longer sums of squares, the fastest look, BLAS would share out
        with np.errstate(over="ignore", invalid="ignore"):
            squares = float(np.vecdot(block, block).max())
        if math.isfinite(squares):
            return math.sqrt(squares + 8192.0 * float(np.finfo(block.dtype).tiny))
    return max(abs(float(block.max())), abs(float(block.min())))


def _refuse_nonfinite(
    block: NDArray[Any], name: str, first_row: int, columns: slice, batched: bool
) -> None:
    with np.errstate(over="ignore"):  # what float64 does not hold is infinite, and refused
        entries = block.astype(np.float64)
    row, column = (int(i) for i in np.argwhere(~np.isfinite(entries))[0])
    position = (row + first_row, column + columns.start) if batched else column + columns.start
    raise ValueError(f"{name} is not finite: {entries[row, column]} at position {position}")
