"""The metrics of neural collapse: definitions, known answers, invariances, deep collapse."""

import math
from itertools import pairwise

import numpy as np
import pytest
import scipy.linalg
import scipy.spatial
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

import reference
from collapse_samples import ALL_FIELDS, SHAPES, close, moments_of, sample, simplex
from infall import ClassMoments, collapse, collapse_report
from infall._arrays.blocks import blocks_of
from infall.collapse import METRICS, UndefinedMetric

# Definitions --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("num_classes", "dim"), SHAPES)
@pytest.mark.parametrize("weighting", ["samples", "classes"])
@pytest.mark.parametrize("global_mean", ["classes", "samples"])
def test_every_metric_is_its_definition(num_classes, dim, weighting, global_mean):
    features, labels, classifier, bias = sample(num_classes, dim)
    test_features, test_labels, *_ = sample(num_classes, dim, seed=1)
    report = collapse_report(
        *(features, labels),
        classifier=classifier,
        bias=bias,
        weighting=weighting,
        global_mean=global_mean,
        test_features=test_features,
        test_labels=test_labels,
    )
    within, between, centred = reference.within_and_between(
        features, labels, weighting, global_mean
    )
    rank = min(num_classes - 1, dim)
    assert report.rank == rank
    assert not report.missing
    close(report.trace_within, np.trace(within))
    close(report.trace_between, np.trace(between))
    close(report.nc1, reference.nc1(within, between, rank, num_classes), 1e-10)
    close(report.pfc1, np.trace(within) / np.trace(between))
    units = reference.unit_rows(centred)
    close(report.nc2, reference.simplex_distance(units @ units.T), 1e-7)  # of the reference
    close(report.pfc2, reference.simplex_distance(centred @ centred.T), 1e-7)
    close(report.nc3, reference.simplex_distance(classifier @ units.T), 1e-10)
    scaled = classifier / np.linalg.norm(classifier)
    close(report.nc3_papyan, np.linalg.norm(scaled - units / np.sqrt(num_classes)) ** 2)
    moments = moments_of(features, labels)
    own_lengths = collapse.nc3_papyan(
        moments, classifier=classifier, global_mean=global_mean, unit_means=False
    )
    close(own_lengths, np.linalg.norm(scaled - centred / np.linalg.norm(centred)) ** 2)

    for prefix, vectors in (("", centred), ("classifier_", classifier)):
        lengths = np.linalg.norm(vectors, axis=1)
        close(getattr(report, f"{prefix}equinorm"), lengths.std() / lengths.mean())
        cosines = reference.off_diagonal(
            reference.unit_rows(vectors) @ reference.unit_rows(vectors).T
        )
        close(getattr(report, f"{prefix}equiangularity_std"), cosines.std(), 1e-7)
        largest = cosines.max() + 1.0 / (num_classes - 1)
        close(getattr(report, f"{prefix}equiangularity_max"), largest)

    counts, means, variances, _ = reference.class_moments(features, labels, num_classes)
    cdnv = reference.cdnv_matrix(means, variances)
    pairs = reference.off_diagonal(cdnv)
    close(report.cdnv_mean, pairs.mean())
    close(report.cdnv_max, pairs.max())
    close(report.cdnv_min, pairs.min())
    close(cdnv[report.cdnv_max_pair], pairs.max())

    nearest = reference.nearest_means(features, means)
    close(report.pfc3, np.mean(nearest == labels))
    close(report.nc4, np.mean(nearest != (features @ classifier.T + bias).argmax(axis=1)))
    weights = {"samples": counts / counts.sum(), "classes": np.full(num_classes, 1 / num_classes)}
    centre = weights[weighting] @ means
    spread = weights[weighting] @ ((means - centre) ** 2).sum(axis=1)
    close(report.variance_explained, spread / (spread + np.trace(within)))

    size = len(features) / num_classes
    target = np.sqrt(size) * (np.eye(num_classes) - 1.0 / num_classes)
    close(report.delta1, np.linalg.norm(classifier @ classifier.T - target))
    close(report.delta2, np.linalg.norm(features - classifier[labels] / np.sqrt(size)))
    close(report.delta3, np.linalg.norm(bias - 1.0 / num_classes))

    near = reference.nearest_means(test_features, means)
    for name, chosen in (("strong", test_labels), ("weak", near)):
        expected = ((test_features - means[chosen]) ** 2).sum(axis=1).mean() / np.trace(between)
        close(getattr(report, f"{name}_test_collapse"), expected)
    close(report.test_ncc_error, np.mean(near != test_labels))


