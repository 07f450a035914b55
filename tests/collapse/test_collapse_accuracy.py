"""Metrics of collapse at any magnitude and under any offset, against exact arithmetic."""

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from collapse_samples import close, moments_of, sample
from infall import ClassMoments, collapse, collapse_report
from infall.collapse import UndefinedMetric
from infall.frames import _simplex
from interrupts import LIMIT, seconds_after_interrupt

# Scale --------------------------------------------------------------------------------------------

FEATURES, LABELS, CLASSIFIER, _ = sample(7, 12, seed=3)
# Largest and smallest magnitudes of these numbers: exponents 3 and, almost surely, over -20.
EXPONENTS = st.integers(-1000, 1018)

OF_MEANS = ("nc2", "pfc2", "equinorm", "equiangularity")
OF_CLASSIFIER = ("nc3", "nc3_papyan", "lengths")


def moments_of_means(means):
    """Moments of one sample per class, which have no squares."""
    return moments_of(means, np.arange(len(means)))


@settings(max_examples=60, deadline=None)
@given(EXPONENTS, st.sampled_from(OF_MEANS + OF_CLASSIFIER), st.sampled_from([(7, 12), (12, 7)]))
def test_metrics_of_class_means_have_no_scale(exponent, name, shape):
    """Bit for bit from the smallest to the largest numbers: PFC2 took fourth powers."""
    means = np.random.default_rng(5).standard_normal(shape)
    rows = np.random.default_rng(6).standard_normal(shape)

    def metric(scale):
        moments = moments_of_means(means * scale)
        if name in ("nc3", "nc3_papyan"):
            return getattr(collapse, name)(moments, classifier=rows)
        if name == "lengths":
            return collapse.nc3_papyan(moments, classifier=rows, unit_means=False)
        return getattr(collapse, name)(moments)

    assert metric(2.0**exponent) == metric(1.0)


@settings(max_examples=60, deadline=None)
@given(EXPONENTS, st.sampled_from(["equinorm", "equiangularity", "nc3", "nc3_papyan"]))
def test_metrics_of_a_classifier_have_no_scale(exponent, name):
    scaled = np.ldexp(CLASSIFIER, exponent)
    if name.startswith("nc3"):
        moments = moments_of(FEATURES, LABELS)
        expected = getattr(collapse, name)(moments, classifier=CLASSIFIER)
        assert getattr(collapse, name)(moments, classifier=scaled) == expected
    else:
        assert getattr(collapse, name)(scaled) == getattr(collapse, name)(CLASSIFIER)


@settings(max_examples=40, deadline=None)
@given(st.integers(-450, 480))
def test_reports_have_no_scale_where_squares_fit(exponent):
    """Class moments hold squares, which end at 2**1023 and lose digits under 2**-1022."""
    expected = collapse_report(FEATURES, LABELS, classifier=CLASSIFIER)
    report = collapse_report(np.ldexp(FEATURES, exponent), LABELS, classifier=CLASSIFIER)
    for name in ("nc2", "nc3", "nc4", "pfc1", "pfc2", "pfc3", "cdnv_mean", "variance_explained"):
        assert getattr(report, name) == getattr(expected, name), name
    close(report.nc1, expected.nc1, 1e-13)
    matrix = collapse.cdnv_matrix(np.ldexp(FEATURES, exponent), LABELS)
    np.testing.assert_array_equal(matrix, collapse.cdnv_matrix(FEATURES, LABELS))


def test_a_report_of_huge_features_has_no_nan():
    for scale in (1e77, 1e-100):
        report = collapse_report(scale * FEATURES, LABELS)
        close(report.pfc2, collapse.pfc2(FEATURES, LABELS), 1e-13)


@settings(max_examples=40, deadline=None)
@given(EXPONENTS)
def test_layer_coordinates_have_no_scale(exponent):
    layers = np.random.default_rng(0).standard_normal((4, 30, 5))
    expected = collapse.layer_coordinates(layers)
    np.testing.assert_array_equal(collapse.layer_coordinates(np.ldexp(layers, exponent)), expected)


def test_layers_at_both_ends_of_the_range():
    largest = np.full((3, 2), np.finfo(float).max)
    coordinates = collapse.layer_coordinates([largest, -largest, largest])
    np.testing.assert_array_equal(coordinates, [0.0, 0.5, 1.0])


# Offset -------------------------------------------------------------------------------------------


def exact_report(features, labels, num_classes, others, other_labels):
    """PFC1, strong test collapse, and NC1 of two classes, in fractions of the same numbers."""
    rows = [[Fraction(float(x)) for x in row] for row in features]
    classes = [
        [row for row, y in zip(rows, labels, strict=True) if y == c] for c in range(num_classes)
    ]
    means = [[sum(column) / len(some) for column in zip(*some, strict=True)] for some in classes]
    centre = [sum(column) / num_classes for column in zip(*means, strict=True)]
    centred = [[m - c for m, c in zip(mean, centre, strict=True)] for mean in means]
    trace_between = sum(x * x for row in centred for x in row) / num_classes

    def mean_square(samples, sample_labels):
        total = Fraction(0)
        for row, y in zip(samples, sample_labels, strict=True):
            total += sum((x - m) ** 2 for x, m in zip(row, means[y], strict=True))
        return total / len(samples)

    pfc1 = mean_square(rows, labels) / trace_between
    tests = [[Fraction(float(x)) for x in row] for row in others]
    strong = mean_square(tests, other_labels) / trace_between
    # Two centred means are one direction u: NC1 = mean (u . (h - mu))^2 / |u|^2 / tr Sigma_B / 2.
    u = centred[0]
    along = sum(
        sum(a * (x - m) for a, x, m in zip(u, row, means[y], strict=True)) ** 2
        for row, y in zip(rows, labels, strict=True)
    )
    nc1 = along / len(rows) / sum(a * a for a in u) / trace_between / 2
    return float(nc1), float(pfc1), float(strong)


