"""Sums over the samples and classes of a ClassMoments."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from infall._arrays.blocks import block_size
from infall.classes.moments import ClassMoments, mean_differences
from infall.collapse._checks import UndefinedMetric, Weighting
from infall.collapse._samples import Samples

_Float = NDArray[np.float64]
_BLOCK_ENTRIES = 2**20


def within_trace(moments: ClassMoments, weighting: Weighting) -> float:
    """Return tr Sigma_W."""
    observed = moments.observed
    return float(class_weights(moments, weighting) @ moments.variances[observed])


def class_weights(moments: ClassMoments, weighting: Weighting) -> _Float:
    """Return the weights (K,) of the classes with samples: n_c / N, or 1 / K."""
    counts = moments.counts[moments.observed]
    if weighting == "samples":
        weights: _Float = counts / moments.num_samples
        return weights
    return np.full(len(counts), 1.0 / len(counts))


def class_average(moments: ClassMoments, sums: _Float, weighting: Weighting) -> float:
    """Return the mean over samples whose sums per class (num_classes,) are given."""
    observed = moments.observed
    means = sums[observed] / moments.counts[observed]
    return float(class_weights(moments, weighting) @ means)


def within_trace_along(moments: ClassMoments, directions: _Float, weighting: Weighting) -> float:
    """Return tr(D^T Sigma_W D) from the full within scatter, for directions D (d, r)."""
    if not moments.scatter:
        raise ValueError(
            "the ClassMoments have no scatter; expected scatter=True, or features and labels "
            "beside moments="
        )
    if weighting == "classes":
        raise UndefinedMetric(
            "weighting is 'classes', but the scatter of ClassMoments is pooled over samples; "
            "expected 'samples', or features and labels"
        )
    product = moments.within_scatter @ directions
    return float(np.einsum("dr,dr->", directions, product))


def mean_square_distance(
    moments: ClassMoments, samples: Samples, class_numbers: NDArray[np.int64]
) -> float:
    """Return the mean of ||h - mu_c||^2 over samples of the classes c (N,), mu of `moments`."""
    own = ClassMoments(moments.num_classes, moments.num_features, num_threads=moments.num_threads)
    for _ in samples.each(lambda block, rows, _: own.update(block, class_numbers[rows]), None):
        pass
    own = own.to_host()
    observed = own.observed
    squares = own.variances[observed]
    step = max(1, block_size(_BLOCK_ENTRIES) // moments.num_features)
    for first in range(0, len(observed), step):
        classes = observed[first : first + step]
        shifts = mean_differences(moments, own, classes)
        squares[first : first + step] += np.einsum("kd,kd->k", shifts, shifts)
    return float(own.counts[observed] @ squares) / own.num_samples
