"""The metrics of neural collapse, one by one.

Each takes features and labels, or a `ClassMoments` in their place. A class without samples is left
out of every formula: K counts the classes with samples. Where a formula has no value (one class,
coincident class means, a zero classifier), `UndefinedMetric` says why.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays.calls import Progress
from infall._arrays.checks import positive_number
from infall._arrays.convert import AnyArray, Labels
from infall.classes.moments import ClassMoments, GlobalMean
from infall.collapse._between import CDNV, Between, Equiangularity
from infall.collapse._checks import Weighting, vector_rows
from infall.collapse._measurement import CollapseOnTest, Measurement, StrongResiduals

_Float = NDArray[np.float64]


def nc1(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    moments: ClassMoments | None = None,
    weighting: Weighting = "samples",
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Variability collapse: tr(Sigma_W Sigma_B^+) / K.

    Parameters
    ----------
    features : array, shape (N, d), or ClassMoments
        As `collapse_report` takes them. Of moments alone, which must hold the within scatter
        (``scatter=True``); of features no d x d matrix is made.
    labels : array or sequence, shape (N,)
        Integers, text, bool or other names of the classes. None with ClassMoments.
    moments : ClassMoments, optional
        Of these samples, if they are at hand; made of them by default.
    weighting : {"samples", "classes"}
        Every sample weighs 1/N in Sigma_W, or 1/(K n_c); the same for classes of one size. By
        classes only with features.
    global_mean : {"classes", "samples"}
        Centre of Sigma_B: the mean of the class means, or of the samples.
    classes : sequence of hashables, optional
        Names of the classes in order; by default the distinct labels, ascending.
    num_threads : int, optional
        All processors by default; does not change the result except for what NumPy's matrix
        products round.
    progress : callable, optional
        Called as progress(done, total, stage); what it raises stops the call.

    Returns
    -------
    float
        0 for fully collapsed classes. Relative error under 1e-8 down to within-class noise of 1e-7
        under an offset of 100, for float32 features.

    Raises
    ------
    TypeError
        For masked arrays, and dtypes that are not real numbers.
    ValueError
        For shapes that do not match, entries that are not finite, labels that are none of the
        classes, moments of other samples, and moments alone without scatter.
    UndefinedMetric
        For fewer than two classes with samples, and class means that all coincide; from moments
        alone also by classes.

    Notes
    -----
    With centred^T = U S V^T it is the mean of ||S^-1 U^T (h - mu_c)||^2; see `between_rank` for
    the directions that count. Deviations are taken from a sample of the class, so an offset
    which all samples share costs no digits.

    Features in CUDA memory stay there, with their moments; the call waits for the current stream.

    Source: Kothapalli, Neural Collapse: A Review, Eq. 4; Papyan et al. 2020.
    """
    measurement = Measurement(
        features,
        labels,
        classes,
        num_threads,
        progress,
        moments=moments,
        weighting=weighting,
        global_mean=global_mean,
    )
    measurement.require_same_samples()
    return measurement.nc1()


