"""Selections as objects: where they come from, equality, and the state they are saved as."""

import copy
import pickle
import re
import sys

import numpy as np
import pytest

import infall
from selection_cases import same, vector

pytestmark = pytest.mark.sanitize


def test_a_selection_knows_where_it_comes_from():
    w = vector(5)
    for sampler in ("stream", "rotated", "order_statistics"):
        selection = infall.select_rows(w, 4000, seed=77, layer=5, sampler=sampler, order="score")
        assert (selection.width, selection.seed, selection.layer, selection.sampler) == (
            4000,
            77,
            5,
            sampler,
        )
        same(selection.regenerate(w), selection)
        assert "layer 5 of seed 77" in repr(selection)
        with pytest.raises(ValueError, match=r"w has shape \(4,\); this selection was made for"):
            selection.regenerate(w[:4])
        with pytest.raises(ValueError, match=r"w has shape \(1, 5\)"):
            selection.regenerate(w[None])
        for other in (-w, 2.0 * w, w[::-1]):
            with pytest.raises(ValueError, match="w is not the vector that this selection was"):
                selection.regenerate(other)
    with pytest.raises(ValueError, match="matrix cannot be regenerated"):
        infall.select_rows_from(w, selection.rows, num_rows=2).regenerate(w)


def selections():
    """Return selections of every kind."""
    w, batch = vector(5), vector(5, batch=3)
    return [
        infall.select_rows(w, 2**63 - 1, seed=2**64 - 1, sampler="order_statistics"),
        infall.select_rows(w, 4000, layer=2**32 - 1, order="score", row_range=(7, 900)),
        infall.select_rows(batch, 4000, num_rows=9, score="signed", order="score"),
        infall.select_rows(batch, 4000, num_rows=1, sampler="rotated"),
        infall.select_rows(batch[:0], 4000),
        infall.select_rows_from(
            batch, np.random.default_rng(1).integers(-50, 50, (700, 5), np.int16), num_rows=3
        ),
        infall.select_rows_from(w, vector(5, batch=20), score="signed"),
    ]


@pytest.mark.parametrize("selection", selections())
def test_selections_are_saved_pickled_and_copied(selection, tmp_path):
    path = tmp_path / "selection"
    selection.save(path)
    loaded = infall.RowSelection.load(path)
    copies = [loaded, infall.RowSelection.from_state_dict(selection.state_dict())]
    copies += [copy.copy(selection), copy.deepcopy(selection)]
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        copies.append(pickle.loads(pickle.dumps(selection, protocol)))
    buffers = []
    stored = pickle.dumps(selection, 5, buffer_callback=buffers.append)
    copies.append(pickle.loads(stored, buffers=[bytes(b) for b in buffers]))  # read-only memory
    for other in copies:
        assert other == selection
        assert repr(other) == repr(selection)
        for name in ("indices", "projections", "rows", "unit_projections"):
            assert getattr(other, name).dtype == getattr(selection, name).dtype
    if selection.sampler is not None:
        assert (
            loaded.regenerate(
                vector(5)
                if selection.indices.ndim == 1
                else vector(5, batch=3)[: len(selection.indices)]
            )
            == selection
        )


def test_equality_and_size_of_selections():
    selection = infall.select_rows(vector(5), 4000)
    assert selection == infall.select_rows(vector(5), 4000, num_threads=2)
    for other in (
        infall.select_rows(vector(5), 4001),
        infall.select_rows(vector(5), 4000, order="score"),
        infall.select_rows(vector(5, seed=1), 4000),
        infall.select_rows(vector(5)[None], 4000),
        "found",
    ):
        assert selection != other
    with pytest.raises(TypeError, match="unhashable"):
        hash(selection)
    large = infall.select_rows(vector(500), 4000)
    assert large.rows.nbytes < sys.getsizeof(large) < large.rows.nbytes + 20_000


def test_selections_that_cannot_be_are_refused(tmp_path):
    by_index = infall.select_rows(vector(3), 500, row_range=(100, 500))
    by_score = infall.select_rows(vector(3), 500, order="score")
    nan = np.full(3, np.nan)
    for selection, change, text in (
        (by_index, {"indices": None}, "'indices' is missing"),
        (by_index, {"indices": np.arange(3.0)}, "indices is float64"),
        (by_index, {"indices": np.arange(4)}, r"indices is int64 of shape \(4,\)"),
        (by_index, {"indices": np.array([7, 200, 300])}, "rows outside of 100 <= row < 500"),
        (by_index, {"indices": np.array([200, 300, 500])}, "rows outside of 100 <= row < 500"),
        (by_index, {"indices": np.array([-5, 200, 300])}, "rows outside of"),
        (by_index, {"indices": np.array([200, 200, 300])}, "indices has a row twice"),
        (by_index, {"indices": by_index.indices[::-1]}, "not in the order of their index"),
        (by_score, {"unit_projections": np.array([1.0, 2, 3])}, "not in the order of their score"),
        (by_index, {"indices": by_index.indices - 1}, "rows are not those of the layer"),
        (by_index, {"rows": 2 * by_index.rows}, "rows are not those of the layer"),
        (by_index, {"seed": 1}, "rows are not those of the layer"),
        (by_index, {"seed": None}, "'seed' is missing"),
        (by_index, {"seed": -1}, "seed is -1"),
        (by_index, {"rows": by_index.rows.astype(float)}, "rows is float64"),
        (by_index, {"rows": np.ones(3)}, r"rows has shape \(3,\)"),
        (by_index, {"rows": np.full((3, 3), np.inf, np.float32)}, "rows is not finite"),
        (by_index, {"projections": nan}, "projections is not finite"),
        (by_index, {"unit_projections": nan}, "unit_projections is not finite"),
        (by_index, {"width": 300}, r"row_range is \(100, 500\)"),
        (by_index, {"width": 300.5}, "width is float64"),
        (by_index, {"row_range": np.array([200, 100])}, r"row_range is \(200, 100\)"),
        (by_index, {"sampler": "fast"}, "sampler is 'fast'"),
        (by_index, {"score": "best"}, "score is 'best'"),
        (by_index, {"order": "none"}, "order is 'none'"),
    ):
        state = {k: v for k, v in {**selection.state_dict(), **change}.items() if v is not None}
        with pytest.raises(ValueError, match=f"state is damaged: .*{text}"):
            infall.RowSelection.from_state_dict(state)
    with pytest.raises(ValueError, match="state has version 2; expected 1"):
        infall.RowSelection.from_state_dict({**by_index.state_dict(), "version": 2})
    with pytest.raises(TypeError, match="state is a int; expected a mapping"):
        infall.RowSelection.from_state_dict(5)
    path = tmp_path / "model.npz"
    infall.MaxLikelihood(100, 1).fit(vector(3)).save(path)
    with pytest.raises(ValueError, match=re.escape(f"{path} is not a saved infall.RowSelection")):
        infall.RowSelection.load(path)
    by_index.save(path)
    damaged = path.read_bytes()
    path.write_bytes(damaged[:-30])
    with pytest.raises(ValueError, match=re.escape(str(path))):
        infall.RowSelection.load(path)
