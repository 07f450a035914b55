"""The reference itself: published words, exact arithmetic, laws and self-consistency."""

from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

import reference
from chance import plausible


@pytest.mark.parametrize(
    ("counter", "key", "words"),
    [
        ("00000000 00000000 00000000 00000000", "00000000 00000000",
         "6627e8d5 e169c58d bc57ac4c 9b00dbd8"),
        ("ffffffff ffffffff ffffffff ffffffff", "ffffffff ffffffff",
         "408f276d 41c83b0e a20bc7c6 6d5451fd"),
        ("243f6a88 85a308d3 13198a2e 03707344", "a4093822 299f31d0",
         "d16cfe09 94fdcceb 5001e420 24126ea1"),
    ],
    ids=["zeros", "ones", "pi"],
)  # fmt: skip
def test_philox_gives_the_published_words(counter, key, words):
    def parse(text):
        return np.array([int(word, 16) for word in text.split()], dtype=np.uint32)

    result = reference.philox4x32_10(parse(counter), parse(key))
    assert result.dtype == np.uint32
    np.testing.assert_array_equal(result, parse(words))


def test_philox_is_elementwise():
    rng = np.random.default_rng(1)
    counters = rng.integers(0, 2**32, (5, 3, 4), dtype=np.uint32)
    keys = rng.integers(0, 2**32, (3, 2), dtype=np.uint32)
    together = reference.philox4x32_10(counters, keys)
    for i, j in np.ndindex(5, 3):
        alone = reference.philox4x32_10(counters[i, j], keys[j])
        np.testing.assert_array_equal(together[i, j], alone)


