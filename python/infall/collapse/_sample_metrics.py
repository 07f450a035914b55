"""Metrics of neural collapse that look at samples again, at a bias, or at several layers."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays import Progress
from infall._simplex import deviation_sums, moment_matrix, row_blocks, row_products, row_sum
from infall.classes import ClassMoments
from infall.collapse._between import Between
from infall.collapse._class_sums import mean_square_distance, nearest_classes
from infall.collapse._inputs import (
    bias_entries,
    check_samples,
    classifier_rows,
    decision_rows,
    feature_shape,
    float64_rows,
    number_between,
    of_observed,
)
from infall.collapse._samples import ArraySamples, Samples


class CollapseOnTest(NamedTuple):
    """How test samples collapse to the class means of the training samples."""

    strong: float
    weak: float
    ncc_error: float


class StrongResiduals(NamedTuple):
    """Distances of classifier, features and bias from strong neural collapse."""

    delta1: float
    delta2: float
    delta3: float | None
    """None without a bias."""


def ncc_error(
    moments: ClassMoments,
    features: Any,
    labels: Any,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Share of samples whose nearest class mean is not that of their class.

    Parameters
    ----------
    moments : ClassMoments
        Of the training samples, whose class means are the centres.
    features, labels : arrays, shape (N, d) and (N,)
        The same samples, or test samples.
    num_threads, progress
        As in `nc1`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As `ClassMoments.update`.
    UndefinedMetric
        For moments without samples.

    Notes
    -----
    Squared Euclidean distance; ties go to the lower class.

    Source: Kothapalli, Section 4.2 (nearest class center).
    """
    indices = moments.label_numbers(labels, len(features))
    nearest, _ = nearest_classes(moments, features, None, num_threads, progress)
    return float(np.count_nonzero(nearest != indices)) / len(indices)


