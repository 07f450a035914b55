"""Class moments of arrays on a device, on a device made of host memory."""

import contextlib
import copy
import pickle
import re
import sys
import threading

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

import fake_device
from fake_device import CUPY, TORCH
from infall import ClassMoments
from infall._arrays.blocks import blocks_of
from infall._arrays.locate import place_of
from infall.classes import within_projection

pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)


@pytest.fixture(autouse=True)
def _fake_cuda(monkeypatch):
    yield from fake_device.installed(monkeypatch)


both_libraries = pytest.mark.parametrize("library", [CUPY, TORCH], ids=["cupy", "torch"])


def raises(kind, text):
    return pytest.raises(kind, match=re.escape(text))


def samples(dtype=np.float32, count=120, num_classes=5, dim=9):
    rng = np.random.default_rng(1)
    labels = rng.integers(0, num_classes, count)
    features = rng.normal(size=(num_classes, dim))[labels] + 50.0
    return (features + 1e-3 * rng.normal(size=(count, dim))).astype(dtype), labels


@both_libraries
@pytest.mark.parametrize("number", [0, 1])
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("host_labels", [True, False])
def test_moments_are_those_of_the_host(library, number, dtype, host_labels):
    features, labels = samples(dtype)
    expected, actual = ClassMoments(6, 9, scatter=True), ClassMoments(6, 9, scatter=True)
    for batch in (slice(0, 50), slice(50, 51), slice(51, 51), slice(51, 120)):
        expected.update(features[batch], labels[batch])
        batch_labels = labels[batch] if host_labels else library.put(labels[batch], number)
        reported = []
        rows = library.put(features[batch], number)
        actual.update(rows, batch_labels, progress=lambda *p, reported=reported: reported.append(p))
        count = batch.stop - batch.start
        assert reported == ([(count, count, "samples")] if count else [])
    assert fake_device.synchronisations == []
    assert_array_equal(library.values(actual.counts, number), expected.counts)
    assert_array_equal(library.values(actual.means, number), expected.means)
    assert_array_equal(library.values(actual.variances, number), expected.variances)
    assert fake_device.synchronisations == []
    assert (actual.num_samples, actual.observed.tolist()) == (120, [0, 1, 2, 3, 4])
    for name in ("between_scatter", "within_scatter"):
        mine, theirs = library.values(getattr(actual, name), number), getattr(expected, name)
        assert_allclose(mine, theirs, rtol=0, atol=1e-13 * theirs.max())
    assert_array_equal(
        library.values(actual.centred_means("samples"), number), expected.centred_means("samples")
    )
    assert_array_equal(library.values(actual.global_mean(), number), expected.global_mean())
    assert repr(actual) == repr(expected)


@both_libraries
def test_projection(library):
    features, labels = samples()
    directions = np.random.default_rng(2).normal(size=(9, 3))
    host, device = ClassMoments(6, 9), ClassMoments(6, 9)
    host.update(features, labels)
    device.update(library.put(features), labels)
    expected = within_projection(features, labels, host, directions)
    for given_labels, given in (
        (labels, directions),
        (library.put(labels), library.put(directions)),
    ):
        sums = within_projection(library.put(features), given_labels, device, given)
        assert_allclose(library.values(sums), expected, rtol=1e-11)
    with raises(TypeError, "moments is in host memory, features is not"):
        within_projection(library.put(features), labels, host, directions)
    with raises(ValueError, "directions has shape (4, 3); expected (9, r)"):
        within_projection(library.put(features), labels, device, directions[:4])


