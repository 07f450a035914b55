"""The CUDA kernels of frames, run by the host, against the CPU kernels: bit for bit."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

import fake_device
from infall import Cube, Orthoplex, SimplexETF, _core, frames
from infall._arrays.blocks import blocks_of

cuda = pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)
pytestmark = pytest.mark.sanitize
few = settings(max_examples=12, deadline=None, derandomize=True)


def pointer(array):
    """Address of a host array: the emulation's device memory."""
    assert array.flags.c_contiguous
    return array.ctypes.data


def normals(*shape, seed=0):
    """Return standard normals."""
    return np.random.default_rng(seed).normal(size=shape)


# Kernels ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize("log2_length", [*range(6), 7, 10, 11, 12, 13, 15, 16, 17])
def test_transform(dtype, log2_length):
    x = normals(3, 2**log2_length).astype(dtype)
    for factor in (1.0, 0.7):
        out, expected = np.full_like(x, np.nan), np.empty_like(x)
        cuda.walsh_hadamard(dtype, pointer(x), 3, log2_length, factor, pointer(out), 0, 0)
        _core.walsh_hadamard(x, expected, factor, 1, None)
        assert_array_equal(out, expected)


@few
@given(
    st.sampled_from(["float32", "float64"]),
    st.sampled_from(["identity", "hadamard"]),
    st.one_of(st.integers(1, 70), st.sampled_from([2047, 2048, 4100, 9000])),
    st.data(),
)
def test_products_and_the_largest(dtype, basis, dim, data):
    num_classes = data.draw(st.integers(2, dim + 1))
    norms = None
    if data.draw(st.booleans()):
        norms = np.random.default_rng(1).uniform(0.5, 2.0, num_classes)
    frame = SimplexETF(num_classes, dim, basis=basis, seed=dim, class_norms=norms)
    count = data.draw(st.integers(1, 4))
    weights = 0 if norms is None else pointer(norms)
    structure = (num_classes, dim, basis == "hadamard", dim, weights)
    top = data.draw(st.integers(1, min(num_classes, 20)))
    num_bytes = cuda.frame_workspace(dtype, structure, count, top)
    workspace = np.full(num_bytes + 64, 255, np.uint8)

    h = np.round(normals(count, dim) * 2).astype(dtype)  # ties, where nothing is mixed
    logits = np.full((count, num_classes), np.nan, dtype)
    cuda.frame_project(
        dtype, structure, pointer(h), count, pointer(logits), pointer(workspace), 0, 0
    )
    assert_array_equal(logits, frame.project(h))

    y = normals(count, num_classes).astype(dtype)
    combined = np.full((count, dim), np.nan, dtype)
    cuda.frame_synthesise(
        dtype, structure, pointer(y), count, pointer(combined), pointer(workspace), 0, 0
    )
    assert_array_equal(combined, frame.adjoint(y))

    classes = np.full((count, top), -7)
    values = np.full((count, top), np.nan, dtype)
    results = (pointer(classes), pointer(values), pointer(workspace), 0, 0)
    cuda.frame_top_logits(dtype, structure, pointer(h), count, top, *results)
    expected = frame.topk(h, top)
    assert_array_equal(classes, expected.classes)
    assert_array_equal(values, expected.values)
    assert (workspace[num_bytes:] == 255).all()


def top_scores(scores, top, labels=None):
    """Classes and values (count, top) of the largest scores, on the emulated device."""
    count, columns = scores.shape
    dtype = scores.dtype.name
    classes, values = np.full((count, top), -7), np.full((count, top), 7, dtype)
    num_bytes = cuda.scores_workspace(dtype, count, columns, top)
    workspace = np.full(num_bytes + 64, 255, np.uint8)
    address = 0 if labels is None else pointer(labels)
    cuda.top_scores(
        *(dtype, pointer(scores), address, count, columns, top),
        *map(pointer, (classes, values, workspace)),
        *(0, 0),
    )
    assert (workspace[num_bytes:] == 255).all()
    return classes, values


def top_scores_of_host(scores, top, labels=None):
    count = len(scores)
    classes, values = np.empty((count, top), np.int64), np.empty((count, top), scores.dtype)
    _core.top_scores(scores, labels, classes, values, 1, None)
    return classes, values


@few
@given(st.integers(1, 700), st.integers(1, 3), st.data())
def test_largest_scores(columns, count, data):
    top = data.draw(st.integers(1, min(columns, 12)))
    scores = np.round(normals(count, columns)).astype(np.float32)
    labels = np.random.default_rng(0).permutation(count * columns).reshape(count, columns)
    for given_labels in (None, labels):
        actual = top_scores(scores, top, given_labels)
        expected = top_scores_of_host(scores, top, given_labels)
        assert_array_equal(actual[0], expected[0])
        assert_array_equal(actual[1], expected[1])


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("columns", "top"), [(2048, 3), (2049, 3), (9000, 1), (9000, 40)])
def test_largest_of_scores_in_parts(dtype, columns, top):
    scores = np.round(normals(2, columns) * 4).astype(dtype)  # ties within parts and between them
    labels = np.random.default_rng(0).permutation(2 * columns).reshape(2, columns)
    for given_labels in (None, labels):
        actual = top_scores(scores, top, given_labels)
        expected = top_scores_of_host(scores, top, given_labels)
        assert_array_equal(actual[0], expected[0])
        assert_array_equal(actual[1], expected[1])


