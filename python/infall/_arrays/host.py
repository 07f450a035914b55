"""Host memory as a place, and what its vectors are made into for the CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.blocks import block_size
from infall._arrays.checks import check_finite, check_two_axes
from infall._arrays.convert import like, to_numpy
from infall._arrays.place import Place

_BLOCK_ENTRIES = 2**20  # numbers of a block of vectors: 8 MiB as float64


class Host(Place):
    """Host memory; results are arrays of the library that `original` came from."""

    room = "_host"
    is_host = True
    description = "host memory"
    xp = np

    def __init__(self, original: Any = None) -> None:
        self.original = original

    def __str__(self) -> str:
        return "cpu"

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *error: object) -> None:
        pass

    def array(self, given: Any, name: str) -> NDArray[Any]:
        return to_numpy(given, name)

    def empty(self, shape: tuple[int, ...] | int, dtype: str) -> NDArray[Any]:
        return np.empty(shape, dtype)

    def upload(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def download(self, array: NDArray[Any]) -> NDArray[Any]:
        return array

    def dtype_name(self, array: NDArray[Any]) -> str:
        return str(array.dtype.name)

    def contiguous(self, array: NDArray[Any]) -> NDArray[Any]:
        return np.ascontiguousarray(array)

    def cast(self, array: NDArray[Any], dtype: str) -> NDArray[Any]:
        return array.astype(dtype, copy=False)

    def returned(self, array: NDArray[Any]) -> Any:
        return like(array, self.original)

    def vectors(
        self, array: Any, name: str, *, dim: int | None = None
    ) -> tuple[NDArray[np.float64], bool]:
        rows, batched = _two_axes(array, name, dim)
        return _finite_block(rows, 0, len(rows), name, batched), batched

    def vector_blocks(
        self, array: Any, name: str, *, dim: int | None = None
    ) -> tuple[Iterator[tuple[int, NDArray[np.float64]]], int, int, bool]:
        rows, batched = _two_axes(array, name, dim)
        step = max(1, block_size(_BLOCK_ENTRIES) // rows.shape[1])
        blocks = (
            (first, _finite_block(rows, first, first + step, name, batched))
            for first in range(0, len(rows), step)
        )
        return blocks, *rows.shape, batched

    def recorded(self) -> None:
        """Return the event that arrays are there: in host memory they are at once."""

    def wait_for(self, event: None) -> None:
        pass


def _two_axes(array: Any, name: str, dim: int | None) -> tuple[NDArray[Any], bool]:
    rows = to_numpy(array, name)
    batched = check_two_axes(rows.shape, name, dim)
    return rows if batched else rows[None], batched


def _finite_block(
    rows: NDArray[Any], first: int, last: int, name: str, batched: bool
) -> NDArray[np.float64]:
    block = rows[first:last]
    if block.dtype.itemsize <= 8:
        vectors = np.array(block, dtype=np.float64, order="C")
    else:
        with np.errstate(over="ignore"):  # what is infinite then is refused
            vectors = block.astype(np.float64, order="C")
    if batched:
        check_finite(vectors, name, first_row=first)
    else:
        check_finite(vectors[0], name)
    return vectors


def largest_magnitudes(
    vectors: NDArray[np.float64], name: str, first_row: int, batched: bool
) -> NDArray[np.float64]:
    """Return the largest magnitude of each of (N, k) vectors, a block from `first_row` on.

    Raises ValueError for a zero vector.
    """
    largest: NDArray[np.float64] = np.abs(vectors).max(axis=1)
    if not largest.all():
        which = f"{name}[{first_row + int(np.argmin(largest))}]" if batched else name
        raise ValueError(f"{which} is zero: it has no direction")
    return largest


def normalised(
    vectors: NDArray[np.float64], name: str, first_row: int, batched: bool
) -> NDArray[np.float64]:
    """Return (N, k) vectors with length one, to rounding; `rows._host.unit_vectors` is exact.

    Raises ValueError for a zero vector.
    """
    largest = largest_magnitudes(vectors, name, first_row, batched)
    scaled: NDArray[np.float64] = np.ldexp(vectors, -np.frexp(largest)[1][:, None])
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled


def padded_float32(vectors: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (B, k) values as float32 with zero columns up to a multiple of four."""
    batch, dim = vectors.shape
    padded = np.zeros((batch, -(-dim // 4) * 4), dtype=np.float32)
    padded[:, :dim] = vectors
    return padded
