"""Frames and the Walsh-Hadamard transform against the NumPy reference."""

import copy
import math
import pickle
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose, assert_array_equal
from scipy import linalg

import infall
import reference
from infall import Cube, Orthoplex, SimplexETF, _core, frames
from infall._arrays.blocks import blocks_of
from interrupts import LIMIT, SANITIZED, seconds_after_interrupt

pytestmark = pytest.mark.sanitize

ISAS = _core.available_isas()
BASES = ("identity", "haar", "hadamard")
few = settings(max_examples=25, deadline=None, derandomize=True)
every_basis = pytest.mark.parametrize("basis", BASES)

# Dimensions around powers of two, and what lies between.
dims = st.one_of(
    st.integers(1, 40),
    st.tuples(st.integers(1, 8), st.integers(-2, 2)).map(lambda p: max(1, 2 ** p[0] + p[1])),
)


@st.composite
def simplexes(draw):
    """Make a simplex ETF of any basis: tight, square or wide."""
    dim = draw(dims)
    num_classes = draw(st.one_of(st.integers(2, dim + 1), st.sampled_from([dim + 1, max(dim, 2)])))
    return SimplexETF(num_classes, dim, basis=draw(st.sampled_from(BASES)), seed=dim)


def any_frame():
    """Make any frame, with or without lengths of its vectors."""
    others = st.builds(
        lambda kind, count, spare: kind(count, kind(count).dim + spare),
        st.sampled_from([Orthoplex, Cube]),
        st.integers(2, 70),
        st.integers(0, 3),
    )
    return st.one_of(simplexes(), others)


def weighted(frame):
    """Return the same frame with vectors of different lengths."""
    norms = np.random.default_rng(5).uniform(0.5, 2.0, frame.num_classes)
    options = {"class_norms": norms}
    if isinstance(frame, SimplexETF):
        options |= {"basis": frame.basis, "seed": frame.seed}
    return type(frame)(frame.num_classes, frame.dim, **options)


def assert_close(actual, desired, *, rtol=0.0, atol=0.0):
    """Assert equality up to what is said, and nothing by default."""
    assert_allclose(actual, desired, rtol=rtol, atol=atol)


def normals(*shape, seed=0):
    """Return standard normals."""
    return np.random.default_rng(seed).normal(size=shape)


def ranked(scores, num_top):
    """Return the columns of the largest scores (N, K), ties to the lower: (N, m)."""
    columns = np.broadcast_to(np.arange(scores.shape[1]), scores.shape)
    return np.lexsort((columns, -scores))[:, :num_top]


# The Walsh-Hadamard transform ---------------------------------------------------------------------


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("log2_length", [*range(14), 15, 16, 17, 21, 22])
def test_transform_is_its_levels_bit_for_bit(isa, dtype, log2_length, restore_isa):
    if SANITIZED and log2_length > 17:
        log2_length = 18
    _core.set_isa(isa)
    x = normals(2, 2**log2_length, seed=log2_length).astype(dtype)
    expected = reference.walsh_hadamard_levels(x)
    for threads in (1, 2, 3):
        out = np.full_like(x, np.nan)
        _core.walsh_hadamard(x, out, 1.0, threads, None)
        assert_array_equal(out, expected)
        _core.walsh_hadamard(out[:1], out[:1], 1.0, threads, None)  # one vector, in place
        assert_close(out[0] / 2**log2_length, x[0], atol=3e-5 if dtype == np.float32 else 2e-14)


@pytest.mark.parametrize("length", [1, 2, 64, 512])
def test_transform_is_orthonormal_and_its_own_inverse(length):
    x = normals(5, length)
    transformed = frames.walsh_hadamard(x)
    assert_close(transformed, x @ linalg.hadamard(length) / math.sqrt(length), atol=1e-13)
    assert_close(frames.walsh_hadamard(transformed), x, atol=1e-13)
    assert_array_equal(frames.walsh_hadamard(x[2]), transformed[2])
    assert_array_equal(frames.walsh_hadamard(x.astype(np.float16)).dtype, np.float32)
    assert_array_equal(frames.walsh_hadamard(np.asfortranarray(x)), transformed)


# Vectors ------------------------------------------------------------------------------------------


@few
@given(simplexes())
def test_vectors_are_those_of_the_reference(frame):
    shape = frame.num_classes, frame.dim
    gaussian = np.empty((min(shape), frame.dim), np.float32)
    _core.haar_rows(np.arange(min(shape)), gaussian, frame.seed, 0, 1, None)
    expected = reference.simplex_etf(*shape, frame.basis, frame.seed, gaussian)
    # The last columns of a square Gaussian matrix are known less well than the others.
    condition = np.linalg.cond(gaussian.astype(np.float64)) if frame.basis == "haar" else 1.0
    assert_close(frame.vectors(), expected, rtol=0, atol=4e-15 * (1 + condition))


@pytest.mark.parametrize("num_classes", [2, 3, 4, 5, 8, 9])
def test_vectors_of_the_other_polytopes(num_classes):
    axes = np.kron(np.eye(num_classes), [[1.0], [-1.0]])
    orthoplex = Orthoplex(num_classes, num_classes)
    assert_array_equal(orthoplex.vectors(), axes[:num_classes])
    assert Orthoplex(num_classes).dim == (num_classes + 1) // 2
    bits = math.ceil(math.log2(num_classes))
    corners = [[1 - 2 * (c >> i & 1) for i in range(bits)] for c in range(num_classes)]
    cube = Cube(num_classes)
    assert cube.dim == bits
    assert_close(cube.vectors(), np.array(corners) / math.sqrt(bits), rtol=1e-15)
    padded = Cube(num_classes, bits + 2).vectors()
    assert_array_equal(padded, np.pad(cube.vectors(), ((0, 0), (0, 2))))


@few
@given(any_frame())
def test_gram_matrix_to_rounding(frame):
    vectors = frame.vectors()
    assert frame.gram_error() < 1e-13
    assert frame.gram_error(dtype="float32") < 1e-6
    assert weighted(frame).gram_error() < 4e-13
    if isinstance(frame, SimplexETF):
        cosines = np.full((len(vectors), len(vectors)), -1.0 / (len(vectors) - 1))
        np.fill_diagonal(cosines, 1.0)
        assert_close(vectors @ vectors.T, cosines, atol=1e-13)
        assert_close(vectors.sum(axis=0), 0.0, atol=1e-12)


@every_basis
@pytest.mark.parametrize(("num_classes", "dim"), [(1000, 2048), (513, 512)])
def test_gram_matrix_of_large_frames(basis, num_classes, dim):
    if SANITIZED:
        num_classes, dim = num_classes // 8 + 1, dim // 8
    frame = SimplexETF(num_classes, dim, basis=basis, seed=3)
    assert frame.gram_error() < 1e-13
    assert frame.gram_error(dtype="float32") < 1e-6
    assert frame.gram_error([0, num_classes - 1, 7, 7]) < 1e-13


