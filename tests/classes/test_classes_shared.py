"""Class moments that several threads use, that are interrupted, copied, pickled and restored."""

import contextlib
import copy
import io
import os
import pickle
import random
import re
import signal
import sys
import threading

import numpy as np
import pytest
from scipy import stats

from chance import plausible
from infall import ClassMoments, _core, classes
from infall._arrays import files
from infall._arrays.blocks import blocks_of
from infall.collapse import collapse_report
from interrupts import LIMIT, SANITIZED, seconds_after_interrupt

pytestmark = pytest.mark.sanitize

PARTS = ("counts", "means", "variances")


def raises(kind, text):
    return pytest.raises(kind, match=re.escape(text))


def samples(count=4000, num_classes=10, dim=64, seed=0, dtype=np.float32):
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)).astype(dtype), rng.integers(0, num_classes, count)


def moments_of(features, labels, num_classes=10, **settings):
    moments = ClassMoments(num_classes, features.shape[1], **settings)
    moments.update(features, labels)
    return moments


def bits(moments):
    names = (*PARTS, "within_scatter") if moments.scatter else PARTS
    return [np.asarray(getattr(moments, name)).tobytes() for name in names]


def run(*calls):
    """Run calls at once, each in a thread of its own; raise what they raise."""
    start, errors = threading.Barrier(len(calls)), []

    def work(call):
        start.wait()
        try:
            call()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120.0)
        assert not thread.is_alive(), "the threads wait for each other"
    for error in errors:
        raise error


# Threads ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("dtypes", [(np.float32,) * 4, (np.float32, np.float64) * 2])
def test_threads_that_feed_one_object(scatter, dtypes):
    parts = [samples(dim=200, seed=seed, dtype=dtype) for seed, dtype in enumerate(dtypes)]
    shared, alone = ClassMoments(10, 200, scatter=scatter), ClassMoments(10, 200, scatter=scatter)

    def feed(moments, features, labels):
        for start in range(0, len(features), 200):
            moments.update(features[start : start + 200], labels[start : start + 200])

    run(*(lambda part=part: feed(shared, *part) for part in parts))
    for part in parts:
        feed(alone, *part)
    np.testing.assert_array_equal(shared.counts, alone.counts)
    # In another order: up to eps for each of 1700 samples, which differ by less than 10.
    rounding = 1700 * np.finfo(np.float64).eps * 10
    np.testing.assert_allclose(shared.means, alone.means, rtol=0, atol=rounding)
    np.testing.assert_allclose(shared.variances, alone.variances, rtol=rounding)
    if scatter:
        np.testing.assert_allclose(
            shared.within_scatter, alone.within_scatter, rtol=0, atol=10 * rounding
        )


def test_readers_see_the_state_before_or_after_a_change(tmp_path):
    features, labels = samples(2000, dim=300)
    moments, states, done = ClassMoments(10, 300, scatter=True), [], threading.Event()
    single = ClassMoments(10, 300, scatter=True)
    for _ in range(12):
        states.append(single.counts.tobytes())
        single.update(features, labels)
    states.append(single.counts.tobytes())
    mean, scatter = single.means, single.within_scatter

    def change():
        try:
            for number in range(12):
                moments.update(features, labels)
                if number == 6:
                    moments.merge(ClassMoments(10, 300, scatter=True))
        finally:
            done.set()

    def read():
        while not done.is_set():
            assert moments.counts.tobytes() in states
            for seen in (moments, copy.copy(moments), pickle.loads(pickle.dumps(moments))):
                if seen.num_samples:
                    np.testing.assert_allclose(seen.means, mean, rtol=0, atol=1e-12)
                    np.testing.assert_allclose(seen.within_scatter, scatter, rtol=0, atol=1e-12)

    def save():
        while not done.is_set():
            moments.save(tmp_path / "moments")
            seen = ClassMoments.load(tmp_path / "moments")
            assert seen.counts.tobytes() in states

    run(change, read, read, save)
    np.testing.assert_allclose(moments.means, mean, rtol=0, atol=1e-12)
    assert moments.counts.tobytes() == states[-1]