@pytest.mark.parametrize("weighting", ["samples", "classes"])
@pytest.mark.parametrize("global_mean", ["classes", "samples"])
def test_functions_give_what_the_report_gives(weighting, global_mean):
    features, labels, classifier, bias = sample(6, 9)
    others, other_labels, *_ = sample(6, 9, seed=1)
    report = collapse_report(
        *(features, labels),
        classifier=classifier,
        bias=bias,
        weighting=weighting,
        global_mean=global_mean,
        test_features=others,
        test_labels=other_labels,
    )
    moments = moments_of(features, labels)
    both = {"weighting": weighting, "global_mean": global_mean}
    centre = {"global_mean": global_mean}
    assert report.nc1 == collapse.nc1(features, labels, moments=moments, **both)
    assert report.nc1 == collapse.nc1(features, labels, **both)
    assert report.rank == collapse.between_rank(moments, **centre)
    assert report.pfc1 == collapse.pfc1(moments, **both)
    assert report.variance_explained == collapse.variance_explained(moments, weighting=weighting)
    for name in ("nc2", "pfc2"):
        assert getattr(report, name) == getattr(collapse, name)(moments, **centre)
    for name in ("nc3", "nc3_papyan"):
        assert getattr(report, name) == getattr(collapse, name)(
            moments, classifier=classifier, **centre
        )
    assert report.nc4 == collapse.nc4(features, labels, classifier=classifier, bias=bias)
    assert report.nc4 == collapse.nc4(features, classifier=classifier, bias=bias, moments=moments)
    assert report.pfc3 == collapse.pfc3(features, labels)
    assert report.test_ncc_error == collapse.ncc_error(others, other_labels, moments=moments)
    cdnv = collapse.cdnv(moments)
    assert cdnv.pair == report.cdnv_max_pair
    # Distances do not depend on the centre, but for their rounding.
    for name in ("mean", "max", "min"):
        close(getattr(cdnv, name), getattr(report, f"cdnv_{name}"), 1e-14)
    if global_mean == "classes":
        assert report.equinorm == collapse.equinorm(moments)
        angles = collapse.equiangularity(moments)
        assert angles == (report.equiangularity_std, report.equiangularity_max)
        on_test = collapse.collapse_on_test(moments, test_features=others, test_labels=other_labels)
        assert on_test[:2] == (report.strong_test_collapse, report.weak_test_collapse)
    assert report.classifier_equinorm == collapse.equinorm(classifier)
    assert report.classifier_equiangularity_max == collapse.equiangularity(classifier).max
    residuals = collapse.strong_residuals(moments, classifier=classifier, bias=bias)
    assert residuals == (report.delta1, report.delta2, report.delta3)


@pytest.mark.parametrize("power", [0.5, 1.0, 2.0, 3.0])
@pytest.mark.parametrize(("num_classes", "dim"), SHAPES)
def test_cdnv_with_any_power_of_the_distance(num_classes, dim, power):
    features, labels, *_ = sample(num_classes, dim)
    moments = moments_of(features, labels)
    distances = np.linalg.norm(moments.means[:, None] - moments.means, axis=-1)
    np.fill_diagonal(distances, 1.0)
    values = (moments.variances[:, None] + moments.variances) / (2.0 * distances**power)
    np.fill_diagonal(values, 0.0)
    matrix = collapse.cdnv_matrix(moments, power=power)
    np.testing.assert_allclose(matrix, values, rtol=1e-11)
    cdnv = collapse.cdnv(moments, power=power)
    pairs = reference.off_diagonal(values)
    np.testing.assert_allclose(cdnv[:2], (pairs.mean(), pairs.max()), rtol=1e-11)
    np.testing.assert_allclose(cdnv.min, pairs.min(), rtol=1e-11)
    assert cdnv.pair[0] < cdnv.pair[1]
    close(matrix[cdnv.pair], cdnv.max)


