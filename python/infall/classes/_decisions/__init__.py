"""The nearest class mean of every sample, and the class of its largest output.

Both are the largest of K scores per sample: products of samples and classes, made by the BLAS in
blocks, plus a term per class. Products in binary32 are estimates, right to a bound that holds for
any order of summation. Where more than one class lies within it, float64 sums in a fixed order
decide, so that the BLAS has no say in the result.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.locate import place_of
from infall._arrays.threads import thread_count


def decisions(
    features: Any,
    means: NDArray[np.float64],
    classifier: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
    *,
    num_threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[Any, Any]:
    """Return the class of the nearest mean of each sample, and that of its largest output.

    Features (N, d) are of float16, bfloat16, float32 or float64, with contiguous rows, in host
    memory or on a CUDA device, where the products are those of the array's library; the means
    (K, d), a classifier (K', d) of any of these dtypes and its bias (K',), zero by default, are
    C-contiguous and finite. `num_threads` is for everything but the products, whose threads are the
    BLAS's own. `progress` is called with the number of samples done.

    Both results are int64 (N,), on a device arrays there: positions of the mean at the least
    distance, and of the largest output h . a + b, or None without a classifier. The lowest class
    wins ties. Distances and outputs that decide are float64 sums over the columns in eight lanes:
    the result depends on neither BLAS, threads nor instruction set.

    Raises TypeError for another dtype; ValueError for rows that are not contiguous, another number
    of columns than the means have, and for NaN and infinity, with their first position. On a
    device, where this would wait for the current stream, the class of such a sample is -1 instead.
    """
    threads = thread_count(num_threads)
    place, located = place_of(features, "features")
    with place:
        decided: tuple[Any, Any] = place.kernels("classes._decisions").decisions(
            place, located, means, classifier, bias, threads, progress
        )
    return decided
