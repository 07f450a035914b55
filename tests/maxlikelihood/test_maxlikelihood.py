"""MaxLikelihood networks against the literal algorithm and the exact law of their angles."""

import contextlib
import copy
import math
import pickle
import re
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from scipy import stats

import infall
import reference
from chance import plausible
from infall import MaxLikelihood, laws

pytestmark = pytest.mark.sanitize


def vector(dim, seed=0, batch=None):
    """Return a vector (dim,), or (batch, dim)."""
    return np.random.default_rng(seed).normal(size=dim if batch is None else (batch, dim))


@pytest.mark.parametrize("dim", [1, 3, 8, 17])
def test_layers_are_those_of_the_literal_algorithm(dim):
    width, depth, w = 2000, 5, vector(dim)
    model = MaxLikelihood(width, depth, seed=4).fit(7.0 * w)
    assert model.log_input_norm_ == pytest.approx(math.log(7.0 * np.linalg.norm(w)), rel=1e-14)
    current = w / np.linalg.norm(w)
    for number in range(depth):
        matrix = infall.gaussian_rows(np.arange(width), dim, seed=4, layer=number)
        indices, projections = reference.select_rows_literal(matrix, current, dim)
        by_index = np.argsort(indices)
        assert_array_equal(model.indices_[number], indices[by_index])
        assert_array_equal(model.layers_[number], matrix[indices[by_index]])
        np.testing.assert_allclose(model.scores_[number], projections[by_index], rtol=3e-6)
        output = matrix[indices[by_index]].astype(np.float64) @ current
        assert model.log_norms_[number] == pytest.approx(
            math.log(np.linalg.norm(output)), rel=1e-13
        )
        current = output / np.linalg.norm(output)
        np.testing.assert_allclose(model.outputs_[number], current, rtol=1e-13)


def test_fit_is_the_same_for_any_number_of_threads():
    for sampler in ("stream", "rotated", "order_statistics"):
        single_threaded = MaxLikelihood(5000, 4, sampler=sampler, num_threads=1).fit(vector(20))
        many = MaxLikelihood(5000, 4, sampler=sampler, num_threads=7).fit(vector(20))
        assert single_threaded == many


def test_the_threads_of_a_model_are_those_of_the_whole_fit(monkeypatch):
    # Whoever asked for the default would meet this.
    monkeypatch.setenv("INFALL_NUM_THREADS", "none")
    with pytest.raises(ValueError, match="INFALL_NUM_THREADS"):
        MaxLikelihood(500, 2).fit(vector(20))
    for sampler in ("stream", "rotated", "order_statistics"):
        MaxLikelihood(500, 2, sampler=sampler, num_threads=1).fit(vector(20))


def test_transform_and_angles_of_every_layer():
    model = MaxLikelihood(3000, 6).fit(vector(12))
    x = vector(12, seed=1, batch=9)
    everything = model.transform(x, layer=None)
    assert everything.shape == (7, 9, 12)
    expected = x / np.linalg.norm(x, axis=1, keepdims=True)
    for number in range(7):
        if number:
            expected = expected @ model.layers_[number - 1].astype(np.float64).T
            expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(everything[number], expected, rtol=1e-11, atol=1e-13)
        assert_array_equal(model.transform(x, layer=number), everything[number])
        fitted = model.outputs_[number - 1] if number else model.input_
        np.testing.assert_allclose(
            model.angle_scores(x, layer=number),
            reference.angle_over_pi(expected, fitted),
            rtol=1e-9,
            atol=1e-15,
        )
    assert_array_equal(model.transform(x), everything[6])
    assert_array_equal(model.transform(x, layer=-7), everything[0])
    assert model.angle_scores(x, layer=None).shape == (7, 9)
    assert model.angle_scores(x[0]).shape == ()
    assert model.transform(x[0]).shape == (12,)
    assert_array_equal(model.transform(x[3]).shape, (12,))
    np.testing.assert_allclose(model.transform(model.input_, layer=None)[1:], model.outputs_)


