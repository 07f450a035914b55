"""How the axes of the figures look, and what error bars they have."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def open_axes(axes: Axes, grid: Literal["both", "x", "y"] | None = None) -> None:
    """Take away the upper and right spines; draw a pale grid below everything else."""
    axes.spines[["top", "right"]].set_visible(False)
    if grid is not None:
        axes.grid(axis=grid, color="0.92" if grid == "both" else "0.9", linewidth=0.8)
        axes.set_axisbelow(True)


def error_bars(errors: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """Return standard errors as matplotlib takes them: None for those of one seed."""
    return None if np.isnan(errors).all() else errors