@both_libraries
def test_places_are_merged_and_saved(library, tmp_path):
    features, labels = samples()
    whole, host, device = (ClassMoments(6, 9, scatter=True) for _ in range(3))
    whole.update(features, labels)
    host.update(features[:70], labels[:70])
    device.update(library.put(features[70:]), labels[70:])
    device.save(tmp_path / "moments")
    loaded = ClassMoments.load(tmp_path / "moments")
    assert_array_equal(loaded.means, device.to_host().means)
    device.merge(host)
    assert_allclose(library.values(device.means), whole.means, rtol=1e-14)
    host.merge(loaded)
    assert_allclose(host.variances, whole.variances, rtol=1e-10)
    scale = whole.within_scatter.max()
    assert_allclose(host.within_scatter, whole.within_scatter, rtol=0, atol=1e-11 * scale)
    merged = library.values(device.within_scatter)
    assert_allclose(merged, whole.within_scatter, rtol=0, atol=1e-11 * scale)
    device.update(library.put(features), library.put(labels))
    assert device.num_samples == 240


@both_libraries
def test_what_does_not_belong_is_refused(library):
    features, labels = samples()
    moments = ClassMoments(6, 9)
    with raises(TypeError, "features has dtype complex128; expected real numbers"):
        moments.update(library.put(np.ones((3, 9), dtype=complex)), [0, 1, 2])
    with raises(ValueError, "features has 4 columns; expected 9"):
        moments.update(library.put(features[:, :4]), labels)
    with raises(ValueError, "features has 1 axes; expected shape (N, d)"):
        moments.update(library.put(features[0]), labels)
    with raises(ValueError, "labels is 6 at position 1; expected 0 <= label < 6"):
        moments.update(library.put(features[:2]), [0, 6])
    with raises(ValueError, "labels has shape (3,); expected (120,), one per sample"):
        moments.update(library.put(features), library.put(labels[:3]))
    with raises(TypeError, "labels has dtype float64; expected integers"):
        moments.update(library.put(features), library.put(labels.astype(float)))
    assert moments.num_samples == 0
    moments.update(library.put(features), labels)
    with raises(TypeError, "features is in host memory, the moments in memory of cuda:0"):
        moments.update(features, labels)
    with raises(TypeError, "features is in memory of cuda:1"):
        moments.update(library.put(features, 1), labels)
    with raises(TypeError, "labels is in memory of cuda:1"):
        moments.update(library.put(features), library.put(labels, 1))
    named = ClassMoments(2, 9, classes=["a", "b"])
    named.update(library.put(features[:3]), ["b", "a", "b"])
    assert named.to_host().counts.tolist() == [1, 2]
    with raises(TypeError, "labels is in device memory; names are looked up in host memory"):
        named.update(library.put(features[:3]), library.put(labels[:3]))
    host = ClassMoments(6, 9)
    host.update(features, labels)
    with raises(TypeError, "the moments in host memory; expected both in one place"):
        host.update(library.put(features), labels)


@both_libraries
def test_only_what_is_shown_is_copied(library):
    features, labels = samples()
    moments = ClassMoments(6, 9, scatter=True)
    moments.update(library.put(features), library.put(labels))
    fake_device.copied.clear()
    assert moments.num_samples == 120
    assert moments.observed.tolist() == [0, 1, 2, 3, 4]
    assert repr(moments) == "ClassMoments(6, 9, scatter=True: 120 samples of 5 classes)"
    assert fake_device.copied == 3 * [6 * 8]  # the counts
    fake_device.copied.clear()
    assert library.values(moments.counts).sum() == 120
    assert sys.getsizeof(moments) > 6 * 9 * 12 + 9 * 9 * 8
    assert fake_device.copied == []


def state_of(moments, library, number=0):
    if not isinstance(moments.counts, library.array_type):
        assert moments.num_samples == 0
        return None
    names = ("counts", "means", "variances", "within_scatter")
    return [library.values(getattr(moments, name), number).tobytes() for name in names]


@both_libraries
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt])
@blocks_of(50 * 9)
def test_a_failed_update_changes_nothing(library, fresh, error):
    features, labels = samples(np.float64)
    moments = ClassMoments(6, 9, scatter=True)
    expected = ClassMoments(6, 9, scatter=True)
    for either in (moments, expected):
        for _ in range(0 if fresh else 3):
            either.update(library.put(samples()[0]), library.put(labels))
    rows, class_numbers = library.put(features), library.put(labels)
    before, failures = state_of(moments, library), 0
    while True:
        # One allocation after the other fails, wherever it is made.
        with fake_device.failing_after(failures, error) as failed, contextlib.suppress(error):
            moments.update(rows, class_numbers)
        if not failed:
            break
        failures += 1
        assert state_of(moments, library) == before
    assert failures > 10
    expected.update(rows, class_numbers)
    assert state_of(moments, library) == state_of(expected, library)


