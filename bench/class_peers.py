"""Class moments and metrics of neural collapse with the libraries that the engine stands beside.

Each function is what a careful user of that library writes: float32 unless it says otherwise,
blocks that stay in cache, no N x K or K x K array where blocks do, and the K - 1 directions between
the class means where the user has the choice. Arrays come and go as NumPy's. In comments: N
samples, d features, K classes.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import numpy as np
    import torch

# 4 MiB of float32, as the peers of `rows` have it.
BLOCK_ENTRIES = 2**20
# A block of deviations has a product (d, d) added to the sum: with fewer rows, adding takes longer.
LEAST_SCATTER_ROWS = 2**10
# Samples of a block of scores (N, K): a product of so many with thousands of classes is as fast as
# that of all samples.
SCORE_ROWS = 2**9
# Samples that are there at once, where features come in batches.
BATCH = 2**9


class Moments(NamedTuple):
    """What a peer has made of the samples; None for what it does not make."""

    means: np.ndarray  # (K, d)
    variances: np.ndarray | None = None  # (K,)
    within: np.ndarray | None = None  # (d, d)


def row_blocks(num_rows: int, step: int) -> Iterator[slice]:
    for first in range(0, num_rows, step):
        yield slice(first, min(first + step, num_rows))


def block_rows(dim: int, scatter: bool) -> int:
    return max(BLOCK_ENTRIES // dim, LEAST_SCATTER_ROWS if scatter else 1)


# NumPy and SciPy.


def numpy_means(
    features: np.ndarray, labels: np.ndarray, num_classes: int, dtype: str
) -> np.ndarray:
    """Class means by a sparse product: `np.add.at` and `reduceat` take many times as long."""
    import numpy as np
    from scipy import sparse

    num_samples, dim = features.shape
    sums = np.zeros((num_classes, dim), dtype)
    for rows in row_blocks(num_samples, max(BLOCK_ENTRIES // dim, 4 * num_classes)):
        count = rows.stop - rows.start
        one_hot = sparse.csr_array(
            (np.ones(count, dtype), labels[rows], np.arange(count + 1)),
            shape=(count, num_classes),
        )
        sums += one_hot.T @ features[rows]
    return sums / np.bincount(labels, minlength=num_classes).astype(dtype)[:, None]


def numpy_moments(
    features: np.ndarray, labels: np.ndarray, num_classes: int, dtype: str, scatter: bool
) -> Moments:
    """Means, then variances about them and, if wanted, the scatter."""
    import numpy as np

    num_samples, dim = features.shape
    means = numpy_means(features, labels, num_classes, dtype)
    within = np.zeros((dim, dim), dtype) if scatter else None
    squares = np.zeros(num_classes)
    for rows in row_blocks(num_samples, block_rows(dim, scatter)):
        deviations = features[rows] - means[labels[rows]]
        norms = np.einsum("nd,nd->n", deviations, deviations)
        squares += np.bincount(labels[rows], norms, num_classes)
        if within is not None:
            within += deviations.T @ deviations
    variances = (squares / np.bincount(labels, minlength=num_classes)).astype(dtype)
    return Moments(means, variances, None if within is None else within / num_samples)


def numpy_one_pass(
    features: np.ndarray, labels: np.ndarray, num_classes: int, dtype: str
) -> Moments:
    """The textbook's one pass, E[h h^T] - mu mu^T, and its like for each class."""
    import numpy as np

    num_samples, dim = features.shape
    counts = np.bincount(labels, minlength=num_classes).astype(dtype)
    products = np.zeros((dim, dim), dtype)
    squares = np.zeros(num_classes, dtype)
    for rows in row_blocks(num_samples, block_rows(dim, scatter=True)):
        block = features[rows].astype(dtype)
        products += block.T @ block
        norms = np.einsum("nd,nd->n", block, block)
        squares += np.bincount(labels[rows], norms, num_classes).astype(dtype)
    means = numpy_means(features, labels, num_classes, dtype)
    within = (products - (means.T * counts) @ means) / num_samples
    return Moments(means, squares / counts - np.einsum("kd,kd->k", means, means), within)


def nc1_by_pinv(moments: Moments, pinv: str, dtype: str) -> float:
    """NC1 by a pseudo-inverse of the between scatter (d, d), with the library's own cutoff."""
    import numpy as np
    import scipy.linalg

    means = moments.means.astype(dtype)
    centred = means - means.mean(axis=0)
    between = centred.T @ centred / len(centred)
    if pinv == "numpy":
        inverse = np.linalg.pinv(between, hermitian=True)
    else:
        inverse = scipy.linalg.pinvh(between)
    # Both are symmetric: the trace of their product is the sum over their entries' products.
    return float(np.vdot(moments.within, inverse)) / len(centred)


