"""Two environments beside each other: the ratio is that of the rounds, its interval holds it."""

import importlib
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.stats import binom

STEM = """
import os, time
from harness import Case, Problem

def problems(*, quick, threads):
    cases = [
        Case("sleeps", "infall", "sleep", {}),
        Case("fails", "infall", "fail", {}),
        Case("peer", "numpy", "sleep", {}),
    ]
    return [Problem("naps", "a title", "naps/s", cases)]

def sleep():
    return lambda: time.sleep(0.1 if "OTHER" in os.environ else 0.025)

def fail():
    if "OTHER" in os.environ:
        raise ValueError("of another version")
    return lambda: None
"""


@pytest.fixture
def against(harness):
    return importlib.import_module("against")


@pytest.fixture
def other(tmp_path, monkeypatch):
    """An environment in which naps are four times as long."""
    (tmp_path / "naps.py").write_text(STEM)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    python = tmp_path / "environment" / "bin" / "python"
    python.parent.mkdir(parents=True)
    python.write_text(f'#!/bin/sh\nOTHER=1 exec "{sys.executable}" "$@"\n')
    python.chmod(0o755)
    return python


def test_each_case_of_the_engine_runs_in_both(harness, against, other):
    (problem,) = harness.problems_of("naps", quick=True, threads=1)
    sleeps, fails = against.compare("naps", problem, other)["cases"]
    assert sleeps["status"] == "ok"
    assert len(sleeps["seconds_here"]) == len(sleeps["seconds_there"]) >= 5
    assert min(sleeps["seconds_here"]) >= 0.025
    assert min(sleeps["seconds_there"]) >= 0.1
    rounds = zip(sleeps["seconds_here"], sleeps["seconds_there"], strict=True)
    assert sleeps["ratio"] == np.median([here / there for here, there in rounds])
    assert sleeps["ratio_low"] <= sleeps["ratio"] <= sleeps["ratio_high"]
    assert fails["status"] == "there: failed: ValueError: of another version"
    assert fails["ratio"] is None
    table = against.markdown({"naps": [{"name": "naps", "cases": [sleeps, fails]}]})
    assert table.splitlines()[-1].startswith("| naps: naps | fails | 1 | there: failed: ValueError")


def test_the_command_line(other, tmp_path):
    run = Path(__file__).parents[2] / "bench" / "run.py"
    command = [sys.executable, run, "rows", "--quick", "--only", "k15-n20", "--threads", "1"]
    result = subprocess.run(
        [*command, "--against", other.parents[1], "--json", tmp_path / "results.json"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    results = json.loads((tmp_path / "results.json").read_text())
    (problem,) = results["stems"]["rows"]
    assert results["against"] == str(other)
    assert {case["status"] for case in problem["cases"]} == {"ok"}
    assert all(f"| {case['name']} | 1 |" in result.stdout for case in problem["cases"])
    result = subprocess.run(
        [*command, "--against", tmp_path], capture_output=True, text=True, timeout=60, check=False
    )
    assert result.returncode == 2
    assert f"--against {tmp_path} is no environment: it has no bin/python" in result.stderr


@pytest.mark.parametrize("count", [1, 5, 6, 15, 40])
def test_the_interval_holds_the_median_often_enough(against, count):
    ordered = [float(i) for i in range(count)]
    low, high = against.median_interval(ordered[::-1])
    below = int(low)  # of the numbers, this many lie under the interval
    assert high == count - 1 - below
    # Outside is a median with at most `below` numbers under it, or over it.
    outside = 2.0 * binom.cdf(below, count, 0.5)
    assert outside <= 0.05 or below == 0
    assert 2.0 * binom.cdf(below + 1, count, 0.5) > 0.05
