"""Class moments: against two float64 passes, bit for bit across batches, threads and ISA levels."""

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infall
import reference
from infall import ClassMoments, _core
from infall.classes import within_projection
from interrupts import LIMIT, seconds_after_interrupt

pytestmark = pytest.mark.sanitize

ISAS = _core.available_isas()


def raises(kind, text):
    return pytest.raises(kind, match=re.escape(text))


def collapsed(num_samples, num_classes, dim, *, noise, offset, dtype=np.float32, seed=0):
    """Features at `noise` around class means that share an offset, rounded to dtype."""
    rng = np.random.default_rng(seed)
    labels = rng.integers(0, num_classes, num_samples)
    means = rng.normal(size=(num_classes, dim)) + offset
    return (means[labels] + noise * rng.normal(size=(num_samples, dim))).astype(dtype), labels


def in_batches(features, labels, num_classes, size, **settings):
    moments = ClassMoments(num_classes, features.shape[1], **settings)
    for start in range(0, len(features), size):
        moments.update(features[start : start + size], labels[start : start + size])
    return moments


def bits(moments, *names):
    names = names or ("counts", "means", "variances", "within_scatter", "between_scatter")
    return [getattr(moments, name).tobytes() for name in names]


@pytest.mark.parametrize("offset", [0.0, 100.0])
@pytest.mark.parametrize("noise", [1e-1, 1e-3, 1e-5, 1e-7])
@pytest.mark.parametrize("how", ["whole", "batches of 1", "batches of 7", "merged"])
def test_digits_survive_collapse(noise, offset, how):
    features, labels = collapsed(1500, 6, 37, noise=noise, offset=offset)
    if how == "merged":
        moments = ClassMoments(6, 37, scatter=True)
        for part in np.array_split(np.arange(len(features)), 4):
            moments.merge(in_batches(features[part], labels[part], 6, 100, scatter=True))
    else:
        size = {"whole": 1500, "batches of 1": 1, "batches of 7": 7}[how]
        moments = in_batches(features, labels, 6, size, scatter=True)
    counts, means, variances, within = reference.class_moments(features, labels, 6)
    assert (moments.counts == counts).all()
    np.testing.assert_allclose(moments.means, means, rtol=1e-14)
    # The reference rounds its means, and so has this much error itself.
    rounding = 37 * (np.finfo(float).eps * (offset + 1)) ** 2
    np.testing.assert_allclose(moments.variances, variances, rtol=1e-12, atol=rounding)
    np.testing.assert_allclose(moments.within_scatter, within, rtol=0, atol=1e-13 * within.max())


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
@pytest.mark.parametrize("dim", [1, 2, 7, 8, 9, 127, 128, 129, 300, 1025])
def test_dtypes_and_widths(dtype, dim):
    features, labels = collapsed(200, 5, dim, noise=0.3, offset=2.0, dtype=dtype)
    moments = in_batches(features, labels, 5, 64, scatter=True)
    _, means, variances, within = reference.class_moments(features, labels, 5)
    np.testing.assert_allclose(moments.means, means, rtol=1e-13)
    np.testing.assert_allclose(moments.variances, variances, rtol=1e-12)
    np.testing.assert_allclose(moments.within_scatter, within, rtol=0, atol=1e-13 * within.max())
    between = np.cov(means, rowvar=False, bias=True).reshape(dim, dim)
    np.testing.assert_allclose(moments.between_scatter, between, rtol=0, atol=1e-13 * between.max())


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("num_threads", [1, 3])
@pytest.mark.parametrize("dim", [5, 130, 1100])
def test_bits_do_not_depend_on_threads_or_instruction_set(isa, num_threads, dim, restore_isa):
    features, labels = collapsed(3000 if dim == 130 else 300, 4, dim, noise=0.3, offset=7.0)
    directions = np.random.default_rng(1).normal(size=(dim, 29))
    first = in_batches(features, labels, 4, 1000, scatter=True, num_threads=2)
    projected = within_projection(features, labels, first, directions, num_threads=2)
    _core.set_isa(isa)
    second = in_batches(features, labels, 4, 1000, scatter=True, num_threads=num_threads)
    assert bits(first) == bits(second)
    again = within_projection(features, labels, first, directions, num_threads=num_threads)
    assert projected.tobytes() == again.tobytes()


