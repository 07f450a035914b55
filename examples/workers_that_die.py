"""Class moments of shards on a cluster, and a long selection, while their workers are killed.

Needs Dask's scheduler: pip install 'infall[dask]'.
"""

import os
import signal
import tempfile
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import numpy as np
from distributed import Client, LocalCluster

import infall
from infall.distributed import ExecutorLost, class_moments, select_rows


def write_shards(folder: Path) -> list[Path]:
    """Write twelve shards of features of four classes."""
    shards = [folder / f"shard-{i}.npz" for i in range(12)]
    for i, shard in enumerate(shards):
        rng = np.random.default_rng(i)
        labels = rng.integers(0, 4, 5000)
        features = np.eye(4, 32)[labels] + 0.1 * rng.normal(size=(5000, 32))
        np.savez(shard, features=features.astype(np.float32), labels=labels)
    return shards


def moments_on_a_cluster(folder: Path) -> None:
    """A worker dies after every fourth shard: its shards are read again by another."""
    shards = write_shards(folder)

    def kill(done: int, total: int, stage: str) -> None:
        if done % 4 == 0 and done < total:
            os.kill(next(iter(client.run(os.getpid).values())), signal.SIGKILL)

    local = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0", "silence_logs": 50}
    with LocalCluster(2, **local) as cluster, Client(cluster) as client:
        moments = class_moments(shards, 4, 32, executor=client, progress=kill)
    here = class_moments(shards, 4, 32, executor=None)
    print("moments:", moments)
    print("same bits as without a cluster:", bool((moments.means == here.means).all()))


def selection_that_goes_on(folder: Path) -> None:
    """The pool breaks after five parts; the next call does the others."""
    w = np.random.default_rng(0).normal(size=64)
    how = {"part_rows": 2**15, "checkpoint": folder / "selection.npz"}

    def kill(done: int, total: int, stage: str) -> None:
        if done == 5:
            for process in pool._processes.values():
                process.kill()

    with ProcessPoolExecutor(2) as pool:
        try:
            select_rows(w, 2**20, executor=pool, progress=kill, **how)
        except ExecutorLost as error:
            print("selection:", error.done, "of", error.total, "parts are done")
    with ProcessPoolExecutor(2) as pool:
        selection = select_rows(w, 2**20, executor=pool, **how)
    print("same bits as one call:", selection == infall.select_rows(w, 2**20))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as name:
        moments_on_a_cluster(Path(name))
        selection_that_goes_on(Path(name))
