"""The pairs of classes by the CPU kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.calls import Watch
from infall._arrays.host import Host

_Float = NDArray[np.float64]


def pair_geometry(
    _: Host, means: _Float, variances: _Float, threads: int, watch: Watch
) -> tuple[NDArray[Any], ...]:
    """Return sums and extremes over the pairs of classes, of means (K, d)."""
    return _core.pair_geometry(means, variances, threads, watch)


def cdnv_block(_: Host, means: _Float, variances: _Float, rows: slice, threads: int) -> _Float:
    """Return rows of the matrix of CDNV, (b, K)."""
    return _core.cdnv_block(means, variances, rows.start, rows.stop, threads, None)
