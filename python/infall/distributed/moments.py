"""Class moments of features in shards too large, or too many, for one machine."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from infall._arrays import files
from infall._arrays.calls import Progress, watch_of
from infall._arrays.checks import positive_number
from infall._arrays.threads import thread_count
from infall.classes.moments import ClassMoments
from infall.distributed.checkpoints import Checkpoint, digest_of
from infall.distributed.executors import (
    Executor,
    ExecutorLost,
    PartsLost,
    check_executor,
    results_of,
)

_KIND = "infall.MomentsCheckpoint"


def class_moments(
    sources: Iterable[Any],
    num_classes: int,
    num_features: int,
    *,
    executor: Executor,
    load: Callable[[Any], Any] | None = None,
    scatter: bool = False,
    classes: Sequence[Hashable] | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> ClassMoments:
    """Take the moments of each source on an executor, and merge them in the order of the sources.

    Parameters
    ----------
    sources : sequence
        Shards of the samples: whatever `load` takes, such as paths.
    num_classes, num_features, scatter, classes
        As in `infall.ClassMoments`.
    executor : None, concurrent.futures.Executor or distributed.Client
        Where the sources are read; None: here.
    load : callable, optional
        load(source) returns the features (N, d) and labels (N,) of a source, or an iterable of such
        pairs, its batches. It is called where the source is read, again if a worker dies. By
        default a source is such a pair, such an iterable, or the path of an .npz file with arrays
        `features` and `labels`.
    checkpoint : path, optional
        A file for the moments of the first sources. It is written every `checkpoint_seconds`, and
        when the call ends, however it ends. If it is there, the call goes on from it.
    checkpoint_seconds : float
        See there.
    num_threads : int, optional
        Threads for a source; one by default, without an executor all processors.
    progress : callable, optional
        Called as progress(sources_done, sources_total, "sources") when a source is merged; what it
        raises stops the call.

    Returns
    -------
    ClassMoments
        Those that a loop gives which merges the moments of one source after the other: the same
        bits whatever the executor, its workers and their deaths.

    Raises
    ------
    TypeError, ValueError
        As `infall.ClassMoments`, and ValueError for a checkpoint that is damaged, or of another
        call, with what differs.
    ExecutorLost
        If the executor is gone, or a source has taken down as many workers as it allows.
    OSError
        If the checkpoint cannot be read or written.

    Notes
    -----
    A worker holds one batch, and moments; what it sends are K d (8 + 4) bytes, d x d numbers more
    with scatter: a source should be larger, which takes more than 3 K samples. Twice as many
    sources are under way as there are workers. Those that are done before it is their turn wait, on
    Dask with the workers, else in the memory of the caller. What `load` raises, and ValueError for
    a sample, names the source.

    A checkpoint is refused for other sources. They are compared by their `repr`, arrays and what
    lists and tuples hold of them by their numbers.

    Examples
    --------
    >>> import numpy as np
    >>> import infall.distributed
    >>> shards = [(np.eye(3), [0, 1, 1]), (np.ones((2, 3)), [0, 0])]
    >>> infall.distributed.class_moments(shards, 2, 3, executor=None)
    ClassMoments(2, 3: 5 samples of 2 classes)
    """
    check_executor(executor)
    sources = list(sources)
    threads = 1 if executor is not None and num_threads is None else thread_count(num_threads)
    positive_number(checkpoint_seconds, "checkpoint_seconds")
    if load is not None and not callable(load):
        raise TypeError(f"load is {load!r}; expected a callable")
    watch_of(progress, len(sources), "sources")
    moments = ClassMoments(
        num_classes, num_features, scatter=scatter, classes=classes, num_threads=num_threads
    )
    settings: dict[str, int | str] = {
        "num_classes": moments.num_classes,
        "num_features": moments.num_features,
        "scatter": moments.scatter,
        "classes": repr(moments.classes),
        "sources": "" if checkpoint is None else _described(sources),
    }
    saved = Checkpoint(checkpoint, _KIND, settings, checkpoint_seconds)
    merged = _Merged(moments)
    state = saved.load()
    if state is not None:
        merged.restore(state, len(sources), str(saved.path))
    shards = _Shards(load, moments.num_classes, moments.num_features, scatter, classes, threads)
    try:
        for _, of_source in results_of(
            executor,
            moments_of_source,
            shards,
            range(merged.done, len(sources)),
            lambda number: (sources[number],),
            name="moments",
            in_order=True,
        ):
            merged.add(of_source)
            saved.save(merged.state)
            if progress is not None:
                progress(merged.done, len(sources), "sources")
    except PartsLost as error:
        raise ExecutorLost(
            merged.done, len(sources), saved.path, error.parts, error.reason
        ) from error.__cause__
    finally:
        saved.save(merged.state, now=True)
    return merged.moments


class _Shards(NamedTuple):
    """What the sources share."""

    load: Callable[[Any], Any] | None
    num_classes: int
    num_features: int
    scatter: bool
    classes: Sequence[Hashable] | None
    threads: int


def moments_of_source(shards: _Shards, number: int, source: Any) -> ClassMoments:
    """Return the moments of one source; what is raised says of which."""
    moments = ClassMoments(
        shards.num_classes,
        shards.num_features,
        scatter=shards.scatter,
        classes=shards.classes,
        num_threads=shards.threads,
    )
    try:
        for features, labels in batches_of(source, shards.load):
            moments.update(features, labels)
    except Exception as error:
        error.add_note(f"while infall read source {number}: {source!r:.200}")
        raise
    return moments


def batches_of(source: Any, load: Callable[[Any], Any] | None) -> Iterable[tuple[Any, Any]]:
    """Yield features and labels of a source."""
    loaded = source if load is None else load(source)
    if load is None and isinstance(source, (str, os.PathLike)):
        with np.load(source) as arrays:
            yield arrays["features"], arrays["labels"]
        return
    # A pair of arrays, or an iterable of pairs; two batches in a list are none.
    if isinstance(loaded, tuple) and len(loaded) == 2:
        yield loaded
        return
    yield from loaded


def _described(sources: list[Any]) -> str:
    """Return what tells these sources from others."""
    digest = hashlib.sha256()
    for source in sources:
        digest.update(_text_of(source).encode())
    return f"{len(sources)} sources {digest.hexdigest()}"


def _text_of(source: Any) -> str:
    # Long arrays look alike in a repr.
    if isinstance(source, np.ndarray):
        return repr(source.tolist()) if source.dtype.hasobject else digest_of(source)
    if isinstance(source, (list, tuple)):
        return f"({','.join(map(_text_of, source))})"
    return repr(source)


class _Merged:
    """The moments of the first `done` sources; both belong together whenever they are looked at."""

    def __init__(self, moments: ClassMoments) -> None:
        self.moments, self._done, self._samples = moments, 0, 0

    def add(self, of_source: ClassMoments) -> None:
        self.moments.merge(of_source)
        if not self._settled():
            self._done += 1  # a source without samples

    @property
    def done(self) -> int:
        self._settled()
        return self._done

    def _settled(self) -> bool:
        # An interrupt may come between a merge and what counts it: the samples tell.
        samples = self.moments.num_samples
        new = samples != self._samples
        if new:
            self._done, self._samples = self._done + 1, samples
        return new

    def state(self) -> dict[str, Any]:
        arrays = {f"moments_{name}": part for name, part in self.moments.state_dict().items()}
        return {"sources_done": np.array(self.done), **arrays}

    def restore(self, state: dict[str, Any], num_sources: int, path: str) -> None:
        arrays = {
            name.removeprefix("moments_"): array if array.ndim else array.item()
            for name, array in state.items()
            if name.startswith("moments_")
        }
        try:
            done = files.saved_integer(state, "sources_done")
            if not 0 <= done <= num_sources:
                raise ValueError(f"{done} of {num_sources} sources are done")
            moments = ClassMoments.from_state_dict(arrays, num_threads=self.moments.num_threads)
        except (KeyError, ValueError) as error:
            raise ValueError(f"{path} is a damaged checkpoint: {error}") from None
        self.moments, self._done, self._samples = moments, done, moments.num_samples