def test_within_covariance_of_scikit_learn():
    """An independent program: linear discriminant analysis, and SciPy's pseudo-inverse."""
    features, labels, *_ = sample(8, 11, seed=4, size=30)
    analysis = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True)
    analysis.fit(features, labels)
    report = collapse_report(features, labels)
    close(report.trace_within, np.trace(analysis.covariance_), 1e-12)
    centred = analysis.means_ - analysis.means_.mean(axis=0)
    inverse = scipy.linalg.pinvh(centred.T @ centred / 8, rtol=1e-10)
    close(report.nc1, np.trace(analysis.covariance_ @ inverse) / 8, 1e-10)
    moments = moments_of(features, labels, scatter=True)
    close(collapse.nc1(moments), np.trace(analysis.covariance_ @ inverse) / 8, 1e-10)
    correlation = np.corrcoef(centred)  # of centred rows in d dimensions: not the cosines
    cosines = 1.0 - scipy.spatial.distance.pdist(centred, "cosine")
    assert not np.isclose(correlation[0, 1], cosines[0])
    close(report.equiangularity_std, cosines.std(), 1e-10)
    distances = scipy.spatial.distance.pdist(analysis.means_, "sqeuclidean")
    sums = [a + b for i, a in enumerate(moments.variances) for b in moments.variances[i + 1 :]]
    close(report.cdnv_mean, np.mean(np.array(sums) / (2.0 * distances)), 1e-12)


# Known answers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("num_classes", "dim"), [(2, 1), (2, 7), (3, 2), (10, 9), (10, 64), (65, 64), (200, 256)]
)
@pytest.mark.parametrize("offset", [0.0, 100.0])
def test_a_simplex_is_at_distance_zero(num_classes, dim, offset):
    means = simplex(num_classes, dim)
    moments = moments_of(means + offset, np.arange(num_classes))
    # With an offset the features themselves are rounded, to 1e-14.
    bound = 1e-12 if offset == 0.0 else 1e-11
    assert collapse.nc2(moments) <= bound
    assert collapse.pfc2(moments) <= bound
    assert collapse.equinorm(moments) <= bound
    angles = collapse.equiangularity(moments)
    assert angles.std <= bound
    assert abs(angles.max) <= bound
    for scale in (1.0, 1e-3):
        assert collapse.nc3(moments, classifier=scale * means) <= bound
        assert collapse.nc3_papyan(moments, classifier=scale * means) <= bound
    close(collapse.nc3(moments, classifier=-means), 2.0, 1e-12)
    close(collapse.nc3_papyan(moments, classifier=-means), 4.0, 1e-12)


@pytest.mark.parametrize("distance", [1e-3, 1e-6, 1e-9, 1e-11])
def test_small_distances_are_not_lost(distance):
    """Where 2 - 2 cos would end at 1e-8: proportional to the perturbation all the way down."""
    means = simplex(10, 32)
    change = np.random.default_rng(1).standard_normal(means.shape)
    change -= change.mean(axis=0)
    distances = [
        collapse.nc2(moments_of(means + scale * change, np.arange(10)))
        for scale in (distance, 1e-3)
    ]
    close(distances[0] / distance, distances[1] / 1e-3, 0.02)


