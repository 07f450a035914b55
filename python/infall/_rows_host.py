"""Row selection in host memory, by the CPU kernels."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays import MAX_ROWS, check_finite, padded_float32, to_numpy
from infall._selection import (
    SelectionTask,
    by_index,
    check_indices,
    draw_order_statistics,
    expected_to_pass,
    threshold,
)

_Found = list[tuple[NDArray[np.int64], NDArray[np.float64]]]


def select(
    task: SelectionTask, sampler: str, directions: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[np.float32]]:
    batch, dim = directions.shape
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


def matrix_of(weights: Any) -> NDArray[Any]:
    matrix = to_numpy(weights, "weights")
    if matrix.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"weights has dtype {matrix.dtype}; expected float32 or float64")
    if not matrix.flags.aligned or any(step % matrix.itemsize for step in matrix.strides):
        raise TypeError("weights is not aligned to its element size; copy it first")
    return matrix


def select_from_matrix(
    task: SelectionTask, matrix: NDArray[Any], directions: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64], NDArray[Any]]:
    found = _core.select_matrix(
        matrix,
        directions.astype(matrix.dtype),
        task.num_rows,
        task.absolute,
        task.threads,
        task.watch,
    )
    if isinstance(found, int):
        _refuse_first_nonfinite(matrix)
        raise ValueError(f"weights overflows: the projection of row {found} is not finite")
    indices = np.stack([rows for rows, _ in found])
    unit_projections = np.stack([values for _, values in found])
    if task.by_index:
        indices, unit_projections = by_index(indices, unit_projections)
    return indices, unit_projections, matrix[indices]


def _refuse_first_nonfinite(matrix: NDArray[Any]) -> None:
    step = max(1, 2**20 // matrix.shape[1])
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step]
        try:
            check_finite(block, "weights")
        except ValueError:
            row, column = np.unravel_index(np.argmin(np.isfinite(block)), block.shape)
            raise ValueError(
                f"weights is not finite: {block[row, column]} at position "
                f"{(start + int(row), int(column))}"
            ) from None


def row_numbers(indices: Any) -> NDArray[Any]:
    numbers = to_numpy(indices, "indices")
    if numbers.size == 0 and not hasattr(indices, "dtype"):
        numbers = numbers.astype(np.int64)  # an empty list has no dtype of its own
    check_indices(str(numbers.dtype), numbers.dtype.kind in "iu", numbers.ndim)
    for bad in (numbers < 0, numbers >= np.uint64(MAX_ROWS)):
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"indices is {numbers[i]} at position {i}; expected 0 <= index < 2**63"
            )
    return numbers
