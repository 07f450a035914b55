"""Nearest class means and classifier outputs against the NumPy reference."""

import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import reference
from infall import _core
from infall._arrays.blocks import blocks_of
from infall.classes._decisions import _host as _decisions
from infall.classes._decisions import decisions
from interrupts import LIMIT, SANITIZED, seconds_after_interrupt

pytestmark = pytest.mark.sanitize

ISAS = _core.available_isas()
DTYPES = (np.float16, np.float32, np.float64)
few = settings(max_examples=30, deadline=None, derandomize=True)


@pytest.fixture
def small_blocks():
    """Blocks of a few rows and classes, so that small inputs take many."""
    with blocks_of(300):
        yield


def problem(num_samples, dim, num_classes, dtype=np.float32, seed=0):
    """Features (N, d), means (K, d), classifier (K, d) and bias (K,)."""
    rng = np.random.default_rng([num_samples, dim, num_classes, seed])
    means = rng.normal(size=(num_classes, dim))
    labels = rng.integers(0, num_classes, num_samples)
    features = (means[labels] + rng.normal(size=(num_samples, dim))).astype(dtype)
    return features, means, rng.normal(size=(num_classes, dim)), rng.normal(size=num_classes)


def same_as_reference(features, means, classifier, bias, **options):
    nearest, predicted = decisions(features, means, classifier, bias, **options)
    assert nearest.dtype == predicted.dtype == np.int64
    assert_array_equal(nearest, reference.nearest_means(features, means))
    assert_array_equal(predicted, reference.largest_outputs(features, classifier, bias))


def test_a_dtype_is_known_by_its_kind_not_its_object():
    features, means, classifier, bias = problem(50, 9, 7)
    other = np.dtype(np.float32).newbyteorder("=")
    assert other == np.float32
    assert other is not np.dtype(np.float32)
    same_as_reference(features.view(other), means, classifier, bias)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("dim", [1, 2, 7, 8, 9, 31, 130])
