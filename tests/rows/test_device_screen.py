"""The screen of a device, run by the host: bit for bit what is selected without it.

What a device approximates is emulated as the right value and an error, which may lie anywhere in
what is allowed: at either end of it as well (docs/screening.md).
"""

import math
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from infall import _core
from screen_cases import direction, padded

cuda = pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)
ANY, MOST, LEAST = (-1.0, 1.0), (1.0, 1.0), (-1.0, -1.0)
TILE_ROWS, RESIDENT_BLOCKS = 512, 2112


@pytest.fixture(params=[ANY, MOST, LEAST], ids=["any", "most", "least"])
def errors(request):
    """Emulate a device of such errors, in units of the largest allowed."""
    cuda.set_approximation_errors(*request.param)
    yield
    cuda.set_approximation_errors(*ANY)


@pytest.fixture
def errors_beyond_what_is_allowed():
    cuda.set_approximation_errors(-1e5, 1e5)
    yield
    cuda.set_approximation_errors(*ANY)


KINDS = ["dense", "sparse", "single", "equal", "subnormal"]


def select(w, dim, screened, *, rows, num_rows, thresholds, absolute=True, seed=3, layer=1):
    """Select on the emulated device, the best row first: indices and projections, (num_rows,)."""
    batch = len(w)
    indices = np.full((batch, num_rows), -7, np.int64)
    projections = np.full((batch, num_rows), np.nan)
    size = cuda.selection_workspace(num_rows, rows[1] - rows[0], batch)
    space = np.full(size + 64, 255, np.uint8)
    results = (space.ctypes.data, indices.ctypes.data, projections.ctypes.data)
    task = (*rows, num_rows, batch, absolute, False, *thresholds, *results)
    cuda.select_stream((seed, layer, dim), task, w.ctypes.data, screened, 0, 0)
    assert (space[-64:] == 255).all()
    return indices[0], projections[0]


def select_on_host(w, dim, *, rows, num_rows, absolute=True, seed=3, layer=1):
    [(indices, projections)] = _core.select_stream(
        w, dim, seed, layer, *rows, num_rows, absolute, -math.inf, 1, None, False
    )
    return indices, projections


def assert_same_bits(selected, expected):
    assert_array_equal(selected[0], expected[0])
    assert_array_equal(selected[1].view(np.int64), expected[1].view(np.int64))


def assert_no_row_is_lost(w, dim, *, screened=True, **task):
    """The threshold is the last score wanted: an estimate too low loses that row for good."""
    expected = select_on_host(w, dim, **task)
    score = np.abs if task.get("absolute", True) else np.asarray
    last = float(score(expected[1])[-1])
    assert_same_bits(select(w, dim, screened, thresholds=(last, 1e9), **task), expected)
    return last


# Bits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "signed"])
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 2, 15, 257])
def test_estimates_rule_out_no_row(errors, kind, dim, absolute):
    w, rows = direction(kind, dim), (1001, 1001 + max(600, 2**13 // dim))
    for num_rows in (1, 13):
        assert_no_row_is_lost(w, dim, rows=rows, num_rows=num_rows, absolute=absolute)


@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "signed"])
@pytest.mark.parametrize("kind", ["dense", "equal"])
def test_errors_beyond_what_is_allowed_lose_rows(errors_beyond_what_is_allowed, kind, absolute):
    # The test above can fail.
    w, task = direction(kind, 15), {"rows": (0, 3000), "num_rows": 40, "absolute": absolute}
    with pytest.raises(AssertionError):
        assert_no_row_is_lost(w, 15, **task)


@pytest.mark.sanitize
@pytest.mark.parametrize(
    "rows",
    [
        (12345, 14001),
        (7, 8),
        (511, 1025),
        (2**32 - 3001, 2**32 + 2007),
        (2**62 + 5, 2**62 + 3000),
        (2**63 - 3000, 2**63 - 1),
    ],
)
@pytest.mark.parametrize("dim", [6, 300])
def test_ranges_of_rows_begin_and_end_anywhere(errors, rows, dim):
    w = direction("dense", dim)
    for num_rows, absolute in ((min(20, rows[1] - rows[0]), True), (1, False)):
        task = {"rows": rows, "num_rows": num_rows, "absolute": absolute}
        assert_no_row_is_lost(w, dim, seed=2**64 - 1, layer=2**32 - 1, **task)


