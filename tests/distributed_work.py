"""What workers of other processes are asked to do, so that they can import it."""

import os
import signal
import time
from pathlib import Path

import numpy as np

NUM_CLASSES, NUM_FEATURES = 7, 11


def shard(number):
    """Return features and labels of a source; the last class has no samples."""
    rng = np.random.default_rng(number)
    labels = rng.integers(0, NUM_CLASSES - 1, 60 + number)
    return (
        rng.normal(size=(len(labels), NUM_FEATURES)).astype(np.float32) + labels[:, None],
        labels,
    )


def batches(number):
    features, labels = shard(number)
    for rows in np.array_split(np.arange(len(labels)), 3):
        yield features[rows], labels[rows]


def deadly_shard(source):
    """A shard by (number, folder, deaths): a worker that reads it dies so often, if not mended."""
    number, folder, deaths = source
    for death in range(0 if (Path(folder) / "mended").exists() else deaths):
        try:
            (Path(folder) / f"{number}-{death}").touch(exist_ok=False)
        except FileExistsError:
            continue
        os.kill(os.getpid(), signal.SIGKILL)
    return shard(number)


def broken_shard(number):
    if number == 3:
        raise OSError("the disk is gone")
    return shard(number)


def nonfinite_shard(number):
    features, labels = shard(number)
    if number == 2:
        features[5, 1] = np.nan
    return features, labels


def part_after(shared, part, *arguments):
    """Return the part's number after a while that differs from part to part."""
    time.sleep(0.02 * (part * 7919 % 5))
    return shared, part, arguments


def dying_part(shared, part):
    if part == shared:
        os._exit(1)
    return part


def failing_part(shared, part):
    if part == shared:
        raise ArithmeticError(f"part {part}")
    return part


def shared_of_this_process(shared, part):
    return os.getpid(), len(shared)


def small_selection(path, checkpoint, executor=None):
    """Select by many small parts, with a checkpoint after each; the selection is saved."""
    from infall.distributed import select_rows

    w = np.random.default_rng(1).normal(size=12)
    select_rows(
        w,
        2**21,
        executor=executor,
        part_rows=2**14,
        checkpoint=checkpoint,
        checkpoint_seconds=1e-9,
        num_threads=1,
    ).save(path)
