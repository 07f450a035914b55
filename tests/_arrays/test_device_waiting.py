"""On a device nothing waits for it but what asks for a value on the host."""

import copy
import pickle
import sys

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fake_device
import infall
from fake_device import CUPY, TORCH, same, synchronisations, vector
from infall._arrays.locate import place_of

pytest.importorskip(
    "infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only (make test)"
)

SAMPLERS = ("stream", "rotated", "order_statistics")
both_libraries = pytest.mark.parametrize("library", [CUPY, TORCH], ids=["cupy", "torch"])


@pytest.fixture(autouse=True)
def _fake_cuda(monkeypatch):
    yield from fake_device.installed(monkeypatch)


def same_model(model, expected):
    for name in ("layers_", "outputs_", "log_norms_", "indices_", "scores_", "input_"):
        mine, theirs = getattr(model, name), getattr(expected, name)
        assert type(mine) is np.ndarray
        assert mine.dtype == theirs.dtype
        assert_array_equal(mine, theirs, err_msg=name)
    assert model.log_input_norm_ == expected.log_input_norm_


# What is queued -----------------------------------------------------------------------------------


@both_libraries
def test_no_function_of_rows_waits(library):
    w, batch = library.put(vector(5)), library.put(vector(5, 3))
    for sampler in SAMPLERS:
        selection = infall.select_rows(w, 1000, sampler=sampler)
        assert "RowSelection" in repr(selection)
        selection.regenerate(w)
    for sampler in SAMPLERS[:2]:
        infall.select_rows(batch, 1000, sampler=sampler, score="signed", order="score")
    infall.select_rows_from(batch, library.put(vector(5, 300).astype(np.float32)))
    infall.select_rows(library.put(np.full(3, 1.7e308)), 1000)
    codes = infall.hyperplane_codes(batch, 64)
    infall.hamming_distances(codes, codes)
    infall.gaussian_rows(library.put(np.array([3, -1])), 4)
    assert synchronisations == []


@both_libraries
def test_values_are_not_searched(library):
    x = vector(5, 30)
    x[11, 3], x[12] = np.nan, 0.0
    codes = library.values(infall.hyperplane_codes(library.put(x), 64))
    sound = np.delete(np.arange(30), [11, 12])
    assert_array_equal(codes[sound], infall.hyperplane_codes(x[sound], 64))
    model = infall.MaxLikelihood(500, 2).fit(np.ones(5))
    likelihoods = library.values(model.nll(library.put(x)))
    np.testing.assert_allclose(likelihoods[sound], model.nll(x[sound]), rtol=1e-9)
    assert 0.0 <= library.values(model.nll(library.put(model.input_), layer=0)) < 1e-13
    transformed = library.values(model.transform(library.put(x)))
    assert_array_equal(np.isnan(transformed).any(axis=1), np.isin(np.arange(30), [11, 12]))
    assert synchronisations == []


@both_libraries
def test_the_stand_ins_notice_what_waits(library):
    # Otherwise the tests above could not fail.
    x = library.put(vector(3))
    device = place_of(x, "x")[0]
    for wait in (
        lambda: bool(x[0]),
        lambda: float(x[0]),
        lambda: x[x > 0.0],
        lambda: device.download(x),
        lambda: device.recorded().synchronize(),
    ):
        synchronisations.clear()
        with device:
            wait()
        assert synchronisations
    if library is TORCH:
        synchronisations.clear()
        sys.modules["torch"].from_numpy(vector(3)).to("cuda:0", non_blocking=True)
        assert synchronisations == ["an upload from pageable memory"]


# Vectors without a direction ----------------------------------------------------------------------


@both_libraries
@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf, 0.0])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("width", [3, 5000])
def test_a_vector_without_a_direction_selects_nothing(library, bad, sampler, width):
    w = np.zeros(3)
    w[1] = bad
    for order in ("index", "score"):
        selection = infall.select_rows(library.put(w), width, sampler=sampler, order=order)
        assert (library.values(selection.indices) == -1).all()
        for name in ("projections", "unit_projections", "rows"):
            assert np.isnan(library.values(getattr(selection, name))).all(), name
    assert synchronisations == []