@few
@given(any_frame(), st.data())
def test_some_vectors_are_those_among_all(frame, data):
    classes = data.draw(st.lists(st.integers(0, frame.num_classes - 1), max_size=9))
    every = frame.vectors()
    assert_array_equal(frame.vectors(classes), every[classes])
    assert_array_equal(frame.vectors(classes, dtype="float32"), every[classes].astype(np.float32))


@pytest.mark.parametrize("dim", [1, 2, 33, 63, 64, 65, 300])
def test_haar_seeds_give_other_frames_and_a_seed_the_same(dim):
    frame = SimplexETF(dim + 1, dim, seed=7)
    assert_array_equal(frame.vectors(), SimplexETF(dim + 1, dim, seed=7).vectors())
    if dim > 1:
        assert np.abs(frame.vectors() - SimplexETF(dim + 1, dim, seed=8).vectors()).max() > 0.01
    again = pickle.loads(pickle.dumps(frame))
    assert_array_equal(again.vectors(), frame.vectors())


def test_haar_is_uniform_over_rotations():
    # The first coordinate of a uniform unit vector of R^4, squared, is Beta(1/2, 3/2): mean 1/4,
    # variance 1/16 - ... : five deviations of the mean of 400.
    squares = [_first_column(seed)[0] ** 2 for seed in range(400)]
    deviation = math.sqrt((0.5 * 1.5) / (2.0**2 * 3.0) / 400)
    assert abs(np.mean(squares) - 0.25) < 5 * deviation
    signs = np.sign([_first_column(seed) for seed in range(400)]).mean(axis=0)
    assert np.abs(signs).max() < 5 / math.sqrt(400)


def _first_column(seed):
    """Return the direction of the first vector less the mean of all: uniform on the sphere."""
    return SimplexETF(2, 4, seed=seed).vectors([0])[0]


@few
@given(st.integers(1, 200), st.integers(0, 64))
def test_orthonormal_rows_are_the_qr_factor(count, spare):
    dim = count + spare
    x = infall.gaussian_rows(np.arange(count), dim, seed=count).astype(np.float64)
    q, r = np.linalg.qr(x.T)
    expected = (q * np.sign(np.diag(r))).T
    condition = np.linalg.cond(x)
    _core.orthonormalise_rows(x, 2, None)
    assert np.abs(x @ x.T - np.eye(count)).max() < 2e-14
    assert_close(x, expected, atol=1e-15 * (10 + 4 * condition))


# Projections --------------------------------------------------------------------------------------


@few
@given(any_frame(), st.integers(1, 5))
def test_projection_and_adjoint_are_the_dense_products(frame, count):
    for either in (frame, weighted(frame)):
        vectors = either.vectors()
        h, y = normals(count, frame.dim), normals(count, frame.num_classes, seed=1)
        root = math.sqrt(frame.num_classes + frame.dim)
        assert_close(either.project(h), h @ vectors.T, atol=1e-14 * root)
        assert_close(either.adjoint(y), y @ vectors, atol=2e-14 * root)
        single = either.project(h.astype(np.float32)), either.adjoint(y.astype(np.float32))
        assert single[0].dtype == single[1].dtype == np.float32
        assert_close(single[0], h @ vectors.T, atol=3e-6 * root)
        assert_close(single[1], y @ vectors, atol=6e-6 * root)
        assert_close(either.project(h[0]), either.project(h)[0], atol=1e-14 * root)
        assert_close(either.adjoint(y[0]), either.adjoint(y)[0], atol=2e-14 * root)


@few
@given(any_frame())
def test_adjointness(frame):
    x, y = normals(frame.num_classes), normals(frame.dim, seed=1)
    left, right = frame.adjoint(x) @ y, x @ frame.project(y)
    size = np.linalg.norm(x) * np.linalg.norm(y)
    assert abs(left - right) < 1e-14 * size * math.sqrt(frame.num_classes)


@few
@given(simplexes())
def test_projection_onto_the_span_is_idempotent(frame):
    # M M^T is K/(K-1) times the orthogonal projector onto the span of the frame.
    share = (frame.num_classes - 1) / frame.num_classes
    h = normals(3, frame.dim)
    once = share * frame.adjoint(frame.project(h))
    twice = share * frame.adjoint(frame.project(once))
    assert_close(twice, once, atol=2e-14 * math.sqrt(frame.num_classes))
    assert_close(frame.project(once), frame.project(h), atol=2e-14 * math.sqrt(frame.num_classes))


@every_basis
def test_logits_of_a_simplex_do_not_see_what_is_outside_its_span(basis):
    frame = SimplexETF(6, 11, basis=basis)
    outside = linalg.null_space(frame.vectors())  # (11, 6)
    assert_close(frame.project(outside.T), 0.0, atol=1e-14)


@few
@given(any_frame(), st.integers(1, 4), st.data())
def test_top_logits_are_the_largest_projections(frame, count, data):
    num_top = data.draw(st.integers(1, frame.num_classes))
    frame = data.draw(st.sampled_from([frame, weighted(frame)]))
    h = data.draw(st.sampled_from([normals(count, frame.dim), np.zeros((count, frame.dim))]))
    h = h.astype(data.draw(st.sampled_from([np.float32, np.float64])))
    projections = frame.project(h)
    top = frame.topk(h, num_top)
    assert top.values.dtype == h.dtype
    assert_array_equal(top.classes, ranked(projections, num_top))
    assert_array_equal(top.values, np.take_along_axis(projections, top.classes, axis=1))
    assert_array_equal(frame.classify(h), top.classes[:, 0])
    assert frame.classify(h[0]) == top.classes[0, 0]
    assert_array_equal(frame.topk(h[0], num_top).classes, top.classes[0])


@pytest.mark.parametrize("weights", [False, True])
@pytest.mark.parametrize("basis", ["identity", "hadamard"])
@pytest.mark.parametrize("tight", [False, True])
def test_long_vectors_with_many_ties(basis, tight, weights):
    # Few different logits, over many blocks, so that nearly all tie.
    dim = 2**17 + 77
    num_classes = dim + 1 if tight else dim - 3000
    norms = np.where(np.arange(num_classes) % 3 == 0, 1.0, 2.0) if weights else None
    frame = SimplexETF(num_classes, dim, basis=basis, class_norms=norms)
    h = np.random.default_rng(1).integers(-2, 3, (3, dim)).astype(np.float32)
    if basis == "hadamard":
        h = np.zeros((3, dim), np.float32)
        h[:, [1, 500]] = 1.0
    projections = frame.project(h)
    for num_top in (1, 2, 5000):
        for threads in (1, 2, 5):
            top = frame.topk(h, num_top, num_threads=threads)
            assert_array_equal(top.classes, ranked(projections, num_top))
            assert_array_equal(top.values, np.take_along_axis(projections, top.classes, axis=1))


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("offset", [0.0, 1.0, -1e6, 1e12])
def test_classes_whose_logits_round_to_the_same(isa, dtype, offset, restore_isa):
    # Neighbouring scores, a few of the least steps apart, around an offset that most logits share.
    rng = np.random.default_rng(5)
    steps = rng.integers(-4, 5, (6, 600))
    h = (dtype(offset) + steps * np.spacing(dtype(offset), dtype=dtype)).astype(dtype)
    h[3:, ::7] += rng.normal(size=(3, 86)).astype(dtype)
    _core.set_isa(isa)
    for num_classes in (601, 600, 555):
        frame = SimplexETF(num_classes, 600)
        projections = frame.project(h)
        for num_top in (1, 2, 40, num_classes):
            top = frame.topk(h, num_top)
            assert_array_equal(top.classes, ranked(projections, num_top))
            assert_array_equal(top.values, np.take_along_axis(projections, top.classes, axis=1))


