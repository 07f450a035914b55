"""Row selection in host memory, by the CPU kernels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.blocks import block_size
from infall._arrays.calls import Watch, later
from infall._arrays.checks import MAX_ROWS, check_finite
from infall._arrays.convert import to_numpy
from infall._arrays.host import Host, largest_magnitudes, padded_float32
from infall.rows._task import (
    Hyperplanes,
    SelectionTask,
    best_positions,
    by_index,
    check_indices,
    draw_order_statistics,
    expected_to_pass,
    threshold,
)

# Numbers of a matrix that are converted at a time: 8 MiB as float64.
_CONVERTED_ENTRIES = 2**20

_NORM = np.ones((1, 1))  # of one direction, exactly

# Row numbers and unit projections for each direction.
Selected = list[tuple[NDArray[np.int64], NDArray[np.float64]]]


def unit_vectors(
    _: Host, vectors: NDArray[np.float64], name: str
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Split (B, k) vectors into directions and norms fraction * 2**exponent, each (B,).

    The sum of squares is rounded once, for all practical purposes (twice the digits of binary64,
    in an order that is the same on every machine); scaling by a power of two keeps it so for the
    largest and smallest numbers.

    Raises ValueError for a zero vector.
    """
    directions, norms, exponents = _core.unit_vectors(vectors)
    zero = np.isnan(norms)
    if zero.any():
        which = name if len(norms) == 1 else f"{name}[{int(np.argmax(zero))}]"
        raise ValueError(f"{which} is zero: it has no direction")
    return directions, norms, exponents


