"""Gaussian rows and row selection against the NumPy reference."""

import math
import os
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import special, stats

import infall
import reference
from chance import plausible
from infall import _core, laws
from infall._arrays.blocks import blocks_of
from interrupts import LIMIT, SANITIZED, seconds_after_interrupt
from selection_cases import few, same, vector

pytestmark = pytest.mark.sanitize

ISAS = _core.available_isas()


def ulps(a, b):
    """Integer distance of float32 bit patterns; both of the same sign."""
    return np.abs(a.view(np.int32).astype(np.int64) - b.view(np.int32))


# Rows ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [1, 3, 4, 7, 64, 65, 130])
def test_rows_are_those_of_the_reference(isa, dim, restore_isa):
    _core.set_isa(isa)
    indices = np.array([0, 1, 15, 16, 17, 2**32 - 1, 2**32, 2**40 + 5, 2**63 - 1, 3, 3])
    rows = infall.gaussian_rows(indices, dim, seed=2**64 - 99, layer=2**32 - 1)
    expected = reference.gaussian_rows(indices, dim, 2**64 - 99, 2**32 - 1)
    assert_array_equal(np.signbit(rows), np.signbit(expected))
    assert ulps(rows, expected).max() <= 2


def test_normals_are_within_two_ulp_over_many_words():
    indices = np.arange(2**12 if SANITIZED else 2**14)
    rows = infall.gaussian_rows(indices, 256, seed=3)
    assert ulps(rows, reference.gaussian_rows(indices, 256, 3, 0)).max() <= 2


@pytest.mark.parametrize("isa", ISAS[1:])
def test_rows_are_the_same_bits_on_every_instruction_set(isa, restore_isa):
    indices = np.random.default_rng(1).integers(0, 2**63 - 1, 300)
    expected = infall.gaussian_rows(indices, 77, seed=11, layer=3)
    _core.set_isa(isa)
    assert_array_equal(infall.gaussian_rows(indices, 77, seed=11, layer=3), expected)


@few
@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=40),
    st.integers(1, 40),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.integers(1, 8),
)
def test_any_rows_equal_those_of_a_larger_block(indices, dim, seed, layer, threads):
    wide = infall.gaussian_rows(indices, dim + 9, seed=seed, layer=layer)
    out = np.empty((len(indices), dim), dtype=np.float32)
    rows = infall.gaussian_rows(indices, dim, seed=seed, layer=layer, out=out, num_threads=threads)
    assert rows is out
    assert_array_equal(out, wide[:, :dim])


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [*range(1, 14), 15, 31, 60, 63, 64, 65, 66, 127, 128, 257])
def test_rows_that_end_within_a_vector_leave_the_others_alone(isa, dim, restore_isa):
    # Vectors go on from one row to the next; what a row has too much must not stay behind.
    longest, guard = 260, np.float32(-77.0)
    indices = np.random.default_rng(dim).integers(2**32 - 9, 2**32 + 9, 37)
    expected = infall.gaussian_rows(indices, longest, seed=4)[:, :dim]
    _core.set_isa(isa)
    for count in (1, 2, 3, 36, 37):
        memory = np.full(count * dim + 64, guard)
        _core.gaussian_rows(indices[:count], memory[: count * dim].reshape(-1, dim), 4, 0, 1, None)
        assert_array_equal(memory[: count * dim].reshape(-1, dim), expected[:count])
        assert (memory[count * dim :] == guard).all()


def test_no_rows_is_an_empty_array():
    assert infall.gaussian_rows([], 5).shape == (0, 5)


# Laws of the normals ------------------------------------------------------------------------------


def test_normals_follow_the_normal_law():
    sample = infall.gaussian_rows(np.arange(2**12), 256, seed=7).ravel()
    assert plausible(stats.kstest(sample, "norm").pvalue)


@pytest.mark.slow
def test_tail_cells_down_to_two_to_the_minus_25():
    # |z| in cells of probability 2^-1, 2^-2, ..., 2^-25 and the rest: 2^28 normals.
    edges = -special.ndtri(2.0 ** -np.arange(2, 27))  # P(|z| > edge_j) = 2^-(j+1)
    beyond = np.zeros(25)
    for block in range(64):
        left = np.abs(infall.gaussian_rows(np.arange(block * 4096, (block + 1) * 4096), 1024))
        for j, edge in enumerate(edges):
            left = left[left > edge]
            beyond[j] += len(left)
    counts = -np.diff(np.concatenate([[2.0**28], beyond, [0.0]]))
    expected = 2.0**28 * np.append(2.0 ** -np.arange(1.0, 26), 2.0**-25)
    assert plausible(stats.chisquare(counts, expected).pvalue)
    assert plausible(stats.binomtest(int(beyond[-1]), 2**28, 2.0**-25).pvalue)