def test_large_frames_without_structure_go_by_blocks():
    for frame in (SimplexETF(50, 60), Orthoplex(51), Cube(100, 9), weighted(Orthoplex(33, 40))):
        h, y = normals(150, frame.dim), normals(150, frame.num_classes)
        vectors = frame.vectors()
        with blocks_of(1024):  # 64 vectors, 16 classes
            assert frame._tiles(150)[:2] == [
                (slice(0, 64), slice(0, 16)),
                (slice(0, 64), slice(16, 32)),
            ]
            projections = frame.project(h)
            assert_close(projections, h @ vectors.T, atol=1e-13)
            assert_close(frame.adjoint(y), y @ vectors, atol=1e-13)
            for num_top in (1, 3, 17, frame.num_classes):
                top = frame.topk(h, num_top)
                assert_array_equal(top.classes, ranked(projections, num_top))
                assert_array_equal(top.values, np.take_along_axis(projections, top.classes, axis=1))


def test_a_million_classes_in_memory_of_the_order_of_a_sample():
    if SANITIZED:
        pytest.skip("the sanitizers' own memory would be counted")
    program = """
import resource, sys, numpy as np, infall
basis, num_top = sys.argv[1], int(sys.argv[2])
infall.SimplexETF(10, 20, basis=basis).topk(np.ones((4, 20), np.float32), num_top)
h = np.random.default_rng(0).normal(size=(8, 2**20)).astype(np.float32)
frame = infall.SimplexETF(10**6, 2**20, basis=basis)
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
top = frame.topk(h, num_top, num_threads=2)
after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
assert top.classes.shape == (8, num_top)
print((after - before) * 1024)
"""
    for basis in ("identity", "hadamard"):
        for num_top in (1, 10):
            run = subprocess.run(
                [sys.executable, "-c", program, basis, str(num_top)],
                capture_output=True,
                text=True,
                check=True,
            )
            # Two samples in flight, of 4 MiB, and the masks and sums of a block.
            assert int(run.stdout) < 2 * 2**22 + 2**23, basis


# Bit equality -------------------------------------------------------------------------------------


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("dim", [13, 127, 4096, 70000])
def test_threads_and_instruction_sets_do_not_change_a_bit(isa, dtype, dim, restore_isa):
    h = normals(3, dim).astype(dtype)
    made = [
        SimplexETF(count, dim, basis=basis, seed=9, class_norms=norms)
        for basis in ("identity", "hadamard")
        for count in (dim + 1, dim - 5)
        for norms in (None, np.linspace(0.5, 2.0, count))
    ]
    for frame in made:
        _core.set_isa(ISAS[0])
        y = normals(3, frame.num_classes, seed=1).astype(dtype)
        expected = (
            frame.project(h, num_threads=1),
            frame.adjoint(y, num_threads=1),
            *frame.topk(h, 11 if dim > 20 else 2, num_threads=1),
        )
        _core.set_isa(isa)
        for threads in (1, 2, 3, 7):
            actual = (
                frame.project(h, num_threads=threads),
                frame.adjoint(y, num_threads=threads),
                *frame.topk(h, 11 if dim > 20 else 2, num_threads=threads),
            )
            for a, b in zip(actual, expected, strict=True):
                assert_array_equal(a, b)


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize(("count", "dim"), [(1, 1), (7, 9), (97, 97), (130, 300), (257, 256 + 8)])
def test_orthonormal_rows_are_the_same_bits_everywhere(isa, count, dim, restore_isa):
    x = infall.gaussian_rows(np.arange(count), dim, seed=2).astype(np.float64)
    expected = x.copy()
    _core.set_isa(ISAS[0])
    _core.orthonormalise_rows(expected, 1, None)
    _core.set_isa(isa)
    for threads in (1, 2, 5):
        copied = x.copy()
        _core.orthonormalise_rows(copied, threads, None)
        assert_array_equal(copied, expected)


# The nearest frame --------------------------------------------------------------------------------


@few
@given(any_frame(), st.floats(0.01, 100.0), st.integers(0, 99))
def test_nearest_is_exact_for_a_moved_frame(frame, scale, seed):
    rotation = linalg.qr(normals(frame.dim, frame.dim, seed=seed))[0]
    means = scale * frame.vectors() @ rotation.T + 7.0 * normals(frame.dim, seed=1)
    fit = frame.nearest(means)
    offset = 1.0 + 7.0 * math.sqrt(frame.dim) / scale
    assert fit.relative_residual < 1e-14 * offset * math.sqrt(frame.num_classes)
    assert_close(fit.scale, scale, rtol=1e-13 * offset)
    assert_close(fit.centre + fit.scale * fit.vectors, means, atol=1e-12 * scale * offset)
    assert fit.angles.max() < 1e-13 * offset * math.sqrt(frame.num_classes)
    assert_close(fit.rotation @ fit.rotation.T, np.eye(frame.dim), atol=1e-12)
    assert_close(frame.vectors() @ fit.rotation.T, fit.vectors, atol=1e-12)


@few
@given(any_frame(), st.integers(0, 99))
def test_nearest_against_scipy(frame, seed):
    means = normals(frame.num_classes, frame.dim, seed=seed)
    centred = means - means.mean(axis=0)
    base = frame.vectors() - frame.vectors().mean(axis=0)
    rotation, total = linalg.orthogonal_procrustes(base, centred)  # base @ rotation ~ centred
    scale = total / np.sum(base * base)
    expected = np.linalg.norm(centred - scale * base @ rotation)
    fit = frame.nearest(means)
    assert_close(fit.scale, scale, rtol=1e-10)
    assert_close(fit.residual, expected, rtol=1e-9, atol=1e-9 * np.linalg.norm(centred))
    assert_close(frame.vectors() @ fit.rotation.T, fit.vectors, atol=1e-11)
    fitted = fit.scale * (fit.vectors - fit.vectors.mean(axis=0))
    cosines = np.sum(fitted * centred, axis=1)
    cosines /= np.linalg.norm(fitted, axis=1) * np.linalg.norm(centred, axis=1)
    assert_close(np.cos(fit.angles), cosines, atol=1e-12)
    # Nothing near it is nearer.
    step = 1e-3 * normals(frame.dim, frame.dim, seed=seed + 1)
    moved = linalg.expm(step - step.T)
    assert np.linalg.norm(centred - fitted @ moved) >= fit.residual * (1 - 1e-12)
    assert np.linalg.norm(centred - 1.01 * fitted) >= fit.residual * (1 - 1e-12)