def test_counter_and_key_layout():
    row, seed, layer = 0x0123456789ABCDEF, 0xFEDCBA9876543210, 0xCAFEF00D
    words = reference.gaussian_words([row], 10, seed, layer)[0]
    for column in range(10):
        counter = np.array([0x89ABCDEF, 0x01234567, column // 4, layer], dtype=np.uint32)
        key = np.array([0x76543210, 0xFEDCBA98], dtype=np.uint32)
        assert words[column] == reference.philox4x32_10(counter, key)[column % 4]


def rounded_to_float32(exact):
    """Nearest float32 of a positive Fraction, ties to even."""
    exponent = 0
    while exact >= 2**24:
        exact, exponent = exact / 2, exponent + 1
    while exact < 2**23:
        exact, exponent = exact * 2, exponent - 1
    return np.float32(round(exact) * 2.0**exponent)  # round() of a Fraction takes ties to even


def edge_words():
    rng = np.random.default_rng(2)
    powers = [1 << bit for bit in range(32)]
    edges = {max(0, min(2**32 - 1, p + step)) for p in powers for step in (-2, -1, 0, 1, 2)}
    edges |= {2**32 - 1 - step for step in range(300)} | {0xFFFFFF7F, 0xFFFFFF80, 0xFFFFFF81}
    return np.array(sorted(edges) + rng.integers(0, 2**32, 500).tolist(), dtype=np.uint32)


def test_doubled_uniform_rounds_the_fused_operation_once():
    words = edge_words()
    uniforms = reference.doubled_uniform(words)
    factor = Fraction(2**24 - 1, 2**55)
    for word, uniform in zip(words, uniforms, strict=True):
        exact = Fraction(int(np.float32(word))) * factor + Fraction(1, 2**32)
        assert uniform == rounded_to_float32(exact)
    assert uniforms.dtype == np.float32
    assert uniforms.min() == 2.0**-32
    assert uniforms.max() == np.nextafter(np.float32(2), np.float32(0))


def test_octant_angle_rounds_the_product_once():
    words = edge_words()
    angles = reference.octant_angle(words)
    scale = Fraction(float(np.float32(np.pi * 2.0**-33)))
    for word, angle in zip(words, angles, strict=True):
        signed = (int(word) << 2) & 0xFFFFFFFF
        signed -= (signed >> 31) << 32
        exact = Fraction(float(np.float32(signed))) * scale
        expected = rounded_to_float32(abs(exact)) if exact else np.float32(0)
        assert abs(angle) == expected
        assert (angle < 0) == (signed < 0)


def test_normals_at_the_extreme_words():
    longest = reference.normals_from_words(np.array([0, 0], dtype=np.uint32))
    np.testing.assert_array_equal(
        longest, np.array([np.sqrt(66.0 * np.log(2.0)), 0.0], dtype=np.float32)
    )
    shortest = reference.normals_from_words(np.array([2**32 - 1, 0], dtype=np.uint32))
    np.testing.assert_array_equal(
        shortest, np.array([np.sqrt(-2.0 * np.log1p(-(2.0**-24))), 0.0], dtype=np.float32)
    )
    # Bits 30 and 31 of the angle word: swap, and negate.
    for octant, expected in enumerate([(1, 0), (0, 1), (-1, 0), (0, -1)]):
        words = np.array([0, octant << 30], dtype=np.uint32)
        np.testing.assert_array_equal(
            reference.normals_from_words(words) / longest[0], np.float32(expected)
        )


@pytest.mark.parametrize("dim", [1, 2, 3, 4, 5, 7, 8, 11])
def test_rows_are_a_function_of_position_alone(dim):
    indices = np.array([0, 1, 2, 2**32 - 1, 2**32, 2**63 - 1])
    wide = reference.gaussian_rows(indices, 12, 3, 4)
    rows = reference.gaussian_rows(indices, dim, 3, 4)
    assert rows.dtype == np.float32
    assert rows.shape == (6, dim)
    np.testing.assert_array_equal(rows, wide[:, :dim])
    for index, row in zip(indices, rows, strict=True):
        np.testing.assert_array_equal(reference.gaussian_rows([index], dim, 3, 4)[0], row)


def test_chunks_do_not_show():
    indices = np.arange(1000) * 7919
    weights = reference.gaussian_rows(indices, 9, 5, 0)
    column = reference.deciding_column(indices, 2, 5, 0)
    w = np.linspace(-1.0, 1.0, 9)
    selection = reference.select_rows_literal(weights, w, 20)
    few = {"chunk_size": 64}
    np.testing.assert_array_equal(reference.gaussian_rows(indices, 9, 5, 0, **few), weights)
    np.testing.assert_array_equal(reference.deciding_column(indices, 2, 5, 0, **few), column)
    in_chunks = reference.select_rows_literal(weights, w, 20, **few)
    np.testing.assert_array_equal(in_chunks[0], selection[0])


def test_seed_layer_row_and_column_all_matter():
    base = reference.gaussian_words([5], 8, 1, 1)
    for other in (
        reference.gaussian_words([6], 8, 1, 1),
        reference.gaussian_words([5 + 2**32], 8, 1, 1),
        reference.gaussian_words([5], 8, 1 + 2**32, 1),
        reference.gaussian_words([5], 8, 2, 1),
        reference.gaussian_words([5], 8, 1, 2),
    ):
        assert not np.any(base == other)


def test_gaussian_rows_are_standard_normal():
    rows = reference.gaussian_rows(np.arange(50_000), 4, 11, 0)
    for column in rows.T:
        assert plausible(stats.kstest(column, "norm").pvalue)
    squares = (rows.astype(np.float64) ** 2).sum(axis=1)
    assert plausible(stats.kstest(squares, stats.chi2(4).cdf).pvalue)
    correlations = np.corrcoef(rows.T)[np.triu_indices(4, 1)] * np.sqrt(len(rows))
    assert plausible(2 * stats.norm.sf(np.abs(correlations)))


def test_deciding_columns_are_standard_normal_and_independent():
    rows = np.arange(100_000)
    first, second = (reference.deciding_column(rows, c, 11, 0) for c in (0, 1))
    assert first.dtype == np.float64
    for normals in (first, second, first[0::2] / np.sqrt(2) + first[1::2] / np.sqrt(2)):
        assert plausible(stats.kstest(normals, "norm").pvalue)
    assert plausible(stats.pearsonr(first, second).pvalue)
    scattered = np.array([99_999, 4, 5, 4])
    np.testing.assert_array_equal(reference.deciding_column(scattered, 0, 11, 0), first[scattered])


def test_deciding_pair_from_its_words():
    counter = np.array([3, 0, 0x80000002, 9], dtype=np.uint32)
    w0, w1, w2, _ = (int(word) for word in reference.philox4x32_10(counter, np.uint32([7, 0])))
    radius = np.sqrt(-2.0 * np.log(((w0 << 32) + w2) / 2.0**64))
    # A fold of the circle: the swapped octants run backwards, which keeps the law uniform.
    d = ((((w1 << 2) + 2**31) % 2**32) - 2**31) * np.pi / 2.0**33
    turn = np.pi / 2.0 - d if (w1 >> 30) & 1 else d
    turn += np.pi * (w1 >> 31)
    expected = radius * np.array([np.cos(turn), np.sin(turn)])
    np.testing.assert_allclose(
        reference.deciding_column([6, 7], 2, 7, 9), expected, rtol=1e-14, atol=1e-15
    )


def test_exponentials_and_signs():
    exponentials = reference.exponentials(100_000, 3, 0)
    signs = reference.order_statistic_signs(100_000, 3, 0)
    assert plausible(stats.kstest(exponentials, "expon").pvalue)
    assert set(np.unique(signs)) == {-1.0, 1.0}
    assert plausible(stats.binomtest(int((signs > 0).sum()), len(signs)).pvalue)
    np.testing.assert_array_equal(reference.exponentials(10, 3, 0), exponentials[:10])


def test_selection_order_and_ties():
    weights = np.array([[1.0], [-2.0], [2.0], [0.5], [-1.0]], dtype=np.float32)
    indices, projections = reference.select_rows_literal(weights, [3.0], 4)
    np.testing.assert_array_equal(indices, [1, 2, 0, 4])
    np.testing.assert_array_equal(projections, [-6.0, 6.0, 3.0, -3.0])
    indices, projections = reference.select_rows_literal(weights, [3.0], 3, "signed")
    np.testing.assert_array_equal(indices, [2, 0, 3])
    np.testing.assert_array_equal(projections, [6.0, 3.0, 1.5])


def test_network_is_its_layers():
    w = np.array([3.0, -1.0, 2.0])
    layers, outputs, log_norms = reference.max_likelihood_literal(
        w, 50, 4, np.random.default_rng(5)
    )
    np.testing.assert_allclose(reference.transform_literal(layers, w), outputs, rtol=1e-13)
    norm = np.linalg.norm(np.linalg.multi_dot(layers[::-1]) @ w) / np.linalg.norm(w)
    assert log_norms.sum() == pytest.approx(np.log(norm), rel=1e-13)


def test_codes_and_distances():
    planes = reference.gaussian_rows(np.arange(13), 3, 0, 0)
    x = np.random.default_rng(6).standard_normal((4, 3))
    codes = reference.hyperplane_codes(x, planes)
    assert codes.shape == (4, 2)
    bits = x @ planes.T.astype(np.float64) >= 0.0
    for i, j in np.ndindex(4, 13):
        assert (codes[i, j // 8] >> (j % 8)) & 1 == bits[i, j]
    expected = (bits[:, np.newaxis] != bits[np.newaxis]).sum(axis=-1)
    np.testing.assert_array_equal(reference.hamming_distances(codes, codes), expected)


def test_angle_over_pi():
    x = np.array([1.0, 0.0])
    y = np.array([[2.0, 0.0], [1.0, 1.0], [0.0, 3.0], [-5.0, 0.0], [1.0, 1e-150]])
    expected = [0.0, 0.25, 0.5, 1.0, 1e-150 / np.pi]
    np.testing.assert_allclose(reference.angle_over_pi(x, y), expected, rtol=1e-15)
