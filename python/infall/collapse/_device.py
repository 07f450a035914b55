"""The pairs of classes by the CUDA kernels: the bits of the host.

Callers are inside `with device`; what is returned has waited for its current stream.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.calls import Watch
from infall._arrays.device import Device, cuda_kernels

_Float = NDArray[np.float64]
_TOTALS = (*["float64"] * 2, "int64", *["float64"] * 4, "int64", *["float64"] * 2)


def pair_geometry(
    device: Device, means: _Float, variances: _Float, threads: int, watch: Watch
) -> tuple[NDArray[Any], ...]:
    """Return what `_core.pair_geometry` does, in host memory, of means (K, d) there."""
    classes = _Classes(device, means, variances)
    totals = [device.empty(len(means), dtype) for dtype in _TOTALS]
    kernels = cuda_kernels("moments", None)
    kernels.pair_geometry(*classes.pointers, list(device.pointers(*totals)), *device.queue)
    if watch is not None:
        watch(len(means) * (len(means) - 1) // 2)
    return tuple(device.download(total) for total in totals)


def cdnv_block(
    device: Device, means: _Float, variances: _Float, rows: slice, threads: int
) -> _Float:
    """Return what `_core.cdnv_block` does, in host memory, of means (K, d) there."""
    classes = _Classes(device, means, variances)
    *inputs, workspace = classes.pointers
    out = device.empty((rows.stop - rows.start, len(means)), "float64")
    cuda_kernels("moments", None).cdnv_block(
        *(*inputs, rows.start, rows.stop, workspace, device.pointer(out)), *device.queue
    )
    return device.download(out)


class _Classes:
    """Means, variances and working memory on a device, and the addresses kernels take."""

    def __init__(self, device: Device, means: _Float, variances: _Float) -> None:
        extremes = np.array([means.min(), means.max()])
        space = int(cuda_kernels("moments", None).geometry_workspace(len(means)))
        self._arrays = [device.upload(array) for array in (means, variances, extremes)]
        self._workspace = device.empty(-(-space // 8), "float64")
        self.pointers = (
            *device.pointers(*self._arrays),
            *means.shape,
            device.pointer(self._workspace),
        )