@few
@given(simplexes(), st.integers(0, 99))
def test_nearest_does_not_depend_on_the_basis_or_position(frame, seed):
    means = normals(frame.num_classes, frame.dim, seed=seed)
    fit = frame.nearest(means)
    other = SimplexETF(frame.num_classes, frame.dim, basis="identity").nearest(means)
    assert_close(other.vectors, fit.vectors, atol=1e-12)
    rotation = linalg.qr(normals(frame.dim, frame.dim, seed=seed + 1))[0]
    moved = frame.nearest(3.0 * means @ rotation.T + 2.0)
    assert_close(moved.scale, 3.0 * fit.scale, rtol=1e-11)
    assert_close(moved.relative_residual, fit.relative_residual, rtol=1e-9, atol=1e-12)
    order = np.random.default_rng(seed).permutation(frame.num_classes)
    assert_close(frame.nearest(means[order]).vectors, fit.vectors[order], atol=1e-9)


def test_nearest_of_means_that_span_little():
    # Minority collapse: most classes share a mean; the fit is still an ETF.
    means = np.zeros((6, 8))
    means[0, 0] = means[1, 1] = 1.0
    frame = SimplexETF(6, 8, basis="identity")
    fit = frame.nearest(means)
    gram = fit.vectors @ fit.vectors.T
    assert_close(gram, frame.vectors() @ frame.vectors().T, atol=1e-14)
    assert 0.0 < fit.relative_residual < 1.0


@few
@given(simplexes(), st.floats(0.0, 1.0))
def test_means_move_towards_the_nearest_frame(frame, t):
    means = normals(frame.num_classes, frame.dim)
    fit = frame.nearest(means)
    moved = frame.project_means(means, t)
    ends = means, fit.centre + fit.scale * fit.vectors
    assert_close(moved, (1 - t) * ends[0] + t * ends[1], atol=1e-12)
    assert_close(frame.nearest(moved).residual, (1 - t) * fit.residual, atol=1e-11)
    assert_array_equal(frame.project_means(means, 0), means)
    if frame.num_classes > 2:
        distances = [frames.etf_distance(frame.project_means(means, s)) for s in (0, 0.5, 0.9, 1)]
        assert distances[-1] < 1e-12
        assert distances[-1] < distances[-2] < distances[0] + 1e-12


@few
@given(st.integers(2, 30), st.integers(1, 30), st.integers(0, 99))
def test_distance_to_an_etf_is_the_printed_one(num_classes, dim, seed):
    means = normals(num_classes, dim, seed=seed)
    expected = reference.etf_distance(means)
    assert_close(frames.etf_distance(means), expected, atol=1e-7, rtol=1e-9)
    if expected > 1e-3:
        assert_close(frames.etf_distance(means), expected, rtol=1e-11)


@pytest.mark.parametrize(("num_classes", "dim"), [(2, 1), (10, 9), (10, 64), (200, 256)])
def test_distance_of_an_etf_is_zero_to_rounding(num_classes, dim):
    vectors = SimplexETF(num_classes, dim, seed=1).vectors()
    assert frames.etf_distance(vectors) < 1e-14
    assert frames.etf_distance(3e5 * vectors + 1e-3) < 1e-14
    # First order in the deviation, far below 1e-8.
    nudged = vectors + 1e-11 * normals(num_classes, dim)
    if num_classes > 2:
        assert 1e-12 < frames.etf_distance(nudged) < 1e-10 * math.sqrt(dim)


# Measures -----------------------------------------------------------------------------------------


@few
@given(any_frame())
def test_coherence_and_the_welch_bound(frame):
    bound = frames.welch_bound(frame.num_classes, frame.dim)
    assert_close(frames.coherence(frame.vectors()), frame.coherence, atol=1e-13)
    assert frame.coherence >= bound - 1e-15
    assert_close(frames.welch_bound(frame.dim + 1, frame.dim), 1.0 / frame.dim, rtol=1e-15)
    assert frames.welch_bound(frame.dim + 1, frame.dim + 5) == 0.0


@settings(few, max_examples=15)
@given(
    st.one_of(
        st.builds(
            lambda k, s: SimplexETF(k, k - 1 + s, seed=k), st.integers(2, 12), st.integers(0, 2)
        ),
        st.builds(Orthoplex, st.integers(2, 13)),
        st.builds(Cube, st.integers(2, 20)),
    )
)
def test_margin_in_closed_form_is_the_margin_of_the_vectors(frame):
    vectors = frame.vectors()
    assert_close(frames.maximum_margin(vectors), frame.maximum_margin, rtol=1e-10)
    # Attained by the features along the vectors.
    products = vectors @ vectors.T
    margins = np.diag(products)[:, None] - products
    np.fill_diagonal(margins, np.inf)
    assert_close(margins.min(), frame.maximum_margin, rtol=1e-12)
    heavy = weighted(frame)
    assert heavy.maximum_margin == frames.maximum_margin(heavy.vectors())


def test_margin_of_vectors_in_the_plane():
    # Three vectors of one half plane: the middle one wins along itself, by 1 - cos 60 degrees.
    angles = np.radians([0.0, 60.0, 120.0])
    vectors = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    assert_close(frames.maximum_margin(vectors), 0.5, rtol=1e-12)
    # One inside the hull of the others never wins.
    assert frames.maximum_margin(np.vstack([vectors, vectors.mean(axis=0)])) == 0.0
    assert frames.maximum_margin([[1.0, 2.0], [1.0, 2.0]]) == 0.0


@few
@given(st.lists(st.integers(1, 1000), min_size=2, max_size=12))
def test_lengths_by_class_counts_are_those_of_the_reference(counts):
    assert_close(frames.seli_norms(counts), reference.seli_norms(counts), rtol=1e-7)
    assert_close(
        frames.seli_norms(np.array(counts) / sum(counts)), frames.seli_norms(counts), rtol=1e-14
    )
    assert_close(frames.seli_norms([counts[0]] * 5), 1.0, rtol=1e-13)


def root_of_counts(counts):
    """Lengths by a matrix square root in long double, by Newton-Schulz iteration."""
    counts = np.asarray(counts, np.longdouble)
    counts = counts / counts.max()
    num_classes = len(counts)
    centring = np.eye(num_classes, dtype=np.longdouble) - np.longdouble(1) / num_classes
    # The mean direction gets an eigenvalue of its own, of which nothing is left in the end.
    mean = np.full((num_classes, num_classes), np.longdouble(1) / num_classes)
    y, z = (centring * counts) @ centring + mean, np.eye(num_classes, dtype=np.longdouble)
    for _ in range(60):
        step = (3 * np.eye(num_classes) - z @ y) / 2
        y, z = y @ step, step @ z
    squares = np.diag(y - mean)
    return np.sqrt(squares / squares.mean())


