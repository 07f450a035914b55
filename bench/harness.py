"""Measure cases side by side: every case in a fresh process, the cases of one problem in turn.

The parent starts one process for each case of a problem and then asks them, one after the other
and round after round, for a single run; a processor whose speed drifts slows all of them alike.
Run as a script this file is such a process: it reads requests and writes answers as JSON lines.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.metadata
import json
import math
import os
import platform
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import instructions

# Runs shorter than this are repeated inside one measurement, so that the clock's grain is small.
SHORTEST_MEASUREMENT = 0.02
# The threads of a BLAS spin for some milliseconds after their last job before they sleep.
POOL_SLEEP = 0.05
# Processes that start at the same time: many of them import a large library first.
STARTING = 2


@dataclass(frozen=True)
class Case:
    """One way of solving a problem.

    ``function`` of the stem's module is called with ``arguments``; it makes the inputs and returns
    the function to time. ``small`` replaces some arguments for the warm-up. ``work`` is what one
    run gets done, in the problem's unit.
    """

    name: str
    library: str  # "infall" for the engine, else the peer's
    function: str
    arguments: Mapping[str, Any]
    threads: int = 1
    library_threads: int = 1  # of BLAS, OpenMP and torch; more only where they do the threading
    work: float | None = None
    small: Mapping[str, Any] = field(default_factory=dict)
    rounds: int | None = None  # fewer than the problem's, for a case that takes long
    meter: str | None = None  # a class of the stem's module in place of HostMeter
    spins: bool = False  # the threads of OpenMP wait for their next job awake
    ceiling: bool = False  # solves no problem: its rate is what the machine allows the others

    @property
    def role(self) -> str:
        if self.ceiling:
            return "ceiling"
        return "engine" if self.library == "infall" else "peer"


@dataclass(frozen=True)
class Problem:
    """Cases that compute the same thing.

    The first engine case with as many threads as a case is what that case is compared with.
    """

    name: str
    title: str
    unit: str
    cases: Sequence[Case]
    rounds: int = 5
    # No round starts that would end later than this, save the first.
    seconds: float = 50.0


@dataclass(frozen=True)
class ErrorTable:
    """Cases by how far off their results are; nothing is timed.

    What the function of a case returns, run once, maps quantities to one relative error for each of
    the columns, None where it is not finite. It leaves out the quantities it does not have.
    """

    name: str
    title: str
    columns: Sequence[str]
    cases: Sequence[Case]


class Worker:
    """The process of one case, as the parent sees it."""

    def __init__(self, stem: str, case: Case, python: Path = Path(sys.executable)) -> None:
        pools = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
        settings = dict.fromkeys(pools, str(case.library_threads))
        # Asleep, they are many times faster where another process wants a core; awake, they save
        # short jobs the time to wake up, but hold their processors beside everything else.
        settings["OMP_WAIT_POLICY"] = "active" if case.spins else "passive"
        self.process = subprocess.Popen(
            [python, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={**os.environ, **settings},
            text=True,
        )
        self.case = case
        self.failure: str | None = None
        self.seconds: list[float] = []
        self.cpu_seconds: list[float] = []
        self.instructions: list[float | None] = []
        self.send({"stem": stem, **asdict(case)})

    def send(self, request: Mapping[str, Any]) -> None:
        assert self.process.stdin is not None
        with contextlib.suppress(BrokenPipeError):  # receive() then finds the process gone
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            self.failure = f"failed: the process ended with status {self.process.wait()}"
            return {}
        answer: dict[str, Any] = json.loads(line)
        self.failure = answer.get("failure")
        return answer

    def wants_round(self, index: int) -> bool:
        rounds = self.case.rounds
        return self.failure is None and (rounds is None or index < rounds)

    def run(self) -> None:
        self.send({"run": True})
        answer = self.receive()
        if self.failure is None:
            self.seconds.append(answer["seconds"])
            self.cpu_seconds.append(answer["cpu_seconds"])
            self.instructions.append(answer["instructions"])

    def errors(self) -> dict[str, list[float | None]]:
        if self.failure is not None:
            return {}
        self.send({"errors": True})
        errors: dict[str, list[float | None]] = self.receive().get("errors", {})
        return errors

    def result(self) -> dict[str, Any]:
        peak = None
        if self.failure is None:
            self.send({"run": False})
            peak = self.receive().get("peak_mebibytes")
        measured = self.failure is None and self.seconds
        best = min(self.seconds) if measured else None
        work = self.case.work
        return {
            "name": self.case.name,
            "role": self.case.role,
            "library": self.case.library,
            "threads": self.case.threads,
            "arguments": dict(self.case.arguments),
            "status": self.failure or "ok",
            "seconds": self.seconds if measured else [],
            "seconds_min": best,
            "seconds_median": statistics.median(self.seconds) if measured else None,
            "cpu_seconds_min": min(self.cpu_seconds) if measured else None,
            "instructions_min": min(filter(None, self.instructions), default=None),
            "rate": work / best if work is not None and best is not None else None,
            "peak_mebibytes": peak,
        }

    def close(self) -> None:
        self.process.kill()
        self.process.communicate()


@contextlib.contextmanager
def started(stem: str, cases: Sequence[Case]) -> Iterator[list[Worker]]:
    """Start a process for every case; all are ready, or known to have failed, on entry."""
    workers: list[Worker] = []

    def start(case: Case) -> Worker:
        worker = Worker(stem, case)
        workers.append(worker)
        worker.receive()
        return worker

    try:
        # Start-up is not measured, but many at once would fill a small memory.
        with ThreadPoolExecutor(STARTING) as pool:
            ready = list(pool.map(start, cases))
        yield ready
    finally:
        for worker in workers:
            worker.close()


def measure(stem: str, problem: Problem) -> dict[str, Any]:
    """Run all cases of a problem in turn, round by round, and return their results."""
    with started(stem, problem.cases) as workers:
        deadline = time.monotonic() + problem.seconds
        for index in range(problem.rounds):
            active = [worker for worker in workers if worker.wants_round(index)]
            expected = sum(worker.seconds[-1] for worker in active if worker.seconds)
            if index > 0 and time.monotonic() + expected > deadline:
                break
            for worker in active:
                time.sleep(POOL_SLEEP)
                worker.run()
        results = [worker.result() for worker in workers]
    for result in results:
        result["ratio"] = ratio_to_engine(result, results)
    if any(result["role"] == "ceiling" for result in results):
        for result in results:
            result["share"] = share_of_ceiling(result, results)
    return {
        "name": problem.name,
        "title": problem.title,
        "unit": problem.unit,
        "cases": results,
    }


def tabulate(stem: str, table: ErrorTable) -> dict[str, Any]:
    """Run the cases of a table of errors and return what they found."""
    with started(stem, table.cases) as workers:
        cases = [
            {
                "name": worker.case.name,
                "role": worker.case.role,
                "library": worker.case.library,
                "arguments": dict(worker.case.arguments),
                "errors": worker.errors(),
                "status": worker.failure or "ok",
            }
            for worker in workers
        ]
    return {
        "name": table.name,
        "title": table.title,
        "columns": list(table.columns),
        "cases": cases,
    }


def ratio_to_engine(result: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Any:
    """Seconds of a result over those of the first engine case with as many threads."""
    if result["role"] == "ceiling":
        return None
    for engine in results:
        if engine["role"] == "engine" and engine["threads"] == result["threads"]:
            if result["seconds_min"] is None or engine["seconds_min"] is None:
                return None
            return result["seconds_min"] / engine["seconds_min"]
    return None


def share_of_ceiling(result: Mapping[str, Any], results: Sequence[Mapping[str, Any]]) -> Any:
    """Rate of a result over the highest of the ceilings."""
    ceilings = [other["rate"] for other in results if other["role"] == "ceiling" and other["rate"]]
    if result["role"] == "ceiling" or result["rate"] is None or not ceilings:
        return None
    return result["rate"] / max(ceilings)


class UnavailableError(Exception):
    """Why a stem cannot run on this machine."""


def device(stem: str) -> dict[str, Any] | None:
    """What a stem says of the device it runs on; None where that is the processor."""
    describe = getattr(importlib.import_module(stem), "device", None)
    return None if describe is None else describe()


def problems_of(stem: str, *, quick: bool, threads: int) -> Sequence[Problem | ErrorTable]:
    """The problems of one stem."""
    problems: Sequence[Problem | ErrorTable] = importlib.import_module(stem).problems(
        quick=quick, threads=threads
    )
    return problems


def run_stem(
    stem: str, *, quick: bool, threads: int, only: str | None = None, report: Any = None
) -> list[dict[str, Any]]:
    """Measure the problems of one stem whose name contains ``only``."""
    results = []
    for problem in problems_of(stem, quick=quick, threads=threads):
        if only is None or only in problem.name:
            begin = time.monotonic()
            take = tabulate if isinstance(problem, ErrorTable) else measure
            results.append(take(stem, problem))
            if report is not None:
                report(f"{stem}: {problem.name}, {time.monotonic() - begin:.1f} s")
    return results


# What the figures were measured on.


def machine() -> dict[str, Any]:
    """Processor, instruction sets and versions of everything that is compared."""
    model, flags = platform.processor(), list[str]()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            key, _, value = line.partition(":")
            if key.strip() == "model name":
                model = value.strip()
            elif key.strip() in ("flags", "Features"):
                flags = value.split()
    vector = ("sse4", "avx", "fma", "bmi", "popcnt", "asimd", "sve", "neon")
    return {
        "processor": model,
        "architecture": platform.machine(),
        "isa_flags": sorted(flag for flag in flags if flag.startswith(vector)),
        "cores": usable_cores(),
        "system": platform.system(),
        "versions": {"python": platform.python_version(), **library_versions()},
        "engine": engine_build(),
        "commit": commit(),
    }


def commit() -> str | None:
    """The commit of the working tree, with ``-dirty`` where files have changed since."""
    command = ["git", "-C", Path(__file__).parent, "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def library_versions() -> dict[str, str | None]:
    versions: dict[str, str | None] = {}
    peers = ("scikit-learn", "torch", "jax", "numba", "faiss-cpu", "neural_collapse")
    for name in ("numpy", "scipy", *peers, "infall"):
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            versions[name] = None
    return versions


def engine_build() -> dict[str, Any] | None:
    """The level the engine runs at, and how it was compiled where it says so."""
    try:
        core = importlib.import_module("infall._core")
    except ImportError:
        return None
    build = {"isa": core.isa(), "available_isas": list(core.available_isas())}
    for name in ("compiler", "compiler_flags"):
        if hasattr(core, name):
            value = getattr(core, name)
            build[name] = value() if callable(value) else value
    return build


# The table.


def markdown(results: Mapping[str, Any]) -> str:
    """One table for each problem, below what they were measured on."""
    about = results["machine"]
    engine = about["engine"] or {}
    versions = [
        f"{name} {version or 'not installed'}" for name, version in about["versions"].items()
    ]
    lines = [
        f"{about['processor']}, {about['cores']} cores, {about['architecture']}"
        + (
            f", engine at {engine['isa']} by {engine.get('compiler', 'unknown compiler')}"
            if engine
            else ""
        ),
        "",
        ", ".join(versions),
    ]
    for stem, problems in results["stems"].items():
        lines += ["", f"## {stem}"]
        device = results.get("devices", {}).get(stem)
        if device:
            lines += ["", ", ".join(f"{key} {value}" for key, value in device.items())]
        for problem in problems:
            lines += ["", f"### {problem['name']}: {problem['title']}"]
            lines += error_lines(problem) if "columns" in problem else time_lines(problem)
    for stem, reason in results.get("not_run", {}).items():
        lines += ["", f"## {stem}", "", f"Not run: {reason}"]
    return "\n".join(lines) + "\n"


def time_lines(problem: Mapping[str, Any]) -> list[str]:
    """Return the table of a problem."""
    header = ["case", "who", "threads", "seconds (min)", problem["unit"]]
    header += ["time / engine's", "peak MiB"]
    with_ceiling = any("share" in case for case in problem["cases"])
    if with_ceiling:
        header.append("of ceiling")
    counted = any(case["instructions_min"] for case in problem["cases"])
    if counted:
        header.append("G instructions")
    lines = ["", table_row(header), table_row(["---", "---", *["---:"] * (len(header) - 2)])]
    for case in problem["cases"]:
        share = [percent(case["share"])] if with_ceiling else []
        retired = case["instructions_min"]
        billions = [three_digits(None if retired is None else retired * 1e-9)] if counted else []
        lines.append(table_row([*case_cells(case), *share, *billions]))
    return lines


def error_lines(table: Mapping[str, Any]) -> list[str]:
    """Return a table for each quantity; a case that failed is in the first one."""
    quantities = list(dict.fromkeys(key for case in table["cases"] for key in case["errors"]))
    columns = table["columns"]
    lines = []
    for quantity in quantities or ["no results"]:
        lines += ["", table_row([quantity, "who", *columns])]
        lines.append(table_row(["---", "---", *["---:"] * len(columns)]))
        for case in table["cases"]:
            errors = case["errors"].get(quantity)
            begin = [case["name"], case["role"]]
            if errors is not None:
                cells = ["not finite" if error is None else f"{error:.1e}" for error in errors]
                lines.append(table_row([*begin, *cells]))
            elif case["status"] != "ok" and quantity == (quantities or ["no results"])[0]:
                blank = [""] * (len(columns) - 1)
                lines.append(table_row([*begin, case["status"].replace("|", "\\|"), *blank]))
    return lines


def table_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cells) + " |"


def case_cells(case: Mapping[str, Any]) -> list[str]:
    begin = [case["name"], case["role"], str(case["threads"])]
    if case["status"] != "ok":
        return [*begin, case["status"].replace("|", "\\|"), "", "", ""]
    peak = case["peak_mebibytes"]
    return [
        *begin,
        three_digits(case["seconds_min"]),
        three_digits(case["rate"]),
        three_digits(case["ratio"]),
        "" if peak is None else f"{peak:.1f}",
    ]


def three_digits(value: float | None) -> str:
    if value is None:
        return ""
    if value >= 100:
        return f"{value:.0f}"
    return f"{value:.3g}" if value >= 1e-4 or value == 0 else f"{value:.2e}"


def percent(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.3g} %"


# The process of one case.


def serve() -> None:
    """Answer the requests of a :class:`Worker` until its pipe closes."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)  # whatever a library prints must not end up between the answers

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    case = json.loads(sys.stdin.readline())
    try:
        stem = importlib.import_module(case["stem"])
        prepare = getattr(stem, case["function"])
        meter = HostMeter() if case["meter"] is None else getattr(stem, case["meter"])()
        # A tiny run first: the code is paged in and the pools have their threads, so that
        # neither counts as memory of the run.
        prepare(**{**case["arguments"], **case["small"]})()
        run = prepare(**case["arguments"])
        meter.settle()
        answer()
        number = 1
        for line in sys.stdin:
            request = json.loads(line)
            if "errors" in request:
                answer(errors=run())
                continue
            if not request["run"]:
                answer(peak_mebibytes=max(0.0, meter.peak_mebibytes()))
                continue
            seconds, cpu_seconds = meter.timed(run, number)
            if number * seconds < SHORTEST_MEASUREMENT:
                number = math.ceil(SHORTEST_MEASUREMENT / seconds)
                seconds, cpu_seconds = meter.timed(run, number)
            retired = getattr(meter, "instructions", None)
            answer(seconds=seconds, cpu_seconds=cpu_seconds, instructions=retired)
    except Exception as error:
        missing = isinstance(error, ModuleNotFoundError) and error.name == case["library"]
        summary = " ".join(f"{type(error).__name__}: {error}".split())
        answer(failure="not installed" if missing else f"failed: {summary}")


