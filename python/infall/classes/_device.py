"""Class moments in CUDA memory, by the CUDA kernels; everything is queued on the current stream."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from infall._arrays.blocks import block_size
from infall._arrays.calls import Progress
from infall._arrays.checks import MAX_DIM
from infall._arrays.device import Device, cuda_kernels
from infall._arrays.locate import in_place, place_of
from infall.classes._host import HostMoments, symmetric

if TYPE_CHECKING:
    from infall.classes.moments import ClassMoments

_IN_PLACE = ("float16", "bfloat16", "float32", "float64")
_BLOCK_ENTRIES = 2**22  # entries converted, and deviations made, at a time: 32 MiB


class ClassOrder(NamedTuple):
    """Samples by class: order (N,), and where in it each class begins, starts (K + 1,)."""

    order: Any
    starts: Any


class _Arrays(NamedTuple):
    """Counts (K,), shifts (K, d), sums (K, d), squares (K,) and scatter (d, d) or None."""

    counts: Any
    shifts: Any
    sums: Any
    squares: Any
    scatter: Any


class DeviceMoments:
    """The state of a `ClassMoments` on a device. Callers are inside `with device`.

    A state never changes: what is queued can fail or be interrupted, and would leave a part.
    """

    def __init__(self, device: Device, arrays: _Arrays, spare: _Arrays | None = None) -> None:
        self.place = self.device = device
        self._arrays = arrays
        self.counts, self.shifts = arrays.counts, arrays.shifts
        self._spare = spare  # the memory of the state before, for the one after

    @classmethod
    def of_samples(
        cls, device: Device, shape: tuple[int, int], scatter: bool, features: Any, labels: Any
    ) -> DeviceMoments:
        """Return the state (K, d) of features (N, d) and class numbers (N,) int64 of the device."""
        products = None
        if scatter:
            products = device.empty((shape[1], shape[1]), "float64")
            products[:] = 0.0
        empty = _Arrays(
            device.upload(np.zeros(shape[0], dtype=np.int64)),
            device.empty(shape, "float32"),
            device.empty(shape, "float64"),
            device.upload(np.zeros(shape[0])),
            products,
        )
        return cls(device, _with_added(device, empty, features, labels))

    is_empty = False

    def on_host(self, num_threads: int | None) -> HostMoments:
        """Wait for the stream and return a copy of this state in host memory."""
        with self.device as device:
            arrays = {
                name: device.download(array)
                for name, array in self._arrays._asdict().items()
                if array is not None
            }
        scatter = arrays.pop("scatter", None)
        state = HostMoments(0, self.shape[1], False, num_threads)
        state.counts, state.shifts, state.sums, state.squares = arrays.values()
        if scatter is not None:
            state.set_scatter(scatter)
        return state

    def holding(self, state: HostMoments) -> DeviceMoments:
        """Return a state of host memory on this device, with both triangles of its scatter."""
        with self.device as device:
            products = None if state.scatter is None else symmetric(state.products())
            arrays = (*state.arrays(), products)
            uploaded = (None if array is None else device.upload(array) for array in arrays)
            return DeviceMoments(device, _Arrays(*uploaded))

    @property
    def shape(self) -> tuple[int, int]:
        return int(self._arrays.sums.shape[0]), int(self._arrays.sums.shape[1])

    def offsets(self) -> Any:
        """Return class means less the shift of their class (K, d)."""
        return self._arrays.sums / self.device.xp.clip(self.counts, 1, None)[:, None]

    @property
    def nbytes(self) -> int:
        """Of the state and of the memory for the next one."""
        arrays = [a for a in (*self._arrays, *(self._spare or ())) if a is not None]
        return sum(
            math.prod(array.shape) * np.dtype(self.device.dtype_name(array)).itemsize
            for array in arrays
        )

    def with_samples(self, features: Any, labels: Any) -> DeviceMoments:
        """Return the state with features (N, d) and class numbers (N,) int64 of the device added.

        The memory of this state becomes that of the state after the next: it may not be used once
        that is made.
        """
        added = _with_added(self.device, self._copied(self._spare), features, labels)
        return DeviceMoments(self.device, added, self._arrays)

    def copy(self) -> DeviceMoments:
        """Return a state that shares no memory with this one."""
        return DeviceMoments(self.device, self._copied(None))

    def means(self) -> Any:
        """Return class means (K, d)."""
        return self._means_and_offsets()[0]

    def variances(self) -> Any:
        """Return class variances (K,)."""
        _, square_offsets = self._means_and_offsets()
        difference = self._arrays.squares / self.counts - square_offsets
        # Rounding may make it negative; NaN stays.
        return (difference + self.device.xp.abs(difference)) / 2.0

    def _means_and_offsets(self) -> tuple[Any, Any]:
        """Return class means (K, d), and |mean - shift|^2 (K,)."""
        device, (num_classes, dim) = self.device, self.shape
        centre = device.upload(np.zeros(dim))
        means = device.empty((num_classes, dim), "float64")
        square_offsets = device.empty((num_classes,), "float64")
        cuda_kernels("features", None).class_means(
            _state(device, self._arrays),
            dim,
            *device.pointers(centre, means, square_offsets),
            *device.queue,
        )
        return means, square_offsets

    def _copied(self, spare: _Arrays | None) -> _Arrays:
        into = spare or (None,) * len(self._arrays)
        return _Arrays(*map(self._copy_of, self._arrays, into))

    def _copy_of(self, array: Any, into: Any) -> Any:
        if array is None:
            return None
        dtype = self.device.dtype_name(array)
        if into is None or self.device.dtype_name(into) != dtype:
            into = self.device.empty(tuple(array.shape), dtype)
        into[:] = array
        return into


def _with_added(device: Device, arrays: _Arrays, features: Any, labels: Any) -> _Arrays:
    # Adds in place, but for shifts that grow to float64.
    num_classes, dim = (int(n) for n in arrays.sums.shape)
    kernels = cuda_kernels("features", None)
    for block, rows in device_blocks(device, features):
        if device.dtype_name(rows) == "float64":
            arrays = arrays._replace(shifts=device.cast(arrays.shifts, "float64"))
        samples = ordered(device, labels[block], num_classes)
        size = int(kernels.moments_scratch(num_classes, dim, len(rows)))
        scratch = device.empty(size, "float64")
        kernels.accumulate_moments(
            _stored(device, rows),
            (len(rows), *device.pointers(*samples)),
            _state(device, arrays),
            device.pointer(scratch),
            *device.queue,
        )
        if arrays.scatter is not None:
            products = arrays.scatter
            for part in _parts(len(rows), dim):
                x = subtracted(device, rows[part], labels[block][part], arrays.shifts)
                products += x.T @ x
    return arrays


def _state(device: Device, arrays: _Arrays) -> tuple[int, int, tuple[int, bool], int, int]:
    shifts = device.pointer(arrays.shifts), device.dtype_name(arrays.shifts) == "float64"
    sums, squares = device.pointers(arrays.sums, arrays.squares)
    return len(arrays.counts), device.pointer(arrays.counts), shifts, sums, squares


def feature_rows(device: Device, features: Any, dim: int) -> Any:
    """Return features (N, d), checked but for their values.

    Raises TypeError or ValueError as `infall._arrays.features.FeatureBlocks`.
    """
    dtype = device.dtype_name(features)
    if dtype not in _IN_PLACE and not dtype.startswith(("int", "uint", "bool")):
        raise TypeError(
            f"features has dtype {dtype}; expected real numbers (floating point or integer)"
        )
    if features.ndim != 2:
        raise ValueError(f"features has {features.ndim} axes; expected shape (N, d)")
    columns = int(features.shape[1])
    if columns != dim or columns >= MAX_DIM:
        raise ValueError(f"features has {columns} columns; expected {dim}")
    return features


def device_blocks(device: Device, features: Any) -> Iterator[tuple[slice, Any]]:
    """Yield slices of the rows, in order, and the rows as the kernels read them.

    They are one block in place, or copies, of integers as float64.
    """
    count, dim = (int(n) for n in features.shape)
    in_place = device.dtype_name(features) in _IN_PLACE and (
        count == 0 or dim == 1 or device.element_strides(features, "features")[1] == 1
    )
    if in_place:
        yield slice(0, count), features
        return
    for rows in _parts(count, dim):
        block = features[rows]
        if device.dtype_name(block) not in _IN_PLACE:
            block = device.cast(block, "float64")
        yield rows, device.contiguous(block)


def _parts(count: int, dim: int) -> Iterator[slice]:
    step = max(1, block_size(_BLOCK_ENTRIES) // dim)
    for first in range(0, count, step):
        yield slice(first, min(first + step, count))


def class_numbers(device: Device, labels: Any, num_samples: int, moments: ClassMoments) -> Any:
    """Return labels (N,) as int64 on the device, where they are not searched for other numbers.

    Raises TypeError or ValueError for another dtype or shape.
    """
    if place_of(labels, "labels")[0].is_host:
        return device.upload(moments.label_numbers(labels, num_samples))
    if moments.classes is not None:
        raise TypeError("labels is in device memory; names are looked up in host memory")
    labels = in_place(device, labels, "labels", "features")
    dtype = device.dtype_name(labels)
    if not dtype.startswith(("int", "uint")):
        raise TypeError(f"labels has dtype {dtype}; expected integers")
    if tuple(labels.shape) != (num_samples,):
        raise ValueError(
            f"labels has shape {tuple(labels.shape)}; expected ({num_samples},), one per sample"
        )
    return device.contiguous(device.cast(labels, "int64"))


def update(
    device: Device,
    state: DeviceMoments | HostMoments,
    features: Any,
    class_numbers: Any,
    progress: Progress | None,
    replacement: Callable[[DeviceMoments], Callable[[], None]],
) -> Callable[[], None]:
    """Return what puts a state with features (N, d) of class numbers (N,) in place of another."""
    if isinstance(state, HostMoments):  # an empty one
        scatter = state.scatter is not None
        added = DeviceMoments.of_samples(device, state.sums.shape, scatter, features, class_numbers)
    else:
        added = state.with_samples(features, class_numbers)
    if progress is not None:
        progress(len(features), len(features), "samples")
    return replacement(added)


def ordered(device: Device, labels: Any, num_classes: int) -> ClassOrder:
    """Return samples by class, and in a class as they come; those out of range come outside."""
    count = len(labels)
    places = device.arange(count)
    # No two keys are equal: any sort gives this order.
    keys = device.xp.clip(labels, -1, num_classes) * count + places
    order = device.contiguous(device.cast(device.xp.argsort(keys), "int64"))
    firsts = device.arange(num_classes + 1) * count
    starts = device.xp.searchsorted(keys[order], firsts)
    return ClassOrder(order, device.contiguous(device.cast(starts, "int64")))


def subtracted(device: Device, rows: Any, labels: Any, base: Any) -> Any:
    """Return rows (N, d) less the row of base (K, d) of their class, float64."""
    out = device.empty((len(rows), int(base.shape[1])), "float64")
    cuda_kernels("features", None).subtract(
        _stored(device, rows),
        len(rows),
        device.pointer(labels),
        int(base.shape[0]),
        device.pointer(base),
        device.dtype_name(base) == "float64",
        device.pointer(out),
        *device.queue,
    )
    return out


def within_projection(
    device: Device,
    features: Any,
    class_numbers: Any,
    moments: ClassMoments,
    directions: Any,
    threads: int,
    progress: Progress | None,
) -> Any:
    """Return per class the sum of || directions^T (h - mu_c) ||^2, float64 (K,)."""
    if isinstance(class_numbers, np.ndarray):
        class_numbers = device.upload(class_numbers)
    if isinstance(directions, np.ndarray):
        directions = device.upload(directions)
    directions = device.cast(directions, "float64")
    with moments._state_at(device) as state:
        num_classes, dim = state.shape
        # Of a label out of range the deviation is NaN, whatever is subtracted from it.
        known = device.xp.clip(class_numbers, 0, num_classes - 1)
        offsets = state.offsets() @ directions
        square_norms = device.empty((len(features),), "float64")
        for samples, rows in device_blocks(device, features):
            for part in _parts(len(rows), dim):
                deviations = subtracted(
                    device, rows[part], class_numbers[samples][part], state.shifts
                )
                projected = deviations @ directions - offsets[known[samples][part]]
                square_norms[samples][part] = (projected * projected).sum(1)
    sums = device.empty((num_classes,), "float64")
    cuda_kernels("features", None).sums_by_class(
        device.pointer(square_norms),
        (len(features), *device.pointers(*ordered(device, class_numbers, num_classes))),
        num_classes,
        device.pointer(sums),
        *device.queue,
    )
    return device.returned(sums)


def _stored(device: Device, rows: Any) -> tuple[int, str, int, int]:
    stride = device.element_strides(rows, "features")[0] if len(rows) > 1 else 0
    return device.pointer(rows), device.dtype_name(rows), stride, int(rows.shape[1])