@pytest.mark.parametrize(
    "counts",
    [[1, 2], [3, 3, 1], [1, 1e4], [5, 5, 5, 1, 1e3, 77], [1, 1, 1, 1, 1e5], [1e5, 1e5, 1e5, 1],
     range(1, 41), np.geomspace(1, 1e5, 17), [1e-300, 1e-299, 3e-300], [1e300, 1e301, 4e300]],
    ids=str,
)  # fmt: skip
def test_lengths_by_class_counts_to_rounding(counts):
    if np.finfo(np.longdouble).eps > 1e-18:
        pytest.skip("long double has no more digits than double here")
    norms = frames.seli_norms(counts)
    assert_close(norms, root_of_counts(counts).astype(np.float64), rtol=4e-15)
    assert_close(np.mean(norms**2), 1.0, rtol=1e-15)


def test_lengths_by_class_counts_of_any_ratio():
    # Two classes always share one length: the root of a matrix of rank one.
    for ratio in (1e-200, 1e-20, 1e20, 1e300):
        assert_close(frames.seli_norms([1.0, ratio]), 1.0, rtol=2e-15)
    extremes = frames.seli_norms([1e-308, 1e308, 1e308])
    # n = (0, 1, 1): the root of centring diag(n) centring has the diagonal (2/3, 1/6 + 1/2 sqrt 3).
    eigenvalues, vectors = np.linalg.eigh(_centred_diagonal([0.0, 1.0, 1.0]))
    squares = (vectors * vectors) @ np.sqrt(np.maximum(eigenvalues, 0.0))
    assert_close(extremes, np.sqrt(squares / squares.mean()), rtol=1e-7)


def _centred_diagonal(counts):
    centring = np.eye(len(counts)) - 1.0 / len(counts)
    return (centring * counts) @ centring


POWERS = (-1000, -700, -300, 0, 300, 700, 1000)


@pytest.mark.parametrize("power", POWERS)
@pytest.mark.parametrize("kind", range(5))
def test_measures_do_not_depend_on_the_magnitude(kind, power):
    frame = every_kind()[kind]
    vectors, means = frame.vectors(), normals(frame.num_classes, frame.dim)
    far, far_means = np.ldexp(vectors, power), np.ldexp(means, power)
    assert frames.coherence(far) == frames.coherence(vectors)
    assert frames.etf_distance(far_means) == frames.etf_distance(means)
    fit, expected = frame.nearest(far_means), frame.nearest(means)
    assert fit.scale == math.ldexp(expected.scale, power)
    assert fit.residual == math.ldexp(expected.residual, power)
    assert fit.relative_residual == expected.relative_residual
    for name in ("vectors", "angles", "rotation"):
        assert_array_equal(getattr(fit, name), getattr(expected, name))
    assert_array_equal(fit.centre, np.ldexp(expected.centre, power))
    moved = frame.project_means(far_means, 0.25)
    assert_array_equal(moved, np.ldexp(frame.project_means(means, 0.25), power))


@pytest.mark.parametrize("power", POWERS)
def test_margins_scale_with_the_weights(power):
    for frame in (SimplexETF(5, 6), Orthoplex(5), Cube(6)):
        margin = frames.maximum_margin(np.ldexp(frame.vectors(), power))
        assert margin == math.ldexp(frames.maximum_margin(frame.vectors()), power)


@pytest.mark.parametrize("size", [1e-300, 1e-200, 1e200, 1e300])
@pytest.mark.parametrize("kind", range(5))
@pytest.mark.filterwarnings("error")
def test_lengths_of_any_size(kind, size):
    sizes = size * np.linspace(1.0, 2.0, 6)
    plain, frame = every_kind(sizes / size)[kind], every_kind(sizes)[kind]
    assert 0.0 < frame.gram_error() < 1e-14 or isinstance(frame, (Orthoplex, Cube))
    assert frame.gram_error() < 1e-14
    assert_close(frame.maximum_margin, size * plain.maximum_margin, rtol=1e-10)
    assert_close(frame.vectors(), size * plain.vectors(), rtol=1e-13, atol=1e-15 * size)
    means = normals(6, frame.dim)
    assert_close(frame.nearest(means).residual, plain.nearest(means).residual, rtol=1e-13)


def test_a_gram_error_is_seen():
    frame = SimplexETF(6, 8)
    frame._haar()[3] *= 1.0 + 1e-9
    assert_close(frame.gram_error(), 2e-9, rtol=1e-6)
    frame = SimplexETF(1100, 1101, class_norms=np.linspace(1, 2, 1100))
    frame._haar()[1099, 7] += 1e-9
    assert 1e-11 < frame.gram_error() < 1e-9
    seen = []
    assert frame.gram_error([5, 1099], progress=lambda *args: seen.append(args)) > 1e-12
    assert seen == [(2, 2, "classes")]


def test_means_too_long():
    means = 1.7e308 * np.sign(normals(40, 60))
    with raises(ValueError, "means are too long: their distance to a frame overflows"):
        SimplexETF(40, 60).nearest(means)
    assert 0.0 < frames.etf_distance(means) < 2.0


def test_simplex_encoded_labels_are_the_least_classifier():
    # The lengths come from Z = (I - 11^T/K) Y as the solution of: least nuclear norm of the logits
    # with every margin at least 1. It is convex: no feasible direction goes down.
    counts = [7, 4, 1]
    one_hot = np.repeat(np.eye(3), counts, axis=1)  # (K, N)
    z = one_hot - one_hot.mean(axis=0)
    least = np.linalg.norm(z, "nuc")
    rng = np.random.default_rng(0)
    labels = np.repeat(np.arange(3), counts)
    for _ in range(500):
        direction = rng.normal(size=z.shape)
        own = direction[labels, np.arange(len(labels))]
        worst = np.where(one_hot == 1, np.inf, own - direction).min(axis=0)
        direction[labels, np.arange(len(labels))] -= np.minimum(worst, 0.0)
        assert np.linalg.norm(z + 1e-3 * direction, "nuc") >= least - 1e-12
    eigenvalues, vectors = np.linalg.eigh(z @ z.T)
    gram = vectors * np.sqrt(np.maximum(eigenvalues, 0.0)) @ vectors.T
    squares = np.diag(gram) / np.diag(gram).mean()
    assert_close(frames.seli_norms(counts), np.sqrt(squares), rtol=1e-7)


def test_lengths_scale_vectors_and_logits():
    norms = frames.seli_norms([50, 5, 5, 1])
    assert norms[0] > norms[1] == norms[2] > norms[3]
    for basis in BASES:
        plain = SimplexETF(4, 6, basis=basis, seed=2)
        scaled = SimplexETF(4, 6, basis=basis, seed=2, class_norms=norms)
        assert_close(scaled.vectors(), plain.vectors() * norms[:, None], atol=1e-15)
        h = normals(5, 6)
        assert_close(scaled.project(h), plain.project(h) * norms, atol=1e-14)
        fit = scaled.nearest(plain.vectors())
        assert fit.relative_residual < 1e-14
        assert_close(plain.vectors() @ fit.rotation.T, fit.vectors, atol=1e-13)