def test_moments_that_are_merged_into_each_other():
    features, labels = samples(500)
    first, second = (moments_of(features, labels, scatter=True) for _ in range(2))
    expected, empty = copy.copy(first), [ClassMoments(10, 64, scatter=True) for _ in range(2)]

    def merge_often(mine, other):
        for _ in range(200):
            mine.merge(other)

    run(lambda: merge_often(*empty), lambda: merge_often(*empty[::-1]))
    run(lambda: first.merge(second), lambda: second.merge(first), lambda: first.counts)
    # Each adds what the other has at the time: the sizes are left open, the moments are not.
    assert {first.num_samples, second.num_samples} in ({1000}, {1000, 1500})
    for moments in (first, second):
        np.testing.assert_allclose(moments.means, expected.means, rtol=0, atol=1e-12)
        np.testing.assert_allclose(moments.variances, expected.variances, rtol=1e-12)


@pytest.mark.parametrize("scatter", [False, True])
def test_moments_that_are_merged_into_themselves(scatter):
    features, labels = samples()
    moments = moments_of(features, labels, scatter=scatter)
    before = copy.copy(moments)
    moments.merge(moments)
    np.testing.assert_array_equal(moments.counts, 2 * before.counts)
    np.testing.assert_allclose(moments.means, before.means, rtol=1e-14)
    np.testing.assert_allclose(moments.variances, before.variances, rtol=1e-14)
    if scatter:
        np.testing.assert_allclose(moments.within_scatter, before.within_scatter, atol=1e-14)


def test_progress_may_read_but_not_change():
    features, labels = samples()
    moments = moments_of(features, labels, scatter=True)
    before, seen = bits(moments), []
    moments.update(features, labels, progress=lambda *_: seen.append(bits(moments)))
    assert seen
    assert all(state == before for state in seen)
    after = bits(moments)
    for change in (
        lambda *_: moments.update(features, labels),
        lambda *_: moments.merge(moments),
        lambda *_: moments.reset(),
    ):
        with raises(RuntimeError, "progress must not change the moments that report it"):
            moments.update(features, labels, progress=change)
        assert bits(moments) == after
    moments.update(features, labels)  # and is free again


def test_labels_that_another_thread_writes_into():
    features, labels = samples(60_000, dim=8)
    labels[:] = 0
    done = threading.Event()

    def write():
        while not done.is_set():
            labels[:] = 2**40
            labels[:] = 0

    def feed():
        try:
            for _ in range(60):
                moments = ClassMoments(10, 8)
                with contextlib.suppress(ValueError):  # of a label out of range
                    moments.update(features, labels)
                assert moments.counts.tolist() in ([60_000] + 9 * [0], 10 * [0])
        finally:
            done.set()

    run(write, feed)


def test_features_that_another_thread_writes_into():
    features, labels = samples(20_000, dim=16)
    done = threading.Event()

    def write():
        while not done.is_set():
            features[:] = np.nan
            features[:] = 1.0

    def feed():
        try:
            for _ in range(40):
                moments = ClassMoments(10, 16)
                with contextlib.suppress(ValueError):  # of a feature that is not finite
                    moments.update(features, labels)
                assert moments.num_samples == 0 or np.isfinite(moments.variances).all()
        finally:
            done.set()

    run(write, feed)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork on this system")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_process_that_is_forked_during_a_change():
    features, labels = samples(3000, dim=256)
    moments, done = ClassMoments(10, 256, scatter=True), threading.Event()

    def change():
        while not done.is_set():
            moments.update(features, labels)
            assert moments.means.shape == (10, 256)

    thread = threading.Thread(target=change)
    thread.start()
    try:
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(60)  # rather than wait for a lock for ever
                whole = moments.num_samples % 3000 == 0
                moments.update(features, labels)
                moments.merge(moments)
                means = moments_of(features, labels).means
                right = np.allclose(moments.means, means, rtol=0, atol=1e-12)
                os._exit(0 if whole and right else 1)
            assert os.waitpid(child, 0)[1] == 0
    finally:
        done.set()
        thread.join()


