"""Checks of what the metrics of collapse are given beside features: numbers, classifier, bias."""

from __future__ import annotations

import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infall._arrays.checks import check_finite, real_number
from infall._arrays.convert import to_numpy
from infall._arrays.locate import on_host
from infall.classes.moments import ClassMoments
from infall.frames._simplex import row_blocks

Weighting = Literal["samples", "classes"]
_Float = NDArray[np.float64]

WEIGHTS = ("classes", "samples")  # what all classes, or all samples, weigh the same in


class UndefinedMetric(ValueError):  # noqa: N818
    """A metric has no value for these data; the message says why."""


def number_between(value: Any, name: str, low: float, high: float) -> float:
    """Return a number with low <= value <= high."""
    number = real_number(value, name)
    if not low <= number <= high:
        raise ValueError(f"{name} is {value}; expected a number from {low:g} to {high:g}")
    return number


def real_vector(array: Any, name: str) -> _Float:
    """Return finite float64 numbers (n,), n >= 1."""
    entries = float64_entries(array, name)
    if entries.ndim != 1 or len(entries) == 0:
        raise ValueError(f"{name} has shape {entries.shape}; expected one axis, not empty")
    return entries


def vector_rows(array: Any, name: str) -> _Float:
    """Return finite float64 vectors (K, d), K and d not 0."""
    rows = float64_entries(array, name)
    if rows.ndim != 2 or 0 in rows.shape:
        raise ValueError(f"{name} has shape {rows.shape}; expected (K, d), neither of them 0")
    return rows


def float64_entries(array: Any, name: str) -> _Float:
    """Return a finite float64 copy in host memory, of an array anywhere."""
    given = on_host(array, name)
    if "bfloat16" in str(getattr(given, "dtype", "")):  # which NumPy does not have
        given = given.float() if hasattr(given, "float") else given.astype(np.float32)
    given = to_numpy(given, name)
    if given.ndim == 0:
        raise TypeError(f"{name} is {array!r}; expected an array")
    entries = np.empty(given.shape)
    for rows in row_blocks(len(entries), max(1, math.prod(entries.shape[1:]))):
        with np.errstate(over="ignore"):  # of long doubles; infinity is refused
            entries[rows] = given[rows]
        check_finite(entries[rows], name, first_row=rows.start)
    return entries


def of_observed(moments: ClassMoments, entries: _Float) -> _Float:
    """Return the entries (num_classes, ...) that belong to classes with samples."""
    observed = moments.observed
    return entries if len(observed) == len(entries) else entries[observed]