@both_libraries
@pytest.mark.parametrize("sampler", SAMPLERS[:2])
def test_the_other_vectors_of_a_batch_are_selected_for(library, sampler):
    w = vector(4, 6)
    w[1, 2], w[4] = np.nan, 0.0
    sound = [0, 2, 3, 5]
    selection = infall.select_rows(library.put(w), 3000, sampler=sampler)
    for name in ("indices", "projections", "rows"):
        on_host = library.values(getattr(selection, name))
        missing = on_host == -1 if name == "indices" else np.isnan(on_host)
        assert missing[[1, 4]].all(), name
        assert not missing[sound].any(), name
    rows = library.values(selection.rows)[sound].astype(np.float64)
    products = np.einsum("bij,bj->bi", rows, w[sound])
    np.testing.assert_allclose(
        library.values(selection.projections)[sound], products, rtol=1e-5, atol=1e-5
    )
    if sampler == "stream":
        expected = infall.select_rows(w[sound], 3000)
        assert_array_equal(library.values(selection.indices)[sound], expected.indices)
        assert_array_equal(library.values(selection.projections)[sound], expected.projections)


@both_libraries
@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_a_matrix_gives_no_rows_for_such_a_vector(library, dtype):
    matrix = vector(4, 200).astype(dtype)
    w = vector(4, 3)
    w[1, 0] = np.inf
    selection = infall.select_rows_from(library.put(w), library.put(matrix))
    rows = library.values(selection.rows)
    assert rows.dtype == dtype
    assert np.isnan(rows[1]).all()
    assert np.isnan(library.values(selection.projections)[1]).all()
    assert_array_equal(library.values(selection.indices)[1], -1)
    assert_array_equal(rows[::2], matrix[library.values(selection.indices)[::2]])


@both_libraries
def test_rows_of_negative_numbers_are_not_a_number(library):
    rows = library.values(infall.gaussian_rows(library.put(np.array([3, -1, -(2**63), 4])), 5))
    assert_array_equal(np.isnan(rows).all(axis=1), [False, True, True, False])
    assert_array_equal(rows[::3], infall.gaussian_rows([3, 4], 5))


# Models -------------------------------------------------------------------------------------------


@both_libraries
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_fit_is_queued_and_fetched_when_it_is_looked_at(library, sampler):
    w, x = vector(6) * 1e200, vector(6, 9)
    expected = infall.MaxLikelihood(3000, 3, sampler=sampler).fit(w)
    model = infall.MaxLikelihood(3000, 3, sampler=sampler).fit(library.put(w, 1))
    measures = ("transform", "angle_scores", "loss", "nll")
    actual = [
        library.values(getattr(model, name)(library.put(x, 1), layer), 1)
        for name in measures
        for layer in (None, 0, 2, -1)
    ]
    assert "fitted to k=6" in repr(model)
    assert synchronisations == []
    for on_host, (name, layer) in zip(
        actual, [(name, layer) for name in measures for layer in (None, 0, 2, -1)], strict=True
    ):
        np.testing.assert_allclose(
            on_host, getattr(expected, name)(x, layer), rtol=1e-12, atol=1e-14
        )
    assert model.layers_.shape == (3, 6, 6)
    assert synchronisations[0] == "an event"
    same_model(model, expected)
    synchronisations.clear()
    model.transform(library.put(x, 1))  # and after that the layers are copied there
    assert synchronisations == []


@both_libraries
@pytest.mark.parametrize("look", [pickle.dumps, copy.copy, lambda m: m == m, lambda m: m.input_])
def test_what_a_model_is_asked_for_is_fetched_once(library, look, monkeypatch):
    w = vector(6)
    expected = infall.MaxLikelihood(3000, 2).fit(w)
    model = infall.MaxLikelihood(3000, 2).fit(library.put(w))
    assert synchronisations == []
    look(model)
    assert synchronisations.count("an event") == 1
    same_model(model, expected)
    assert synchronisations.count("an event") == 1
    same_model(pickle.loads(pickle.dumps(model)), expected)