def test_normals_are_uncorrelated_across_rows_columns_layers_and_seeds():
    base = infall.gaussian_rows(np.arange(4096), 128, seed=5).astype(np.float64)
    others = {f"column lag {lag}": (base[:, lag:], base[:, :-lag]) for lag in range(1, 9)}
    others |= {f"row lag {lag}": (base[lag:], base[:-lag]) for lag in (1, 2, 8, 16, 17, 64, 2048)}
    others |= {
        f"layer {layer}": (base, infall.gaussian_rows(np.arange(4096), 128, seed=5, layer=layer))
        for layer in (1, 2, 2**31)
    }
    others |= {
        f"seed {seed}": (base, infall.gaussian_rows(np.arange(4096), 128, seed=seed))
        for seed in (4, 6, 5 + 2**32)
    }
    for name, (a, b) in others.items():
        for transform in (lambda z: z, lambda z: (z * z - 1.0) / math.sqrt(2.0)):
            score = np.sum(transform(a) * transform(b)) / math.sqrt(a.size)
            assert plausible(2 * stats.norm.sf(abs(score))), name


# Selection: the literal algorithm -----------------------------------------------------------------


@few
@given(
    st.integers(1, 40),
    st.integers(1, 700),
    st.data(),
    st.sampled_from(["absolute", "signed"]),
    st.sampled_from(["index", "score"]),
)
def test_stream_is_the_literal_selection_from_its_own_matrix(dim, width, data, score, order):
    num_rows = data.draw(st.integers(1, width))
    w = vector(dim, seed=width)
    matrix = infall.gaussian_rows(np.arange(width), dim, seed=9, layer=2)
    selection = infall.select_rows(
        w, width, num_rows=num_rows, seed=9, layer=2, score=score, order=order
    )
    same(selection, infall.select_rows_from(w, matrix, num_rows=num_rows, score=score, order=order))
    assert_array_equal(selection.rows, matrix[selection.indices])
    exact = matrix.astype(np.float64) @ w
    np.testing.assert_allclose(
        selection.projections, exact[selection.indices], atol=2e-6 * np.linalg.norm(w) * dim
    )
    ranked = np.abs(exact) if score == "absolute" else exact
    chosen = np.sort(ranked[selection.indices])[::-1]
    best = np.sort(ranked)[::-1][:num_rows]
    np.testing.assert_allclose(chosen, best, atol=2e-6 * np.linalg.norm(w) * dim)


@few
@given(st.integers(2, 400), st.integers(1, 30), st.integers(1, 5), st.integers(0, 3))
def test_matrix_selection_ranks_ties_by_row(width, num_rows, levels, kind):
    # Few distinct rows, so that nearly all scores tie.
    num_rows = min(num_rows, width)
    rng = np.random.default_rng(width * 31 + num_rows)
    weights = rng.integers(-levels, levels + 1, (width, 2)).astype(
        np.float32 if kind % 2 else np.float64
    )
    weights = np.asfortranarray(weights) if kind // 2 else weights
    w = np.array([1.0, 0.0])
    for score in ("absolute", "signed"):
        selection = infall.select_rows_from(
            w, weights, num_rows=num_rows, score=score, order="score"
        )
        indices, projections = reference.select_rows_literal(weights, w, num_rows, score)
        assert_array_equal(selection.indices, indices)
        assert_array_equal(selection.projections, projections)
        by_index = infall.select_rows_from(w, weights, num_rows=num_rows, score=score)
        assert_array_equal(by_index.indices, np.sort(indices))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_matrix_of_any_layout_gives_one_selection(dtype, tmp_path):
    matrix = np.random.default_rng(0).normal(size=(1003, 37)).astype(dtype)
    w = vector(37, batch=3)
    expected = infall.select_rows_from(w, matrix, num_rows=20)
    spread = np.zeros((2006, 74), dtype=dtype)
    spread[::2, ::2] = matrix
    path = tmp_path / "weights.npy"
    np.save(path, matrix)
    read_only = matrix.copy()
    read_only.flags.writeable = False
    for variant in (
        np.asfortranarray(matrix),
        spread[::2, ::2],
        matrix[::-1][::-1],
        np.load(path, mmap_mode="r"),
        read_only,
    ):
        for threads in (1, 3):
            same(infall.select_rows_from(w, variant, num_rows=20, num_threads=threads), expected)
    reverse = infall.select_rows_from(w, matrix[::-1], num_rows=20, order="score")
    assert_array_equal(
        1002 - reverse.indices,
        infall.select_rows_from(w, matrix, num_rows=20, order="score").indices,
    )


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 3, 16, 37, 64, 65, 300])
def test_a_batch_selects_from_a_matrix_as_each_vector_alone(isa, dtype, dim, restore_isa):
    matrix = np.random.default_rng(dim).normal(size=(1003, dim)).astype(dtype)
    w = vector(dim, batch=17)
    alone = [infall.select_rows_from(each, matrix, num_rows=9) for each in w]
    _core.set_isa(isa)
    for weights in (matrix, np.asfortranarray(matrix), np.repeat(matrix, 2, axis=1)[:, ::2]):
        for threads in (1, 3):
            batch = infall.select_rows_from(w, weights, num_rows=9, num_threads=threads)
            assert_array_equal(batch.indices, [selection.indices for selection in alone])
            assert_array_equal(batch.projections, [selection.projections for selection in alone])


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch", [1, 9])
@pytest.mark.parametrize("row", [0, 17, 1002])
@pytest.mark.parametrize("score", ["absolute", "signed"])
def test_the_row_whose_projection_overflows_is_named(dtype, batch, row, score):
    matrix = np.ones((1003, 5), dtype)
    matrix[row] = -0.9 * np.finfo(dtype).max
    with pytest.raises(ValueError, match=f"weights overflows: the projection of row {row} is"):
        infall.select_rows_from(np.ones((batch, 5)), matrix, score=score)


