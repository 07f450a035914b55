"""The engine of this environment beside that of another, case by case, in alternate rounds."""

from __future__ import annotations

import statistics
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from scipy.stats import binom

import harness

ROUNDS = 15
CONFIDENCE = 0.95


def interpreter(environment: Path) -> Path:
    """Return the Python of an environment, given as its folder or as that Python.

    Raises
    ------
    ValueError
        If there is none.
    """
    for path in (environment / "bin" / "python", environment):
        if path.is_file():
            return path
    raise ValueError(f"{environment} is no environment: it has no bin/python")


def compare(stem: str, problem: harness.Problem, other: Path) -> dict[str, Any]:
    """Run the engine's cases of a problem in both environments, and return their ratios."""
    cases = [case for case in problem.cases if case.library == "infall"]
    return {
        "name": problem.name,
        "title": problem.title,
        "cases": [compared(stem, case, other, problem.seconds) for case in cases],
    }


def compared(
    stem: str, case: harness.Case, other: Path, seconds: float, rounds: int = ROUNDS
) -> dict[str, Any]:
    """Return the seconds of a case here over those there: the median of the rounds, an interval."""
    workers = [harness.Worker(stem, case, python) for python in (Path(sys.executable), other)]
    try:
        with ThreadPoolExecutor(len(workers)) as pool:
            list(pool.map(harness.Worker.receive, workers))
        deadline = time.monotonic() + seconds
        for index in range(rounds):
            if index >= 5 and time.monotonic() > deadline:
                break
            # Who goes first finds a colder machine: they take turns.
            for worker in workers if index % 2 == 0 else workers[::-1]:
                if all(worker.failure is None for worker in workers):
                    time.sleep(harness.POOL_SLEEP)
                    worker.run()
        failures = [worker.failure for worker in workers]
        here, there = (worker.seconds for worker in workers)
    finally:
        for worker in workers:
            worker.close()
    status = "ok"
    for place, failure in zip(("here", "there"), failures, strict=True):
        if failure is not None:
            status = f"{place}: {failure}"
    ratios = [mine / theirs for mine, theirs in zip(here, there, strict=False)]
    low, high = median_interval(ratios) if status == "ok" else (None, None)
    return {
        "name": case.name,
        "threads": case.threads,
        "status": status,
        "seconds_here": here,
        "seconds_there": there,
        "ratio": statistics.median(ratios) if status == "ok" else None,
        "ratio_low": low,
        "ratio_high": high,
    }


def median_interval(ratios: Sequence[float]) -> tuple[float, float]:
    """Return an interval that holds the median with `CONFIDENCE`, whatever the distribution.

    Its ends are order statistics: how many of n are below the median is Binomial(n, 1/2).
    """
    ordered = sorted(ratios)
    outside = int(binom.ppf((1.0 - CONFIDENCE) / 2.0, len(ordered), 0.5))
    first = max(0, outside - 1)
    return ordered[first], ordered[-1 - first]


def markdown(stems: dict[str, list[dict[str, Any]]]) -> str:
    """Return a table of all cases: time here over time there, below one where here is faster."""
    lines = [
        "| problem | case | threads | time here / there | 95 % interval | ms here | ms there |",
        "| --- | --- | ---: | ---: | --- | ---: | ---: |",
    ]
    for stem, problems in stems.items():
        for problem in problems:
            for case in problem["cases"]:
                head = f"| {stem}: {problem['name']} | {case['name']} | {case['threads']} |"
                if case["ratio"] is None:
                    lines.append(f"{head} {case['status']} | | | |")
                    continue
                lines.append(
                    f"{head} {case['ratio']:.3f} | {case['ratio_low']:.3f} to "
                    f"{case['ratio_high']:.3f} | {1e3 * min(case['seconds_here']):.3f} | "
                    f"{1e3 * min(case['seconds_there']):.3f} |"
                )
    return "\n".join(lines) + "\n"