class HostMeter:
    """The clock, instructions, and resident memory beyond what is there when the inputs are."""

    def __init__(self) -> None:
        self.instructions: float | None = None  # of one of the runs timed last
        try:
            self._counter = instructions.Counter()
        except OSError:
            self._counter = None

    def settle(self) -> None:
        self.baseline = settled_resident_mebibytes()

    def timed(self, run: Any, number: int) -> tuple[float, float]:
        """Mean seconds and processor seconds of ``number`` runs in a row."""
        before = 0 if self._counter is None else self._counter.count()
        cpu_begin, begin = time.process_time(), time.perf_counter()
        for _ in range(number):
            run()
        seconds, cpu_seconds = time.perf_counter() - begin, time.process_time() - cpu_begin
        if self._counter is not None:
            self.instructions = (self._counter.count() - before) / number
        return seconds / number, cpu_seconds / number

    def peak_mebibytes(self) -> float:
        return peak_resident_mebibytes() - self.baseline


def settled_resident_mebibytes() -> float:
    """Resident memory of interpreter, imports and inputs; the peak starts again from here."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)  # glibc keeps what the warm-up freed
    with contextlib.suppress(OSError):
        Path("/proc/self/clear_refs").write_text("5")
        return status_mebibytes("VmRSS")
    return peak_resident_mebibytes()


def peak_resident_mebibytes() -> float:
    with contextlib.suppress(OSError):
        return status_mebibytes("VmHWM")
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / unit


def status_mebibytes(key: str) -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(f"{key}:"):
            return int(line.split()[1]) / 1024
    raise OSError(f"/proc/self/status has no {key}")


if __name__ == "__main__":
    serve()
