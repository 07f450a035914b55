"""Selections by parts: the bits of one call, whatever the parts, the executor and its deaths."""

import concurrent.futures
import multiprocessing
import os
import pickle
import resource
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import infall
from infall._arrays import files
from infall.distributed import ExecutorLost, select_rows
from infall.distributed.checkpoints import Checkpoint
from infall.distributed.executors import _run
from infall.distributed.selection import Parts, best_of_parts, part_of_selection
from infall.rows._task import SelectionTask
from infall.rows.settings import LayerSettings
from selection_cases import vector

POOLS = ["none", "threads", "processes", "loky", "dask"]


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(["stream", "rotated"]),
    st.sampled_from(["absolute", "signed"]),
    st.sampled_from(["index", "score"]),
    st.sampled_from([None, 1, 3]),
    st.integers(1, 9000),
    st.integers(1, 40),
    st.integers(1, 4000),
    st.integers(0, 2**63 - 10_000),
)
def test_any_cut_gives_the_bits_of_one_call(
    sampler, score, order, batch, length, num_rows, part_rows, first
):
    how = {
        "num_rows": min(num_rows, length),
        "seed": first,
        "sampler": sampler,
        "score": score,
        "order": order,
        "row_range": (first, first + length),
    }
    w = vector(5, seed=length, batch=batch)
    parts = max(part_rows, length // 50)
    by_parts = select_rows(w, 2**63 - 1, executor=None, part_rows=parts, **how)
    assert by_parts == infall.select_rows(w, 2**63 - 1, **how)


@pytest.mark.parametrize("pool", POOLS)
@pytest.mark.parametrize("sampler", ["stream", "rotated"])
def test_any_executor_gives_the_bits_of_one_call(pool, sampler, pools):
    w, told = vector(20, batch=2), []
    by_parts = select_rows(
        w,
        2**20,
        executor=pools(pool),
        seed=3,
        sampler=sampler,
        part_rows=40_000,
        progress=lambda *parts: told.append(parts),
    )
    assert by_parts == infall.select_rows(w, 2**20, seed=3, sampler=sampler)
    assert told == [(part, 27, "parts") for part in range(1, 28)]


def test_libraries_and_shapes_are_those_of_w():
    for w in (vector(4), vector(4, batch=1), np.empty((0, 4)), [1.0, 2.0]):
        mine = select_rows(w, 5000, executor=None, part_rows=999)
        assert mine == infall.select_rows(w, 5000)
        assert mine.rows.shape == infall.select_rows(w, 5000).rows.shape


def parts_of(w, width, num_rows, part_rows, **settings_):
    settings_ = {"sampler": "stream", "score": "absolute", "order": "index", **settings_}
    whole = LayerSettings(width, 7, 1, row_range=(0, width), **settings_)
    task = SelectionTask.of(whole, num_rows, 1, None)
    return Parts.of(task, whole, np.atleast_2d(w) / np.linalg.norm(w), part_rows)


def test_a_threshold_that_too_few_rows_reach_is_given_up():
    parts = parts_of(vector(6), 30_000, 12, 4000)
    expected = best_of_parts(None, parts, Checkpoint(None, "", {}, 1.0), None)
    for least in (-np.inf, 3.9, np.inf):  # fewer than 12 of 30000 are beyond 3.9
        best = best_of_parts(None, parts, Checkpoint(None, "", {}, 1.0), None, least)
        for (rows, projections), (rows_expected, projections_expected) in zip(
            best, expected, strict=True
        ):
            np.testing.assert_array_equal(rows, rows_expected)
            np.testing.assert_array_equal(projections, projections_expected)


def test_parts_send_little():
    # 4096 parts for k = 784: what is asked, and what is answered.
    num_rows, parts, some = 784, 4096, 16
    many = parts_of(vector(784), parts * 2**12, num_rows, 2**12)
    sent = 0
    for number in range(some):
        asked = _run, "0" * 16, None, part_of_selection, number, many.threshold
        answered = part_of_selection(many, number, many.threshold)
        sent += len(pickle.dumps(asked)) + len(pickle.dumps(answered))
    assert sent / some * parts < 2**20


def test_a_call_that_is_refused_leaves_no_checkpoint(tmp_path):
    path = tmp_path / "run.npz"
    with pytest.raises(TypeError, match="executor"):
        select_rows(vector(9), 60_000, executor="threads", checkpoint=path)
    assert not path.exists()


@pytest.mark.parametrize("end", [1, 5, 24])
def test_a_call_goes_on_where_one_was_stopped(end, tmp_path):
    def stop(done, *_):
        if done == end:
            raise KeyError

    w, path, done = vector(9), tmp_path / "run.npz", []
    how = {"executor": None, "part_rows": 5000, "checkpoint": path, "seed": 5}
    with pytest.raises(KeyError):
        select_rows(w, 120_000, progress=stop, **how)
    by_parts = select_rows(w, 120_000, progress=lambda part, *_: done.append(part), **how)
    assert by_parts == infall.select_rows(w, 120_000, seed=5)
    assert done == list(range(end + 1, 25))
    assert path.stat().st_size < 8000
    # What is complete is not done again.
    assert by_parts == select_rows(w, 120_000, progress=lambda *_: pytest.fail("done"), **how)


@pytest.mark.parametrize(
    ("name", "other"),
    [
        ("w", {}),
        ("width", {"width": 60_001}),
        ("seed", {"seed": 6}),
        ("layer", {"layer": 1}),
        ("sampler", {"sampler": "rotated"}),
        ("score", {"score": "signed"}),
        ("num_rows", {"num_rows": 8}),
        ("part_rows", {"part_rows": 4999}),
        ("row_range", {"row_range": (0, 59_999)}),
    ],
)
def test_a_checkpoint_of_another_call_is_refused(name, other, tmp_path):
    path = tmp_path / "run.npz"
    how = {"width": 60_000, "executor": None, "part_rows": 5000, "checkpoint": path, "seed": 5}
    select_rows(vector(9), **how)
    before = path.read_bytes()
    w = vector(9, seed=1) if name == "w" else vector(9)
    with pytest.raises(ValueError, match=rf"run\.npz is the checkpoint of another {name}"):
        select_rows(w, **{**how, **other})
    assert path.read_bytes() == before


def test_a_checkpoint_of_another_mapping_is_refused(tmp_path, monkeypatch):
    path = tmp_path / "run.npz"
    monkeypatch.setattr(files, "MAPPING_VERSION", 2)
    select_rows(vector(9), 60_000, executor=None, checkpoint=path)
    monkeypatch.undo()
    with pytest.raises(ValueError, match="mapping version 2"):
        select_rows(vector(9), 60_000, executor=None, checkpoint=path)


def test_a_damaged_checkpoint_is_refused(tmp_path):
    path = tmp_path / "run.npz"
    select_rows(vector(9), 60_000, executor=None, checkpoint=path, part_rows=10_000)
    whole = path.read_bytes()
    for damaged in (whole[: len(whole) // 2], b"", whole[:2000] + b"\xff" * 8 + whole[2008:]):
        path.write_bytes(damaged)
        with pytest.raises(ValueError, match=r"run\.npz"):
            select_rows(vector(9), 60_000, executor=None, checkpoint=path, part_rows=10_000)
        assert path.read_bytes() == damaged


def test_a_file_that_grows_too_large_leaves_the_old_one(tmp_path):
    path, soft = tmp_path / "run.npz", resource.getrlimit(resource.RLIMIT_FSIZE)
    how = {"executor": None, "part_rows": 10_000, "checkpoint": path, "checkpoint_seconds": 1e-9}
    w = vector(9)

    def shrink(done, *_):
        if done == 3:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, soft[1]))

    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:
        with pytest.raises(OSError, match="File too large"):
            select_rows(w, 60_000, progress=shrink, **how)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, soft)
        signal.signal(signal.SIGXFSZ, handler)
    done = []
    by_parts = select_rows(w, 60_000, progress=lambda part, *_: done.append(part), **how)
    assert by_parts == infall.select_rows(w, 60_000)
    assert done == [4, 5, 6]


