"""The CUDA kernels, run by the host, against the CPU kernels: bit for bit.

`_cuda_emulated` is the source of the CUDA module compiled for the host: what the kernels compute
is proved here; what only hardware can show is left to the tests marked `gpu`.
"""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import infall
from infall import _core
from infall._arrays import padded_float32, unit_vectors

cuda = pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)
few = settings(max_examples=20, deadline=None, derandomize=True)


def pointer(array):
    """Address of a host array: the emulation's device memory."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def vectors(dim, batch, seed=0):
    """Unit vectors (batch, dim)."""
    values = np.random.default_rng(seed).normal(size=(batch, dim))
    return unit_vectors(values, "w")[0]


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
    common = (seed, layer, first, last, num_rows, batch, score == "absolute", order == "index")
    results = (thresholds, pointer(space), pointer(indices), pointer(projections), 0, 0)
    if sampler == "stream":
        padded = padded_float32(directions)
        cuda.select_stream(pointer(padded), dim, *common, *results)
    else:
        factors = np.ones((1, 1)) if batch == 1 else _core.householder(directions)[2]
        cuda.select_rotated(pointer(factors), len(factors), *common, *results)
    assert (space[-64:] == 255).all()
    return indices, projections


def same_as_cpu(directions, sampler, first, last, num_rows, thresholds, **options):
    """Assert that the emulated device selects what the CPU selects."""
    found = run_selection(
        directions, sampler, first, last, num_rows, thresholds=thresholds, **options
    )
    expected = infall.select_rows(
        directions, 2**63 - 1, num_rows=num_rows, row_range=(first, last), sampler=sampler, **options
    )
    assert_array_equal(found[0], expected.indices)
    norms = unit_vectors(directions, "w")[1]  # 1, or next to it
    ranked = expected.unit_projections
    np.testing.assert_allclose(found[1], ranked, rtol=1e-6 if (norms != 1).any() else 0, atol=1e-6)


@few
@given(
    st.lists(st.integers(0, 2**63 - 1), min_size=1, max_size=30),
    st.integers(1, 70),
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
)
def test_rows(indices, dim, seed, layer):
    numbers = np.array(indices)
    out = np.empty((len(indices), dim), dtype=np.float32)
    cuda.gaussian_rows(pointer(numbers), len(indices), dim, seed, layer, pointer(out), 0, 0)
    assert_array_equal(out, infall.gaussian_rows(numbers, dim, seed=seed, layer=layer))


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


@pytest.mark.parametrize(("span", "dim"), [(1, 1), (1, 9), (4, 9), (5, 5)])
def test_rotation(span, dim):
    rows = np.arange(100, 170)
    directions = vectors(dim, span)
    v, scale, _ = _core.householder(directions)
    deciding = np.empty((len(rows), span))
    cuda.deciding_entries(pointer(rows), len(rows), span, 3, 4, pointer(deciding), 0, 0)
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
@given(st.integers(1, 20), st.integers(1, 600), st.integers(1, 30))
def test_codes(num_inputs, num_bits, dim):
    x = padded_float32(vectors(dim, num_inputs))
    num_bytes = -(-num_bits // 8)
    out = np.full((num_inputs * num_bytes + 64), 7, dtype=np.uint8)
    cuda.hyperplane_codes(pointer(x), dim, num_inputs, num_bits, 5, 6, pointer(out), 0, 0)
    expected = _core.hyperplane_codes(x, dim, num_bits, 5, 6, 1, None)
    assert_array_equal(out[:-64].reshape(num_inputs, num_bytes), expected)
    assert (out[-64:] == 7).all()


@few
@given(st.integers(1, 40), st.integers(1, 40), st.integers(1, 150))
def test_distances(n, m, num_bytes):
    rng = np.random.default_rng(n)
    a = rng.integers(0, 256, (n, num_bytes), dtype=np.uint8)
    b = rng.integers(0, 256, (m, num_bytes), dtype=np.uint8)
    out = np.empty((n, m), dtype=np.int32)
    cuda.hamming_distances(pointer(a), n, pointer(b), m, num_bytes, pointer(out), 0, 0)
    assert_array_equal(out, infall.hamming_distances(a, b))


def test_device_count_answers():
    assert cuda.device_count() == 1
    assert cuda.architectures() == "host"
