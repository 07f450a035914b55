"""The bench measures what it says, and its peers select the right rows."""

import importlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parent.parent / "bench"

STEM = """
from harness import Case, Problem

def problems(*, quick, threads):
    cases = [
        Case("engine", "infall", "hold", {"mebibytes": 16}, work=1.0, small={"mebibytes": 0}),
        Case("slower", "numpy", "hold", {"mebibytes": 64, "seconds": 0.2}, small={"mebibytes": 0}),
        Case("absent", "no_such_library", "absent", {}),
        Case("wrong", "numpy", "wrong", {}),
        Case("ended", "numpy", "ended", {}),
    ]
    return [Problem("first", "a title", "things/s", cases, rounds=3), Problem("other", "", "", [])]

def hold(mebibytes, seconds=0.0):
    def run():
        import time
        print("not an answer")
        time.sleep(seconds)
        return bytearray(b"x" * (mebibytes * 2**20))[0:0]
    return run

def absent():
    import no_such_library

def wrong():
    raise ValueError("a | b")

def ended():
    import os
    os._exit(3)
"""


@pytest.fixture
def harness(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("harness")


@pytest.fixture
def rows(harness):
    return importlib.import_module("rows")


def test_measures_time_and_memory_and_reports_failures(harness, monkeypatch, tmp_path):
    (tmp_path / "stem_of_test.py").write_text(STEM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    (problem,) = harness.run_stem("stem_of_test", quick=True, threads=1, only="first")
    engine, slower, *failed = problem["cases"]

    assert engine["status"] == slower["status"] == "ok"
    assert len(engine["seconds"]) == len(slower["seconds"]) == 3
    assert engine["role"] == "engine"
    assert engine["rate"] == 1 / engine["seconds_min"]
    assert engine["ratio"] == 1
    assert slower["ratio"] == slower["seconds_min"] / engine["seconds_min"]
    assert 0.2 <= slower["seconds_min"] <= slower["seconds_median"]
    assert slower["cpu_seconds_min"] < 0.2  # it sleeps
    assert [case["status"] for case in failed] == [
        "not installed",
        "failed: ValueError: a | b",
        "failed: the process ended with status 3",
    ]
    # b"x" * n and its copy are held at once.
    assert engine["peak_mebibytes"] == pytest.approx(32, abs=4)
    assert slower["peak_mebibytes"] == pytest.approx(128, abs=4)

    results = {"machine": harness.machine(), "quick": True, "stems": {"stem_of_test": [problem]}}
    assert json.loads(json.dumps(results)) == results
    table = harness.markdown(results)
    assert "| absent | peer | 1 | not installed |" in table
    assert "| wrong | peer | 1 | failed: ValueError: a \\| b |" in table
    assert len({line.count(" | ") for line in table.splitlines() if line.startswith("| ")}) == 1


def test_quickest_problem_has_every_case(harness, rows):
    problem = rows.selection(15, 14, threads=2, rounds=1)
    assert {case.library for case in problem.cases} == {"infall", "numpy", "torch"}
    installed = replace(problem, cases=[c for c in problem.cases if c.library != "torch"])
    result = harness.measure("rows", installed)
    assert [case["name"] for case in result["cases"]] == [case.name for case in installed.cases]
    for case in result["cases"]:
        assert case["status"] == "ok", case["name"]
        assert case["seconds_min"] > 0
        assert case["cpu_seconds_min"] > 0
        assert case["rate"] > 0
        assert case["ratio"] > 0
        assert case["peak_mebibytes"] >= 0


def test_problem_names_are_distinct_and_cases_exist(rows):
    for quick in (True, False):
        for threads in (1, 2):
            problems = rows.problems(quick=quick, threads=threads)
            assert len({problem.name for problem in problems}) == len(problems)
            for problem in problems:
                keys = [(case.name, case.threads) for case in problem.cases]
                assert len(set(keys)) == len(keys)
                assert all(callable(getattr(rows, case.function)) for case in problem.cases)


@pytest.mark.parametrize("inputs", [1, 3])
def test_numpy_peer_selects_the_best_rows(rows, monkeypatch, inputs):
    monkeypatch.setattr(rows, "BLOCK_NORMALS", 2**10)
    dim, log2_width = 16, 10
    selected = rows.numpy_select(dim, log2_width, threads=1, inputs=inputs)()
    generator = np.random.Generator(np.random.SFC64([2, 0]))
    layer = generator.standard_normal((2**log2_width, dim), dtype=np.float32)
    for best, w in zip(selected, rows.input_vectors(dim, inputs), strict=True):
        expected = np.argsort(-np.abs(layer @ w))[:dim]
        order = np.argsort(-best.scores)
        np.testing.assert_array_equal(best.indices[order], expected)
        np.testing.assert_array_equal(best.rows[order], layer[expected])
        np.testing.assert_allclose(best.projections, best.rows @ w, rtol=1e-5)


def test_pytorch_peer_selects_the_best_rows(rows):
    torch = pytest.importorskip("torch", reason="the peer is optional")
    layer = torch.randn(500, 16, generator=torch.Generator().manual_seed(1))
    projections = layer @ torch.from_numpy(rows.input_vectors(16))
    best = rows.TorchBest(16, 16)
    for indices in torch.arange(500).split(40):
        best.update(layer[indices], projections[indices], indices)
    expected = torch.topk(projections.abs(), 16).indices
    assert sorted(best.indices.tolist()) == sorted(expected.tolist())
    assert torch.equal(best.rows, layer[best.indices])
    assert torch.equal(best.projections, projections[best.indices])


def test_numpy_peer_covers_every_row_with_any_number_of_threads(rows, monkeypatch):
    monkeypatch.setattr(rows, "BLOCK_NORMALS", 2**8)
    (best,) = rows.numpy_select(8, 12, threads=3)()
    assert len(set(best.indices)) == 8
    shares = rows.in_parallel(lambda _, share: list(share), 100, 3)
    assert [row for share in shares for row in share] == list(range(100))


def test_peers_agree_on_codes_and_distances(rows):
    counted = rows.numpy_count_distances(20, 256, 1)()
    multiplied = rows.numpy_product_distances(20, 256, 1)()
    np.testing.assert_array_equal(counted, multiplied)
    assert rows.numpy_codes(3, 8, 64, 2)().shape == (3, 8)
