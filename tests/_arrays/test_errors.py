"""Bad input to the rows module: a named error, and nothing half-done."""

import re

import numpy as np
import pytest

import infall

pytestmark = pytest.mark.sanitize

GOOD = np.array([1.0, 2.0, 3.0])


def raises(kind, text):
    """Expect an error with this text in it."""
    return pytest.raises(kind, match=re.escape(text))


@pytest.mark.parametrize(
    ("w", "kind", "text"),
    [
        ([1.0, np.nan, np.inf], ValueError, "w is not finite: nan at position 1"),
        ([[1.0, 2.0], [3.0, -np.inf]], ValueError, "w is not finite: -inf at position (1, 1)"),
        ([0.0, 0.0], ValueError, "w is zero"),
        ([[1.0, 2.0], [0.0, 0.0]], ValueError, "w[1] is zero"),
        ([1 + 2j, 0], TypeError, "w has dtype complex128"),
        (["a", "b"], TypeError, "w has dtype <U1"),
        ([object()], TypeError, "w has dtype object"),
        ([[1.0], [1.0, 2.0]], TypeError, "w is not an array"),
        (np.ma.array([1.0, 2.0], mask=[0, 1]), TypeError, "w is a masked array"),
        (3.0, ValueError, "w has 0 axes"),
        (np.ones((2, 2, 2)), ValueError, "w has 3 axes"),
        ([], ValueError, "w has vectors of length 0"),
        (np.ones((0, 0)), ValueError, "w has vectors of length 0"),
        (np.ones((4, 0)), ValueError, "w has vectors of length 0"),
    ],
)
def test_vectors(w, kind, text):
    with raises(kind, text):
        infall.select_rows(w, 100)
    with raises(kind, text.replace("w", "x", 1)):
        infall.hyperplane_codes(w, 100)


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"width": 0}, ValueError, "width is 0; expected 1 <= width < 2**63"),
        ({"width": -5}, ValueError, "width is -5"),
        ({"width": 100.0}, TypeError, "width is 100.0; expected an integer"),
        ({"width": "100"}, TypeError, "width is '100'"),
        ({"width": True}, TypeError, "width is True"),
        ({"width": None}, TypeError, "width is None"),
        ({"width": 2**63}, OverflowError, "width is 9223372036854775808; rows are numbered below"),
        ({"width": 2}, ValueError, "num_rows is 3 (the length of w, by default); expected at most"),
        ({"num_rows": 101}, ValueError, "num_rows is 101; expected at most 100"),
        ({"num_rows": 0}, ValueError, "num_rows is 0"),
        ({"num_rows": 1.5}, TypeError, "num_rows is 1.5"),
        ({"num_rows": 3, "row_range": (10, 12)}, ValueError, "num_rows is 3; expected at most 2"),
        ({"row_range": (50, 10)}, ValueError, "row_range is (50, 10); expected 0 <= first < last"),
        ({"row_range": (50, 50)}, ValueError, "row_range is (50, 50)"),
        ({"row_range": (0, 101)}, ValueError, "row_range is (0, 101)"),
        ({"row_range": (-1, 10)}, ValueError, "row_range[0] is -1"),
        ({"row_range": (0.0, 10)}, TypeError, "row_range[0] is 0.0"),
        ({"row_range": 5}, TypeError, "row_range is 5; expected a pair"),
        ({"row_range": (1, 2, 3)}, TypeError, "row_range is (1, 2, 3); expected a pair"),
        ({"seed": -1}, ValueError, "seed is -1; expected 0 <= seed < 2**64"),
        ({"seed": 2**64}, ValueError, "seed is 18446744073709551616"),
        ({"seed": 0.5}, TypeError, "seed is 0.5"),
        ({"layer": -1}, ValueError, "layer is -1"),
        ({"layer": 2**32}, ValueError, "layer is 4294967296; expected 0 <= layer < 2**32"),
        ({"sampler": "fast"}, ValueError, "sampler is 'fast'; expected one of stream, rotated"),
        ({"sampler": 3}, TypeError, "sampler is 3"),
        ({"score": "abs"}, ValueError, "score is 'abs'; expected one of absolute, signed"),
        ({"order": "none"}, ValueError, "order is 'none'; expected one of index, score"),
        ({"num_threads": 0}, ValueError, "num_threads is 0"),
        ({"num_threads": 2.0}, TypeError, "num_threads is 2.0"),
        ({"progress": 3}, TypeError, "progress is 3; expected a callable"),
        (
            {"sampler": "order_statistics", "score": "signed"},
            ValueError,
            "sampler='order_statistics' draws the largest absolute projections",
        ),
        (
            {"sampler": "order_statistics", "row_range": (0, 50)},
            ValueError,
            "sampler='order_statistics' draws the largest absolute projections",
        ),
    ],
)
def test_selection_options(options, kind, text):
    with raises(kind, text):
        infall.select_rows(GOOD, **{"width": 100, **options})


