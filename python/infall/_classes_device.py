"""Class moments in CUDA memory, by the CUDA kernels; everything is queued on the current stream."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall._arrays import MAX_DIM
from infall._device import Device, cuda_kernels

_DTYPES = ("float16", "bfloat16", "float32", "float64")
_BLOCK_ENTRIES = 2**22  # deviations made at a time: 32 MiB


class ClassOrder(NamedTuple):
    """Samples by class: order (N,), and where in it each class begins, starts (K + 1,)."""

    order: Any
    starts: Any


class DeviceMoments:
    """The state of a `ClassMoments` on a device. Callers are inside `with device`."""

    def __init__(self, device: Device, num_classes: int, num_features: int, scatter: bool) -> None:
        self.device = device
        shape = (num_classes, num_features)
        self.counts = device.upload(np.zeros(num_classes, dtype=np.int64))
        self.shifts, self.sums = device.empty(shape, "float32"), device.empty(shape, "float64")
        self.squares = device.upload(np.zeros(num_classes))
        self.scatter = None
        if scatter:
            self.scatter = device.empty((num_features, num_features), "float64")
            self.scatter[:] = 0.0

    @property
    def shape(self) -> tuple[int, int]:
        return int(self.sums.shape[0]), int(self.sums.shape[1])

    def add(self, rows: Any, numbers: Any) -> None:
        """Add samples: rows (N, d), class numbers (N,) int64, both on the device."""
        if self.device.dtype_name(rows) == "float64":
            self.shifts = self.device.cast(self.shifts, "float64")
        num_classes, dim = self.shape
        kernels = cuda_kernels("features", None)
        samples = ordered(self.device, numbers, num_classes)
        scratch = self.device.empty(int(kernels.moments_scratch(num_classes, dim)), "float64")
        kernels.accumulate_moments(
            *_stored(self.device, rows),
            len(rows),
            *(self.device.pointer(a) for a in samples),
            num_classes,
            *self._state(),
            self.device.pointer(scratch),
            self.device.number,
            self.device.stream,
        )
        if self.scatter is not None:
            step = max(1, _BLOCK_ENTRIES // dim)
            for start in range(0, len(rows), step):
                some = slice(start, start + step)
                x = subtracted(self.device, rows[some], numbers[some], self.shifts)
                self.scatter += x.T @ x

    def means_and_offsets(self) -> tuple[Any, Any]:
        """Return class means (K, d), and |mean - shift|^2 (K,)."""
        num_classes, dim = self.shape
        centre = self.device.upload(np.zeros(dim))
        means = self.device.empty((num_classes, dim), "float64")
        offsets = self.device.empty((num_classes,), "float64")
        cuda_kernels("features", None).class_means(
            num_classes,
            dim,
            *self._state(),
            *(self.device.pointer(a) for a in (centre, means, offsets)),
            self.device.number,
            self.device.stream,
        )
        return means, offsets

    def variances(self) -> Any:
        """Return class variances (K,)."""
        _, offsets = self.means_and_offsets()
        difference = self.squares / self.counts - offsets
        # Rounding may make it negative; NaN stays.
        return (difference + self.device.xp.abs(difference)) / 2.0

    def downloaded(self) -> dict[str, NDArray[Any]]:
        """Wait for the stream and return the state in host memory."""
        found = {
            name: self.device.download(getattr(self, name))
            for name in ("counts", "shifts", "sums", "squares")
        }
        if self.scatter is not None:
            found["scatter"] = self.device.download(self.scatter)
        return found

    def upload(self, state: dict[str, NDArray[Any]]) -> None:
        """Take over a state from host memory."""
        for name, values in state.items():
            setattr(self, name, self.device.upload(values))

    def _state(self) -> tuple[Any, ...]:
        pointer = self.device.pointer
        return (
            pointer(self.counts),
            pointer(self.shifts),
            self.device.dtype_name(self.shifts) == "float64",
            pointer(self.sums),
            pointer(self.squares),
        )


def device_rows(device: Device, features: Any, name: str, *, dim: int) -> Any:
    """Return (N, d) features on a device, checked but for their values.

    Raises
    ------
    TypeError, ValueError
        As `infall._features.feature_rows`.
    """
    dtype = device.dtype_name(features)
    if dtype not in _DTYPES:
        raise TypeError(f"{name} has dtype {dtype}; expected one of {', '.join(_DTYPES)}")
    if features.ndim != 2:
        raise ValueError(f"{name} has {features.ndim} axes; expected shape (N, d)")
    columns = int(features.shape[1])
    if columns != dim or columns >= MAX_DIM:
        raise ValueError(f"{name} has {columns} columns; expected {dim}")
    if len(features) and dim > 1 and device.element_strides(features, name)[1] != 1:
        raise ValueError(f"{name} has rows that are not in one piece; pass a contiguous copy")
    return features


def device_labels(device: Device, labels: Any, num_samples: int) -> Any:
    """Return labels (N,) on a device as int64, not searched for values out of range.

    Raises
    ------
    TypeError, ValueError
        For another dtype or shape.
    """
    dtype = device.dtype_name(labels)
    if not dtype.startswith(("int", "uint")):
        raise TypeError(f"labels has dtype {dtype}; expected integers")
    if tuple(labels.shape) != (num_samples,):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}; expected ({num_samples},), one per sample"
        )
    return device.contiguous(device.cast(labels, "int64"))


def ordered(device: Device, numbers: Any, num_classes: int) -> ClassOrder:
    """Return samples by class, and in a class as they come; those out of range come outside."""
    count = len(numbers)
    places = device.arange(count)
    # Different numbers, so that any sort gives this order.
    keys = device.xp.clip(numbers, -1, num_classes) * count + places
    order = device.contiguous(device.cast(device.xp.argsort(keys), "int64"))
    firsts = device.arange(num_classes + 1) * count
    starts = device.xp.searchsorted(keys[order], firsts)
    return ClassOrder(order, device.contiguous(device.cast(starts, "int64")))


def subtracted(device: Device, rows: Any, numbers: Any, base: Any) -> Any:
    """Return rows (N, d) less the row of base (K, d) of their class, float64."""
    out = device.empty((len(rows), int(base.shape[1])), "float64")
    cuda_kernels("features", None).subtract(
        *_stored(device, rows),
        len(rows),
        device.pointer(numbers),
        int(base.shape[0]),
        device.pointer(base),
        device.dtype_name(base) == "float64",
        device.pointer(out),
        device.number,
        device.stream,
    )
    return out


def within_projection(
    device: Device, rows: Any, numbers: Any, moments: DeviceMoments, directions: Any
) -> Any:
    """Return per class the sum of || directions^T (h - mu_c) ||^2, float64 (K,)."""
    num_classes, dim = moments.shape
    # Of a label out of range the deviation is NaN, whatever is subtracted from it.
    known = device.xp.clip(numbers, 0, num_classes - 1)
    offsets = moments.sums / device.xp.clip(moments.counts, 1, None)[:, None]
    square_norms = device.empty((len(rows),), "float64")
    step = max(1, _BLOCK_ENTRIES // dim)
    for start in range(0, len(rows), step):
        some = slice(start, start + step)
        deviations = subtracted(device, rows[some], numbers[some], moments.shifts)
        projected = (deviations - offsets[known[some]]) @ directions
        square_norms[some] = (projected * projected).sum(1)
    sums = device.empty((num_classes,), "float64")
    cuda_kernels("features", None).sums_by_class(
        device.pointer(square_norms),
        len(rows),
        *(device.pointer(a) for a in ordered(device, numbers, num_classes)),
        num_classes,
        device.pointer(sums),
        device.number,
        device.stream,
    )
    return sums


def _stored(device: Device, rows: Any) -> tuple[int, str, int, int]:
    stride = device.element_strides(rows, "features")[0] if len(rows) > 1 else 0
    return device.pointer(rows), device.dtype_name(rows), stride, int(rows.shape[1])