# Arrays of any kind -------------------------------------------------------------------------------


@every_basis
def test_dtypes_and_layouts(basis):
    frame = SimplexETF(9, 12, basis=basis)
    h = np.round(normals(5, 12) * 8)
    expected = frame.project(h)
    for dtype, result in [
        ("float16", "float32"), ("float32", "float32"), ("int8", "float64"), ("uint16", "float64"),
        (">f4", "float32"), (">f8", "float64"), ("longdouble", "float64"),
    ]:  # fmt: skip
        given = np.abs(h) if dtype == "uint16" else h
        projections = frame.project(given.astype(dtype))
        assert projections.dtype == result
        assert_close(projections, frame.project(given), atol=2e-5 if result == "float32" else 1e-13)
    spread = np.zeros((10, 24))
    spread[::2, ::2] = h
    for variant in (np.asfortranarray(h), spread[::2, ::2], h[::-1][::-1], h.tolist()):
        assert_close(frame.project(variant), expected, atol=1e-13)
        assert_array_equal(frame.classify(variant), frame.classify(h))


@every_basis
def test_results_are_of_the_library_of_the_argument(basis):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    frame = SimplexETF(9, 12, basis=basis)
    h = normals(5, 12)
    projections = frame.project(torch.from_numpy(h))
    assert isinstance(projections, torch.Tensor)
    assert_close(projections.numpy(), frame.project(h), atol=1e-14)
    classes = frame.classify(torch.from_numpy(h))
    assert isinstance(classes, torch.Tensor)
    assert_array_equal(classes.numpy(), frame.classify(h))
    short = torch.from_numpy(h).to(torch.bfloat16)
    assert frame.project(short).dtype == torch.float32
    assert_close(frame.project(short).numpy(), frame.project(short.float()).numpy(), atol=1e-6)
    assert frame.project(short[0]).shape == (9,)
    fit = frame.nearest(torch.from_numpy(normals(9, 12)))
    assert isinstance(fit.vectors, torch.Tensor)


@pytest.mark.parametrize("library", ["numpy", "torch"])
@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("dtype", ["float64", "float32", "float16", "int8", "bool"])
def test_a_batch_of_none(library, kind, dtype):
    namespace = pytest.importorskip(library)
    frame = every_kind()[kind]
    h, y = (namespace.empty((0, n), dtype=getattr(namespace, dtype)) for n in (frame.dim, 6))
    result = "float32" if dtype in ("float32", "float16") else "float64"
    seen = []
    for array, shape, kind_of_number in (
        (frame.project(h, progress=lambda *args: seen.append(args)), (0, 6), result),
        (frame.adjoint(y), (0, frame.dim), result),
        (frame.topk(h, 2).values, (0, 2), result),
        (frame.topk(h, 2).classes, (0, 2), "int64"),
        (frame.classify(h), (0,), "int64"),
        (frames.walsh_hadamard(h[:, :2]), (0, 2), result),
    ):
        assert type(array) is type(h)
        assert tuple(array.shape) == shape
        assert array.dtype == getattr(namespace, kind_of_number)


def test_the_class_of_one_feature_is_a_scalar():
    torch = pytest.importorskip("torch")
    frame = SimplexETF(5, 6)
    nearest = frame.classify(frame.vectors([3])[0])
    assert isinstance(nearest, np.int64)
    assert nearest == 3
    nearest = frame.classify(torch.from_numpy(frame.vectors([3])[0]))
    assert nearest.shape == ()
    assert nearest.dtype == torch.int64
    top = frame.topk(torch.from_numpy(normals(6)), 2)
    logits, classes = torch.topk(torch.from_numpy(frame.project(normals(6))), 2)
    assert torch.equal(top.classes, classes)
    assert torch.equal(top.values, logits)


def test_vectors_by_dtype_objects():
    frame = SimplexETF(5, 6)
    for dtype in (np.float32, "float32", np.dtype("f4"), np.dtype(">f4")):
        vectors = frame.vectors(dtype=dtype)
        assert vectors.dtype == np.float32
        assert vectors.dtype.isnative
    assert frame.vectors(dtype=float).dtype == np.float64
    for dtype in (np.int64, np.float16, complex, np.longdouble):
        with raises(ValueError, "expected float32 or float64"):
            frame.vectors(dtype=dtype)
    for dtype in ("single precision", 3.5, np.ones(2)):
        with raises(TypeError, "expected float32 or float64 of NumPy"):
            frame.gram_error(dtype=dtype)


# Frames as objects --------------------------------------------------------------------------------


@few
@given(any_frame())
def test_copies_of_frames_and_fits(frame):
    frame = weighted(frame)
    means = normals(frame.num_classes, frame.dim)
    fit = frame.nearest(means)
    for copied in (
        lambda a: pickle.loads(pickle.dumps(a)),
        copy.copy,
        copy.deepcopy,
    ):
        other = copied(frame)
        assert other == frame
        assert hash(other) == hash(frame)
        assert repr(other) == repr(frame)
        assert_array_equal(other.vectors(), frame.vectors())
        assert_array_equal(other.project(means), frame.project(means))
        assert not other.class_norms.flags.writeable
        again = copied(fit)
        assert repr(again) == repr(fit)
        assert_array_equal(again.rotation, fit.rotation)
        assert_array_equal(again.vectors, fit.vectors)


def test_a_pickle_holds_the_basis_once_it_is_made():
    frame = SimplexETF(40, 50)
    assert len(pickle.dumps(frame)) < 1000
    vectors = frame.vectors()
    assert 0 < len(pickle.dumps(frame)) - vectors.nbytes < 1000
    other = pickle.loads(pickle.dumps(frame))
    other.seed = other.__dict__.pop("seed") + 1  # the basis is not made again
    assert_array_equal(other.vectors(), vectors)


def test_equality_is_that_of_the_settings():
    different = [
        SimplexETF(4, 6), SimplexETF(4, 6, seed=1), SimplexETF(4, 6, basis="hadamard"),
        SimplexETF(4, 7), SimplexETF(3, 6), Orthoplex(4, 6), Cube(4, 6),
        SimplexETF(4, 6, class_norms=[1, 1, 1, 1]), SimplexETF(4, 6, class_norms=[1, 1, 1, 2]),
    ]  # fmt: skip
    assert len(set(different)) == len(different)
    assert SimplexETF(4, 6) == SimplexETF(4, 6)
    assert SimplexETF(4, 6) != "SimplexETF(4, 6)"
    frame = SimplexETF(4, 6, class_norms=[1, 2, 3, 4])
    for name in ("num_classes", "dim", "basis", "seed", "class_norms"):
        with pytest.raises(AttributeError, match=f"{name} of a frame cannot be changed"):
            setattr(frame, name, 5)
    with pytest.raises(ValueError, match="read-only"):
        frame.class_norms[0] = 3.0
    with pytest.raises(TypeError, match="abstract"):
        frames.Frame(4, 6, None)


