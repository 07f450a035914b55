"""The CUDA kernels, run by the host, against the CPU kernels: bit for bit.

`_cuda_emulated` is the source of the CUDA module compiled for the host: what the kernels compute
is proved here; what only hardware can show is left to the tests marked `gpu`.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import special

import infall
from infall import _core
from infall._arrays.host import Host, padded_float32
from infall.rows._host import unit_vectors

cuda = pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)
pytestmark = pytest.mark.sanitize

many = pytest.mark.slow  # the sanitized emulation takes half a minute for each
few = settings(max_examples=20, deadline=None, derandomize=True)


def pointer(array):
    """Address of a host array: the emulation's device memory."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def vectors(dim, batch, seed=0):
    """Unit vectors (batch, dim)."""
    vectors = np.random.default_rng(seed).normal(size=(batch, dim))
    return unit_vectors(Host(), vectors, "w")[0]


def run_selection(
    directions, sampler, first, last, num_rows, *, score, order, seed, layer, thresholds
):
    """Select on the emulated device: (indices, unit projections)."""
    batch, dim = directions.shape
    indices = np.full((batch, num_rows), -7, dtype=np.int64)
    projections = np.full((batch, num_rows), np.nan)
    space = np.full(
        cuda.selection_workspace(num_rows, last - first, batch) + 64, 255, dtype=np.uint8
    )
    settings = (first, last, num_rows, batch, score == "absolute", order == "index")
    results = (pointer(space), pointer(indices), pointer(projections))
    task = (*settings, *thresholds, *results)
    if sampler == "stream":
        padded = padded_float32(directions)
        cuda.select_stream((seed, layer, dim), task, pointer(padded), None, 0, 0)
    else:
        factors = np.ones((1, 1)) if batch == 1 else _core.householder(directions)[2]
        cuda.select_rotated((seed, layer, dim), task, pointer(factors), len(factors), 0, 0)
    assert (space[-64:] == 255).all()
    return indices, projections


def in_order(selected, order):
    """Stack what a CPU selection found, (rows, unit projections), in the order asked for."""
    indices = np.stack([rows for rows, _ in selected])
    projections = np.stack([row_projections for _, row_projections in selected])
    if order == "index":
        by_index = np.argsort(indices, axis=1)
        indices = np.take_along_axis(indices, by_index, axis=1)
        projections = np.take_along_axis(projections, by_index, axis=1)
    return indices, projections


def same_as_cpu(directions, sampler, first, last, num_rows, thresholds, **options):
    """Assert that the emulated device selects what the CPU selects, bit for bit."""
    selected = run_selection(
        directions, sampler, first, last, num_rows, thresholds=thresholds, **options
    )
    common = (options["seed"], options["layer"], first, last, num_rows)
    rest = (options["score"] == "absolute", -np.inf, 1, None)
    if sampler == "stream":
        padded = padded_float32(directions)
        expected = _core.select_stream(padded, directions.shape[1], *common, *rest)
    else:
        factors = np.ones((1, 1)) if len(directions) == 1 else _core.householder(directions)[2]
        expected = _core.select_rotated(factors, *common, *rest)
    expected = in_order(expected, options["order"])
    assert_array_equal(selected[0], expected[0])
    assert_array_equal(selected[1], expected[1])


@few
@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30),
    st.integers(1, 70),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)
def test_rows(indices, dim, seed, layer):
    row_numbers = np.array(indices)
    out = np.empty((len(indices), dim), dtype=np.float32)
    cuda.gaussian_rows((seed, layer, dim), pointer(row_numbers), len(indices), pointer(out), 0, 0)
    assert_array_equal(out, infall.gaussian_rows(row_numbers, dim, seed=seed, layer=layer))


@pytest.mark.parametrize("dim", [1, 4, 15, 1024, 1028, 1030, 2500])
@pytest.mark.parametrize("offset", [0, 1])
def test_rows_lie_as_they_are_asked_for(dim, offset):
    # Rows shorter and longer than what a block of threads takes, in memory aligned to whole column
    # blocks and not; rows of negative numbers are NaN, and nothing else is written.
    row_numbers = np.array([7, -1, 2**63 - 1, 0, -(2**63)] * 60)[: 300 if dim < 20 else 5]
    room = np.full(row_numbers.size * dim + 36, -7, dtype=np.float32)
    begin = -room.ctypes.data // 4 % 4 + 4 + offset
    out = room[begin : begin + row_numbers.size * dim]
    assert out.ctypes.data % 16 == 4 * offset
    cuda.gaussian_rows((3, 4, dim), pointer(row_numbers), len(row_numbers), pointer(out), 0, 0)
    expected = infall.gaussian_rows(np.maximum(row_numbers, 0), dim, seed=3, layer=4)
    expected[row_numbers < 0] = np.nan
    assert_array_equal(out.reshape(expected.shape), expected)
    assert (room[:begin] == -7).all()
    assert (room[begin + out.size :] == -7).all()


