"""The laws against high-precision arithmetic, direct simulation and literal networks."""

import itertools
import math
from decimal import Decimal, localcontext

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import special, stats

import reference
from chance import plausible
from infall import laws
from infall._arrays.blocks import blocks_of
from interrupts import LIMIT, seconds_after_interrupt

derandomized = settings(derandomize=True, deadline=None, max_examples=200)


# ---------------------------------------------------------------- binary entropy


@pytest.mark.parametrize(
    ("theta", "bits"),
    [(0.0, 0.0), (1.0, 0.0), (0.5, 1.0), (0.25, 2.0 - 0.75 * math.log2(3.0)), (-0.0, 0.0)],
)
def test_binary_entropy_known_values(theta, bits):
    assert laws.binary_entropy(theta) == pytest.approx(bits, rel=1e-15, abs=0.0)


def test_binary_entropy_is_accurate_for_tiny_angles():
    theta = 10.0 ** -np.arange(20.0, 308.0, 7.0)
    expected = theta * (1.0 - np.log(theta)) / math.log(2.0)  # the next term is theta^2
    np.testing.assert_allclose(laws.binary_entropy(theta), expected, rtol=1e-15)


@derandomized
@given(st.floats(0.0, 1.0))
def test_binary_entropy_is_the_entropy_of_a_bernoulli_variable(theta):
    bits = laws.binary_entropy(theta)
    assert 0.0 <= bits <= 1.0
    np.testing.assert_allclose(
        bits, (special.entr(theta) + special.entr(1.0 - theta)) / math.log(2.0), atol=1e-15
    )
    if theta >= 0.5:  # then 1 - theta is exact
        assert laws.binary_entropy(1.0 - theta) == bits


@derandomized
@given(st.floats(0.0, 0.5), st.floats(0.0, 0.5))
def test_binary_entropy_increases_up_to_one_half(first, second):
    low, high = sorted((first, second))
    assert laws.binary_entropy(low) <= laws.binary_entropy(high) * (1.0 + 1e-15)


def test_binary_entropy_shapes():
    assert isinstance(laws.binary_entropy(0.25), np.float64)
    assert laws.binary_entropy(np.full((2, 3), 0.25, dtype=np.float32)).shape == (2, 3)
    assert laws.binary_entropy([]).shape == (0,)
    assert laws.binary_entropy([0, 1]).dtype == np.float64


# ---------------------------------------------------------------- angle, collision probability


@pytest.mark.parametrize("scale_x", [5e-324, 1e-200, 1.0, 3.0, 1e308])
@pytest.mark.parametrize("scale_y", [1e-300, 1.0, 7.0, 1e308])
def test_angle_known_values_at_any_length(scale_x, scale_y):
    x = scale_x * np.array([1.0, 0.0])
    y = scale_y * np.array([[1.0, 0.0], [1.0, 1.0], [0.0, 1.0], [-1.0, 1.0], [-1.0, 0.0]])
    expected = np.array([0.0, 0.25, 0.5, 0.75, 1.0])
    np.testing.assert_allclose(laws.angle(x, y), expected * np.pi, rtol=4e-16)
    np.testing.assert_allclose(laws.collision_probability(x, y), 1.0 - expected, rtol=4e-16)


@pytest.mark.parametrize("tiny", [1e-8, 1e-17, 1e-200, 1e-307])
def test_angle_near_its_ends(tiny):
    x, y = [1.0, 0.0, 0.0], [2.0, 0.0, 2.0 * tiny]
    opposite = [-1.0, 0.0, tiny]
    assert laws.angle(x, y) == pytest.approx(tiny, rel=1e-15, abs=0.0)
    assert laws.angle(x, opposite) == pytest.approx(np.pi - tiny, rel=2e-16)
    np.testing.assert_allclose(laws.collision_probability(x, opposite), tiny / np.pi, rtol=1e-15)
    assert laws.collision_probability(x, y) == pytest.approx(1.0 - tiny / np.pi, rel=2e-16)


vectors = st.lists(st.floats(-1e6, 1e6), min_size=4, max_size=4).filter(any)


@derandomized
@given(vectors, vectors, st.sampled_from([2.0**-40, 0.5, 2.0, 2.0**70]))
def test_angle_symmetries(x, y, scale):
    x, y = np.array(x), np.array(y)
    theta = laws.angle(x, y)
    assert 0.0 <= theta <= np.pi
    assert laws.angle(y, x) == theta
    assert laws.angle(scale * x, y) == pytest.approx(theta, rel=1e-15)
    assert laws.angle(x, -y) == pytest.approx(np.pi - theta, abs=1e-15)
    assert laws.angle(x, x) == 0.0
    assert laws.angle(x, -x) == np.pi
    assert laws.collision_probability(x, y) == pytest.approx(1.0 - theta / np.pi, abs=1e-15)


