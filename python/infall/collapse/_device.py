"""Samples on a device, and the pairs of classes by the CUDA kernels: the bits of the host.

What is returned of pairs has waited for the current stream; their callers are inside `with device`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.calls import Watch
from infall._arrays.device import Device, cuda_kernels
from infall.collapse._samples import KERNEL_DTYPES, ArraySamples, readable

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


def pieces(device: Device, samples: ArraySamples, on_host: bool) -> Iterator[tuple[slice, Any]]:
    """Yield slices of the samples and their features as the kernels read them, in order."""
    features, (count, dim) = samples.features, samples.shape
    with device:
        strides = device.element_strides(features, samples.name)
    if samples.dtype in KERNEL_DTYPES and (dim == 1 or strides[1] == 1) and not on_host:
        yield slice(0, count), features
        return
    for rows in samples.cut(dim * 8):
        with device:
            block = features[rows]
            if on_host:
                block = readable(device.download(block), samples.name)
            else:
                kept = samples.dtype if samples.dtype in KERNEL_DTYPES else "float64"
                block = device.contiguous(device.cast(block, kept))
        yield rows, block


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