def nc1_by_directions(moments: Moments) -> float:
    """NC1 by the K - 1 directions between the class means; K <= d."""
    import numpy as np

    centred = moments.means - moments.means.mean(axis=0)
    _, singular, rows = np.linalg.svd(centred, full_matrices=False)
    directions = rows[:-1] / singular[:-1, None]
    return float(np.vdot(directions @ moments.within, directions))


def numpy_nc1(features: np.ndarray, labels: np.ndarray, num_classes: int, dtype: str) -> float:
    """NC1 by the scatter (d, d) in `dtype` and a float64 pseudo-inverse."""
    moments = numpy_moments(features, labels, num_classes, dtype, scatter=True)
    return nc1_by_pinv(moments, "scipy", "float64")


def mean_cdnv(means: np.ndarray, variances: np.ndarray) -> float:
    """Mean CDNV of all pairs by their differences, class by class."""
    import numpy as np

    num_classes = len(means)
    total = 0.0
    for c in range(num_classes - 1):
        difference = means[c + 1 :] - means[c]
        distances = np.einsum("kd,kd->k", difference, difference)
        total += float((0.5 * (variances[c] + variances[c + 1 :]) / distances).sum())
    return total / (num_classes * (num_classes - 1) / 2)


def numpy_merge(
    first: tuple[np.ndarray, np.ndarray, np.ndarray],
    second: tuple[np.ndarray, np.ndarray, np.ndarray],
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Chan's merge of counts (K,), means (K, d) and sums of squared distances (K,)."""
    import numpy as np

    counts = first[0] + second[0]
    shift = second[1] - first[1]
    share = second[0] / counts
    squares = first[2] + second[2] + first[0] * share * np.einsum("kd,kd->k", shift, shift)
    shift *= share[:, None]
    shift += first[1]
    return counts, shift, squares


# scikit-learn.


def sklearn_scatter(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Moments:
    """Means and within covariance of its linear discriminant analysis."""
    from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

    fitted = LinearDiscriminantAnalysis(solver="lsqr", store_covariance=True).fit(features, labels)
    return Moments(fitted.means_, within=fitted.covariance_)


def sklearn_nc1(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    return nc1_by_directions(sklearn_scatter(features, labels, num_classes))


# PyTorch. Its threads are those of OpenMP, which the harness sets.


def torch_means(
    h: torch.Tensor, y: torch.Tensor, num_classes: int, blocks: Iterable[slice] = (slice(None),)
) -> torch.Tensor:
    """Class means; a one-hot product, sparse or not, takes longer, and so does sorting."""
    import torch

    sums = torch.zeros(num_classes, h.shape[1])
    for rows in blocks:
        sums.index_add_(0, y[rows], h[rows])
    return sums / torch.bincount(y, minlength=num_classes)[:, None]


def torch_directions(means: torch.Tensor) -> torch.Tensor:
    """Directions between the class means over their singular values (d, K - 1); K <= d."""
    import torch

    centred = means - means.mean(dim=0)
    _, singular, rows = torch.linalg.svd(centred, full_matrices=False)
    return (rows[:-1] / singular[:-1, None]).T.contiguous()


def torch_moments(
    features: np.ndarray,
    labels: np.ndarray,
    num_classes: int,
    scatter: bool,
    batch: int | None = None,
) -> Moments:
    """Means, then variances about them and, if wanted, the scatter, in blocks or given batches."""
    import torch

    h, y = torch.from_numpy(features), torch.from_numpy(labels)
    num_samples, dim = h.shape
    blocks = list(row_blocks(num_samples, batch or block_rows(dim, scatter)))
    means = torch_means(h, y, num_classes, blocks)
    within = torch.zeros(dim, dim) if scatter else None
    norms = torch.empty(num_samples)
    for rows in blocks:
        deviations = h[rows] - means[y[rows]]
        if within is not None:
            within.addmm_(deviations.T, deviations)
        torch.sum(deviations.square_(), dim=1, out=norms[rows])
    squares = torch.zeros(num_classes).index_add_(0, y, norms)
    variances = squares / torch.bincount(y, minlength=num_classes)
    pooled = None if within is None else (within / num_samples).numpy()
    return Moments(means.numpy(), variances.numpy(), pooled)


def torch_one_hot_moments(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Moments:
    """Means and variances by products with one-hot labels, batch by batch."""
    import torch

    h, y = torch.from_numpy(features), torch.from_numpy(labels)
    counts = torch.bincount(y, minlength=num_classes)
    sums = torch.zeros(num_classes, h.shape[1])
    squares = torch.zeros(num_classes)
    batches = list(row_blocks(len(h), BATCH))
    for rows in batches:
        one_hot = torch.nn.functional.one_hot(y[rows], num_classes).to(h.dtype)
        sums.addmm_(one_hot.T, h[rows])
    means = sums / counts[:, None]
    for rows in batches:
        one_hot = torch.nn.functional.one_hot(y[rows], num_classes).to(h.dtype)
        deviations = h[rows] - one_hot @ means
        squares.addmv_(one_hot.T, deviations.square_().sum(dim=1))
    return Moments(means.numpy(), (squares / counts).numpy())


def torch_dense_nc1(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """NC1 by the scatters (d, d) and the eigenvectors of the one between, in float64."""
    import torch

    moments = torch_moments(features, labels, num_classes, scatter=True)
    means = torch.from_numpy(moments.means).double()
    within = torch.from_numpy(moments.within).double()
    centred = means - means.mean(dim=0)
    eigenvalues, vectors = torch.linalg.eigh(centred.T @ centred / num_classes)
    kept = vectors[:, 1 - num_classes :] / eigenvalues[1 - num_classes :].sqrt()
    return float(torch.sum((within @ kept) * kept)) / num_classes


def torch_between_nc1(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """NC1 by the deviations along the directions between the class means."""
    import torch

    h, y = torch.from_numpy(features), torch.from_numpy(labels)
    means = torch_means(h, y, num_classes)
    directions = torch_directions(means)
    total = 0.0
    for rows in row_blocks(len(h), BLOCK_ENTRIES // h.shape[1]):
        total += float(((h[rows] - means[y[rows]]) @ directions).square_().sum())
    return total / len(h)


def torch_projected_nc1(features: np.ndarray, labels: np.ndarray, num_classes: int) -> float:
    """The same, with features and means projected before they are subtracted: less to write."""
    import torch

    h, y = torch.from_numpy(features), torch.from_numpy(labels)
    means = torch_means(h, y, num_classes)
    directions = torch_directions(means)
    deviations = h @ directions  # (N, K - 1)
    deviations -= (means @ directions)[y]
    return float(deviations.square_().sum()) / len(h)


def torch_one_pass(features: np.ndarray, labels: np.ndarray, num_classes: int) -> Moments:
    """E[h h^T] - mu mu^T in float64, one pass over the batches."""
    import torch

    h, y = torch.from_numpy(features), torch.from_numpy(labels)
    counts = torch.bincount(y, minlength=num_classes)
    sums = torch.zeros(num_classes, h.shape[1], dtype=torch.float64)
    total = torch.zeros(h.shape[1], h.shape[1], dtype=torch.float64)
    squares = torch.zeros(num_classes, dtype=torch.float64)
    for rows in row_blocks(len(h), BATCH):
        block = h[rows].double()
        sums.index_add_(0, y[rows], block)
        total.addmm_(block.T, block)
        squares.index_add_(0, y[rows], block.square_().sum(dim=1))
    means = sums / counts[:, None]
    within = (total - sums.T @ means) / len(h)
    return Moments(
        means.numpy(), (squares / counts - means.square().sum(dim=1)).numpy(), within.numpy()
    )


def torch_gram_cdnv(means: np.ndarray, variances: np.ndarray, dtype: str) -> float:
    """Mean CDNV with squared distances from products of centred means, blocks c < c' only."""
    import torch

    m = torch.from_numpy(means).to(getattr(torch, dtype))
    m = m - m.mean(dim=0)
    variances = torch.from_numpy(variances).to(m.dtype)
    norms = m.square().sum(dim=1)
    num_classes = len(m)
    total = 0.0
    for rows in row_blocks(num_classes, 2**9):
        # Columns from the block on; the pairs within it are there twice, each class with itself.
        distances = torch.addmm(norms[rows.start :], m[rows], m[rows.start :].T, alpha=-2)
        distances += norms[rows, None]
        values = variances[rows, None] + variances[rows.start :]
        values /= distances.clamp_(min=0)
        total += float(values.triu_(1).sum())
    return total / (num_classes * (num_classes - 1))


def torch_difference_cdnv(means: np.ndarray, variances: np.ndarray) -> float:
    """Mean CDNV with squared distances from differences, tiles c <= c' only."""
    import torch

    m, variances = torch.from_numpy(means), torch.from_numpy(variances)
    num_classes = len(m)
    total = 0.0
    tiles = list(row_blocks(num_classes, 2**5))
    for i, rows in enumerate(tiles):
        for columns in tiles[i:]:
            differences = m[rows, None] - m[columns]
            distances = differences.square_().sum(dim=2)
            values = (variances[rows, None] + variances[columns]) / distances
            total += float((values.triu_(1) if columns == rows else values).sum())
    return total / (num_classes * (num_classes - 1))


def torch_disagreement(
    features: np.ndarray, means: np.ndarray, classifier: np.ndarray, bias: np.ndarray
) -> float:
    """NC4: nearest class mean and largest output, block by block."""
    import torch

    h, m, a, b = (torch.from_numpy(array) for array in (features, means, classifier, bias))
    half_norms = m.square().sum(dim=1) / 2
    scores = torch.empty(SCORE_ROWS, len(m))
    different = 0
    for rows in row_blocks(len(h), SCORE_ROWS):
        out = scores[: rows.stop - rows.start]
        nearest = torch.addmm(half_norms, h[rows], m.T, beta=-1, out=out).argmax(dim=1)
        predicted = torch.addmm(b, h[rows], a.T, out=out).argmax(dim=1)
        different += int(torch.count_nonzero(nearest != predicted))
    return different / len(h)


def torch_two_products(
    features: np.ndarray, means: np.ndarray, classifier: np.ndarray, bias: np.ndarray
) -> None:
    """The products of `torch_disagreement` alone."""
    import torch

    h, m, a = (torch.from_numpy(array) for array in (features, means, classifier))
    scores = torch.empty(SCORE_ROWS, len(m))
    for rows in row_blocks(len(h), SCORE_ROWS):
        out = scores[: rows.stop - rows.start]
        torch.mm(h[rows], m.T, out=out)
        torch.mm(h[rows], a.T, out=out)


def numpy_two_products(
    features: np.ndarray, means: np.ndarray, classifier: np.ndarray, bias: np.ndarray
) -> None:
    """The same by NumPy's BLAS, which the engine uses too."""
    import numpy as np

    scores = np.empty((SCORE_ROWS, len(means)), np.float32)
    for rows in row_blocks(len(features), SCORE_ROWS):
        out = scores[: rows.stop - rows.start]
        np.matmul(features[rows], means.T, out=out)
        np.matmul(features[rows], classifier.T, out=out)


# neural_collapse, fed in batches as its documentation does.


def neural_collapse_moments(
    features: np.ndarray, labels: np.ndarray, num_classes: int, variances: bool, scatter: bool
) -> Moments:
    """Its accumulators: of means, then of squared distances, of the scatter, or of both."""
    import torch
    from neural_collapse.accumulate import CovarAccumulator, MeanAccumulator, VarNormAccumulator

    h, y = torch.from_numpy(features), torch.from_numpy(labels)
    sizes = num_classes, h.shape[1]
    sums = MeanAccumulator(*sizes)
    for rows in row_blocks(len(h), BATCH):
        sums.accumulate(h[rows], y[rows])
    means, _ = sums.compute()
    squares = VarNormAccumulator(*sizes, M=means) if variances else None
    products = CovarAccumulator(*sizes, M=means) if scatter else None
    for rows in row_blocks(len(h), BATCH):
        for accumulator in (squares, products):
            if accumulator is not None:
                accumulator.accumulate(h[rows], y[rows], means)
    return Moments(
        means.numpy(),
        None if squares is None else squares.compute()[0].numpy(),
        None if products is None else products.compute().numpy(),
    )


def neural_collapse_ratio(moments: Moments, metric: str) -> float:
    """Its NC1: by a pseudo-inverse ("pinv") or by the K - 1 largest singular vectors ("svd")."""
    import torch
    from neural_collapse.measure import covariance_ratio

    means, within = torch.from_numpy(moments.means), torch.from_numpy(moments.within)
    return covariance_ratio(within, means, means.mean(dim=0), metric)


def neural_collapse_nc1(
    features: np.ndarray, labels: np.ndarray, num_classes: int, metric: str
) -> float:
    moments = neural_collapse_moments(features, labels, num_classes, variances=False, scatter=True)
    return neural_collapse_ratio(moments, metric)


def neural_collapse_cdnv(means: np.ndarray, variances: np.ndarray) -> float:
    """Its mean CDNV, tile by tile."""
    import torch
    from neural_collapse.measure import variability_cdnv

    return variability_cdnv(torch.from_numpy(variances), torch.from_numpy(means), tile_size=32)