def test_orthogonal_frames_and_others():
    frame = np.linalg.qr(np.random.default_rng(2).standard_normal((12, 12)))[0][:6]
    moments = moments_of(3.0 * frame, np.arange(6))
    assert collapse.nc2(moments) <= 1e-12  # centred, an orthogonal frame is a simplex
    assert collapse.nc3(moments, classifier=frame) <= 1e-12  # A is not centred, and need not be
    angles = collapse.equiangularity(frame)
    close(angles.max, 1.0 / 5.0)
    assert angles.std < 1e-8
    # Centred at the origin, the 2 m vectors of a cross-polytope: G has m eigenvalues 2.
    m = 4
    cross = np.concatenate([np.eye(m), -np.eye(m)])
    cosine = math.sqrt(m / (2 * m - 1))
    expected = 2.0 * math.sin(math.acos(cosine) / 2.0)
    close(collapse.nc2(moments_of(cross, np.arange(2 * m))), expected, 1e-14)
    assert collapse.equiangularity(cross).max == 1.0 / (2 * m - 1)


@pytest.mark.parametrize("dim", [1, 2, 3, 7])
def test_too_few_dimensions_for_a_simplex(dim):
    rng = np.random.default_rng(dim)
    bound = 2.0 * math.sin(math.acos(math.sqrt(dim / 8.0)) / 2.0)
    for _ in range(20):
        moments = moments_of(rng.standard_normal((9, dim)), np.arange(9))
        assert collapse.nc2(moments) >= bound - 1e-14
        assert collapse.pfc2(moments) >= bound - 1e-14
    assert collapse_report(moments).rank is None
    assert collapse.between_rank(moments) == dim


def test_two_classes_by_hand():
    features = np.array([[1.5], [0.5], [-1.5], [-0.5]])
    labels = np.array([0, 0, 1, 1])
    report = collapse_report(
        *(features, labels),
        classifier=[[1.0], [-1.0]],
        bias=[0.0, 1.5],
        test_features=[[2.0], [-0.25], [1.0], [-1.0]],
        test_labels=[0, 0, 0, 1],
    )
    assert (report.trace_within, report.trace_between, report.rank) == (0.25, 1.0, 1)
    close(report.nc1, 0.125, 1e-15)
    assert (report.pfc1, report.variance_explained) == (0.25, 0.8)
    assert (report.nc2, report.pfc2, report.nc3) == (0.0, 0.0, 0.0)
    assert (report.cdnv_mean, report.cdnv_max, report.cdnv_max_pair) == (0.0625, 0.0625, (0, 1))
    assert (report.pfc3, report.nc4) == (1.0, 0.25)  # h = 0.5 is given to the second class
    close(report.strong_test_collapse, (1.0 + 1.25**2 + 0.0 + 0.0) / 4, 1e-15)
    close(report.weak_test_collapse, (1.0 + 0.75**2 + 0.0 + 0.0) / 4, 1e-15)
    assert report.test_ncc_error == 0.25


def test_weights_of_samples_and_of_classes():
    features = np.array([[1.0], [-1.0], [10.0], [10.0], [13.0], [7.0]])
    labels = np.array([0, 0, 1, 1, 1, 1])  # variances 1 and 4.5
    by_samples = collapse_report(features, labels)
    by_classes = collapse_report(features, labels, weighting="classes")
    close(by_samples.trace_within, (2 * 1.0 + 4 * 4.5) / 6, 1e-15)
    assert by_classes.trace_within == (1.0 + 4.5) / 2
    assert by_samples.pfc1 == by_samples.trace_within / 25.0
    close(by_samples.nc1, by_samples.trace_within / 25.0 / 2)
    close(by_classes.nc1, by_classes.trace_within / 25.0 / 2)
    off_centre = collapse_report(features, labels, global_mean="samples")
    close(off_centre.trace_between, ((20 / 3) ** 2 + (10 / 3) ** 2) / 2)


