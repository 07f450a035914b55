"""Many MaxLikelihood networks, a file for each."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike

from infall._arrays.calls import Progress, watch_of
from infall._arrays.files import MAPPING_VERSION
from infall._arrays.locate import place_of
from infall._arrays.threads import thread_count
from infall.distributed.checkpoints import digest_of
from infall.distributed.executors import (
    Executor,
    ExecutorLost,
    PartsLost,
    check_executor,
    results_of,
)
from infall.maxlikelihood.network import MaxLikelihood
from infall.rows.settings import Sampler


class FitSpec(NamedTuple):
    """A network and the vector to fit it to, as `infall.MaxLikelihood` takes them."""

    w: ArrayLike
    width: int
    depth: int
    seed: int = 0
    sampler: Sampler = "stream"


def fit_many(
    specs: Iterable[FitSpec],
    *,
    executor: Executor,
    folder: str | os.PathLike[str],
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Iterator[tuple[FitSpec, MaxLikelihood]]:
    """Fit networks on an executor, and keep each in a file that later calls take instead.

    Parameters
    ----------
    specs : iterable of FitSpec
        What to fit. Equal ones are fitted once.
    executor : None, concurrent.futures.Executor or distributed.Client
        Where they are fitted; None: here.
    folder : path
        For the files, which all workers have to reach; made if it is not there. The name of a file
        is a digest of all that its network depends on. Intact files are not fitted again, damaged
        ones are replaced.
    num_threads : int, optional
        Threads for a fit; one by default, without an executor all processors.
    progress : callable, optional
        Called as progress(fits_done, fits_total, "fits") after each; what it raises stops the call.

    Yields
    ------
    FitSpec, MaxLikelihood
        As they are done; those that are there already come first. Each is bit for bit what
        `MaxLikelihood.fit` gives.

    Raises
    ------
    TypeError, ValueError, OverflowError
        As `MaxLikelihood` and its `fit`, before anything is fitted; what a worker raises later
        names the fit.
    ExecutorLost
        If the executor is gone, or a fit has taken down as many workers as it allows; what is done
        is in the folder.
    OSError
        If a file cannot be written or read.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from infall.distributed import FitSpec, fit_many
    >>> specs = [FitSpec(np.ones(4), 2**12, 2, seed=seed) for seed in range(3)]
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     for spec, model in sorted(
    ...         fit_many(specs, executor=None, folder=folder), key=lambda fit: fit[0].seed
    ...     ):
    ...         print(spec.seed, model.layers_.shape)
    0 (2, 4, 4)
    1 (2, 4, 4)
    2 (2, 4, 4)
    """
    check_executor(executor)
    specs = [_checked(spec, number) for number, spec in enumerate(specs)]
    threads = 1 if executor is not None and num_threads is None else thread_count(num_threads)
    watch_of(progress, len(specs), "fits")
    kept = Path(folder)
    kept.mkdir(parents=True, exist_ok=True)
    return _fitted(specs, executor, kept, threads, progress)


def _checked(spec: Any, number: int) -> FitSpec:
    if not isinstance(spec, FitSpec):
        raise TypeError(f"specs[{number}] is a {type(spec).__name__}; expected a FitSpec")
    MaxLikelihood(spec.width, spec.depth, seed=spec.seed, sampler=spec.sampler)
    place, w = place_of(spec.w, "w")
    if not place.is_host:
        raise TypeError(f"specs[{number}].w is in {place.description}; expected host memory")
    vector, batched = place.vectors(w, f"specs[{number}].w")
    if batched:
        raise ValueError(f"specs[{number}].w has 2 axes; expected shape (k,)")
    return spec._replace(w=vector[0])


def path_of_fit(folder: Path, spec: FitSpec) -> Path:
    """Return the file of a fit."""
    settings = spec.width, spec.depth, spec.seed, spec.sampler, MAPPING_VERSION
    text = f"{digest_of(np.asarray(spec.w))} {settings}"
    return folder / f"fit-{hashlib.sha256(text.encode()).hexdigest()[:24]}.npz"


class _Folder(NamedTuple):
    folder: Path
    threads: int


def fit_and_save(shared: _Folder, number: int, spec: FitSpec) -> None:
    """Fit one network and write its file."""
    model = MaxLikelihood(
        spec.width, spec.depth, seed=spec.seed, sampler=spec.sampler, num_threads=shared.threads
    )
    try:
        model.fit(spec.w).save(path_of_fit(shared.folder, spec))
    except Exception as error:
        error.add_note(f"while infall fitted specs[{number}]")
        raise


def _fitted(
    specs: list[FitSpec],
    executor: Executor,
    folder: Path,
    threads: int,
    progress: Progress | None,
) -> Iterator[tuple[FitSpec, MaxLikelihood]]:
    paths = [path_of_fit(folder, spec) for spec in specs]
    with_path: dict[Path, list[int]] = {}
    for number, path in enumerate(paths):
        with_path.setdefault(path, []).append(number)
    done = 0

    def told(path: Path, model: MaxLikelihood) -> Iterator[tuple[FitSpec, MaxLikelihood]]:
        nonlocal done
        for number in with_path[path]:
            done += 1
            if progress is not None:
                progress(done, len(specs), "fits")
            yield specs[number], model

    missing = []
    for path, numbers in with_path.items():
        try:
            model = MaxLikelihood.load(path)
        except (FileNotFoundError, ValueError):
            missing.append(numbers[0])
            continue
        yield from told(path, model)
    try:
        for number, _ in results_of(
            executor,
            fit_and_save,
            _Folder(folder.absolute(), threads),
            missing,
            lambda number: (specs[number],),
            name="fit",
        ):
            yield from told(paths[number], MaxLikelihood.load(paths[number]))
    except PartsLost as error:
        raise ExecutorLost(
            done, len(specs), str(folder), error.parts, error.reason
        ) from error.__cause__
