"""Reports of collapse: kinds of input, memory, JSON, and what is refused."""

import itertools
import json
import math
import tracemalloc
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from collapse_samples import ALL_FIELDS, SHAPES, close, moments_of, sample
from infall import ClassMoments, CollapseReport, collapse, collapse_report
from infall._arrays.blocks import blocks_of
from infall.collapse import METRICS, UndefinedMetric
from infall.collapse.report import NUMBERS
from infall.frames import _simplex
from interrupts import LIMIT, seconds_after_interrupt

# Kinds of input -----------------------------------------------------------------------------------


def test_moments_give_what_arrays_give():
    for num_classes, dim in SHAPES:
        features, labels, classifier, bias = sample(num_classes, dim)
        options = {"classifier": classifier, "bias": bias}
        expected = collapse_report(features, labels, **options)
        moments = moments_of(features, labels, scatter=True)
        report = collapse_report(moments, **options)
        assert report.missing.keys() == {"nc4", "pfc3", "collapse_on_test"}
        assert (report.dtype, expected.dtype) == (None, "float64")
        close(report.nc1, expected.nc1, 1e-10)
        for name in ALL_FIELDS:
            if name not in ("nc1", "nc4", "pfc3"):
                assert getattr(report, name) == getattr(expected, name), name
        plain = collapse_report(moments_of(features, labels), **options)
        assert plain.nc1 is None
        assert (
            plain.missing["nc1"] == "needs features and labels, or ClassMoments with scatter=True"
        )
        by_classes = collapse_report(moments, weighting="classes")
        assert "pooled" in by_classes.missing["nc1"]


def test_memory_maps_are_read_in_blocks(tmp_path):
    features, labels, classifier, bias = sample(6, 9, size=60)
    features = features.astype(np.float32)
    whole = collapse_report(features, labels, classifier=classifier, bias=bias)
    np.save(tmp_path / "features.npy", features)
    np.save(tmp_path / "columns.npy", np.asfortranarray(features))
    np.save(tmp_path / "swapped.npy", features.astype(features.dtype.newbyteorder()))
    for name in ("features", "columns", "swapped"):
        mapped = np.load(tmp_path / f"{name}.npy", mmap_mode="r")
        with blocks_of(1000):  # bytes: 27 samples
            report = collapse_report(mapped, labels, classifier=classifier, bias=bias)
        for field in ALL_FIELDS:
            value, expected = getattr(report, field), getattr(whole, field)
            assert value is expected is None or math.isclose(value, expected, rel_tol=1e-13), field
    broken = np.load(tmp_path / "features.npy", mmap_mode="r+")
    broken[60, 3] = np.nan
    refused = pytest.raises(ValueError, match=r"features is not finite: nan at position \(60, 3\)")
    with blocks_of(1000), refused:
        collapse_report(broken, labels)


def test_layouts_in_memory():
    features, labels, *_ = sample(5, 8, size=40)
    expected = collapse_report(features, labels)
    padded = np.zeros((len(features), 11))
    padded[:, 2:10] = features
    raw = np.zeros(features.nbytes + 1, dtype=np.uint8)
    unaligned = raw[1:].view(features.dtype).reshape(features.shape)
    unaligned[...] = features
    for layout in (padded[:, 2:10], np.asfortranarray(features), features[:, ::-1], unaligned):
        report = collapse_report(layout, labels)
        close(report.nc1, expected.nc1)
        close(report.cdnv_mean, expected.cdnv_mean)
        assert report.pfc3 == expected.pfc3
    assert collapse_report(features.tolist(), labels.tolist()).nc1 == expected.nc1


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "bfloat16"])
def test_dtypes(dtype):
    features, labels, classifier, bias = sample(5, 8)
    if dtype == "bfloat16":
        torch = pytest.importorskip("torch", reason="PyTorch is not installed")
        given = torch.from_numpy(features).to(torch.bfloat16)
        exact = given.double().numpy()
        classifier = torch.from_numpy(classifier).to(torch.bfloat16)
        exact_classifier = classifier.double().numpy()
    else:
        given = features.astype(dtype)
        exact, exact_classifier = given.astype(np.float64), classifier
    report = collapse_report(given, labels, classifier=classifier, bias=bias)
    assert report.dtype == dtype
    expected = collapse_report(exact, labels, classifier=exact_classifier, bias=bias)
    for name in ALL_FIELDS:
        value, other = getattr(report, name), getattr(expected, name)
        assert value is other is None or math.isclose(value, other, rel_tol=1e-6, abs_tol=1e-6), (
            name
        )
    predicted = collapse.geodesic_reports(given, given, labels, [0.5])[0]
    close(predicted.nc1, expected.nc1, 1e-6)