def test_strong_collapse_has_no_residuals():
    for num_classes, size in ((3, 4), (10, 7), (2, 1)):
        classifier = size**0.25 * (np.eye(num_classes, num_classes + 2) - 0.0)
        classifier[:, :num_classes] -= size**0.25 / num_classes
        labels = np.repeat(np.arange(num_classes), size)
        features = classifier[labels] / math.sqrt(size)
        residuals = collapse.strong_residuals(
            moments_of(features, labels),
            classifier=classifier,
            bias=np.full(num_classes, 1.0 / num_classes),
        )
        assert max(residuals) < 1e-14
        moved = collapse.strong_residuals(moments_of(features + 1.0, labels), classifier=classifier)
        close(moved.delta2, math.sqrt(features.size), 1e-12)
        assert moved.delta3 is None


def test_coincident_class_means():
    """Two of four classes coincide: the rank is one lower, and only their pair is infinite."""
    means = np.eye(3, 6)[[0, 1, 2, 2]]
    features = np.concatenate([means + 0.25, means - 0.25])
    labels = np.tile(np.arange(4), 2)
    report = collapse_report(features, labels)
    assert report.rank == 2
    assert (report.cdnv_max, report.cdnv_max_pair, report.cdnv_mean) == (math.inf, (2, 3), math.inf)
    assert report.cdnv_min == 6 * 0.0625 / 2.0
    within, between, _ = reference.within_and_between(features, labels)
    close(report.nc1, reference.nc1(within, between, 2, 4))
    assert report.nc2 > 0.1
    assert not {"nc1", "nc2", "cdnv", "pfc1", "pfc2"} & set(report.missing)
    cdnv = collapse.cdnv(moments_of(features, labels), power=1.0)
    assert (cdnv.max, cdnv.pair) == (math.inf, (2, 3))
    # Nearly coincident means do not cancel, under an offset either.
    means[3, 2] += 2.0**-20
    moments = moments_of(np.concatenate([means + 0.25, means - 0.25]) + 64.0, labels)
    close(collapse.cdnv(moments).max, 6 * 0.0625 / 2.0**-40, 1e-9)
    assert collapse.between_rank(moments) == 3


@pytest.mark.parametrize("seed", range(5))
def test_means_that_coincide_up_to_rounding(seed):
    """Equal but for the order of the sums: no direction of Sigma_B is made of rounding errors."""
    rng = np.random.default_rng(seed)
    cloud = rng.standard_normal((40, 8))
    clouds = [rng.permutation(cloud), rng.permutation(cloud), rng.permutation(cloud) + 1.0]
    labels = np.repeat(np.arange(3), 40)
    assert collapse_report(np.concatenate(clouds), labels).rank == 1
    report = collapse_report(np.concatenate(clouds[:2]), labels[:80])
    assert report.rank == 0
    for name in ("nc1", "nc2", "pfc1", "pfc2", "equinorm"):
        assert getattr(report, name) is None
        assert "coincide" in report.missing[name]


def test_classes_of_one_sample_have_no_variance():
    features = np.random.default_rng(0).standard_normal((5, 8))
    report = collapse_report(features, np.arange(5))
    assert report.single_sample_classes == 5
    assert (report.nc1, report.pfc1, report.cdnv_max, report.trace_within) == (0.0, 0.0, 0.0, 0.0)
    assert (report.pfc3, report.variance_explained) == (1.0, 1.0)
    assert "classes with one sample: 5" in repr(report)
    collapsed = collapse_report(np.repeat(features, 3, axis=0), np.repeat(np.arange(5), 3))
    assert (collapsed.nc1, collapsed.single_sample_classes) == (0.0, 0)


