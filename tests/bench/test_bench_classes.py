import importlib.util
import json
from dataclasses import replace

import numpy as np
import pytest

import reference

# Of the optional peers, those that are installed.
OPTIONAL = tuple(name for name in ("torch", "neural_collapse") if importlib.util.find_spec(name))
LIBRARIES = ("infall", "scipy", "sklearn", *OPTIONAL)


@pytest.fixture
def classes(harness):
    return importlib.import_module("classes")


@pytest.fixture
def class_peers(harness):
    return importlib.import_module("class_peers")


@pytest.fixture
def accuracy(harness):
    return importlib.import_module("classes_accuracy")


@pytest.fixture
def results(classes):
    """What the cases of one library find: pairs of case and result."""

    def of(problem, library):
        cases = [case for case in problem.cases if case.library == library]
        return [(case, getattr(classes, case.function)(**case.arguments)()) for case in cases]

    return of


def tolerance(case):
    double = "float64" in case.name or case.library == "infall"
    return 1e-12 if double else 1e-3


def test_features_are_rounded_once_and_lie_about_the_class_means(classes):
    features, labels = classes.labelled_features(4000, 20, 7, noise=1e-3, offset=100.0)
    assert features.dtype == np.float32
    assert features.shape == (4000, 20)
    counts, means, variances, _ = reference.class_moments(features, labels, 7)
    assert set(counts) == {571, 572}
    np.testing.assert_allclose(variances, 20e-6, rtol=0.1)
    assert 90 < means.mean() < 110
    assert means.std() == pytest.approx(1.0, rel=0.3)
    again, _ = classes.labelled_features(4000, 20, 7, noise=1e-3, offset=100.0)
    np.testing.assert_array_equal(features, again)


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_find_the_same_nc1(classes, results, library):
    sizes = classes.Sizes(600, 20, 5)
    features, labels = classes.labelled_features(*sizes)
    within, between, _ = reference.within_and_between(features, labels)
    expected = reference.nc1(within, between, rank=4, num_classes=5)
    actual = results(classes.nc1("test", sizes, 2, 1), library)
    assert actual
    for case, value in actual:
        assert value == pytest.approx(expected, rel=tolerance(case)), case.name


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_find_the_same_moments(classes, results, library):
    sizes = classes.Sizes(600, 20, 15)
    features, labels = classes.labelled_features(*sizes)
    _, means, variances, within = reference.class_moments(features, labels, 15)
    problems = [
        classes.moments("test", sizes, 2, 1),
        classes.one_hot_moments(sizes, 2),
        classes.streaming(sizes, 2, 1),
    ]
    pairs = [pair for problem in problems for pair in results(problem, library)]
    assert pairs or library == "sklearn"
    for case, moments in pairs:
        rtol = tolerance(case)
        np.testing.assert_allclose(moments[0], means, rtol=rtol, atol=rtol)
        np.testing.assert_allclose(moments[1], variances, rtol=rtol)
        if len(moments) > 2 and moments[2] is not None:
            np.testing.assert_allclose(moments[2], within, rtol=rtol, atol=rtol * 0.01)


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_find_the_same_cdnv(classes, results, library):
    num_classes, dim = 90, 20  # more than one of the peers' tiles
    means, deviations = classes.mirrored_samples(num_classes, dim)
    means, deviations = means.astype(np.float64), deviations.astype(np.float64)
    matrix = reference.cdnv_matrix(means, (deviations**2).sum(axis=1))
    expected = matrix.sum() / (num_classes * (num_classes - 1))
    for case, value in results(classes.cdnv(num_classes, dim, 2, 1), library):
        mean = value.mean if library == "infall" else value
        # The samples themselves are rounded to float32.
        assert mean == pytest.approx(expected, rel=1e-6), case.name


@pytest.mark.parametrize("library", LIBRARIES)
def test_all_find_the_same_decisions(classes, class_peers, monkeypatch, results, library):
    monkeypatch.setattr(classes, "NOISE", 1.0)  # some samples are nearest to another class
    monkeypatch.setattr(class_peers, "SCORE_ROWS", 2**7)
    sizes = classes.Sizes(300, 20, 40)
    features, labels = classes.labelled_features(*sizes)
    _, means, _, _ = reference.class_moments(features, labels, 40)
    weights, bias = classes.classifier_of(40, 20)
    samples = features.astype(np.float64)
    predicted = (samples @ weights.T.astype(np.float64) + bias).argmax(axis=1)
    expected = np.mean(reference.nearest_means(samples, means) != predicted)
    assert 0 < expected < 1
    for case, value in results(classes.nc4(sizes, 2, 1), library):
        assert case.ceiling or value == pytest.approx(expected, abs=0.5 / 300), case.name


def test_merges_are_those_of_all_samples(classes, class_peers):
    features, labels = classes.labelled_features(700, 9, 4)
    parts = []
    for rows in (slice(0, 300), slice(300, 700)):
        counts, means, variances, _ = reference.class_moments(features[rows], labels[rows], 4)
        parts.append((counts, means, counts * variances))
    counts, means, squares = class_peers.numpy_merge(*parts)
    expected = reference.class_moments(features, labels, 4)
    np.testing.assert_array_equal(counts, expected[0])
    np.testing.assert_allclose(means, expected[1], rtol=1e-13)
    np.testing.assert_allclose(squares / counts, expected[2], rtol=1e-13)
    for case in classes.merging(8, 3, 1).cases:
        getattr(classes, case.function)(**case.arguments)()