def test_no_matrix_of_all_pairs_of_classes():
    num_classes, dim = 5000, 8
    rng = np.random.default_rng(0)
    means = rng.standard_normal((num_classes, dim))
    moments = moments_of(means, np.arange(num_classes))
    square = 8 * num_classes**2
    for measure in (
        lambda: collapse.nc2(moments),
        lambda: collapse.pfc2(moments),
        lambda: collapse.nc3(moments, classifier=means),
        lambda: collapse.cdnv(moments),
        lambda: collapse.cdnv(moments, power=1.0),
        lambda: collapse.strong_residuals(moments, classifier=means),
        lambda: collapse.equiangularity(moments),
    ):
        tracemalloc.start()
        measure()
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < square / 4


@given(st.integers(0, 10**7), st.integers(1, 10**6), st.integers(1, 10**6))
def test_work_between_two_looks_for_interrupts_is_bounded(num_rows, entries, depth):
    """Products of matrices are cut so that each takes hundredths of a second, whatever K and d."""
    for slices, count in (
        (_simplex.row_blocks(num_rows, entries, depth), lambda rows: rows * entries),
        (_simplex.tiles(num_rows, depth), lambda rows: rows * rows),
    ):
        cut = list(itertools.islice(slices, 3))
        assert not cut or cut[0].start == 0
        assert all(b.start == a.stop for a, b in itertools.pairwise(cut))
        for rows in cut:
            size = rows.stop - rows.start
            assert size >= 1
            assert size == 1 or count(size) <= 2**20
            assert size == 1 or count(size) * depth <= 2**28
        if len(cut) < 3:
            assert (cut[-1].stop if cut else 0) == num_rows


def test_interrupts_return_quickly():
    means = np.random.default_rng(0).standard_normal((2000, 1000), dtype=np.float32)
    moments = moments_of(means, np.arange(2000))
    for measure in (
        lambda: [collapse.cdnv(moments, power=1.0) for _ in range(1000)],
        lambda: collapse.layer_coordinates([means[:100], means[100:200]] * 50000),
    ):
        assert seconds_after_interrupt(measure) < LIMIT


def test_threads_change_nothing():
    features, labels, classifier, bias = sample(30, 20)
    reports = [
        collapse_report(features, labels, classifier=classifier, bias=bias, num_threads=threads)
        for threads in (1, 2, 5)
    ]
    assert reports[0] == reports[1] == reports[2]


# The report ---------------------------------------------------------------------------------------


def test_report_goes_through_json():
    features, labels, classifier, bias = sample(5, 8)
    infinite = np.concatenate([features[labels == 1]] * 2 + [features[labels == 2]])
    count = int((labels == 1).sum())
    same = np.repeat([0, 1, 2], [count, count, len(infinite) - 2 * count])
    for report in (
        collapse_report(features, labels, classifier=classifier, bias=bias),
        collapse_report(infinite, same),
        collapse_report(features, [f"n{c}" for c in labels], classes=[f"n{c}" for c in range(7)]),
        collapse_report(features, labels, metrics=["cdnv"]),
    ):
        text = json.dumps(report.to_dict(), allow_nan=False)
        assert CollapseReport.from_dict(json.loads(text)) == report
    assert collapse_report(infinite, same).cdnv_max == math.inf
    with pytest.raises(ValueError, match=r"unknown fields \['x'\]"):
        CollapseReport.from_dict({"x": 1})
    with pytest.raises(TypeError, match="values is a list"):
        CollapseReport.from_dict([])


def test_report_says_how_it_was_measured():
    features, labels, classifier, _ = sample(5, 8)
    report = collapse_report(
        *(features.astype(np.float32), labels + 1),
        weighting="classes",
        global_mean="samples",
        classifier=np.pad(classifier, ((1, 0), (0, 0))),
    )
    shown = repr(report)
    assert f"{len(labels)} samples of 5 of 6 classes, 8 features, float32" in shown
    assert "weights by classes, global mean of samples, rank of Sigma_B 4" in shown
    assert "classes without samples: 0" in shown
    assert "without collapse_on_test: needs test_features and test_labels" in shown
    first, second = report.cdnv_max_pair
    assert f"of the worst pair: classes {first}, {second}" in shown
    for symbol, value, _ in report.rows():
        assert f"{symbol} " in shown
        assert value in shown
    assert f"{report.nc1:.4g}" in shown
    with pytest.raises(AttributeError):
        report.nc1 = 0.0