@both_libraries
def test_other_streams_and_devices_go_through_the_host(library, monkeypatch):
    w, x = vector(6), vector(6, 9)
    expected = infall.MaxLikelihood(3000, 2).fit(w)
    for number, stream in ((0, 0x77), (1, fake_device.current_streams[1])):
        model = infall.MaxLikelihood(3000, 2).fit(library.put(w))
        assert synchronisations == []
        with monkeypatch.context() as patch:
            patch.setitem(fake_device.current_streams, number, stream)
            actual = library.values(model.angle_scores(library.put(x, number)), number)
        np.testing.assert_allclose(actual, expected.angle_scores(x), rtol=1e-12)
        assert synchronisations.count("an event") == 1
        synchronisations.clear()


@both_libraries
def test_a_fit_on_the_host_or_again_replaces_a_queued_one(library):
    model = infall.MaxLikelihood(3000, 2).fit(library.put(vector(6)))
    model.fit(library.put(vector(7)))
    assert repr(model).endswith("fitted to k=7)")
    assert synchronisations == []
    same_model(model, infall.MaxLikelihood(3000, 2).fit(vector(7)))
    model.fit(library.put(vector(5)))
    same_model(model, infall.MaxLikelihood(3000, 2).fit(vector(5)))
    model.fit(library.put(vector(5)))
    model.fit(vector(6))
    synchronisations.clear()
    same_model(model, infall.MaxLikelihood(3000, 2).fit(vector(6)))
    assert synchronisations == []


@both_libraries
@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_model_fitted_to_no_direction_says_so_when_it_is_looked_at(library, sampler, tmp_path):
    message = "w, which the model was fitted to, is zero or not finite"
    for bad in (np.nan, np.inf, 0.0):
        model = infall.MaxLikelihood(3000, 2, sampler=sampler)
        model.fit(library.put(np.array([0.0, bad, 0.0])))
        assert np.isnan(library.values(model.angle_scores(library.put(vector(3, 4))))).all()
        assert synchronisations == []
        for look in (
            lambda model: model.layers_,
            lambda model: model.log_input_norm_,
            lambda model: model.angle_scores(vector(3)),
            lambda model: model.save(tmp_path / "model"),
            pickle.dumps,
        ):
            with pytest.raises(ValueError, match=message):
                look(model)
        assert list(tmp_path.iterdir()) == []
        synchronisations.clear()
    same_model(model.fit(vector(3)), infall.MaxLikelihood(3000, 2, sampler=sampler).fit(vector(3)))


def test_a_vector_on_the_host_is_checked_before_anything_is_queued():
    model = infall.MaxLikelihood(3000, 2, device="cuda").fit(vector(3))
    fake_device.calls.clear()
    for bad, message in (([0.0, np.nan], "w is not finite: nan at"), ([0.0, 0.0], "w is zero")):
        with pytest.raises(ValueError, match=message):
            model.fit(bad)
    assert fake_device.calls == []
    same_model(model, infall.MaxLikelihood(3000, 2).fit(vector(3)))


def test_a_model_that_is_not_fitted_has_no_attributes():
    model = infall.MaxLikelihood(3000, 2)
    assert not hasattr(model, "layers_")
    with pytest.raises(AttributeError, match="'MaxLikelihood' object has no attribute 'nothing'"):
        _ = model.nothing


def test_results_on_a_device_are_those_of_the_cpu_for_every_dtype():
    for dtype in (np.float32, np.float16, np.int32, np.uint8):
        w = (vector(6, 3) * 50).astype(dtype)
        w[:, 0] = 1
        for given in (w, np.asfortranarray(w), w[::2], w[:, ::2], w[1]):
            same(infall.select_rows(CUPY.put(given), 900), infall.select_rows(given, 900), CUPY)