def test_fits_are_shown_in_a_line():
    fit = SimplexETF(40, 50).nearest(normals(40, 50))
    assert re.fullmatch(r"FrameFit\(scale=\S+, residual=\S+, relative_residual=\S+\)", repr(fit))


def test_a_basis_is_made_once_by_threads(monkeypatch):
    made = []
    haar_vectors = _core.haar_vectors

    def counted(*arguments):
        made.append(1)
        haar_vectors(*arguments)

    monkeypatch.setattr(_core, "haar_vectors", counted)
    frame, barrier = SimplexETF(300, 300, seed=4), threading.Barrier(8)
    h = normals(5, 300).astype(np.float32)

    def use(number):
        barrier.wait()
        return frame.vectors([7]), frame.project(h), frame.topk(h, 3).classes

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(use, range(8)))
    assert len(made) == 1
    for result in results:
        for a, b in zip(result, results[0], strict=True):
            assert_array_equal(a, b)


def test_sizes_of_frames():
    frame = SimplexETF(100, 200)
    assert sys.getsizeof(frame) < 1000
    vectors = frame.vectors()
    assert 0 <= sys.getsizeof(frame) - vectors.nbytes < 1000
    frame.project(np.ones(200, np.float32))
    frame.project(np.ones(200))
    assert 0 <= sys.getsizeof(frame) - 1.5 * vectors.nbytes < 1000
    assert sys.getsizeof(Cube(100, class_norms=np.ones(100))) > 800


# Long calls ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda: SimplexETF(6000, 6000).vectors([0]),
        lambda: frames.walsh_hadamard(np.zeros((256, 2**20), np.float32), num_threads=1),
        lambda: SimplexETF(2**22, 2**22 + 1, basis="hadamard").topk(
            np.zeros((200, 2**22 + 1), np.float32), 3
        ),
        lambda: SimplexETF(10**6, 10**6, basis="identity").vectors(np.arange(120)),
        lambda: Cube(10**5).gram_error(),
        lambda: frames.coherence(normals(40000, 20)),
        lambda: frames.etf_distance(normals(12000, 500)),
        lambda: frames.seli_norms(np.arange(1, 10**6)),
        lambda: frames.maximum_margin(normals(300, 40)),
    ],
    ids=["haar", "transform", "topk", "vectors", "gram", "coherence", "distance", "lengths",
         "margin"],
)  # fmt: skip
def test_interrupt_returns_quickly(call):
    assert seconds_after_interrupt(call) < LIMIT


@every_basis
def test_progress_counts_vectors_and_may_stop_the_call(basis):
    frame = SimplexETF(300, 400, basis=basis)
    frame.vectors([0])
    seen = []
    frame.project(normals(64, 400), progress=lambda done, total, _: seen.append((done, total)))
    assert seen[-1] == (64, 64)
    assert sorted(seen) == seen

    class StopError(Exception):
        pass

    def stop(done, total, _):
        raise StopError

    for call in (frame.project, frame.topk, frame.classify):
        with pytest.raises(StopError):
            call(normals(64, 400), progress=stop)
    with pytest.raises(StopError):
        frame.adjoint(normals(64, 300), progress=stop)


# Bad input ----------------------------------------------------------------------------------------


def raises(kind, text):
    """Expect an error with this text in it."""
    return pytest.raises(kind, match=re.escape(text))


@pytest.mark.parametrize(
    ("make", "kind", "text"),
    [
        (lambda: SimplexETF(1, 4), ValueError, "num_classes is 1; expected 2 <= num_classes"),
        (lambda: SimplexETF(3.0, 4), TypeError, "num_classes is 3.0; expected an integer"),
        (lambda: SimplexETF(3, True), TypeError, "dim is True; expected an integer"),
        (lambda: SimplexETF(3, 0), ValueError, "dim is 0"),
        (
            lambda: SimplexETF(10, 8),
            ValueError,
            "dim is 8; 10 vectors with pairwise cosines -1/9 span 9 dimensions: take dim >= 9, "
            "Orthoplex(10) in 5 dimensions or Cube(10) in 4",
        ),
        (lambda: SimplexETF(3, 4, basis="dct"), ValueError, "basis is 'dct'; expected one of haar"),
        (lambda: SimplexETF(3, 4, basis=None), TypeError, "basis is None"),
        (lambda: SimplexETF(3, 4, seed=-1), ValueError, "seed is -1; expected 0 <= seed < 2**64"),
        (lambda: SimplexETF(3, 4, class_norms=[1, 2]), ValueError, "class_norms has shape (2,)"),
        (lambda: SimplexETF(3, 4, class_norms=[1, 2, 0]), ValueError, "class_norms is 0.0 at posi"),
        (
            lambda: SimplexETF(3, 4, class_norms=[1, np.nan, 1]),
            ValueError,
            "class_norms is not",
        ),
        (lambda: SimplexETF(3, 4, class_norms="abc"), TypeError, "class_norms has dtype"),
        (lambda: Orthoplex(10, 4), ValueError, "dim is 4; 10 classes take dim >= 5, or Cube(10)"),
        (lambda: Cube(10, 3), ValueError, "dim is 3; 10 classes take dim >= 4"),
        (lambda: Cube(0), ValueError, "num_classes is 0"),
        (lambda: frames.welch_bound(1, 2), ValueError, "num_vectors is 1"),
        (lambda: frames.coherence([[0.0, 0.0], [1.0, 0.0]]), ValueError, "vectors[0] is zero"),
        (lambda: frames.coherence([1.0, 2.0]), ValueError, "vectors has shape (2,)"),
        (
            lambda: frames.maximum_margin([[1.0, np.inf], [0.0, 1.0]]),
            ValueError,
            "vectors is not finite: inf",
        ),
        (lambda: frames.seli_norms([3, 0]), ValueError, "class_counts is 0.0 at position 1"),
        (lambda: frames.seli_norms([3]), ValueError, "class_counts has shape (1,)"),
        (lambda: frames.etf_distance(np.ones((3, 2))), ValueError, "means[0] is the mean of all"),
        (
            lambda: frames.etf_distance(np.ones(3)),
            ValueError,
            "means has 1 axes; expected shape",
        ),
        (
            lambda: frames.walsh_hadamard(np.ones(6)),
            ValueError,
            "x has 6 columns; expected a",
        ),
    ],
)
def test_bad_frames(make, kind, text):
    with raises(kind, text):
        make()


@every_basis
@pytest.mark.parametrize(
    ("h", "kind", "text"),
    [
        ([1.0, np.nan, 3.0, 4.0], ValueError, "H is not finite: nan at position 1"),
        ([[1.0] * 4, [0, 0, -np.inf, 0]], ValueError, "H is not finite: -inf at position (1, 2)"),
        ([1.0, 2.0], ValueError, "H has 2 columns; expected 4"),
        (np.ones((2, 2, 4)), ValueError, "H has 3 axes"),
        ([1j, 0, 0, 0], TypeError, "H has dtype complex128"),
        (np.ma.array([1.0] * 4), TypeError, "H is a masked array"),
        (["a"] * 4, TypeError, "H has dtype"),
    ],
)
def test_bad_features(basis, h, kind, text):
    frame = SimplexETF(3, 4, basis=basis)
    for call in (frame.project, frame.topk, frame.classify):
        with raises(kind, text):
            call(h)


