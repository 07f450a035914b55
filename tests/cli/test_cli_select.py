"""`infall select` and `infall merge`, against the package itself."""

from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

import infall
from infall import RowSelection, cli
from selection_cases import vector

runner = CliRunner()


@pytest.fixture(autouse=True)
def _in_own_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "120")
    np.save("w.npy", vector(7))


def invoke(*arguments, exit_code=0):
    result = runner.invoke(cli.app, [str(argument) for argument in arguments])
    assert result.exit_code == exit_code, result.output
    return result


def refused(*arguments):
    result = invoke(*arguments, exit_code=2)
    assert result.stdout == ""
    assert result.stderr.count("\n") == 1
    return result.stderr


def test_a_selection():
    assert invoke("select", "w.npy", "--width", "2^16").stdout == "selection: selection.npz\n"
    assert RowSelection.load("selection.npz") == infall.select_rows(vector(7), 2**16)
    how = ["--num-rows", "3", "--seed", "5", "--layer", "2", "--sampler", "rotated"]
    how += ["--score", "signed", "--order", "score", "--threads", "1", "--out", "other.npz"]
    invoke("select", "w.npy", "--width", "30000", *how)
    assert RowSelection.load("other.npz") == infall.select_rows(
        *(vector(7), 30_000),
        num_rows=3,
        seed=5,
        layer=2,
        sampler="rotated",
        score="signed",
        order="score",
    )


def test_parts_of_jobs():
    for part in (3, 1, 0, 2, 4, 1):
        told = invoke("select", "w.npy", "--width", "2^16", "--part", f"{part}/11", "--out", "p")
    assert told.stdout == "part: p/part-01-of-11.npz (was there)\n"
    assert "6 of 11 parts are missing: 5-10" in refused("merge", "p")
    assert not Path("selection.npz").exists()
    for part in range(5, 11):
        told = invoke("select", "w.npy", "--width", "2^16", "--part", f"{part}/11", "--out", "p")
        assert told.stdout == f"part: p/part-{part:02}-of-11.npz\n"
    assert invoke("merge", "p", "--out", "all.npz").stdout == "selection: all.npz\n"
    assert RowSelection.load("all.npz") == infall.select_rows(vector(7), 2**16)


def test_a_checkpoint():
    invoke("select", "w.npy", "--width", "2^16", "--checkpoint", "run.npz")
    assert Path("run.npz").exists()
    invoke("select", "w.npy", "--width", "2^16", "--checkpoint", "run.npz", "--out", "b.npz")
    assert RowSelection.load("b.npz") == infall.select_rows(vector(7), 2**16)
    other = ["--checkpoint", "run.npz", "--seed", "1", "--out", "c.npz"]
    assert "run.npz is the checkpoint of another seed: 0, not 1" in refused(
        "select", "w.npy", "--width", "2^16", *other
    )


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("--width: '2^^3'", ["w.npy", "--width", "2^^3"]),
        ("W: no.npy: no such file", ["no.npy", "--width", "100"]),
        ("--part: '3'", ["w.npy", "--width", "100", "--part", "3"]),
        ("--part: '4/4'", ["w.npy", "--width", "100", "--part", "4/4"]),
        ("--part is 101; expected", ["w.npy", "--width", "100", "--part", "4/101"]),
        ("--num-rows is 101", ["w.npy", "--width", "100", "--num-rows", "101"]),
        ("--checkpoint: a part", ["w.npy", "--width", "9", "--part", "1/2", "--checkpoint", "c"]),
        ("--out: x.txt", ["w.npy", "--width", "100", "--out", "x.txt"]),
        ("--sampler: 'best'", ["w.npy", "--width", "9", "--sampler", "best"]),
    ],
)
def test_bad_options(text, arguments):
    assert text in refused("select", *arguments)


def test_folders_without_parts():
    assert "FOLDER: w.npy is not a folder" in refused("merge", "w.npy")
    Path("empty").mkdir()
    assert "FOLDER: empty has no files part-*.npz" in refused("merge", "empty")
