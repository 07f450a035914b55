"""Executors of every kind; those of processes are made once for a module."""

import concurrent.futures
import importlib
import multiprocessing

import pytest

SPAWN = multiprocessing.get_context("spawn")


@pytest.fixture(scope="module")
def pools():
    """Executors by name, made when they are asked for."""
    loky = pytest.importorskip("loky")
    distributed = pytest.importorskip("distributed")
    made = {}

    def make(name):
        if name == "none":
            return None
        if name not in made:
            made[name] = {
                "threads": lambda: concurrent.futures.ThreadPoolExecutor(2),
                "processes": lambda: concurrent.futures.ProcessPoolExecutor(2, mp_context=SPAWN),
                "loky": lambda: loky.ProcessPoolExecutor(2),
                "dask": lambda: client_of(distributed),
            }[name]()
        return made[name]

    yield make
    for pool in made.values():
        if isinstance(pool, concurrent.futures.Executor):
            pool.shutdown()
        else:
            close(pool)


def client_of(distributed, workers=2):
    cluster = distributed.LocalCluster(
        n_workers=workers, threads_per_worker=1, dashboard_address="127.0.0.1:0", silence_logs=50
    )
    client = distributed.Client(cluster)
    client.cluster_made_here = cluster
    return client


def close(client):
    client.close()
    client.cluster_made_here.close()


@pytest.fixture
def cluster():
    """A cluster of the test's own, whose workers it may kill."""
    distributed = pytest.importorskip("distributed")
    with importlib.import_module("dask").config.set({"distributed.scheduler.allowed-failures": 1}):
        client = client_of(distributed)
        yield client
        close(client)
