"""Sums over the samples and classes of a ClassMoments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays import Progress, watch_of
from infall._decisions import decisions
from infall._features import feature_rows
from infall.classes import ClassMoments
from infall.collapse._inputs import DecisionRows, Weighting, check_samples, of_observed
from infall.collapse._samples import Samples

_Float = NDArray[np.float64]


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
    if weighting == "classes":
        raise ValueError(
            "weighting is 'classes', but the scatter of ClassMoments is pooled over samples; "
            "expected 'samples', or features and labels"
        )
    product = moments.within_scatter @ directions
    return float(np.einsum("dr,dr->", directions, product))


def nearest_classes(
    moments: ClassMoments,
    features: Any,
    decision: DecisionRows | None,
    num_threads: int | None,
    progress: Progress | None,
) -> tuple[NDArray[np.int64], NDArray[np.int64] | None]:
    """Return the class of the nearest mean of each sample, and that of its largest output."""
    check_samples(moments)
    observed = moments.observed
    classifier, bias = (None, None) if decision is None else decision
    count = len(feature_rows(features, "features", dim=moments.num_features))
    nearest, predicted = decisions(
        features,
        of_observed(moments, moments.means),
        classifier,
        bias,
        num_threads=num_threads,
        progress=watch_of(progress, count, "samples"),
    )
    return observed[nearest], predicted


def mean_square_distance(
    moments: ClassMoments, samples: Samples, indices: NDArray[np.int64], num_threads: int | None
) -> float:
    """Return the mean of ||h - mu_c||^2 for the means of other samples, c = indices (N,)."""
    found = ClassMoments(moments.num_classes, moments.num_features, num_threads=num_threads)
    samples.add_to(found, indices, None)
    observed = found.observed
    shift = found.means[observed] - moments.means[observed]
    squares = found.variances[observed] + np.einsum("kd,kd->k", shift, shift)
    return float(found.counts[observed] @ squares) / found.num_samples
