"""The fast Walsh-Hadamard transform."""

from __future__ import annotations

import math
from typing import Any

from numpy.typing import ArrayLike

from infall._arrays.calls import Progress, standard_floats, watch_of
from infall._arrays.locate import place_of
from infall._arrays.threads import thread_count


@standard_floats
def walsh_hadamard(
    x: ArrayLike, *, num_threads: int | None = None, progress: Progress | None = None
) -> Any:
    """Return the orthonormal Walsh-Hadamard transform of vectors.

    Parameters
    ----------
    x : array, shape (n,) or (N, n)
        n a power of two, N may be 0; dtypes as in `Frame.project`. PyTorch does not differentiate
        the transform.
    num_threads, progress
        As in `Frame.project`.

    Returns
    -------
    float32 or float64 array, shape of `x`
        ``x @ scipy.linalg.hadamard(n) / sqrt(n)``, of the library of `x`; its own inverse. Sums and
        differences run from the smallest stride to the largest, then one product: bit for bit the
        same everywhere.

    Raises
    ------
    TypeError, ValueError
        As `Frame.project`, and ValueError for a length that is not a power of two.
    """
    place, located = place_of(x, "x")
    with place:
        kernels = place.kernels("frames")
        vectors = kernels.read(place, located, "x")
        count, length = (int(n) for n in vectors.rows.shape)
        if length & (length - 1):
            raise ValueError(f"x has {length} columns; expected a power of two")
        threads, careful = thread_count(num_threads), vectors.may_overflow(length)
        out = place.empty((count, length), vectors.dtype)
        for first, block in kernels.blocks(place, vectors):
            watch = watch_of(progress, count, "vectors", done_before=first)
            target = out[first : first + len(block)]
            kernels.walsh_hadamard(place, block, target, 1.0 / math.sqrt(length), threads, watch)
            if careful:
                vectors.check_products(first, target)
        return place.returned(out if vectors.batched else out[0])
