"""Norms, directions and reflections: what they are, and on the emulated device bit for bit."""

import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from infall import _core
from infall._arrays.host import Host
from infall.rows._host import multiply_in_order, unit_vectors

pytestmark = pytest.mark.sanitize

every_isa = pytest.mark.parametrize("isa", _core.available_isas())
few = settings(max_examples=20, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def cuda():
    return pytest.importorskip(
        "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
    )


def pointer(array):
    """Address of a host array: the emulation's device memory."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def vectors(dim, batch, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, dim))


def axes(dim, batch):
    """Return the axes (B, k), each in turn, with alternating signs."""
    vectors = np.zeros((batch, dim))
    each = np.arange(batch)
    vectors[each, each % dim] = (-1.0) ** each
    return vectors


def lengths_as_defined(values):
    """Fraction and exponent of the norms (B,), from exact sums of squares rounded once."""
    lengths = []
    for row in values:
        exponent = math.frexp(np.abs(row).max())[1]
        square = sum(Fraction(math.ldexp(x, -exponent)) ** 2 for x in row)
        lengths.append((math.sqrt(float(square)), exponent))
    return zip(*lengths, strict=True)


@pytest.mark.parametrize("dim", [1, 2, 3, 15, 64, 255, 256, 257, 513, 3000])
def test_sums_of_squares_are_rounded_once(dim):
    w = vectors(dim, 40, seed=dim)
    # Entries over the whole range, whose small squares still decide how the sum is rounded.
    w[20:] *= 2.0 ** np.random.default_rng(1).integers(-60, 1, w[20:].shape)
    w *= 2.0 ** np.random.default_rng(2).integers(-900, 900, (40, 1))
    directions, norms, exponents = unit_vectors(Host(), w, "w")
    for actual, expected in zip((norms, exponents), lengths_as_defined(w), strict=True):
        assert_array_equal(actual, expected)
    scaled = np.ldexp(w, -exponents[:, None])
    assert_array_equal(directions, scaled / norms[:, None])


@pytest.mark.parametrize(
    "values",
    [
        [5e-324],
        [5e-324, 1e-320],
        [2.0**-1022, 5e-324],
        [2.0**-1023, 2.0**-1074],
        [1.7976931348623157e308, 5e-324, 1.0],
        [2.0**1023, 2.0**-51, 2.0**-52, 3.0 * 2.0**-51],
        [0.5, 1.0, 2.0],
        [-0.0, 3.0],
    ],
)
def test_the_ends_of_float64(values):
    w = np.array([values])
    directions, norms, exponents = unit_vectors(Host(), w, "w")
    expected_norms, expected_exponents = lengths_as_defined(w)
    assert_array_equal(norms, expected_norms)
    assert_array_equal(exponents, expected_exponents)
    assert_array_equal(directions, np.ldexp(w, -exponents[:, None]) / norms[:, None])


def test_vectors_without_a_direction():
    w = vectors(300, 5)
    w[1], w[2, 7], w[3, 299] = 0.0, np.nan, -np.inf
    directions, norms, exponents = _core.unit_vectors(w)
    assert_array_equal(np.isnan(norms), [False, True, True, True, False])
    assert_array_equal(np.isnan(directions).all(axis=1), np.isnan(norms))
    assert_array_equal(np.isnan(directions).any(axis=1), np.isnan(norms))
    assert_array_equal(exponents[1:4], 0)
    assert_array_equal(directions[::4], unit_vectors(Host(), w[::4].copy(), "w")[0])
    with pytest.raises(ValueError, match=r"w\[1\] is zero: it has no direction"):
        unit_vectors(Host(), w[:2], "w")


@few
@given(st.integers(1, 900), st.integers(1, 4), st.integers(0, 2**32), st.integers(-1074, 1023))
def test_unit_vectors_on_the_device(cuda, dim, batch, seed, exponent):
    rng = np.random.default_rng(seed)
    w = np.ldexp(rng.normal(size=(batch, dim)) * 2.0 ** rng.integers(-80, 1, dim), exponent)
    w[0, rng.integers(dim)] = rng.choice([0.0, np.nan, np.inf, 1.0, 5e-324])
    directions, norms = np.empty((batch, dim)), np.empty(batch)
    exponents = np.empty(batch, np.int64)
    into = (pointer(directions), pointer(norms), pointer(exponents))
    cuda.unit_vectors(pointer(w), batch, dim, *into, 0, 0)
    for actual, expected in zip((directions, norms, exponents), _core.unit_vectors(w), strict=True):
        assert_array_equal(actual, expected)


@pytest.mark.parametrize(
    ("batch", "dim"),
    [(1, 1), (1, 2), (1, 700), (3, 5), (5, 5), (40, 9), (9, 40), (70, 70), (3, 2**15 + 3)],
)
@pytest.mark.parametrize("kind", ["random", "axes", "same", "nearly"])
def test_reflections_on_the_device(cuda, batch, dim, kind):
    w = {
        "random": lambda: vectors(dim, batch),
        "axes": lambda: axes(dim, batch),
        "same": lambda: np.ones((batch, dim)),
        "nearly": lambda: 1.0 + 1e-160 * vectors(dim, batch),
    }[kind]()
    directions = unit_vectors(Host(), w, "w")[0]
    expected = _core.householder(directions)
    span = min(batch, dim)
    v, scale, columns = np.empty((span, dim)), np.empty(span), np.empty((dim, batch))
    into = (pointer(v), pointer(scale), pointer(columns))
    cuda.householder(pointer(directions), batch, dim, *into, 0, 0)
    assert_array_equal(v, expected[0])
    assert_array_equal(scale, expected[1])
    assert_array_equal(np.triu(columns[:span]), expected[2])
    # w^T = H_0 ... H_{span-1} [R; 0]
    product = np.zeros((dim, batch))
    product[:span] = expected[2]
    for h in reversed(range(span)):
        product -= expected[1][h] * np.outer(expected[0][h], expected[0][h] @ product)
    np.testing.assert_allclose(product.T, directions, atol=1e-13)


def test_reflections_of_nothing_leave_the_others_alone(cuda):
    directions = _core.unit_vectors(vectors(6, 4))[0]
    directions[1] = np.nan
    v, scale, factors = _core.householder(directions)
    assert np.isfinite(v).all()
    assert scale[1] == 0.0
    assert_array_equal(np.isnan(factors).any(axis=0), [False, True, False, False])
    columns = np.empty((6, 4))
    outputs = (np.empty_like(v), np.empty_like(scale), columns)
    cuda.householder(pointer(directions), 4, 6, *map(pointer, outputs), 0, 0)
    assert_array_equal(outputs[0], v)
    assert_array_equal(outputs[1], scale)
    assert_array_equal(np.triu(columns[:4]), factors)


@every_isa
@pytest.mark.parametrize(("batch", "dim"), [(1, 700), (40, 9), (33, 70), (3, 2**15 + 3)])
def test_reflections_are_the_same_bits_on_every_instruction_set(isa, batch, dim, restore_isa):
    directions = unit_vectors(Host(), vectors(dim, batch), "w")[0]
    _core.set_isa(_core.available_isas()[-1])
    expected = _core.householder(directions)
    _core.set_isa(isa)
    for actual, same in zip(_core.householder(directions), expected, strict=True):
        assert_array_equal(actual, same)


@every_isa
@pytest.mark.parametrize(("span", "count", "dim"), [(1, 70, 9), (5, 35, 33), (2, 3, 2**15 + 5)])
def test_rotated_rows_are_those_of_the_device(cuda, isa, span, count, dim, restore_isa):
    v, scale, _ = _core.householder(unit_vectors(Host(), vectors(dim, span), "w")[0])
    deciding = vectors(span, count, seed=1)
    rows = vectors(dim, count, seed=2).astype(np.float32)
    rotated, scratch = rows.copy(), np.empty((dim, count))
    inputs = (pointer(deciding), pointer(v), pointer(scale), span, pointer(scratch))
    cuda.rotate_rows(pointer(rotated), count, dim, *inputs, 0, 0)
    _core.set_isa(isa)
    for threads in (1, 2):
        actual = rows.copy()
        _core.rotate_rows(actual, deciding, v, scale, threads, None)
        assert_array_equal(actual, rotated)


@every_isa
@pytest.mark.parametrize("dim", [1, 5, 1023, 1024, 1025, 2500])
def test_products_are_summed_in_order(isa, dim, restore_isa):
    rows = vectors(dim, 45).astype(np.float32)
    w = vectors(dim, 1)[0]
    expected = []
    for row in rows:
        total = 0.0
        for product in (row.astype(np.float64) * w).tolist():
            total += product
        expected.append(total)
    _core.set_isa(isa)
    for threads in (1, 3):
        assert_array_equal(multiply_in_order(Host(), rows, w, threads), expected)


@pytest.mark.parametrize("dim", [1, 5, 300])
def test_products_in_order_on_the_device(cuda, dim):
    rows = vectors(dim, 45).astype(np.float32)
    w = vectors(dim, 1)[0]
    out = np.empty(45)
    cuda.multiply_in_order(pointer(rows), 45, dim, pointer(w), pointer(out), 0, 0)
    assert_array_equal(out, multiply_in_order(Host(), rows, w, 1))