def between_rank(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> int:
    """Rank of Sigma_B as `nc1` takes it: K - 1, or fewer if class means coincide or d < K - 1.

    A singular value of the centred means counts if it exceeds 2^-52 max(K, d) times the larger of
    the largest one and the root of the summed class variances: below that, it is rounding error.
    For K > d and class means that are nearly dependent the same holds for the eigenvalues, the
    squares.

    Parameters
    ----------
    features, labels, global_mean, classes, num_threads, progress
        As in `nc1`; moments with or without scatter.

    Returns
    -------
    int
        From 0 on.

    Raises
    ------
    TypeError, ValueError
        As `nc1`.
    UndefinedMetric
        For fewer than two classes with samples.
    """
    return Measurement(
        features, labels, classes, num_threads, progress, global_mean=global_mean
    ).between.rank


def pfc1(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    weighting: Weighting = "samples",
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Variability collapse by traces: tr Sigma_W / tr Sigma_B.

    Parameters
    ----------
    features, labels, weighting, global_mean, classes, num_threads, progress
        As in `nc1`; moments with or without scatter.

    Returns
    -------
    float
        0 for fully collapsed classes.

    Raises
    ------
    TypeError, ValueError, UndefinedMetric
        As `nc1`.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Eq. 7.
    """
    return Measurement(
        features,
        labels,
        classes,
        num_threads,
        progress,
        weighting=weighting,
        global_mean=global_mean,
    ).pfc1()


def variance_explained(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    weighting: Weighting = "samples",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Share of the total variance that lies between classes, eta squared.

    B / (B + W) with W = tr Sigma_W and B the variance of the class means around their own mean,
    both with the weights of `weighting`: n_c / N, or 1 / K. By samples, B + W is the
    variance of all samples around their mean.

    Parameters
    ----------
    features, labels, weighting, classes, num_threads, progress
        As in `nc1`; moments with or without scatter.

    Returns
    -------
    float
        From 0 (one class, or coincident means) to 1 (fully collapsed classes).

    Raises
    ------
    TypeError, ValueError
        As `nc1`.
    UndefinedMetric
        Without samples, and if all samples coincide.
    """
    return Measurement(
        features, labels, classes, num_threads, progress, weighting=weighting
    ).variance_explained()


def nc2(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Distance of the centred class means, scaled to length one, from a simplex ETF.

    || M M^T / ||M M^T||_F - (I - 11^T/K) / sqrt(K-1) ||_F.

    Parameters
    ----------
    features, labels, global_mean, classes, num_threads, progress
        As in `nc1`; moments with or without scatter.

    Returns
    -------
    float
        0 for a simplex ETF, held to 1e-12; at least 2 sin(arccos(sqrt(r))/2), r = d/(K-1), where
        d < K - 1 leaves no room for one. Always 0 for two classes.

    Raises
    ------
    TypeError, ValueError
        As `nc1`.
    UndefinedMetric
        For fewer than two classes, and where a class mean coincides with the global mean.

    Notes
    -----
    No K x K matrix is kept. Of an array of vectors: `etf_distance`. Source: Kothapalli, Eq. 7.
    """
    return Measurement(
        features, labels, classes, num_threads, progress, global_mean=global_mean
    ).between.nc2()


def pfc2(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Distance of the centred class means, at their own lengths, from a simplex ETF.

    Parameters
    ----------
    features, labels, global_mean, classes, num_threads, progress
        As in `nc2`.

    Returns
    -------
    float
        As `nc2`, of which it is the form that also counts unequal lengths.

    Raises
    ------
    TypeError, ValueError
        As `nc1`.
    UndefinedMetric
        For fewer than two classes, and class means that all coincide.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Eq. 8.
    """
    return Measurement(
        features, labels, classes, num_threads, progress, global_mean=global_mean
    ).between.pfc2()


def equinorm(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Coefficient of variation of the lengths of K vectors: standard deviation over mean.

    Parameters
    ----------
    features : array, shape (N, d) or (K, d), or ClassMoments
        With labels, or of moments: the centred class means. An array without labels, such as a
        classifier: its rows as they stand.
    labels : array or sequence, shape (N,), optional
        As in `nc1`.
    global_mean, classes, num_threads, progress
        As in `nc1`, for class means.

    Returns
    -------
    float
        0 for vectors of equal length.

    Raises
    ------
    TypeError, ValueError
        As `nc1`.
    UndefinedMetric
        For fewer than two vectors, if all are zero, and class means that all coincide.

    Notes
    -----
    Source: Papyan, Han, Donoho 2020, Fig. 2.
    """
    if labels is None and not isinstance(features, ClassMoments):
        rows = vector_rows(features, "features")
        return Between.of_vectors(rows, num_threads, progress).equinorm()
    return Measurement(
        features, labels, classes, num_threads, progress, global_mean=global_mean
    ).equinorm()


def equiangularity(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Equiangularity:
    """Spread of the angles between K vectors, and the largest cos + 1/(K-1).

    Parameters
    ----------
    features, labels, global_mean, classes, num_threads, progress
        As in `equinorm`.

    Returns
    -------
    Equiangularity
        (std, max); both 0 for a simplex ETF. Absolute error of the standard deviation about 1e-8
        of the mean of cos + 1/(K-1).

    Raises
    ------
    TypeError, ValueError
        As `nc1`.
    UndefinedMetric
        For fewer than two vectors, and if one is zero.

    Notes
    -----
    Source: Papyan, Han, Donoho 2020, Fig. 3 and 4.
    """
    if labels is None and not isinstance(features, ClassMoments):
        rows = vector_rows(features, "features")
        return Between.of_vectors(rows, num_threads, progress).equiangularity()
    return Measurement(
        features, labels, classes, num_threads, progress, global_mean=global_mean
    ).between.equiangularity()


def nc3(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    classifier: ArrayLike,
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Self-duality: distance of A M^T from a simplex ETF.

    || A M^T / ||A M^T||_F - (I - 11^T/K) / sqrt(K-1) ||_F, with the rows of M the centred class
    means at length one and the classifier A as it stands, not centred.

    Parameters
    ----------
    features, labels, global_mean, num_threads, progress
        As in `nc1`; moments with or without scatter.
    classifier : array, shape (num_classes, d)
        Weights of the last layer; rows of classes without samples are left out.
    classes : sequence of hashables, optional
        Names of the rows of `classifier`, in order; by default labels are their numbers.

    Returns
    -------
    float
        From 0 (A M^T is a simplex) to 2 (its negative).

    Raises
    ------
    TypeError, ValueError
        As `nc1`; for a classifier that is not real, finite and of that shape.
    UndefinedMetric
        As `nc2`, and for A M^T = 0.

    Notes
    -----
    Source: Kothapalli, Eq. 8.
    """
    return Measurement(
        features,
        labels,
        classes,
        num_threads,
        progress,
        classifier=classifier,
        global_mean=global_mean,
    ).nc3()


def nc3_papyan(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    classifier: ArrayLike,
    unit_means: bool = True,
    global_mean: GlobalMean = "classes",
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Self-duality: || A / ||A||_F - M / ||M||_F ||_F^2.

    Parameters
    ----------
    features, labels, classifier, global_mean, classes, num_threads, progress
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
    return Measurement(
        features,
        labels,
        classes,
        num_threads,
        progress,
        classifier=classifier,
        global_mean=global_mean,
    ).nc3_papyan(unit_means)


def nc4(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    classifier: ArrayLike,
    bias: ArrayLike | None = None,
    moments: ClassMoments | None = None,
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Share of samples that the classifier and the nearest class mean decide differently.

    Parameters
    ----------
    features : array, shape (N, d)
        As in `nc1`; samples are needed.
    labels : array or sequence, shape (N,)
        As in `nc1`; not needed with `moments`, for the classes of the samples do not matter.
    classifier : array, shape (num_classes, d)
        Weights A; the decision is the largest of A h + b, over all rows.
    bias : array, shape (num_classes,), optional
        b, zero by default.
    moments : ClassMoments, optional
        Of the training samples, whose class means decide; made of these samples by default.
    classes : sequence of hashables, optional
        As in `nc3`.
    num_threads, progress
        As in `nc1`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As `nc3`, and for moments alone.
    UndefinedMetric
        Without samples.

    Notes
    -----
    Ties go to the lower class. Source: Kothapalli, Eq. 9.
    """
    return Measurement(
        features,
        labels,
        classes,
        num_threads,
        progress,
        classifier=classifier,
        bias=bias,
        moments=moments,
    ).nc4()


def ncc_error(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    moments: ClassMoments | None = None,
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Share of samples whose nearest class mean is not that of their class.

    Parameters
    ----------
    features, labels : arrays, shape (N, d) and (N,)
        As in `nc1`; samples are needed.
    moments : ClassMoments, optional
        Of the training samples, whose class means are the centres; made of these samples by
        default.
    classes, num_threads, progress
        As in `nc1`.

    Returns
    -------
    float
        From 0 to 1.

    Raises
    ------
    TypeError, ValueError
        As `nc1`, and for moments alone.
    UndefinedMetric
        Without samples.

    Notes
    -----
    Squared Euclidean distance; ties go to the lower class.

    Source: Kothapalli, Section 4.2 (nearest class center).
    """
    return Measurement(
        features, labels, classes, num_threads, progress, moments=moments
    ).ncc_error()


def pfc3(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    moments: ClassMoments | None = None,
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> float:
    """Accuracy of the nearest class mean, 1 - `ncc_error`.

    Parameters
    ----------
    features, labels, moments, classes, num_threads, progress
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
    return Measurement(features, labels, classes, num_threads, progress, moments=moments).pfc3()


def cdnv(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    power: float = 2.0,
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> CDNV:
    """Class-distance normalized variance of all pairs of classes: mean, maximum, minimum.

    (Var_c + Var_c') / (2 ||mu_c - mu_c'||^power) with Var_c = mean ||h - mu_c||^2.

    Parameters
    ----------
    features, labels, classes, num_threads, progress
        As in `nc1`; moments with or without scatter.
    power : float
        Of the distance, positive.

    Returns
    -------
    CDNV
        (mean, max, pair, min). Infinite for pairs with equal means, also if both are collapsed.

    Raises
    ------
    TypeError, ValueError
        As `nc1`; for another power.
    UndefinedMetric
        For fewer than two classes.

    Notes
    -----
    No K x K matrix is kept; nearly equal means do not cancel.

    Source: Kothapalli, Eq. 51; Galanti, Gyorgy, Hutter 2021.
    """
    power = positive_number(power, "power")
    return Measurement(features, labels, classes, num_threads, progress).cdnv(power)


def cdnv_matrix(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    power: float = 2.0,
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> _Float:
    """Class-distance normalized variances as a matrix.

    Parameters
    ----------
    features, labels, power, classes, num_threads, progress
        As in `cdnv`.

    Returns
    -------
    float64 array, shape (K, K)
        Symmetric, one row for each class with samples in the order of the classes, zero on the
        diagonal. In host memory.

    Raises
    ------
    TypeError, ValueError, UndefinedMetric
        As `cdnv`.
    """
    power = positive_number(power, "power")
    between = Measurement(features, labels, classes, num_threads, progress).between
    matrix = np.empty((between.num_classes, between.num_classes))
    for rows, block in between.cdnv_blocks(power):
        matrix[rows] = block
    return matrix


def collapse_on_test(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    test_features: AnyArray,
    test_labels: Labels,
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> CollapseOnTest:
    """Collapse of test samples to the class means of the training samples.

    The mean squared distance of test samples to the training mean of their own class (strong) or
    of whichever class is nearest (weak), over tr Sigma_B of the training samples: PFC1 with test
    samples in its numerator.

    Parameters
    ----------
    features, labels, classes, num_threads, progress
        The training samples as in `nc1`; moments with or without scatter.
    test_features, test_labels : arrays, shapes (T, d) and (T,)
        Test samples; their classes must have training samples.

    Returns
    -------
    CollapseOnTest
        (strong, weak, ncc_error), weak <= strong up to rounding.

    Raises
    ------
    TypeError, ValueError
        As `nc1`, and for a class without training samples.
    UndefinedMetric
        As `pfc1`, and without test samples.

    Notes
    -----
    Source: Kothapalli, Section 4.1; Hui, Belkin, Nakkiran 2022.
    """
    return Measurement(
        features,
        labels,
        classes,
        num_threads,
        progress,
        test_features=test_features,
        test_labels=test_labels,
    ).collapse_on_test()


def strong_residuals(
    features: ClassMoments | AnyArray,
    labels: Labels | None = None,
    *,
    classifier: ArrayLike,
    bias: ArrayLike | None = None,
    classes: Sequence[Hashable] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> StrongResiduals:
    """Distances from strong neural collapse, the minimiser of the squared error from zero.

    delta1 = ||A A^T - sqrt(n) (I - 11^T/K)||_F, delta2 = ||F - (A (x) 1_n)^T / sqrt(n)||_F and
    delta3 = ||b - 1/K||, with n = N / K.

    Parameters
    ----------
    features, labels, classifier, classes, num_threads, progress
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
    return Measurement(
        features, labels, classes, num_threads, progress, classifier=classifier, bias=bias
    ).strong_residuals()
