"""Rows of Gaussian layers by number."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infall import _core
from infall._arrays.calls import Progress, watch_of
from infall._arrays.checks import (
    MAX_DIM,
    integer,
    seed_and_layer,
)
from infall._arrays.convert import like
from infall._arrays.device import located
from infall._arrays.threads import thread_count
from infall.rows import _device as _rows_device
from infall.rows import _host as _rows_host


def gaussian_rows(
    indices: ArrayLike,
    dim: int,
    *,
    seed: int = 0,
    layer: int = 0,
    out: Any = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Regenerate rows of a Gaussian layer.

    Parameters
    ----------
    indices : integer array, shape (m,)
        Row numbers, 0 <= i < 2**63, in any order, repeats allowed. On a device they are not
        searched for negative ones, whose rows are NaN.
    dim : int
        Columns k.
    seed, layer : int
        As in `select_rows`.
    out : float32 array, shape (m, k), optional
        C-contiguous array to write to that lives where `indices` does: a NumPy array, a PyTorch
        tensor, a CuPy array. An interrupted call leaves it partly written.
    num_threads, progress
        As in `select_rows`.

    Returns
    -------
    float32 array, shape (m, k)
        Independent N(0, 1) entries; bit-identical everywhere. docs/random-rows.md has the mapping.

    Raises
    ------
    TypeError
        For indices that are not integers, or another kind of `out`.
    ValueError
        For negative indices, another shape than (m,), dim outside 1..2**32 - 1.
    """
    device, numbers = located(indices, "indices")
    if device is None:
        numbers = _rows_host.row_numbers(indices)
    else:
        with device:
            numbers = _rows_device.row_numbers(device, numbers)
    dim = integer(dim, "dim", 1, MAX_DIM, "2**32")
    seed, layer = seed_and_layer(seed, layer)
    threads = thread_count(num_threads)
    watch = watch_of(progress, len(numbers), "rows")
    if device is not None:
        with device:
            target = _rows_device.target_of(device, out, numbers, dim)
            _rows_device.regenerate(device, numbers, target, seed, layer)
        if watch is not None:
            watch(len(numbers))
        return out if out is not None else device.returned(target)
    if out is None:
        target = np.empty((len(numbers), dim), dtype=np.float32)
    else:
        target = _rows_host.target_of(out, numbers, dim)
    rows = np.require(numbers, dtype=np.int64, requirements=["C", "A"])
    _core.gaussian_rows(rows, target, seed, layer, threads, watch)
    return out if out is not None else like(target, indices)
