"""What the marker `gpu` means: skipped without a device, unless a device is required."""

import importlib
import os
from pathlib import Path

import pytest

BENCH = Path(__file__).parent.parent / "bench"


@pytest.fixture
def harness(monkeypatch):
    """The bench's harness; its stems can be imported where this is."""
    monkeypatch.syspath_prepend(str(BENCH))
    return importlib.import_module("harness")


def _why_not():
    try:
        from infall import _cuda

        _cuda.device_count()
    except (ImportError, RuntimeError) as error:
        return f"no CUDA device: {error}"
    return None


def pytest_collection_modifyitems(items):
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked or os.environ.get("INFALL_REQUIRE_GPU") == "1":
        return
    reason = _why_not()
    if reason is not None:
        for item in marked:
            item.add_marker(pytest.mark.skip(reason=reason))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where a device is required, a GPU test that is skipped has failed.

    Only PyTorch may be absent: `make test-gpu` asks for CuPy alone.
    """
    report = yield
    required = os.environ.get("INFALL_REQUIRE_GPU") == "1" and item.get_closest_marker("gpu")
    if required and report.skipped and "PyTorch is not installed" not in str(report.longrepr):
        report.outcome = "failed"
        report.longrepr = f"skipped, but INFALL_REQUIRE_GPU=1: {report.longrepr}"
    return report