@pytest.mark.parametrize("dim", [600, 601])
def test_more_rows_than_blocks(dim):
    # A grid has 2112 blocks for them: each goes on with a row beyond, if there is one.
    rows = 3 * np.arange(2115)
    rows[[5, 2113]] = -1
    out = np.empty((len(rows), dim), dtype=np.float32)
    cuda.gaussian_rows((3, 4, dim), pointer(rows), len(rows), pointer(out), 0, 0)
    expected = infall.gaussian_rows(np.maximum(rows, 0), dim, seed=3, layer=4)
    expected[[5, 2113]] = np.nan
    assert_array_equal(out, expected)
    again = np.empty_like(out)
    places = np.arange(len(rows))[::-1].copy()
    matrix = (out.ctypes.data, "float32", len(rows), dim, dim, 1)
    cuda.gather_rows(matrix, pointer(places), len(rows), pointer(again), 0, 0)
    assert_array_equal(again, expected[::-1])


@few
@given(
    st.integers(1, 40),
    st.integers(1, 11),
    st.integers(0, 2**62),
    st.integers(1, 900),
    st.sampled_from(["stream", "rotated"]),
    st.sampled_from(["absolute", "signed"]),
    st.sampled_from(["index", "score"]),
    st.data(),
)
def test_small_selections(dim, batch, first, rows, sampler, score, order, data):
    num_rows = data.draw(st.integers(1, min(rows, 40)))
    same_as_cpu(
        vectors(dim, batch, rows),
        sampler,
        first,
        first + rows,
        num_rows,
        (-np.inf, -np.inf),
        score=score,
        order=order,
        seed=rows,
        layer=dim,
    )


@pytest.mark.parametrize("sampler", ["stream", "rotated"])
@pytest.mark.parametrize("first", [0, 2**32 - 3000, 2**33 - 1, 2**63 - 9001])
@pytest.mark.parametrize("batch", [1, 3])
def test_thresholds_and_the_second_pass(sampler, first, batch):
    # Right thresholds; a first one that lets nothing pass; a first one that lets too much pass.
    rows, num_rows = 9000, 10
    for thresholds in ((2.9, 2.5), (9.0, 2.9), (0.5, 2.9)):
        same_as_cpu(
            vectors(6, batch),
            sampler,
            first,
            first + rows,
            num_rows,
            thresholds,
            score="absolute",
            order="score",
            seed=1,
            layer=2,
        )


@pytest.mark.parametrize(
    ("batch", "dim"), [(2, 2), (9, 5), (20, 90), (70, 70), pytest.param(130, 65, marks=many)]
)
@pytest.mark.parametrize("score", ["absolute", "signed"])
def test_estimates_rule_out_no_row(batch, dim, score):
    # The threshold is the last score wanted of one direction: an estimate below it loses that row,
    # and nothing makes up for it.
    w = vectors(dim, batch, dim)
    factors = _core.householder(w)[2]
    for num_rows in range(1, 25) if batch < 10 else (1, 7, 13):
        absolute = score == "absolute"
        selected = _core.select_rotated(
            factors, batch, dim, 4001, 6000, num_rows, absolute, -np.inf, 1, None
        )
        last = min(abs(projections[-1]) for _, projections in selected)
        same_as_cpu(
            w,
            "rotated",
            4001,
            6000,
            num_rows,
            (last, 9.0),
            score=score,
            order="score",
            seed=batch,
            layer=dim,
        )


@pytest.mark.parametrize("batch", [2, 9])
def test_estimates_of_far_pairs_are_not_believed(batch):
    # The radius word of this row is 0: 32 bits put it at 6.2566, all 64 at 6.28996.
    row, projection = 3474486366, 6.289957152288427
    same_as_cpu(
        np.tile([[1.0, 0.0]], (batch, 1)),
        "rotated",
        row - 99,
        row + 99,
        1,
        (projection - 1e-6, 9.0),
        score="signed",
        order="score",
        seed=1,
        layer=0,
    )