@pytest.mark.slow  # the sanitized emulation takes minutes for so many blocks
def test_rows_that_wait_share_their_upper_word():
    # The first 20 blocks take a tile below 2^32 and one above.
    rows = (2**32 - 20 * TILE_ROWS + 77, 2**32 + RESIDENT_BLOCKS * TILE_ROWS)
    assert_no_row_is_lost(direction("equal", 1), 1, rows=rows, num_rows=50000)


@pytest.mark.sanitize
@pytest.mark.parametrize("threshold", [-math.inf, -1.0, 0.0, 0.3, 1.0])
@pytest.mark.parametrize("absolute", [True, False], ids=["absolute", "signed"])
def test_any_share_of_the_rows_may_pass(threshold, absolute):
    # From a few rows that wait to more than a block has threads for, in every tile.
    for dim, count in ((3, 3000), (260, 1100)):
        w = direction("dense", dim)
        task = {"rows": (100, 100 + count), "num_rows": count, "absolute": absolute}
        expected = select(w, dim, False, thresholds=(threshold, -math.inf), **task)
        assert_same_bits(select(w, dim, True, thresholds=(threshold, -math.inf), **task), expected)


@pytest.mark.sanitize
def test_the_second_pass(errors):
    # Right thresholds; a first one that lets nothing pass; a first one that lets too much pass.
    w, task = direction("dense", 6), {"rows": (2**33 - 1, 2**33 + 9000), "num_rows": 10}
    expected = select_on_host(w, 6, **task)
    for thresholds in ((2.9, 2.5), (9.0, 2.9), (0.5, 2.9)):
        assert_same_bits(select(w, 6, True, thresholds=thresholds, **task), expected)


@pytest.mark.sanitize
@settings(deadline=None, max_examples=30, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            [0.0, -0.0, 1.0, -1.0, 3e-19, 2**-61, 1e-40, 0.25, 1e-3, 1e18, 1e20, 3e38, math.inf,
             -math.inf, math.nan]
        ),
        min_size=1,
        max_size=12,
    ),
    st.integers(0, 2**63 - 2**12),
    st.integers(1, 1100),
    st.floats(-1.0, 4.0),
    st.booleans(),
)  # fmt: skip
def test_any_weights_range_and_threshold(weights, first, count, threshold, absolute):
    w = padded(np.array(weights))
    task = {"rows": (first, first + count), "num_rows": count, "absolute": absolute}
    for scale in (1.0, float(np.abs(w).max(initial=0.0, where=np.isfinite(w)))):
        thresholds = (threshold * scale, -math.inf)
        expected = select(w, len(weights), False, thresholds=thresholds, **task)
        screened = select(w, len(weights), True, thresholds=thresholds, **task)
        assert_same_bits(screened, expected)


@pytest.mark.parametrize("weight", [2.0**55, 2.0**60, 2.0**66, 2.0**100])
def test_estimates_that_would_overflow_rule_nothing_out(weight):
    # Of the rows wanted some are below zero; minus infinity would be below the threshold.
    w = padded([weight, weight / 8])
    task = {"rows": (0, 700), "num_rows": 400, "absolute": False}
    thresholds = (-weight, 9 * weight)
    expected = select(w, 2, False, thresholds=thresholds, **task)
    assert_same_bits(select(w, 2, True, thresholds=thresholds, **task), expected)
    assert -weight < expected[1].min() < 0.0


# When rows are screened ---------------------------------------------------------------------------


def screens(dim, rows, num_rows=50, batch=1):
    """Whether rows are screened by themselves: with errors beyond what is allowed some are lost."""
    w = np.repeat(direction("dense", dim), batch, axis=0)
    exact = select_on_host(w[:1], dim, rows=rows, num_rows=num_rows)
    last = abs(exact[1][-1])
    selected = select(w, dim, None, rows=rows, num_rows=num_rows, thresholds=(last, 9.0))
    return not np.array_equal(selected[0], exact[0])


def test_many_rows_of_one_direction_are_screened(errors_beyond_what_is_allowed):
    many, few = (0, 2**17), (0, 2**17 - 1)
    assert screens(4, many)
    assert not screens(4, few)
    assert not screens(4, many, batch=2)
    # Nor where half of the rows would pass.
    assert not screens(4, many, num_rows=2**16)


