"""The CUDA kernels of the class geometry, run by the host, against the CPU's: bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from infall import _core

cuda = pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)
pytestmark = pytest.mark.sanitize
few = settings(max_examples=20, deadline=None, derandomize=True)


def pointer(array):
    """Address of a host array: the emulation's device memory."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def prepared(means, variances):
    """Arguments that both kernels share, and the arrays behind them."""
    extremes = np.array([means.min(), means.max()])
    space = np.full(cuda.geometry_workspace(len(means)) // 8 + 8, np.nan)
    kept = (means, variances, extremes, space)
    return [pointer(a) for a in kept], kept


def device_geometry(means, variances):
    (*inputs, workspace), kept = prepared(means, variances)
    kinds = "ddlddddldd"
    totals = [np.full(len(means), 77, dtype=kind) for kind in kinds]
    cuda.pair_geometry(*inputs, *means.shape, workspace, [pointer(total) for total in totals], 0, 0)
    assert np.isnan(kept[3][-8:]).all()
    return totals


def device_cdnv(means, variances, first, last):
    (*inputs, workspace), kept = prepared(means, variances)
    out = np.full((last - first + 1, len(means)), 77.0)
    cuda.cdnv_block(*inputs, *means.shape, first, last, workspace, pointer(out), 0, 0)
    assert np.isnan(kept[3][-8:]).all()
    assert (out[-1] == 77.0).all()
    return out[:-1]


def same_as_cpu(means, variances):
    expected = _core.pair_geometry(means, variances, 2, None)
    for actual, value in zip(device_geometry(means, variances), expected, strict=True):
        assert_array_equal(actual.view(np.int64), value.view(np.int64))


def classes(num_classes, dim, seed=0):
    """Centred means (K, d) and variances (K,)."""
    rng = np.random.default_rng([num_classes, dim, seed])
    means = rng.normal(size=(num_classes, dim))
    return means - means.mean(axis=0), rng.random(num_classes)


@pytest.mark.parametrize("num_classes", [2, 7, 8, 9, 191, 192, 193, 400])
@pytest.mark.parametrize("dim", [1, 15, 16, 17, 40])
def test_pairs(num_classes, dim):
    same_as_cpu(*classes(num_classes, dim))


@few
@given(st.integers(2, 30), st.integers(1, 20), st.integers(0, 99), st.integers(-400, 400))
def test_close_and_coincident_means(num_classes, dim, seed, exponent):
    rng = np.random.default_rng(seed)
    means = rng.integers(-1, 2, (num_classes, dim)).astype(np.float64)
    means[::3] *= 1.0 + 2.0 ** -rng.integers(1, 53)
    variances = rng.integers(0, 3, num_classes).astype(np.float64)
    same_as_cpu(np.ldexp(means, exponent), np.ldexp(variances, exponent))


def test_zero_means():
    same_as_cpu(np.zeros((5, 3)), np.ones(5))


@pytest.mark.parametrize(("first", "last"), [(0, 210), (0, 8), (13, 30), (209, 210), (5, 5)])
def test_rows_of_the_matrix(first, last):
    means, variances = classes(210, 19)
    means[200] = means[14]
    means[7] = means[3] * (1.0 + 1e-9)
    block = device_cdnv(means, variances, first, last)
    assert_array_equal(block, _core.cdnv_block(means, variances, first, last, 2, None))
