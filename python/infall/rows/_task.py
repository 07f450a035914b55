"""What the selections on the host and on a device share: the task, its threshold, its rotation."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import scipy  # its parts are loaded where they are used
from numpy.typing import NDArray

from infall import _core
from infall._arrays.calls import Watch
from infall.rows.settings import LayerSettings


class SelectionTask(NamedTuple):
    """What is left to know once the arguments of a selection are checked."""

    seed: int
    layer: int
    first: int
    last: int
    num_rows: int
    absolute: bool
    by_index: bool
    threads: int
    watch: Watch

    @classmethod
    def of(
        cls, settings: LayerSettings, num_rows: int, threads: int, watch: Watch
    ) -> SelectionTask:
        absolute, by_index = settings.score == "absolute", settings.order == "index"
        seed, layer, rows = settings.seed, settings.layer, settings.row_range
        return cls(seed, layer, *rows, num_rows, absolute, by_index, threads, watch)


class Hyperplanes(NamedTuple):
    """The normals of the hyperplanes of a code."""

    dim: int
    num_bits: int
    seed: int
    layer: int | None
    """None: drawn for codes alone."""


def threshold(num_rows: float, available: int, absolute: bool) -> float:
    # Unit projections are N(0, 1), so a threshold is known that about num_rows pass.
    share = num_rows / available
    if share < 0.5:
        return float(-scipy.special.ndtri(share / 2 if absolute else share))
    return -math.inf


def expected_to_pass(num_rows: int, deviations: float) -> float:
    """Return how many rows to expect, so that fewer than `num_rows` pass but rarely.

    The number that passes deviates by the root of what is expected: at six deviations, too few
    pass once in 10^9 selections.
    """
    return num_rows + deviations * math.sqrt(num_rows) + 2.0 * deviations


def best_positions(
    unit_projections: NDArray[np.float64], indices: NDArray[np.int64], num_rows: int, absolute: bool
) -> NDArray[np.int64]:
    """Return where the best `num_rows` of (m,) rows stand: score descending, then lower index.

    Rows without a projection, NaN, come last.
    """
    scores = np.abs(unit_projections) if absolute else unit_projections
    scores = np.where(np.isnan(scores), -np.inf, scores)
    # What is below the last score to be kept need not be sorted.
    last = max(0, len(scores) - num_rows)
    kept = np.flatnonzero(scores >= np.partition(scores, last)[last])
    return kept[np.lexsort((indices[kept], -scores[kept]))[:num_rows]]


def by_index(
    indices: NDArray[np.int64], unit_projections: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.argsort(indices, axis=1)
    batch = np.arange(len(order))[:, None]
    return indices[batch, order], unit_projections[batch, order]


def draw_order_statistics(task: SelectionTask) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    rows, largest = _core.draw_order_statistics(task.num_rows, task.last, task.seed, task.layer)
    if task.by_index:
        order = rows.argsort()
        rows, largest = rows[order], largest[order]
    return rows[None], largest[None]


def check_indices(dtype: str, is_integer: bool, num_axes: int) -> None:
    if not is_integer:
        raise TypeError(f"indices has dtype {dtype}; expected integers")
    if num_axes != 1:
        raise ValueError(f"indices has {num_axes} axes; expected shape (m,)")