WEIGHTS = np.random.default_rng(1).integers(-50, 50, (700, 6))
UNALIGNED = np.zeros(700 * 6 * 4 + 1, dtype=np.uint8)[1:].view(np.float32).reshape(700, 6)
UNALIGNED[...] = WEIGHTS
RECORDS = np.zeros(700, dtype=[("weights", "6f4"), ("label", "i1")])
RECORDS["weights"] = WEIGHTS


@pytest.mark.parametrize(
    ("weights", "computed_in"),
    [
        *((WEIGHTS.astype(dtype), np.float32) for dtype in (np.float16, ">f2", ">f4")),
        *((WEIGHTS.astype(dtype), np.float64) for dtype in (np.int8, ">i4", np.int64, np.uint64)),
        *((WEIGHTS.astype(dtype), np.float64) for dtype in (np.longdouble, ">f8")),
        (WEIGHTS > 0, np.float64),
        (UNALIGNED, np.float32),
        (np.asfortranarray(WEIGHTS.astype(np.float16)), np.float32),
        (WEIGHTS.astype(np.int16)[::-1][::-1], np.float64),
        (RECORDS["weights"], np.float32),
    ],
)
@pytest.mark.parametrize("order", ["index", "score"])
@blocks_of(100)
def test_matrices_of_any_dtype_are_converted_block_by_block(weights, computed_in, order):
    for w in (vector(6), vector(6, batch=3), np.ones(6)):  # ones: scores that tie
        selection = infall.select_rows_from(w, weights, num_rows=40, order=order)
        expected = infall.select_rows_from(w, weights.astype(computed_in), num_rows=40, order=order)
        assert_array_equal(selection.indices, expected.indices)
        assert_array_equal(selection.projections, expected.projections)
        assert_array_equal(selection.rows, weights[expected.indices])
        assert selection.rows.dtype == weights.dtype.newbyteorder("=")
    seen = []
    infall.select_rows_from(w, weights, progress=lambda *at: seen.append(at))
    assert seen == sorted(seen)
    assert seen[-1] == (700, 700, "rows")