@both_libraries
def test_an_update_that_progress_stops_changes_nothing(library):
    features, labels = samples()
    moments = ClassMoments(6, 9, scatter=True)

    def stop(*_):
        raise RuntimeError("enough")

    for _ in range(2):
        before = state_of(moments, library)
        with raises(RuntimeError, "enough"):
            moments.update(library.put(features), labels, progress=stop)
        assert state_of(moments, library) == before
        moments.update(library.put(features), labels)
    moments.reset()
    host = ClassMoments(6, 9, scatter=True)
    for either in (moments, host):
        either.update(features, labels)  # in host memory, where nothing failed before
    assert moments.means.tobytes() == host.means.tobytes()


@both_libraries
@pytest.mark.parametrize("dtype", ["float16", "float64", "int32", "uint8", "bool"])
@blocks_of(50 * 9)
def test_any_layout_and_dtype(library, dtype):
    rng = np.random.default_rng(0)
    features, labels = rng.integers(0, 2, (120, 9)).astype(dtype), rng.integers(0, 5, 120)
    expected = ClassMoments(6, 9, scatter=True)
    expected.update(features, labels)
    for layout in (features, np.asfortranarray(features), np.repeat(features, 2, axis=1)[:, ::2]):
        moments = ClassMoments(6, 9, scatter=True)
        moments.update(library.put(layout), library.put(labels))
        assert fake_device.synchronisations == []
        assert_array_equal(library.values(moments.counts), expected.counts)
        assert_array_equal(library.values(moments.means), expected.means)
        assert_allclose(library.values(moments.variances), expected.variances, rtol=1e-14)
        projected = within_projection(library.put(layout), labels, moments, np.eye(9)[:, :2])
        assert_allclose(
            library.values(projected),
            within_projection(features, labels, expected, np.eye(9)[:, :2]),
            rtol=1e-13,
        )
        fake_device.synchronisations.clear()


@both_libraries
def test_copies_and_pickles(library):
    features, labels = samples()
    moments = ClassMoments(6, 9, scatter=True)
    for _ in range(2):
        moments.update(library.put(features), labels)
    before = state_of(moments, library)
    copied = copy.copy(moments)
    assert state_of(copied, library) == before
    for _ in range(2):
        copied.update(library.put(features), labels)
    assert state_of(moments, library) == before
    restored = pickle.loads(pickle.dumps(moments))
    assert restored.means.tobytes() == library.values(moments.means).tobytes()


@both_libraries
def test_threads_leave_the_device_that_they_made_current(library):
    device, _ = place_of(library.put(np.ones(3), 1), "x")
    inside, leave = threading.Barrier(2), threading.Event()

    def enter():
        with device:
            with device:
                inside.wait()
                leave.wait()
            inside.wait()
            assert fake_device.current_device[-1] == 1
        ended.append(fake_device.current_device == [0])

    ended, thread = [], threading.Thread(target=enter)
    thread.start()
    with device:
        inside.wait()
        leave.set()
        inside.wait()
    thread.join()
    assert ended == [True]


@both_libraries
def test_bad_values_spoil_but_do_not_wait(library):
    features, labels = samples()
    features[3, 2] = np.nan
    moments = ClassMoments(6, 9)
    moments.update(library.put(features), labels)
    spoilt = np.isnan(library.values(moments.means))
    assert spoilt[:5].sum() == 1
    assert spoilt[labels[3], 2]
    moments = ClassMoments(6, 9)
    moments.update(library.put(samples()[0]), library.put(np.where(labels == 2, 7, labels)))
    assert np.isnan(library.values(moments.means)).all()
    assert fake_device.synchronisations == []
