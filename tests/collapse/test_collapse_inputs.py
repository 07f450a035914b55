"""What the metrics of collapse take: labels of any kind, features of any layout and place."""

import copy
import json
import math
import pickle
import tracemalloc

import numpy as np
import pytest

from collapse_samples import ALL_FIELDS, moments_of, sample
from infall import ClassMoments, CollapseReport, collapse, collapse_report
from infall._arrays.blocks import blocks_of
from infall.classes._labels import ClassLabels
from infall.collapse import UndefinedMetric

FEATURES, LABELS, CLASSIFIER, BIAS = sample(4, 6)
NAMES = np.array(["ant", "bee", "cow", "doe"])


def assert_same_values(actual, expected, tolerance=1e-12):
    for name in ALL_FIELDS:
        value, other = getattr(actual, name), getattr(expected, name)
        assert (value is None) == (other is None), name
        assert value is None or math.isclose(value, other, rel_tol=tolerance, abs_tol=1e-13), name


# Labels -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        ([3, 70, 71, 10**6], (3, 70, 71, 10**6)),
        ([-(2**63), -7, 0, 2**63 - 1], (-(2**63), -7, 0, 2**63 - 1)),
        (np.array([5, 2**63, 2**64 - 2, 2**64 - 1], np.uint64), (5, 2**63, 2**64 - 2, 2**64 - 1)),
        (np.array([2, 3, 4, 5], np.int8), (2, 3, 4, 5)),
        ([-1.0, 0.0, 2.0, 7.0], (-1, 0, 2, 7)),
        (NAMES, tuple(NAMES.tolist())),
        (NAMES.astype(object), tuple(NAMES.tolist())),
        (np.array(["0", "1", "10", "2"]), ("0", "1", "10", "2")),
        ([0, 1, 2, 3], None),
    ],
)
def test_classes_are_the_distinct_labels(names, expected):
    expected_report = collapse_report(FEATURES, LABELS)
    labels = np.asarray(names)[LABELS]
    for given in (labels, labels.tolist()):
        report = collapse_report(FEATURES, given)
        assert report.classes == expected
        assert (report.num_classes, report.empty_classes) == (4, ())
        assert_same_values(report, expected_report, 0.0)
        class_numbers = (0, 1, 2, 3) if expected is None else expected
        pair = tuple(class_numbers[c] for c in expected_report.cdnv_max_pair)
        assert report.cdnv_max_pair == collapse.cdnv(FEATURES, given).pair == pair
        assert CollapseReport.from_dict(json.loads(json.dumps(report.to_dict()))) == report


def test_labels_of_two_truth_values():
    labels = LABELS % 2 == 1
    report = collapse_report(FEATURES, labels)
    assert report.classes == (False, True)
    assert report.nc1 == collapse_report(FEATURES, labels.astype(int)).nc1
    rows = collapse_report(FEATURES, labels, classifier=CLASSIFIER[:2])
    assert rows.classes is None


def test_labels_of_pandas():
    pandas = pytest.importorskip("pandas", reason="pandas is not installed")
    expected = collapse_report(FEATURES, LABELS)
    names = pandas.Series(NAMES[LABELS])
    for given in (names, names.astype("category"), pandas.Categorical(names), pandas.Index(names)):
        report = collapse_report(FEATURES, given)
        assert report.classes == tuple(NAMES.tolist())
        assert report.nc1 == expected.nc1
    assert collapse_report(pandas.DataFrame(FEATURES), pandas.Series(LABELS)).nc1 == expected.nc1
    labels = pandas.Series(LABELS).astype("Int64")
    assert collapse_report(FEATURES, labels).nc1 == expected.nc1
    labels[3] = pandas.NA
    with pytest.raises(ValueError, match="labels is nan at position 3; expected whole numbers"):
        collapse_report(FEATURES, labels)