@pytest.mark.parametrize("isa", ISAS)
@pytest.mark.parametrize("dim", [1, 7, 23, 24, 25, 96, 97, 217])
@pytest.mark.parametrize("count", [1, 127, 128, 129, 700])
def test_products_are_summed_in_the_order_of_the_samples(isa, dim, count, restore_isa):
    rng = np.random.default_rng(dim)
    # Products of float32 numbers are exact in float64: each sum is then rounded once.
    features = rng.normal(size=(count, dim)).astype(np.float32)
    waiting = rng.normal(size=(count % 5, dim)).astype(np.float32).astype(np.float64)
    before = rng.normal(size=(dim, dim))
    expected = before.copy()
    for row in np.concatenate([waiting, features]):
        expected += np.outer(row, row)
    _core.set_isa(isa)
    for threads in (1, 2):
        sums, added = before.copy(), np.zeros((dim, dim))
        labels, shifts = np.arange(count) % 3, np.zeros((3, dim), np.float32)
        samples = (features, labels, shifts)
        _core.accumulate_deviations(waiting, *samples, before, added, threads)
        _core.accumulate_deviations(waiting, *samples, sums, sums, threads)
        for actual in (sums, added):
            np.testing.assert_array_equal(np.triu(actual), np.triu(expected))
        sums = before.copy()
        _core.accumulate_scatter(waiting, sums, threads)
        _core.accumulate_scatter(features.astype(np.float64), sums, threads)
        np.testing.assert_array_equal(np.triu(sums), np.triu(expected))


@settings(max_examples=40, deadline=None)
@given(cuts=st.lists(st.integers(0, 700), max_size=8), seed=st.integers(0, 100))
def test_bits_do_not_depend_on_batches(cuts, seed):
    features, labels = collapsed(700, 3, 11, noise=0.5, offset=1.0, seed=seed)
    whole = in_batches(features, labels, 3, 700, scatter=True)
    cut = ClassMoments(3, 11, scatter=True)
    for start, stop in zip([0, *sorted(cuts)], [*sorted(cuts), 700], strict=True):
        cut.update(features[start:stop], labels[start:stop])
    names = ("counts", "means", "within_scatter", "between_scatter")
    assert bits(whole, *names) == bits(cut, *names)
    np.testing.assert_allclose(whole.variances, cut.variances, rtol=1e-14)


