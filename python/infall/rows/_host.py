"""Row selection in host memory, by the CPU kernels."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.checks import MAX_ROWS, check_finite
from infall._arrays.convert import to_numpy
from infall._arrays.vectors import padded_float32
from infall.rows._task import (
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

_Found = list[tuple[NDArray[np.int64], NDArray[np.float64]]]


def select(
    task: SelectionTask, sampler: str, directions: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    batch, dim = directions.shape
    if batch == 0:
        return _no_rows(task, dim, np.dtype(np.float32))
    seed, layer = task.seed, task.layer
    first, last, num_rows, absolute = task.first, task.last, task.num_rows, task.absolute
    threads, watch = task.threads, task.watch
    if sampler == "stream":
        padded = padded_float32(directions)
        indices, unit_projections = _selected(
            lambda threshold: _core.select_stream(
                padded, dim, seed, layer, first, last, num_rows, absolute, threshold, threads, watch
            ),
            task,
        )
    else:
        reflections, scale, factors = _core.householder(directions)
        if batch == 1:
            factors = np.ones((1, 1))  # the direction's norm, exactly
        if sampler == "rotated":
            indices, unit_projections = _selected(
                lambda threshold: _core.select_rotated(
                    factors, seed, layer, first, last, num_rows, absolute, threshold, threads, watch
                ),
                task,
            )
        else:
            indices, unit_projections = draw_order_statistics(task)
            if watch is not None:
                watch(last)

    if task.by_index:
        indices, unit_projections = by_index(indices, unit_projections)
    rows = np.empty((batch * num_rows, dim), dtype=np.float32)
    numbers = indices.ravel()
    _core.gaussian_rows(numbers, rows, seed, layer, threads, None)
    if sampler != "stream":
        # In blocks: the deciding entries of a large batch outweigh its rows.
        step = max(1, 2**18 // len(reflections))
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            if sampler == "order_statistics":
                deciding = unit_projections.reshape(-1, 1)[block]
            else:
                deciding = _core.deciding_entries(
                    numbers[block], len(reflections), seed, layer, threads
                )
            _core.rotate_rows(rows[block], deciding, reflections, scale, threads, None)
    return indices, unit_projections, rows.reshape(batch, num_rows, dim)


def _selected(
    select: Callable[[float], _Found], task: SelectionTask
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    available = task.last - task.first
    found = select(threshold(expected_to_pass(task.num_rows, 6.0), available, task.absolute))
    if any(len(rows) < task.num_rows for rows, _ in found):
        found = select(-math.inf)
    assert all(len(rows) == task.num_rows for rows, _ in found)
    return np.stack([rows for rows, _ in found]), np.stack([values for _, values in found])


def select_from_matrix(
    task: SelectionTask, matrix: NDArray[Any], directions: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    own_dtype = matrix.dtype.newbyteorder("=")
    if len(directions) == 0:
        return _no_rows(task, matrix.shape[1], own_dtype)
    dtype = np.dtype(np.float32 if own_dtype in (np.float16, np.float32) else np.float64)
    directions = directions.astype(dtype)
    as_it_is = matrix.dtype == dtype and matrix.flags.aligned  # aligned: also in its strides
    step = len(matrix) if as_it_is else max(1, _CONVERTED_ENTRIES // matrix.shape[1])
    best: _Found = []
    for first in range(0, len(matrix), step):
        block = matrix[first : first + step]
        best = _best_of_both(best, _selected_from_block(task, block, directions, first), task)
    indices = np.stack([rows for rows, _ in best])
    unit_projections = np.stack([values for _, values in best])
    if task.by_index:
        indices, unit_projections = by_index(indices, unit_projections)
    return indices, unit_projections, matrix[indices].astype(own_dtype, copy=False)


def _selected_from_block(
    task: SelectionTask, block: NDArray[Any], directions: NDArray[Any], first: int
) -> _Found:
    watch = task.watch
    with np.errstate(over="ignore"):  # what a conversion makes infinite is refused below
        converted = np.require(block, dtype=directions.dtype, requirements="A")
    found = _core.select_matrix(
        converted,
        directions,
        min(task.num_rows, len(block)),
        task.absolute,
        task.threads,
        None if watch is None else lambda done: watch(first + done),
    )
    if isinstance(found, int):
        _refuse_first_nonfinite(converted, first)
        raise ValueError(f"weights overflows: the projection of row {first + found} is not finite")
    return [(rows + first, values) for rows, values in found]


def _best_of_both(best: _Found, more: _Found, task: SelectionTask) -> _Found:
    if not best:
        return more
    joined = [
        (np.concatenate([rows, more_rows]), np.concatenate([values, more_values]))
        for (rows, values), (more_rows, more_values) in zip(best, more, strict=True)
    ]
    kept = [best_positions(values, rows, task.num_rows, task.absolute) for rows, values in joined]
    return [(rows[i], values[i]) for (rows, values), i in zip(joined, kept, strict=True)]


def _no_rows(
    task: SelectionTask, dim: int, dtype: np.dtype[Any]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    shape = (0, task.num_rows)
    return np.empty(shape, np.int64), np.empty(shape), np.empty((*shape, dim), dtype)


def _refuse_first_nonfinite(matrix: NDArray[Any], first_row: int) -> None:
    step = max(1, 2**20 // matrix.shape[1])
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step]
        try:
            check_finite(block, "weights")
        except ValueError:
            row, column = np.unravel_index(np.argmin(np.isfinite(block)), block.shape)
            raise ValueError(
                f"weights is not finite: {block[row, column]} at position "
                f"{(first_row + start + int(row), int(column))}"
            ) from None


def row_numbers(indices: Any) -> NDArray[Any]:
    if isinstance(indices, (list, tuple)):
        with contextlib.suppress(ValueError):  # to_numpy names what is ragged
            # An empty list has no dtype of its own.
            indices = np.asarray(indices) if len(indices) > 0 else np.empty(0, dtype=np.int64)
    if getattr(getattr(indices, "dtype", None), "kind", "i") not in "biuf":
        raise TypeError(f"indices has dtype {indices.dtype}; expected integers")
    numbers = to_numpy(indices, "indices")
    check_indices(str(numbers.dtype), numbers.dtype.kind in "iu", numbers.ndim)
    for bad in (numbers < 0, numbers >= np.uint64(MAX_ROWS)):
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"indices is {numbers[i]} at position {i}; expected 0 <= index < 2**63"
            )
    return numbers


def target_of(out: Any, numbers: NDArray[Any], dim: int) -> NDArray[Any]:
    """Return the memory of `out` after a check that (m, dim) rows can be written there."""
    target = to_numpy(out, "out")
    if target.dtype != np.float32 or not hasattr(out, "dtype"):
        kind = f"dtype {target.dtype}" if hasattr(out, "dtype") else type(out).__name__
        raise TypeError(f"out is of {kind}; expected a float32 array")
    if target.shape != (len(numbers), dim):
        raise ValueError(f"out has shape {target.shape}; expected {(len(numbers), dim)}")
    if not (target.flags.c_contiguous and target.flags.writeable and target.flags.aligned):
        raise ValueError("out is not C-contiguous, aligned and writeable")
    if np.may_share_memory(target, numbers):
        raise ValueError("out shares memory with indices")
    return target
