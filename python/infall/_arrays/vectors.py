"""Vectors in host memory as the kernels read them: float64, finite, of unit length."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.checks import check_finite, check_two_axes
from infall._arrays.convert import to_numpy

_BLOCK_ENTRIES = 2**20  # numbers of a block of vectors: 8 MiB as float64


def vectors(array: Any, name: str, *, dim: int | None = None) -> tuple[NDArray[np.float64], bool]:
    """Return finite float64 vectors of shape (B, k), and whether there was a batch axis.

    They are a copy; large sets of vectors go through `vector_blocks`.

    Raises
    ------
    TypeError
        As `to_numpy`.
    ValueError
        For another number of axes than 1 or 2, vectors of length 0, another length than `dim`, and
        NaN or infinity, with the first position. There may be no vectors: shape (0, k).
    """
    found, batched = _two_axes(array, name, dim)
    return _finite_block(found, 0, len(found), name, batched), batched


def vector_blocks(
    array: Any, name: str, *, dim: int | None = None
) -> tuple[Iterator[tuple[int, NDArray[np.float64]]], int, int, bool]:
    """Return finite float64 vectors block by block, so that no large array is copied whole.

    Returns
    -------
    blocks : iterator of (int, float64 array)
        First row of each block, and the block (b, k).
    num_vectors, dim : int
        Of all of them.
    batched : bool
        Whether there was a batch axis.

    Raises
    ------
    TypeError, ValueError
        As `vectors`; for NaN and infinity while iterating.
    """
    found, batched = _two_axes(array, name, dim)
    step = max(1, _BLOCK_ENTRIES // found.shape[1])
    blocks = (
        (first, _finite_block(found, first, first + step, name, batched))
        for first in range(0, len(found), step)
    )
    return blocks, *found.shape, batched


def _two_axes(array: Any, name: str, dim: int | None) -> tuple[NDArray[Any], bool]:
    found = to_numpy(array, name)
    batched = check_two_axes(found.shape, name, dim)
    return np.atleast_2d(found), batched


def _finite_block(
    found: NDArray[Any], first: int, last: int, name: str, batched: bool
) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):  # of wider types: what is infinite then is refused
        values = np.array(found[first:last], dtype=np.float64, order="C")
    if batched:
        check_finite(values, name, first_row=first)
    else:
        check_finite(values[0], name)
    return values


def unit_vectors(
    values: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Split (B, k) vectors into directions and norms fraction * 2**exponent, each (B,).

    The sum of squares is rounded once, for all practical purposes (twice the digits of binary64,
    in an order that is the same on every machine); scaling by a power of two keeps it so for the
    largest and smallest numbers.

    Raises
    ------
    ValueError
        For a zero vector.
    """
    directions, norms, exponents = _core.unit_vectors(values)
    zero = np.isnan(norms)
    if zero.any():
        which = name if len(norms) == 1 else f"{name}[{int(np.argmax(zero))}]"
        raise ValueError(f"{which} is zero: it has no direction")
    return directions, norms, exponents


def largest_magnitudes(
    values: NDArray[np.float64], name: str, first_row: int, batched: bool
) -> NDArray[np.float64]:
    """Return the largest magnitude of each of (N, k) vectors, a block from `first_row` on.

    Raises
    ------
    ValueError
        For a zero vector.
    """
    largest: NDArray[np.float64] = np.abs(values).max(axis=1)
    if not largest.all():
        which = f"{name}[{first_row + int(np.argmin(largest))}]" if batched else name
        raise ValueError(f"{which} is zero: it has no direction")
    return largest


def normalised(
    values: NDArray[np.float64], name: str, first_row: int, batched: bool
) -> NDArray[np.float64]:
    """Return (N, k) vectors with length one, to rounding; `unit_vectors` is exact, and slower.

    Raises
    ------
    ValueError
        For a zero vector.
    """
    largest = largest_magnitudes(values, name, first_row, batched)
    scaled: NDArray[np.float64] = np.ldexp(values, -np.frexp(largest)[1][:, None])
    scaled /= np.linalg.norm(scaled, axis=1, keepdims=True)
    return scaled


def padded_float32(values: NDArray[np.float64]) -> NDArray[np.float32]:
    """Return (B, k) values as float32 with zero columns up to a multiple of four."""
    batch, dim = values.shape
    padded = np.zeros((batch, -(-dim // 4) * 4), dtype=np.float32)
    padded[:, :dim] = values
    return padded
