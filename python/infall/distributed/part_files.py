"""Parts of a selection as files: for arrays of jobs, each of which makes one part."""

from __future__ import annotations

import math
import os
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infall._arrays.calls import Progress, standard_floats, watch_of
from infall._arrays.checks import integer
from infall._arrays.threads import thread_count
from infall.distributed.checkpoints import Checkpoint, read
from infall.distributed.selection import BestRows, SelectionJob, part_of_selection
from infall.rows.selection import RowSelection
from infall.rows.settings import Order, Sampler, Score

_KIND = "infall.SelectionPart"
_INTEGERS = ("width", "seed", "layer", "num_rows", "part_rows")


@standard_floats
def select_part(
    w: ArrayLike,
    width: int,
    *,
    part: int,
    num_parts: int,
    path: str | os.PathLike[str],
    num_rows: int | None = None,
    seed: int = 0,
    layer: int = 0,
    sampler: Sampler = "stream",
    score: Score = "absolute",
    order: Order = "index",
    row_range: tuple[int, int] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> bool:
    """Look at one part of a layer, and write what may be among its best rows to a file.

    `merge_parts` makes the selection of the files of all parts.

    Parameters
    ----------
    w, width, num_rows, seed, layer, sampler, score, order, row_range
        As in `infall.distributed.select_rows`.
    part, num_parts : int
        Which part, 0 <= part < num_parts, of how many. They are of the same length; if that does
        not come out even, the last ones may be shorter, or empty.
    path : path
        The file. If it holds this part, it is left as it is.
    num_threads : int, optional
        Threads; all processors by default.
    progress : callable, optional
        Called as progress(rows_done, rows_total, "rows") about every 50 ms; what it raises stops
        the call.

    Returns
    -------
    bool
        Whether the part was computed: False if the file was there.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `infall.distributed.select_rows`, and for a part that there is not; ValueError for a file
        that is damaged or of another selection, with what differs.
    OSError
        If the file cannot be read or written.
    """
    job = SelectionJob.of(
        w, width, num_rows, seed, layer, sampler, score, order, row_range, num_parts=num_parts
    )
    part = integer(part, "part", 0, num_parts)
    threads, parts = thread_count(num_threads), job.parts
    first, last = parts.rows_of_part(part) if part < parts.num_parts else (0, 0)
    watch = watch_of(progress, last - first, "rows")
    settings = {**job.described(), "order": order, "part": part, "num_parts": num_parts}
    file = Checkpoint(path, _KIND, settings, 0.0)
    if file.load() is not None:
        return False
    best = BestRows(parts, parts.threshold)
    if part < parts.num_parts and len(job.vectors) > 0:
        task = parts.task._replace(threads=threads, watch=watch)
        best.add(part, part_of_selection(parts._replace(task=task), part, parts.threshold))
    vectors = job.vectors if job.batched else job.vectors[0]
    file.save(lambda: {"vectors": vectors, **best.state()}, now=True)
    return True


@standard_floats
def merge_parts(paths: Iterable[str | os.PathLike[str]]) -> RowSelection:
    """Return the selection whose parts are in files.

    Parameters
    ----------
    paths : iterable of paths
        Files that `select_part` has written, of all parts, in any order.

    Returns
    -------
    RowSelection
        Bit for bit that of `infall.select_rows`, of NumPy arrays.

    Raises
    ------
    ValueError
        If there are no files, one is damaged, of another selection or a part that another has, and
        if parts are missing: they are named. Once in 10^9 selections fewer rows than are wanted
        reach the threshold of the parts; `infall.distributed.select_rows` then looks again.
    OSError
        If a file cannot be read.
    """
    files = [os.fspath(path) for path in paths]
    if not files:
        raise ValueError("paths is empty; expected the files of the parts of a selection")
    common: dict[str, str] = {}
    found: dict[int, str] = {}
    best: BestRows | None = None
    reached = -math.inf  # the scores that each part returns all rows from
    for path in files:
        settings, arrays = read(path, _KIND)
        part = int(settings.pop("part"))
        if best is None:
            common, job = settings, _job_of(settings, arrays["vectors"])
            best = BestRows(job.parts, -math.inf)
        for name in common:
            if settings.get(name) != common[name]:
                told = "" if name == "w" else f": {settings.get(name)}, not {common[name]}"
                raise ValueError(f"{path} is of another {name} than {files[0]}{told}")
        if part in found:
            raise ValueError(f"{path} has part {part}, which is in {found[part]}")
        found[part] = path
        of_part = BestRows(job.parts, job.parts.threshold)
        of_part.restore(arrays, path)
        reached = max(reached, float(arrays["least"]))
        if part < job.parts.num_parts and len(job.vectors) > 0:
            best.add(part, tuple(a.tobytes() for pair in of_part.rows for a in pair))
    assert best is not None
    num_parts = int(common["num_parts"])
    missing = sorted(set(range(num_parts)) - set(found))
    if missing:
        raise ValueError(f"{len(missing)} of {num_parts} parts are missing: {_ranges(missing)}")
    if len(job.vectors) > 0 and best.least < reached:
        raise ValueError(
            f"fewer than {job.parts.task.num_rows} rows reach the threshold of the parts, which "
            "happens once in 10^9 selections: use infall.distributed.select_rows"
        )
    return job.selection(best.rows)


def _job_of(settings: dict[str, str], vectors: Any) -> SelectionJob:
    numbers = {name: int(settings[name]) for name in _INTEGERS}
    first, last = (int(text) for text in settings["row_range"].split(","))
    return SelectionJob.of(
        vectors,
        numbers["width"],
        numbers["num_rows"],
        numbers["seed"],
        numbers["layer"],
        settings["sampler"],
        settings["score"],
        settings["order"],
        (first, last),
        part_rows=numbers["part_rows"],
    )


def _ranges(numbers: list[int]) -> str:
    """Return ascending numbers as text, runs of them as first-last, the first ten of these."""
    array = np.array(numbers)
    starts = np.flatnonzero(np.diff(array, prepend=array[0] - 2) != 1)
    ends = [*(starts[1:] - 1), len(array) - 1]
    runs = [
        str(array[start]) if start == end else f"{array[start]}-{array[end]}"
        for start, end in zip(starts, ends, strict=True)
    ]
    return ", ".join(runs[:10]) + (", ..." if len(runs) > 10 else "")
