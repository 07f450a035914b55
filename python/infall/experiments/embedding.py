"""t-SNE of several sets of points, one after the other."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.calls import Progress
from infall.experiments.repeats import Stage

# Standard deviation of the principal components that it starts from. From much smaller ones two
# clusters that have collapsed grow through each other, and may stay so.
_SPREAD = 10.0
_STEPS = 500  # of gradient descent, the first half with early exaggeration


def embed(
    sets: Sequence[NDArray[np.float64]],
    dim: int,
    perplexity: float,
    seed: int,
    progress: Progress | None,
) -> list[NDArray[np.float64]]:
    """Return the t-SNE of each set of points (M, k) in `dim` dimensions: (M, dim).

    The perplexity is that for many points; of few it is a third of their number at most.
    """
    from sklearn.decomposition import PCA
    from sklearn.manifold import TSNE

    embedded = []
    stage = Stage(progress, len(sets), "t-SNE")
    with single_threaded():
        for points in sets:
            components = PCA(dim, random_state=seed % 2**32).fit_transform(points)
            tsne = TSNE(
                dim,
                perplexity=min(perplexity, (len(points) - 1) / 3.0),
                init=(_SPREAD / components[:, 0].std() * components).astype(np.float32),
                max_iter=_STEPS,
                random_state=seed % 2**32,
            )
            embedded.append(tsne.fit_transform(points))
            stage.part_done()
    stage.end()
    return embedded


def single_threaded() -> Any:
    """Return a context in which OpenMP starts no threads.

    The loops of scikit-learn over so few points are short: where processors are shared, its threads
    spend more time waiting for each other than working.
    """
    from threadpoolctl import threadpool_limits

    return threadpool_limits(1, user_api="openmp")
