"""Codes of hyperplanes and their distances."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

import infall
import reference
from chance import plausible
from infall import _core
from selection_cases import few, vector

pytestmark = pytest.mark.sanitize


@few
@given(st.integers(1, 300), st.integers(1, 20), st.integers(1, 9), st.integers(1, 4))
def test_codes_are_the_signs_of_the_projections(num_bits, dim, inputs, threads):
    x = np.random.default_rng(num_bits).normal(size=(inputs, dim))
    codes = infall.hyperplane_codes(x, num_bits, seed=5, layer=9, num_threads=threads)
    assert codes.shape == (inputs, -(-num_bits // 8))
    planes = infall.gaussian_rows(np.arange(num_bits), dim, seed=5, layer=9)
    expected = reference.hyperplane_codes(x, planes)
    margin = np.abs(planes.astype(np.float64) @ x.T).min()
    if margin > 1e-5:  # no projection so close to zero that its sign depends on rounding
        assert_array_equal(codes, expected)
    assert_array_equal(infall.hyperplane_codes(x[0], num_bits, seed=5, layer=9), codes[0])
    bits = np.unpackbits(codes, axis=1, bitorder="little")
    assert not bits[:, num_bits:].any()


def test_codes_of_many_inputs_equal_those_of_each():
    x = np.random.default_rng(0).normal(size=(600, 10))
    codes = infall.hyperplane_codes(x, 200, num_threads=2)
    for i in (0, 255, 256, 599):
        assert_array_equal(infall.hyperplane_codes(x[i], 200), codes[i])
        assert_array_equal(infall.hyperplane_codes(1e30 * x[i], 200), codes[i])


@few
@given(
    st.integers(1, 40),
    st.integers(1, 70),
    st.integers(1, 33) | st.integers(120, 400),
    st.integers(1, 4),
)
def test_hamming_distances_count_bits(n, m, num_bytes, threads):
    rng = np.random.default_rng(n * 100 + m)
    a = rng.integers(0, 256, (n, num_bytes), dtype=np.uint8)
    b = rng.integers(0, 256, (m, num_bytes), dtype=np.uint8)
    distances = infall.hamming_distances(a, b, num_threads=threads)
    assert_array_equal(distances, reference.hamming_distances(a, b))


@pytest.mark.parametrize("isa", _core.available_isas())
@pytest.mark.parametrize("num_bytes", [1, 7, 8, 9, 63, 64, 65, 127, 128, 129, 1000])
def test_every_instruction_set_counts_the_same_bits(isa, num_bytes, restore_isa):
    rng = np.random.default_rng(num_bytes)
    a = rng.integers(0, 256, (37, num_bytes), dtype=np.uint8)
    b = rng.integers(0, 256, (70, num_bytes), dtype=np.uint8)
    a[0], b[0] = 0, 255  # the largest distance there is
    _core.set_isa(isa)
    assert_array_equal(infall.hamming_distances(a, b), reference.hamming_distances(a, b))


def test_a_single_code_has_no_axis_in_the_distances():
    codes = infall.hyperplane_codes(vector(6, batch=5), 50)
    distances = infall.hamming_distances(codes)
    assert_array_equal(distances, infall.hamming_distances(codes, codes))
    assert not distances.diagonal().any()
    assert_array_equal(infall.hamming_distances(codes[1], codes), distances[1])
    assert_array_equal(infall.hamming_distances(codes, codes[2]), distances[:, 2])
    assert infall.hamming_distances(codes[1], codes[2]) == distances[1, 2]
    assert infall.hamming_distances(codes[1], codes[2]).shape == ()


def test_hamming_distances_are_binomial_in_the_angle():
    rng = np.random.default_rng(3)
    bits, pairs = 512, 600
    for theta in (0.05, 0.3, 0.5, 0.9):
        x = rng.normal(size=(pairs, 6))
        x /= np.linalg.norm(x, axis=1, keepdims=True)
        other = rng.normal(size=(pairs, 6))
        other -= np.sum(other * x, axis=1, keepdims=True) * x
        other /= np.linalg.norm(other, axis=1, keepdims=True)
        y = math.cos(math.pi * theta) * x + math.sin(math.pi * theta) * other
        distances = []
        for i in range(pairs):  # a layer for each pair: independent hyperplanes
            codes = infall.hyperplane_codes(np.stack([x[i], y[i]]), bits, layer=i)
            distances.append(infall.hamming_distances(codes[:1], codes[1:])[0, 0])
        total = stats.binomtest(int(np.sum(distances)), bits * pairs, theta)
        assert plausible(total.pvalue)
        edges = np.unique(stats.binom(bits, theta).ppf(np.linspace(0.05, 0.95, 10)))
        cells = np.digitize(distances, edges, right=True)
        cdf = np.concatenate([[0.0], stats.binom(bits, theta).cdf(edges), [1.0]])
        counts = np.bincount(cells, minlength=len(edges) + 1)
        assert plausible(stats.chisquare(counts, np.diff(cdf) * pairs).pvalue)
