"""Samples in host memory, and the pairs of classes by the CPU kernels."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.calls import Watch
from infall._arrays.host import Host
from infall.collapse._samples import KERNEL_DTYPES, ArraySamples, is_readable, readable

_Float = NDArray[np.float64]


def pair_geometry(
    _: Host, means: _Float, variances: _Float, threads: int, watch: Watch
) -> tuple[NDArray[Any], ...]:
    """Return sums and extremes over the pairs of classes, of means (K, d)."""
    return _core.pair_geometry(means, variances, threads, watch)


def cdnv_block(_: Host, means: _Float, variances: _Float, rows: slice, threads: int) -> _Float:
    """Return rows of the matrix of CDNV, (b, K)."""
    return _core.cdnv_block(means, variances, rows.start, rows.stop, threads, None)


def pieces(_: Host, samples: ArraySamples, on_host: bool) -> Iterator[tuple[slice, Any]]:
    """Yield slices of the samples and their features as the kernels read them, in order."""
    features, (count, dim) = samples.features, samples.shape
    if not isinstance(features, np.memmap) and is_readable(features):
        yield slice(0, count), features
        return
    itemsize = 8 if samples.dtype not in KERNEL_DTYPES else features.dtype.itemsize
    for rows in samples.cut(dim * itemsize, samples.chunk_ends()):
        yield rows, readable(features[rows], samples.name)
