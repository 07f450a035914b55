"""The CUDA kernels of class moments, run by the host, against the CPU kernels: bit for bit."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

from infall import _core

cuda = pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)
pytestmark = pytest.mark.sanitize


def pointer(array):
    """Address of a host array: the emulation's device memory."""
    return array.ctypes.data


def state(num_classes, dim, dtype=np.float32):
    """What moments without samples hold: the first one is all that has a meaning."""
    shape = (num_classes, dim)
    counts, squares = np.zeros(num_classes, dtype=np.int64), np.full(num_classes, np.nan)
    return counts, np.full(shape, np.nan, dtype), np.full(shape, np.nan), squares


def order(labels, num_classes):
    """Samples by class, and where each class begins and ends."""
    samples = np.argsort(labels, kind="stable")
    return samples, np.searchsorted(labels[samples], np.arange(num_classes + 1))


def stored(features, dtype):
    stride = features.strides[0] // features.itemsize
    return pointer(features), dtype or features.dtype.name, stride, features.shape[1]


def device_state(moments):
    counts, shifts, sums, squares = moments
    shifts = (pointer(shifts), shifts.dtype == np.float64)
    return len(counts), pointer(counts), shifts, pointer(sums), pointer(squares)


def add(features, labels, moments, dtype=None):
    """Add samples on the emulated device."""
    num_classes, dim = moments[2].shape
    samples, starts = order(labels, num_classes)
    scratch = np.full(cuda.moments_scratch(num_classes, dim, len(labels)), np.nan)
    cuda.accumulate_moments(
        stored(features, dtype),
        (len(labels), pointer(samples), pointer(starts)),
        device_state(moments),
        pointer(scratch),
        0,
        0,
    )


def add_on_host(features, labels, moments):
    update = _core.MomentsUpdate(*moments)
    update.add(features, labels, 1, None)
    assert update.first_nonfinite_class() == -1
    update.publish(1)


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
@pytest.mark.parametrize("dim", [1, 9, 128, 300])
def test_moments(dtype, dim):
    rng = np.random.default_rng(dim)
    wide = (rng.normal(size=(150, dim + 3)) + 5.0).astype(
        np.float32 if dtype == "bfloat16" else dtype
    )
    if dtype == "bfloat16":
        wide = (wide.view(np.uint32) >> 16).astype(np.uint16)
    features, labels = wide[:, 1 : dim + 1], rng.integers(0, 6, 150)
    labels[labels == 3] = 1  # a class that stays empty
    shift_type = np.float64 if dtype == "float64" else np.float32
    expected, actual = state(6, dim, shift_type), state(6, dim, shift_type)
    for batch in (slice(0, 40), slice(40, 41), slice(41, 150)):
        add_on_host(features[batch], labels[batch], expected)
        add(features[batch], labels[batch], actual, dtype)
    seen = expected[0] > 0
    assert not seen[3]
    assert_array_equal(actual[0], expected[0])
    for mine, theirs in zip(actual[1:], expected[1:], strict=True):
        assert mine[seen].tobytes() == theirs[seen].tobytes()

    centre = rng.normal(size=dim)
    means, offsets = _core.class_means(*expected[:3], centre, True, True, 1)
    device_means, device_offsets = np.zeros_like(means), np.zeros_like(offsets)
    results = (pointer(device_means), pointer(device_offsets))
    cuda.class_means(device_state(actual), dim, pointer(centre), *results, 0, 0)
    assert_array_equal(device_means, means)
    assert_array_equal(device_offsets, offsets)

    out, device_out = np.empty((150, dim)), np.empty((150, dim))
    _core.deviations(features, labels, expected[1], out, 1)
    cuda.subtract(
        stored(features, dtype),
        150,
        pointer(labels),
        6,
        pointer(expected[1]),
        shift_type == np.float64,
        pointer(device_out),
        0,
        0,
    )
    assert_array_equal(device_out, out)


def test_long_classes_are_added_in_the_same_parts():
    rng = np.random.default_rng(5)
    features, labels = rng.normal(size=(2**16 * 2 + 77, 1)).astype(np.float32), None
    labels = (rng.random(len(features)) < 0.01).astype(np.int64)
    expected, actual = state(2, 1), state(2, 1)
    add_on_host(features, labels, expected)
    add(features, labels, actual)
    for mine, theirs in zip(actual, expected, strict=True):
        assert_array_equal(mine, theirs)


@pytest.mark.parametrize("count", [1, 127, 128, 129, 400])
def test_classes_of_whole_tiles_and_of_parts(count):
    rng = np.random.default_rng(count)
    labels = rng.permutation(np.repeat([0, 2], [count, 300]))
    features = rng.normal(size=(len(labels), 33)).astype(np.float32)
    expected, actual = state(3, 33), state(3, 33)
    for _ in range(2):
        add_on_host(features, labels, expected)
        add(features, labels, actual)
    for mine, theirs in zip(actual, expected, strict=True):
        assert mine[[0, 2]].tobytes() == theirs[[0, 2]].tobytes()


def test_many_classes():
    # So many that blocks are as wide as groups of columns; one class is longer than a part.
    rng = np.random.default_rng(7)
    for num_classes, dim, longest in [(1056, 130, 70), (2112, 1, 2**16 + 100)]:
        labels = np.repeat([0, 3, 4, num_classes - 1], [longest, 31, 32, 33])
        labels = rng.permutation(labels)
        features = rng.normal(size=(len(labels), dim)).astype(np.float32)
        expected, actual = state(num_classes, dim), state(num_classes, dim)
        add_on_host(features, labels, expected)
        add(features, labels, actual)
        seen = expected[0] > 0
        assert_array_equal(actual[0], expected[0])
        for mine, theirs in zip(actual[1:], expected[1:], strict=True):
            assert mine[seen].tobytes() == theirs[seen].tobytes()


@pytest.mark.parametrize("label", [-1, 2, 2**40])
def test_a_label_out_of_range_spoils_the_moments(label):
    # Refusing it would wait for the device; losing it would be silent.
    moments = state(2, 3)
    add(np.ones((3, 3), dtype=np.float32), np.array([0, label, 1]), moments)
    assert np.isnan(moments[2]).all()
    assert np.isnan(moments[3]).all()


def test_nan_stays_in_its_class():
    features = np.ones((4, 3), dtype=np.float32)
    features[2, 1] = np.nan
    moments = state(2, 3)
    add(features, np.array([0, 0, 1, 1]), moments)
    assert_array_equal(moments[2], [[0, 0, 0], [0, np.nan, 0]])
    assert_array_equal(moments[3], [0, np.nan])


def test_sums_by_class():
    rng = np.random.default_rng(6)
    features, labels = rng.integers(-1000, 1000, 5000).astype(np.float64), rng.integers(0, 7, 5000)
    samples, starts = order(labels, 8)
    sums = np.empty(8)
    by_class = (5000, pointer(samples), pointer(starts))
    cuda.sums_by_class(pointer(features), by_class, 8, pointer(sums), 0, 0)
    assert_array_equal(sums, np.bincount(labels, weights=features, minlength=8))