def test_workers_may_be_killed(cluster, tmp_path):
    w = vector(15)

    def kill(done, *_):
        if done in (5, 20):
            processes = cluster.run(os.getpid)
            os.kill(next(iter(processes.values())), signal.SIGKILL)

    by_parts = select_rows(w, 2**22, executor=cluster, part_rows=2**17, progress=kill)
    assert by_parts == infall.select_rows(w, 2**22)


def test_a_broken_pool_is_told_and_the_next_goes_on(tmp_path):
    w, path, done = vector(15), tmp_path / "run.npz", []
    how = {"part_rows": 2**17, "checkpoint": path}
    spawn = multiprocessing.get_context("spawn")

    def kill(part, *_):
        if part == 7:
            for process in pool._processes.values():
                process.kill()

    with (
        concurrent.futures.ProcessPoolExecutor(2, mp_context=spawn) as pool,
        pytest.raises(ExecutorLost, match=r"of 32 parts done, saved in .*run\.npz") as caught,
    ):
        select_rows(w, 2**22, executor=pool, progress=kill, **how)
    assert 7 <= caught.value.done < 32
    assert caught.value.total == 32
    by_parts = select_rows(
        w, 2**22, executor=None, progress=lambda part, *_: done.append(part), **how
    )
    assert by_parts == infall.select_rows(w, 2**22)
    assert done == list(range(caught.value.done + 1, 33))


