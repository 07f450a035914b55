"""Decisions on a device made of host memory: those of the host, whoever makes the products."""

import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import fake_device
import infall
from infall._arrays.blocks import blocks_of
from infall.classes._decisions import decisions

pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)

DTYPES = (np.float16, np.float32, np.float64)
both_libraries = pytest.mark.parametrize("library", [fake_device.CuPyArray, fake_device.Tensor])
few = settings(max_examples=15, deadline=None, derandomize=True)


@pytest.fixture(autouse=True, scope="module")
def _fake_cuda():
    with pytest.MonkeyPatch.context() as patch:
        cuda = fake_device.make_cuda()
        patch.setitem(sys.modules, "infall._cuda", cuda)
        patch.setattr(infall, "_cuda", cuda, raising=False)
        patch.setitem(sys.modules, "cupy", fake_device.make_cupy())
        patch.setitem(sys.modules, "torch", fake_device.make_torch())
        yield
        assert fake_device.current_device == [0]


@pytest.fixture
def small_blocks():
    """Blocks of a few rows and classes, so that small inputs take many."""
    with blocks_of(25):
        yield


def problem(num_samples, dim, num_classes, dtype=np.float32):
    """Features (N, d), means (K, d), classifier (K, d) and bias (K,)."""
    rng = np.random.default_rng([num_samples, dim, num_classes])
    means = rng.normal(size=(num_classes, dim))
    means[num_classes // 2 :] = np.nextafter(means[: num_classes - num_classes // 2], 9.0)
    features = rng.normal(size=(num_samples, dim)).astype(dtype)
    return features, means, rng.normal(size=(num_classes, dim)), rng.normal(size=num_classes)


def same_as_host(library, features, means, classifier, bias, number=0, **options):
    expected = decisions(features, means, classifier, bias)
    decided = decisions(library(features, number), means, classifier, bias, **options)
    for array, classes in zip(decided, expected, strict=True):
        assert type(array) is library
        assert array._number == number
        assert_array_equal(array._values, classes)


@both_libraries
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("dim", "num_classes"), [(1, 1), (3, 2), (8, 40), (17, 130)])
def test_decisions_are_those_of_the_host(library, dtype, dim, num_classes):
    same_as_host(library, *problem(20, dim, num_classes, dtype))


@both_libraries
def test_decisions_in_many_blocks(library, small_blocks):
    seen = []
    same_as_host(library, *problem(41, 6, 50), number=1, progress=seen.append)
    assert seen == [41]


@few
@given(st.integers(1, 12), st.integers(1, 9), st.integers(1, 30), st.integers(0, 2**32))
def test_ties_go_to_the_lowest_class(samples, dim, classes, seed):
    rng = np.random.default_rng(seed)
    features = (100.0 + rng.integers(-2, 3, (samples, dim)) / 256).astype(np.float32)
    means = 100.0 + rng.integers(-1, 2, (classes, dim)) / 256
    weights = rng.integers(-1, 2, (classes, dim)) / 256
    same_as_host(fake_device.CuPyArray, features, means, weights, np.zeros(classes))


@both_libraries
def test_what_is_not_finite_has_no_class(library):
    features, means, classifier, bias = problem(6, 5, 4)
    expected = decisions(features, means, classifier, bias)
    features[2, 1], features[5, 4] = np.nan, -np.inf
    decided = decisions(library(features), means, classifier, bias)
    for array, classes in zip(decided, expected, strict=True):
        classes[[2, 5]] = -1
        assert_array_equal(array._values, classes)


def test_classes_may_lie_on_the_device_and_rows_apart():
    features, means, classifier, bias = problem(12, 5, 4)
    expected = decisions(features[::2], means, classifier, bias)
    put = fake_device.CuPyArray
    decided = decisions(put(features[::2]), put(means), put(classifier), put(bias))
    for array, classes in zip(decided, expected, strict=True):
        assert_array_equal(array._values, classes)
    nearest, none = decisions(put(features[::2]), means)
    assert none is None
    assert_array_equal(nearest._values, expected[0])


def test_features_that_cannot_be_read_are_refused():
    features, means, *_ = problem(12, 5, 4)
    put = fake_device.CuPyArray
    with pytest.raises(TypeError, match="features has dtype int32; expected one of float16, bfl"):
        decisions(put(features.astype(np.int32)), means)
    with pytest.raises(ValueError, match="features has rows that are not in one piece"):
        decisions(put(np.asfortranarray(features)), means)
    with pytest.raises(ValueError, match=r"features has shape \(12, 4\); expected \(N, 5\)"):
        decisions(put(np.ascontiguousarray(features[:, 1:])), means)


def test_shortened_products_are_not_trusted(monkeypatch):
    # Where TF32 is allowed, products are made in float64.
    features, *rest = problem(15, 9, 40)
    monkeypatch.setattr(sys.modules["torch"], "get_float32_matmul_precision", lambda: "high")
    dtypes = []
    matmul = sys.modules["torch"].matmul

    def seen(a, b):
        dtypes.append(a._values.dtype)
        return matmul(a, b)

    monkeypatch.setattr(sys.modules["torch"], "matmul", seen)
    same_as_host(fake_device.Tensor, features, *rest)
    assert set(dtypes) == {np.dtype(np.float64)}
    monkeypatch.setenv("NVIDIA_TF32_OVERRIDE", "1")
    same_as_host(fake_device.CuPyArray, features, *rest)