def test_ranks_are_found_in_several_goes():
    scores = np.round(normals(1, 2100) * 20).astype(np.float32)
    labels = np.random.default_rng(0).permutation(2100)[None]
    for actual, expected in zip(
        top_scores(scores, 300, labels), top_scores_of_host(scores, 300, labels), strict=True
    ):
        assert_array_equal(actual, expected)
    scores[0, 270:] = np.nan  # fewer than are asked for
    classes, values = top_scores(scores, 300)
    expected = top_scores_of_host(np.ascontiguousarray(scores[:, :270]), 270)
    assert_array_equal(classes[:, :270], expected[0])
    assert_array_equal(values[:, :270], expected[1])
    assert (classes[:, 270:] == -1).all()
    assert np.isnan(values[:, 270:]).all()


def test_signs_of_zero_tie():
    scores = np.array([[-0.0, 0.0, -0.0]])
    classes, values = top_scores(scores, 3)
    assert_array_equal(classes, [[0, 1, 2]])
    assert_array_equal(np.signbit(values), [[True, False, True]])


def test_scores_that_are_not_numbers_are_passed_over():
    scores = np.array([[np.nan, 1.0, np.nan, -np.inf], [np.nan] * 4], np.float32)
    classes, values = top_scores(scores, 3)
    assert_array_equal(classes, [[1, 3, -1], [-1, -1, -1]])
    assert_array_equal(values, [[1.0, -np.inf, np.nan], [np.nan] * 3])


# The package, on a device made of host memory -----------------------------------------------------


@pytest.fixture
def fake_cuda(monkeypatch):
    yield from fake_device.installed(monkeypatch)


LIBRARIES = [fake_device.CuPyArray, fake_device.Tensor]
both_libraries = pytest.mark.parametrize("library", LIBRARIES, ids=["cupy", "torch"])


def held(array, library, number=1):
    """Return what an array of a library holds, on its device."""
    assert type(array) is library
    assert array._number == number
    return array._values


@both_libraries
@pytest.mark.parametrize(
    "frame",
    [
        SimplexETF(9, 12, basis="identity"),
        SimplexETF(13, 12, basis="hadamard", class_norms=np.linspace(1, 2, 13)),
        SimplexETF(9, 12),
        SimplexETF(6, 5, class_norms=[1, 1, 1, 2, 2, 2]),
        Orthoplex(9),
        Orthoplex(6, 4, class_norms=[1, 1, 1, 2, 2, 2]),
        Cube(11, 6),
    ],
    ids=repr,
)
@blocks_of(20)
def test_frames_on_a_device_are_those_of_the_host(library, frame, fake_cuda):
    structured = frame._structure is not None
    for dtype in (np.float32, np.float64, np.float16, np.int32):
        h = np.round(normals(7, frame.dim) * 4).astype(dtype)
        y = np.round(normals(7, frame.num_classes) * 4).astype(dtype)
        for index in (slice(None), slice(None, None, 2), 3):
            given_h, given_y = library(h[index], 1), library(y[index], 1)
            actual = [frame.project(given_h), frame.adjoint(given_y), *frame.topk(given_h, 3)]
            expected = [frame.project(h[index]), frame.adjoint(y[index])]
            expected += frame.topk(h[index], 3)
            for a, b in zip(actual, expected, strict=True):
                on_host = held(a, library)
                assert on_host.dtype == b.dtype
                if structured:
                    assert_array_equal(on_host, b)
                else:
                    np.testing.assert_allclose(on_host, b, rtol=1e-6, atol=1e-5)
        assert_array_equal(held(frame.classify(library(h, 1)), library), frame.classify(h))
    streams = {stream for _, device, stream in fake_device.calls if device == 1}
    assert streams == {fake_device.current_streams[1]}


@both_libraries
def test_transform_and_fits_on_a_device(library, fake_cuda):
    x = normals(5, 64)
    assert_array_equal(
        held(frames.walsh_hadamard(library(x, 1)), library), frames.walsh_hadamard(x)
    )
    frame = SimplexETF(5, 64)
    fit, expected = frame.nearest(library(x, 1)), frame.nearest(x)
    assert fit.scale == expected.scale
    assert_array_equal(held(fit.vectors, library), expected.vectors)
    assert_array_equal(held(frame.project_means(library(x, 1), 0.5), library),
                       frame.project_means(x, 0.5))  # fmt: skip
    assert frames.etf_distance(library(x, 1)) == frames.etf_distance(x)


@both_libraries
def test_bad_input_on_a_device(library, fake_cuda):
    frame = SimplexETF(5, 8, basis="hadamard")
    with pytest.raises(ValueError, match="H has 7 columns; expected 8"):
        frame.project(library(np.ones((2, 7)), 1))
    with pytest.raises(TypeError, match="H has dtype complex128; expected real numbers"):
        frame.classify(library(np.ones((2, 8), complex), 1))


@both_libraries
def test_progress_on_a_device_ends_with_all(library, fake_cuda):
    seen = []
    for frame in (SimplexETF(5, 8, basis="hadamard"), SimplexETF(5, 8)):
        frame.topk(library(np.ones((6, 8)), 1), progress=lambda *done: seen.append(done))
    assert seen == [(6, 6, "vectors")] * 2