@pytest.mark.parametrize("library", ["torch", "jax.numpy"])
def test_labels_of_other_libraries(library):
    module = pytest.importorskip(library, reason=f"{library} is not installed")
    given = module.asarray(LABELS.astype(np.int32) * 5)
    report = collapse_report(FEATURES, given)
    assert report.classes == (0, 5, 10, 15)
    assert report.nc1 == collapse_report(FEATURES, LABELS).nc1


def test_one_odd_label_is_one_class():
    """Not a million classes without samples, nor their memory."""
    features = np.random.default_rng(0).standard_normal((300, 64))
    labels = np.arange(300) % 3
    for odd in (10**6, 10**9, 2**62, np.uint64(2**64 - 1)):
        converted = labels.astype(np.asarray(odd).dtype)
        converted[7] = odd
        tracemalloc.start()
        report = collapse_report(features, converted)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 2**22
        assert report.classes == (0, 1, 2, int(odd))
        assert report.single_sample_classes == 1


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        ([0.5] * 5, ValueError, r"labels is 0.5 at position 0; expected whole numbers or names"),
        ([0.0, math.nan, 1, 1, 1], ValueError, "labels is nan at position 1"),
        ([0.0, math.inf, 1, 1, 1], ValueError, "labels is inf at position 1"),
        ([0, "a", 1, 1, 1], TypeError, "without a common order .* classes="),
        (np.array([0, None, 1, 1, 1]), ValueError, "labels is None at position 1"),
        ([1j] * 5, TypeError, "labels has dtype complex128; expected integers or text"),
        (np.array(["2020-01-01"] * 5, "M8[D]"), TypeError, "labels has dtype datetime64"),
        (np.eye(5, 3), ValueError, r"labels has shape \(5, 3\); expected \(5,\)"),
        ("abcde", TypeError, "labels is a str; expected one label per sample"),
        ({0, 1, 2}, TypeError, "labels is a set; expected one label per sample"),
        (7, TypeError, "labels is a int; expected one label per sample"),
        (np.ma.masked_equal([0, 1, 1, 0, 1], 0), TypeError, "labels is a masked array"),
        ([[0], [0, 1], [1], [1], [0]], TypeError, "labels is not an array"),
    ],
)
def test_bad_labels_are_named(labels, error, message):
    with pytest.raises(error, match=message):
        collapse.nc2(FEATURES[:5], labels)
    if not isinstance(labels, list):
        with pytest.raises((TypeError, ValueError), match="labels"):
            ClassMoments(3, 6).update(FEATURES[:5], labels)


@pytest.mark.parametrize(
    ("classes", "error", "message"),
    [
        ({"ant", "bee", "cow", "doe"}, TypeError, "expected a sequence of names, whose order"),
        (frozenset(NAMES.tolist()), TypeError, "expected a sequence of names"),
        ("abcd", TypeError, "classes is 'abcd'; expected a sequence of names"),
        (5, TypeError, "classes is 5; expected a sequence of names"),
        ((name for name in NAMES), TypeError, "expected a sequence of names"),
        ([], ValueError, "classes is empty"),
        (["ant", "bee", "ant"], ValueError, r"classes\[2\] is 'ant' a second time"),
        ([["ant"], "bee"], TypeError, r"classes\[0\] is \['ant'\], which is not hashable"),
        (["ant", "bee", "cow"], ValueError, "labels is 'doe' at position"),
    ],
)
def test_bad_names_of_classes(classes, error, message):
    with pytest.raises(error, match=message):
        collapse_report(FEATURES, NAMES[LABELS], classes=classes)


