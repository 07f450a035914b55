"""Order statistics of |N(0, 1)| and what they are made of, against 30 digits."""

import mpmath
import numpy as np
import pytest
from numpy.testing import assert_array_equal
from scipy import stats

import infall
import reference
from chance import plausible
from infall import _core

pytestmark = pytest.mark.sanitize
ISAS = _core.available_isas()


def largest_of(width, exponentials):
    entries = np.array(exponentials, dtype=np.float64)[None]
    _core.largest_folded_normals(entries, width)
    return entries[0]


def quantiles(s):
    """Of one variable: the sum is the exponential itself."""
    entries = np.array(s, dtype=np.float64)[:, None]
    _core.largest_folded_normals(entries, 1.0)
    return entries[:, 0]


def ulps_off(values, exact):
    return max(
        abs(mpmath.mpf(value) - true) / mpmath.mpf(np.spacing(value))
        for value, true in zip(values.tolist(), exact, strict=True)
    )


def sums_in_use():
    # From E_0 / n at its least, 2^-65 / 2^63, and below for the laws of wider layers, to where
    # all of a layer is selected; close to the seams of the approximation as well.
    rng = np.random.default_rng(0)
    seams = [21 / 128, -np.log1p(-np.exp(-(7.0**2) / 2.0))]
    return np.concatenate(
        [
            np.exp(rng.uniform(np.log(2.0**-128), np.log(100.0), 500)),
            np.exp(rng.uniform(np.log(1e-3), np.log(5.0), 500)),
            np.exp(rng.uniform(np.log(1e-320), np.log(2.0**-128), 80)),
            rng.uniform(5.0, 700.0, 40),
            *(seam * (1.0 + rng.uniform(-1e-12, 1e-12, 20)) for seam in seams),
            [21 / 128, np.nextafter(21 / 128, 1.0), 2.0**-128, 2.0**-1022, 5e-324, 700.0],
        ]
    )


def test_quantiles_are_right_to_four_units_in_the_last_place():
    s = sums_in_use()
    exact = [reference.folded_normal_quantile(value) for value in s]
    assert ulps_off(quantiles(s), exact) < 4


@pytest.mark.parametrize("isa", ISAS[1:])
def test_every_instruction_set_gives_the_same_bits(isa, restore_isa):
    s = np.concatenate([sums_in_use(), np.random.default_rng(1).exponential(size=10**5)])
    many = np.random.default_rng(2).exponential(size=5000)
    _core.set_isa(ISAS[0])
    expected = quantiles(s), largest_of(6000.0, many)
    _core.set_isa(isa)
    assert_array_equal(quantiles(s), expected[0])
    assert_array_equal(largest_of(6000.0, many), expected[1])


def test_sums_lose_nothing_however_long_they_are():
    # Of all: the last of them are near zero, where an error of the sum is one of the value.
    spacings = np.random.default_rng(3).exponential(size=30_000)
    scores = largest_of(30_000.0, spacings)
    total, exact = mpmath.mpf(0), []
    with mpmath.workdps(40):
        for j, spacing in enumerate(spacings.tolist()):
            total += mpmath.mpf(spacing) / (30_000 - j)
            if j % 1500 == 1499:
                exact.append(reference.folded_normal_quantile(total))
    # The sum and its terms are rounded before the quantile is taken: at most 12 units for a sum
    # of 11 at the end, where the value is proportional to exp(-sum).
    assert ulps_off(scores[1499::1500], exact) < 4 + 12


def test_values_descend():
    spacings = np.random.default_rng(4).exponential(size=10**5) * 1e-14
    assert (np.diff(largest_of(1e5, spacings)) <= 0.0).all()


@pytest.mark.parametrize("width", [40, 10**12, 2**63 - 1])
def test_the_sampler_draws_them(width):
    selection = infall.select_rows(
        np.ones(1), width, num_rows=40, seed=3, layer=2, sampler="order_statistics", order="score"
    )
    spacings = reference.exponentials(40, 3, 2)
    exact = reference.largest_folded_normals(spacings, width)
    # The exponentials may differ by their own last places.
    assert ulps_off(np.abs(selection.unit_projections), exact) < 40
    assert_array_equal(
        np.sign(selection.unit_projections), reference.order_statistic_signs(40, 3, 2)
    )
    assert selection.indices.tolist() == reference.drawn_rows(40, width, 3, 2)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("span", [1, 2, 3, 8, 15, 16, 17, 70])
def test_deciding_entries_are_those_that_rotated_rows_score(isa, span, restore_isa):
    # Without a threshold select_rotated makes them one by one.
    _core.set_isa(isa)
    for first in (0, 2**32 - 51, 2**33 + 1, 2**63 - 120):
        rows = np.arange(first, first + 101)
        columns = _core.select_rotated(
            np.eye(span), 2**64 - 3, 7, first, first + 101, 101, True, -np.inf, 1, None
        )
        expected = np.empty((101, span))
        for column, (row_numbers, entries) in enumerate(columns):
            expected[row_numbers - first, column] = entries
        scattered = np.random.default_rng(span).permutation(101)
        entries = _core.deciding_entries(rows[scattered], span, 2**64 - 3, 7, 1)
        assert_array_equal(entries, expected[scattered])


def test_radii_near_zero_keep_their_digits():
    # Two normals of one block have the squared radius 2 E, and E = -ln u loses its digits near
    # u = 1 where it is taken of a rounded u.
    rows = np.arange(2**20)
    entries = _core.deciding_entries(rows, 1, 3, 0, 1)[:, 0].reshape(-1, 2)
    squares = (entries**2).sum(axis=1)
    least = np.argsort(squares)[:20]
    words = reference.stream_words("deciding columns", least, 0, 3, 0).astype(object)
    for square, (w0, _, w2, _) in zip(squares[least], words.tolist(), strict=True):
        with mpmath.workdps(40):
            exact = -2 * mpmath.log((mpmath.mpf(w0 * 2**32 + w2) + 0.5) / 2**64)
        assert abs(square / exact - 1) < 2e-15


def test_the_largest_are_uniform_in_their_law():
    # F(t)^n of the largest of n is uniform.
    width = 10**9
    tops = np.concatenate(
        [
            np.abs(
                infall.select_rows(
                    [1.0], width, num_rows=1, seed=seed, sampler="order_statistics"
                ).unit_projections
            )
            for seed in range(2000)
        ]
    )
    uniform = np.exp(-width * 2.0 * stats.norm.sf(tops))
    assert plausible(stats.kstest(uniform, "uniform").pvalue)