def test_the_page_on_collapse_names_every_metric():
    page = (Path(__file__).parents[2] / "docs" / "collapse.md").read_text()
    fields = [
        *NUMBERS,
        "rank",
        "empty_classes",
        "single_sample_classes",
        "cdnv_max_pair",
        "missing",
    ]
    ends = ("_std", "_max", "_min")
    for field in fields:
        stem = next((field.removesuffix(end) for end in ends if field.endswith(end)), field)
        assert stem in page, field
    functions = [name for name in collapse.__all__ if name.islower()]
    assert all(name in page for name in functions)


def test_only_what_is_asked_for():
    features, labels, classifier, _ = sample(5, 8)
    stages = []
    report = collapse_report(
        features, labels, metrics=["nc2"], progress=lambda done, total, stage: stages.append(stage)
    )
    assert set(stages) <= {"class means", "class pairs"}
    assert report.nc2 == collapse_report(features, labels).nc2
    assert report.nc1 is report.pfc3 is report.cdnv_mean is report.rank is None
    assert not report.missing
    for name in METRICS:
        needs = dict.fromkeys(("classifier", "test_features", "test_labels"))
        needs.update(classifier=classifier, test_features=features, test_labels=labels)
        alone = collapse_report(features, labels, metrics=[name], **needs)
        given = {f for f in ALL_FIELDS if getattr(alone, f) is not None}
        assert given or name == "strong_residuals", name


def test_progress_of_every_stage():
    features, labels, classifier, _ = sample(30, 20, size=200)
    calls = {}

    def note(done, total, stage):
        calls.setdefault(stage, []).append((done, total))

    collapse_report(
        *(features, labels),
        classifier=classifier,
        test_features=features,
        test_labels=labels,
        progress=note,
    )
    for stage, seen in calls.items():
        assert all(0 <= done <= total for done, total in seen), stage

    def stop(done, total, stage):
        raise RuntimeError("enough")

    if calls:
        with pytest.raises(RuntimeError, match="enough"):
            collapse_report(features, labels, progress=stop)


# Bad input ----------------------------------------------------------------------------------------

FEATURES, LABELS, CLASSIFIER, BIAS = sample(4, 6)