def test_rows_of_a_classifier_name_the_classes():
    order = [2, 0, 3, 1]
    expected = collapse_report(FEATURES, LABELS, classifier=CLASSIFIER, bias=BIAS)
    named = collapse_report(
        FEATURES,
        NAMES[LABELS],
        classes=NAMES[order],
        classifier=CLASSIFIER[order],
        bias=BIAS[order],
    )
    assert named.classes == tuple(NAMES[order].tolist())
    assert_same_values(named, expected)
    assert collapse.nc3(
        FEATURES, NAMES[LABELS], classifier=CLASSIFIER, classes=NAMES
    ) == collapse.nc3(FEATURES, LABELS, classifier=CLASSIFIER)
    with pytest.raises(TypeError, match=r"labels has dtype <U3; expected integers .*classes="):
        collapse_report(FEATURES, NAMES[LABELS], classifier=CLASSIFIER)
    with pytest.raises(ValueError, match=r"labels is 4 at position .*; expected 0 <= label < 4"):
        collapse_report(FEATURES, LABELS + 1, classifier=CLASSIFIER)


def test_labels_of_test_samples_are_those_of_the_classes():
    names = NAMES[LABELS]
    expected = collapse_report(FEATURES, LABELS, test_features=FEATURES, test_labels=LABELS)
    report = collapse_report(FEATURES, names, test_features=FEATURES, test_labels=names)
    assert_same_values(report, expected)
    for arguments, error, message in (
        ({"test_labels": LABELS[1:]}, ValueError, "test_labels has shape"),
        ({"test_labels": LABELS + 9}, ValueError, r"test_labels is \d+ at position 0; expected"),
        ({"test_labels": np.ma.masked_array(LABELS)}, TypeError, "test_labels is a masked array"),
        ({"test_features": FEATURES[:, 1:]}, ValueError, "test_features has 5 columns; expected 6"),
        ({"test_features": FEATURES * np.nan}, ValueError, "test_features is not finite: nan at"),
        (
            {"test_features": FEATURES[:0], "test_labels": LABELS[:0]},
            UndefinedMetric,
            "test_features has no samples",
        ),
    ):
        given = {"test_features": FEATURES, "test_labels": LABELS, **arguments}
        with pytest.raises(error, match=message):
            collapse.collapse_on_test(FEATURES, LABELS, **given)


def test_distinct_labels_take_no_sorting_of_integers():
    rng = np.random.default_rng(0)
    for labels in (rng.integers(-50, 50, 1000), rng.integers(0, 2**60, 1000), np.array([5])):
        distinct, class_numbers = np.unique(labels, return_inverse=True)
        class_labels, ranks = ClassLabels.distinct(labels, len(labels))
        assert (class_labels.names or list(range(class_labels.num_classes))) == distinct.tolist()
        np.testing.assert_array_equal(ranks, class_numbers)


# One signature ------------------------------------------------------------------------------------

OF_MOMENTS = ["between_rank", "pfc1", "variance_explained", "nc2", "pfc2", "equinorm"]
OF_MOMENTS += ["equiangularity", "cdnv"]


@pytest.mark.parametrize("name", OF_MOMENTS)
def test_metrics_take_samples_or_moments(name):
    metric = getattr(collapse, name)
    moments = moments_of(FEATURES, LABELS)
    assert metric(FEATURES, LABELS) == metric(moments)
    with pytest.raises(ValueError, match="part of the ClassMoments"):
        metric(moments, LABELS)
    with pytest.raises(UndefinedMetric, match="no samples"):
        metric(FEATURES[:0], LABELS[:0])
    with pytest.raises(UndefinedMetric, match="no samples"):
        metric(ClassMoments(2, 6))
    with pytest.raises(TypeError, match="masked array"):
        metric(np.ma.masked_array(np.asfortranarray(FEATURES)), LABELS)


@pytest.mark.parametrize("name", ["nc3", "nc3_papyan", "strong_residuals"])
def test_metrics_of_a_classifier_take_samples_or_moments(name):
    metric = getattr(collapse, name)
    moments = moments_of(FEATURES, LABELS)
    assert metric(FEATURES, LABELS, classifier=CLASSIFIER) == metric(moments, classifier=CLASSIFIER)
    for bad, error, message in (
        (5.0, TypeError, "classifier is 5.0; expected an array"),
        (CLASSIFIER[:3], ValueError, "classifier has shape"),
        (CLASSIFIER * 1j, TypeError, "classifier has dtype complex128"),
        (np.ma.masked_array(CLASSIFIER), TypeError, "classifier is a masked array"),
        (None, TypeError, "classifier is None; expected an array"),
    ):
        with pytest.raises(error, match=message):
            metric(moments, classifier=bad)