# Interrupts ---------------------------------------------------------------------------------------


class Interrupted:
    """A MomentsUpdate in which a signal arrives while a method works: Python answers at its end."""

    method = "publish"

    def __init__(self, *arrays):
        self._update = MOMENTS_UPDATE(*arrays)

    def __getattr__(self, name):
        def call(*arguments):
            result = getattr(self._update, name)(*arguments)
            if name == self.method:
                raise KeyboardInterrupt
            return result

        return call


MOMENTS_UPDATE = _core.MomentsUpdate


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("method", ["add", "first_nonfinite_class", "publish"])
@pytest.mark.parametrize("fresh", [True, False])
def test_an_interrupt_at_the_end_of_a_kernel(scatter, method, fresh, monkeypatch):
    features, labels = samples(1000)
    moments = ClassMoments(12, 64, scatter=scatter)
    if not fresh:
        moments.update(features[:100], labels[:100])
    before = [getattr(moments, name).tobytes() for name in PARTS]
    expected = copy.copy(moments)
    expected.update(features, labels)
    monkeypatch.setattr(_core, "MomentsUpdate", Interrupted)
    monkeypatch.setattr(Interrupted, "method", method)
    with pytest.raises(KeyboardInterrupt):
        moments.update(features, labels)
    assert [getattr(moments, name).tobytes() for name in PARTS] == before
    monkeypatch.undo()
    moments.update(features, labels)
    assert bits(moments) == bits(expected)


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("operation", ["update", "strided update", "merge"])
def test_interrupts_at_any_time(scatter, operation):
    features, labels = samples(3000, num_classes=300)
    wide = np.repeat(features, 2, axis=1)[:, ::2] if operation == "strided update" else features
    base = moments_of(features, labels, 300, scatter=scatter)
    other = moments_of(features[::-1], labels, 300, scatter=scatter)

    def change(moments):
        if operation == "merge":
            moments.merge(other)
        else:
            moments.update(wide, labels)

    moments = copy.copy(base)
    change(moments)
    before, after, armed = bits(base), bits(moments), False

    def interrupt(*_):
        if armed:
            raise KeyboardInterrupt

    random.seed(0)
    handler, interrupted, retried = signal.signal(signal.SIGALRM, interrupt), 0, 0
    try:
        for _ in range(200):
            moments, completed = copy.copy(base), False
            try:
                signal.setitimer(signal.ITIMER_REAL, 1e-6 + 5e-3 * random.random())
                armed = True
                change(moments)
                completed, armed = True, False
            except KeyboardInterrupt:
                armed = False
                interrupted += 1
            signal.setitimer(signal.ITIMER_REAL, 0.0)
            state = bits(moments)
            assert state in (before, after)
            assert not completed or state == after
            retried += not completed and state == after
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0.0)
        signal.signal(signal.SIGALRM, handler)
    assert interrupted > 0
    # Python may raise between the exchange and the return: 25 us as measured, of which 20 copy the
    # classes' sums; 50 us allowed, of the 5 ms that interrupts fall into.
    if not SANITIZED:
        assert plausible(stats.binom.sf(retried - 1, 200, 50e-6 / 5e-3))


