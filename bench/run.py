"""Measure the engine beside its peers: ``python bench/run.py --help``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import against
import harness

STEMS = (
    "rows",
    "classes",
    "classes_accuracy",
    "frames",
    "rows_gpu",
    "classes_gpu",
    "frames_gpu",
)
RESULTS = Path(__file__).parent / "results"


def parsed() -> tuple[argparse.ArgumentParser, argparse.Namespace]:
    """The command line: its parser, which reports errors, and what was given."""
    parser = argparse.ArgumentParser(description="Measure the engine beside its peers.")
    parser.add_argument("stems", nargs="*", metavar="STEM", help=f"of {', '.join(STEMS)}; all")
    parser.add_argument("--quick", action="store_true", help="small sizes, within a minute")
    parser.add_argument("--only", metavar="NAME", help="problems whose name contains NAME")
    parser.add_argument(
        "--threads", type=int, default=harness.usable_cores(), help="threads of the parallel cases"
    )
    parser.add_argument(
        "--against",
        type=Path,
        metavar="VENV",
        help="the engine alone, beside the infall of another environment, in alternate rounds",
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="all measurements")
    parser.add_argument("--markdown", type=Path, metavar="FILE", help="the tables")
    options = parser.parse_args()
    for stem in options.stems:
        if stem not in STEMS:
            parser.error(f"no stem {stem!r}: expected one of {', '.join(STEMS)}")
    if options.threads < 1:
        parser.error(f"--threads {options.threads}: expected at least 1")
    return parser, options


def main() -> int:
    parser, options = parsed()

    def report(line: str) -> None:
        print(line, file=sys.stderr, flush=True)

    devices, not_run = {}, {}
    for stem in options.stems or STEMS:
        try:
            devices[stem] = harness.device(stem)
        except harness.UnavailableError as reason:
            not_run[stem] = str(reason)
            report(f"{stem}: not run: {reason}")
    if options.against is not None:
        return compare(parser, options, list(devices), report)
    results = {
        "machine": harness.machine(),
        "quick": options.quick,
        "devices": {stem: device for stem, device in devices.items() if device is not None},
        "not_run": not_run,
        "stems": {
            stem: harness.run_stem(
                stem,
                quick=options.quick,
                threads=options.threads,
                only=options.only,
                report=report,
            )
            for stem in devices
        },
    }
    if devices and not any(results["stems"].values()):
        parser.error(f"--only {options.only}: no problem has that in its name")
    table = harness.markdown(results)
    print(table, end="")
    # The files of complete runs stand side by side; a part is kept only where one asks for it.
    complete = options.only is None and set(options.stems or STEMS) == set(STEMS)
    name = "quick" if options.quick else "full"
    write(
        options.json,
        RESULTS / f"{name}.json" if complete else None,
        json.dumps(results, indent=1) + "\n",
    )
    write(options.markdown, RESULTS / f"{name}.md" if complete else None, table)
    return int(
        any(
            case["status"].startswith("failed")
            for problems in results["stems"].values()
            for problem in problems
            for case in problem["cases"]
        )
    )


def compare(
    parser: argparse.ArgumentParser,
    options: argparse.Namespace,
    stems: list[str],
    report: Callable[[str], None],
) -> int:
    """Measure the engine's cases here and in the other environment."""
    try:
        other = against.interpreter(options.against)
    except ValueError as error:
        parser.error(f"--against {error}")
    compared: dict[str, list[dict[str, Any]]] = {}
    for stem in stems:
        compared[stem] = []
        for problem in harness.problems_of(stem, quick=options.quick, threads=options.threads):
            if isinstance(problem, harness.Problem) and (options.only or "") in problem.name:
                compared[stem].append(against.compare(stem, problem, other))
                report(f"{stem}: {problem.name}")
    if not any(compared.values()):
        parser.error(f"--only {options.only}: no problem has that in its name")
    results = {"machine": harness.machine(), "against": str(other), "stems": compared}
    table = against.markdown(compared)
    print(table, end="")
    write(options.json, None, json.dumps(results, indent=1) + "\n")
    write(options.markdown, None, table)
    return int(
        any(
            case["status"] != "ok"
            for problems in compared.values()
            for problem in problems
            for case in problem["cases"]
        )
    )


def write(asked: Path | None, default: Path | None, text: str) -> None:
    path = asked or default
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


if __name__ == "__main__":
    sys.exit(main())