def test_angles_hold_to_1e_12_after_collapse():
    # Two vectors a known small angle apart: the network multiplies its tangent, so that a binary32
    # transform would long have floored it. Compared with the same network in extended precision.
    model = MaxLikelihood(2**16, 10, sampler="order_statistics").fit(vector(32))
    x = np.stack([model.input_ + 1e-4 * vector(32, 1), vector(32, 2), -vector(32, 3)])
    scores = model.angle_scores(x, layer=None)
    fitted = model.input_.astype(np.longdouble)
    current = x.astype(np.longdouble)
    for number in range(11):
        if number:
            layer = model.layers_[number - 1].astype(np.longdouble)
            current, fitted = current @ layer.T, layer @ fitted
        a = current / np.sqrt((current**2).sum(axis=1, keepdims=True))
        b = fitted / np.sqrt((fitted**2).sum())
        current, fitted = a, b
        difference = np.sqrt(((a - b) ** 2).sum(axis=1))
        total = np.sqrt(((a + b) ** 2).sum(axis=1))
        exact = 2 * np.arctan2(difference, total) / np.longdouble(np.pi)
        assert np.abs(scores[number] - exact.astype(np.float64)).max() < 1e-12


def test_losses_and_likelihoods():
    model = MaxLikelihood(2**14, 8).fit(vector(16))
    x = vector(16, 5, batch=400)
    theta = model.angle_scores(x)
    to_zero, to_one = model.pole_distances(x)
    assert_array_equal(to_zero, theta)
    np.testing.assert_allclose(to_one, 1 - theta, atol=1e-15)
    assert_array_equal(model.loss(x, correlated=True), theta)
    assert_array_equal(model.loss(x), to_one)
    np.testing.assert_allclose(model.nll(x), laws.binary_entropy(theta), rtol=1e-6)
    # x and -x end on opposite poles, at the same distance.
    flipped_zero, flipped_one = model.pole_distances(-x)
    np.testing.assert_allclose(flipped_one, to_zero, rtol=1e-9, atol=1e-16)
    np.testing.assert_allclose(flipped_zero, to_one, rtol=1e-9, atol=1e-16)
    # Half of the samples go to each side, so the mean loss does not move; the likelihood does.
    assert plausible(stats.binomtest(int((theta < 0.5).sum()), 400).pvalue)
    nll = model.nll(x, layer=None).mean(axis=1)
    assert (np.diff(nll) < 0).all()


@pytest.mark.slow
@pytest.mark.parametrize("sampler", ["stream", "rotated", "order_statistics"])
def test_angles_follow_the_angle_chain(sampler):
    # One test vector at 60 degrees, a network per seed, against the exact law, layer by layer.
    dim, depth, width, samples = 6, 4, 300, 1200
    w = np.eye(dim)[0]
    x = 0.5 * np.eye(dim)[0] + math.sqrt(0.75) * np.eye(dim)[1]
    actual = np.array(
        [
            MaxLikelihood(width, depth, seed=seed, sampler=sampler, num_threads=1)
            .fit(w)
            .angle_scores(x, layer=None)
            for seed in range(samples)
        ]
    )
    exact = laws.angle_chain(
        math.pi / 3, width, dim, depth, size=4000, rng=np.random.default_rng(0)
    )
    np.testing.assert_allclose(actual[:, 0], 1 / 3, rtol=1e-12)
    for number in range(1, depth + 1):
        assert plausible(stats.ks_2samp(actual[:, number] * math.pi, exact[number]).pvalue)


def test_angles_are_radians_and_scores_are_their_share_of_a_half_turn():
    model = MaxLikelihood(3000, 4).fit(vector(7))
    x = vector(7, 1, batch=20)
    angles = model.angles(x, layer=None)
    np.testing.assert_allclose(angles[0], laws.angle(x, model.input_), rtol=1e-14)
    np.testing.assert_allclose(angles[-1], laws.angle(model.transform(x), model.outputs_[-1]))
    assert_array_equal(model.angle_scores(x, layer=None), angles / math.pi)
    assert model.angle_scores(np.eye(7)[1]) <= 1.0
    assert MaxLikelihood(10, 1).fit([1.0, 0.0]).angle_scores([0.0, 1.0], layer=0) == 0.5