def test_one_class_has_no_geometry():
    features = np.random.default_rng(0).standard_normal((5, 3))
    report = collapse_report(features, [2] * 5, classifier=np.ones((3, 3)))
    assert report.empty_classes == (0, 1)
    assert (report.num_classes, report.num_observed) == (3, 1)
    assert report.missing["nc2"] == "there is 1 class with samples; expected at least 2"
    assert {*METRICS} - {*report.missing} == {
        "pfc3",
        "nc4",
        "variance_explained",
        "strong_residuals",
    }
    assert (report.pfc3, report.variance_explained, report.trace_between) == (1.0, 0.0, None)
    assert report.trace_within > 0.0
    for metric in (collapse.nc1, collapse.nc2, collapse.pfc1, collapse.pfc2, collapse.cdnv):
        with pytest.raises(UndefinedMetric, match="at least 2"):
            metric(moments_of(features, [0] * 5))


def test_a_mean_at_the_global_mean_has_no_direction():
    features = np.array([[1.0, 0.0], [-1.0, 0.0], [0.0, 0.0]])
    report = collapse_report(features, np.arange(3), classifier=np.ones((3, 2)))
    for name in ("nc2", "nc3", "nc3_papyan"):
        assert report.missing[name] == "the mean of class 2 coincides with the global mean"
    assert report.nc2 is report.nc3 is report.equiangularity_max is None
    close(report.pfc2, reference.simplex_distance(features @ features.T))
    assert report.missing["equiangularity"] == "vector 2 is zero and has no direction"


def test_zero_classifiers():
    features, labels, *_ = sample(4, 6)
    report = collapse_report(features, labels, classifier=np.zeros((4, 6)))
    assert report.missing["nc3"] == "the product of classifier and class means is zero"
    assert report.missing["nc3_papyan"] == "the classifier is zero"
    assert report.missing["classifier_equinorm"] == "all vectors are zero"
    assert report.nc4 is not None


def test_classes_without_samples_are_left_out():
    features, labels, classifier, bias = sample(5, 7)
    spread = np.array([1, 2, 4, 7, 8])
    wide, wide_bias = np.zeros((10, 7)), np.full(10, -1e9)
    wide[spread], wide_bias[spread] = classifier, bias
    report = collapse_report(features, spread[labels], classifier=wide, bias=wide_bias)
    narrow = collapse_report(features, labels, classifier=classifier, bias=bias)
    assert report.empty_classes == (0, 3, 5, 6, 9)
    assert (report.num_classes, report.num_observed) == (10, 5)
    assert report.cdnv_max_pair == tuple(int(spread[c]) for c in narrow.cdnv_max_pair)
    for field in (f for f in ALL_FIELDS if getattr(narrow, f) is not None):
        assert getattr(report, field) == getattr(narrow, field), field
    # The classifier may choose a class that has no samples; no class mean agrees with it.
    moments = moments_of(features, spread[labels], 10)
    assert collapse.nc4(features, classifier=wide, bias=-wide_bias, moments=moments) == 1.0


# Invariances --------------------------------------------------------------------------------------


@st.composite
def problems(draw):
    num_classes = draw(st.integers(2, 7))
    dim = draw(st.integers(1, 9))
    seed = draw(st.integers(0, 2**32 - 1))
    return (*sample(num_classes, dim, seed, noise=draw(st.sampled_from([0.01, 0.5]))), seed)


def fields_of(features, labels, classifier, bias, rng_seed=0, **options):
    test = np.random.default_rng(rng_seed).permutation(len(features))[:10]
    report = collapse_report(
        *(features, labels),
        classifier=classifier,
        bias=bias,
        test_features=features[test],
        test_labels=labels[test],
        **options,
    )
    return {name: getattr(report, name) for name in ALL_FIELDS}, report


def assert_same(actual, expected, without=(), tolerance=1e-6):
    for name in ALL_FIELDS:
        if name not in without:
            value, other = actual[name], expected[name]
            assert (value is None) == (other is None), name
            if value is not None:
                assert math.isclose(value, other, rel_tol=tolerance, abs_tol=tolerance), (
                    name,
                    value,
                    other,
                )


