"""Settings of a selection: how a layer is sampled, ranked and cut."""

from __future__ import annotations

from typing import Literal

from infall._arrays.checks import MAX_ROWS, integer

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