def select(
    _: Host, task: SelectionTask, sampler: str, directions: NDArray[np.float64], norms: object
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    if len(directions) == 0:
        return _no_rows(task, directions.shape[1], np.dtype(np.float32))
    rotation = rotation_of(sampler, directions)
    if sampler == "order_statistics":
        indices, unit_projections = draw_order_statistics(task)
        if task.watch is not None:
            task.watch(task.last)
    else:
        indices, unit_projections = _selected(best_passing(task, directions, rotation), task)
    return (
        indices,
        unit_projections,
        rows_of(task, sampler, indices, unit_projections, rotation, directions.shape[1]),
    )


class Rotation(NamedTuple):
    """The reflections that turn the first axes to B directions."""

    reflections: NDArray[np.float64]  # (s, k), s = min(B, k)
    scale: NDArray[np.float64]  # (s,)
    factors: NDArray[np.float64]  # (s, B): the directions by the axes


def rotation_of(sampler: str, directions: NDArray[np.float64]) -> Rotation | None:
    """Return the rotation of a sampler that turns rows; None for the others."""
    if sampler == "stream":
        return None
    rotation = Rotation(*_core.householder(directions))
    if len(directions) == 1:
        return rotation._replace(factors=_NORM)
    return rotation


def best_passing(
    task: SelectionTask, directions: NDArray[np.float64], rotation: Rotation | None
) -> Callable[[float], Selected]:
    """Return what gives, for a threshold, the best rows that reach it, those of each direction.

    They are ordered by score; of more than `num_rows` the best are given.
    """
    layer, rows = (task.seed, task.layer), (task.first, task.last, task.num_rows)
    if rotation is None:
        padded, dim = padded_float32(directions), directions.shape[1]
        return lambda threshold: _core.select_stream(
            padded, dim, *layer, *rows, task.absolute, threshold, task.threads, task.watch
        )
    return lambda threshold: _core.select_rotated(
        rotation.factors, *layer, *rows, task.absolute, threshold, task.threads, task.watch
    )


def rows_of(
    task: SelectionTask,
    sampler: str,
    indices: NDArray[np.int64],
    unit_projections: NDArray[np.float64],
    rotation: Rotation | None,
    dim: int,
) -> NDArray[np.float32]:
    """Return the rows (B, m, k) with these numbers and unit projections, each (B, m)."""
    rows = np.empty((indices.size, dim), dtype=np.float32)
    row_numbers = indices.ravel()
    _core.gaussian_rows(row_numbers, rows, task.seed, task.layer, task.threads, None)
    if rotation is not None:
        drawn = unit_projections.reshape(-1, 1) if sampler == "order_statistics" else None
        _rotate(task, rows, row_numbers, drawn, rotation)
    return rows.reshape(*indices.shape, dim)


def _rotate(
    task: SelectionTask,
    rows: NDArray[np.float32],
    row_numbers: NDArray[np.int64],
    drawn: NDArray[np.float64] | None,
    rotation: Rotation,
) -> None:
    """Turn rows (n, k) by the entries that decide them: drawn ones (n, 1), or those of columns."""
    span = len(rotation.reflections)
    step = max(1, 2**18 // span)  # the deciding entries of a large batch outweigh its rows
    for start in range(0, len(rows), step):
        block = slice(start, start + step)
        if drawn is None:
            deciding = _core.deciding_entries(
                row_numbers[block], span, task.seed, task.layer, task.threads
            )
        else:
            deciding = drawn[block]
        _core.rotate_rows(
            rows[block], deciding, rotation.reflections, rotation.scale, task.threads, None
        )


def _selected(
    select: Callable[[float], Selected], task: SelectionTask
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    available = task.last - task.first
    selected = select(threshold(expected_to_pass(task.num_rows, 6.0), available, task.absolute))
    if any(len(rows) < task.num_rows for rows, _ in selected):
        selected = select(-math.inf)
    assert all(len(rows) == task.num_rows for rows, _ in selected)
    return stacked(task, selected)


def stacked(
    task: SelectionTask, selected: Selected
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return row numbers and unit projections (B, m), in the order that is asked for."""
    indices = np.stack([rows for rows, _ in selected])
    unit_projections = np.stack([projections for _, projections in selected])
    return by_index(indices, unit_projections) if task.by_index else (indices, unit_projections)


def select_from_matrix(
    _: Host, task: SelectionTask, matrix: NDArray[Any], directions: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    own_dtype = matrix.dtype.newbyteorder("=")
    if len(directions) == 0:
        return _no_rows(task, matrix.shape[1], own_dtype)
    dtype = np.dtype(np.float32 if own_dtype in (np.float16, np.float32) else np.float64)
    directions = directions.astype(dtype)
    as_it_is = matrix.dtype == dtype and matrix.flags.aligned  # aligned: also in its strides
    step = len(matrix) if as_it_is else max(1, block_size(_CONVERTED_ENTRIES) // matrix.shape[1])
    best: Selected = []
    for first in range(0, len(matrix), step):
        block = matrix[first : first + step]
        best = _best_of_both(best, _selected_from_block(task, block, directions, first), task)
    indices, unit_projections = stacked(task, best)
    return indices, unit_projections, matrix[indices].astype(own_dtype, copy=False)


def _selected_from_block(
    task: SelectionTask, block: NDArray[Any], directions: NDArray[Any], first: int
) -> Selected:
    with np.errstate(over="ignore"):  # what a conversion makes infinite is refused below
        converted = np.require(block, dtype=directions.dtype, requirements="A")
    selected = _core.select_matrix(
        converted,
        directions,
        min(task.num_rows, len(block)),
        task.absolute,
        task.threads,
        later(task.watch, first),
    )
    if isinstance(selected, int):
        step = max(1, block_size(_CONVERTED_ENTRIES) // converted.shape[1])
        for row in range(0, len(converted), step):
            check_finite(converted[row : row + step], "weights", first_row=first + row)
        raise ValueError(
            f"weights overflows: the projection of row {first + selected} is not finite"
        )
    return [(rows + first, unit_projections) for rows, unit_projections in selected]


def _best_of_both(best: Selected, more: Selected, task: SelectionTask) -> Selected:
    if not best:
        return more
    joined = [
        (np.concatenate([rows, more_rows]), np.concatenate([projections, more_projections]))
        for (rows, projections), (more_rows, more_projections) in zip(best, more, strict=True)
    ]
    kept = [
        best_positions(projections, rows, task.num_rows, task.absolute)
        for rows, projections in joined
    ]
    return [(rows[i], projections[i]) for (rows, projections), i in zip(joined, kept, strict=True)]


def _no_rows(
    task: SelectionTask, dim: int, dtype: np.dtype[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    shape = (0, task.num_rows)
    return np.empty(shape, np.int64), np.empty(shape), np.empty((*shape, dim), dtype)


def row_numbers(_: Host, indices: Any) -> NDArray[np.int64]:
    if isinstance(indices, (list, tuple)):
        with contextlib.suppress(ValueError):  # to_numpy names what is ragged
            # An empty list has no dtype of its own.
            indices = np.asarray(indices) if len(indices) > 0 else np.empty(0, dtype=np.int64)
    if getattr(getattr(indices, "dtype", None), "kind", "i") not in "biuf":
        raise TypeError(f"indices has dtype {indices.dtype}; expected integers")
    rows = to_numpy(indices, "indices")
    check_indices(str(rows.dtype), rows.dtype.kind in "iu", rows.ndim)
    for bad in (rows < 0, rows >= np.uint64(MAX_ROWS)):
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(f"indices is {rows[i]} at position {i}; expected 0 <= index < 2**63")
    return np.require(rows, dtype=np.int64, requirements=["C", "A"])


def target_of(_: Host, out: Any, shape: tuple[int, int], indices: Any) -> NDArray[Any]:
    """Return the memory of `out` after a check that (m, dim) rows can be written there."""
    if out is None:
        return np.empty(shape, dtype=np.float32)
    target = to_numpy(out, "out")
    if target.dtype != np.float32 or not hasattr(out, "dtype"):
        kind = f"dtype {target.dtype}" if hasattr(out, "dtype") else type(out).__name__
        raise TypeError(f"out is of {kind}; expected a float32 array")
    if target.shape != shape:
        raise ValueError(f"out has shape {target.shape}; expected {shape}")
    if not (target.flags.c_contiguous and target.flags.writeable and target.flags.aligned):
        raise ValueError("out is not C-contiguous, aligned and writeable")
    if np.may_share_memory(target, to_numpy(indices, "indices")):
        raise ValueError("out shares memory with indices")
    return target


def regenerate(
    _: Host,
    rows: NDArray[np.int64],
    target: NDArray[np.float32],
    seed: int,
    layer: int,
    threads: int,
    watch: Watch,
) -> None:
    _core.gaussian_rows(rows, target, seed, layer, threads, watch)


def multiply_in_order(
    _: Host, rows: NDArray[np.float32], w: NDArray[np.float64], threads: int
) -> NDArray[np.float64]:
    """Return rows (m, k) times w (k,), summed column by column in float64: (m,).

    A matrix product would sum in an order of its own, which differs between machines, and the next
    layer is selected by the bits of this sum.
    """
    return _core.multiply_in_order(rows, w, threads)


def projections(
    _: Host,
    unit_projections: NDArray[np.float64],
    norms: NDArray[np.float64],
    exponents: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Return unit projections (B, m) times norms * 2**exponents, (B,)."""
    products = _core.scaled_projections(unit_projections, norms, exponents)
    if products is None:
        raise ValueError("w is too long: its projections overflow float64; scale it down")
    return products


def codes(
    _: Host,
    blocks: Iterable[tuple[int, NDArray[np.float64]]],
    shape: tuple[int, int],
    hyperplanes: Hyperplanes,
    batched: bool,
    threads: int,
    watch: Watch,
) -> NDArray[np.uint8]:
    """Return packed codes (N, bytes) of vectors that come in blocks."""
    dim, num_bits, seed, layer = hyperplanes
    codes = np.empty(shape, dtype=np.uint8)
    for first, block in blocks:
        largest = largest_magnitudes(block, "x", first, batched)
        # Only signs matter: a power of two keeps the projection in range.
        scaled = padded_float32(np.ldexp(block, -np.frexp(largest)[1][:, None]))
        codes[first : first + len(block)] = _core.hyperplane_codes(
            scaled, dim, num_bits, seed, layer, threads, later(watch, num_bits * first)
        )
    return codes


def distances(
    _: Host, a: NDArray[np.uint8], b: NDArray[np.uint8], threads: int, watch: Watch
) -> NDArray[np.int32]:
    """Return the Hamming distances of packed codes (N, bytes) and (M, bytes), (N, M)."""
    codes = np.ascontiguousarray(a), np.ascontiguousarray(b)
    return _core.hamming_distances(*codes, threads, watch)