@settings(max_examples=40, deadline=None)
@given(problems())
def test_order_of_the_samples(problem):
    features, labels, classifier, bias, seed = problem
    order = np.random.default_rng(seed).permutation(len(labels))
    test = slice(0, 3)
    reports = [
        collapse_report(
            *(features[chosen], labels[chosen]),
            classifier=classifier,
            bias=bias,
            test_features=features[test],
            test_labels=labels[test],
        )
        for chosen in (slice(None), order)
    ]
    assert_same(*({name: getattr(r, name) for name in ALL_FIELDS} for r in reports))


@settings(max_examples=40, deadline=None)
@given(problems())
def test_names_of_the_classes(problem):
    features, labels, classifier, bias, seed = problem
    order = np.random.default_rng(seed).permutation(len(bias))  # class order[c] takes number c
    inverse = np.argsort(order)
    expected, report = fields_of(features, labels, classifier, bias)
    actual, other = fields_of(features, inverse[labels], classifier[order], bias[order])
    assert_same(actual, expected)
    assert {int(order[c]) for c in other.cdnv_max_pair} == set(report.cdnv_max_pair)
    named = collapse_report(
        features, [f"class {label}" for label in labels], classes=[f"class {c}" for c in order]
    )
    assert {int(name.split()[1]) for name in named.cdnv_max_pair} == set(report.cdnv_max_pair)


@settings(max_examples=40, deadline=None)
@given(problems())
def test_rotations(problem):
    features, labels, classifier, bias, seed = problem
    dim = features.shape[1]
    turn = np.linalg.qr(np.random.default_rng(seed).standard_normal((dim, dim)))[0]
    expected, _ = fields_of(features, labels, classifier, bias)
    actual, _ = fields_of(features @ turn, labels, classifier @ turn, bias)
    assert_same(actual, expected)


@settings(max_examples=40, deadline=None)
@given(problems(), st.integers(-20, 20), st.integers(-20, 20))
def test_powers_of_two_as_scales_change_no_bit(problem, exponent, classifier_exponent):
    features, labels, classifier, bias, _ = problem
    expected, report = fields_of(features, labels, classifier, 0.0 * bias)
    scale = 2.0**exponent
    actual, scaled = fields_of(
        scale * features, labels, 2.0**classifier_exponent * classifier, 0.0 * bias
    )
    # Only the dense products of LAPACK need not scale to the bit.
    assert_same(actual, expected, tolerance=1e-13)
    assert scaled.trace_within == scale**2 * report.trace_within


@settings(max_examples=40, deadline=None)
@given(problems(), st.floats(-100.0, 100.0))
def test_translations(problem, distance):
    features, labels, classifier, bias, seed = problem
    shift = distance * np.random.default_rng(seed).standard_normal(features.shape[1])
    expected, _ = fields_of(features, labels, classifier, bias)
    actual, _ = fields_of(features + shift, labels, classifier, bias - classifier @ shift)
    assert_same(actual, expected)


# Deep collapse ------------------------------------------------------------------------------------


@pytest.mark.parametrize("noise", [1e-1, 1e-2, 1e-3, 1e-4, 1e-5, 1e-6, 1e-7])
@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize(("num_classes", "dim"), [(10, 64), (40, 16)])
def test_deep_collapse_keeps_eight_digits(noise, offset, num_classes, dim):
    """Against two float64 passes over the same float32 features."""
    rng = np.random.default_rng(0)
    labels = rng.permutation(np.arange(3000) % num_classes)
    means = rng.standard_normal((num_classes, dim))
    exact = means[labels] + noise * rng.standard_normal((3000, dim)) + offset
    features = exact.astype(np.float32)
    within, between, _ = reference.within_and_between(features, labels)
    rank = min(num_classes - 1, dim)
    expected = reference.nc1(within, between, rank, num_classes)
    _, class_means, variances, _ = reference.class_moments(features, labels, num_classes)
    pairs = reference.off_diagonal(reference.cdnv_matrix(class_means, variances))

    report = collapse_report(features, labels)
    streamed = ClassMoments(num_classes, dim, scatter=True)
    for first in range(0, 3000, 512):
        streamed.update(features[first : first + 512], labels[first : first + 512])
    parts = [ClassMoments(num_classes, dim, scatter=True) for _ in range(4)]
    for part, rows in zip(parts, np.array_split(np.arange(3000), 4), strict=True):
        part.update(features[rows], labels[rows])
    for part in parts[1:]:
        parts[0].merge(part)
    for actual in (report, collapse_report(streamed), collapse_report(parts[0])):
        assert actual.rank == rank
        np.testing.assert_allclose(actual.nc1, expected, rtol=1e-8, atol=0.0)
        np.testing.assert_allclose(actual.trace_within, np.trace(within), rtol=1e-8, atol=0.0)
        np.testing.assert_allclose(actual.cdnv_mean, pairs.mean(), rtol=1e-8, atol=0.0)
        np.testing.assert_allclose(actual.cdnv_max, pairs.max(), rtol=1e-8, atol=0.0)