def test_order_statistics_take_one_vector():
    with raises(ValueError, "w has 2 rows, but sampler='order_statistics'"):
        infall.select_rows(np.ones((2, 3)), 100, sampler="order_statistics")


@pytest.mark.parametrize(
    ("weights", "kind", "text"),
    [
        (np.ones((10, 3), dtype=np.complex64), TypeError, "weights has dtype complex64"),
        (np.full((10, 3), "a"), TypeError, "weights has dtype <U1"),
        (np.ma.ones((10, 3), order="F"), TypeError, "weights is a masked array"),
        (np.ma.ones((10, 3))[::2], TypeError, "weights is a masked array"),
        (np.ones(10), ValueError, "weights has 1 axes"),
        (np.ones((10, 4)), ValueError, "w has 3 columns; expected 4"),
        (np.ones((0, 3)), ValueError, "weights is empty"),
        (np.ones((2, 3)), ValueError, "num_rows is 3"),
    ],
)
def test_matrices(weights, kind, text):
    with raises(kind, text):
        infall.select_rows_from(GOOD, weights)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64, np.longdouble, ">f8"])
@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nonfinite_matrix_entries_are_named(dtype, order, bad):
    weights = np.ones((5000, 3), dtype=dtype, order=order)
    weights[4321, 1] = weights[4999, 0] = bad
    with raises(ValueError, f"weights is not finite: {bad} at position (4321, 1)"):
        infall.select_rows_from(GOOD, weights)


def test_overflow_of_a_projection_is_named():
    weights = np.full((10, 3), 3e38, dtype=np.float32)
    with raises(ValueError, "weights overflows: the projection of row 0 is not finite"):
        infall.select_rows_from(GOOD, weights)


def test_numbers_that_float64_does_not_hold_are_not_finite():
    weights = np.ones((400_000, 3), dtype=np.longdouble)
    weights[399_990, 2] = np.longdouble("1e4000")
    with raises(ValueError, "weights is not finite: inf at position (399990, 2)"):
        infall.select_rows_from(GOOD, weights)


@pytest.mark.parametrize(
    ("arguments", "options", "kind", "text"),
    [
        (([0.5], 3), {}, TypeError, "indices has dtype float64; expected integers"),
        (([True], 3), {}, TypeError, "indices has dtype bool"),
        ((["a"], 3), {}, TypeError, "indices has dtype <U1; expected integers"),
        ((np.array(["a"]), 3), {}, TypeError, "indices has dtype <U1; expected integers"),
        (([1j], 3), {}, TypeError, "indices has dtype complex128; expected integers"),
        (([[1], [1, 2]], 3), {}, TypeError, "indices is not an array"),
        ((np.ma.arange(3), 3), {}, TypeError, "indices is a masked array"),
        (([[1, 2]], 3), {}, ValueError, "indices has 2 axes"),
        (([4, -7], 3), {}, ValueError, "indices is -7 at position 1"),
        ((np.array([2**63], dtype=np.uint64), 3), {}, ValueError, "indices is 9223372036854775808"),
        (([1], 0), {}, ValueError, "dim is 0"),
        (([1], 2**32), {}, ValueError, "dim is 4294967296; expected 1 <= dim < 2**32"),
        (([1], 2.0), {}, TypeError, "dim is 2.0"),
        (([1], 3), {"out": [0.0]}, TypeError, "out is of list"),
        (([1], 3), {"out": np.ones((1, 3))}, TypeError, "out is of dtype float64"),
        (([1], 3), {"out": np.ma.ones((1, 3), np.float32)}, TypeError, "out is a masked array"),
        (([1], 3), {"out": np.ones((2, 3), np.float32)}, ValueError, "out has shape (2, 3)"),
        (([1, 2], 2), {"out": np.ones((2, 2), np.float32).T[::-1]}, ValueError, "C-contiguous"),
        (
            ([1], 3),
            {"out": np.zeros(13, np.uint8)[1:].view(np.float32).reshape(1, 3)},
            ValueError,
            "out is not C-contiguous, aligned",
        ),
    ],
)
def test_row_requests(arguments, options, kind, text):
    with raises(kind, text):
        infall.gaussian_rows(*arguments, **options)


