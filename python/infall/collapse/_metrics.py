"""Metrics of neural collapse that follow from class moments, and a classifier.

A class without samples is left out of every formula: K counts the classes with samples. Where a
formula has no value (one class, coincident class means, a zero classifier), `UndefinedMetric` says
why.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays import Progress
from infall._simplex import row_products
from infall.classes import ClassMoments, GlobalMean, within_projection
from infall.collapse._between import CDNV, Between, Equiangularity, UndefinedMetric
from infall.collapse._class_sums import (
    class_average,
    class_weights,
    within_trace,
    within_trace_along,
)
from infall.collapse._inputs import (
    Weighting,
    check_samples,
    check_weighting,
    classifier_rows,
    positive,
    vector_rows,
)

_Float = NDArray[np.float64]


def nc1(
    moments: ClassMoments,
    features: Any = None,
    labels: Any = None,
    *,
    weighting: Weighting = "samples",
    global_mean: GlobalMean = "classes",
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Variability collapse: tr(Sigma_W Sigma_B^+) / K.

    Parameters
    ----------
    moments : ClassMoments
        Of the samples below. Without them it must hold the full within scatter
        (``scatter=True``).
    features : array, shape (N, d), optional
        float16, bfloat16, float32 or float64, in memory or memory-mapped. Given them, no d x d
        matrix is made.
    labels : array, shape (N,), optional
        Their classes, as `ClassMoments.update` takes them.
    weighting : {"samples", "classes"}
        Every sample weighs 1/N in Sigma_W, or 1/(K n_c); the same for classes of one size. By
        classes only with `features`.
    global_mean : {"classes", "samples"}
        Centre of Sigma_B: the mean of the class means, or of the samples.
    num_threads : int, optional
        All processors by default.
    progress : callable, optional
        Called as progress(done, total, stage); what it raises stops the call.

    Returns
    -------
    float
        0 for fully collapsed classes. Relative error under 1e-8 down to within-class noise of 1e-7
        under an offset of 100, for float32 features.

    Raises
    ------
    TypeError, ValueError
        As `ClassMoments.update`; without features for moments without scatter.
    UndefinedMetric
        For fewer than two classes with samples, and class means that all coincide.

    Notes
    -----
    With centred^T = U S V^T it is the mean of ||S^-1 U^T (h - mu_c)||^2; see `between_rank` for
    the directions that count.

    Source: Kothapalli, Neural Collapse: A Review, Eq. 4; Papyan et al. 2020.
    """
    between = Between(moments, global_mean, num_threads)
    weighting = check_weighting(weighting)
    directions = between.directions
    if features is None:
        if labels is not None:
            raise ValueError("labels came without features; expected both or neither")
        return within_trace_along(moments, directions, weighting)
    if labels is None:
        raise ValueError("features came without labels; expected both or neither")
    sums = within_projection(
        features, labels, moments, directions, num_threads=num_threads, progress=progress
    )
    return class_average(moments, sums, weighting)


def between_rank(moments: ClassMoments, *, global_mean: GlobalMean = "classes") -> int:
    """Rank of Sigma_B as `nc1` takes it: K - 1, or fewer if class means coincide or d < K - 1.

    A singular value of the centred means counts if it exceeds 2^-52 max(K, d) times the larger of
    the largest one and the root of the summed class variances: below that, it is rounding.
    For K > d the same holds for the eigenvalues, the squares.

    Parameters
    ----------
    moments : ClassMoments
        Of at least two classes with samples.
    global_mean : {"classes", "samples"}
        As in `nc1`.

    Returns
    -------
    int
        From 0 on.
    """
    return int(Between(moments, global_mean, None).all_directions.shape[1])


def pfc1(
    moments: ClassMoments,
    *,
    weighting: Weighting = "samples",
    global_mean: GlobalMean = "classes",
) -> float:
    """Variability collapse by traces: tr Sigma_W / tr Sigma_B.

    Parameters
    ----------
    moments : ClassMoments
        With or without scatter.
    weighting, global_mean : str
        As in `nc1`.

    Returns
    -------
    float
        0 for fully collapsed classes.

    Raises
    ------
    UndefinedMetric
        As `nc1`.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Eq. 7.
    """
    between = Between(moments, global_mean, None)
    between.require_distinct()
    return within_trace(moments, check_weighting(weighting)) / between.trace