def test_a_matrix_that_is_converted_is_not_copied_whole():
    program = """
import resource, numpy as np, infall
weights = np.ones((2**22, 16), np.float16)
infall.select_rows_from(np.ones(16), weights[:100])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
infall.select_rows_from(np.ones(16), weights)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""
    if SANITIZED:
        pytest.skip("the sanitizers' own memory would be counted")
    run = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert int(run.stdout) < 32 * 2**10  # KiB; the matrix is 128 MiB, as float32 256 MiB


# Selection: bit equality --------------------------------------------------------------------------


@pytest.mark.parametrize("sampler", ["stream", "rotated"])
@pytest.mark.parametrize("isa", ISAS)
def test_threads_and_instruction_sets_do_not_change_a_bit(sampler, isa, restore_isa):
    w = vector(13, batch=3)
    expected = infall.select_rows(w, 30001, seed=4, sampler=sampler, num_threads=1)
    _core.set_isa(isa)
    for threads in range(1, 9):
        same(infall.select_rows(w, 30001, seed=4, sampler=sampler, num_threads=threads), expected)


@pytest.mark.parametrize("sampler", ["stream", "rotated"])
@pytest.mark.parametrize("first", [2**32 - 700, 2**32 - 1, 2**32, 2**33 - 64, 2**63 - 2001])
def test_rows_past_two_to_the_32(sampler, first):
    w = vector(6)
    selection = infall.select_rows(
        w, 2**63 - 1, sampler=sampler, row_range=(first, first + 2000), order="score"
    )
    indices = np.arange(first, first + 2000)
    if sampler == "stream":
        rows = infall.gaussian_rows(indices, 6)
        literal = infall.select_rows_from(w, rows, order="score")
        assert_array_equal(selection.indices - first, literal.indices)
        assert_array_equal(selection.rows, literal.rows)
    else:
        deciding = reference.deciding_column(indices, 0, 0, 0)
        best = np.argsort(-np.abs(deciding), kind="stable")[:6]
        assert_array_equal(selection.indices - first, best)


@pytest.mark.parametrize("dim", [1, 2, 3, 5, 100, 260])
@pytest.mark.parametrize("batch", [1, 2, 5, 13, 300])
def test_a_batch_shares_the_layer(dim, batch):
    if SANITIZED and batch * dim > 10000:
        pytest.skip("too slow under the sanitizers")
    w = vector(dim, batch=batch)
    together = infall.select_rows(w, 1111, seed=8, num_rows=7)
    for i in {0, batch // 2, batch - 1}:
        alone = infall.select_rows(w[i], 1111, seed=8, num_rows=7)
        assert_array_equal(together.indices[i], alone.indices)
        assert_array_equal(together.projections[i], alone.projections)
        assert_array_equal(together.rows[i], alone.rows)


def test_columns_beyond_one_tile_of_constants():
    w = vector(2500)
    rows = infall.gaussian_rows(np.arange(130), 2500)
    for vectors in (w, vector(2500, batch=2)):
        same(
            infall.select_rows(vectors, 130, num_rows=9),
            infall.select_rows_from(vectors, rows, num_rows=9),
        )


@pytest.mark.parametrize("scale", [5e-324, 1e-300, 1e-30, 1.0, 1e30, 1e300])
def test_the_length_of_w_changes_no_row(scale):
    w = np.array([3.0, -4.0, 12.0])
    unit = infall.select_rows(w, 5000)
    scaled = infall.select_rows(w * scale, 5000)
    assert_array_equal(scaled.indices, unit.indices)
    np.testing.assert_allclose(
        scaled.projections, unit.projections * scale, rtol=1e-12, atol=5e-324
    )


def test_layout_and_library_of_w_do_not_matter():
    w = vector(10)
    expected = infall.select_rows(w, 3000)
    read_only = w.copy()
    read_only.flags.writeable = False
    for variant in (list(w), tuple(w), np.repeat(w, 2)[::2], w[::-1][::-1], read_only):
        same(infall.select_rows(variant, 3000), expected)
    integers = np.arange(-3, 4)
    same(infall.select_rows(integers, 3000), infall.select_rows(integers.astype(float), 3000))


class DLPackOnly:
    """An array of some library that only speaks DLPack, from some device."""

    def __init__(self, array, device=1):
        self.array, self.device = array, device

    def __dlpack__(self, **options):
        return self.array.__dlpack__(**options)

    def __dlpack_device__(self):
        return (self.device, 0)


@pytest.mark.parametrize("sampler", ["rotated", "order_statistics"])
@pytest.mark.parametrize("tiny", [1e-17, 1e-100, 1e-154, 1e-155, 1e-160, 5e-324, 0.0])
@pytest.mark.parametrize("first", [1.0, -1.0])
def test_rotation_of_nearly_axial_directions(sampler, tiny, first):
    for w in ([first, tiny, 0.0], [first, 0.0, -tiny], [tiny, first, tiny]):
        selection = infall.select_rows(w, 1000, sampler=sampler)
        assert np.isfinite(selection.rows).all()
        np.testing.assert_allclose(selection.rows @ np.array(w), selection.projections, rtol=1e-6)
    model = infall.MaxLikelihood(1000, 3, sampler=sampler).fit([first, tiny, tiny])
    assert np.isfinite(model.outputs_).all()


def test_dlpack_arrays_come_in_and_device_memory_is_refused(monkeypatch):
    monkeypatch.setitem(sys.modules, "infall._cuda", None)  # as in a build without it
    w = vector(10)
    same(infall.select_rows(DLPackOnly(w), 3000), infall.select_rows(w, 3000))
    with pytest.raises(RuntimeError, match=r"w is a .*DLPackOnly in device memory.*no CUDA"):
        infall.select_rows(DLPackOnly(w, device=2), 3000)


def test_torch_tensors_come_in_and_go_out():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    w = vector(10)
    selection = infall.select_rows(torch.from_numpy(w), 3000)
    expected = infall.select_rows(w, 3000)
    assert all(
        isinstance(a, torch.Tensor)
        for a in (selection.indices, selection.projections, selection.rows)
    )
    assert_array_equal(selection.rows.numpy(), expected.rows)
    model = infall.MaxLikelihood(500, 2).fit(torch.from_numpy(w))
    for x in (torch.ones(3, 10, dtype=torch.float64), torch.ones(10)):
        for measure in (model.angle_scores, model.loss, model.nll, model.transform):
            assert isinstance(measure(x), torch.Tensor)
            assert isinstance(measure(x, layer=None), torch.Tensor)
    rows = torch.zeros(5, 10)
    again = infall.gaussian_rows(torch.from_numpy(expected.indices)[:5], 10, out=rows)
    assert again is rows
    assert_array_equal(rows.numpy(), expected.rows[:5])
    assert infall.gaussian_rows([3], 2, out=rows[0, :2][None]) is not None
    assert_array_equal(rows[0, :2].numpy(), infall.gaussian_rows([3], 2)[0])
    with pytest.raises(ValueError, match="out is not C-contiguous"):
        infall.gaussian_rows([1, 2], 5, out=rows.T[:2])
    with pytest.raises(TypeError, match="out is of dtype float64; expected a float32 array"):
        infall.gaussian_rows([1], 10, out=torch.zeros(1, 10, dtype=torch.float64))
    codes = infall.hyperplane_codes(torch.from_numpy(w), 40)
    assert isinstance(infall.hamming_distances(codes), torch.Tensor)
    half = torch.ones(3, dtype=torch.bfloat16)
    assert_array_equal(infall.select_rows(half, 100).rows, infall.select_rows(np.ones(3), 100).rows)
    with pytest.raises(TypeError, match=r"w is a torch.* that cannot be read"):
        infall.select_rows(torch.ones(3).to_sparse(), 100)


def test_matrices_of_bfloat16():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    weights = torch.from_numpy(vector(6, batch=300)).to(torch.bfloat16)
    w = vector(6)
    selection = infall.select_rows_from(torch.from_numpy(w), weights)
    expected = infall.select_rows_from(w, weights.float().numpy())
    assert selection == expected
    assert selection.rows.dtype == torch.float32
    assert infall.select_rows(weights[0], 500) == infall.select_rows(weights[0].float(), 500)


def test_row_numbers_that_jax_does_not_hold_are_not_wrapped():
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    w = vector(6).astype(np.float32)
    for sampler in ("order_statistics", "rotated"):
        width = 2**45 if sampler == "order_statistics" else 2**20
        settings_ = {"sampler": sampler, "row_range": (0, width)}
        selection = infall.select_rows(jax.numpy.asarray(w), width, **settings_)
        assert selection == infall.select_rows(w, width, **settings_)
        assert isinstance(selection.rows, jax.Array)  # float32, which JAX holds


def test_row_numbers_come_in_any_integer_dtype():
    expected = infall.gaussian_rows([3, 1, 100], 4)
    for dtype in ("i1", "u1", ">i2", "u2", ">u4", "<i4", ">i8", "<u8", ">u8"):
        rows = infall.gaussian_rows(np.array([3, 1, 100], dtype=dtype), 4)
        assert_array_equal(rows, expected)
    assert_array_equal(infall.gaussian_rows(np.array([3, 0, 1, 0, 100])[::2], 4), expected)
    assert_array_equal(infall.gaussian_rows((3, 1, 100), 4), expected)
    assert_array_equal(infall.gaussian_rows(range(2), 4), infall.gaussian_rows([0, 1], 4))


@pytest.mark.parametrize("dtype", [bool, "i1", ">u2", ">f4", "f2", ">f8", np.longdouble])
def test_vectors_come_in_any_dtype(dtype):
    w = np.array([[1, 0, 1, 1], [0, 1, 1, 0]], dtype=dtype)
    wide = w.astype(np.float64)
    for given_w in (w, np.asfortranarray(w)):
        assert infall.select_rows(given_w, 90) == infall.select_rows(wide, 90)
        weights = vector(4, batch=30)
        assert infall.select_rows_from(given_w, weights) == infall.select_rows_from(wide, weights)
        assert_array_equal(infall.hyperplane_codes(given_w, 30), infall.hyperplane_codes(wide, 30))


def test_no_vectors_give_no_results():
    nothing = np.empty((0, 5))
    for sampler in ("stream", "rotated", "order_statistics"):
        selection = infall.select_rows(nothing, 100, num_rows=7, sampler=sampler)
        assert selection.indices.shape == selection.projections.shape == (0, 7)
        assert selection.rows.shape == (0, 7, 5)
        assert (selection.indices.dtype, selection.rows.dtype) == (np.int64, np.float32)
        assert selection.regenerate(nothing) == selection
    for dtype in (np.float64, np.int16):
        selection = infall.select_rows_from(nothing, np.ones((20, 5), dtype))
        assert selection.rows.shape == (0, 5, 5)
        assert selection.rows.dtype == dtype
    parts = [infall.select_rows(nothing, 100, row_range=r) for r in ((0, 50), (50, 100))]
    assert infall.merge_selections(parts) == infall.select_rows(nothing, 100)
    assert infall.gaussian_rows([], 5).shape == (0, 5)
    codes = infall.hyperplane_codes(nothing, 20)
    assert (codes.shape, codes.dtype) == ((0, 3), np.uint8)
    assert infall.hamming_distances(codes, np.zeros((4, 3), np.uint8)).shape == (0, 4)
    assert infall.hamming_distances(np.zeros(3, np.uint8), codes).shape == (0,)
    assert infall.hamming_distances(codes).shape == (0, 0)


# Selection: the rotated and the order statistics samplers -----------------------------------------


@pytest.mark.parametrize("score", ["absolute", "signed"])
def test_rotated_follows_the_deciding_column(score):
    w = vector(9)
    selection = infall.select_rows(
        w, 20000, seed=6, layer=1, sampler="rotated", score=score, order="score", num_rows=50
    )
    deciding = reference.deciding_column(np.arange(20000), 0, 6, 1)
    ranked = np.abs(deciding) if score == "absolute" else deciding
    best = np.argsort(-ranked, kind="stable")[:50]
    assert_array_equal(selection.indices, best)
    np.testing.assert_allclose(
        selection.projections, deciding[best] * np.linalg.norm(w), rtol=1e-14
    )
    np.testing.assert_allclose(selection.rows @ w, selection.projections, rtol=0, atol=3e-6)
    # The reflection keeps lengths: what is left of the row is the stream's own.
    stream = infall.gaussian_rows(best, 9, seed=6, layer=1).astype(np.float64)
    lengths = np.hypot(deciding[best], np.linalg.norm(stream[:, 1:], axis=1))
    np.testing.assert_allclose(np.linalg.norm(selection.rows, axis=1), lengths, rtol=1e-6)


@pytest.mark.parametrize("score", ["absolute", "signed"])
@pytest.mark.parametrize("batch", [2, 70])
def test_rotated_batch_is_sifted_without_loss(batch, score):
    # Against the deciding columns and a QR of its own; rows beyond one block, odd ends.
    width, dim, first = 30001, 80, 3
    w = vector(dim, batch=batch)
    selection = infall.select_rows(
        w,
        width,
        seed=5,
        sampler="rotated",
        num_rows=9,
        row_range=(first, width),
        score=score,
        order="score",
    )
    r = np.linalg.qr(w.T, mode="r")
    r *= np.sign(np.diag(r))[:, None]
    rows = np.arange(first, width)
    deciding = np.stack([reference.deciding_column(rows, c, 5, 0) for c in range(batch)], axis=1)
    projections = deciding @ r
    ranked = np.abs(projections) if score == "absolute" else projections
    for i in range(batch):
        best = np.argsort(-ranked[:, i], kind="stable")[:9]
        assert_array_equal(selection.indices[i], rows[best])
        np.testing.assert_allclose(selection.projections[i], projections[best, i], rtol=1e-9)


@pytest.mark.parametrize("batch", [2, 5, 9])
def test_rotated_batch_shares_one_layer(batch):
    w = vector(7, batch=batch)
    w[-1] = 2.0 * w[0]  # a dependent direction selects the same rows
    selection = infall.select_rows(w, 3000, seed=2, sampler="rotated", num_rows=3000)
    for i in range(1, batch):
        assert_array_equal(selection.indices[i], selection.indices[0])
        assert_array_equal(selection.rows[i], selection.rows[0])  # one matrix for all
    np.testing.assert_allclose(
        np.einsum("bmk,bk->bm", selection.rows, w), selection.projections, rtol=0, atol=2e-5
    )
    entries = selection.rows[0].astype(np.float64).ravel()
    assert plausible(stats.kstest(entries, "norm").pvalue)
    top = infall.select_rows(w, 3000, seed=2, sampler="rotated", num_rows=11, order="score")
    for i in range(batch):
        best = np.lexsort((selection.indices[i], -np.abs(selection.projections[i])))[:11]
        assert_array_equal(top.indices[i], selection.indices[i][best])


def test_order_statistics_follow_their_representation():
    w = vector(8)
    width, num_rows = 10**12, 40
    selection = infall.select_rows(
        w, width, num_rows=num_rows, seed=3, sampler="order_statistics", order="score"
    )
    spacings = reference.exponentials(num_rows, 3, 0)
    survival = -np.expm1(-np.cumsum(spacings / (width - np.arange(num_rows))))
    magnitudes = np.abs(selection.projections) / np.linalg.norm(w)
    np.testing.assert_allclose(2 * special.ndtr(-magnitudes), survival, rtol=1e-11)
    np.testing.assert_allclose(selection.rows @ w, selection.projections, rtol=0, atol=3e-6)
    assert len(set(selection.indices.tolist())) == num_rows
    assert_array_equal(
        np.sign(selection.projections), reference.order_statistic_signs(num_rows, 3, 0)
    )


def test_order_statistics_draw_rows_uniformly_without_replacement():
    counts = np.zeros(12)
    for seed in range(3000):
        top = infall.select_rows(
            [1.0], 12, num_rows=5, seed=seed, sampler="order_statistics", order="score"
        )
        assert len(set(top.indices.tolist())) == 5
        counts[top.indices[0]] += 1  # the row of the largest
    assert plausible(stats.chisquare(counts).pvalue)
    everything = infall.select_rows([1.0], 12, num_rows=12, sampler="order_statistics")
    assert_array_equal(everything.indices, np.arange(12))


def unit_scores(sampler, width, num_rows, dim, seed):
    """Descending |projections| on a unit vector."""
    w = np.ones(dim) / math.sqrt(dim)
    selection = infall.select_rows(
        w, width, num_rows=num_rows, seed=seed, sampler=sampler, order="score"
    )
    return np.abs(selection.projections)


@pytest.mark.parametrize("sampler", ["stream", "rotated", "order_statistics"])
def test_small_layers_follow_algorithm_one(sampler):
    # A literal NumPy Algorithm 1, layer stored, against each sampler: the largest score, the
    # smallest selected one, and the norm of the output.
    rng = np.random.default_rng(12)
    width, dim, samples = 60, 6, 2000
    layers = rng.normal(size=(samples, width, dim))
    literal = np.sort(np.abs(layers.sum(axis=2)) / math.sqrt(dim), axis=1)[:, ::-1][:, :dim]
    actual = np.array([unit_scores(sampler, width, dim, dim, seed) for seed in range(samples)])
    exact = laws.folded_normal_top(width, dim, size=samples, rng=np.random.default_rng(1))
    for other in (literal, exact):
        for statistic in (lambda t: t[:, 0], lambda t: t[:, -1], lambda t: (t**2).sum(axis=1)):
            assert plausible(stats.ks_2samp(statistic(actual), statistic(other)).pvalue)


@pytest.mark.parametrize("sampler", ["stream", "rotated", "order_statistics"])
def test_scores_at_full_width_follow_the_law_of_the_top(sampler):
    # Given the (m+1)-th largest, the m larger survival probabilities are iid uniform below its own;
    # and the (m+1)-th itself is Beta distributed.
    width, m = 2**25, 3000
    if SANITIZED:
        width = 2**18
    survival = 2 * special.ndtr(-unit_scores(sampler, width, m + 1, 4, 17))
    assert plausible(stats.kstest(survival[:m] / survival[m], "uniform").pvalue)
    cumulative = stats.beta(m + 1, width - m).cdf(survival[m])
    assert plausible(2 * min(cumulative, 1 - cumulative))


def test_signs_of_selected_rows_are_fair():
    for sampler in ("stream", "rotated", "order_statistics"):
        selection = infall.select_rows(np.ones(4), 2**18, num_rows=2000, sampler=sampler)
        positive = int((selection.projections > 0).sum())
        assert plausible(stats.binomtest(positive, 2000).pvalue)


# Long calls ---------------------------------------------------------------------------------------


def test_progress_counts_every_row():
    seen = []
    infall.select_rows(
        vector(64), 2**21, progress=lambda done, total, _: seen.append((done, total)), num_threads=2
    )
    assert seen == sorted(seen)
    assert seen[-1] == (2**21, 2**21)
    rotated = []
    infall.select_rows(
        vector(4),
        2**20,
        sampler="rotated",
        row_range=(3, 2**20),
        progress=lambda done, total, _: rotated.append((done, total)),
    )
    assert rotated[-1] == (2**20 - 3, 2**20 - 3)


def test_every_long_call_reports_progress():
    seen = []

    def progress(done, total, _):
        seen.append((done, total))

    infall.select_rows(vector(5), 2**40, sampler="order_statistics", progress=progress)
    assert seen[-1] == (2**40, 2**40)
    infall.gaussian_rows(np.arange(3000), 300, progress=progress)
    assert seen[-1] == (3000, 3000)
    infall.select_rows_from([[1.0, 2, 3]] * 300, np.ones((5000, 3)), progress=progress)
    assert seen[-1] == (5000, 5000)
    codes = infall.hyperplane_codes(vector(64, batch=20000), 40, progress=progress)
    assert seen[-1] == (800000, 800000)
    infall.hamming_distances(codes[:500], codes[:10], progress=progress)
    assert seen[-1] == (500, 500)


def test_an_exception_of_the_callback_stops_the_call():
    def refuse(done, total, _):
        raise RuntimeError("enough")

    with pytest.raises(RuntimeError, match="enough"):
        infall.select_rows(vector(16), 2**34, progress=refuse)


LONG_CALLS = {
    "stream": lambda: infall.select_rows(vector(256), 2**34),
    "stream, long rows": lambda: infall.select_rows(np.ones(2**22), 2**23, num_rows=2),
    "rotated": lambda: infall.select_rows(vector(256), 2**42, sampler="rotated"),
    "rotated batch": lambda: infall.select_rows(
        vector(1200, batch=1200), 2**20, sampler="rotated", num_rows=1
    ),
    "order statistics": lambda: infall.select_rows(
        vector(1), 2**50, num_rows=2**23, sampler="order_statistics"
    ),
    "rows": lambda: infall.gaussian_rows(np.arange(4), 2**28),
    "codes": lambda: infall.hyperplane_codes(vector(256, batch=300), 2**22),
}


@pytest.mark.parametrize("call", LONG_CALLS.values(), ids=LONG_CALLS)
def test_interrupt_returns_quickly_and_the_next_call_works(call):
    assert seconds_after_interrupt(call) < LIMIT
    assert infall.select_rows(vector(256), 1000).rows.shape == (256, 256)


def test_memory_stays_within_a_fixed_block():
    # Above the interpreter and the result: 32 MiB, for any width.
    if SANITIZED:
        pytest.skip("the sanitizers' own memory would be counted")
    program = """
