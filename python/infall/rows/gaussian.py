"""Rows of Gaussian layers by number."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from infall._arrays.calls import Progress, watch_of
from infall._arrays.checks import MAX_DIM, integer, seed_and_layer
from infall._arrays.locate import place_of
from infall._arrays.threads import thread_count


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
        checked for negative ones, whose rows are NaN.
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
    place, located = place_of(indices, "indices")
    with place:
        kernels = place.kernels("rows")
        rows = kernels.row_numbers(place, located)
        dim = integer(dim, "dim", 1, MAX_DIM, "2**32")
        seed, layer = seed_and_layer(seed, layer)
        threads = thread_count(num_threads)
        watch = watch_of(progress, len(rows), "rows")
        target = kernels.target_of(place, out, (len(rows), dim), indices)
        kernels.regenerate(place, rows, target, seed, layer, threads, watch)
        return out if out is not None else place.returned(target)
