"""Screening of the stream sampler: estimates keep to their margin, selections keep their bits."""

import math
import os
import re
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy.optimize import linprog

from infall import _core
from screen_cases import DIRECTIONS, direction, padded

pytestmark = pytest.mark.sanitize
ISAS = _core.available_isas()


def select(
    w, dim, screened, *, rows, num_rows, threshold, absolute=True, seed=3, layer=1, threads=2
):
    [(indices, projections)] = _core.select_stream(
        w, dim, seed, layer, *rows, num_rows, absolute, threshold, threads, None, screened
    )
    return indices, projections


def assert_same_selections(w, dim, **settings):
    exact = select(w, dim, False, **settings)
    for screened in (True, None):
        indices, projections = select(w, dim, screened, **settings)
        assert_array_equal(indices, exact[0])
        assert_array_equal(projections.view(np.int64), exact[1].view(np.int64))
    return exact


# Bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "signed"])
@pytest.mark.parametrize("kind", DIRECTIONS)
@pytest.mark.parametrize("dim", [1, 2, 3, 5, 15, 64, 257, 784, 3001])
def test_screened_rows_are_the_exact_ones(isa, absolute, kind, dim, restore_isa):
    _core.set_isa(isa)
    w = direction(kind, dim)
    rows = (0, max(300, 2**16 // dim))
    for threshold, num_rows in [(2.5, 10), (1.0, 5000), (-0.1, 1)]:
        assert_same_selections(
            w, dim, rows=rows, num_rows=num_rows, threshold=threshold, absolute=absolute
        )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(
    "rows",
    [
        (12345, 20001),
        (7, 8),
        (31, 65),
        (2**32 - 5001, 2**32 + 7007),
        (2**62 + 5, 2**62 + 9000),
        (2**63 - 5000, 2**63 - 1),
    ],
)
def test_ranges_of_rows_begin_and_end_anywhere(isa, rows, restore_isa):
    _core.set_isa(isa)
    for dim, absolute, threads in [(15, True, 2), (70, False, 1)]:
        assert_same_selections(
            direction("dense", dim),
            dim,
            rows=rows,
            num_rows=20,
            threshold=1.5,
            absolute=absolute,
            seed=2**64 - 1,
            layer=2**32 - 1,
            threads=threads,
        )


@pytest.mark.parametrize("isa", ISAS)
def test_a_threshold_that_rises_keeps_the_best_rows(isa, restore_isa):
    _core.set_isa(isa)
    indices, projections = assert_same_selections(
        direction("dense", 5), 5, rows=(0, 2**18), num_rows=3, threshold=0.5
    )
    assert len(indices) == 3
    assert np.abs(projections).min() > 4.0


@pytest.mark.parametrize("isa", ISAS)
@given(
    st.lists(
        st.sampled_from([0.0, -0.0, 1.0, -1.0, 3e-19, 2**-61, 1e-40, 0.25, 1e-3]),
        min_size=1,
        max_size=40,
    ).filter(any),
    st.integers(0, 2**63 - 2**12),
    st.integers(1, 2**12 - 1),
    st.floats(-1.0, 4.0),
    st.booleans(),
    st.integers(0, 2**64 - 1),
)
@settings(deadline=None, max_examples=60)
def test_any_direction_range_and_threshold(isa, weights, first, count, threshold, absolute, seed):
    before = _core.isa()
    _core.set_isa(isa)
    try:
        w = padded(np.array(weights) / np.linalg.norm(weights))
        assert_same_selections(
            w,
            len(weights),
            rows=(first, first + count),
            num_rows=17,
            threshold=threshold,
            absolute=absolute,
            seed=seed,
        )
    finally:
        _core.set_isa(before)


def test_one_direction_with_a_threshold_is_screened():
    w = np.concatenate([direction("dense", 8)] * 2)
    settings = (8, 0, 0, 0, 4096, 3, True, 2.0, 1, None, True)
    with pytest.raises(ValueError, match="one direction"):
        _core.select_stream(w, *settings)
    with pytest.raises(ValueError, match="threshold"):
        select(w[:1], 8, True, rows=(0, 4096), num_rows=3, threshold=-math.inf)


# Blocks without weights ---------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("batch", [1, 3, 9])
def test_blocks_of_zero_weights_are_left_out_without_a_trace(isa, batch, restore_isa):
    _core.set_isa(isa)
    rng = np.random.default_rng(batch)
    dim, count = 203, 500
    blocks = rng.random((1, 51)) < 0.2
    blocks[0, -1] = True
    w = rng.choice([0.0, -0.0, 1.0], (batch, 51, 4)) * rng.standard_normal((batch, 51, 4))
    w = np.where(blocks[..., None], w, rng.choice([0.0, -0.0], w.shape)).reshape(batch, -1)
    w[:, 201:] = [0.5, 0.0, 0.0]
    # Too small to change a sum, but too small for blocks to be left out as well.
    whole = w.copy()
    whole[0, 202] = 1e-40
    task = (dim, 5, 6, 7, 7 + count, count, False, -math.inf, 2, None)
    left_out = _core.select_stream(w.astype(np.float32), *task)
    computed = _core.select_stream(whole.astype(np.float32), *task)
    for (rows, projections), (all_rows, all_projections) in zip(left_out, computed, strict=True):
        assert_array_equal(rows, all_rows)
        assert_array_equal(projections.view(np.int64), all_projections.view(np.int64))
    codes = [
        _core.hyperplane_codes(x.astype(np.float32), dim, 999, 5, None, 2, None) for x in (w, whole)
    ]
    assert_array_equal(*codes)


@pytest.mark.parametrize("isa", ISAS)
def test_no_weights_at_all_project_to_zero(isa, restore_isa):
    _core.set_isa(isa)
    w = np.zeros((1, 8), np.float32)
    [(rows, projections)] = _core.select_stream(w, 8, 0, 0, 0, 100, 100, True, -math.inf, 1, None)
    assert_array_equal(rows, np.arange(100))
    assert_array_equal(projections.view(np.int64), 0)


# The margin ---------------------------------------------------------------------------------------


def deviations(first, count):
    """Largest deviations among `count` words of one piece, from `first` on: of points, of pairs.

    Those of (a, b) from the polynomials, and of r from the estimated radius, with what an error of
    angle_error makes of it. Radius words without an estimate (NaN) are never ruled out.
    """
    angle_error, _, of_a, of_b = _core.screen_shape()
    radius, estimate, a, b = (x.astype(np.float64) for x in _core.screen_pairs(first, count))
    pieces = of_a.shape[1]
    assert first // (2**32 // pieces) == (first + count - 1) // (2**32 // pieces)
    piece = first // (2**32 // pieces)
    angle = np.arange(first, first + count, dtype=np.uint32).view(np.int32).astype(np.float64)
    assert (a * a + b * b).max() <= (1 + 2**-22) ** 2
    a -= np.polynomial.polynomial.polyval(angle, of_a[:, piece])
    b -= np.polynomial.polynomial.polyval(angle, of_b[:, piece])
    estimated = ~np.isnan(estimate)
    radius, estimate = radius[estimated], estimate[estimated]
    of_pair = 0.0
    if len(radius):
        assert estimate.max() <= 6.78
        of_pair = (np.abs(radius - estimate) * (1 + 2**-22) + np.abs(estimate) * angle_error).max()
    return math.sqrt((a * a + b * b).max()), of_pair, count - len(radius)


def assert_within_bounds(starts, count):
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        points, pairs, without = zip(
            *pool.map(lambda first: deviations(first, count), starts), strict=True
        )
    angle_error, pair_error, *_ = _core.screen_shape()
    assert max(points) <= angle_error
    assert max(pairs) <= pair_error
    assert sum(without) <= 2**17  # 2^-15 of all words


@pytest.mark.parametrize("isa", ISAS)
def test_words_keep_to_their_bounds(isa, restore_isa):
    _core.set_isa(isa)
    ends = [k * 2**27 for k in range(33)] + [2**k for k in range(13, 32)]
    rng = np.random.default_rng(0)
    step = 2**12
    near_ends = {e for end in ends for e in (end - step, end) if 0 <= e < 2**32}
    anywhere = step * rng.integers(0, 2**32 // step, 200)
    assert_within_bounds([*near_ends, *anywhere.tolist()], step)


@pytest.mark.parametrize("isa", ISAS)
def test_deviations_are_those_of_their_definition(isa, restore_isa):
    _core.set_isa(isa)
    for first in (0, 2**15, 7 * 2**27, 2**31 - 2**12, 2**32 - 2**12):
        point, pair, without = _core.screen_deviations(first, 2**12)
        expected = deviations(first, 2**12)
        assert point == pytest.approx(expected[0], rel=1e-9)
        assert (pair, without) == expected[1:]


@pytest.mark.slow
@pytest.mark.parametrize("isa", ISAS)
def test_all_words_keep_to_their_bounds(isa, restore_isa):
    _core.set_isa(isa)
    step = 2**22
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        words = pool.map(lambda first: _core.screen_deviations(first, step), range(0, 2**32, step))
        points, pairs, without = zip(*words, strict=True)
    angle_error, pair_error, *_ = _core.screen_shape()
    assert angle_error * 0.99 < max(points) <= angle_error
    assert pair_error * 0.99 < max(pairs) <= pair_error
    assert sum(without) <= 2**17


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("kind", DIRECTIONS)
def test_estimates_keep_to_the_margin(isa, kind, restore_isa):
    _core.set_isa(isa)
    for dim in (1, 2, 15, 64, 784, 2100):
        w = direction(kind, dim)
        count = max(64, 2**17 // dim // 64 * 64)
        for first in (0, 2**32 - count, 2**62):
            estimates, margin = _core.screen_estimates(w, dim, 9, 4, first, count)
            rows = (first, first + count)
            indices, projections = select(
                w, dim, False, rows=rows, num_rows=count, threshold=-math.inf, seed=9, layer=4
            )
            exact = projections[np.argsort(indices)]
            deviation = np.abs(estimates.astype(np.float64) - exact)
            assert not (deviation > margin).any()
            assert np.isnan(deviation).mean() < 0.1


# Fitted constants ---------------------------------------------------------------------------------

TABLES = (Path(__file__).parents[2] / "csrc" / "rows" / "screen_tables.h").read_text()


def braced(name):
    """Return the numbers in the braces behind `name`."""
    inside = re.search(rf"{name}[^{{]*{{([^}}]*)}}", TABLES)[1]
    return np.array([number(text) for text in inside.split(",")])


def number(text):
    text = text.strip().removesuffix("f")
    return float.fromhex(text) if "x" in text else float(text)


@pytest.mark.parametrize(("name", "pieces"), [("arcs_of_32nds", 32), ("arcs_of_eighths", 8)])
def test_arcs_are_those_of_the_page(name, pieces):
    radial, bend, tangential = braced(name)
    h = math.pi / pieces
    # The minimax multiple of t for sin t: its error at the end is that where the slopes agree.
    assert tangential * h - math.sin(h) == pytest.approx(
        math.sin(math.acos(tangential)) - tangential * math.acos(tangential), rel=1e-6
    )
    t = np.linspace(0, h, 10001)
    assert bend == pytest.approx(0.0 if pieces == 32 else (1 - math.cos(h)) / h**2, rel=1e-9)
    errors = np.cos(t) - (radial - bend * t**2)
    assert errors.max() == pytest.approx(-errors.min(), rel=1e-4)


def words_of_half_octaves():
    """Return words (n,), their D as float32, and the numbers of their half octaves."""
    steps = np.unique(np.geomspace(1, 2**32 - 1, 60000).astype(np.int64))
    words = np.concatenate([[0], steps, 2**32 - steps, np.arange(1, 2000)])
    bits = words.astype(np.uint32).astype(np.float32).view(np.int32)
    log = ((159 << 23) + 2**15 - bits).astype(np.float32)
    return words, log, log.view(np.uint32) >> 22 & 31


@pytest.mark.parametrize("half_octave", range(32))
def test_lines_of_the_radius_are_the_best_ones(half_octave):
    value, slope = braced("radius_value")[half_octave], braced("radius_slope")[half_octave]
    words, log, numbers = words_of_half_octaves()
    words, log = words[numbers == half_octave], log[numbers == half_octave].astype(np.float64)
    if len(words) == 0:
        assert value == slope == 0.0
        return
    radius = np.sqrt(-2 * np.log((words + 0.5) * 2**-32))
    error = np.abs(value + slope * log - radius).max()
    # The best line there is: minimise e where |line - radius| <= e.
    x, ones = log[:, None] / log.max(), np.ones((len(log), 1))
    best = linprog(
        [0, 0, 1],
        A_ub=np.block([[x, ones, -ones], [-x, -ones, -ones]]),
        b_ub=np.concatenate([radius, -radius]),
        bounds=[(None, None)] * 3,
    )
    assert error <= 1.01 * best.fun + 1e-5
