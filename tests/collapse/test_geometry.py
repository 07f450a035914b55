"""Pairwise geometry of class means against the NumPy reference."""

import subprocess
import sys
from typing import NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal

import reference
from infall import _core
from interrupts import LIMIT, SANITIZED, seconds_after_interrupt

pytestmark = pytest.mark.sanitize

ISAS = _core.available_isas()
few = settings(max_examples=25, deadline=None, derandomize=True)


class Geometry(NamedTuple):
    """What `pair_geometry` returns, each (K,)."""

    cdnv_sum: np.ndarray
    cdnv_max: np.ndarray
    cdnv_argmax: np.ndarray
    cdnv_min: np.ndarray
    excess_sum: np.ndarray
    excess_squares: np.ndarray
    excess_max: np.ndarray
    excess_argmax: np.ndarray
    gram_sum: np.ndarray
    gram_squares: np.ndarray


def geometry(means, variances, threads=2, progress=None):
    return Geometry(*_core.pair_geometry(means, variances, threads, progress))


def classes(num_classes, dim, seed=0):
    """Centred means (K, d) and variances (K,)."""
    rng = np.random.default_rng([num_classes, dim, seed])
    means = rng.normal(size=(num_classes, dim))
    return means - means.mean(axis=0), rng.random(num_classes)


def same_bits(actual, expected):
    for name, a, b in zip(Geometry._fields, actual, expected, strict=True):
        assert_array_equal(a.view(np.int64), b.view(np.int64), err_msg=name)


def close_to_reference(actual, means, variances):
    """Assert 1e-12 relative; where terms cancel, relative to their root mean square."""
    cdnv_sums, _, largest, argmax, least = reference.over_later_partners(
        reference.cdnv_matrix(means, variances)
    )
    assert_allclose(actual.cdnv_sum, cdnv_sums, rtol=1e-12)
    assert_allclose(actual.cdnv_max, largest, rtol=1e-12)
    assert_allclose(actual.cdnv_min, least, rtol=1e-12)
    assert_array_equal(actual.cdnv_argmax, argmax)
    for matrix, sums, squares in (
        (reference.cosine_excess_matrix(means), actual.excess_sum, actual.excess_squares),
        (reference.gram_excess_matrix(means), actual.gram_sum, actual.gram_squares),
    ):
        expected_sums, expected_squares, *_ = reference.over_later_partners(matrix)
        scale = np.sqrt(np.mean(matrix**2))
        assert_allclose(sums, expected_sums, rtol=1e-12, atol=1e-12 * scale)
        assert_allclose(squares, expected_squares, rtol=1e-12, atol=1e-24 * scale**2)
    excess = reference.cosine_excess_matrix(means)
    _, _, largest, argmax, _ = reference.over_later_partners(excess)
    assert_allclose(actual.excess_max, largest, rtol=1e-12, atol=1e-14)
    for c, partner in enumerate(actual.excess_argmax[:-1]):
        assert excess[c, partner] >= largest[c] - 1e-14
        assert partner > c
    assert actual.excess_argmax[-1] == -1


DIMS = (1, 2, 7, 8, 9, 255, 256, 257, 300, 513)


@pytest.mark.parametrize("dim", DIMS)
@pytest.mark.parametrize("num_classes", [2, 3, 8, 9, 25, 191, 192, 193, 300])
def test_pairs_are_those_of_the_reference(num_classes, dim):
    means, variances = classes(num_classes, dim)
    close_to_reference(geometry(means, variances), means, variances)