@pytest.mark.parametrize("num_classes", [1, 2, 15, 16, 17, 33, 100])
def test_decisions_are_those_of_the_reference(dtype, dim, num_classes):
    same_as_reference(*problem(60, dim, num_classes, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_decisions_in_many_blocks(dtype, small_blocks):
    seen = []
    same_as_reference(*problem(301, 9, 130, dtype), progress=seen.append)
    assert len(seen) > 3
    assert seen[-1] == 301


def test_a_classifier_of_other_classes_and_dtype():
    features, means, classifier, _ = problem(50, 12, 7)
    classifier = np.concatenate([classifier, classifier[:2] + 1.0]).astype(np.float32)
    nearest, predicted = decisions(features, means, classifier)
    assert_array_equal(nearest, reference.nearest_means(features, means))
    assert_array_equal(predicted, reference.largest_outputs(features, classifier, np.zeros(9)))
    decided, none = decisions(features, means)
    assert none is None
    assert_array_equal(decided, nearest)


# Near ties ----------------------------------------------------------------------------------------


def grid(rng, shape, spread, offset, dtype):
    """Multiples of 2^-8 around an offset: differences and their squares are exact."""
    return (offset + rng.integers(-spread, spread + 1, shape) * 2.0**-8).astype(dtype)


@few
@given(
    st.integers(1, 60),
    st.integers(1, 20),
    st.integers(1, 40),
    st.integers(0, 3),
    st.sampled_from([0.0, 100.0, 10_000.0]),
    st.sampled_from([np.float32, np.float64]),
    st.integers(0, 2**32),
)
def test_ties_and_last_bits_are_decided_exactly(samples, dim, classes, spread, offset, dtype, seed):
    # In binary32 the scores of nearly all classes are within their rounding errors; the sums that
    # decide are integers times 2^-16.
    rng = np.random.default_rng(seed)
    features = grid(rng, (samples, dim), spread + 1, offset, dtype)
    means = grid(rng, (classes, dim), spread, offset, np.float64)
    classifier = grid(rng, (classes, dim), spread, 1.0, np.float64)
    bias = rng.integers(-1, 2, classes) * 2.0**-16
    same_as_reference(features, means, classifier, bias)


@pytest.mark.parametrize("offset", [0.0, 100.0, 1e4])
@pytest.mark.parametrize("noise", [1e-1, 1e-4, 1e-7])
def test_deep_collapse_under_an_offset(offset, noise):
    rng = np.random.default_rng(5)
    means = offset + rng.normal(size=(40, 64))
    labels = rng.integers(0, 40, 500)
    features = means[labels] + noise * rng.normal(size=(500, 64))
    nearest, _ = decisions(features, means)
    assert_array_equal(nearest, labels)
    # And where the whole configuration has shrunk to the noise.
    shrunk = offset + noise * (means - offset)
    features = shrunk[labels] + 1e-3 * noise * rng.normal(size=(500, 64))
    assert_array_equal(decisions(features, shrunk)[0], labels)


def test_means_that_differ_in_the_last_bit():
    # A feature is the mean itself in binary64, which its neighbours only miss by one bit.
    rng = np.random.default_rng(6)
    base = rng.normal(size=30)
    means = np.repeat(base[np.newaxis], 25, axis=0)
    for c in range(1, 25):
        means[c, c] = np.nextafter(base[c], np.inf)
    order = rng.permutation(25)
    nearest, predicted = decisions(means[order], means, means, -0.5 * (means**2).sum(axis=1))
    assert_array_equal(nearest, order)
    assert predicted.shape == (25,)


def test_terms_that_round_to_neighbours():
    # Products of 1e-7 decide, as small as the rounding of norms and biases to binary32.
    rng = np.random.default_rng(7)
    means = rng.normal(size=(60, 8))
    means *= (3.0 + 1e-7 * rng.normal(size=(60, 1))) / np.linalg.norm(means, axis=1, keepdims=True)
    means = np.concatenate([means, -means])
    features = (1e-7 * rng.normal(size=(200, 8))).astype(np.float32)
    bias = 5.0 + 3e-7 * rng.normal(size=120)
    same_as_reference(features, means, rng.normal(size=(120, 8)), bias)


@pytest.mark.parametrize("dtype", DTYPES)
def test_coincident_means_go_to_the_lowest_class(dtype, small_blocks):
    features = np.random.default_rng(0).normal(size=(40, 5)).astype(dtype)
    alike = np.ones((90, 5))
    nearest, predicted = decisions(features, alike, alike, np.full(90, 3.0))
    assert_array_equal(nearest, 0)
    assert_array_equal(predicted, 0)
    alike[:7] += 1e3
    assert_array_equal(decisions(features, alike)[0], 7)


def test_products_need_not_be_better_than_their_bound(monkeypatch, small_blocks):
    # A BLAS that sums in the worst way: errors of any sign, as large as the bound allows.
    features, means, classifier, bias = problem(300, 11, 40)
    means[20:] = means[:20] * (1.0 + 1e-7)
    expected = decisions(features, means, classifier, bias)
    assert_array_equal(expected[0], reference.nearest_means(features, means))
    rng = np.random.default_rng(1)
    matmul = np.matmul

    def rough(a, b, out):
        exact = matmul(a.astype(np.float64), b.astype(np.float64))
        norms = np.linalg.norm(a, axis=1)[:, np.newaxis] * np.linalg.norm(b, axis=0)
        unit = np.finfo(out.dtype).eps / 2.0
        out[:] = exact + rng.choice([-1.0, 1.0], exact.shape) * (a.shape[1] - 1) * unit * norms

    monkeypatch.setattr(np, "matmul", rough)
    decided = decisions(features, means, classifier, bias)
    assert_array_equal(decided[0], expected[0])
    assert_array_equal(decided[1], expected[1])


# Layout, scale, errors ----------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", DTYPES)
def test_neither_instruction_set_nor_threads_decide(dtype, restore_isa, small_blocks):
    features, means, classifier, bias = problem(150, 19, 60, dtype)
    means[30:] = np.nextafter(means[:30], 9.0)
    expected = decisions(features, means, classifier, bias, num_threads=1)
    for isa in ISAS:
        _core.set_isa(isa)
        for threads in (1, 2, 3):
            decided = decisions(features, means, classifier, bias, num_threads=threads)
            assert_array_equal(decided[0], expected[0])
            assert_array_equal(decided[1], expected[1])


def test_bfloat16_comes_as_its_bits(monkeypatch):
    # As `feature_rows` has them from the libraries that know the type.
    monkeypatch.setattr(_decisions, "feature_rows", lambda features, _, dim: features)
    features, means, classifier, bias = problem(80, 10, 12)
    bits = (features.view(np.uint32) >> 16).astype(np.uint16)
    widened = (bits.astype(np.uint32) << 16).view(np.float32)
    decided = decisions(bits, means, classifier, bias)
    assert_array_equal(decided[0], reference.nearest_means(widened, means))
    assert_array_equal(decided[1], reference.largest_outputs(widened, classifier, bias))
    bits[7, 3] = 0xFF80
    with pytest.raises(ValueError, match=r"features is not finite: -inf at position \(7, 3\)"):
        decisions(bits, means)


def test_rows_apart_in_memory():
    features, means, classifier, bias = problem(90, 10, 12)
    for view in (features[::3], features[::-1], features[:, 2:9]):
        dims = slice(2, 9) if view.shape[1] == 7 else slice(None)
        rows = np.ascontiguousarray(means[:, dims]), np.ascontiguousarray(classifier[:, dims])
        same_as_reference(view, *rows, bias)


@pytest.mark.parametrize("exponent", [-100, -40, 40, 100])
def test_scale_decides_nothing(exponent, small_blocks):
    features, means, classifier, bias = problem(70, 8, 30, np.float32)
    means[15:] = np.nextafter(means[:15], 9.0)
    expected = decisions(features, means, classifier, bias)
    scaled = np.ldexp(features, exponent), np.ldexp(means, exponent)
    decided = decisions(*scaled, classifier, np.ldexp(bias, exponent))
    assert_array_equal(decided[0], expected[0])
    assert_array_equal(decided[1], expected[1])


def test_samples_far_from_all_means():
    # Beyond the range of binary32, once relative to the spread of the means.
    rng = np.random.default_rng(2)
    means = rng.integers(-8, 9, (20, 3)) * 2.0**-70
    features = np.array([[2.0**70, 0, 0], [0, -(2.0**60), 0], [0, 0, 2.0**-70]], dtype=np.float32)
    classifier, bias = rng.normal(size=(20, 3)), rng.normal(size=20)
    nearest, predicted = decisions(features, means, classifier, bias)
    assert nearest[2] == reference.nearest_means(features, means)[2]
    assert_array_equal(predicted, reference.largest_outputs(features, classifier, bias))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("position", [(0, 0), (3, 17), (299, 18)])
def test_what_is_not_finite_is_refused_by_name(dtype, value, position, small_blocks):
    features, means, *_ = problem(300, 19, 5, dtype)
    features[position] = value
    features[-1, -1] = value
    row, column = position
    text = rf"features is not finite: {value} at position \({row}, {column}\)"
    with pytest.raises(ValueError, match=text):
        decisions(features, means, num_threads=3)


def test_interrupt_returns_quickly():
    features, means, classifier, bias = problem(4000, 256, 2000)
    alike = np.ones_like(means)

    def again_and_again(means):
        while True:
            decisions(features, means, classifier, bias)

    for rows in (means, alike):
        assert seconds_after_interrupt(lambda rows=rows: again_and_again(rows)) < LIMIT


def test_memory_stays_within_blocks():
    # All scores would take 480 MB.
    if SANITIZED:
        pytest.skip("the sanitizers' own memory would be counted")
    program = """
import resource, numpy as np
from infall.classes._decisions import decisions
rng = np.random.default_rng(0)
features, means = rng.normal(size=(12_000, 16)).astype(np.float32), rng.normal(size=(10_000, 16))
decisions(features[:500], means[:500], means[:500])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
decisions(features, means, means)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    environment = {**os.environ, "OPENBLAS_NUM_THREADS": "2"}
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, env=environment
    )
    assert int(run.stdout) < 64 * 2**20