def test_two_reads_look_at_every_feature(classes):
    features, _ = classes.labelled_features(30, 6, 3)
    words = np.bitwise_or.reduce(features.ravel().view(np.int64))
    shares = classes.two_reads(30, 6, 3, threads=4)()
    assert len(shares) == 2
    assert all(np.bitwise_or.reduce(parts) == words for parts in shares)
    assert all(len(parts) == 4 for parts in shares)


def test_metrics_of_many_classes_run(classes, results):
    (_, cdnv), (_, nc2) = results(classes.many_classes(30, 6, 2), "infall")
    assert cdnv.mean > 0
    assert 0 < nc2 < 2


def test_cases_of_classes_make_a_table(harness, classes):
    problem = classes.nc1("test", classes.Sizes(200, 12, 4), 2, 2)
    names = ["ClassMoments, nc1", "SciPy d x d float32, pinvh", "two reads of the features"]
    chosen = replace(problem, cases=[case for case in problem.cases if case.name in names])
    measured = harness.measure("classes", chosen)
    single_thread, several, peer, ceiling = measured["cases"]
    assert [case["status"] for case in measured["cases"]] == ["ok"] * 4
    assert single_thread["ratio"] == several["ratio"] == 1
    assert peer["ratio"] == peer["seconds_min"] / several["seconds_min"]
    assert several["share"] == several["rate"] / ceiling["rate"]
    assert ceiling["ratio"] is None
    assert "| of ceiling |" in harness.markdown(
        {"machine": harness.machine(), "stems": {"classes": [measured]}}
    )


def test_problems_of_classes_are_distinct_and_their_cases_exist(classes, class_peers, accuracy):
    for quick in (True, False):
        for threads in (1, 2):
            problems = classes.problems(quick=quick, threads=threads)
            assert len({problem.name for problem in problems}) == len(problems)
            for problem in problems:
                keys = [(case.name, case.threads) for case in problem.cases]
                assert len(set(keys)) == len(keys)
                for case in problem.cases:
                    assert callable(getattr(classes, case.function))
                    assert callable(getattr(class_peers, case.arguments.get("peer", "row_blocks")))
        (table,) = accuracy.problems(quick=quick, threads=2)
        assert len({case.name for case in table.cases}) == len(table.cases)
        for case in table.cases:
            assert case.arguments["method"] in accuracy.METHODS


def test_reference_of_the_errors_is_right_where_collapse_is_deepest(classes, accuracy):
    for offset in accuracy.OFFSETS:
        features, labels = classes.labelled_features(3000, 12, 5, accuracy.NOISES[-1], offset)
        reference = accuracy.reference_values(features, labels, 5)
        samples = features.astype(np.longdouble)
        means = np.array([samples[labels == c].mean(axis=0) for c in range(5)])
        deviations = samples - means[labels]
        trace = (deviations**2).sum() / 3000
        assert reference.trace == pytest.approx(float(trace), rel=1e-12)
        # (C C^T)^+ C h, for C h has no part along the ones vector, by which C C^T is made regular.
        centred = means - means.mean(axis=0)
        gram = (centred @ centred.T + 1.0).astype(np.float64)
        along = (centred @ deviations.T).astype(np.float64)
        assert reference.nc1 == pytest.approx(
            (np.linalg.solve(gram, along) ** 2).sum() / 3000, rel=1e-9
        )


def test_engine_keeps_its_digits_where_the_textbook_loses_them(harness, accuracy):
    table = accuracy.errors(2000, 16, 5, threads=1)
    assert len(table.columns) == 8
    assert table.columns[0] == "1e-01, offset 0"
    assert table.columns[-1] == "1e-07, offset 100"
    libraries = ("infall", "scipy")
    chosen = replace(table, cases=[case for case in table.cases if case.library in libraries])
    tabulated = harness.tabulate("classes_accuracy", chosen)
    for case in tabulated["cases"]:
        assert case["status"] == "ok", case["name"]
        assert list(case["errors"]) == ["NC1", "tr Σ_W", "CDNV"]
        for errors in case["errors"].values():
            assert len(errors) == 8
            if case["role"] == "engine":
                assert max(errors) < 1e-8, case["name"]
            elif "E[h" in case["name"]:
                assert errors[-1] is None or errors[-1] > 1e-2, case["name"]
    assert json.loads(json.dumps(tabulated)) == tabulated


@pytest.mark.parametrize("library", ["sklearn", *OPTIONAL])
def test_other_peers_have_errors_of_float32(accuracy, library):
    table = accuracy.errors(600, 16, 5, threads=1)
    cases = [case for case in table.cases if case.library == library]
    assert cases
    for case in cases:
        for errors in accuracy.method_errors(**case.arguments)().values():
            assert errors[0] < 1e-4  # noise of 1e-1, no offset


def test_relative_errors(accuracy):
    assert accuracy.relative_error(0.0, 0.0) == 0.0
    assert accuracy.relative_error(3.0, 2.0) == 0.5
    assert accuracy.relative_error(1.0, 0.0) is None
    assert accuracy.relative_error(np.nan, 2.0) is None
    assert accuracy.relative_error(np.inf, 2.0) is None