def test_a_thread_that_is_stopped_at_any_time():
    import ctypes

    features, labels = samples(3000, num_classes=300)
    base = moments_of(features, labels, 300, scatter=True)
    after = copy.copy(base)
    after.update(features, labels)
    states = bits(base), bits(after)
    random.seed(1)
    for _ in range(30):
        moments, started = copy.copy(base), threading.Event()

        def work(moments=moments, started=started):
            try:
                started.set()
                moments.update(features, labels)
            except SystemExit:
                pass

        thread = threading.Thread(target=work)
        thread.start()
        started.wait()
        done = threading.Event()
        done.wait(3e-3 * random.random())
        ctypes.pythonapi.PyThreadState_SetAsyncExc(
            ctypes.c_ulong(thread.ident), ctypes.py_object(SystemExit)
        )
        thread.join()
        assert bits(moments) in states
        moments.update(features, labels)  # no lock is left behind


# State --------------------------------------------------------------------------------------------


def read_only(moments):
    """The object as it is unpickled from memory that nobody may write to."""
    buffers = []
    pickled = pickle.dumps(moments, protocol=5, buffer_callback=buffers.append)
    assert buffers
    return pickle.loads(pickled, buffers=[bytes(buffer) for buffer in buffers])


def mapped(moments, folder):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    joblib.dump(moments, folder / "moments")
    return joblib.load(folder / "moments", mmap_mode="r")


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("names", [None, [("pair", i) for i in range(10)]])
@pytest.mark.parametrize("missing", [False, True])
def test_pickles_and_copies(scatter, names, missing, tmp_path):
    features, labels = samples(300)
    labels = np.maximum(labels, 3) if missing else labels
    given = labels if names is None else [names[i] for i in labels]
    moments = moments_of(features, given, scatter=scatter, classes=names)
    whole, expected = bits(moments), copy.deepcopy(moments)
    expected.update(features, given)
    report = collapse_report(moments)
    restored = [pickle.loads(pickle.dumps(moments, protocol)) for protocol in range(2, 6)]
    restored += [copy.copy(moments), copy.deepcopy(moments), read_only(moments)]
    restored += [mapped(moments, tmp_path)]
    for each in restored:
        assert bits(each) == whole
        assert type(each.means) is type(each.counts) is np.ndarray
        assert (each.scatter, each.classes, each.num_threads) == (scatter, names, None)
        assert repr(collapse_report(each)) == repr(report)
        each.merge(ClassMoments(10, 64, scatter=scatter, classes=names))
        assert bits(each)[0] == whole[0]
        each.update(features, given)
        assert bits(each) == bits(expected)
    assert bits(moments) == whole
    again = mapped(moments, tmp_path)
    again.update(features, given)
    assert bits(mapped(moments, tmp_path)) == whole  # the file as well


def test_reset():
    features, labels = samples()
    moments = moments_of(features.astype(np.float64), labels, scatter=True)
    moments.reset()
    assert repr(moments) == "ClassMoments(10, 64, scatter=True: 0 samples of 0 classes)"
    moments.update(features, labels)
    assert bits(moments) == bits(moments_of(features, labels, scatter=True))
    assert sys.getsizeof(moments) == sys.getsizeof(moments_of(features, labels, scatter=True))


def test_size():
    features, labels = samples(dim=500, dtype=np.float32)
    moments = moments_of(features, labels)
    assert 10 * 500 * 12 < sys.getsizeof(moments) < 10 * 500 * 12 + 2000
    moments.update(features.astype(np.float64), labels)
    assert 10 * 500 * 16 < sys.getsizeof(moments) < 10 * 500 * 16 + 2000
    with_scatter = moments_of(features, labels, scatter=True)
    assert sys.getsizeof(with_scatter) > 500 * 500 * 8 + 10 * 500 * 12


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("names", [None, list("abcdefghij"), list(range(5, 15))])
def test_state_dict(scatter, names):
    features, labels = samples(300)
    given = labels if names is None else [names[i] for i in labels]
    moments = moments_of(features, given, scatter=scatter, classes=names)
    state = moments.state_dict()
    assert all(isinstance(part, (np.ndarray, int, str)) for part in state.values())
    stored = io.BytesIO()
    np.savez(stored, **state)  # in whatever format
    stored.seek(0)
    for stored_state in (state, {name: np.array(part) for name, part in np.load(stored).items()}):
        restored = ClassMoments.from_state_dict(stored_state)
        assert bits(restored) == bits(moments)
        assert restored.classes == names
    restored.update(features, given)
    state["sums"][:] = 0.0
    assert bits(ClassMoments.from_state_dict(moments.state_dict())) == bits(moments)
    del state["sums"]
    with raises(ValueError, "state is damaged: sums is missing"):
        ClassMoments.from_state_dict(state)
    with raises(ValueError, "state has format None; expected 'infall.ClassMoments'"):
        ClassMoments.from_state_dict({})
    with raises(TypeError, "state is a list; expected a mapping"):
        ClassMoments.from_state_dict([])