def test_no_vectors_give_no_results():
    model = MaxLikelihood(300, 4).fit(vector(7))
    nothing = np.empty((0, 7))
    assert model.transform(nothing).shape == (0, 7)
    assert model.transform(nothing, layer=None).shape == (5, 0, 7)
    for measure in (model.angles, model.angle_scores, model.loss, model.nll):
        assert measure(nothing).shape == (0,)
        assert measure(nothing, layer=None).shape == (5, 0)
    with pytest.raises(ValueError, match=r"X has vectors of length 0: shape \(3, 0\)"):
        model.transform(np.empty((3, 0)))
    with pytest.raises(ValueError, match="w has 2 axes"):
        model.fit(nothing)


def test_layer_components_in_log_space():
    model = MaxLikelihood(2**20, 6, sampler="order_statistics").fit(3.0 * vector(10))
    norms = np.exp(model.log_input_norm_ + np.cumsum(model.log_norms_))
    heights = 2.0 * np.arange(1, 7)
    np.testing.assert_allclose(
        model.layer_components(c=2.0), heights / np.hypot(heights, norms), rtol=1e-12
    )
    deep = MaxLikelihood(2**20, 400, sampler="order_statistics").fit(vector(10))
    components = deep.layer_components()
    assert np.isfinite(components).all()
    assert (components[:100] > 0).all()
    for bad in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="c is"):
            model.layer_components(bad)
    for bad in ("a", True, None):
        with pytest.raises(TypeError, match="c is"):
            model.layer_components(bad)
    assert np.isfinite(model.layer_components(1e308)).all()


def test_progress_and_failure_leave_the_model_as_it_was():
    seen = []
    model = MaxLikelihood(20000, 3).fit(vector(8), progress=lambda *at: seen.append(at))
    assert {stage for _, _, stage in seen} == {f"layer {n} of 3" for n in (1, 2, 3)}
    assert seen == sorted(seen)
    assert all(done <= total == 60000 for done, total, _ in seen)
    assert seen[-1][0] == 60000
    before = pickle.dumps(model)

    def stop(done, total, stage):
        if stage == "layer 2 of 3":
            raise RuntimeError("stop")

    with pytest.raises(RuntimeError, match="stop"):
        model.fit(vector(8, seed=9), progress=stop)
    with pytest.raises(ValueError, match="not finite"):
        model.fit([1.0, np.nan])
    assert pickle.dumps(model) == before


def test_a_fit_that_is_interrupted_anywhere_is_whole_or_did_not_happen():
    # An exception at every line that `fit` runs in its own package, one after the other.
    package = str(Path(MaxLikelihood.fit.__code__.co_filename).parent)
    old, new = (MaxLikelihood(60, 2).fit(vector(3, seed)) for seed in (0, 1))
    states = set()

    def interrupted_at(line):
        model, lines = copy.copy(old), iter(range(10**6))

        def trace(frame, event, _):
            if not frame.f_code.co_filename.startswith(package):
                return None
            if event == "line" and next(lines) == line:
                raise KeyboardInterrupt
            return trace

        before = sys.gettrace()
        sys.settrace(trace)
        try:
            model.fit(vector(3, 1))
        except KeyboardInterrupt:
            return model, True
        finally:
            sys.settrace(before)
        return model, False

    interrupted, line = True, 0
    while interrupted:
        model, interrupted = interrupted_at(line)
        assert model in (old, new), line
        states.add(model == new)
        line += 1
    assert line > 30
    assert states == {False, True}


def test_threads_see_one_fit_from_beginning_to_end():
    x, fits = vector(40, 9, batch=30), [vector(40, seed) for seed in (0, 1)]
    expected = [MaxLikelihood(400, 3, num_threads=1).fit(w) for w in fits]
    model = copy.copy(expected[0])
    scores = [other.angle_scores(x, layer=None) for other in expected]
    failures, done = [], threading.Event()

    def check(look):
        try:
            while not done.is_set():
                if not look():
                    failures.append(look)
                    done.set()
        except BaseException as error:
            failures.append(error)
            raise

    def same_scores():
        actual = model.angle_scores(x, layer=None)
        return any(np.array_equal(actual, each) for each in scores)

    looks = (
        same_scores,
        lambda: pickle.loads(pickle.dumps(model)) in expected,
        lambda: MaxLikelihood.from_state_dict(model.state_dict()) in expected,
        lambda: "fitted to k=40" in repr(model) and model.layer_components().shape == (3,),
    )
    threads = [threading.Thread(target=check, args=(look,)) for look in looks]
    for thread in threads:
        thread.start()
    for number in range(40):
        model.fit(fits[number % 2])
    done.set()
    for thread in threads:
        thread.join()
    assert failures == []


