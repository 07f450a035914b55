"""Parts of a selection in files: all of them make the selection, and some say which are missing."""

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infall
from infall.distributed import checkpoints, merge_parts, select_part
from selection_cases import vector


def write(folder, w, width, num_parts, parts=None, **how):
    folder.mkdir(exist_ok=True)
    paths = [folder / f"{part}.npz" for part in range(num_parts)]
    for part in range(num_parts) if parts is None else parts:
        assert select_part(w, width, part=part, num_parts=num_parts, path=paths[part], **how)
    return paths


@settings(max_examples=25, deadline=None)
@given(
    st.sampled_from(["stream", "rotated"]),
    st.sampled_from(["absolute", "signed"]),
    st.sampled_from(["index", "score"]),
    st.sampled_from([None, 0, 1, 3]),
    st.integers(1, 20_000),
    st.integers(1, 20),
    st.integers(1, 9),
    st.randoms(use_true_random=False),
)
def test_all_parts_make_the_selection(
    sampler, score, order, batch, length, num_rows, num_parts, random
):
    first = 2**62 + length
    how = {
        "num_rows": min(num_rows, length),
        "seed": 2**64 - 1,
        "layer": 2**32 - 1,
        "sampler": sampler,
        "score": score,
        "order": order,
        "row_range": (first, first + length),
    }
    w, num_parts = vector(5, seed=length, batch=batch), min(num_parts, length)
    with tempfile.TemporaryDirectory() as folder:
        paths = write(Path(folder), w, 2**63 - 1, num_parts, **how)
        random.shuffle(paths)
        assert merge_parts(paths) == infall.select_rows(w, 2**63 - 1, **how)


def test_what_is_there_is_left_alone(tmp_path):
    paths = write(tmp_path, vector(6), 50_000, 4)
    before = [path.read_bytes() for path in paths]
    for part, path in enumerate(paths):
        assert not select_part(vector(6), 50_000, part=part, num_parts=4, path=path)
    assert [path.read_bytes() for path in paths] == before
    assert max(map(len, before)) < 8000


def test_what_is_missing_is_named(tmp_path):
    paths = write(tmp_path, vector(6), 50_000, 40, parts=[1, 3, 4, 20])
    with pytest.raises(ValueError, match=r"36 of 40 parts are missing: 0, 2, 5-19, 21-39"):
        merge_parts(paths[part] for part in (3, 20, 1, 4))
    alternate = write(tmp_path / "half", vector(6), 50_000, 40, parts=range(0, 40, 2))
    with pytest.raises(ValueError, match=r"missing: 1, 3, 5, 7, 9, 11, 13, 15, 17, 19, \.\.\.$"):
        merge_parts(alternate[::2])
    with pytest.raises(ValueError, match="paths is empty"):
        merge_parts([])


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("w", {"w": vector(6, seed=1)}),
        ("width", {"width": 50_001}),
        ("seed", {"seed": 1}),
        ("order", {"order": "score"}),
        ("num_rows", {"num_rows": 3}),
    ],
)
def test_parts_of_different_selections_do_not_mix(name, change, tmp_path):
    write(tmp_path, vector(6), 50_000, 2)
    given = {"w": vector(6), "width": 50_000, **change}
    other = tmp_path / "other.npz"
    select_part(part=1, num_parts=2, path=other, **given)
    with pytest.raises(ValueError, match=rf"other\.npz is of another {name} than .*0\.npz"):
        merge_parts([tmp_path / "0.npz", other])
    with pytest.raises(ValueError, match=rf"0\.npz is the checkpoint of another {name}"):
        select_part(part=0, num_parts=2, path=tmp_path / "0.npz", **given)


def test_a_part_twice_and_a_damaged_part(tmp_path):
    paths = write(tmp_path, vector(6), 50_000, 2)
    twice = tmp_path / "twice.npz"
    twice.write_bytes(paths[0].read_bytes())
    with pytest.raises(ValueError, match=r"twice\.npz has part 0, which is in .*0\.npz"):
        merge_parts([*paths, twice])
    paths[1].write_bytes(paths[1].read_bytes()[:500])
    for call in (
        lambda: merge_parts(paths),
        lambda: select_part(vector(6), 50_000, part=1, num_parts=2, path=paths[1]),
    ):
        with pytest.raises(ValueError, match=r"1\.npz is not a saved infall\.SelectionPart"):
            call()


def test_a_part_that_looked_only_at_the_best_is_not_taken_for_whole(tmp_path):
    # As if its threshold had been another: rows between that and the last one wanted are missing.
    whole = infall.select_rows(vector(6), 50_000, order="score")
    paths = write(tmp_path, vector(6), 50_000, 2, order="score")
    assert merge_parts(paths) == whole
    settings_, arrays = checkpoints.read(paths[0], "infall.SelectionPart")
    scores = np.abs(arrays["unit_projections_0"])
    least = np.abs(whole.unit_projections[-2:]).mean()
    kept = scores >= least
    arrays |= {name: arrays[name][kept] for name in ("indices_0", "unit_projections_0")}
    arrays["least"] = np.array(least)
    file = checkpoints.Checkpoint(paths[0], "infall.SelectionPart", settings_, 0.0)
    names = {"indices_0", "unit_projections_0", "least", "done", "vectors"}
    file.save(lambda: {name: arrays[name] for name in names}, now=True)
    with pytest.raises(ValueError, match="fewer than 6 rows reach the threshold of the parts"):
        merge_parts(paths)


@pytest.mark.parametrize(
    ("error", "text", "change"),
    [
        (ValueError, "part is 4; expected 0 <= part < 4", {"part": 4}),
        (TypeError, "part is 1.0; expected an integer", {"part": 1.0}),
        (ValueError, "num_parts is 0; expected 1 <= num_parts", {"num_parts": 0}),
        (ValueError, "num_parts is 50001; expected", {"num_parts": 50_001}),
        (ValueError, "which has no parts", {"sampler": "order_statistics"}),
    ],
)
def test_bad_arguments(error, text, change, tmp_path):
    path = tmp_path / "part.npz"
    with pytest.raises(error, match=text):
        select_part(vector(6), 50_000, **{"part": 0, "num_parts": 4, "path": path, **change})
    assert not path.exists()


def test_an_interrupted_part_leaves_no_file(tmp_path):
    def stop(*_):
        raise KeyboardInterrupt

    path = tmp_path / "part.npz"
    with pytest.raises(KeyboardInterrupt):
        select_part(np.ones(64), 2**22, part=0, num_parts=2, path=path, progress=stop)
    assert list(tmp_path.iterdir()) == []