def pfc3(
    moments: ClassMoments,
    features: Any,
    labels: Any,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Accuracy of the nearest class mean, 1 - `ncc_error`.

    Parameters
    ----------
    moments, features, labels, num_threads, progress
        As in `ncc_error`.

    Returns
    -------
    float
        1 where every sample is nearest to the mean of its class.

    Raises
    ------
    TypeError, ValueError, UndefinedMetric
        As `ncc_error`.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Eq. 9.
    """
    return 1.0 - ncc_error(moments, features, labels, num_threads=num_threads, progress=progress)


def nc4(
    moments: ClassMoments,
    features: Any,
    classifier: ArrayLike,
    bias: ArrayLike | None = None,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Share of samples that the classifier and the nearest class mean decide differently.

    Parameters
    ----------
    moments : ClassMoments
        Of the training samples.
    features : array, shape (N, d)
        Samples; their classes do not matter.
    classifier : array, shape (num_classes, d)
        Weights A; the decision is the largest of A h + b, over all rows.
    bias : array, shape (num_classes,), optional
        b, zero by default.
    num_threads, progress
        As in `nc1`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As `ClassMoments.update`, and for a classifier or bias of another shape.
    UndefinedMetric
        For moments without samples.

    Notes
    -----
    Source: Kothapalli, Eq. 9.
    """
    rows = decision_rows(moments, classifier, bias)
    nearest, predicted = nearest_classes(moments, features, rows, num_threads, progress)
    return float(np.count_nonzero(nearest != predicted)) / len(nearest)


def collapse_on_test(
    moments: ClassMoments,
    features: Any,
    labels: Any,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> CollapseOnTest:
    """Collapse of test samples to the class means of the training samples.

    The mean squared distance of test samples to the training mean of their own class (strong) or
    of whichever class is nearest (weak), over tr Sigma_B of the training samples: PFC1 with test
    samples in its numerator.

    Parameters
    ----------
    moments : ClassMoments
        Of the training samples.
    features, labels : arrays, shape (N, d) and (N,)
        Test samples; their classes must have training samples.
    num_threads, progress
        As in `nc1`.

    Returns
    -------
    CollapseOnTest
        (strong, weak, ncc_error), weak <= strong up to rounding.

    Raises
    ------
    TypeError, ValueError
        As `ClassMoments.update`, and for a class without training samples.
    UndefinedMetric
        As `pfc1`.

    Notes
    -----
    Source: Kothapalli, Section 4.1; Hui, Belkin, Nakkiran 2022.
    """
    between = Between(moments, "classes", num_threads)
    indices = moments.label_numbers(labels, len(features))
    samples = ArraySamples(features, "features")
    return distances_of_test(moments, between, samples, indices, num_threads, progress)


def distances_of_test(
    moments: ClassMoments,
    between: Between,
    samples: Samples,
    indices: NDArray[np.int64],
    num_threads: int | None,
    progress: Progress | None,
) -> CollapseOnTest:
    """Return what `collapse_on_test` does, for checked class numbers (N,)."""
    between.require_distinct()
    unseen = moments.counts[indices] == 0
    if unseen.any():
        where = int(np.argmax(unseen))
        raise ValueError(
            f"test labels is {indices[where]} at position {where}, a class without training samples"
        )
    nearest = np.concatenate(
        [
            nearest_classes(moments, block, None, num_threads, within)[0]
            for _, block, within in samples.blocks(progress)
        ]
    )
    return CollapseOnTest(
        mean_square_distance(moments, samples, indices, num_threads) / between.trace,
        mean_square_distance(moments, samples, nearest, num_threads) / between.trace,
        float(np.count_nonzero(nearest != indices)) / len(indices),
    )


def strong_residuals(
    moments: ClassMoments, classifier: ArrayLike, bias: ArrayLike | None = None
) -> StrongResiduals:
    """Distances from strong neural collapse, the minimiser of the squared error from zero.

    delta1 = ||A A^T - sqrt(n) (I - 11^T/K)||_F, delta2 = ||F - (A (x) 1_n)^T / sqrt(n)||_F and
    delta3 = ||b - 1/K||, with n = N / K.

    Parameters
    ----------
    moments : ClassMoments
        With or without scatter.
    classifier : array, shape (num_classes, d)
        As in `nc3`.
    bias : array, shape (num_classes,), optional
        Without it there is no delta3.

    Returns
    -------
    StrongResiduals
        (delta1, delta2, delta3), not relative to anything. The paper has classes of one size;
        elsewhere n is their mean.

    Raises
    ------
    TypeError, ValueError
        As `nc3`.
    UndefinedMetric
        Without samples.

    Notes
    -----
    ||F - ...||^2 is the sum of n_c (Var_c + ||mu_c - a_c / sqrt(n)||^2).

    Source: Kothapalli, Eq. 17; Mixon, Parshall, Pi 2020.
    """
    rows = classifier_rows(moments, classifier)
    offsets = None if bias is None else bias_entries(moments, bias)
    check_samples(moments)
    num_classes, dim = rows.shape
    size = moments.num_samples / num_classes
    root = math.sqrt(size)
    squares = row_products(rows, rows)
    if num_classes > dim + 1:
        gram = moment_matrix(rows)
        total = row_sum(rows)
        inner = float(squares.sum() - total @ total / num_classes)
        first = float(np.sum(gram * gram)) - 2.0 * root * inner + size * (num_classes - 1)
    else:
        diagonal, _, off = deviation_sums(rows, rows, np.ones(num_classes), squares, root)
        first = diagonal + off
    counts = moments.counts[moments.observed]
    means = of_observed(moments, moments.means)
    second = moments.variances[moments.observed]
    for block in row_blocks(*rows.shape):
        difference = means[block] - rows[block] / root
        second[block] += np.einsum("kd,kd->k", difference, difference)
    third = None if offsets is None else float(np.linalg.norm(offsets - 1.0 / num_classes))
    return StrongResiduals(math.sqrt(max(first, 0.0)), math.sqrt(float(counts @ second)), third)


def effective_depth(ncc_errors: Sequence[float], epsilon: float = 0.0) -> int:
    """Epsilon-effective depth: the first layer whose nearest class means err at most epsilon.

    Parameters
    ----------
    ncc_errors : sequence of float, length L
        `ncc_error` of layers 1 .. L; the input is no layer.
    epsilon : float
        From 0 to 1.

    Returns
    -------
    int
        From 1 to L; L if there is no such layer.

    Raises
    ------
    TypeError, ValueError
        For an epsilon that is no number in [0, 1], and without layers.

    Notes
    -----
    Source: Kothapalli, Section 4.2; Galanti, Galanti, Ben-Shaul 2022.
    """
    epsilon = number_between(epsilon, "epsilon", 0.0, 1.0)
    errors = np.asarray(ncc_errors, dtype=np.float64)
    if errors.ndim != 1 or len(errors) == 0:
        raise ValueError(f"ncc_errors has shape {errors.shape}; expected (L,), L >= 1")
    reached = np.flatnonzero(errors <= epsilon)
    return int(reached[0]) + 1 if len(reached) else len(errors)


def layer_coordinates(
    layers: Sequence[Any], *, progress: Progress | None = None
) -> NDArray[np.float64]:
    """Relative position of each layer by the way that the samples have come.

    sum_{j<l} sum_i ||h_i^{j+1} - h_i^j|| over the same sum up to the last layer.

    Parameters
    ----------
    layers : sequence of arrays, each (N, d)
        Features of the same samples in layers 0 .. L, L >= 1; in memory or memory-mapped, read
        block by block.
    progress : callable, optional
        Called as progress(rows_done, rows_total, "layers"), L N rows in all.

    Returns
    -------
    float64 array, shape (L + 1,)
        From 0 to 1, ascending.

    Raises
    ------
    TypeError, ValueError
        For fewer than two layers, layers of different shapes, dtypes that are not real and
        entries that are not finite; if no sample moves at all.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Section IV-A.
    """
    if len(layers) < 2:
        raise ValueError(f"layers has {len(layers)} entries; expected at least 2")
    shape = feature_shape(layers[0], "layers[0]")
    for number, layer in enumerate(layers):
        found = feature_shape(layer, f"layers[{number}]")
        if found != shape:
            raise ValueError(
                f"layers[{number}] has shape {found}, layers[0] {shape}; expected the same, for "
                "there is no distance between features of different widths"
            )
    lengths = np.zeros(len(layers))  # (L + 1,)
    for number in range(1, len(layers)):
        for rows in row_blocks(*shape):
            start = float64_rows(layers[number - 1], rows, f"layers[{number - 1}]")
            step = float64_rows(layers[number], rows, f"layers[{number}]") - start
            lengths[number] += float(np.sqrt(np.einsum("nd,nd->n", step, step)).sum())
            if progress is not None:
                progress(
                    (number - 1) * shape[0] + rows.stop, (len(layers) - 1) * shape[0], "layers"
                )
    way = np.cumsum(lengths)
    if way[-1] == 0.0:
        raise ValueError("layers are all equal: no sample moves, and there are no coordinates")
    coordinates: NDArray[np.float64] = way / way[-1]
    return coordinates