# Layers -------------------------------------------------------------------------------------------


def test_effective_depth():
    errors = [0.5, 0.2, 0.01, 0.0, 0.02]
    assert [collapse.effective_depth(errors, e) for e in (0.0, 0.01, 0.1, 0.5, 1.0)] == [
        4,
        3,
        3,
        1,
        1,
    ]
    assert collapse.effective_depth([0.5, 0.4, 0.3]) == 3
    for bad, error in (
        (-0.1, ValueError),
        (1.5, ValueError),
        (math.nan, ValueError),
        ("x", TypeError),
    ):
        with pytest.raises(error, match="epsilon is"):
            collapse.effective_depth(errors, bad)
    with pytest.raises(ValueError, match="ncc_errors has shape"):
        collapse.effective_depth([])


def test_layer_coordinates():
    rng = np.random.default_rng(0)
    layers = [rng.standard_normal((50, 4)).astype(np.float32) for _ in range(4)]
    steps = [
        np.linalg.norm(b.astype(float) - a.astype(float), axis=1).sum() for a, b in pairwise(layers)
    ]
    expected = np.concatenate([[0.0], np.cumsum(steps)]) / np.sum(steps)
    seen = []
    coordinates = collapse.layer_coordinates(layers, progress=lambda *done: seen.append(done))
    np.testing.assert_allclose(coordinates, expected, rtol=1e-14)
    assert coordinates[-1] == 1.0
    assert seen[-1] == (150, 150, "layers")
    for bad, message in (
        (layers[:1], "layers has 1 entries"),
        ([layers[0], layers[1][:, :3]], r"layers\[1\] has shape \(50, 3\), layers\[0\] \(50, 4\)"),
        ([layers[0], layers[0]], "no sample moves"),
        ([layers[0], layers[1] * np.nan], r"layers\[1\] is not finite"),
    ):
        with pytest.raises(ValueError, match=message):
            collapse.layer_coordinates(bad)


@blocks_of(640)  # bytes: 10 samples
def test_geodesic_prediction():
    first, labels, *_ = sample(4, 8)
    last = simplex(4, 8)[labels] + 1e-3 * first
    times = [0.0, 0.25, 1.0]
    reports = collapse.geodesic_reports(first, last, labels, times)
    for time, report in zip(times, reports, strict=True):
        expected = collapse_report((1.0 - time) * first + time * last, labels)
        for name in ("nc1", "nc2", "pfc1", "pfc2", "pfc3", "cdnv_mean"):
            close(getattr(report, name), getattr(expected, name), 1e-12)
    assert reports[0].pfc1 > reports[1].pfc1 > reports[2].pfc1
    with pytest.raises(ValueError, match=r"last has shape .* expected the same"):
        collapse.geodesic_reports(first, last[:, 1:], labels, times)
    with pytest.raises(ValueError, match=r"times\[1\] is 1.5; expected a number from 0 to 1"):
        collapse.geodesic_reports(first, last, labels, [0.0, 1.5])
