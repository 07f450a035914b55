"""The engine in threads, forked and spawned processes, and the workers of joblib and PyTorch."""

import concurrent.futures
import multiprocessing
import os
import threading

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import infall
import process_work

pytestmark = pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")

PARTS = [slice(first, first + 150) for first in range(0, 600, 150)]


@pytest.fixture(scope="module")
def expected():
    return process_work.digest()


def test_calls_in_threads_side_by_side(expected):
    with concurrent.futures.ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(process_work.digest) for _ in range(24)]
    assert {future.result() for future in futures} == {expected}


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_processes_started_after_use(method, expected):
    context = multiprocessing.get_context(method)
    with concurrent.futures.ProcessPoolExecutor(2, mp_context=context) as pool:
        futures = [pool.submit(process_work.digest) for _ in range(4)]
        parts = list(pool.map(process_work.moments_of, PARTS))
    assert {future.result() for future in futures} == {expected}
    whole = process_work.moments_of(slice(None))
    for part in parts[1:]:
        parts[0].merge(part)
    assert_array_equal(parts[0].counts, whole.counts)
    np.testing.assert_allclose(parts[0].means, whole.means, rtol=1e-12, atol=1e-14)


def test_a_fork_while_other_threads_compute(expected):
    """A child has neither the other threads nor whatever they held."""
    stop = threading.Event()
    moments = infall.ClassMoments(3, 7)

    def work():
        while not stop.is_set():
            process_work.update(moments, slice(None))
            process_work.digest()

    threads = [threading.Thread(target=work) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(5):
            child = os.fork()
            if child == 0:
                os._exit(0 if process_work.digest() == expected and moments.means.any() else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def test_joblib_workers(expected):
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    with joblib.parallel_config("loky", n_jobs=2):
        digests = joblib.Parallel()(joblib.delayed(process_work.digest)() for _ in range(4))
    assert set(digests) == {expected}


def test_what_joblib_maps_read_only_is_read_and_copied_before_it_changes():
    joblib = pytest.importorskip("joblib", reason="joblib is not installed")
    moments = process_work.moments_of(PARTS[0])
    before = moments.means
    both = process_work.moments_of(PARTS[0])
    both.update(process_work.FEATURES[PARTS[1]], process_work.LABELS[PARTS[1]])
    updated = joblib.Parallel(2, max_nbytes=0, mmap_mode="r")(
        joblib.delayed(process_work.update)(moments, part) for part in PARTS[1:3]
    )
    assert_array_equal(updated[0].means, both.means)
    assert_array_equal(moments.means, before)


def test_dataloader_workers(expected):
    data = pytest.importorskip("torch.utils.data", reason="PyTorch is not installed")
    loader = data.DataLoader(process_work.FeatureDigests(), batch_size=2, num_workers=1)
    assert [digest for batch in loader for digest in batch] == [expected] * 4