def every_kind(norms=None):
    """Make a frame of six classes of each kind."""
    frames_of_six = [SimplexETF(6, 8, basis=basis, class_norms=norms) for basis in BASES]
    return [*frames_of_six, Orthoplex(6, class_norms=norms), Cube(6, class_norms=norms)]


@pytest.mark.parametrize("kind", range(5))
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.filterwarnings("error")
def test_products_too_long_for_their_dtype(kind, dtype):
    plain, long = every_kind()[kind], every_kind([1, 1, 1, 1, 1, 1e300])[kind]
    vectors, largest = plain.vectors(), 0.99 * np.finfo(dtype).max
    column = np.abs(vectors).sum(axis=0).argmax()
    h, y = np.ones((4, plain.dim), dtype), np.ones((4, 6), dtype)
    h[2:], y[2:] = largest * np.sign(vectors[5]), largest * np.sign(vectors[:, column])
    message = f"is too long: its products overflow {np.dtype(dtype)}; scale it down"
    if not isinstance(plain, Orthoplex):  # whose logits are single entries of h
        for call in (plain.project, plain.topk, plain.classify):
            with raises(ValueError, "H[2] " + message):
                call(h)
            with raises(ValueError, "H " + message):
                call(h[2])
    with raises(ValueError, "Y[2] " + message):
        plain.adjoint(y)
    assert np.isfinite(plain.project(h / 64)).all()
    assert np.isfinite(plain.adjoint(y / 64)).all()
    h[2:], y[2:] = 1e30 * np.sign(vectors[5]), 1e30
    for call in (long.project, long.topk, long.classify):
        if dtype == np.float32:
            with raises(ValueError, "is too long: its products overflow float32"):
                call(h)
        else:
            with raises(ValueError, "H[2] " + message):
                call(h)
    with raises(ValueError, message):
        long.adjoint(y)


@pytest.mark.filterwarnings("error")
def test_transforms_too_long_for_their_dtype():
    x = np.ones((3, 4))
    x[1:] = 1.7e308
    message = "is too long: its products overflow float64; scale it down"
    with raises(ValueError, "x[1] " + message):
        frames.walsh_hadamard(x)
    with raises(ValueError, "x " + message):
        frames.walsh_hadamard(x[1])
    assert_array_equal(frames.walsh_hadamard(1e30 * x[0].astype(np.float32))[1:], 0.0)


@pytest.mark.filterwarnings("error")
def test_numbers_that_float64_does_not_hold():
    h = np.ones((2, 8), np.longdouble)
    h[1, 3] = np.longdouble(10) ** 4000
    for frame in every_kind():
        with raises(ValueError, "H is not finite: inf at position (1, 1)"):
            frame.project(np.roll(h, -2, axis=1)[:, : frame.dim])
    with raises(ValueError, "x is not finite: inf at position (1, 3)"):
        frames.walsh_hadamard(h)
    with raises(ValueError, "class_norms is 1e+300 at position 5: the vector overflows float32"):
        SimplexETF(6, 8, class_norms=[1, 1, 1, 1, 1, 1e300]).vectors(dtype="float32")


def test_the_first_position_in_vectors_longer_than_a_block():
    x = np.zeros((2, 2**21), np.float16)
    x[1, [2**20 + 5, 2**21 - 1]] = np.nan, np.inf
    with raises(ValueError, "x is not finite: nan at position (1, 1048581)"):
        frames.walsh_hadamard(x)
    with raises(ValueError, "x is not finite: nan at position 1048581"):
        frames.walsh_hadamard(x[1])
    x[:] = np.random.default_rng(0).integers(-3, 4, x.shape)
    assert_array_equal(frames.walsh_hadamard(x), frames.walsh_hadamard(x.astype(np.float32)))


@pytest.mark.parametrize("k", [1, 2, 3])
def test_topk_of_a_stored_frame_that_overflow(k):
    frame = SimplexETF(3, 4096)
    h = np.ones((4, 4096), np.float32)
    h[2] = 3e38 * np.sign(frame.vectors([1])[0])
    assert np.isfinite(frame.topk(h[:2], k).values).all()
    with raises(ValueError, "H[2] is too long: its products overflow float32"):
        frame.topk(h, k)
    with raises(ValueError, "H is too long: its products overflow float32"):
        frame.topk(h[2], k)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("num_top", [1, 2, 40])
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_a_score_that_is_not_finite_stops_the_search(bad, num_top, dtype):
    for columns in (40, 70001):
        for position in (0, 7, columns - 1):
            scores = np.linspace(0, 1, 3 * columns, dtype=dtype).reshape(3, columns)
            scores[1, position] = bad
            for labels in (None, np.arange(3 * columns).reshape(3, columns)):
                classes, logits = np.empty((3, num_top), np.int64), np.empty((3, num_top), dtype)
                assert _core.top_scores(scores, labels, classes, logits, 2, None) == 1


def test_bad_arguments_of_methods():
    frame = SimplexETF(3, 4)
    with raises(ValueError, "k is 4; expected 1 <= k < 4"):
        frame.topk(np.ones(4), 4)
    with raises(TypeError, "k is 1.5"):
        frame.topk(np.ones(4), 1.5)
    with raises(ValueError, "classes is 3 at position 1; expected 0 <= class < 3"):
        frame.vectors([0, 3])
    with raises(ValueError, "classes is -1 at position 0"):
        frame.vectors(np.array([-1]))
    with raises(TypeError, "classes has dtype float64; expected integers"):
        frame.vectors([0.5])
    with raises(ValueError, "dtype is float16; expected float32 or float64"):
        frame.vectors(dtype="float16")
    with raises(ValueError, "means has 2 rows; expected 3, one to a class"):
        frame.nearest(np.ones((2, 4)))
    with raises(ValueError, "means has 5 columns; expected 4"):
        frame.nearest(np.ones((3, 5)))
    with raises(ValueError, "means coincide"):
        frame.nearest(np.full((3, 4), 0.1))
    with raises(ValueError, "t is 1.5; expected 0 <= t <= 1"):
        frame.project_means(np.eye(3, 4), 1.5)
    with raises(TypeError, "t is '1'; expected a real number"):
        frame.project_means(np.eye(3, 4), "1")
    with raises(TypeError, "t is 1j; expected a real number"):
        frame.project_means(np.eye(3, 4), 1j)
    with raises(TypeError, "expected a real number"):
        frame.project_means(np.eye(3, 4), np.complex128(0.5))
    with raises(ValueError, "t is nan; expected 0 <= t <= 1"):
        frame.project_means(np.eye(3, 4), np.float32("nan"))
    with raises(TypeError, "progress is 3; expected a callable"):
        frame.project(np.ones(4), progress=3)
    with raises(ValueError, "num_threads is 0"):
        frame.project(np.ones(4), num_threads=0)