# Up to 4096 candidates all pairs are compared, more are sorted.
NUMBERS_OF_ROWS = (1, 2, 255, 256, 257, 1000, 4096, 4097, 5000, pytest.param(70001, marks=many))


@pytest.mark.parametrize("num_rows", NUMBERS_OF_ROWS)
@pytest.mark.parametrize("order", ["index", "score"])
def test_cuts_of_any_size(num_rows, order):
    # A part of the rows, of which a little more than are wanted pass; and all rows there are.
    threshold = special.ndtri(1.0 - (num_rows + 4.0 * num_rows**0.5 + 20.0) / (4 * num_rows + 99))
    for score, rows, first_threshold in (
        ("signed", 4 * num_rows + 99, threshold),
        ("absolute", num_rows, -np.inf),
    ):
        same_as_cpu(
            vectors(2, 1, num_rows),
            "rotated",
            77,
            77 + rows,
            num_rows,
            (first_threshold, -np.inf),
            score=score,
            order=order,
            seed=num_rows,
            layer=1,
        )


@pytest.mark.parametrize("order", ["index", "score"])
def test_large_cuts_of_a_batch(order):
    # Directions of unlike numbers of candidates: of the last two, too many pass at first.
    same_as_cpu(
        vectors(3, 3) * np.array([[1.0], [1.1], [1.12]]),
        "stream",
        0,
        60000,
        5000,
        (1.7, 1.85),
        score="absolute",
        order=order,
        seed=3,
        layer=1,
    )


def test_columns_beyond_one_tile():
    same_as_cpu(
        vectors(700, 9),
        "stream",
        5,
        600,
        20,
        (-np.inf, -np.inf),
        score="absolute",
        order="index",
        seed=1,
        layer=0,
    )


# A block rotates one row or several, the last block fewer, up to what its memory holds; rows that
# it does not hold are rotated in the card's.
@pytest.mark.parametrize(
    ("span", "dim", "count"),
    [(1, 1, 70), (1, 9, 70), (4, 9, 70), (5, 5, 70), (3, 64, 1700), (2, 300, 9), (2, 2600, 3),
     (2, 6111, 2), (2, 6112, 2), (3, 6200, 35)],
)  # fmt: skip
def test_rotation(span, dim, count):
    rows = np.arange(100, 100 + count)
    directions = vectors(dim, span)
    v, scale, _ = _core.householder(directions)
    deciding = np.empty((len(rows), span))
    cuda.deciding_entries((3, 4, dim), pointer(rows), len(rows), span, pointer(deciding), 0, 0)
    assert_array_equal(deciding, _core.deciding_entries(rows, span, 3, 4, 1))
    z = infall.gaussian_rows(rows, dim, seed=3, layer=4)
    expected = z.copy()
    _core.rotate_rows(expected, deciding, v, scale, 1, None)
    scratch = np.empty((dim, len(rows)))
    cuda.rotate_rows(
        pointer(z),
        len(rows),
        dim,
        pointer(deciding),
        pointer(v),
        pointer(scale),
        span,
        pointer(scratch),
        0,
        0,
    )
    assert_array_equal(z, expected)