@settings(max_examples=30, deadline=None)
@given(
    parts=st.lists(st.integers(0, 60), min_size=1, max_size=5),
    missing=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_merge_is_the_whole(parts, missing, seed):
    total = sum(parts)
    features, labels = collapsed(total, 4, 9, noise=1e-3, offset=50.0, seed=seed)
    whole = ClassMoments(5, 9, scatter=True)
    whole.update(features, labels)
    merged = ClassMoments(5, 9, scatter=True)
    ends = np.cumsum(parts)
    order = np.argsort(labels, kind="stable") if missing else np.arange(total)
    for start, stop in zip([0, *ends[:-1]], ends, strict=True):
        batch = order[start:stop]
        part = ClassMoments(5, 9, scatter=True)
        part.update(features[batch], labels[batch])
        before = bits(part, "counts", "means", "variances")
        merged.merge(part)
        assert bits(part, "counts", "means", "variances") == before
    assert (merged.counts == whole.counts).all()
    np.testing.assert_allclose(merged.means, whole.means, rtol=1e-13)
    np.testing.assert_allclose(merged.variances, whole.variances, rtol=1e-9, atol=1e-18)
    if total:
        scale = max(whole.within_scatter.max(), 1e-18)
        np.testing.assert_allclose(
            merged.within_scatter, whole.within_scatter, rtol=0, atol=1e-9 * scale
        )


def test_merge_of_float64_into_float32():
    features, labels = collapsed(400, 3, 6, noise=1e-12, offset=1.0, dtype=np.float64)
    first = in_batches(features[:200].astype(np.float32), labels[:200], 3, 200, scatter=True)
    second = in_batches(features[200:], labels[200:], 3, 200, scatter=True)
    first.merge(second)
    both = np.concatenate([features[:200].astype(np.float32).astype(np.float64), features[200:]])
    _, means, variances, within = reference.class_moments(both, labels, 3)
    np.testing.assert_allclose(first.means, means, rtol=1e-15)
    np.testing.assert_allclose(first.variances, variances, rtol=1e-9)
    np.testing.assert_allclose(first.within_scatter, within, rtol=0, atol=1e-9 * within.max())


def test_float64_features_keep_their_digits():
    features, labels = collapsed(400, 3, 6, noise=1e-11, offset=1.0, dtype=np.float64)
    moments = ClassMoments(3, 6)
    moments.update(features[:1].astype(np.float32), labels[:1])  # a float32 shift, widened
    moments.update(features[1:], labels[1:])
    exact = features.copy()
    exact[0] = features[0].astype(np.float32)
    _, _, variances, _ = reference.class_moments(exact, labels, 3)
    np.testing.assert_allclose(moments.variances, variances, rtol=1e-7)


def test_known_moments():
    moments = ClassMoments(4, 2, scatter=True)
    moments.update([[1.0, 0.0], [3.0, 0.0], [0.0, 5.0]], [2, 2, 0])
    assert moments.counts.tolist() == [1, 0, 2, 0]
    assert moments.observed.tolist() == [0, 2]
    assert moments.num_samples == 3
    np.testing.assert_array_equal(moments.means[[0, 2]], [[0.0, 5.0], [2.0, 0.0]])
    assert np.isnan(moments.means[[1, 3]]).all()
    np.testing.assert_array_equal(moments.variances, [0.0, np.nan, 1.0, np.nan])
    np.testing.assert_allclose(moments.within_scatter, [[2.0 / 3.0, 0.0], [0.0, 0.0]], rtol=1e-15)
    np.testing.assert_array_equal(moments.between_scatter, [[1.0, -2.5], [-2.5, 6.25]])
    np.testing.assert_array_equal(moments.global_mean(), [1.0, 2.5])
    np.testing.assert_allclose(moments.global_mean("samples"), [4.0 / 3.0, 5.0 / 3.0], rtol=1e-15)
    np.testing.assert_array_equal(moments.centred_means(), [[-1.0, 2.5], [1.0, -2.5]])
    assert repr(moments) == "ClassMoments(4, 2, scatter=True: 3 samples of 2 classes)"


def test_centred_means_do_not_cancel():
    rng = np.random.default_rng(3)
    spread = rng.integers(-(2**10), 2**10, size=(5, 8)) * 2.0**-20  # exact on top of 2**6
    features = np.repeat((2.0**6 + spread).astype(np.float64), 4, axis=0)
    moments = ClassMoments(5, 8)
    moments.update(features, np.repeat(np.arange(5), 4))
    np.testing.assert_allclose(
        moments.centred_means(), spread - spread.mean(axis=0), rtol=0, atol=1e-18
    )


@pytest.mark.parametrize("width", [1, 7, 8, 9, 16, 17, 24, 25, 50])
@pytest.mark.parametrize("dim", [3, 256, 300])
def test_within_projection(width, dim):
    features, labels = collapsed(333, 7, dim, noise=1e-3, offset=10.0)
    moments = in_batches(features, labels, 8, 333)
    directions = np.random.default_rng(2).normal(size=(dim, width))
    deviations = features.astype(np.float64) - moments.means[labels]
    expected = np.bincount(
        labels, weights=((deviations @ directions) ** 2).sum(axis=1), minlength=8
    )
    sums = within_projection(features, labels, moments, directions)
    np.testing.assert_allclose(sums, expected, rtol=1e-11)


def test_bfloat16():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    features, labels = collapsed(300, 3, 21, noise=0.3, offset=2.0)
    tensor = torch.from_numpy(features).to(torch.bfloat16)
    moments = ClassMoments(3, 21)
    moments.update(tensor, torch.from_numpy(labels))
    _, means, variances, _ = reference.class_moments(tensor.to(torch.float64).numpy(), labels, 3)
    np.testing.assert_allclose(moments.means, means, rtol=1e-13)
    np.testing.assert_allclose(moments.variances, variances, rtol=1e-12)


def test_bfloat16_bits(restore_isa):
    # As the arrays of ml_dtypes show them: a dtype of that name, two bytes wide.
    features, labels = collapsed(300, 3, 21, noise=0.3, offset=2.0)
    words = (features.view(np.uint32) >> 16).astype(np.uint16)
    widened = (words.astype(np.uint32) << 16).view(np.float32)
    for isa in ISAS:
        _core.set_isa(isa)
        counts, shifts, sums, squares = np.zeros(3, np.int64), *np.empty((2, 3, 21)), np.zeros(3)
        update = _core.MomentsUpdate(counts, shifts, sums, squares)
        update.add(words, labels, 1, None)
        assert update.first_nonfinite_class() == -1
        assert not counts.any()
        update.publish(1)
        means, _ = _core.class_means(counts, shifts, sums, np.zeros(21), True, False, 1)
        np.testing.assert_allclose(
            means, reference.class_moments(widened, labels, 3)[1], rtol=1e-13
        )


def test_layouts():
    features, labels = collapsed(100, 4, 12, noise=0.3, offset=2.0)
    expected = in_batches(features, labels, 4, 100)
    wide = np.zeros((200, 30), dtype=np.float32)
    wide[::2, 5:17] = features
    strided = in_batches(wide[::2, 5:17], labels.astype(np.uint8), 4, 100)
    assert bits(strided, "means", "variances") == bits(expected, "means", "variances")
    backwards = in_batches(features[::-1], labels[::-1], 4, 100)
    np.testing.assert_allclose(backwards.means, expected.means, rtol=1e-14)


def test_class_names():
    names = ["dog", "cat", "owl"]
    features, labels = collapsed(60, 3, 4, noise=0.3, offset=2.0)
    expected = in_batches(features, labels, 3, 60)
    for given_labels in (
        [names[i] for i in labels],
        np.array(names)[labels],
        np.array(names, dtype=object)[labels],
    ):
        moments = ClassMoments(3, 4, classes=names)
        moments.update(features, given_labels)
        assert bits(moments, "means") == bits(expected, "means")
    with raises(ValueError, "labels is 'bee' at position 2; expected one of classes"):
        moments.update(features[:4], ["dog", "cat", "bee", "ant"])
    with raises(ValueError, "labels is 'bee' at position 1"):
        moments.update(features[:3], np.array(["dog", "bee", "ant"]))
    pairs = ClassMoments(2, 4, classes=[("a", 1), ("b", 2)])
    pairs.update(features[:2], [("b", 2), ("a", 1)])
    assert pairs.counts.tolist() == [1, 1]
    with raises(ValueError, "classes has 2 names; expected 3"):
        ClassMoments(3, 4, classes=["a", "b"])
    with raises(ValueError, "classes[2] is 'a' a second time"):
        ClassMoments(3, 4, classes=["a", "b", "a"])
    with raises(TypeError, "classes[0] is [1], which is not hashable"):
        ClassMoments(1, 4, classes=[[1]])


NAN_ROW = np.ones((5, 3), dtype=np.float32)
NAN_ROW[3, 1] = np.nan
INF_ROW = np.ones((5, 3), dtype=np.float16)
INF_ROW[2, 2] = -np.inf
LABELS = [0, 1, 1, 0, 1]


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("fresh", [True, False])
@pytest.mark.parametrize(
    ("features", "labels", "kind", "text"),
    [
        (NAN_ROW, LABELS, ValueError, "features is not finite: nan at position (3, 1)"),
        (INF_ROW, LABELS, ValueError, "features is not finite: -inf at position (2, 2)"),
        (
            np.array([[1e300] * 3, [-1e300] * 3, [0.0] * 3, [0.0] * 3, [0.0] * 3]),
            [0] * 5,
            ValueError,
            "features overflows: the squares of class 0 do not fit into float64",
        ),
        (np.ones((5, 4)), LABELS, ValueError, "features has 4 columns; expected 3"),
        (np.ones(3), LABELS, ValueError, "features has 1 axes; expected shape (N, d)"),
        (np.asfortranarray(NAN_ROW), LABELS, ValueError, "features is not finite: nan at position"),
        (np.full((5, 3), 10.0, np.longdouble) ** 400, LABELS, ValueError, "features is not finite"),
        (np.ones((5, 3), dtype=complex), LABELS, TypeError, "features has dtype complex128"),
        (np.ones((5, 3), dtype=object), LABELS, TypeError, "features has dtype object"),
        (np.ma.ones((3, 5)).T, LABELS, TypeError, "features is a masked array"),
        (np.ones((5, 3)), [0, 1, 2, 0, 7], ValueError, "labels is 2 at position 2; expected 0 <="),
        (np.ones((5, 3)), [0, 1, -1, 0, 1], ValueError, "labels is -1 at position 2"),
        (np.ones((5, 3)), [0, 1], ValueError, "labels has shape (2,); expected (5,), one per"),
        (np.ones((5, 3)), np.zeros((5, 1), int), ValueError, "labels has shape (5, 1)"),
        (np.ones((5, 3)), [0.0, 1.5, 1.0, 0.0, 1.0], ValueError, "labels is 1.5 at position 1"),
        (np.ones((5, 3)), list("aabba"), TypeError, "labels has dtype <U1"),
    ],
)
def test_bad_updates_change_nothing(features, labels, kind, text, fresh, scatter):
    moments = ClassMoments(2, 3, scatter=scatter)
    if not fresh:
        moments.update(np.arange(12.0, dtype=np.float32).reshape(4, 3), [0, 1, 0, 1])
    names = ("counts", "means", "variances")
    before = bits(moments, *names)
    with raises(kind, text):
        moments.update(features, labels)
    assert bits(moments, *names) == before
    moments.update(np.eye(3, dtype=np.float32), [0, 1, 1])
    expected = ClassMoments(2, 3, scatter=scatter)
    if not fresh:
        expected.update(np.arange(12.0, dtype=np.float32).reshape(4, 3), [0, 1, 0, 1])
    expected.update(np.eye(3, dtype=np.float32), [0, 1, 1])
    np.testing.assert_array_equal(moments.means, expected.means)
    np.testing.assert_allclose(moments.variances, expected.variances, rtol=1e-14)
    if scatter:
        np.testing.assert_allclose(moments.within_scatter, expected.within_scatter, rtol=1e-14)


def test_an_interrupted_update_changes_nothing():
    features, labels = collapsed(60_000, 40, 256, noise=0.3, offset=2.0)
    moments = in_batches(features[:1000], labels[:1000], 50, 1000, scatter=True)
    before = bits(moments)

    def stop(done, total, _):
        assert 0 <= done <= total == 60_000
        raise RuntimeError("enough")

    with raises(RuntimeError, "enough"):
        moments.update(features, labels, progress=stop)
    assert bits(moments) == before
    moments.update(features[1000:2000], labels[1000:2000])
    expected = in_batches(features[:2000], labels[:2000], 50, 1000, scatter=True)
    assert bits(moments) == bits(expected)


def test_empty_batches_and_moments():
    moments = ClassMoments(3, 2, scatter=True)
    moments.update(np.empty((0, 2)), [])
    assert moments.num_samples == 0
    for read in ("within_scatter", "between_scatter"):
        with raises(ValueError, "there are no samples yet"):
            getattr(moments, read)
    with raises(ValueError, "there are no samples yet"):
        moments.centred_means()
    with raises(ValueError, "within_scatter was not kept"):
        _ = ClassMoments(3, 2).within_scatter


def test_bad_settings():
    with raises(ValueError, "num_classes is 0"):
        ClassMoments(0, 3)
    with raises(TypeError, "num_features is 2.0"):
        ClassMoments(3, 2.0)
    with raises(TypeError, "scatter is 1; expected True or False"):
        ClassMoments(3, 2, scatter=1)
    with raises(ValueError, f"num_classes is {2**39}; {2**39} means of {2**31} do not fit"):
        ClassMoments(2**39, 2**31)


def test_merge_refuses_what_does_not_match():
    moments = ClassMoments(2, 3)
    with raises(TypeError, "other is a dict; expected ClassMoments"):
        moments.merge({})
    with raises(ValueError, "other has num_features 4; expected 3"):
        moments.merge(ClassMoments(2, 4))
    with raises(ValueError, "other has classes ['a', 'b']; expected None"):
        moments.merge(ClassMoments(2, 3, classes=["a", "b"]))
    with raises(ValueError, "other has no scatter"):
        ClassMoments(2, 3, scatter=True).merge(ClassMoments(2, 3))


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("names", [None, ["a", "b", "c", "d"], [7, -2, 5, 3]])
def test_save_and_load(tmp_path, scatter, names):
    features, labels = collapsed(300, 3, 8, noise=1e-6, offset=9.0)
    given_labels = labels if names is None else [names[i] for i in labels]
    moments = ClassMoments(4, 8, scatter=scatter, classes=names)
    moments.update(features[:299], given_labels[:299])
    moments.save(tmp_path / "moments")
    assert [p.name for p in tmp_path.iterdir()] == ["moments"]
    loaded = ClassMoments.load(tmp_path / "moments")
    kept = ("counts", "means", "variances", "between_scatter")
    kept += ("within_scatter",) if scatter else ()
    for either in (moments, loaded):
        either.update(features[299:], given_labels[299:])
    assert bits(loaded, *kept) == bits(moments, *kept)
    assert (loaded.classes, loaded.scatter) == (names, scatter)


def test_damaged_files(tmp_path):
    path = tmp_path / "moments"
    moments = ClassMoments(2, 3)
    moments.update(np.eye(3), [0, 1, 1])
    moments.save(path)
    members = dict(np.load(path))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with raises(ValueError, "is not a saved infall.ClassMoments, or a damaged one"):
        ClassMoments.load(path)
    for name, value, text in (
        ("format", np.array("other"), "is not a saved infall.ClassMoments"),
        ("version", np.array(99), "has format version 99, written by infall"),
        ("counts", np.array([1, 0]), "counts has a class without samples"),
        ("sums", np.full((2, 3), np.nan), "sums is not finite"),
        ("sums", np.zeros((2, 2)), "sums is float64 of shape (2, 2)"),
        ("observed", np.array([1, 0]), "observed is not an ascending list"),
        ("within", np.zeros((3, 3)), "within is float64 of shape (3, 3)"),
    ):
        np.savez(tmp_path / "damaged.npz", **{**members, name: value})
        with raises(ValueError, text):
            ClassMoments.load(tmp_path / "damaged.npz")
    with raises(TypeError, "classes can be saved if they are all text or all integers"):
        ClassMoments(2, 3, classes=["a", 1]).save(tmp_path / "mixed")


def test_projection_errors():
    moments = ClassMoments(3, 2)
    moments.update(np.eye(2), [0, 1])
    with raises(ValueError, "directions has shape (3, 1); expected (2, r)"):
        within_projection(np.eye(2), [0, 1], moments, np.ones((3, 1)))
    with raises(ValueError, "labels is 2 at position 1, a class without a mean"):
        within_projection(np.eye(2), [0, 2], moments, np.ones((2, 1)))
    with raises(ValueError, "features is not finite: nan at position (1, 0)"):
        within_projection([[0.0, 1.0], [np.nan, 1.0]], [0, 1], moments, np.ones((2, 1)))


def test_many_classes_few_samples():
    # Labels are sorted by comparison where counting classes would cost more.
    moments = ClassMoments(1_000_000, 2)
    labels = np.array([999_999, 5, 999_999, 0, 5])
    moments.update(np.arange(10.0).reshape(5, 2), labels)
    assert moments.observed.tolist() == [0, 5, 999_999]
    np.testing.assert_array_equal(moments.means[[0, 5, 999_999]], [[6, 7], [5, 6], [2, 3]])


def test_interrupt_is_honoured_within_a_fifth_of_a_second():
    features, labels = collapsed(4000, 10, 2048, noise=0.3, offset=2.0)
    moments = in_batches(features[:100], labels[:100], 10, 100)
    before = bits(moments, "means")
    many = np.lib.stride_tricks.as_strided(
        features, (4000 * 300, 2048), (0, features.strides[1]), writeable=False
    )  # one row, again and again: long work on little memory
    zeros = np.zeros(len(many), dtype=np.int64)
    assert seconds_after_interrupt(lambda: moments.update(many, zeros)) < LIMIT
    assert bits(moments, "means") == before


def test_exported():
    assert infall.ClassMoments is ClassMoments