@pytest.mark.parametrize("num_classes", [2, 24, 25, 193, 500])
@pytest.mark.parametrize("dim", DIMS)
def test_bits_depend_on_neither_instruction_set_nor_threads(num_classes, dim, restore_isa):
    means, variances = classes(num_classes, dim)
    means[num_classes // 2] = means[0] * (1.0 + 1e-9)  # the path for close means too
    expected = geometry(means, variances, 1)
    rows = _core.cdnv_block(means, variances, 0, num_classes, 1, None)
    for isa in ISAS:
        _core.set_isa(isa)
        for threads in (1, 2, 5):
            same_bits(geometry(means, variances, threads), expected)
        assert_array_equal(_core.cdnv_block(means, variances, 0, num_classes, 3, None), rows)


def test_bits_do_not_depend_on_how_the_work_is_cut(restore_isa):
    # Long means make small blocks: of other sizes for each instruction set.
    means, variances = classes(400, 30_000)
    expected = geometry(means, variances, 1)
    for isa in ISAS[1:2]:
        _core.set_isa(isa)
        same_bits(geometry(means, variances, 2), expected)


@pytest.mark.parametrize("num_classes", [2, 40, 400])
def test_rows_of_the_matrix(num_classes):
    means, variances = classes(num_classes, 33)
    matrix = _core.cdnv_block(means, variances, 0, num_classes, 2, None)
    assert_allclose(matrix, reference.cdnv_matrix(means, variances), rtol=1e-12)
    assert_array_equal(matrix, matrix.T)
    totals = geometry(means, variances)
    largest = [matrix[c, c + 1 :].max(initial=-np.inf) for c in range(num_classes)]
    assert_array_equal(totals.cdnv_max, largest)
    first, last = num_classes // 3, num_classes // 2 + 1
    assert_array_equal(_core.cdnv_block(means, variances, first, last, 2, None), matrix[first:last])
    assert _core.cdnv_block(means, variances, 1, 1, 2, None).shape == (0, num_classes)


@pytest.mark.parametrize("difference", [1e-2, 1e-4, 1e-7, 1e-10, 1e-14])
def test_nearly_coincident_means(difference):
    # A mean times a power of two and a step along one axis: the distance is known exactly.
    rng = np.random.default_rng(3)
    means = rng.normal(size=(50, 300))
    step = 2.0 ** np.round(np.log2(difference * np.linalg.norm(means[7])))
    means[7, 5] = 1.0
    means[31] = means[7]
    means[31, 5] += step
    variances = rng.random(50)
    exact = (variances[7] + variances[31]) / (2.0 * (means[31, 5] - 1.0) ** 2)
    totals = geometry(means, variances)
    assert totals.cdnv_argmax[7] == 31
    assert_allclose(totals.cdnv_max[7], exact, rtol=1e-15)
    close_to_reference(totals, means, variances)


def test_accuracy_over_all_distances():
    # Pairs at every share of their norm, on both sides of where the distance is summed again.
    rng = np.random.default_rng(8)
    base = rng.normal(size=700)
    shares = np.logspace(-9, 0, 120)
    means = base + shares[:, np.newaxis] * rng.normal(size=(120, 700))
    variances = rng.random(120)
    block = _core.cdnv_block(means, variances, 0, 120, 2, None)
    assert_allclose(block, reference.cdnv_matrix(means, variances), rtol=1e-12)


def test_coincident_means_are_infinitely_bad():
    means, variances = classes(300, 20)
    means[[40, 290]] = means[12]
    variances[[12, 290]] = 0.0  # also where no class has any variance
    totals = geometry(means, variances)
    assert totals.cdnv_max[12] == totals.cdnv_sum[12] == np.inf
    assert totals.cdnv_argmax[12] == 40
    assert totals.cdnv_argmax[40] == 290
    assert np.isfinite(np.delete(totals.cdnv_sum, [12, 40])).all()
    matrix = _core.cdnv_block(means, variances, 0, 300, 2, None)
    assert_array_equal(
        np.argwhere(np.isinf(matrix[:41])), [[12, 40], [12, 290], [40, 12], [40, 290]]
    )
    close_to_reference(totals, means, variances)


def test_the_lowest_partner_wins_ties():
    # A simplex: all pairs alike, over several blocks of partners.
    means = np.eye(450)
    variances = np.ones(450)
    totals = geometry(means, variances)
    later = np.append(np.arange(1, 450), -1)
    assert_array_equal(totals.cdnv_argmax, later)
    assert_array_equal(totals.excess_argmax, later)
    assert_array_equal(totals.cdnv_max[:-1], 0.5)
    assert_array_equal(totals.cdnv_min[:-1], 0.5)


def test_zero_means():
    means, variances = classes(200, 10)
    means[[0, 150]] = 0.0
    totals = geometry(means, variances)
    close_to_reference(totals, means, variances)
    assert_allclose(totals.excess_sum[150], 49 / 199, rtol=1e-15)
    assert totals.cdnv_argmax[0] == 150
    alone = geometry(np.zeros((3, 4)), np.zeros(3))
    assert_array_equal(alone.cdnv_min, np.inf)
    assert_array_equal(alone.excess_sum, [1.0, 0.5, 0.0])


def test_an_exact_simplex_has_no_excess():
    num_classes = 300
    means = np.eye(num_classes) - 1.0 / num_classes
    totals = geometry(means, np.ones(num_classes))
    assert np.abs(totals.excess_max[:-1]).max() < 1e-14
    assert totals.excess_squares.max() < 1e-26
    assert np.abs(totals.gram_sum).max() < 1e-13
    assert_allclose(totals.cdnv_sum, 0.5 * np.arange(299, -1, -1), rtol=1e-13)


@pytest.mark.parametrize("exponent", [-498, -60, 60, 498])  # 1e-150 to 1e150
def test_scale_by_a_power_of_two_changes_no_bit(exponent):
    means, variances = classes(220, 70)
    means[3] = means[2] * (1.0 + 1e-6)
    expected = geometry(means, variances)
    scaled = geometry(np.ldexp(means, exponent), np.ldexp(variances, 2 * exponent))
    for name in Geometry._fields[:8]:
        assert_array_equal(getattr(scaled, name), getattr(expected, name), err_msg=name)
    assert_array_equal(scaled.gram_sum, np.ldexp(expected.gram_sum, 2 * exponent))
    with np.errstate(over="ignore", under="ignore"):
        squares = np.ldexp(expected.gram_squares, 4 * exponent)
    assert_array_equal(scaled.gram_squares, squares)


def test_one_class_has_no_partners():
    totals = geometry(np.ones((1, 3)), np.ones(1))
    assert [a[0] for a in totals] == [0, -np.inf, -1, np.inf, 0, 0, -np.inf, -1, 0, 0]
    assert_array_equal(_core.cdnv_block(np.ones((1, 3)), np.ones(1), 0, 1, 1, None), [[0.0]])


@few
@given(st.integers(2, 60), st.integers(1, 20), st.integers(0, 99), st.sampled_from([1, 10, 30]))
def test_any_classes_with_many_ties(num_classes, dim, seed, levels):
    rng = np.random.default_rng(seed)
    means = rng.integers(-levels, levels + 1, (num_classes, dim)).astype(np.float64)
    variances = rng.integers(0, 3, num_classes).astype(np.float64)
    close_to_reference(geometry(means, variances), means, variances)


def test_progress_counts_pairs():
    seen = []
    geometry(*classes(1000, 40), progress=seen.append)
    assert seen == sorted(seen)
    assert seen[-1] == 1000 * 999 // 2
    seen.clear()
    _core.cdnv_block(*classes(400, 40), 100, 350, 2, seen.append)
    assert seen[-1] == 250 * 400


LONG_CALLS = {
    "pairs": (20_000, 256),
    "close": (20_000, 256),
    "long means": (1000, 2**13),
}


@pytest.mark.parametrize("kind", LONG_CALLS)
def test_interrupt_returns_quickly(kind):
    num_classes, dim = LONG_CALLS[kind]
    means = np.ones((num_classes, dim))
    if kind != "close":
        means[:, ::2] = np.arange(num_classes)[:, np.newaxis]
    variances = np.ones(num_classes)

    def again_and_again():
        while True:
            geometry(means, variances)

    assert seconds_after_interrupt(again_and_again) < LIMIT
    assert _core.cdnv_block(means, variances, 3, 5, 2, None).shape == (2, num_classes)


def test_memory_stays_within_blocks():
    # 30 000 classes: a matrix of them would take 7 GB.
    if SANITIZED:
        pytest.skip("the sanitizers' own memory would be counted")
    program = """
import resource, numpy as np
from infall import _core
means, variances = np.random.default_rng(0).normal(size=(30_000, 8)), np.ones(30_000)
_core.pair_geometry(means[:500], variances[:500], 2, None)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
_core.pair_geometry(means, variances, 2, None)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 12 * 2**20