def test_out_may_not_overlap_the_indices():
    indices = np.arange(8)
    with raises(ValueError, "out shares memory with indices"):
        infall.gaussian_rows(indices[:4], 4, out=indices.view(np.float32).reshape(4, 4))


def test_results_that_fit_no_memory():
    with raises(ValueError, "num_rows is 4611686018427387904"):
        infall.select_rows(GOOD, 2**63 - 1, num_rows=2**62, sampler="order_statistics")
    with raises(ValueError, "num_bits is 9223372036854775807"):
        infall.hyperplane_codes(GOOD, 2**63 - 1)
    with raises(OverflowError, "too many rows times vectors"):
        infall.select_rows(np.ones((17000, 512)), 2**63 - 1, num_rows=1)


def test_codes():
    with raises(ValueError, "num_bits is 0"):
        infall.hyperplane_codes(GOOD, 0)
    with raises(ValueError, "x is zero"):
        infall.hyperplane_codes([0.0, 0.0], 8)
    with raises(TypeError, "a has dtype int64; expected uint8"):
        infall.hamming_distances(np.ones((1, 1), dtype=np.int64), np.ones((1, 1), dtype=np.uint8))
    with raises(ValueError, "b has 3 axes; expected shape (bytes,) or (N, bytes)"):
        infall.hamming_distances(np.ones((1, 1), np.uint8), np.ones((1, 1, 1), np.uint8))
    with raises(ValueError, "a is empty: shape (3, 0)"):
        infall.hamming_distances(np.ones((3, 0), np.uint8))
    with raises(ValueError, "b has codes of 2 bytes; expected 1"):
        infall.hamming_distances(np.ones((1, 1), np.uint8), np.ones((1, 2), np.uint8))


def test_merging():
    def part(**options):
        return infall.select_rows(GOOD, 100, **{"row_range": (0, 50), **options})

    rest = infall.select_rows(GOOD, 100, row_range=(50, 100))
    with raises(ValueError, "parts is empty"):
        infall.merge_selections([])
    with raises(TypeError, "parts is a int; expected an iterable of RowSelection"):
        infall.merge_selections(5)
    with raises(TypeError, "parts is a RowSelection; expected an iterable of RowSelection"):
        infall.merge_selections(rest)
    with raises(TypeError, "parts[1] is a int"):
        infall.merge_selections([part(), 3])
    with raises(ValueError, "parts[1] has seed 1, parts[0] has 0"):
        infall.merge_selections([rest, part(seed=1)])
    with raises(ValueError, "parts[1] has rows of shape (2, 2)"):
        infall.merge_selections([rest, infall.select_rows([1.0, 2.0], 100, row_range=(0, 50))])
    with raises(ValueError, "overlap or leave a gap"):
        infall.merge_selections([rest, part(row_range=(0, 49))])
    with raises(ValueError, "overlap or leave a gap"):
        infall.merge_selections([rest, part(row_range=(0, 51))])
    whole = infall.select_rows(GOOD, 100, sampler="order_statistics")
    with raises(ValueError, "parts[0] has sampler 'order_statistics'"):
        infall.merge_selections([whole])
