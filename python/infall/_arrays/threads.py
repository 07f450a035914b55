"""How many threads a call takes when it is not told."""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

from infall._arrays.checks import integer

MAX_THREADS = 1024

_chosen: ContextVar[int | None] = ContextVar("infall.num_threads", default=None)


@contextmanager
def num_threads(count: int) -> Iterator[None]:
    """Set the number of threads that calls take by default, within a ``with`` block.

    It holds for the thread (or asyncio task) that enters the block, and not for others that run
    meanwhile or are started in it. A `num_threads` argument overrides it; without either, the
    environment variable ``INFALL_NUM_THREADS`` decides, then ``OMP_NUM_THREADS``, which Dask,
    joblib and batch systems set for their workers, and else the processors there are: the fewer of
    those that the process may run on and of those that its control group (a container) may use.

    No result depends on the number of threads.

    Parameters
    ----------
    count : int
        1 to 1024.

    Raises
    ------
    TypeError, ValueError
        For any other number or object.

    Examples
    --------
    >>> import numpy as np
    >>> import infall
    >>> with infall.num_threads(1):
    ...     selection = infall.select_rows(np.ones(3), 1000)
    """
    token = _chosen.set(integer(count, "count", 1, MAX_THREADS + 1))
    try:
        yield
    finally:
        _chosen.reset(token)


def thread_count(value: Any) -> int:
    """Return the number of threads that an argument `num_threads` stands for.

    Raises TypeError or ValueError for anything but None and a number of threads, and
    for an `INFALL_NUM_THREADS` that is none.
    """
    if value is not None:
        return integer(value, "num_threads", 1, MAX_THREADS + 1)
    return _chosen.get() or _of_environment() or available_processors()


def _of_environment() -> int | None:
    text = os.environ.get("INFALL_NUM_THREADS", "").strip()
    if text:
        if not text.isdecimal() or not 1 <= int(text) <= MAX_THREADS:
            raise ValueError(
                f"the environment variable INFALL_NUM_THREADS is {text!r}; expected a number from "
                f"1 to {MAX_THREADS}"
            )
        return int(text)
    # A list of numbers, one for each nesting level; OpenMP ignores anything else as well.
    outermost = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if outermost.isdecimal() and int(outermost) > 0:
        return min(int(outermost), MAX_THREADS)
    return None


def available_processors() -> int:
    """Return the processors that this process may use at once."""
    if hasattr(os, "sched_getaffinity"):
        allowed = len(os.sched_getaffinity(0))
    else:
        allowed = os.cpu_count() or 1
    return min(allowed, processors_for(_own_quota()))


def processors_for(quota: float) -> int:
    """Return the processors that keep a quota busy: at least one."""
    return math.ceil(min(max(quota, 1.0), MAX_THREADS))


@functools.cache
def _own_quota() -> float:
    return cgroup_quota(Path("/proc/self/cgroup"), Path("/sys/fs/cgroup"))


def cgroup_quota(memberships: Path, root: Path) -> float:
    """Return the processor time that a control group may use per time; infinity without a limit.

    `memberships` is a file as ``/proc/self/cgroup``, `root` where the control groups of version 2,
    or the controllers of version 1, are mounted.
    """
    try:
        lines = memberships.read_text().splitlines()
    except OSError:
        return math.inf
    quota = math.inf
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if controllers == "":
            mount = root
        elif "cpu" in controllers.split(","):
            mount = root / "cpu"
        else:
            continue
        # In a container the path may be that of the host, which is not mounted: what is, counts.
        group = mount / path.lstrip("/")
        for folder in (group, *group.parents):
            quota = min(quota, _quota_of(folder))
            if folder == mount:
                break
    return quota


def _quota_of(folder: Path) -> float:
    try:
        if (folder / "cpu.max").exists():
            limit, period = (folder / "cpu.max").read_text().split()
        else:
            limit = (folder / "cpu.cfs_quota_us").read_text()
            period = (folder / "cpu.cfs_period_us").read_text()
        return float(limit) / float(period) if float(limit) > 0 else math.inf
    except (OSError, ValueError):  # no such file, or "max"
        return math.inf
