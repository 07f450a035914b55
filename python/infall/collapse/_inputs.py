"""Checks of what the metrics of collapse are given: classifier, bias, labels, feature blocks."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from infall._arrays import DLPACK_HOST, check_finite, one_of, to_numpy
from infall._features import feature_rows, float32_of
from infall._simplex import row_blocks
from infall.classes import ClassMoments
from infall.collapse._between import WEIGHTS, UndefinedMetric, check_moments

Weighting = Literal["samples", "classes"]
_Float = NDArray[np.float64]
DecisionRows = tuple[_Float, _Float | None]
"""Classifier (num_classes, d) and bias (num_classes,)."""


def check_samples(moments: Any) -> None:
    """Raise UndefinedMetric for moments without samples."""
    check_moments(moments)
    if moments.num_samples == 0:
        raise UndefinedMetric("there are no samples")


def check_weighting(weighting: Any) -> Weighting:
    """Return "samples" or "classes"."""
    return cast(Weighting, one_of(weighting, "weighting", WEIGHTS))


def number_between(value: Any, name: str, low: float, high: float) -> float:
    """Return a number with low <= value <= high."""
    number = _number(value, name)
    if not low <= number <= high:
        raise ValueError(f"{name} is {value}; expected a number from {low:g} to {high:g}")
    return number


def positive(value: Any, name: str) -> float:
    """Return a positive finite number."""
    number = _number(value, name)
    if not (math.isfinite(number) and number > 0):
        raise ValueError(f"{name} is {value}; expected a positive finite number")
    return number


def _number(value: Any, name: str) -> float:
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, (int, float, np.number)):
        raise TypeError(f"{name} is {value!r}; expected a number")
    return float(value)


def vector_rows(array: Any, name: str) -> _Float:
    """Return finite float64 vectors (K, d), a copy only where it is not one already."""
    shape = feature_shape(array, name)
    return _entries(array, name, shape, "(K, d)")


def _entries(array: Any, name: str, shape: tuple[int, ...], expected: str) -> _Float:
    if "bfloat16" in str(getattr(array, "dtype", "")):  # which NumPy does not have
        array = array.float() if hasattr(array, "float") else array.astype(np.float32)
    found = to_numpy(array, name)
    if found.shape != shape:
        raise ValueError(f"{name} has shape {found.shape}; expected {expected} = {shape}")
    values = np.empty(shape)
    for rows in row_blocks(len(values), math.prod(shape[1:])):
        values[rows] = found[rows]
        check_finite(values[rows], name, first_row=rows.start)
    return values


def decision_rows(moments: ClassMoments, classifier: Any, bias: Any) -> DecisionRows:
    """Return the checked float64 classifier and bias, over all classes."""
    check_moments(moments)
    shape = (moments.num_classes, moments.num_features)
    rows = _entries(classifier, "classifier", shape, "(num_classes, num_features)")
    return rows, None if bias is None else _entries(bias, "bias", shape[:1], "(num_classes,)")


def classifier_rows(moments: ClassMoments, classifier: Any) -> _Float:
    """Return the float64 rows of the classifier that belong to classes with samples."""
    return of_observed(moments, decision_rows(moments, classifier, None)[0])


def bias_entries(moments: ClassMoments, bias: Any) -> _Float:
    """Return the float64 entries of the bias that belong to classes with samples."""
    shape = (moments.num_classes,)
    return of_observed(moments, _entries(bias, "bias", shape, "(num_classes,)"))


def of_observed(moments: ClassMoments, entries: _Float) -> _Float:
    """Return the entries (num_classes, ...) that belong to classes with samples."""
    observed = moments.observed
    return entries if len(observed) == len(entries) else entries[observed]


def refuse_device(array: Any, name: str) -> None:
    """Raise TypeError for an array that is not in host memory."""
    if isinstance(array, np.ndarray):
        return
    exchanged = getattr(array, "__dlpack_device__", None)
    on_host = exchanged is None or int(exchanged()[0]) in DLPACK_HOST
    if hasattr(array, "__cuda_array_interface__") or not on_host:
        kind = f"{type(array).__module__}.{type(array).__name__}"
        raise TypeError(
            f"{name} is a {kind} in device memory; copy it to the host first, where the metrics of "
            "collapse are computed"
        )


def feature_shape(array: Any, name: str) -> tuple[int, int]:
    """Return the shape (N, d) of features, neither of them 0."""
    refuse_device(array, name)
    shape = tuple(int(n) for n in getattr(array, "shape", None) or np.shape(array))
    if len(shape) != 2 or 0 in shape:
        raise ValueError(f"{name} has shape {shape}; expected (N, d), neither of them 0")
    return shape[0], shape[1]


def float64_rows(array: Any, rows: slice, name: str) -> _Float:
    """Return some rows of features (N, d) as finite float64, for a copy of these alone."""
    values = float32_of(feature_rows(in_one_piece(array[rows]), name)).astype(np.float64)
    check_finite(values, name, first_row=rows.start)
    return values


def is_in_one_piece(features: Any) -> bool:
    """Whether the kernels read features in place; not so some NumPy arrays of floating point."""
    if not isinstance(features, np.ndarray) or features.dtype.kind != "f" or features.ndim != 2:
        return True  # taken or refused by name as it is
    if not (features.flags.aligned and features.dtype.isnative):
        return False
    return features.shape[1] == 1 or features.strides[1] == features.itemsize


def in_one_piece(block: Any) -> Any:
    """Return a block of features as the kernels read it, itself or a copy."""
    if is_in_one_piece(block):
        return block
    return np.array(block, dtype=block.dtype.newbyteorder("="), order="C")
