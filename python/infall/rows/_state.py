"""Whether saved arrays and settings are those of a selection."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from infall._arrays.checks import check_finite, one_of, row_count, seed_and_layer
from infall._arrays.files import saved_array, saved_integer
from infall.rows.gaussian import gaussian_rows
from infall.rows.settings import ORDERS, SAMPLERS, SCORES, checked_row_range

ARRAYS = ("indices", "projections", "rows", "unit_projections")


def checked_attributes(state: Mapping[str, NDArray[Any]]) -> tuple[Any, ...]:
    """Return the attributes, in order, of the `RowSelection` that a state holds, if it can."""
    indices, rows = state["indices"], state["rows"]
    if rows.ndim not in (2, 3) or 0 in rows.shape[-2:]:
        raise ValueError(f"rows has shape {rows.shape}; expected (m, k) or (B, m, k)")
    shape, dim = rows.shape[:-1], rows.shape[-1]
    saved_array(state, "indices", shape, np.int64)
    saved_array(state, "projections", shape, np.float64)
    saved_array(state, "unit_projections", shape, np.float64)
    width = row_count(saved_integer(state, "width"), "width")
    score = one_of(str(state["score"]), "score", SCORES)
    order = one_of(str(state["order"]), "order", ORDERS)
    row_range = saved_array(state, "row_range", (2,), np.int64)
    first, last = checked_row_range((int(row_range[0]), int(row_range[1])), width)
    seed, layer, sampler = None, None, None
    if "sampler" in state:
        sampler = one_of(str(state["sampler"]), "sampler", SAMPLERS)
        seed, layer = seed_and_layer(saved_integer(state, "seed"), saved_integer(state, "layer"))
        saved_array(state, "rows", rows.shape, np.float32)
    elif rows.dtype.kind not in "fiub":
        raise ValueError(f"rows has dtype {rows.dtype}; expected real numbers")
    # A device has rows numbered -1 where w, or the matrix, was not finite; all else is NaN there.
    there = indices != -1
    if not ((indices >= first) & (indices < last))[there].all():
        raise ValueError(f"indices has rows outside of {first} <= row < {last}")
    for name in ("projections", "unit_projections", "rows"):
        check_finite(state[name][there], name)
    ascending = np.sort(indices, axis=-1)
    if ((np.diff(ascending) == 0) & (ascending[..., 1:] >= 0)).any():
        raise ValueError("indices has a row twice")
    scores = state["unit_projections"]
    steps = np.diff(
        indices if order == "index" else -np.abs(scores) if score == "absolute" else -scores
    )
    if (steps[there[..., 1:] & there[..., :-1]] < 0).any():
        raise ValueError(f"the rows are not in the order of their {order}")
    if sampler == "stream" and there.size > 0:
        held, row_numbers = rows.reshape(-1, dim), indices.ravel()
        few = np.array([0, row_numbers.size // 2, row_numbers.size - 1])
        few = few[row_numbers[few] >= 0]
        if not np.array_equal(
            gaussian_rows(row_numbers[few], dim, seed=cast(int, seed), layer=cast(int, layer)),
            held[few],
        ):
            raise ValueError("rows are not those of the layer")
    arrays = (state[name] for name in ARRAYS)
    return (*arrays, width, seed, layer, sampler, score, order, (first, last))
