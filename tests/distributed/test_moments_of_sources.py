"""Class moments of sources: the bits of a loop that merges them, whatever the executor."""

import copy
import pickle
import re

import numpy as np
import pytest

import distributed_work as work
import infall
from infall import ClassMoments
from infall.distributed import ExecutorLost, class_moments
from infall.distributed.moments import _Shards, moments_of_source

POOLS = ["none", "threads", "processes", "loky", "dask"]
SIZES = (work.NUM_CLASSES, work.NUM_FEATURES)


def bits(moments):
    state = moments.state_dict()
    return [(name, np.asarray(entry).tobytes()) for name, entry in sorted(state.items())]


def loop(numbers, scatter=False):
    """The moments that are promised."""
    whole = ClassMoments(*SIZES, scatter=scatter)
    for number in numbers:
        of_source = ClassMoments(*SIZES, scatter=scatter)
        of_source.update(*work.shard(number))
        whole.merge(of_source)
    return whole


@pytest.mark.parametrize("scatter", [False, True])
@pytest.mark.parametrize("pool", POOLS)
def test_any_executor_gives_the_bits_of_a_loop(pool, scatter, pools):
    told = []
    moments = class_moments(
        range(20),
        *SIZES,
        executor=pools(pool),
        load=work.shard,
        scatter=scatter,
        progress=lambda *done: told.append(done),
    )
    assert bits(moments) == bits(loop(range(20), scatter))
    assert told == [(number + 1, 20, "sources") for number in range(20)]
    assert moments.counts[-1] == 0


def test_sources_of_every_kind(tmp_path):
    expected = bits(loop(range(3)))
    pairs = [work.shard(number) for number in range(3)]
    assert bits(class_moments(pairs, *SIZES, executor=None)) == expected
    assert bits(class_moments(iter(pairs), *SIZES, executor=None)) == expected
    for number, (features, labels) in enumerate(pairs):
        np.savez(tmp_path / f"{number}.npz", features=features, labels=labels)
    for paths in (sorted(tmp_path.iterdir()), [str(path) for path in sorted(tmp_path.iterdir())]):
        assert bits(class_moments(paths, *SIZES, executor=None)) == expected
    by_batches = class_moments(range(3), *SIZES, executor=None, load=work.batches)
    np.testing.assert_array_equal(by_batches.means, loop(range(3)).means)
    lists = class_moments([list(work.batches(n)) for n in range(3)], *SIZES, executor=None)
    assert bits(lists) == bits(by_batches)
    assert class_moments([], *SIZES, executor=None).num_samples == 0


def test_names_of_classes(pools):
    names = [f"class {i}" for i in range(work.NUM_CLASSES)]
    sources = [
        (features, [names[i] for i in labels]) for features, labels in map(work.shard, (0, 1))
    ]
    moments = class_moments(sources, *SIZES, executor=pools("processes"), classes=names)
    assert moments.classes == names
    np.testing.assert_array_equal(moments.means, loop(range(2)).means)


def test_workers_may_die(cluster, tmp_path):
    sources = [(n, str(tmp_path), 1 if n in (2, 9) else 0) for n in range(14)]
    moments = class_moments(sources, *SIZES, executor=cluster, load=work.deadly_shard)
    assert bits(moments) == bits(loop(range(14)))
    assert len(list(tmp_path.iterdir())) == 2


def test_a_deadly_source_is_named_and_the_next_call_goes_on(cluster, tmp_path):
    folder, done = tmp_path / "deaths", []
    folder.mkdir()
    sources = [(n, str(folder), 1000 if n == 5 else 0) for n in range(8)]
    how = {"load": work.deadly_shard, "checkpoint": tmp_path / "moments.npz"}
    with pytest.raises(ExecutorLost, match=r"5 of 8 parts done, saved in .*part 5 took") as caught:
        class_moments(sources, *SIZES, executor=cluster, **how)
    assert caught.value.parts == (5,)
    with pytest.raises(ValueError, match=r"moments\.npz is the checkpoint of another sources"):
        class_moments(sources[:7], *SIZES, executor=None, **how)
    (folder / "mended").touch()
    moments = class_moments(
        sources, *SIZES, executor=cluster, progress=lambda number, *_: done.append(number), **how
    )
    assert bits(moments) == bits(loop(range(8)))
    assert done == [6, 7, 8]


