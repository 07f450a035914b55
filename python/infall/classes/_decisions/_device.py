"""Decisions on features in CUDA memory: products by the array's library, the rest by CUDA kernels.

Callers are inside `with device`; everything is queued on its current stream.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.blocks import block_size
from infall._arrays.convert import to_numpy
from infall._arrays.device import Device, cuda_kernels
from infall._arrays.locate import on_host
from infall.classes._decisions._bounds import Precision, Side, class_blocks, sides_of

_DTYPES = ("float16", "bfloat16", "float32", "float64")
_SAMPLE_ENTRIES = 2**26  # of a block of samples: 256 MiB as float32
_SCORES = 2**26  # of a block of products
_CLASSES = 2**16  # of a block of products


def decisions(
    device: Device,
    features: Any,
    means: Any,
    classifier: Any,
    bias: Any,
    threads: int,
    progress: Callable[[int], object] | None,
) -> tuple[Any, Any]:
    stored = _stored(device, features, int(means.shape[1]))
    count, dim = (int(n) for n in features.shape)
    precision = Precision.of(stored[1], dim, exact_float32=not _may_shorten(device))
    means = _on_host(means, "means")
    if classifier is not None:
        classifier = _on_host(classifier, "classifier")
        bias = None if bias is None else _on_host(bias, "bias")
    centre, scale, sides = sides_of(means, classifier, bias, precision)
    scored = [_Classes(device, side, precision, threads) for side in sides]
    results = [device.empty(count, "int64") for _ in sides]
    class_step = min(max(len(side.rows) for side in sides), block_size(_CLASSES))
    step = max(1, min(count, block_size(_SAMPLE_ENTRIES) // dim, block_size(_SCORES) // class_step))
    samples = _Samples(device, stored, np.dtype(precision.dtype).name, step)
    shared = device.upload(centre)
    for first in range(0, count, step):
        samples.take(first, min(step, count - first), shared, scale)
        for classes, result in zip(scored, results, strict=True):
            samples.decide(classes, class_step, result)
    if progress is not None:
        progress(count)
    nearest, *predicted = (device.returned(result) for result in results)
    return nearest, predicted[0] if predicted else None


def _stored(device: Device, features: Any, dim: int) -> tuple[int, str, int, int]:
    """Return address, dtype, stride and length of features (N, d), as kernels take them."""
    dtype = device.dtype_name(features)
    if dtype not in _DTYPES:
        raise TypeError(f"features has dtype {dtype}; expected one of {', '.join(_DTYPES)}")
    shape = tuple(int(n) for n in features.shape)
    if len(shape) != 2 or shape[1] != dim:
        raise ValueError(f"features has shape {shape}; expected (N, {dim})")
    stride, inner = device.element_strides(features, "features")
    if inner != 1 and dim > 1:
        raise ValueError("features has rows that are not in one piece; copy it first")
    return device.pointer(features), dtype, stride, dim


class _Samples:
    """A block of samples: relative to the centre, their norms, and the best scores so far."""

    def __init__(
        self, device: Device, stored: tuple[int, str, int, int], dtype: str, size: int
    ) -> None:
        self._device, self._stored, self._dtype = device, stored, dtype
        self._kernels = cuda_kernels("features", None)
        self._centred = device.empty((size, stored[3]), dtype)
        self._norms = device.empty(size, "float64")
        self._bests = [device.empty(size, kind) for kind in (dtype, dtype, dtype, "int64")]
        self._best_pointers = list(device.pointers(*self._bests))

    def take(self, first: int, count: int, centre: Any, scale: float) -> None:
        """Read the samples from `first` on."""
        self._first, self._count = first, count
        self._kernels.centre_samples(
            self._dtype,
            self._stored,
            first,
            count,
            self._device.pointer(centre),
            scale,
            *self._device.pointers(self._centred, self._norms),
            *self._device.queue,
        )

    def decide(self, classes: _Classes, class_step: int, result: Any) -> None:
        """Write the class of the largest score of each sample into its place in `result` (N,)."""
        device, norms = self._device, self._device.pointer(self._norms)
        for first_class in range(0, classes.count, class_step):
            block = classes.centred[first_class : first_class + class_step]
            products = device.xp.matmul(self._centred[: self._count], block.T)
            self._kernels.reduce_scores(
                self._dtype,
                device.pointer(products),
                self._count,
                len(block),
                first_class,
                norms,
                classes.row_bounds,
                [device.pointer(bound[first_class:]) for bound in classes.bounds],
                self._best_pointers,
                *device.queue,
            )
        self._kernels.decide_samples(
            self._dtype,
            self._stored,
            self._first,
            self._count,
            norms,
            classes.row_bounds,
            self._best_pointers,
            *classes.exact,
            device.pointer(result[self._first :]),
            *device.queue,
        )


class _Classes:
    """Classes on a device: as the products take them, with their bounds, and as they were."""

    def __init__(self, device: Device, side: Side, precision: Precision, threads: int) -> None:
        self.count, dim = side.rows.shape
        self.centred = device.empty((self.count, dim), np.dtype(precision.dtype).name)
        bounds = [np.empty(self.count, dtype=precision.dtype) for _ in range(3)]
        for rows in class_blocks(side.rows):
            block = side.rows[rows]
            centred, square_norms = np.empty(block.shape, precision.dtype), np.empty(len(block))
            _core.centre_rows(
                side.rows, rows.start, side.centre, side.scale, centred, square_norms, threads
            )
            self.centred[rows] = device.upload(centred)
            block_bounds = side.bounds(rows, square_norms, precision)
            for target, bound in zip(bounds, block_bounds, strict=True):
                target[rows] = bound
        self.bounds = [device.upload(bound) for bound in bounds]
        longest = precision.longest if side.bounded else 0.0
        shared = precision.shared(side.bias is None)
        self.row_bounds = (*precision.row_factor(), *shared, longest)
        self._rows = device.upload(side.rows)
        self._bias = None if side.bias is None else device.upload(side.bias)
        self.exact = (
            (device.pointer(self._rows), side.rows.dtype.name, dim, dim),
            self.count,
            side.scale,
            0 if self._bias is None else device.pointer(self._bias),
        )


def _on_host(array: Any, name: str) -> NDArray[Any]:
    return np.ascontiguousarray(to_numpy(on_host(array, name), name))


def _may_shorten(device: Device) -> bool:
    """Whether the library may make float32 products of numbers that it has shortened (TF32)."""
    if os.environ.get("NVIDIA_TF32_OVERRIDE") == "1":
        return True
    if device.library == "torch":
        return bool(device.xp.get_float32_matmul_precision() != "highest")
    return os.environ.get("CUPY_TF32", "0") not in ("", "0")