def test_parameters_and_fits_cannot_be_set():
    model = MaxLikelihood(100, 3, seed=4, sampler="rotated", num_threads=2, device="cpu")
    for fitted in (False, True):
        for name in ("width", "depth", "seed", "sampler", "num_threads", "device", "layers_"):
            before = getattr(model, name, None)
            with pytest.raises(AttributeError, match=f"{name} cannot be set: make a new model"):
                setattr(model, name, 10)
            assert getattr(model, name, None) is before or fitted
        model.fit(np.ones(3))
    assert model.layers_.shape == (3, 3, 3)


def copies_of(model):
    """Return a model as it comes out of every way to store it."""
    buffers = []
    stored = pickle.dumps(model, 5, buffer_callback=buffers.append)
    return [
        copy.copy(model),
        copy.deepcopy(model),
        *(pickle.loads(pickle.dumps(model, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)),
        pickle.loads(stored, buffers=[bytes(buffer) for buffer in buffers]),  # read-only memory
    ]


def test_models_are_pickled_and_copied_with_all_parameters():
    x = vector(30, 1)
    model = MaxLikelihood(100, 3, seed=4, sampler="rotated", num_threads=2, device="cpu")
    for _ in range(2):  # not fitted, fitted
        for other in copies_of(model):
            assert other == model
            assert repr(other) == repr(model)
            assert (other.num_threads, other.device) == (2, "cpu")
        model.fit(vector(30))
    for other in copies_of(model):
        assert_array_equal(other.angles(x), model.angles(x))
        assert other.fit(x) == MaxLikelihood(100, 3, seed=4, sampler="rotated").fit(x)
    assert model == MaxLikelihood(100, 3, seed=4, sampler="rotated").fit(vector(30))


def test_models_in_memory_maps(tmp_path):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    model = MaxLikelihood(100, 3).fit(vector(30))
    joblib.dump(model, tmp_path / "model")
    mapped = joblib.load(tmp_path / "model", mmap_mode="r")
    assert isinstance(mapped.layers_, np.memmap)
    assert mapped == model
    assert_array_equal(mapped.nll(vector(30, 2)), model.nll(vector(30, 2)))
    mapped.save(tmp_path / "saved")
    assert MaxLikelihood.load(tmp_path / "saved") == model


def test_the_state_of_a_model_is_plain():
    model = MaxLikelihood(2**63 - 1, 2, seed=2**64 - 1, sampler="order_statistics").fit(vector(5))
    state = model.state_dict()
    assert {type(value) for value in state.values()} == {np.ndarray, int, str}
    assert state["layers_"] is model.layers_
    assert MaxLikelihood.from_state_dict({**state, "other": 3}) == model
    for value in state.values():
        if isinstance(value, np.ndarray):
            value.flags.writeable = False
    assert MaxLikelihood.from_state_dict(state) == model
    with pytest.raises(ValueError, match="state is damaged: 'seed' is missing"):
        MaxLikelihood.from_state_dict({k: v for k, v in state.items() if k != "seed"})
    with pytest.raises(ValueError, match="state has format 'x'; expected"):
        MaxLikelihood.from_state_dict({**state, "format": "x"})
    with pytest.raises(TypeError, match="state is a int; expected a mapping"):
        MaxLikelihood.from_state_dict(5)
    with pytest.raises(RuntimeError, match="not fitted"):
        MaxLikelihood(10, 2).state_dict()


def test_the_size_of_a_model_is_that_of_its_arrays():
    model = MaxLikelihood(3000, 4)
    assert sys.getsizeof(model) < 2000
    model.fit(vector(200))
    num_bytes = 4 * 200 * (200 * 4 + 3 * 8) + 4 * 8 + 200 * 8
    assert num_bytes < sys.getsizeof(model) < num_bytes + 2000


@settings(max_examples=10, deadline=None, derandomize=True)
@given(
    st.integers(30, 2**63 - 1),
    st.integers(1, 3),
    st.integers(1, 20),
    st.integers(0, 2**64 - 1),
)
def test_save_and_load_round_trip(tmp_path_factory, width, depth, dim, seed):
    model = MaxLikelihood(width, depth, seed=seed, sampler="order_statistics").fit(vector(dim))
    path = tmp_path_factory.mktemp("model") / "model"
    model.save(path)
    loaded = MaxLikelihood.load(path)
    assert loaded == model
    assert_array_equal(loaded.layers_, model.layers_)
    assert loaded.layers_.dtype == np.float32
    assert pickle.loads(pickle.dumps(model)) == model
    assert repr(loaded) == repr(model)


def test_a_saved_file_has_the_mode_and_name_of_any_other(tmp_path):
    other = tmp_path / "other"
    other.write_text("")
    path = tmp_path / ("m" * 250)
    MaxLikelihood(50, 1).fit(vector(4)).save(path)
    assert path.stat().st_mode == other.stat().st_mode
    assert sorted(p.name for p in tmp_path.iterdir()) == ["m" * 250, "other"]


def test_equality_and_repr():
    model = MaxLikelihood(500, 2).fit(vector(4))
    assert model == MaxLikelihood(500, 2).fit(vector(4))
    assert model != MaxLikelihood(500, 2).fit(vector(4, seed=1))
    assert model != MaxLikelihood(500, 2)
    assert MaxLikelihood(500, 2) == MaxLikelihood(500, 2)
    assert MaxLikelihood(500, 2) != MaxLikelihood(500, 2, seed=1)
    assert model != "model"
    assert repr(model) == (
        "MaxLikelihood(width=500, depth=2, seed=0, sampler='stream', fitted to k=4)"
    )
    assert "not fitted" in repr(MaxLikelihood(500, 2))


def test_damaged_and_foreign_files_are_refused_by_name(tmp_path):
    path = tmp_path / "model.npz"
    MaxLikelihood(500, 2).fit(vector(4)).save(path)
    whole = path.read_bytes()
    damaged = tmp_path / "damaged.npz"
    for length in (0, 1, 10, len(whole) // 2, len(whole) - 1):
        damaged.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=re.escape(str(damaged))):
            MaxLikelihood.load(damaged)
    foreign = tmp_path / "foreign.npz"
    np.savez(foreign, a=np.ones(3))
    with pytest.raises(ValueError, match=re.escape(f"{foreign} is not a saved infall.MaxLikel")):
        MaxLikelihood.load(foreign)
    array = tmp_path / "array.npy"
    np.save(array, np.ones(3))
    with pytest.raises(ValueError, match=re.escape(str(array))):
        MaxLikelihood.load(array)
    with np.load(path) as file:
        content = dict(file)
    ones, rows = np.ones((2, 4, 4), np.float32), content["indices_"]
    for change, text in (
        ({"version": np.array(99)}, "format version 99"),
        ({"version": np.array(1.0)}, "version is float64"),
        ({"version": np.array("one")}, "version is <U3"),
        ({"layers_": ones[:, :, :3]}, r"layers_ is float32 of shape \(2, 4, 3\)"),
        ({"layers_": np.ones((2, 4, 4), np.int8)}, "layers_ is int8"),
        ({"layers_": np.full((2, 4, 4), np.nan, np.float32)}, "layers_ is not finite"),
        ({"width": np.array(500.7)}, "width is float64"),
        ({"width": np.array([1, 2])}, r"width is int64 of shape \(2,\)"),
        ({"width": np.array(2**63, np.uint64)}, "width is 9223372036854775808"),
        ({"width": np.array(3)}, "width is 3, less than the 4 rows"),
        ({"seed": np.array(-1)}, "seed is -1"),
        ({"sampler": np.array("x")}, "sampler is 'x'"),
        ({"log_input_norm_": np.array(np.nan)}, "log_input_norm_ is not finite"),
        ({"layers_": np.ones(3)}, r"layers_ has shape \(3,\)"),
        ({"outputs_": np.ones(3)}, r"outputs_ is float64 of shape \(3,\)"),
        ({"scores_": None}, "'scores_' is missing"),
        (
            {"indices_": rows - rows.min() - 1},
            "indices_ has rows outside of 0 <= row < width = 500",
        ),
        ({"indices_": rows + 500}, "indices_ has rows outside of 0 <= row < width = 500"),
        ({"indices_": rows[:, ::-1]}, "indices_ has rows repeated or out of order"),
        ({"indices_": np.zeros_like(rows)}, "indices_ has rows repeated or out of order"),
        ({"indices_": rows[::-1]}, "has rows that are not those of its layer"),
        ({"layers_": 0.0 * ones}, r"scores_\[0\] is not what the layer makes"),
        ({"layers_": 1.5 * content["layers_"]}, r"scores_\[0\] is not what the layer makes"),
        ({"scores_": 0.0 * content["scores_"]}, r"scores_\[0\] is not what the layer makes"),
        ({"outputs_": 7.0 * content["outputs_"]}, r"outputs_\[0\] is not what the layer makes"),
        ({"outputs_": content["outputs_"][::-1]}, r"outputs_\[0\] is not what the layer makes"),
        ({"log_norms_": content["log_norms_"] + 1e-6}, r"log_norms_\[0\] is not what"),
        ({"input_": 2.0 * content["input_"]}, "input_ is not of unit length"),
        ({"seed": np.array(1)}, "has rows that are not those of its layer"),
        ({"version": None}, "damaged"),
    ):
        changed = {k: v for k, v in {**content, **change}.items() if v is not None}
        np.savez(foreign, **changed)
        with pytest.raises(ValueError, match=text) as raised:
            MaxLikelihood.load(foreign)
        assert str(foreign) in str(raised.value)
    for position in range(0, len(whole), 97):  # one damaged byte
        damaged.write_bytes(whole[:position] + bytes([whole[position] ^ 8]) + whole[position + 1 :])
        with contextlib.suppress(ValueError):
            assert MaxLikelihood.load(damaged) == MaxLikelihood.load(path)
    with pytest.raises(FileNotFoundError):
        MaxLikelihood.load(tmp_path / "none.npz")


def test_unwritable_path_keeps_nothing_half_done(tmp_path):
    model = MaxLikelihood(500, 2).fit(vector(4))
    with pytest.raises(FileNotFoundError):
        model.save(tmp_path / "nowhere" / "model.npz")
    (tmp_path / "folder").mkdir()
    with pytest.raises(IsADirectoryError, match="folder"):
        model.save(tmp_path / "folder")
    assert [p.name for p in tmp_path.iterdir()] == ["folder"]


@pytest.mark.parametrize(
    ("arguments", "kind", "text"),
    [
        ((0, 2), ValueError, "width is 0"),
        ((2**63, 2), OverflowError, "width is 9223372036854775808"),
        ((10, 0), ValueError, "depth is 0"),
        ((10, 1.5), TypeError, "depth is 1.5"),
    ],
)
def test_bad_parameters(arguments, kind, text):
    with pytest.raises(kind, match=re.escape(text)):
        MaxLikelihood(*arguments)


def test_bad_calls():
    model = MaxLikelihood(10, 2)
    with pytest.raises(ValueError, match="sampler is 'x'"):
        MaxLikelihood(10, 2, sampler="x")
    with pytest.raises(ValueError, match="seed is -1"):
        MaxLikelihood(10, 2, seed=-1)
    for call in (model.transform, model.angles, model.angle_scores, model.loss, model.nll):
        with pytest.raises(RuntimeError, match="not fitted"):
            call(np.ones(3))
    for c in (1.0, "a"):
        with pytest.raises(RuntimeError, match="not fitted"):
            model.layer_components(c)
    with pytest.raises(RuntimeError, match="not fitted"):
        model.save("nothing")
    with pytest.raises(ValueError, match="w has length 11; expected at most width = 10"):
        model.fit(np.ones(11))
    with pytest.raises(ValueError, match="w has 2 axes"):
        model.fit(np.ones((2, 3)))
    model.fit(np.ones(3))
    with pytest.raises(ValueError, match="X has 4 columns; expected 3"):
        model.transform(np.ones(4))
    with pytest.raises(ValueError, match=r"X\[1\] is zero"):
        model.transform([[1.0, 2, 3], [0, 0, 0]])
    with pytest.raises(ValueError, match="layer is 3; expected -3 <= layer < 3"):
        model.transform(np.ones(3), layer=3)
    for correlated in ("no", 0, None):
        with pytest.raises(TypeError, match=r"correlated is .*; expected True or False"):
            model.loss(np.ones(3), correlated=correlated)
    with pytest.raises(TypeError, match="layer is 'last'"):
        model.angle_scores(np.ones(3), layer="last")