def test_moments_of_other_samples_are_refused():
    moments = moments_of(FEATURES, LABELS)
    assert collapse.nc1(FEATURES, LABELS, moments=moments) == collapse.nc1(FEATURES, LABELS)
    with pytest.raises(ValueError, match="expected the moments of these samples"):
        collapse.nc1(FEATURES[:20], LABELS[:20], moments=moments)
    for call in (
        lambda: collapse.nc1(FEATURES[:0], LABELS[:0], moments=moments),
        lambda: collapse.ncc_error(FEATURES[:0], LABELS[:0], moments=moments),
        lambda: collapse.pfc3(FEATURES[:0], LABELS[:0], moments=moments),
        lambda: collapse.nc4(FEATURES[:0], classifier=CLASSIFIER, moments=moments),
    ):
        with pytest.raises(UndefinedMetric, match="features has no samples"):
            call()
    with pytest.raises(ValueError, match="features has 5 columns; expected 6"):
        collapse.nc1(FEATURES[:, 1:], LABELS, moments=moments)
    with pytest.raises(TypeError, match="features are ClassMoments; expected samples"):
        collapse.ncc_error(moments)
    with pytest.raises(ValueError, match="the ClassMoments have no scatter"):
        collapse.nc1(moments)


def test_moments_with_names():
    moments = ClassMoments(4, 6, classes=NAMES.tolist())
    moments.update(FEATURES, NAMES[LABELS])
    names = NAMES[LABELS]
    assert collapse.nc1(FEATURES, names, moments=moments) == collapse.nc1(FEATURES, LABELS)
    expected = collapse.ncc_error(FEATURES, LABELS)
    assert collapse.ncc_error(FEATURES, names, moments=moments) == expected
    assert collapse_report(moments).classes == tuple(NAMES.tolist())
    assert set(collapse.cdnv(moments).pair) <= set(NAMES.tolist())


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: collapse.ncc_error(5.0, LABELS), ValueError, r"features has shape \(\)"),
        (lambda: collapse_report(5.0, LABELS), ValueError, r"features has shape \(\)"),
        (lambda: collapse_report("abc", LABELS), TypeError, "features has dtype <U3"),
        (lambda: collapse_report(FEATURES[:, :0], LABELS), ValueError, "features has shape"),
        (lambda: collapse.layer_coordinates(5), TypeError, "layers is a int"),
        (lambda: collapse.effective_depth([0.1], 0.5 + 3j), TypeError, "epsilon is"),
        (lambda: collapse.effective_depth([math.nan, 0.0]), ValueError, "ncc_errors is not finite"),
        (lambda: collapse.effective_depth([3.0]), ValueError, r"ncc_errors\[0\] is 3.0; expected"),
        (lambda: collapse.effective_depth([0.0, -5.0]), ValueError, r"ncc_errors\[1\] is -5.0"),
        (lambda: collapse.effective_depth([1j]), TypeError, "ncc_errors has dtype complex128"),
        (lambda: collapse.effective_depth("abc"), TypeError, "ncc_errors has dtype <U3"),
        (lambda: collapse.cdnv(FEATURES, LABELS, power=2 + 1j), TypeError, "power is"),
        (
            lambda: collapse.cdnv(FEATURES, LABELS, power=np.complex128(2 + 1j)),
            TypeError,
            "power is",
        ),
        (
            lambda: collapse.geodesic_reports(FEATURES, FEATURES, LABELS, [1j]),
            TypeError,
            "times has dtype complex128",
        ),
        (
            lambda: collapse.geodesic_reports(
                FEATURES, np.ma.masked_array(np.asfortranarray(FEATURES)), LABELS, [0.5]
            ),
            TypeError,
            "last is a masked array",
        ),
    ],
)
def test_errors_name_their_argument(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Layouts ------------------------------------------------------------------------------------------


def layouts(features):
    padded = np.zeros((len(features), features.shape[1] + 3), features.dtype)
    padded[:, 1:-2] = features
    raw = np.zeros(features.nbytes + 1, dtype=np.uint8)
    unaligned = raw[1:].view(features.dtype).reshape(features.shape)
    unaligned[...] = features
    wide = np.repeat(np.repeat(features, 2, axis=0), 2, axis=1)
    return {
        "columns": padded[:, 1:-2],
        "Fortran": np.asfortranarray(features),
        "backwards": features[:, ::-1][:, ::-1],
        "steps": wide[::2, ::2],
        "unaligned": unaligned,
        "swapped": features.astype(features.dtype.newbyteorder()),
        "broadcast": np.lib.stride_tricks.as_strided(features, features.shape, features.strides),
    }


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
@blocks_of(300)
def test_every_metric_takes_any_layout(dtype):
    features = FEATURES.astype(dtype)
    moments = moments_of(features, LABELS)
    options = {"classifier": CLASSIFIER, "bias": BIAS}
    for layout, given in layouts(features).items():
        np.testing.assert_array_equal(given, features)
        for metric, rest in (
            (collapse.nc1, {}),
            (collapse.nc1, {"moments": moments}),
            (collapse.ncc_error, {"moments": moments}),
            (collapse.nc4, {"moments": moments, **options}),
            (collapse.nc2, {}),
        ):
            expected = metric(features, LABELS, **rest)
            assert math.isclose(metric(given, LABELS, **rest), expected, rel_tol=1e-13), layout


@pytest.mark.parametrize("dtype", ["int8", "uint16", "int64", "bool", "longdouble"])
def test_integers_and_wide_floats(dtype):
    features = (
        (FEATURES > 3).astype(dtype) if dtype == "bool" else (FEATURES * 4 + 40).astype(dtype)
    )
    expected = collapse_report(features.astype(np.float64), LABELS)
    report = collapse_report(features, LABELS)
    assert report.dtype == ("float128" if dtype == "longdouble" else dtype)
    assert_same_values(report, expected, 0.0)
    if dtype == "longdouble" and np.finfo(dtype).max > np.finfo(float).max:
        features[3, 2] = np.finfo(dtype).max
        with pytest.raises(ValueError, match=r"features is not finite: inf at position \(3, 2\)"):
            collapse_report(features, LABELS)


class Chunked:
    """As h5py, Zarr and Dask give arrays in files: only slices of rows are read, and counted."""

    def __init__(self, values, chunks):
        self._values, self.chunks, self.read = values, chunks, []

    shape = property(lambda self: self._values.shape)
    dtype = property(lambda self: self._values.dtype)

    def __getitem__(self, rows):
        assert isinstance(rows, slice)
        self.read.append((rows.start, rows.stop))
        return self._values[rows]

    def __array__(self, *_, **__):
        raise AssertionError("read whole")


@pytest.mark.parametrize(
    ("chunks", "ends"),
    [
        ((7, 6), {7, 14, 21}),
        ((5, 3), {10, 20}),
        (((4, 8, 1, 9, 200), (6,)), {12, 22}),
        ((50, 6), {50}),
        (None, {12, 24}),
    ],
)
@blocks_of(12 * 6 * 8)  # bytes: 12 samples
def test_arrays_in_files_are_read_along_their_chunks(chunks, ends):
    features, labels, classifier, bias = sample(6, 6, size=60)
    if isinstance(chunks, tuple) and isinstance(chunks[0], tuple):
        chunks = ((*chunks[0][:-1], len(features) - sum(chunks[0][:-1])), chunks[1])
    expected = collapse_report(features, labels, classifier=classifier, bias=bias)
    given = Chunked(features, chunks)
    report = collapse_report(given, labels, classifier=classifier, bias=bias)
    assert_same_values(report, expected, 1e-12)
    assert ends <= {stop for _, stop in given.read}
    assert all(start == 0 or start in {stop for _, stop in given.read} for start, _ in given.read)
    assert given.read[-1][1] == len(features)
    other = Chunked(features.astype(">f4"), chunks)
    assert collapse.layer_coordinates([given, other, Chunked(features + 1, chunks)])[-1] == 1.0
    broken = features.copy()
    broken[40, 3] = np.inf
    for call in (
        lambda: collapse_report(Chunked(broken, chunks), labels),
        lambda: collapse.geodesic_reports(features, Chunked(broken, chunks), labels, [0.5]),
    ):
        with pytest.raises(ValueError, match=r"is not finite: inf at position \(40, 3\)"):
            call()


def test_masks_are_refused_in_any_layout():
    masked = np.ma.masked_invalid(np.asfortranarray(FEATURES))
    for given in (masked, masked[:, ::-1], masked[::2, ::2], masked.astype(">f4"), masked[:, :1]):
        with pytest.raises(TypeError, match="masked array"):
            collapse_report(given, LABELS[: len(given)])
        with pytest.raises(TypeError, match="masked array"):
            collapse.layer_coordinates([given, given])
        with pytest.raises(TypeError, match="masked array"):
            collapse.equinorm(given)


# Objects ------------------------------------------------------------------------------------------


def test_reports_can_be_kept_in_sets_and_sent():
    report = collapse_report(FEATURES, NAMES[LABELS], classifier=CLASSIFIER, classes=NAMES)
    same = collapse_report(FEATURES, NAMES[LABELS], classifier=CLASSIFIER, classes=NAMES)
    assert {report, same} == {report}
    for other in (
        pickle.loads(pickle.dumps(report)),
        copy.copy(report),
        copy.deepcopy(report),
        CollapseReport.from_dict(report.to_dict()),
    ):
        assert other == report
        assert hash(other) == hash(report)
    results = (
        collapse.cdnv(FEATURES, LABELS),
        collapse.equiangularity(FEATURES, LABELS),
        collapse.strong_residuals(FEATURES, LABELS, classifier=CLASSIFIER),
        collapse.collapse_on_test(FEATURES, LABELS, test_features=FEATURES, test_labels=LABELS),
    )
    for result in results:
        for other in (pickle.loads(pickle.dumps(result)), copy.deepcopy(result)):
            assert other == result
            assert type(other) is type(result)
    error = pickle.loads(pickle.dumps(UndefinedMetric("why")))
    assert (type(error), str(error)) == (UndefinedMetric, "why")


@pytest.mark.parametrize(
    ("field", "value", "error"),
    [
        ("nc1", "hello", TypeError),
        ("nc1", math.nan, ValueError),
        ("nc1", [1], TypeError),
        ("nc1", True, TypeError),
        ("num_samples", "a", TypeError),
        ("num_samples", -1, ValueError),
        ("num_samples", 1.5, TypeError),
        ("rank", "x", TypeError),
        ("missing", 5, TypeError),
        ("missing", {"nc9": "why"}, ValueError),
        ("missing", {"nc1": 3}, TypeError),
        ("weighting", "x", ValueError),
        ("dtype", 5, TypeError),
        ("empty_classes", None, TypeError),
        ("cdnv_max_pair", [1], ValueError),
        ("classes", 3, TypeError),
    ],
)
def test_reports_that_cannot_be_are_refused(field, value, error):
    content = collapse_report(FEATURES, LABELS).to_dict()
    with pytest.raises(error, match=f"{field} is|an entry of {field}"):
        CollapseReport.from_dict({**content, field: value})


def test_one_is_singular():
    report = collapse_report(FEATURES[:, :1], ["a"] * len(FEATURES))
    assert f"{len(FEATURES)} samples of 1 class, 1 feature, float64" in repr(report)
    assert report.missing["nc2"] == "there is 1 class with samples; expected at least 2"
