"""Parts on executors: all of them, few at a time, whatever becomes of the workers."""

import concurrent.futures
import multiprocessing
import threading

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import distributed_work as work
from infall.distributed.executors import ExecutorLost, PartsLost, check_executor, results_of

SPAWN = multiprocessing.get_context("spawn")
POOLS = ["none", "threads", "processes", "loky", "dask"]


class Shuffled(concurrent.futures.Executor):
    """Does what it is asked when it is waited for, one thing at a time, in an order of its own."""

    _max_workers = 3

    def __init__(self, random):
        self.random, self.waiting, self.most = random, [], 0
        self.lock = threading.Lock()

    def submit(self, function, /, *arguments):
        future = concurrent.futures.Future()
        with self.lock:
            self.waiting.append((future, function, arguments))
            self.most = max(self.most, len(self.waiting))
        threading.Timer(0.0, self.do_one).start()
        return future

    def do_one(self):
        with self.lock:
            future, function, arguments = self.waiting.pop(self.random.randrange(len(self.waiting)))
        if future.set_running_or_notify_cancel():
            future.set_result(function(*arguments))


@pytest.mark.parametrize("in_order", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_each_part_is_done_once(pool, in_order, pools):
    results = list(
        results_of(
            pools(pool),
            work.part_after,
            "shared",
            [5, 3, *range(10, 30)],
            lambda part: (part * part,),
            name="test",
            in_order=in_order,
        )
    )
    parts = [part for part, _ in results]
    assert parts == [5, 3, *range(10, 30)] if in_order else sorted(parts) == [3, 5, *range(10, 30)]
    assert all(result == ("shared", part, (part * part,)) for part, result in results)


@settings(max_examples=30, deadline=None)
@given(st.randoms(use_true_random=False), st.integers(0, 40), st.booleans())
def test_any_order_of_completion(random, count, in_order):
    executor = Shuffled(random)
    results = results_of(
        executor,
        lambda _, part: part,
        None,
        range(count),
        lambda _: (),
        name="x",
        in_order=in_order,
    )
    parts = [part for part, result in results if part == result]
    assert parts == list(range(count)) if in_order else sorted(parts) == list(range(count))
    assert executor.most <= 2 * executor._max_workers


def test_what_is_left_is_cancelled():
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        begun = []
        results = results_of(
            executor,
            lambda _, part: begun.append(part),
            None,
            range(100),
            lambda _: (),
            name="x",
        )
        next(results)
        results.close()
    assert len(begun) <= 4


@pytest.mark.parametrize("pool", POOLS)
def test_what_a_part_raises_is_raised(pool, pools):
    with pytest.raises(ArithmeticError, match="part 3"):
        list(results_of(pools(pool), work.failing_part, 3, range(9), lambda _: (), name="x"))


@pytest.mark.parametrize("pool", ["processes", "loky", "dask"])
def test_each_worker_is_sent_once_what_the_parts_share(pool, pools):
    sent = []

    class Counted(bytes):
        def __reduce__(self):
            sent.append(len(self))
            return bytes, (bytes(self),)

    shared = Counted(bytes(10**6))
    results = dict(
        results_of(
            pools(pool), work.shared_of_this_process, shared, range(40), lambda _: (), name="x"
        )
    )
    assert len({process for process, _ in results.values()}) <= 2
    assert {length for _, length in results.values()} == {10**6}
    assert len(sent) == 1


def test_a_pool_that_breaks():
    with concurrent.futures.ProcessPoolExecutor(1, mp_context=SPAWN) as executor:
        results = results_of(executor, work.dying_part, 4, range(20), lambda _: (), name="x")
        done = []
        with pytest.raises(PartsLost, match="BrokenProcessPool"):
            done.extend(part for part, _ in results)


def test_a_part_that_takes_its_workers_is_named_when_all_others_are_done(cluster):
    results = results_of(cluster, work.dying_part, 4, range(12), lambda _: (), name="x")
    done = []
    with pytest.raises(PartsLost) as caught:
        done.extend(part for part, _ in results)
    assert sorted(done) == [part for part in range(12) if part != 4]
    assert caught.value.parts == (4,)
    assert "KilledWorker" in caught.value.reason


def test_other_executors_are_refused():
    with pytest.raises(TypeError, match=r"executor is a builtins\.int; expected None, a conc"):
        check_executor(3)


@pytest.mark.parametrize("pool", ["processes", "loky", "dask"])
def test_what_cannot_be_sent_is_told(pool, pools):
    results = results_of(
        pools(pool), work.part_after, threading.Lock(), range(3), lambda _: (), name="x"
    )
    with pytest.raises(TypeError, match="the arguments cannot be sent to the workers"):
        next(results)


def test_the_loss_says_what_is_done_and_where():
    error = ExecutorLost(3, 9, "run.npz", (4,), "KilledWorker")
    assert str(error) == (
        "3 of 9 parts done, saved in run.npz; call again to go on; part 4 took its workers: "
        "KilledWorker"
    )
    assert "and lost: there is no checkpoint" in str(ExecutorLost(3, 9, None, (), "gone"))
