"""Every metric of collapse of arrays on a device, on a device made of host memory."""

import re

import numpy as np
import pytest

import fake_device
from collapse_samples import ALL_FIELDS, close, sample
from fake_device import CUPY, TORCH
from infall import ClassMoments, collapse, collapse_report
from infall._arrays.blocks import blocks_of

pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)


@pytest.fixture(autouse=True)
def _fake_cuda(monkeypatch):
    yield from fake_device.installed(monkeypatch)


both_libraries = pytest.mark.parametrize("library", [CUPY, TORCH], ids=["cupy", "torch"])

FEATURES, LABELS, CLASSIFIER, BIAS = sample(6, 9)
TEST_FEATURES, TEST_LABELS, *_ = sample(6, 9, seed=1)


@both_libraries
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64", "int16"])
def test_reports_are_those_of_the_host(library, dtype):
    features, others = (10.0 * FEATURES).astype(dtype), (10.0 * TEST_FEATURES).astype(dtype)
    expected = collapse_report(
        *(features, LABELS),
        classifier=CLASSIFIER,
        bias=BIAS,
        test_features=others,
        test_labels=TEST_LABELS,
    )
    put = library.put
    for classifier, bias in ((CLASSIFIER, BIAS), (put(CLASSIFIER), put(BIAS))):
        report = collapse_report(
            *(put(features), put(LABELS)),
            classifier=classifier,
            bias=bias,
            test_features=put(others),
            test_labels=put(TEST_LABELS),
        )
        assert report.dtype == dtype
        assert not report.missing
        for name in ALL_FIELDS:
            close(getattr(report, name), getattr(expected, name), 1e-11)


@both_libraries
def test_pairs_of_classes_have_the_bits_of_the_host(library):
    on_host, on_device = ClassMoments(6, 9), ClassMoments(6, 9)
    on_host.update(FEATURES, LABELS)
    on_device.update(library.put(FEATURES), LABELS)
    for metric in (
        *(collapse.nc2, collapse.pfc1, collapse.pfc2, collapse.equinorm, collapse.equiangularity),
        *(collapse.cdnv, collapse.between_rank, collapse.variance_explained),
    ):
        assert metric(on_device) == metric(on_host) == metric(library.put(FEATURES), LABELS)
    for power in (1.0, 2.0):
        np.testing.assert_array_equal(
            collapse.cdnv_matrix(on_device, power=power), collapse.cdnv_matrix(on_host, power=power)
        )
    for metric in (collapse.nc3, collapse.nc3_papyan, collapse.strong_residuals):
        metric_on_device = metric(on_device, classifier=library.put(CLASSIFIER))
        assert metric_on_device == metric(on_host, classifier=CLASSIFIER)


@both_libraries
def test_samples_and_moments_in_different_places(library):
    on_host, on_device = ClassMoments(6, 9), ClassMoments(6, 9)
    on_host.update(FEATURES, LABELS)
    on_device.update(library.put(FEATURES), LABELS)
    nc1, error = collapse.nc1(FEATURES, LABELS), collapse.ncc_error(FEATURES, LABELS)
    nc4 = collapse.nc4(FEATURES, LABELS, classifier=CLASSIFIER, bias=BIAS)
    for features in (FEATURES, library.put(FEATURES)):
        for moments in (on_host, on_device):
            close(collapse.nc1(features, LABELS, moments=moments), nc1, 1e-12)
            assert collapse.ncc_error(features, LABELS, moments=moments) == error
            share = collapse.nc4(features, classifier=CLASSIFIER, bias=BIAS, moments=moments)
            assert share == nc4


@both_libraries
@blocks_of(1000)
def test_layouts_of_a_device(library):
    nc1 = collapse.nc1(FEATURES, LABELS)
    wide = library.put(np.repeat(FEATURES, 2, axis=1))
    columns = library.put(np.ascontiguousarray(FEATURES.T)).T
    for given in (wide[:, ::2], columns):
        close(collapse.nc1(given, LABELS), nc1, 1e-12)
        assert collapse.ncc_error(given, LABELS) == collapse.ncc_error(FEATURES, LABELS)
    layers = [FEATURES, library.put(2.0 * FEATURES), columns]
    assert collapse.layer_coordinates(layers)[1] == 0.5
    report = collapse.geodesic_reports(FEATURES, library.put(FEATURES), LABELS, [0.25])[0]
    close(report.nc1, nc1, 1e-12)


@both_libraries
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_what_is_not_finite_is_refused_by_name(library, value):
    broken = FEATURES.copy()
    broken[20, 3] = value
    text = re.escape(f"is not finite: {value} at position (20, 3)")
    for metric in (collapse_report, collapse.nc1, collapse.nc2, collapse.ncc_error):
        with pytest.raises(ValueError, match=f"^features {text}"):
            metric(library.put(broken), LABELS)
    moments = ClassMoments(6, 9)
    moments.update(FEATURES, LABELS)
    for metric in (collapse.nc1, collapse.ncc_error):
        with pytest.raises(ValueError, match=f"^features {text}"):
            metric(library.put(broken), LABELS, moments=moments)
    with pytest.raises(ValueError, match=f"^test_features {text}"):
        collapse.collapse_on_test(moments, test_features=library.put(broken), test_labels=LABELS)