@pytest.mark.parametrize(
    ("part", "change", "text"),
    [
        ("counts", lambda a: a + 2**62, "counts has 2**63 samples or more"),
        ("counts", lambda a: a * 0, "counts has a class without samples"),
        ("counts", lambda a: a.astype(np.int32), "counts is int32"),
        ("squares", lambda a: -a, "squares has negative sums of squares"),
        ("squares", lambda a: a * np.nan, "squares is not finite"),
        ("shifts", lambda a: a * np.inf, "shifts is not finite"),
        ("shifts", lambda a: a[:, :5], "shifts is float32 of shape (10, 5)"),
        ("within", lambda a: a * np.nan, "within is not finite"),
        ("within", np.triu, "within is not symmetric"),
        ("observed", lambda a: a[::-1].copy(), "observed is not an ascending list of classes"),
        ("observed", lambda a: a + 1, "observed is not an ascending list of classes"),
        ("observed", lambda a: a[0], "observed is int64 of shape ()"),
        ("num_classes", lambda a: 10**14, "num_classes is 100000000000000"),
        ("num_classes", lambda a: 10**12, "there is not memory enough"),
        ("num_classes", lambda a: 2.0, "num_classes is float64 of shape (); expected an integer"),
        ("scatter", lambda a: 1, "scatter is int64 of shape ()"),
        ("scatter", lambda a: False, "within is float64 of shape (64, 64)"),
        ("classes", lambda a: np.arange(3), "classes has 3 names; expected 10"),
    ],
)
def test_states_that_cannot_be(part, change, text, tmp_path):
    state = moments_of(*samples(), scatter=True).state_dict()
    state[part] = change(state.get(part))
    with raises(ValueError, f"state is damaged: {text}"):
        ClassMoments.from_state_dict(state)
    files.save(tmp_path / "x", "infall.ClassMoments", 1, state)
    with raises(ValueError, f"{tmp_path / 'x'} is damaged: {text}"):
        ClassMoments.load(tmp_path / "x")


# Layouts and ranges -------------------------------------------------------------------------------


def layouts(features):
    """Features (N, d) in other layouts, byte orders and containers."""
    wide = np.zeros((len(features), 3 * features.shape[1]), dtype=features.dtype)
    wide[:, ::3] = features
    shifted = np.frombuffer(b"x" + features.tobytes(), dtype=np.uint8)[1:]
    return {
        "C": features,
        "Fortran": np.asfortranarray(features),
        "strided": wide[:, ::3],
        "reversed": np.ascontiguousarray(features[:, ::-1])[:, ::-1],
        "other byte order": features.astype(features.dtype.newbyteorder()),
        "not aligned": shifted.view(features.dtype).reshape(features.shape),
        "list": features.tolist(),
    }