@few
@given(st.integers(1, 20), st.integers(1, 600), st.integers(1, 30), st.sampled_from([None, 6]))
def test_codes(num_inputs, num_bits, dim, layer):
    x = padded_float32(vectors(dim, num_inputs))
    num_bytes = -(-num_bits // 8)
    out = np.full((num_inputs * num_bytes + 64), 7, dtype=np.uint8)
    cuda.hyperplane_codes(pointer(x), dim, num_inputs, num_bits, 5, layer, pointer(out), 0, 0)
    expected = _core.hyperplane_codes(x, dim, num_bits, 5, layer, 1, None)
    assert_array_equal(out[:-64].reshape(num_inputs, num_bytes), expected)
    assert (out[-64:] == 7).all()


@few
@given(st.integers(1, 140), st.integers(1, 140), st.integers(1, 150), st.booleans())
def test_distances(n, m, num_bytes, aligned):
    rng = np.random.default_rng(n)
    if aligned:  # codes of whole words are read by words
        num_bytes = -(-num_bytes // 4) * 4
    a = rng.integers(0, 256, n * num_bytes + 1, dtype=np.uint8)[0 if aligned else 1 :]
    a = a[: n * num_bytes].reshape(n, num_bytes)
    b = rng.integers(0, 256, (m, num_bytes), dtype=np.uint8)
    out = np.empty((n, m), dtype=np.int32)
    cuda.hamming_distances(pointer(a), n, pointer(b), m, num_bytes, pointer(out), 0, 0)
    assert_array_equal(out, infall.hamming_distances(a, b))


def half_precision(matrix, dtype):
    """Return the matrix as it lies in device memory, and its exact values in float32."""
    if dtype == "bfloat16":
        bits = (matrix.astype(np.float32).view(np.uint32) >> 16).astype(np.uint16)
        return bits, (bits.astype(np.uint32) << 16).view(np.float32)
    stored = matrix.astype(dtype)
    return stored, stored if dtype == "float64" else stored.astype(np.float32)


def select_matrix(stored, dtype, directions, num_rows, score, order, passed=None):
    """Select from a matrix on the emulated device; `passed` takes the candidates of each pass."""
    batch, dim = directions.shape
    rows = len(stored)
    indices = np.full((batch, num_rows), -7, dtype=np.int64)
    projections = np.full((batch, num_rows), np.nan)
    size = cuda.matrix_workspace(rows, num_rows, batch)
    space = np.full(size + 64, 255, dtype=np.uint8)
    w = directions.astype(np.float64 if dtype == "float64" else np.float32)
    strides = [step // stored.itemsize for step in stored.strides]
    settings = (0, rows, num_rows, batch, score == "absolute", order == "index", 0.0, 0.0)
    task = (*settings, pointer(space), pointer(indices), pointer(projections))
    cuda.select_matrix((stored.ctypes.data, dtype, rows, dim, *strides), task, pointer(w), 0, 0)
    assert (space[-64:] == 255).all()
    if passed is not None:
        passed[:] = space[: 16 * batch].view(np.uint64).reshape(batch, 2)
    return indices, projections


def same_from_matrix(matrix, dtype, directions, num_rows, *, score="absolute", order="score"):
    """Assert that the emulated device selects from a matrix what the CPU selects."""
    stored, widened = half_precision(matrix, dtype)
    selected = select_matrix(stored, dtype, directions, num_rows, score, order)
    w = directions.astype(widened.dtype)
    cpu = _core.select_matrix(widened, w, num_rows, score == "absolute", 1, None)
    expected = in_order(cpu, order)
    assert_array_equal(selected[0], expected[0])
    assert_array_equal(selected[1], expected[1])


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("layout", ["C", "F", "strided"])
@pytest.mark.parametrize("batch", [1, 5])
def test_matrices_of_any_kind(dtype, layout, batch):
    for rows, dim, num_rows in ((1, 1, 1), (300, 7, 20), (1000, 70, 33), (700, 33, 700)):
        matrix = np.random.default_rng(rows).normal(size=(rows, dim))
        if layout == "F":
            matrix = np.asfortranarray(matrix)
        elif layout == "strided":
            matrix = np.repeat(np.repeat(matrix, 2, axis=0), 3, axis=1)[::2, ::3]
        for score, order in (("absolute", "score"), ("signed", "index")):
            same_from_matrix(matrix, dtype, vectors(dim, batch), num_rows, score=score, order=order)


@many
@pytest.mark.parametrize(
    ("kind", "score"),
    [
        ("random", "absolute"),
        ("random", "signed"),
        ("ascending", "absolute"),
        ("ascending", "signed"),
        ("descending", "signed"),
        ("constant", "absolute"),
        ("ties", "signed"),
        ("hidden", "absolute"),
        ("rising", "absolute"),
        ("rising", "signed"),
        ("nan", "absolute"),
    ],
)
def test_matrices_that_a_sample_does_not_foresee(kind, score):
    # More rows than are sampled, so that a threshold filters; and rows made to defeat it.
    rows = 70001
    rng = np.random.default_rng(0)
    column = {
        "random": rng.normal(size=rows),
        "ascending": np.arange(rows) - rows / 2.0,
        "descending": rows / 2.0 - np.arange(rows),
        "constant": np.ones(rows),
        "ties": rng.integers(-2, 3, rows).astype(float),
        "hidden": np.where(np.arange(rows) % 4, 2.0 + np.arange(rows) % 7, 0.0),
        # Of the rows past the sampled ones the first are the worst: both passes let too many pass.
        "rising": np.where(np.arange(rows) % 4, 1000.0 + np.arange(rows), 0.0),
        "nan": np.where(np.arange(rows) % 3, rng.normal(size=rows), np.nan),
    }[kind]
    matrix = np.stack([column, np.zeros(rows)], axis=1).astype(np.float32)
    w = np.array([[1.0, 0.0]])
    indices, projections = select_matrix(matrix, "float32", w, 40, score, "score")
    ranked = np.abs(column) if score == "absolute" else column
    ranked = np.where(np.isnan(ranked), -np.inf, ranked.astype(np.float32))
    best = np.argsort(-ranked, kind="stable")[:40]
    assert_array_equal(indices[0], best)
    assert_array_equal(projections[0], column[best].astype(np.float32))


@pytest.mark.parametrize("rows", [2**14 + 1, 2**15 - 1, 49151])
@pytest.mark.parametrize("descending", [False, True])
def test_the_sample_of_a_sorted_matrix_covers_it(rows, descending):
    # Its threshold then lets so few rows pass that there is no second pass.
    scores = np.arange(rows, dtype=np.float32)[:: -1 if descending else 1] + 1
    passed = np.empty((1, 2), np.uint64)
    select_matrix(
        np.ascontiguousarray(scores)[:, None],
        "float32",
        np.ones((1, 1)),
        40,
        "absolute",
        "score",
        passed,
    )
    assert passed[0, 1] == 0
    assert 40 <= passed[0, 0] < 2000


@pytest.mark.parametrize("order", ["index", pytest.param("score", marks=many)])
@pytest.mark.parametrize(
    "num_rows", [300, pytest.param(9000, marks=many), pytest.param(40000, marks=many)]
)
@pytest.mark.parametrize("kind", ["hidden", "rising", "ties", "nan", "ascending"])
def test_large_cuts_of_a_matrix(kind, num_rows, order):
    # Among many equal scores the lower rows win; where rows run out there is nothing to select.
    rows = 50001
    rng = np.random.default_rng(0)
    column = {
        "hidden": np.where(np.arange(rows) % 4, 2.0 + np.arange(rows) % 7, 0.0),
        "rising": np.where(np.arange(rows) % 3, 1000.0 + np.arange(rows), 0.0),
        "ties": rng.integers(-2, 3, rows).astype(float),
        "nan": np.where(np.arange(rows) % 9 < 5, rng.normal(size=rows), np.nan),
        "ascending": np.arange(rows) - rows / 2.0,
    }[kind]
    matrix = column.astype(np.float32)[:, None]
    indices, projections = select_matrix(
        matrix, "float32", np.ones((1, 1)), num_rows, "absolute", order
    )
    ranked = np.where(np.isnan(matrix[:, 0]), -np.inf, np.abs(matrix[:, 0]))
    best = np.argsort(-ranked, kind="stable")[:num_rows]
    best = best[np.isfinite(ranked[best])]
    nothing = np.full(num_rows - len(best), -1)
    if order == "index":
        expected = np.concatenate([nothing, np.sort(best)])
    else:
        expected = np.concatenate([best, nothing])
    assert_array_equal(indices[0], expected)
    actual = np.where(expected < 0, np.nan, matrix[expected, 0])
    assert_array_equal(projections[0], actual)
    assert (len(nothing) > 0) == (kind == "nan" and num_rows == 40000)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_every_16_bit_float(dtype):
    bits = np.arange(2**16, dtype=np.uint16)
    if dtype == "float16":
        widened = bits.view(np.float16).astype(np.float32)
    else:
        widened = (bits.astype(np.uint32) << 16).view(np.float32)
    finite = np.isfinite(widened)
    for part in np.array_split(np.flatnonzero(finite), 64):
        indices, projections = select_matrix(
            bits[part][:, None], dtype, np.ones((1, 1)), len(part), "signed", "index"
        )
        assert_array_equal(indices[0], np.arange(len(part)))
        assert_array_equal(projections[0], widened[part])


@pytest.mark.slow
def test_more_than_a_grid_holds():
    # Rows of a launch are limited to 65535 blocks: more are sent in parts.
    a = np.random.default_rng(0).integers(0, 256, (65535 * 64 + 5, 1), dtype=np.uint8)
    out = np.empty((len(a), 1), dtype=np.int32)
    cuda.hamming_distances(pointer(a), len(a), pointer(a), 1, 1, pointer(out), 0, 0)
    assert_array_equal(out[:, 0], np.bitwise_count(a[:, 0] ^ a[0, 0]))
    task = (0, 5, 1, 65536, True, True, 0.0, 0.0, pointer(np.empty(1)), 0, 0)
    with pytest.raises(ValueError, match="w has 65536 rows; on a device at most 65535"):
        cuda.select_stream((0, 0, 1), task, 0, None, 0, 0)


def test_device_count_answers():
    assert cuda.device_count() == 1
    assert cuda.architectures() == "host"
