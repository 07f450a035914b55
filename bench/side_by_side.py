"""The engine beside its strongest peer, machine by machine.

``python bench/side_by_side.py bench/results/*.json`` prints one line for each problem: the engine's
fastest case, the fastest case of any peer with at most as many threads, and the time of the peer
over that of the engine, for each file. Below 1 the peer is ahead.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from harness import table_row, three_digits


def strongest(problem: Mapping[str, Any], role: str, threads: int) -> Mapping[str, Any] | None:
    """The fastest case of a role with at most so many threads."""
    cases = [
        case
        for case in problem.get("cases", ())
        if case["role"] == role and case.get("seconds_min") and case["threads"] <= threads
    ]
    return min(cases, key=lambda case: case["seconds_min"], default=None)


def first_engine(problem: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The case the others are compared with: the engine's first name, with the most threads."""
    cases = [
        case
        for case in problem.get("cases", ())
        if case["role"] == "engine" and case.get("seconds_min")
    ]
    named = [case for case in cases if case["name"] == cases[0]["name"]]
    return max(named, key=lambda case: case["threads"], default=None)


def cells(problem: Mapping[str, Any] | None) -> list[str]:
    """Seconds of the engine, of the strongest peer, their ratio, and who the peer is."""
    engine = None if problem is None else first_engine(problem)
    if problem is None or engine is None:
        return ["", "", "", ""]
    seconds = three_digits(engine["seconds_min"])
    peer = strongest(problem, "peer", engine["threads"])
    if peer is None:
        return [seconds, "", "", "no peer"]
    ratio = peer["seconds_min"] / engine["seconds_min"]
    return [seconds, three_digits(peer["seconds_min"]), three_digits(ratio), peer["name"]]


def table(results: Sequence[Mapping[str, Any]]) -> str:
    """Return the table of all machines."""
    lines = []
    for number, result in enumerate(results, 1):
        about = result["machine"]
        engine = about["engine"] or {}
        lines.append(
            f"{number}. {about['processor']}, {about['cores']} cores, "
            f"{engine.get('isa', 'no engine')}, commit {about.get('commit') or 'unknown'}"
        )
    header = ["problem"]
    for number in range(1, len(results) + 1):
        header += [f"{number}: engine, s", "strongest peer, s", "peer / engine", "peer"]
    lines += [
        "",
        table_row(header),
        table_row(["---", *["---:", "---:", "---:", "---"] * len(results)]),
    ]
    by_name = [
        {
            (stem, problem["name"]): problem
            for stem, problems in result["stems"].items()
            for problem in problems
            if "columns" not in problem
        }
        for result in results
    ]
    for stem, name in dict.fromkeys(key for problems in by_name for key in problems):
        measured = [cell for problems in by_name for cell in cells(problems.get((stem, name)))]
        lines.append(table_row([f"{stem}: {name}", *measured]))
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("results", nargs="+", type=Path, metavar="FILE", help="of run.py --json")
    files = parser.parse_args().results
    print(table([json.loads(path.read_text()) for path in files]), end="")
    return 0


if __name__ == "__main__":
    sys.exit(main())