def test_what_is_screened_by_itself_keeps_its_bits(errors):
    assert_no_row_is_lost(direction("dense", 7), 7, rows=(5, 5 + 2**17), num_rows=20, screened=None)


def test_only_one_direction_is_screened():
    w = np.repeat(direction("dense", 8), 2, axis=0)
    with pytest.raises(ValueError, match="only one direction can be screened"):
        select(w, 8, True, rows=(0, 4096), num_rows=3, thresholds=(2.0, 1.0))


# The margin ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("dim", [1, 15, 784])
def test_estimates_keep_to_the_margin(errors, kind, dim):
    w = direction(kind, dim)
    count = max(64, 2**16 // dim)
    for first in (0, 2**62 + 3):
        estimates, margin = np.full(count, np.nan, np.float32), np.full(1, np.nan)
        cuda.screen_estimates(
            (9, 4, dim), first, count, w.ctypes.data, estimates.ctypes.data, margin.ctypes.data,
            0, 0
        )  # fmt: skip
        indices, projections = select_on_host(
            w, dim, rows=(first, first + count), num_rows=count, seed=9, layer=4
        )
        deviation = np.abs(estimates.astype(np.float64) - projections[np.argsort(indices)])
        assert not (deviation > margin).any()
        assert np.isnan(deviation).mean() < 0.01
        assert margin < 0.002 * math.sqrt(-(-dim // 2))


CSRC = Path(__file__).parents[2] / "csrc"
EXPRESSION = r"{} = (-?0x[0-9a-fp.+-]+|[0-9.e-]+)"


def constant(header, name):
    text = re.search(EXPRESSION.format(name), (CSRC / header).read_text())[1]
    return float.fromhex(text) if "x" in text else float(text)


def test_the_margin_has_room_for_the_errors_allowed():
    log2_error, root_error, cosine_error = (
        constant("runtime/approximate.h", name)
        for name in ("log2_error", "root_error", "cosine_error")
    )
    near_one = 1 - np.arange(1, 2**20) * 2.0**-24
    uniform = np.concatenate([near_one, np.geomspace(2.0**-33, 0.95, 10**6)])
    log = np.log2(uniform)
    radius = np.sqrt(-2 * math.log(2) * log)
    worst = 0.0
    for sign in (-1, 1):  # the logarithm, two products and the scale, the root
        square = -2 * math.log(2) * (log - sign * log2_error * np.maximum(1.0, -log))
        square *= 1 + sign * 2**-21
        estimate = np.sqrt(np.maximum(square, 0.0)) * (1 + sign * root_error)
        assert estimate.max() < 6.78
        worst = max(worst, np.abs(estimate - radius).max())
    # The cosine, its angle, and what the engine's own radius and point are off.
    of_pair = worst + 6.78 * (cosine_error + 2**-17 + 2**-21) + 2**-19
    assert of_pair <= constant("rows/device_screen.h", "pair_error") <= 1.1 * of_pair


def engine_deviations(first, count):
    """Most that radius and point of `count` words are off, from `first` on."""
    radius, _, a, b = (x.astype(np.float64) for x in _core.screen_pairs(first, count))
    word = np.arange(first, first + count, dtype=np.uint32)
    uniform = np.float64(1) * word.astype(np.float32) * float.fromhex("0x1.fffffep-33") + 2.0**-33
    uniform = uniform.astype(np.float32).astype(np.float64)
    low = (word << np.uint32(2)).view(np.int32) * (math.pi * 2.0**-33)
    angle = np.where(word >> 30 & 1, math.pi / 2 - low, low) + math.pi * (word >> 31)
    point = np.hypot(a - np.cos(angle), b - np.sin(angle))
    return np.abs(radius - np.sqrt(-2 * np.log(uniform))).max(), point.max()


def test_engine_is_near_what_it_approximates():
    step = 2**12
    ends = [k * 2**27 for k in range(33)] + [2**k for k in range(13, 32)]
    near_ends = {e for end in ends for e in (end - step, end) if 0 <= e < 2**32}
    anywhere = step * np.random.default_rng(0).integers(0, 2**32 // step, 200)
    for first in (*near_ends, *anywhere.tolist()):
        radius, point = engine_deviations(first, step)
        assert radius <= 2**-19
        assert point <= 2**-21
