"""Selections from layers too long for one machine, or one sitting."""

from __future__ import annotations

import math
import os
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays.calls import Progress, standard_floats, watch_of
from infall._arrays.checks import MAX_ROWS, integer, positive_number
from infall._arrays.host import Host
from infall._arrays.locate import place_of
from infall._arrays.threads import thread_count
from infall.distributed.checkpoints import Checkpoint, digest_of
from infall.distributed.executors import (
    Executor,
    ExecutorLost,
    PartsLost,
    check_executor,
    results_of,
)
from infall.rows import _host
from infall.rows._task import SelectionTask, best_positions, expected_to_pass, threshold
from infall.rows.selection import RowSelection, selection_of
from infall.rows.settings import LayerSettings, Order, Sampler, Score, checked_settings

KIND = "infall.SelectionCheckpoint"
_PART_NORMALS = 2**34  # of a part: eight seconds of a processor
_MAX_PARTS = 2**24

_Int64 = NDArray[np.int64]
_Float = NDArray[np.float64]


@standard_floats
def select_rows(
    w: ArrayLike,
    width: int,
    *,
    executor: Executor,
    num_rows: int | None = None,
    seed: int = 0,
    layer: int = 0,
    sampler: Sampler = "stream",
    score: Score = "absolute",
    order: Order = "index",
    row_range: tuple[int, int] | None = None,
    part_rows: int | None = None,
    checkpoint: str | os.PathLike[str] | None = None,
    checkpoint_seconds: float = 30.0,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> RowSelection:
    """Select as `infall.select_rows` does, by parts of the layer on an executor.

    Parameters
    ----------
    w : array, shape (k,) or (B, k)
        In host memory.
    width, num_rows, seed, layer, score, order, row_range
        As in `infall.select_rows`.
    executor : None, concurrent.futures.Executor or distributed.Client
        Where the parts are looked at; None: here.
    sampler : {"stream", "rotated"}
        As in `infall.select_rows`; order statistics are drawn at once, for any width.
    part_rows : int, optional
        Rows of a part; by default as many as have 2**34 normal entries, eight seconds of a
        processor. Changes no bit.
    checkpoint : path, optional
        A file for what is done: the best rows so far and which parts they are of. It is written
        every `checkpoint_seconds`, and when the call ends, however it ends. If it is there, the
        call goes on from it.
    checkpoint_seconds : float
        See there.
    num_threads : int, optional
        Threads of a part; one by default, without an executor as in `infall.select_rows`.
    progress : callable, optional
        Called as progress(parts_done, parts_total, "parts") after each part; what it raises stops
        the call.

    Returns
    -------
    RowSelection
        Bit for bit that of `infall.select_rows`, whatever the executor, its workers, their deaths,
        and the parts.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `infall.select_rows`; ValueError for a checkpoint that is damaged, or of another call,
        with what differs.
    ExecutorLost
        If the executor is gone, or a part has taken down as many workers as it allows; all other
        parts are then done, where the executor goes on.
    OSError
        If the checkpoint cannot be read or written.

    Notes
    -----
    A part returns row numbers and projections alone, and only of rows that reach a threshold which
    more rows of the whole range reach than are wanted, but few: for k = 784 rows of 4096 parts
    some hundred bytes each. The rows are made at the end. Twice as many parts are under way as
    there are workers.

    Examples
    --------
    >>> from concurrent.futures import ThreadPoolExecutor
    >>> import numpy as np
    >>> import infall.distributed
    >>> w = np.ones(4)
    >>> with ThreadPoolExecutor(2) as executor:
    ...     selection = infall.distributed.select_rows(
    ...         w, 2**16, executor=executor, part_rows=10_000
    ...     )
    >>> selection == infall.select_rows(w, 2**16)
    True
    """
    check_executor(executor)
    job = SelectionJob.of(
        w, width, num_rows, seed, layer, sampler, score, order, row_range, part_rows=part_rows
    )
    positive_number(checkpoint_seconds, "checkpoint_seconds")
    watch_of(progress, job.parts.num_parts, "parts")
    threads = 1 if executor is not None and num_threads is None else thread_count(num_threads)
    parts = job.parts.with_threads(threads)
    saved = Checkpoint(checkpoint, KIND, job.described(), checkpoint_seconds)
    return job.selection(best_of_parts(executor, parts, saved, progress))


class SelectionJob(NamedTuple):
    """A selection whose arguments are checked."""

    place: Host  # of w
    vectors: _Float  # (B, k)
    batched: bool
    settings: LayerSettings
    norms: tuple[_Float, _Int64]  # fractions and exponents, each (B,)
    parts: Parts

    @classmethod
    def of(
        cls,
        w: Any,
        width: Any,
        num_rows: Any,
        seed: Any,
        layer: Any,
        sampler: Any,
        score: Any,
        order: Any,
        row_range: Any,
        *,
        part_rows: Any = None,
        num_parts: Any = None,
    ) -> SelectionJob:
        """Check the arguments of `select_rows`; the parts are as many or as long as said."""
        given, located = place_of(w, "w")
        if not given.is_host:
            raise TypeError(f"w is in {given.description}; expected host memory")
        place = Host(w)
        vectors, batched = place.vectors(located, "w")
        settings, num_rows = checked_settings(
            vectors.shape, width, num_rows, seed, layer, sampler, score, order, row_range
        )
        if sampler == "order_statistics":
            raise ValueError(
                "sampler is 'order_statistics', which has no parts: use infall.select_rows"
            )
        directions, fractions, exponents = _host.unit_vectors(place, vectors, "w")
        task = SelectionTask.of(settings, num_rows, 1, None)
        if num_parts is not None:
            length = task.last - task.first
            num_parts = integer(num_parts, "num_parts", 1, min(length, _MAX_PARTS) + 1)
            part_rows = -(-length // num_parts)
        parts = Parts.of(task, settings, directions, part_rows)
        return cls(place, vectors, batched, settings, (fractions, exponents), parts)

    def described(self) -> dict[str, int | str]:
        """Return what parts of one selection have in common."""
        settings = self.settings._asdict() | {
            "row_range": "{}, {}".format(*self.settings.row_range),
            "num_rows": self.parts.task.num_rows,
            "part_rows": self.parts.part_rows,
        }
        del settings["order"]
        return {"w": digest_of(self.vectors), **settings}

    def selection(self, best: _host.Selected) -> RowSelection:
        """Return the selection of the best rows of all parts."""
        task, sampler, directions = self.parts.task, self.settings.sampler, self.parts.directions
        if len(directions) == 0:
            selected: Any = _host.select(self.place, task, sampler, directions, None)
        else:
            indices, unit_projections = _host.stacked(task, best)
            rotation = _host.rotation_of(sampler, directions)
            rows = _host.rows_of(
                task, sampler, indices, unit_projections, rotation, directions.shape[1]
            )
            selected = indices, unit_projections, rows
        projections = _host.projections(self.place, selected[1], *self.norms)
        return selection_of(self.place, selected, projections, self.batched, self.settings)


class Parts(NamedTuple):
    """What the parts of a selection share."""

    task: SelectionTask
    sampler: Sampler
    directions: _Float  # (B, k)
    part_rows: int

    @classmethod
    def of(
        cls, task: SelectionTask, settings: LayerSettings, directions: _Float, part_rows: Any
    ) -> Parts:
        """Cut the rows of a task; raises ValueError for what is no number of rows."""
        columns = directions.shape[1] if settings.sampler == "stream" else len(directions)
        if part_rows is None:
            part_rows = max(1, _PART_NORMALS // max(1, columns))
        part_rows = integer(part_rows, "part_rows", 1, MAX_ROWS, "2**63")
        parts = cls(task, settings.sampler, directions, part_rows)
        if parts.num_parts > _MAX_PARTS:
            raise ValueError(
                f"part_rows is {part_rows}, which makes {parts.num_parts} parts; the limit is 2**24"
            )
        return parts

    def with_threads(self, threads: int) -> Parts:
        """Return the same parts, each looked at by so many threads."""
        return self._replace(task=self.task._replace(threads=threads))

    def rows_of_part(self, number: int) -> tuple[int, int]:
        """Return the first row of a part and the row past its last."""
        first = self.task.first + number * self.part_rows
        return first, min(first + self.part_rows, self.task.last)

    @property
    def num_parts(self) -> int:
        """How many there are; the last may be shorter."""
        return -((self.task.first - self.task.last) // self.part_rows)

    @property
    def threshold(self) -> float:
        """What few more rows of the whole range reach than are wanted."""
        available = self.task.last - self.task.first
        return threshold(expected_to_pass(self.task.num_rows, 6.0), available, self.task.absolute)


def part_of_selection(parts: Parts, number: int, least: float) -> tuple[bytes, ...]:
    """Return row numbers and unit projections of the best of a part, a pair for each direction."""
    task = parts.task
    first, last = parts.rows_of_part(number)
    few = task._replace(first=first, last=last, num_rows=min(task.num_rows, last - first))
    rotation = _host.rotation_of(parts.sampler, parts.directions)
    selected = _host.best_passing(few, parts.directions, rotation)(least)
    return tuple(array.tobytes() for pair in selected for array in pair)


def best_of_parts(
    executor: Executor,
    parts: Parts,
    checkpoint: Checkpoint,
    progress: Progress | None,
    least: float | None = None,
) -> _host.Selected:
    """Return the best rows of all parts for each direction, by score; `least` is for the tests."""
    best = BestRows(parts, parts.threshold if least is None else least)
    state = checkpoint.load()
    if state is not None:
        best.restore(state, checkpoint.path)
    if len(parts.directions) == 0:
        return []
    try:
        while True:
            for number, found in results_of(
                executor,
                part_of_selection,
                parts,
                [int(number) for number in np.flatnonzero(~best.done)],
                lambda _: (best.least,),
                name="select",
            ):
                best.add(number, found)
                checkpoint.save(best.state)
                if progress is not None:
                    progress(int(best.done.sum()), parts.num_parts, "parts")
            if best.is_complete:
                return best.rows
            best.begin_again()
    except PartsLost as error:
        done = int(best.done.sum())
        raise ExecutorLost(
            done, parts.num_parts, checkpoint.path, error.parts, error.reason
        ) from error.__cause__
    finally:
        checkpoint.save(best.state, now=True)


class BestRows:
    """The best rows of the parts that are done."""

    def __init__(self, parts: Parts, least: float) -> None:
        self._parts, self._least = parts, least
        self.done = np.zeros(parts.num_parts, dtype=bool)
        nothing = np.empty(0, dtype=np.int64), np.empty(0)
        self.rows: _host.Selected = [nothing] * len(parts.directions)

    @property
    def least(self) -> float:
        """A score that no row of the selection is below, as far as is known."""
        if any(len(indices) < self._parts.task.num_rows for indices, _ in self.rows):
            return self._least
        last = min(float(projections[-1]) for _, projections in self._scores())
        return max(self._least, last)

    def _scores(self) -> list[tuple[_Int64, _Float]]:
        absolute = self._parts.task.absolute
        return [(rows, np.abs(p) if absolute else p) for rows, p in self.rows]

    @property
    def is_complete(self) -> bool:
        """Whether there are as many rows as are wanted."""
        wanted = self._parts.task.num_rows
        return all(len(indices) == wanted for indices, _ in self.rows)

    def add(self, number: int, found: tuple[bytes, ...]) -> None:
        """Take in the rows of a part."""
        task, merged = self._parts.task, []
        for before, rows, scores in zip(self.rows, found[::2], found[1::2], strict=True):
            indices = np.concatenate([before[0], np.frombuffer(rows, dtype=np.int64)])
            projections = np.concatenate([before[1], np.frombuffer(scores)])
            kept = np.arange(0)
            if len(indices) > 0:
                kept = best_positions(projections, indices, task.num_rows, task.absolute)
            merged.append((indices[kept], projections[kept]))
        self.rows = merged
        self.done[number] = True

    def begin_again(self) -> None:
        """Look at all rows: fewer reached the threshold than are wanted, once in 10^9 times."""
        self._least = -math.inf
        self.done[:] = False
        self.rows = [(rows[:0], projections[:0]) for rows, projections in self.rows]

    def state(self) -> dict[str, Any]:
        """Return arrays that `restore` takes."""
        arrays: dict[str, Any] = {"least": np.array(self._least), "done": np.packbits(self.done)}
        for i, (indices, projections) in enumerate(self.rows):
            arrays[f"indices_{i}"], arrays[f"unit_projections_{i}"] = indices, projections
        return arrays

    def restore(self, state: dict[str, Any], path: str | None) -> None:
        """Go on from a state; raises ValueError, with the path, for one that cannot be."""
        task = self._parts.task
        try:
            done = np.unpackbits(state["done"], count=len(self.done)).astype(bool)
            least = float(state["least"])
            rows = [
                (state[f"indices_{i}"], state[f"unit_projections_{i}"])
                for i in range(len(self.rows))
            ]
            for indices, projections in rows:
                inside = (indices >= task.first) & (indices < task.last)
                whole = inside.all() and done[(indices - task.first) // self._parts.part_rows].all()
                if not whole or projections.shape != indices.shape or len(indices) > task.num_rows:
                    raise ValueError("its rows are not those of its parts")
        except (KeyError, ValueError, IndexError, TypeError) as error:
            raise ValueError(f"{path} is a damaged checkpoint: {error}") from None
        self.done, self._least, self.rows = done, least, rows