import resource, sys, numpy as np, infall
w = np.ones(784)
infall.select_rows(np.ones(3), 2000)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
selection = infall.select_rows(w, int(sys.argv[2]), sampler=sys.argv[1], seed=1)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
print((after - before) * 1024 - selection.rows.nbytes)
"""
    for sampler, width in (("stream", 2**21), ("rotated", 2**25), ("order_statistics", 2**25)):
        run = subprocess.run(
            [sys.executable, "-c", program, sampler, str(width)],
            capture_output=True,
            text=True,
            check=True,
        )
        assert int(run.stdout) < 32 * 2**20, sampler


def test_instruction_set_is_chosen_by_the_environment():
    code = "from infall import _core; print(_core.isa())"
    for isa in ISAS:
        environment = {**os.environ, "INFALL_ISA": isa}
        run = subprocess.run(
            [sys.executable, "-c", code],
            capture_output=True,
            text=True,
            env=environment,
            check=False,
        )
        assert run.stdout.strip() == isa, run.stderr
    run = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        env={**os.environ, "INFALL_ISA": "x86-64-v9"},
        check=False,
    )
    assert run.returncode != 0
    assert "'x86-64-v9' is not available here" in run.stderr


def test_weights_are_known_by_the_kind_of_their_dtype_not_its_object():
    weights = np.random.default_rng(0).standard_normal((300, 16))
    other = np.dtype(np.float64).newbyteorder("=")
    assert other == np.float64
    assert other is not np.dtype(np.float64)
    w = np.arange(1.0, 17.0)
    selection = infall.select_rows_from(w, weights.view(other), num_rows=5)
    expected = infall.select_rows_from(w, weights, num_rows=5)
    assert np.array_equal(selection.indices, expected.indices)
    assert np.array_equal(selection.projections, expected.projections)