def test_angle_agrees_with_the_reference_and_broadcasts():
    rng = np.random.default_rng(1)
    x, y = rng.standard_normal((5, 1, 7)), rng.standard_normal((3, 7)).astype(np.float32)
    theta = laws.angle(x, y)
    assert theta.shape == (5, 3)
    np.testing.assert_allclose(theta / np.pi, reference.angle_over_pi(x, y), rtol=1e-14)
    assert isinstance(laws.angle(x[0, 0], y[0]), np.float64)
    assert isinstance(laws.collision_probability([1, 2], [3, 4]), np.float64)


@pytest.mark.parametrize("theta", [0.02, 0.3, 0.5, 0.93])
def test_hamming_distance_is_binomial(theta):
    num_bits, num_codes = 24, 20_000
    rng = np.random.default_rng(2)
    x = np.array([1.0, 2.0, -1.0])
    across = np.array([2.0, -1.0, 0.0])
    y = np.cos(np.pi * theta) * x / np.linalg.norm(x)
    y += np.sin(np.pi * theta) * across / np.linalg.norm(across)
    planes = rng.standard_normal((num_codes * num_bits, 3))
    codes = reference.hyperplane_codes([x, y], planes).reshape(2, num_codes, num_bits // 8)
    distances = np.bitwise_count(codes[0] ^ codes[1]).sum(axis=-1, dtype=np.int64)
    law = stats.binom(num_bits, 1.0 - laws.collision_probability(x, y))
    # Bins of at least ten expected codes, the tails joined to the outermost of them.
    support = np.arange(num_bits + 1)
    kept = support[law.pmf(support) * num_codes >= 10.0]
    clipped = np.clip(distances, kept[0], kept[-1])
    observed = np.bincount(clipped - kept[0], minlength=len(kept))
    cdf = law.cdf(kept)
    cdf[-1] = 1.0
    expected = num_codes * np.diff(cdf, prepend=0.0)
    assert plausible(stats.chisquare(observed, expected).pvalue)


# ---------------------------------------------------------------- tail gain


def exact_tail_gain(x):
    """(fraction, gain) at the quantile x, from the power series in 700 digits."""
    with localcontext() as context:
        context.prec = 700
        x = Decimal(x)
        pi = machin_pi()
        # (Phi(x) - 1/2) / phi(x) = x + x^3 / 3 + x^5 / (3 5) + ...
        term, series, odd = x, x, 1
        while term > series * Decimal(10) ** -690:
            odd += 2
            term *= x * x / odd
            series += term
        density = (-x * x / 2).exp() / (2 * pi).sqrt()
        mills = 1 / (2 * density) - series
        return float(2 * density * mills), float((1 + x / mills).sqrt())


def machin_pi():
    def arctan_of_inverse(n):
        power = total = Decimal(1) / n
        odd, sign = 1, 1
        while power > Decimal(10) ** -698:
            power /= n * n
            odd, sign = odd + 2, -sign
            total += sign * power / odd
        return total

    return 4 * (4 * arctan_of_inverse(5) - arctan_of_inverse(239))


@pytest.mark.parametrize(
    "x", [1e-12, 0.001, 0.3, 0.6744897501960817, 1.0, 1.7, 3.0, 5.5, 10.0, 20.0, 30.0, 37.0]
)
def test_tail_gain_to_full_precision(x):
    fraction, gain = exact_tail_gain(x)
    assert laws.tail_gain(fraction) == pytest.approx(gain, rel=1e-14)


def test_tail_gain_ends():
    assert laws.tail_gain(1.0) == 1.0
    assert laws.tail_gain(1) == 1.0
    # Far out, x phi / Q = x^2 + 1 - 2 / x^2 + ...
    x = -special.ndtri(0.5e-300)
    assert laws.tail_gain(1e-300) == pytest.approx(
        math.sqrt(2.0 + x**2 - 2.0 / x**2 + 10.0 / x**4), rel=1e-9
    )
    assert isinstance(laws.tail_gain(0.5), np.float64)
    assert laws.tail_gain([[0.5, 0.25]]).shape == (1, 2)


@derandomized
@given(st.floats(-300.0, 0.0), st.floats(1e-6, 10.0))
def test_tail_gain_decreases_with_the_fraction(exponent, step):
    fraction = 10.0**exponent
    smaller = max(fraction * 10.0**-step, 1e-300)
    gain, larger = laws.tail_gain(fraction), laws.tail_gain(smaller)
    assert gain >= 1.0
    assert larger >= gain
    if smaller < fraction * (1.0 - 1e-3) and fraction < 0.5:
        assert larger > gain


def mean_square_of_top(width, num_rows):
    """Exact mean of the squares of the num_rows largest of width |N(0, 1)|.

    Below the (m + 1)-th largest value, of survival probability Beta(m + 1, n - m), the m values
    above it are independent draws from the tails.
    """
    levels = (np.arange(4000) + 0.5) / 4000
    return np.mean(laws.tail_gain(stats.beta(num_rows + 1, width - num_rows).ppf(levels)) ** 2)


@pytest.mark.parametrize(("width", "num_rows"), [(64, 8), (4096, 64), (2**40, 32)])
def test_tail_gain_is_the_root_mean_square_of_the_tails(width, num_rows):
    means = np.mean(laws.folded_normal_top(width, num_rows, size=20_000, rng=3) ** 2, axis=1)
    error = means.std() / math.sqrt(len(means))
    expected = mean_square_of_top(width, num_rows)
    assert plausible(2 * stats.norm.sf(abs(means.mean() - expected) / error))


# ---------------------------------------------------------------- largest folded normals


@pytest.mark.parametrize(("width", "num_rows"), [(1, 1), (7, 7), (20, 3), (500, 500), (1000, 10)])
def test_folded_normal_top_against_direct_simulation(width, num_rows):
    rng = np.random.default_rng(4)
    samples = 3000
    direct = np.abs(rng.standard_normal((samples, width)))
    direct = -np.sort(-direct, axis=1)[:, :num_rows]
    top = laws.folded_normal_top(width, num_rows, size=samples, rng=rng)
    assert top.shape == (samples, num_rows)
    for rank in sorted({0, num_rows // 2, num_rows - 1}):
        assert plausible(stats.ks_2samp(top[:, rank], direct[:, rank]).pvalue)
    # The joint law, through two sums over all ranks.
    for statistic in (np.sum, np.linalg.norm):
        sums = [statistic(scores, axis=1) for scores in (top, direct)]
        assert plausible(stats.ks_2samp(*sums).pvalue)


@pytest.mark.parametrize(
    "width", [1, 2, 1000, 2**25, float(2**25), 2**60, 10**30, 1e30, 1e300], ids=str
)
def test_largest_value_has_the_exact_law(width):
    largest = laws.folded_normal_top(width, 1, size=20_000, rng=5)[:, 0]
    # P(max <= t) = (1 - p)^n, so that -n ln(1 - p) is a standard exponential.
    log_cdf = np.log1p(-special.erfc(largest / math.sqrt(2.0)))
    if width <= 2:  # p is of order 1 and 1 - p is erf
        log_cdf = np.log(special.erf(largest / math.sqrt(2.0)))
    assert plausible(stats.kstest(-float(width) * log_cdf, "expon").pvalue)


@pytest.mark.parametrize("width", [40, 2**25, 2**60, 1e30], ids=str)
def test_every_rank_has_its_beta_law(width):
    top = laws.folded_normal_top(width, 40, size=5000, rng=6)
    survival = special.erfc(top / math.sqrt(2.0))
    for rank in (1, 2, 10, 40):
        if width <= 2**25:
            law = stats.beta(rank, width - rank + 1)
            pvalue = stats.kstest(survival[:, rank - 1], law.cdf).pvalue
        else:  # n Beta(j, n - j + 1) is Gamma(j) to 1 / n
            law = stats.gamma(rank)
            pvalue = stats.kstest(survival[:, rank - 1] * width, law.cdf).pvalue
        assert plausible(pvalue)


def test_whole_sample_is_an_unordered_sample():
    scores = laws.folded_normal_top(50_000, 50_000, rng=7)
    assert plausible(stats.kstest(scores, "halfnorm").pvalue)


def test_folded_normal_top_is_descending_and_positive():
    for width, num_rows in ((10**6, 10**6), (10**30, 10**6)):
        scores = laws.folded_normal_top(width, num_rows, rng=8)
        assert np.all(np.diff(scores) <= 0.0)
        assert scores[-1] > 0.0
        assert np.all(np.isfinite(scores))


class FixedExponentials(np.random.Generator):
    """A generator that draws the given exponentials, in place of its own."""

    def __init__(self, values):
        super().__init__(np.random.PCG64(0))
        self.values = np.asarray(values)

    def standard_exponential(self, *, out):
        out[...] = self.values


def test_quantiles_are_accurate_in_the_tail_and_in_the_body():
    # For n = 1 the exponential is S itself, and erf(t / sqrt(2)) = exp(-S).
    def value(minus_log_cdf):
        return laws.folded_normal_top(1, 1, rng=FixedExponentials([minus_log_cdf]))[0]

    for s in (1e-10, 1e-3, 0.1, 0.5, 0.69, 0.7, 1.0, 3.0):
        tail = special.erfc(value(s) / math.sqrt(2.0))
        np.testing.assert_allclose(tail, -np.expm1(-s), rtol=1e-14)
    for s in (0.69, 0.7, 1.0, 10.0, 40.0, 300.0, 700.0):
        body = special.erf(value(s) / math.sqrt(2.0))
        np.testing.assert_allclose(body, np.exp(-s), rtol=1e-14)


def test_zero_exponential_stays_finite():
    scores = laws.folded_normal_top(10**6, 3, rng=FixedExponentials([0.0, 1.0, 0.0]))
    assert np.all(np.isfinite(scores))
    assert np.all(np.diff(scores) <= 0.0)


def test_folded_normals_are_the_same_in_blocks():
    calls = [((1000,), None), ((50,), 9), ((7,), (2, 3)), ((10**6,), None)]
    whole = [laws.folded_normal_top(10**6, *m, size=size, rng=4) for m, size in calls]
    for (m, size), expected in list(zip(calls, whole, strict=True))[:3]:
        with blocks_of(37):
            top = laws.folded_normal_top(10**6, *m, size=size, rng=4)
        np.testing.assert_array_equal(top, expected)
    with blocks_of(10**5):
        np.testing.assert_array_equal(laws.folded_normal_top(10**6, 10**6, rng=4), whole[3])


def test_many_folded_normals_are_interrupted():
    for after in (0.3, 1.0):
        seconds = seconds_after_interrupt(
            lambda: laws.folded_normal_top(1e12, 2 * 10**8, rng=1), after=after
        )
        assert seconds < LIMIT


def test_folded_normal_top_shapes_and_generators():
    assert laws.folded_normal_top(10, 3).shape == (3,)
    assert laws.folded_normal_top(10, 3, size=4).shape == (4, 3)
    assert laws.folded_normal_top(10, 3, size=(2, 5)).shape == (2, 5, 3)
    assert laws.folded_normal_top(10, 3, size=0).shape == (0, 3)
    assert laws.folded_normal_top(np.int32(10), np.int64(3), size=(np.uint8(4),)).shape == (4, 3)
    seeded = laws.folded_normal_top(10, 3, rng=9)
    np.testing.assert_array_equal(seeded, laws.folded_normal_top(10, 3, rng=9))
    generator = np.random.default_rng(9)
    np.testing.assert_array_equal(seeded, laws.folded_normal_top(10, 3, rng=generator))
    assert not np.any(seeded == laws.folded_normal_top(10, 3, rng=generator))


# ---------------------------------------------------------------- angle chain


def vector_pair(theta, dim, rng):
    """Unit vectors of length dim at the angle theta, in a random direction."""
    basis, _ = np.linalg.qr(rng.standard_normal((dim, 2)))
    w, across = basis.T
    return w, np.cos(theta) * w + np.sin(theta) * across


def literal_angles(theta, width, dim, depth, count, rng):
    """Angles (depth + 1, count) of literal networks, each with one test vector."""
    angles = np.empty((depth + 1, count))
    for sample in range(count):
        w, x = vector_pair(theta, dim, rng)
        layers, outputs, _ = reference.max_likelihood_literal(w, width, depth, rng)
        angles[0, sample] = reference.angle_over_pi(w, x)
        transformed = reference.transform_literal(layers, x)
        angles[1:, sample] = reference.angle_over_pi(outputs, transformed)
    return np.pi * angles


def literal_rectangular_angles(theta, width, dim, depth, num_rows, count, rng):
    """Angles (depth + 1, count) of networks that keep num_rows rows in every layer."""
    angles = np.empty((depth + 1, count))
    for sample in range(count):
        w, x = vector_pair(theta, dim, rng)
        angles[0, sample] = reference.angle_over_pi(w, x)
        for layer in range(1, depth + 1):
            weights = rng.standard_normal((width, len(w)))
            indices, w = reference.select_rows_literal(weights, w, num_rows)
            x = weights[indices] @ x
            angles[layer, sample] = reference.angle_over_pi(w, x)
    return np.pi * angles


def assert_same_law(first, second):
    for layer in range(1, len(first)):
        assert plausible(stats.ks_2samp(first[layer], second[layer]).pvalue)
        # The tangent shrinks geometrically: compare the small angles on their own scale too.
        logs = [np.log(np.sin(angles[layer])) for angles in (first, second)]
        assert plausible(stats.ks_2samp(*logs).pvalue)


@pytest.mark.parametrize(
    ("theta", "width", "dim"),
    [(0.6, 64, 6), (1.5, 64, 6), (2.3, 64, 6), (1.2, 300, 2), (1.0, 5, 5), (1.3, 40, 15)],
)
def test_angle_chain_has_the_law_of_literal_networks(theta, width, dim):
    depth, count = 3, 4000
    literal = literal_angles(theta, width, dim, depth, count, np.random.default_rng(10))
    chain = laws.angle_chain(theta, width, dim, depth, size=20_000, rng=11)
    assert chain.shape == (depth + 1, 20_000)
    np.testing.assert_array_equal(chain[0], theta)
    np.testing.assert_allclose(literal[0], theta, rtol=1e-14)
    assert_same_law(chain, literal)


@pytest.mark.parametrize(("dim", "num_rows"), [(6, 3), (4, 10), (12, 2)])
def test_angle_chain_of_rectangular_networks(dim, num_rows):
    depth, count, theta, width = 3, 4000, 1.2, 50
    rng = np.random.default_rng(12)
    literal = literal_rectangular_angles(theta, width, dim, depth, num_rows, count, rng)
    chain = laws.angle_chain(theta, width, dim, depth, num_rows=num_rows, size=20_000, rng=13)
    assert_same_law(chain, literal)


def test_one_selected_row_leaves_only_the_sides():
    theta, width, count = 1.4, 20, 4000
    rng = np.random.default_rng(14)
    literal = literal_rectangular_angles(theta, width, 3, 2, 1, count, rng)
    chain = laws.angle_chain(theta, width, 3, 2, num_rows=1, size=count, rng=15)
    assert set(np.unique(chain[1:])) == {0.0, np.pi}
    np.testing.assert_array_equal(chain[1], chain[2])
    table = [[np.sum(angles[1] > 1.0), np.sum(angles[1] < 1.0)] for angles in (chain, literal)]
    assert plausible(stats.fisher_exact(table).pvalue)


def test_dim_is_the_default_number_of_selected_rows():
    square = laws.angle_chain(1.0, 100, 8, 3, size=10, rng=16)
    for dim in (2, 8, 30):
        chain = laws.angle_chain(1.0, 100, dim, 3, num_rows=8, size=10, rng=16)
        np.testing.assert_array_equal(chain, square)


def test_angle_chain_is_symmetric():
    theta = np.array([0.0, 1e-3, 0.4, 1.1, 1.57])
    chain = laws.angle_chain(theta, 2**20, 10, 6, rng=17)
    mirrored = laws.angle_chain(np.pi - theta, 2**20, 10, 6, rng=17)
    np.testing.assert_allclose(mirrored, np.pi - chain, atol=1e-14)
    np.testing.assert_array_equal(chain[:, 0], 0.0)
    np.testing.assert_array_equal(mirrored[:, 0], np.pi)


def test_tiny_angles_keep_their_precision():
    chains = [laws.angle_chain(start, 2**25, 20, 8, size=50, rng=18) for start in (1e-294, 1e-10)]
    assert 1e-301 < chains[0][-1].max() < 1e-298
    np.testing.assert_allclose(chains[0] / 1e-294, chains[1] / 1e-10, rtol=1e-8)
    underflown = laws.angle_chain(1e-294, 2**25, 20, 60, size=50, rng=18)
    np.testing.assert_array_equal(underflown[-1], 0.0)


def test_angles_beyond_the_precision_near_pi_keep_shrinking():
    # From pi - 1e-3 the distance to pi falls below one ulp; the chain must not lose the side.
    chain = laws.angle_chain(np.pi - 1e-3, 2**25, 50, 80, size=50, rng=19)
    np.testing.assert_array_equal(chain[-1], np.pi)
    assert np.all(chain > 3.0)


def test_angle_chain_blocks_do_not_change_the_law():
    whole = laws.angle_chain(1.2, 500, 6, 3, size=20_000, rng=20)
    with blocks_of(100):
        pieces = laws.angle_chain(1.2, 500, 6, 3, size=2000, rng=21)
    assert_same_law(whole, pieces)


def test_samples_of_one_network_share_its_norms():
    """Next to 0, ln tan falls by ln T - ln chi: ln T is common, ln chi is each sample's own."""
    dim, count = 4, 20_000
    norms = laws.folded_normal_top(9, dim, size=count, rng=23)
    common = np.var(0.5 * np.log(np.sum(norms**2, axis=1)))
    own = special.polygamma(1, (dim - 1) / 2.0) / 4.0  # of the logarithm of chi
    with blocks_of(5000):
        chain = laws.angle_chain(1e-9, 9, dim, 1, samples_per_network=2, size=2 * count, rng=24)
        alone = laws.angle_chain(1e-9, 9, dim, 1, size=count, rng=25)
    first, second = np.log(chain[1]).reshape(count, 2).T
    correlation = np.corrcoef(first, second)[0, 1]
    # The standard error of a correlation is at most 1 / sqrt(count), of the variance 2 %.
    assert abs(correlation - common / (common + own)) < 4.0 / math.sqrt(count) + 0.01
    assert_same_law(chain[:, ::2], alone)


def test_vectors_change_sides_as_often_as_the_tail_gain_says():
    dim, width, count = 256, 2**16, 4000
    rng = np.random.default_rng(22)
    x = rng.standard_normal((count, dim))
    theta = laws.angle(x, np.eye(dim)[0])
    chain = laws.angle_chain(theta, width, dim, 6, rng=rng)
    changed = int(np.sum((chain[0] > np.pi / 2) != (chain[-1] > np.pi / 2)))
    probability = math.asin(1.0 / laws.tail_gain(dim / width)) / math.pi
    assert plausible(stats.binomtest(changed, count, probability).pvalue)


def test_angle_chain_shapes():
    assert laws.angle_chain(1.0, 100, 8, 3).shape == (4,)
    assert laws.angle_chain([1.0, 2.0], 100, 8, 3).shape == (4, 2)
    assert laws.angle_chain([1.0, 2.0], 100, 8, 3, size=2).shape == (4, 2)
    assert laws.angle_chain(1, 100, 8, 0, size=5).shape == (1, 5)
    assert laws.angle_chain([], 100, 8, 2).shape == (3, 0)
    assert laws.angle_chain(1.0, 100, 8, 2, size=6, samples_per_network=3).shape == (3, 6)


# ---------------------------------------------------------------- mean field


def exact_rate(width, dim, rng):
    """exp(E ln T - E ln chi_{k-1}), by which one layer divides a small tangent."""
    top = laws.folded_normal_top(width, dim, size=3000, rng=rng)
    log_chi = 0.5 * (math.log(2.0) + special.digamma(0.5 * (dim - 1)))
    return math.exp(np.mean(np.log(np.linalg.norm(top, axis=1))) - log_chi)


@pytest.mark.parametrize(("width", "dim"), [(2**12, 256), (2**25, 256), (1e30, 256), (2**25, 784)])
def test_mean_field_is_within_four_per_mille(width, dim):
    rate = exact_rate(width, dim, np.random.default_rng(23))
    angles = laws.mean_field_angle(1e-4, width, dim, 1)
    assert angles[0] / angles[1] == pytest.approx(rate, rel=4e-3)
    assert laws.norm_growth(width, dim) == pytest.approx(
        math.log(rate) + 0.5 * (math.log(2.0) + special.digamma(0.5 * (dim - 1))), abs=1e-3
    )


def test_mean_field_is_seven_percent_low_for_short_inputs():
    rate = exact_rate(2**25, 15, np.random.default_rng(24))
    assert 1.06 < rate / laws.tail_gain(15 / 2**25) < 1.08


def test_mean_field_follows_the_chain():
    theta, width, dim, depth = 0.9, 2**16, 512, 3
    chain = laws.angle_chain(theta, width, dim, depth, size=1000, rng=25)
    median = np.median(chain, axis=1)
    np.testing.assert_allclose(laws.mean_field_angle(theta, width, dim, depth), median, rtol=0.03)


def test_mean_field_recursion_and_fixed_points():
    theta = np.array([[0.0, 1e-300, 0.5], [np.pi / 2, 2.9, np.pi]])
    angles = laws.mean_field_angle(theta, 2**20, 100, 4)
    assert angles.shape == (5, 2, 3)
    np.testing.assert_array_equal(angles[0], theta)
    gain = laws.tail_gain(100 / 2**20)
    finite = theta != np.pi / 2
    for before, after in itertools.pairwise(angles):
        np.testing.assert_allclose(
            np.tan(after)[finite], np.tan(before)[finite] / gain, rtol=1e-12, atol=1e-15
        )
    for fixed in (0.0, np.pi / 2, np.pi):
        np.testing.assert_array_equal(laws.mean_field_angle(fixed, 2**20, 100, 2000), fixed)
    assert laws.mean_field_angle(1.0, 2**20, 100, 2000)[-1] == 0.0
    assert laws.mean_field_angle(3.0, 2**20, 100, 2000)[-1] == np.pi
    np.testing.assert_allclose(laws.mean_field_angle(1.0, 100, 100, 3), 1.0, rtol=1e-15)


def test_norm_growth_without_selection_is_the_norm_of_a_gaussian_vector():
    assert laws.norm_growth(400, 400) == pytest.approx(0.5 * math.log(400), rel=1e-15)


# ---------------------------------------------------------------- bad input

NAN = float("nan")

BAD_CALLS = [
    # call, error, what the message names
    (lambda: laws.binary_entropy("half"), TypeError, "theta has dtype"),
    (lambda: laws.binary_entropy(None), TypeError, "theta has dtype object"),
    (lambda: laws.binary_entropy(0.5 + 0j), TypeError, "theta has dtype complex"),
    (lambda: laws.binary_entropy([[0.5, 0.2], [0.1, NAN]]), ValueError, r"theta\[1, 1\] is nan"),
    (lambda: laws.binary_entropy(-1e-300), ValueError, r"theta is -1e-300, .* \[0.0, 1.0\]"),
    (
        lambda: laws.binary_entropy(np.nextafter(1.0, 2.0)),
        ValueError,
        "theta is 1.0000000000000002",
    ),
    (lambda: laws.tail_gain("q"), TypeError, "fraction has dtype"),
    (lambda: laws.tail_gain(0), ValueError, r"fraction is 0.0, .* \(0.0, 1.0\]"),
    (lambda: laws.tail_gain([0.5, 2.0]), ValueError, r"fraction\[1\] is 2.0"),
    (lambda: laws.tail_gain(NAN), ValueError, "fraction is nan"),
    (lambda: laws.angle(1.0, [1.0]), ValueError, r"x has shape \(\)"),
    (lambda: laws.angle([1.0], []), ValueError, r"y has shape \(0,\)"),
    (lambda: laws.angle([1.0, 2.0], [1.0]), ValueError, "length 2 and 1"),
    (lambda: laws.angle([0.0, 0.0], [1.0, 0.0]), ValueError, "x is the zero vector"),
    (lambda: laws.angle([1.0, 1.0], [[1.0, 0.0], [0, 0]]), ValueError, r"y\[1\] is the zero"),
    (lambda: laws.angle([1.0, np.inf], [1.0, 0.0]), ValueError, r"x\[1\] is inf"),
    (lambda: laws.angle(np.ones((2, 3)), np.ones((4, 3))), ValueError, "shapes"),
    (lambda: laws.angle(["a"], [1.0]), TypeError, "x has dtype"),
    (lambda: laws.collision_probability([1.0], [NAN]), ValueError, r"y\[0\] is nan"),
    (lambda: laws.folded_normal_top("9", 1), TypeError, "width has type str"),
    (lambda: laws.folded_normal_top(True, 1), TypeError, "width has type bool"),
    (lambda: laws.folded_normal_top(NAN, 1), ValueError, "width is nan"),
    (lambda: laws.folded_normal_top(np.inf, 1), ValueError, "width is inf"),
    (lambda: laws.folded_normal_top(10**400, 1), ValueError, "width is 1000"),
    (lambda: laws.folded_normal_top(10.5, 1), ValueError, "width is 10.5"),
    (lambda: laws.folded_normal_top(0, 1), ValueError, "width is 0"),
    (lambda: laws.folded_normal_top(-5, 1), ValueError, "width is -5"),
    (
        lambda: laws.folded_normal_top(5, 6),
        ValueError,
        "num_rows is 6, expected at most the width 5",
    ),
    (lambda: laws.folded_normal_top(5, 0), ValueError, "num_rows is 0"),
    (lambda: laws.folded_normal_top(5, 2.0), TypeError, "num_rows is 2.0; expected an integer"),
    (lambda: laws.folded_normal_top(5, 2, size=-1), ValueError, "size is -1"),
    (lambda: laws.folded_normal_top(5, 2, size=1.5), TypeError, "size is 1.5"),
    (lambda: laws.folded_normal_top(5, 2, rng="seed"), TypeError, "rng has type str"),
    (lambda: laws.folded_normal_top(5, 2, rng=-1), ValueError, "rng is -1"),
    (lambda: laws.angle_chain("right", 9, 3, 1), TypeError, "theta has dtype"),
    (lambda: laws.angle_chain(-0.1, 9, 3, 1), ValueError, "theta is -0.1"),
    (lambda: laws.angle_chain(3.2, 9, 3, 1), ValueError, "theta is 3.2"),
    (lambda: laws.angle_chain(NAN, 9, 3, 1), ValueError, "theta is nan"),
    (lambda: laws.angle_chain([[1.0]], 9, 3, 1), ValueError, r"theta has shape \(1, 1\)"),
    (lambda: laws.angle_chain([1.0] * 3, 9, 3, 1, size=2), ValueError, r"theta has shape \(3,\)"),
    (lambda: laws.angle_chain(1.0, None, 3, 1), TypeError, "width has type NoneType"),
    (lambda: laws.angle_chain(1.0, 9, 1, 1), ValueError, "dim is 1"),
    (lambda: laws.angle_chain(1.0, 9, 10, 1), ValueError, "dim is 10, expected at most the width"),
    (lambda: laws.angle_chain(1.0, 9, 3, -1), ValueError, "depth is -1"),
    (lambda: laws.angle_chain(1.0, 9, 3, 1.0), TypeError, "depth is 1.0"),
    (lambda: laws.angle_chain(1.0, 9, 3, 1, num_rows=10), ValueError, "num_rows is 10"),
    (lambda: laws.angle_chain(1.0, 9, 3, 1, num_rows=0), ValueError, "num_rows is 0"),
    (lambda: laws.angle_chain(1.0, 9, 3, 1, size=(2, 3)), TypeError, r"size is \(2, 3\)"),
    (
        lambda: laws.angle_chain(1.0, 9, 3, 1, size=4, samples_per_network=3),
        ValueError,
        "samples_per_network is 3, expected a divisor of the 4 samples",
    ),
    (lambda: laws.angle_chain(1.0, 9, 3, 1, samples_per_network=0), ValueError, "network is 0"),
    (lambda: laws.mean_field_angle(4.0, 9, 3, 1), ValueError, "theta is 4.0"),
    (lambda: laws.mean_field_angle(1.0, 2, 3, 1), ValueError, "dim is 3"),
    (lambda: laws.norm_growth(2, 3), ValueError, "dim is 3"),
    (lambda: laws.norm_growth(9, False), TypeError, "dim is False"),
]


def masked(values):
    """Return masked arrays of every layout; what is masked lies out of every range."""
    hidden = np.ma.masked_greater(np.asarray(values, dtype=float), 1.0)
    square = np.ma.masked_greater(np.resize(values, (4, 4)), 1.0)
    return [hidden, hidden[::-1], hidden[::2], square.T, np.ma.asarray(np.asfortranarray(square))]


@pytest.mark.parametrize("value", masked([0.5, 99.0, 0.25, 1.0]))
def test_masked_arrays_are_refused(value):
    for name, call in (
        ("theta", laws.binary_entropy),
        ("fraction", laws.tail_gain),
        ("x", lambda v: laws.angle(v, [1.0, 2.0, 3.0, 4.0])),
        ("y", lambda v: laws.angle([1.0, 2.0, 3.0, 4.0], v)),
        ("x", lambda v: laws.collision_probability(v, v)),
        ("theta", lambda v: laws.angle_chain(v, 100, 8, 2)),
        ("theta", lambda v: laws.mean_field_angle(v, 100, 8, 2)),
    ):
        with pytest.raises(TypeError, match=f"{name} is a masked array"):
            call(value)


def test_arguments_of_any_real_dtype_and_library():
    expected = laws.angle([1.0, 0.0, 1.0], [1.0, 1.0, 0.0])
    for dtype in (bool, "u1", ">i8", np.float16, ">f4", np.longdouble):
        x, y = np.array([1, 0, 1], dtype), np.array([1, 1, 0], dtype)
        assert laws.angle(x, y) == expected
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    angle = laws.angle(torch.tensor([1.0, 0.0, 1.0]), torch.tensor([1.0, 1.0, 0.0]))
    assert isinstance(angle, np.float64)
    assert angle == expected
    assert laws.binary_entropy(True) == 0.0
    with pytest.raises(ValueError, match=r"x\[0\] is inf"):
        laws.angle(np.array([np.longdouble("1e4000")]), [1.0])


@pytest.mark.parametrize(("call", "error", "message"), BAD_CALLS)
def test_bad_input_is_refused_by_name(call, error, message):
    with pytest.raises(error, match=message):
        call()
