"""Selections of disjoint row ranges, merged into that of their union."""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.blocks import block_size
from infall._arrays.locate import place_of
from infall.rows._task import best_positions
from infall.rows.selection import RowSelection, host_array
from infall.rows.settings import checked_num_rows

_MERGED_CANDIDATES = 2**20  # candidates of the parts that are compared at a time


def merge_selections(parts: Iterable[RowSelection], *, num_rows: int | None = None) -> RowSelection:
    """Merge selections of disjoint row ranges of one layer into that of their union.

    Parameters
    ----------
    parts : iterable of RowSelection
        Selections for the same w with the same settings, in any order, whose row ranges join
        without a gap. A part holds at least `num_rows` rows, or all rows of its range. Parts on a
        device are merged on the host, which waits for them.
    num_rows : int, optional
        Rows to keep; those of the largest part by default.

    Returns
    -------
    RowSelection
        Bit for bit what one call over the joined range gives.

    Raises
    ------
    TypeError
        If `parts` cannot be iterated over, or a part is not a RowSelection.
    ValueError
        If there are no parts, they differ in a setting, overlap, leave a gap, or a part is too
        short.
    """
    ordered = sorted(_checked_parts(parts), key=lambda part: part.row_range)
    for before, after in itertools.pairwise(ordered):
        if before.row_range[1] != after.row_range[0]:
            raise ValueError(
                f"row ranges {before.row_range} and {after.row_range} overlap or leave a gap"
            )
    held = [part.indices.shape[-1] for part in ordered]
    num_rows = checked_num_rows(max(held) if num_rows is None else num_rows, 0, sum(held))
    for part, rows_held in zip(ordered, held, strict=True):
        if rows_held < min(num_rows, part.row_range[1] - part.row_range[0]):
            raise ValueError(
                f"the part with row_range {part.row_range} has {rows_held} rows; "
                f"{num_rows} are needed"
            )

    def of_parts(name: str, num_axes: int) -> list[NDArray[Any]]:
        arrays = [host_array(getattr(part, name)) for part in ordered]
        return [a if a.ndim == num_axes else a[None] for a in arrays]

    indices, unit_projections = of_parts("indices", 2), of_parts("unit_projections", 2)
    origins = [
        _best_of_parts(
            [a[i] for a in unit_projections],
            [a[i] for a in indices],
            num_rows,
            ordered[0].score == "absolute",
            ordered[0].order == "index",
        )
        for i in range(len(indices[0]))
    ]
    # (B, m): where a row stands when the parts are joined.
    origin = np.stack(origins) if origins else np.empty((0, num_rows), dtype=np.int64)
    sources = _sources(indices, origin)
    original = ordered[0].rows
    place, _ = place_of(original, "parts")

    def merged(parts: list[NDArray[Any]]) -> Any:
        result = np.empty((*origin.shape, *parts[0].shape[2:]), dtype=parts[0].dtype)
        for part, (filled, positions) in zip(parts, sources, strict=True):
            result[filled] = part[filled[0], positions]
        with place:
            return place.returned(place.upload(result if original.ndim == 3 else result[0]))

    return replace(
        ordered[0],
        indices=merged(indices),
        projections=merged(of_parts("projections", 2)),
        rows=merged(of_parts("rows", 3)),
        unit_projections=merged(unit_projections),
        row_range=(ordered[0].row_range[0], ordered[-1].row_range[1]),
    )


def _checked_parts(parts: Iterable[Any]) -> list[RowSelection]:
    try:
        parts = list(parts)
    except TypeError:
        raise TypeError(
            f"parts is a {type(parts).__name__}; expected an iterable of RowSelection"
        ) from None
    if not parts:
        raise ValueError("parts is empty; expected at least one RowSelection")
    for i, part in enumerate(parts):
        if not isinstance(part, RowSelection):
            raise TypeError(f"parts[{i}] is a {type(part).__name__}; expected a RowSelection")
        if part.sampler not in ("stream", "rotated"):
            raise ValueError(
                f"parts[{i}] has sampler {part.sampler!r}; only 'stream' and 'rotated' selections "
                "can be split and merged"
            )
        for name in ("width", "seed", "layer", "sampler", "score", "order"):
            mine, first = getattr(part, name), getattr(parts[0], name)
            if mine != first:
                raise ValueError(f"parts[{i}] has {name} {mine!r}, parts[0] has {first!r}")
        mine, first = part.rows.shape, parts[0].rows.shape
        if (*mine[:-2], mine[-1]) != (*first[:-2], first[-1]):
            raise ValueError(
                f"parts[{i}] has rows of shape {tuple(mine)}, parts[0] of {tuple(first)}"
            )
    return parts


def _best_of_parts(
    unit_projections: list[NDArray[np.float64]],
    indices: list[NDArray[np.int64]],
    num_rows: int,
    absolute: bool,
    by_index: bool,
) -> NDArray[np.int64]:
    """Return where the best rows for one vector stand when the parts, each (m,), are joined.

    A part at a time joins what is compared, so that no call of NumPy runs for long.
    """
    best = np.empty(0), np.empty(0, dtype=np.int64), np.empty(0, dtype=np.int64)
    waiting, count, first = [best], 0, 0
    for part, (projections, row_numbers) in enumerate(zip(unit_projections, indices, strict=True)):
        waiting.append((projections, row_numbers, np.arange(first, first + len(row_numbers))))
        first += len(row_numbers)
        count += len(row_numbers)
        if count >= block_size(_MERGED_CANDIDATES) or part == len(indices) - 1:
            joined = [np.concatenate(arrays) for arrays in zip(*waiting, strict=True)]
            kept = best_positions(joined[0], joined[1], num_rows, absolute)
            best = joined[0][kept], joined[1][kept], joined[2][kept]
            waiting, count = [best], 0
    return best[2][np.argsort(best[1])] if by_index else best[2]


def _sources(
    parts: list[NDArray[Any]], origin: NDArray[np.int64]
) -> list[tuple[tuple[NDArray[np.int64], ...], NDArray[np.int64]]]:
    """Return for each part, (B, m), which entries of `origin` (B, m) it fills, and from where."""
    sources = []
    first = 0
    for part in parts:
        filled = np.nonzero((origin >= first) & (origin < first + part.shape[1]))
        sources.append((filled, origin[filled] - first))
        first += part.shape[1]
    return sources