@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e6, 1e8])
@pytest.mark.parametrize("noise", [1e-1, 1e-5, 1e-9])
def test_digits_survive_any_offset(offset, noise):
    """NC1 from samples and strong test collapse, as exact as NC1 from the scatter."""
    rng = np.random.default_rng([int(offset), int(1 / noise)])
    dim, labels = 5, np.arange(60) % 2
    means = offset + np.array([np.zeros(dim), rng.standard_normal(dim)])
    features = means[labels] + noise * rng.standard_normal((60, dim))
    others = means[labels] + noise * rng.standard_normal((60, dim))
    nc1, pfc1, strong = exact_report(features, labels, 2, others, labels)
    # What the features themselves were rounded to is not the metrics' error.
    streamed = ClassMoments(2, dim, scatter=True)
    streamed.update(features, labels)
    report = collapse_report(features, labels, test_features=others, test_labels=labels)
    for actual, expected in (
        (report.nc1, nc1),
        (collapse.nc1(features, labels, moments=streamed), nc1),
        (collapse.nc1(streamed), nc1),
        (report.pfc1, pfc1),
        (report.strong_test_collapse, strong),
        (report.weak_test_collapse, strong),
    ):
        np.testing.assert_allclose(actual, expected, rtol=2e-14, atol=0.0)


# Directions of the class means --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_classes", "dim"), [(2, 1), (2, 9), (9, 9), (9, 8), (10, 8), (300, 310), (400, 140)]
)
@pytest.mark.parametrize("decay", [1.0, 1e-3, 1e-6, 1e-9])
@pytest.mark.parametrize("global_mean", ["classes", "samples"])
def test_directions_are_those_of_the_singular_values(num_classes, dim, decay, global_mean):
    """From Cholesky factors where these hold, and from LAPACK where they do not."""
    rng = np.random.default_rng([num_classes, dim])
    means = rng.standard_normal((num_classes, dim)) * np.geomspace(1.0, decay, dim)
    counts = rng.integers(1, 5, num_classes) if global_mean == "samples" else np.ones(num_classes)
    centred = means - counts @ means / counts.sum()
    directions, rank = _simplex.between_directions(centred, counts.astype(float), 0.0)
    left, singular, _ = np.linalg.svd(centred.T, full_matrices=False)
    wide = num_classes <= dim
    cut = 1e-13 if wide else 1e-7
    expected = min(num_classes - 1, dim)
    if singular[expected - 1] < 10 * cut * singular[0]:
        return  # the rank is a matter of rounding
    assert rank == expected
    rows = left[:, :rank].T * singular[:rank, None]  # in the span, of the size of the means
    actual = ((rows @ directions) ** 2).sum(axis=1)
    # |row D|^2 = 1; rounding of the means is as much as the ratio of the singular values, and for
    # K > d, where LAPACK has the squares, its square.
    ratio = singular[0] / singular[rank - 1]
    bound = 1e-14 * num_classes * ratio
    if not wide and ratio > 1e5:
        bound = 1e-14 * ratio**2
    np.testing.assert_allclose(actual, 1.0, rtol=0, atol=max(bound, 1e-12))


def test_factors_in_many_panels():
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((300, 400))
    gram = rows @ rows.T
    factor = _simplex.cholesky(gram.copy())
    np.testing.assert_allclose(np.tril(factor), np.linalg.cholesky(gram), atol=1e-11)
    right = rng.standard_normal((300, 7))
    for transposed, matrix in ((False, np.tril(factor)), (True, np.tril(factor).T)):
        solution = _simplex.solve_triangular(factor, right, transposed=transposed)
        np.testing.assert_allclose(matrix @ solution, right, atol=1e-11)
    assert _simplex.cholesky(-np.eye(300)) is None


def test_directions_answer_interrupts():
    moments = moments_of_means(np.random.default_rng(0).standard_normal((1000, 1024)))
    ranks = lambda: [collapse.between_rank(moments) for _ in range(100)]  # noqa: E731
    assert seconds_after_interrupt(ranks) < LIMIT


def test_progress_of_every_metric():
    features = np.random.default_rng(0).standard_normal((40, 3))
    for metric in (
        *(
            collapse.nc2,
            collapse.pfc2,
            collapse.nc1,
            collapse.between_rank,
            collapse.equiangularity,
        ),
        lambda *a, **k: collapse.cdnv(*a, power=1.5, **k),
        collapse.cdnv,
    ):
        calls = []
        metric(
            moments_of(features, np.arange(40) % 20, scatter=True),
            progress=lambda *call, calls=calls: calls.append(call),
        )
        assert calls
        done, total, stage = calls[-1]
        assert done == total
        assert isinstance(stage, str)


def test_no_value_is_an_error_and_not_a_number():
    for scale in (1e200, 1e-200):
        with pytest.raises(UndefinedMetric, match="coincide"):
            collapse.nc2(np.full((4, 3), scale), [0, 0, 1, 1])
