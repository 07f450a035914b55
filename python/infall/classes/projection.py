"""Within-class sums of squares along given directions."""

from __future__ import annotations

from typing import Any

import numpy as np

from infall import _core
from infall._arrays.calls import Progress, watch_of
from infall._arrays.convert import to_numpy
from infall._arrays.device import Device
from infall._arrays.features import FeatureBlocks, refuse_nonfinite
from infall._arrays.locate import located
from infall._arrays.threads import thread_count
from infall.classes import _device as _classes_device
from infall.classes._host import HostMoments
from infall.classes.moments import ClassMoments


def within_projection(
    features: Any,
    labels: Any,
    moments: ClassMoments,
    directions: Any,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Return the within-class sums of squares along some directions, class by class.

    Parameters
    ----------
    features, labels : arrays, shapes (N, d) and (N,)
        As `ClassMoments.update` takes them; read once, in order, and may be memory-mapped.
    moments : ClassMoments
        Holds the class means mu_c.
    directions : array, shape (d, r)
        The directions V.
    num_threads, progress : optional
        As in `ClassMoments.update`.

    Returns
    -------
    float64 array, shape (K,)
        Sum over the samples of each class of ||V^T (h - mu_c)||^2, in float64; bit-identical for
        any number of threads and instruction set.

    Raises
    ------
    TypeError, ValueError
        As `ClassMoments.update`; for a label of a class without a mean.
    """
    device, found = located(features, "features")
    if device is None:
        numbers = moments.label_numbers(labels, len(found))
    else:
        with device:
            numbers = moments._numbers_on(device, labels, len(found))
    return projection_of_numbered(
        features, numbers, moments, directions, num_threads=num_threads, progress=progress
    )


def projection_of_numbered(
    features: Any,
    numbers: Any,
    moments: ClassMoments,
    directions: Any,
    *,
    num_threads: int | None,
    progress: Progress | None,
) -> Any:
    """Return what `within_projection` does, of checked class numbers int64 (N,)."""
    device, features = located(features, "features")
    place, columns = located(directions, "directions")
    if place is None:
        columns = np.ascontiguousarray(to_numpy(columns, "directions"), dtype=np.float64)
    if columns.ndim != 2 or len(columns) != moments.num_features:
        raise ValueError(
            f"directions has shape {tuple(columns.shape)}; expected ({moments.num_features}, r)"
        )
    if device is not None:
        return _projection_on(device, features, numbers, moments, place, columns)
    if place is not None:
        raise TypeError(f"directions is in memory of {place}, features in host memory")
    blocks = FeatureBlocks(features, "features", dim=moments.num_features)
    threads = thread_count(num_threads)
    with moments._lock:
        state = moments._host()
        shifts, offsets = state.shifts.copy(), state.offsets()
        missing = state.counts[numbers] == 0
    if missing.any():
        i = int(np.argmax(missing))
        raise ValueError(f"labels is {numbers[i]} at position {i}, a class without a mean")
    offsets = _core.project_rows(offsets, columns, threads)
    square_norms = np.empty(len(blocks))
    for some, rows in blocks:
        watch = watch_of(progress, len(blocks), "samples", done_before=some.start)
        square_norms[some] = _core.projected_square_norms(
            rows, numbers[some], shifts, offsets, columns, threads, watch
        )
        if not np.isfinite(square_norms[some]).all():
            refuse_nonfinite(rows, "features", threads, first_row=some.start)
    return np.bincount(numbers, weights=square_norms, minlength=moments.num_classes)


def _projection_on(
    device: Device,
    features: Any,
    numbers: Any,
    moments: ClassMoments,
    place: Device | None,
    columns: Any,
) -> Any:
    with moments._lock, device:
        state = moments._state
        if isinstance(state, HostMoments):
            raise TypeError(
                "moments is in host memory, features is not; expected both in one place"
            )
        rows = _classes_device.device_rows(device, features, "features", dim=moments.num_features)
        if isinstance(numbers, np.ndarray):
            numbers = device.upload(numbers)
        columns = device.upload(columns) if place is None else device.cast(columns, "float64")
        return device.returned(
            _classes_device.within_projection(device, rows, numbers, state, columns)
        )