def test_the_scheduler_may_be_killed(tmp_path):
    distributed = pytest.importorskip("distributed")
    w, path, address = vector(15), tmp_path / "run.npz", tmp_path / "scheduler.json"
    command = [sys.executable, "-m", "distributed.cli.dask_scheduler", "--port", "0"]
    scheduler = subprocess.Popen(
        [*command, "--no-dashboard", "--scheduler-file", address], stderr=subprocess.DEVNULL
    )
    command = [sys.executable, "-m", "distributed.cli.dask_worker", "--no-nanny", "--no-dashboard"]
    worker = subprocess.Popen(
        [*command, "--nthreads", "1", "--death-timeout", "5", "--scheduler-file", address],
        stderr=subprocess.DEVNULL,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )

    def kill(part, *_):
        if part == 5:
            scheduler.kill()
            scheduler.wait()

    try:
        client = distributed.Client(scheduler_file=str(address), timeout=60)
        client.wait_for_workers(1, timeout=60)
        begun = time.monotonic()
        with pytest.raises(ExecutorLost, match="saved in"):
            select_rows(w, 2**22, executor=client, part_rows=2**17, checkpoint=path, progress=kill)
        assert time.monotonic() - begun < 60
        client.close(timeout=1)
    finally:
        for process in (scheduler, worker):
            process.kill()
            process.wait()
    done = []
    by_parts = select_rows(
        w,
        2**22,
        executor=None,
        part_rows=2**17,
        checkpoint=path,
        progress=lambda part, *_: done.append(part),
    )
    assert by_parts == infall.select_rows(w, 2**22)
    assert done[0] > 5


def test_the_caller_may_be_killed_at_any_time(tmp_path):
    path, checkpoint = tmp_path / "selection.npz", tmp_path / "run.npz"
    program = (
        f"import distributed_work as work; work.small_selection({str(path)!r}, {str(checkpoint)!r})"
    )
    rng, kills = np.random.default_rng(), 0
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    while not path.exists():
        process = subprocess.Popen([sys.executable, "-c", program], env=environment)
        try:
            # The first ten are killed; later ones may end.
            assert process.wait(rng.uniform(0.3, 2.0) if kills < 10 else None) == 0
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            kills += 1
    w = np.random.default_rng(1).normal(size=12)
    assert infall.RowSelection.load(path) == infall.select_rows(w, 2**21)


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (
            ValueError,
            "sampler is 'order_statistics', which has no parts",
            {"sampler": "order_statistics"},
        ),
        (ValueError, "part_rows is 0; expected 1 <= part_rows", {"part_rows": 0}),
        (
            ValueError,
            "which makes 30000000 parts; the limit is",
            {"part_rows": 1, "width": 30_000_000},
        ),
        (TypeError, "part_rows is 2.5; expected an integer", {"part_rows": 2.5}),
        (ValueError, "checkpoint_seconds is 0", {"checkpoint_seconds": 0}),
        (TypeError, "executor is a builtins.str", {"executor": "threads"}),
        (TypeError, "progress is 3; expected a callable", {"progress": 3}),
        (ValueError, "num_rows is 60001", {"num_rows": 60_001}),
    ],
)
def test_bad_arguments(error, text, arguments):
    with pytest.raises(error, match=text):
        select_rows(vector(9), **{"width": 60_000, "executor": None, **arguments})