@pytest.mark.parametrize("layout", sorted(layouts(np.eye(2))))
@pytest.mark.parametrize("scatter", [False, True])
def test_any_layout(layout, scatter):
    features, labels = samples(2000, dtype=np.float64)
    given = layouts(features)[layout]
    actual, expected = (
        ClassMoments(10, 64, scatter=scatter),
        moments_of(features, labels, scatter=scatter),
    )
    reported = []
    with blocks_of(700 * 64):
        actual.update(given, labels, progress=lambda *part: reported.append(part))
    assert reported[-1] == (2000, 2000, "samples")
    assert actual.counts.tobytes() == expected.counts.tobytes()
    assert actual.means.tobytes() == expected.means.tobytes()
    np.testing.assert_allclose(actual.variances, expected.variances, rtol=1e-14)
    if scatter:
        assert actual.within_scatter.tobytes() == expected.within_scatter.tobytes()
    directions = np.random.default_rng(1).normal(size=(64, 5))
    along = classes.within_projection(given, labels, actual, directions)
    assert (
        along.tobytes() == classes.within_projection(features, labels, actual, directions).tobytes()
    )
    before = bits(actual)
    if layout != "list":
        spoilt = np.array(given, order="K", copy=True, subok=True)
        spoilt[1801, 7] = np.nan
        with raises(ValueError, "features is not finite: nan at position (1801, 7)"):
            actual.update(spoilt, labels)
        assert bits(actual) == before


@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u1", "i2", "u2", ">i4", "u4", "i8", "u8", "f2", ">f2", "f4", "f8", "g"]
)
def test_any_dtype(dtype):
    features = np.random.default_rng(0).integers(0, 2 if dtype == "?" else 100, (500, 9))
    labels = np.arange(500) % 4
    moments = moments_of(features.astype(dtype), labels, 4)
    expected = moments_of(features.astype(np.float64), labels, 4)
    assert bits(moments) == bits(expected)


def test_bfloat16_in_any_layout():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    features, labels = samples()
    tensor = torch.from_numpy(features).to(torch.bfloat16)
    expected = bits(moments_of(tensor, labels))
    assert bits(moments_of(tensor.T.contiguous().T, labels)) == expected
    ml_dtypes = pytest.importorskip("ml_dtypes", reason="ml_dtypes is not installed")
    array = features.astype(ml_dtypes.bfloat16)
    assert bits(moments_of(array, labels)) == expected
    assert bits(moments_of(np.asfortranarray(array), labels)) == expected
    jax = pytest.importorskip("jax", reason="JAX is not installed")
    assert bits(moments_of(jax.numpy.asarray(array), labels)) == expected


@pytest.mark.parametrize("scatter", [False, True])
def test_merge_refuses_what_update_refuses(scatter):
    far = np.full((2, 3), 1e160)
    first, second = (ClassMoments(2, 3, scatter=scatter) for _ in range(2))
    first.update(far, [0, 1])
    second.update(-far, [0, 1])
    before = bits(first), bits(second)
    with raises(ValueError, "features overflows: the squares of class 0 do not fit into float64"):
        first.update(-far, [0, 1])
    with raises(ValueError, "other overflows: the squares of class 0 do not fit into float64"):
        first.merge(second)
    assert (bits(first), bits(second)) == before
    state = first.state_dict()
    state["counts"][:] = 2**61
    huge = ClassMoments.from_state_dict(state)
    with raises(OverflowError, f"other has {2**62} samples, these {2**62}"):
        huge.merge(huge)
    assert huge.num_samples == 2**62


@pytest.mark.slow
@pytest.mark.parametrize("scatter", [False, True])
def test_a_merge_answers_interrupts_within_a_fifth_of_a_second(scatter):
    num_classes, dim = (2000, 2048) if scatter else (60_000, 1024)
    features = np.ones((num_classes, 1), dtype=np.float32).repeat(dim, axis=1)
    first, second = (
        moments_of(features + shift, np.arange(num_classes), num_classes, scatter=scatter)
        for shift in (0, 1)
    )
    before = first.counts.tobytes()
    assert seconds_after_interrupt(lambda: forever(first.merge, second), after=0.1) < LIMIT
    assert first.counts.tobytes() != before or first.num_samples == num_classes


def forever(merge, other):
    while True:
        merge(other)
