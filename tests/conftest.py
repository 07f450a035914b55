"""What tests need of the machine: those it has no GPU, compiler or browser for are left out."""

import importlib
import os
import shutil
from pathlib import Path

import pytest

import chance
from infall import _core

BENCH = Path(__file__).parent.parent / "bench"
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome", "firefox")
GPU_REQUIRED = os.environ.get("INFALL_REQUIRE_GPU") == "1"


@pytest.fixture
def harness(monkeypatch):
    """The bench's harness; its stems can be imported where this is."""
    monkeypatch.syspath_prepend(str(BENCH))
    processors = os.sched_getaffinity(0)  # a measurement in a process of its own may take fewer
    yield importlib.import_module("harness")
    os.sched_setaffinity(0, processors)


@pytest.fixture
def restore_isa():
    """Leave the instruction set as it was."""
    before = _core.isa()
    yield
    _core.set_isa(before)


@pytest.fixture
def browser():
    """The path of a browser that draws without a screen."""
    return _browser()


def _browser():
    return next((path for name in BROWSERS if (path := shutil.which(name))), None)


def _without_gpu():
    if GPU_REQUIRED:
        return None
    try:
        from infall import _cuda

        _cuda.device_count()
    except ImportError:
        return "a GPU (built without CUDA)"
    except RuntimeError as error:
        return f"a GPU ({error})"
    return None


# Each says what is missing, or None.
NEEDS = {
    "gpu": _without_gpu,
    "nvcc": lambda: None if shutil.which("nvcc") else "nvcc",
    "browser": lambda: None if _browser() else "a browser",
}
_left_out = {}


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config, items):
    _left_out.clear()
    for marker, missing in NEEDS.items():
        marked = [item for item in items if item.get_closest_marker(marker)]
        if marked and (what := missing()):
            _left_out[what] = len(marked)
            config.hook.pytest_deselected(items=marked)
            items[:] = [item for item in items if item not in marked]


def pytest_terminal_summary(terminalreporter):
    if _left_out:
        counts = ", ".join(f"{count} for want of {what}" for what, count in _left_out.items())
        terminalreporter.write_line(f"left out: {counts}")
    if chance.spent:
        spent, budget = sum(chance.spent), chance.BUDGET
        terminalreporter.write_line(
            f"chance of a false alarm: at most {spent:.1e}; allowed are {budget:.0e}"
        )


def pytest_sessionfinish(session):
    if sum(chance.spent) > chance.BUDGET and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where a device is required, a GPU test that is skipped has failed.

    Only PyTorch may be absent: `make test-gpu` asks for CuPy alone.
    """
    report = yield
    required = GPU_REQUIRED and item.get_closest_marker("gpu")
    if required and report.skipped and "PyTorch is not installed" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, but INFALL_REQUIRE_GPU=1: {report.longrepr}"
    return report