def variance_explained(moments: ClassMoments, *, weighting: Weighting = "samples") -> float:
    """Share of the total variance that lies between classes, eta squared.

    B / (B + W) with W = tr Sigma_W and B the variance of the class means around their own mean,
    both with the weights of `weighting`: n_c / N, or 1 / K. By samples, B + W is the
    variance of all samples around their mean.

    Parameters
    ----------
    moments : ClassMoments
        With or without scatter.
    weighting : {"samples", "classes"}
        As in `nc1`.

    Returns
    -------
    float
        From 0 (one class, or coincident means) to 1 (fully collapsed classes).

    Raises
    ------
    UndefinedMetric
        Without samples, and if all samples coincide.
    """
    weighting = check_weighting(weighting)
    check_samples(moments)
    centred = moments.centred_means(weighting)
    weights = class_weights(moments, weighting)
    between = float(weights @ row_products(centred, centred))
    total = between + within_trace(moments, weighting)
    if total == 0.0:
        raise UndefinedMetric("all samples coincide")
    return between / total


def nc2(
    moments: ClassMoments,
    *,
    global_mean: GlobalMean = "classes",
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Distance of the centred class means, scaled to length one, from a simplex ETF.

    || M M^T / ||M M^T||_F - (I - 11^T/K) / sqrt(K-1) ||_F.

    Parameters
    ----------
    moments : ClassMoments
        With or without scatter.
    global_mean, num_threads, progress
        As in `nc1`; progress counts classes.

    Returns
    -------
    float
        0 for a simplex ETF, held to 1e-12; at least 2 sin(arccos(sqrt(r))/2), r = d/(K-1), where
        d < K - 1 leaves no room for one. Always 0 for two classes.

    Raises
    ------
    UndefinedMetric
        For fewer than two classes, and where a class mean coincides with the global mean.

    Notes
    -----
    No K x K matrix is kept. Source: Kothapalli, Eq. 7.
    """
    return Between(moments, global_mean, num_threads, progress).nc2()


def pfc2(
    moments: ClassMoments,
    *,
    global_mean: GlobalMean = "classes",
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Distance of the centred class means, at their own lengths, from a simplex ETF.

    Parameters
    ----------
    moments, global_mean, num_threads, progress
        As in `nc2`.

    Returns
    -------
    float
        As `nc2`, of which it is the form that also counts unequal lengths.

    Raises
    ------
    UndefinedMetric
        For fewer than two classes, and class means that all coincide.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Eq. 8.
    """
    return Between(moments, global_mean, num_threads, progress).pfc2()


def equinorm(vectors: ClassMoments | ArrayLike) -> float:
    """Coefficient of variation of the lengths of K vectors: standard deviation over mean.

    Parameters
    ----------
    vectors : ClassMoments or array, shape (K, d)
        Of moments the centred class means; an array, such as a classifier, as it stands.

    Returns
    -------
    float
        0 for vectors of equal length.

    Raises
    ------
    UndefinedMetric
        For fewer than two vectors, and if all are zero.

    Notes
    -----
    Source: Papyan, Han, Donoho 2020, Fig. 2.
    """
    return _between(vectors, None, None).equinorm()


def equiangularity(
    vectors: ClassMoments | ArrayLike,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Equiangularity:
    """Spread of the angles between K vectors, and the largest cos + 1/(K-1).

    Parameters
    ----------
    vectors : ClassMoments or array, shape (K, d)
        As in `equinorm`.
    num_threads, progress
        As in `nc2`.

    Returns
    -------
    Equiangularity
        (std, max); both 0 for a simplex ETF. Absolute error of the standard deviation about 1e-8
        of the mean of cos + 1/(K-1).

    Raises
    ------
    UndefinedMetric
        For fewer than two vectors, and if one is zero.

    Notes
    -----
    Source: Papyan, Han, Donoho 2020, Fig. 3 and 4.
    """
    return _between(vectors, num_threads, progress).equiangularity()


def nc3(
    moments: ClassMoments,
    classifier: ArrayLike,
    *,
    global_mean: GlobalMean = "classes",
) -> float:
    """Self-duality: distance of A M^T from a simplex ETF.

    || A M^T / ||A M^T||_F - (I - 11^T/K) / sqrt(K-1) ||_F, with the rows of M the centred class
    means at length one and the classifier A as it stands, not centred.

    Parameters
    ----------
    moments : ClassMoments
        With or without scatter.
    classifier : array, shape (num_classes, d)
        Weights of the last layer; rows of classes without samples are left out.
    global_mean : {"classes", "samples"}
        As in `nc1`.

    Returns
    -------
    float
        From 0 (A M^T is a simplex) to 2 (its negative).

    Raises
    ------
    TypeError, ValueError
        For a classifier that is not real, finite and of that shape.
    UndefinedMetric
        As `nc2`, and for A M^T = 0.

    Notes
    -----
    Source: Kothapalli, Eq. 8.
    """
    return Between(moments, global_mean, None).nc3(classifier_rows(moments, classifier))


def nc3_papyan(
    moments: ClassMoments,
    classifier: ArrayLike,
    *,
    global_mean: GlobalMean = "classes",
    unit_means: bool = True,
) -> float:
    """Self-duality: || A / ||A||_F - M / ||M||_F ||_F^2.

    Parameters
    ----------
    moments, classifier, global_mean
        As in `nc3`.
    unit_means : bool
        Whether the centred class means M have length one, as in Kothapalli's review, or their own,
        as in Papyan et al.; the same once NC2 holds.

    Returns
    -------
    float
        From 0 to 4.

    Raises
    ------
    TypeError, ValueError, UndefinedMetric
        As `nc3`, and for a zero classifier.

    Notes
    -----
    Source: Papyan, Han, Donoho 2020, Fig. 5; Kothapalli, Section 2.3.
    """
    rows = classifier_rows(moments, classifier)
    return Between(moments, global_mean, None).nc3_papyan(rows, unit_means)


def cdnv(
    moments: ClassMoments,
    *,
    power: float = 2.0,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> CDNV:
    """Class-distance normalized variance of all pairs of classes: mean, maximum, minimum.

    (Var_c + Var_c') / (2 ||mu_c - mu_c'||^power) with Var_c = mean ||h - mu_c||^2.

    Parameters
    ----------
    moments : ClassMoments
        With or without scatter.
    power : float
        Of the distance, positive.
    num_threads, progress
        As in `nc2`.

    Returns
    -------
    CDNV
        (mean, max, pair, min). Infinite for pairs with equal means, also if both are collapsed.

    Raises
    ------
    TypeError, ValueError
        For another power.
    UndefinedMetric
        For fewer than two classes.

    Notes
    -----
    No K x K matrix is kept; nearly equal means do not cancel.

    Source: Kothapalli, Eq. 51; Galanti, Gyorgy, Hutter 2021.
    """
    return Between(moments, "classes", num_threads, progress).cdnv(positive(power, "power"))


def cdnv_matrix(
    moments: ClassMoments, *, power: float = 2.0, num_threads: int | None = None
) -> _Float:
    """Class-distance normalized variances as a matrix.

    Parameters
    ----------
    moments, power, num_threads
        As in `cdnv`.

    Returns
    -------
    float64 array, shape (K, K)
        Symmetric, rows as `moments.observed`, zero on the diagonal.

    Raises
    ------
    TypeError, ValueError, UndefinedMetric
        As `cdnv`.
    """
    between = Between(moments, "classes", num_threads)
    power = positive(power, "power")
    matrix = np.empty((between.num_classes, between.num_classes))
    for rows, block in between.cdnv_blocks(power):
        matrix[rows] = block
    return matrix


def _between(
    vectors: ClassMoments | ArrayLike, num_threads: int | None, progress: Progress | None
) -> Between:
    if isinstance(vectors, ClassMoments):
        return Between(vectors, "classes", num_threads, progress)
    return Between.of_vectors(vector_rows(vectors, "vectors"), num_threads, progress)
