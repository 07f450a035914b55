"""Settings of a selection: how a layer is sampled, ranked and cut."""

from __future__ import annotations

from typing import Any, Literal, NamedTuple

from infall._arrays.checks import MAX_ROWS, integer, one_of, row_count, seed_and_layer

Sampler = Literal["stream", "rotated", "order_statistics"]
Score = Literal["absolute", "signed"]
Order = Literal["index", "score"]

SAMPLERS = ("stream", "rotated", "order_statistics")
SCORES = ("absolute", "signed")
ORDERS = ("index", "score")


def checked_row_range(row_range: tuple[int, int] | None, width: int) -> tuple[int, int]:
    """Return the first row and the row past the last to look at."""
    if row_range is None:
        return 0, width
    try:
        first, last = row_range
    except (TypeError, ValueError):
        raise TypeError(f"row_range is {row_range!r}; expected a pair (first, last)") from None
    first = integer(first, "row_range[0]", 0, MAX_ROWS, "2**63")
    last = integer(last, "row_range[1]", 0, MAX_ROWS, "2**63")
    if not first < last <= width:
        raise ValueError(
            f"row_range is {(first, last)}; expected 0 <= first < last <= width = {width}"
        )
    return first, last


def checked_num_rows(num_rows: int | None, dim: int, available: int) -> int:
    """Return how many rows to select of those available, `dim` by default."""
    wanted = integer(dim if num_rows is None else num_rows, "num_rows", 1, MAX_ROWS, "2**63")
    if wanted > available:
        by_default = " (the length of w, by default)" if num_rows is None else ""
        raise ValueError(f"num_rows is {wanted}{by_default}; expected at most {available}")
    return wanted


def require_whole_layer(batch: int, absolute: bool, whole: bool) -> None:
    """Refuse what order statistics cannot be drawn for."""
    if batch > 1:
        raise ValueError(
            f"w has {batch} rows, but sampler='order_statistics' draws the rows of one w; use "
            "'rotated' or 'stream' for a shared layer, or a layer number for each w"
        )
    if not absolute or not whole:
        raise ValueError(
            "sampler='order_statistics' draws the largest absolute projections of the whole "
            "layer; use 'rotated' or 'stream' for score='signed' or a row_range"
        )


class LayerSettings(NamedTuple):
    """Which rows of which layer are ranked, and how: the attributes of a `RowSelection`."""

    width: int
    seed: int
    layer: int
    sampler: Sampler
    score: Score
    order: Order
    row_range: tuple[int, int]


def checked_settings(
    shape: tuple[int, int],
    width: Any,
    num_rows: Any,
    seed: Any,
    layer: Any,
    sampler: Any,
    score: Any,
    order: Any,
    row_range: Any,
) -> tuple[LayerSettings, int]:
    """Return the settings of a selection for vectors of shape (B, k), and how many rows it has."""
    batch, dim = shape
    width = row_count(width, "width")
    one_of(sampler, "sampler", SAMPLERS)
    one_of(score, "score", SCORES)
    one_of(order, "order", ORDERS)
    seed, layer = seed_and_layer(seed, layer)
    first, last = checked_row_range(row_range, width)
    num_rows = checked_num_rows(num_rows, dim, last - first)
    if num_rows * dim * batch >= 2**60:
        raise ValueError(f"num_rows is {num_rows}; {batch} x {num_rows} rows of {dim} do not fit")
    if sampler == "order_statistics":
        require_whole_layer(batch, score == "absolute", (first, last) == (0, width))
    return LayerSettings(width, seed, layer, sampler, score, order, (first, last)), num_rows