@pytest.mark.parametrize(
    ("arguments", "options", "error", "message"),
    [
        ((FEATURES,), {}, ValueError, "features came without labels"),
        ((FEATURES[0], LABELS), {}, ValueError, r"features has shape \(6,\); expected \(N, d\)"),
        ((FEATURES[:0], LABELS[:0]), {}, UndefinedMetric, "features has no samples"),
        ((FEATURES, LABELS[1:]), {}, ValueError, "labels has shape"),
        (
            (FEATURES, LABELS - 1),
            {"classifier": CLASSIFIER},
            ValueError,
            "labels is -1 at position",
        ),
        ((FEATURES, LABELS + 0.5), {}, ValueError, r"labels is \d.5 at position 0; expected whole"),
        ((FEATURES.astype(complex), LABELS), {}, TypeError, "features has dtype complex128"),
        ((FEATURES + np.nan, LABELS), {}, ValueError, "features is not finite"),
        ((FEATURES, LABELS), {"classes": "abc"}, TypeError, "classes is 'abc'"),
        ((FEATURES, LABELS), {"global_mean": "x"}, ValueError, "global_mean is 'x'"),
        ((FEATURES, LABELS), {"weighting": 1}, TypeError, "weighting is 1"),
        (
            (FEATURES, LABELS),
            {"metrics": "nc1"},
            TypeError,
            "metrics is 'nc1'; expected a sequence",
        ),
        ((FEATURES, LABELS), {"metrics": ["nc5"]}, ValueError, "an entry of metrics is 'nc5'"),
        ((FEATURES, LABELS), {"metrics": ["nc3"]}, ValueError, "nc3, which needs a classifier"),
        (
            (FEATURES, LABELS),
            {"metrics": ["collapse_on_test"]},
            ValueError,
            "needs test_features and test_labels",
        ),
        ((FEATURES, LABELS), {"bias": BIAS}, ValueError, "bias came without a classifier"),
        ((FEATURES, LABELS), {"classifier": CLASSIFIER[:3]}, ValueError, "labels is 3 at position"),
        (
            (FEATURES, LABELS),
            {"classifier": CLASSIFIER[:, 1:]},
            ValueError,
            r"classifier has shape \(4, 5\); expected \(num_classes, num_features\) = \(4, 6\)",
        ),
        (
            (FEATURES, LABELS),
            {"classifier": CLASSIFIER, "bias": BIAS[:3]},
            ValueError,
            r"bias has shape \(3,\); expected \(num_classes,\) = \(4,\)",
        ),
        ((FEATURES, LABELS), {"classifier": CLASSIFIER + np.inf}, ValueError, "classifier is not"),
        ((FEATURES, LABELS), {"test_labels": LABELS}, ValueError, "come together"),
        (
            (FEATURES, LABELS),
            {"test_features": FEATURES, "test_labels": LABELS[1:]},
            ValueError,
            "test_labels has shape",
        ),
        ((FEATURES, LABELS), {"num_threads": 0}, ValueError, "num_threads is 0"),
        ((FEATURES, LABELS), {"progress": 3}, TypeError, "progress is 3; expected a callable"),
        ((moments_of(FEATURES, LABELS), LABELS), {}, ValueError, "part of the ClassMoments"),
        ((ClassMoments(3, 6),), {}, UndefinedMetric, "there are no samples"),
    ],
)
def test_bad_input_is_named(arguments, options, error, message):
    with pytest.raises(error, match=message):
        collapse_report(*arguments, **options)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda m: collapse.nc1(FEATURES), ValueError, "features came without labels"),
        (
            lambda m: collapse.nc1(FEATURES, LABELS, moments=FEATURES),
            TypeError,
            "moments is a ndarray",
        ),
        (collapse.nc1, ValueError, "scatter"),
        (lambda m: collapse.nc1(FEATURES, moments=m), ValueError, "features came without labels"),
        (lambda m: collapse.nc1(m, LABELS), ValueError, "part of the ClassMoments"),
        (lambda m: collapse.nc2(m, global_mean="y"), ValueError, "global_mean is 'y'"),
        (lambda m: collapse.cdnv(m, power=0), ValueError, "power is 0; expected a positive"),
        (lambda m: collapse.cdnv(m, power="2"), TypeError, "power is '2'; expected a number"),
        (lambda m: collapse.equinorm([[1.0, np.nan]]), ValueError, "features is not finite"),
        (lambda m: collapse.equinorm([1.0]), ValueError, r"features has shape \(1,\)"),
        (lambda m: collapse.equinorm([[1.0]]), UndefinedMetric, "there is 1 vector; expected"),
        (
            lambda m: collapse.ncc_error(FEATURES, LABELS % 2, moments=ClassMoments(2, 6)),
            UndefinedMetric,
            "no",
        ),
        (lambda m: collapse.variance_explained(ClassMoments(2, 6)), UndefinedMetric, "no samples"),
        (
            lambda m: collapse.variance_explained(moments_of(np.ones((3, 2)), [0, 1, 1])),
            UndefinedMetric,
            "all samples coincide",
        ),
        (
            lambda m: collapse.collapse_on_test(
                moments_of(FEATURES, LABELS, 6), test_features=FEATURES, test_labels=LABELS + 2
            ),
            ValueError,
            "a class without training samples",
        ),
        (
            lambda m: collapse.nc1(moments_of(FEATURES, LABELS, scatter=True), weighting="classes"),
            ValueError,
            "pooled over samples",
        ),
    ],
)
def test_bad_input_of_functions(call, error, message):
    with pytest.raises(error, match=message):
        call(moments_of(FEATURES, LABELS))


def test_arrays_on_a_device_are_refused_by_name():
    class OnDevice:
        dtype = np.dtype(np.float32)
        shape = FEATURES.shape

        def __len__(self):
            return len(FEATURES)

        def __dlpack__(self, **_):
            raise AssertionError("read")

        def __dlpack_device__(self):
            return 2, 0

    refused = (TypeError, RuntimeError)  # without CuPy, and without CUDA kernels
    with pytest.raises(refused, match=r"features is a .*OnDevice in (device|CUDA) memory"):
        collapse_report(OnDevice(), LABELS)
    with pytest.raises(refused, match=r"test_features is a .*OnDevice in (device|CUDA) memory"):
        collapse_report(FEATURES, LABELS, test_features=OnDevice(), test_labels=LABELS)
    with pytest.raises(refused, match=r"layers\[1\] is a .*OnDevice in (device|CUDA) memory"):
        collapse.layer_coordinates([FEATURES, OnDevice()])
    with pytest.raises(refused, match=r"classifier is a .*OnDevice in (device|CUDA) memory"):
        collapse.nc3(moments_of(FEATURES, LABELS), classifier=OnDevice())
