"""How many threads a call takes: argument, context, environment, affinity and control group."""

import math
import os
import threading

import numpy as np
import pytest

import infall
from infall._arrays.threads import available_processors, cgroup_quota, processors_for, thread_count


@pytest.fixture(autouse=True)
def _no_settings(monkeypatch):
    monkeypatch.delenv("INFALL_NUM_THREADS", raising=False)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def test_each_setting_yields_to_the_one_before(monkeypatch):
    assert thread_count(None) == available_processors()
    monkeypatch.setenv("OMP_NUM_THREADS", "7")
    assert thread_count(None) == 7
    monkeypatch.setenv("INFALL_NUM_THREADS", " 5 ")
    assert thread_count(None) == 5
    with infall.num_threads(3):
        assert thread_count(None) == 3
        with infall.num_threads(np.int64(2)):
            assert thread_count(None) == 2
        assert thread_count(None) == 3
        assert thread_count(9) == 9
    assert thread_count(None) == 5


@pytest.mark.parametrize(
    ("text", "threads"), [("4,2,1", 4), ("5000", 1024), ("0", None), ("-2", None), ("many", None)]
)
def test_openmps_variable_is_read_as_openmp_reads_it(monkeypatch, text, threads):
    monkeypatch.setenv("OMP_NUM_THREADS", text)
    assert thread_count(None) == (threads or available_processors())


@pytest.mark.parametrize("text", ["0", "-1", "two", "1.5", "1025"])
def test_a_wrong_variable_of_ours_is_refused_by_name(monkeypatch, text):
    monkeypatch.setenv("INFALL_NUM_THREADS", text)
    with pytest.raises(ValueError, match=f"INFALL_NUM_THREADS is '{text}'"):
        infall.select_rows(np.ones(2), 10)


def test_a_wrong_count_is_refused_and_changes_nothing():
    before = thread_count(None)
    for count, error in ((0, ValueError), (1025, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="count is"), infall.num_threads(count):
            pass
    with pytest.raises(KeyError), infall.num_threads(1):
        raise KeyError
    assert thread_count(None) == before


def test_the_context_is_that_of_its_thread():
    seen = []
    with infall.num_threads(3):
        other = threading.Thread(target=lambda: seen.append(thread_count(None)))
        other.start()
        other.join()
    assert seen == [available_processors()]


def test_affinity_limits_the_default():
    allowed = os.sched_getaffinity(0)
    try:
        os.sched_setaffinity(0, {min(allowed)})
        assert thread_count(None) == 1
    finally:
        os.sched_setaffinity(0, allowed)


def _group(folder, **files):
    folder.mkdir(parents=True)
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)


@pytest.mark.parametrize(
    ("parent", "child", "quota"),
    [
        ("max 100000", "max 100000", math.inf),
        ("max 100000", "150000 100000", 1.5),
        ("50000 100000", "400000 100000", 0.5),
        ("nonsense", "200000 100000", 2.0),
    ],
)
def test_the_least_quota_of_a_group_and_those_above_it(tmp_path, parent, child, quota):
    memberships = tmp_path / "cgroup"
    memberships.write_text("0::/jobs/mine\n")
    _group(tmp_path / "fs" / "jobs", cpu__max=parent)
    _group(tmp_path / "fs" / "jobs" / "mine", cpu__max=child)
    assert cgroup_quota(memberships, tmp_path / "fs") == quota


@pytest.mark.parametrize(("limit", "quota"), [("-1", math.inf), ("250000", 2.5)])
def test_quota_of_version_1(tmp_path, limit, quota):
    memberships = tmp_path / "cgroup"
    memberships.write_text("3:memory:/a\n2:cpu,cpuacct:/host/path/not/mounted\n1:name=systemd:/\n")
    _group(tmp_path / "fs" / "cpu", cpu__cfs_quota_us=limit, cpu__cfs_period_us="100000")
    assert cgroup_quota(memberships, tmp_path / "fs") == quota


def test_without_control_groups_there_is_no_quota(tmp_path):
    assert cgroup_quota(tmp_path / "missing", tmp_path) == math.inf


@pytest.mark.parametrize(
    ("quota", "processors"), [(0.5, 1), (1.0, 1), (2.5, 3), (1e9, 1024), (math.inf, 1024)]
)
def test_processors_for_a_quota(quota, processors):
    assert processors_for(quota) == processors