@pytest.mark.parametrize("end", [1, 4, 6])
def test_a_call_goes_on_where_one_was_stopped(end, tmp_path):
    def stop(done, *_):
        if done == end:
            raise KeyboardInterrupt

    done, how = [], {"executor": None, "load": work.shard, "checkpoint": tmp_path / "m.npz"}
    with pytest.raises(KeyboardInterrupt):
        class_moments(range(6), *SIZES, progress=stop, **how)
    moments = class_moments(range(6), *SIZES, progress=lambda n, *_: done.append(n), **how)
    assert bits(moments) == bits(loop(range(6)))
    assert done == list(range(end + 1, 7))


@pytest.mark.parametrize("nested", [False, True])
def test_sources_that_differ_far_inside_are_told_apart(nested, tmp_path):
    shards = [(np.zeros((3000, 2)), np.zeros(3000, dtype=int)) for _ in range(2)]
    others = [(features.copy(), labels) for features, labels in shards]
    others[1][0][1500, 1] = 1.0
    how = {"executor": None, "checkpoint": tmp_path / "m.npz"}
    given = [[[pair] for pair in pairs] if nested else pairs for pairs in (shards, others)]
    class_moments(given[0], 2, 2, **how)
    with pytest.raises(ValueError, match="the checkpoint of another sources"):
        class_moments(given[1], 2, 2, **how)
    assert class_moments(given[0], 2, 2, **how).num_samples == 6000


def test_an_interrupt_between_a_merge_and_its_count(tmp_path, monkeypatch):
    """Whatever comes right after a merge, no source is merged twice."""
    merge = ClassMoments.merge

    def interrupted(self, other):
        merge(self, other)
        if self.num_samples > 200:
            raise KeyboardInterrupt

    how = {"executor": None, "load": work.shard, "checkpoint": tmp_path / "m.npz"}
    with monkeypatch.context() as patched:
        patched.setattr(ClassMoments, "merge", interrupted)
        with pytest.raises(KeyboardInterrupt):
            class_moments(range(6), *SIZES, **how)
    assert bits(class_moments(range(6), *SIZES, **how)) == bits(loop(range(6)))


def test_errors_name_the_source(pools):
    for pool in ("none", "processes"):
        how = {"executor": pools(pool)}
        with pytest.raises(OSError, match="the disk is gone") as caught:
            class_moments(range(6), *SIZES, load=work.broken_shard, **how)
        assert "while infall read source 3: 3" in caught.value.__notes__
        with pytest.raises(ValueError, match=r"nan at position \(5, 1\)") as caught:
            class_moments(range(6), *SIZES, load=work.nonfinite_shard, **how)
        assert "while infall read source 2: 2" in caught.value.__notes__


def test_a_task_that_runs_twice_changes_nothing_it_is_given():
    features, labels = work.shard(3)
    shards = _Shards(None, *SIZES, True, None, 1)
    before = features.tobytes(), labels.tobytes(), pickle.dumps(shards)
    once = moments_of_source(shards, 0, (features, labels))
    twice = moments_of_source(shards, 0, (features, labels))
    assert bits(once) == bits(twice)
    assert (features.tobytes(), labels.tobytes(), pickle.dumps(shards)) == before
    whole = copy.copy(once)
    whole.merge(twice)
    assert bits(once) == bits(twice)


@pytest.mark.parametrize(
    ("error", "text", "arguments"),
    [
        (TypeError, "load is 3; expected a callable", {"load": 3}),
        (TypeError, "executor is a builtins.str", {"executor": "dask"}),
        (TypeError, "progress is 3; expected a callable", {"progress": 3}),
        (ValueError, "num_classes is 0", {"num_classes": 0}),
        (ValueError, "checkpoint_seconds is -1", {"checkpoint_seconds": -1}),
    ],
)
def test_bad_arguments(error, text, arguments):
    given = {"num_classes": 3, "num_features": 2, "executor": None}
    with pytest.raises(error, match=re.escape(text)):
        class_moments([(np.eye(2), [0, 1])], **{**given, **arguments})


def test_what_is_merged_is_independent_of_the_workers(pools):
    sources = [np.random.default_rng(n).normal(size=(50, 4)) for n in range(9)]
    pairs = [(features, np.arange(50) % 3) for features in sources]
    one = class_moments(pairs, 3, 4, executor=None, num_threads=1)
    assert bits(one) == bits(class_moments(pairs, 3, 4, executor=pools("threads"), num_threads=2))
    assert isinstance(infall.collapse_report(one).nc2, float)
