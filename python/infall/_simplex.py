"""Centred class means beside the simplex equiangular tight frame (ETF), without K x K arrays.

With E = I - 11^T/K, all distances to the simplex here are || G/||G||_F - E/sqrt(K-1) ||_F of some
Gram matrix G (K, K). Written out as 2 - 2 cos they end at 1e-8, where the cosine rounds to one;
instead the part of G along E and the part across it are summed apart, and the distance is
2 sin(phi/2) of the angle between G and E. What is summed are the entries of G - a0 E, which are
small near the simplex, with a0 = tr G/(K-1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core

_Float = NDArray[np.float64]
_BLOCK_ENTRIES = 2**20  # 8 MiB
_BLOCK_PRODUCTS = 2**28  # multiplications between two looks at Ctrl-C: about 10 ms


def rounding(shape: tuple[int, ...]) -> float:
    """Return the relative size under which parts of (K, d) class means are rounding error."""
    return float(np.finfo(np.float64).eps) * max(shape)


def between_directions(centred: _Float, spread: float) -> _Float:
    """Return U / S (d, r) of the singular value decomposition U S V^T of centred^T.

    The squared length of a row h times this matrix is h (M^T M)^+ h^T for M = centred (K, d).
    Singular values are left out that the rounding of the means explains, relative to the largest
    of them and to `spread`, the root of the summed class variances; r is the rank. For K > d it is
    the eigenvalues of M^T M that are cut at rounding: directions under about 1e-7 of the largest
    are then lost.
    """
    num_classes, dim = centred.shape
    if num_classes <= dim:
        _, singular, rows = np.linalg.svd(centred, full_matrices=False)
        kept = singular > rounding(centred.shape) * max(singular[0], spread)
        return np.ascontiguousarray((rows[kept] / singular[kept, None]).T)
    eigenvalues, vectors = np.linalg.eigh(moment_matrix(centred))
    kept = eigenvalues > rounding(centred.shape) * max(eigenvalues[-1], spread * spread)
    return np.ascontiguousarray(vectors[:, kept] / np.sqrt(eigenvalues[kept]))


class PairSums(NamedTuple):
    """Sums over the pairs c < c' of classes; positions count the rows given to `pair_sums`."""

    num_classes: int
    cdnv_sum: float
    cdnv_max: float
    cdnv_max_pair: tuple[int, int]
    cdnv_min: float
    excess_sum: float
    """Of cos + 1/(K-1)."""
    excess_square_sum: float
    excess_max: float
    product_sum: float
    """Of m_c . m_c' + a0/K."""
    product_square_sum: float

    @property
    def num_pairs(self) -> int:
        return self.num_classes * (self.num_classes - 1) // 2


def pair_sums(
    vectors: _Float,
    variances: _Float,
    num_threads: int,
    progress: Callable[[int], object] | None,
) -> PairSums:
    """Sum over the pairs of vectors (K, d), K >= 2, with variances (K,)."""
    found = _core.pair_geometry(vectors, variances, num_threads, progress)
    largest = int(np.argmax(found[1]))
    return PairSums(
        len(vectors),
        float(found[0].sum()),
        float(found[1][largest]),
        (largest, int(found[2][largest])),
        float(found[3].min()),
        float(found[4].sum()),
        float(found[5].sum()),
        float(found[6].max()),
        float(found[8].sum()),
        float(found[9].sum()),
    )


def distance_from_pairs(
    num_classes: int, trace: float, diagonal_square: float, off_sum: float, off_square: float
) -> float:
    """Return the distance of G to the simplex from sums over the entries of D = G - a0 E.

    `diagonal_square` is the sum of D_cc^2, `off_sum` and `off_square` are those of D_cc' and its
    square over both orders of each pair. tr D = 0 by the choice of a0.
    """
    k = num_classes
    along = -off_sum / (k * (k - 1))  # <D, E> / (K-1)
    across_square = diagonal_square + off_square - along * along * (k - 1)
    return _chord(across_square, trace / (k - 1) + along, k)


def distance_from_moments(
    num_classes: int, trace: float, total: float, gram_square: float
) -> float:
    """Return the distance of G to the simplex from tr G, 1^T G 1 and ||G||_F^2.

    Only where the rank of G is under K - 1: G is then far from E, and nothing cancels.
    """
    along = (trace - total / num_classes) / (num_classes - 1)
    return _chord(gram_square - along * along * (num_classes - 1), along, num_classes)


def _chord(across_square: float, along: float, num_classes: int) -> float:
    across = math.sqrt(max(across_square, 0.0))
    if across == along == 0.0:
        return math.nan  # G = 0 has no angle to E
    return 2.0 * math.sin(math.atan2(across, along * math.sqrt(num_classes - 1)) / 2.0)


def product_distance(a: _Float, m: _Float, scale: _Float) -> float:
    """Return the distance to the simplex of G = A (M / scale)^T for A, M (K, d), scale (K,)."""
    num_classes, dim = m.shape
    diagonal = row_products(a, m) / scale
    trace = float(diagonal.sum())
    if num_classes > dim + 1:
        total = float(row_sum(a) @ row_sum(m, scale))
        gram_square = float(np.sum(moment_matrix(a) * moment_matrix(m, scale)))
        return distance_from_moments(num_classes, trace, total, gram_square)
    sums = deviation_sums(a, m, scale, diagonal, trace / (num_classes - 1))
    return distance_from_pairs(num_classes, trace, *sums)


def deviation_sums(
    a: _Float, m: _Float, scale: _Float, diagonal: _Float, multiple: float
) -> tuple[float, float, float]:
    """Return sums over the entries of D = A (M / scale)^T - multiple * E, block by block.

    Returns
    -------
    diagonal_square, off_sum, off_square : float
        As `distance_from_pairs` takes them.
    """
    num_classes, dim = m.shape
    off_sum = off_square = 0.0
    slices = list(tiles(num_classes, dim))
    for rows in slices:
        for columns in slices:
            deviations = a[rows] @ m[columns].T  # (r, c)
            deviations /= scale[columns]
            deviations += multiple / num_classes
            if rows == columns:
                np.fill_diagonal(deviations, 0.0)
            off_sum += float(deviations.sum())
            off_square += float(np.einsum("rc,rc->", deviations, deviations))
    on_diagonal = diagonal - multiple * (1.0 - 1.0 / num_classes)
    return float(on_diagonal @ on_diagonal), off_sum, off_square


def moment_matrix(vectors: _Float, scale: _Float | None = None) -> _Float:
    """Return (M / scale)^T (M / scale), (d, d), of M (K, d), without a copy of M."""
    num_classes, dim = vectors.shape
    total = np.zeros((dim, dim))
    for rows in row_blocks(num_classes, dim, dim):
        block = vectors[rows] if scale is None else vectors[rows] / scale[rows, None]
        total += block.T @ block
    return total


def row_sum(vectors: _Float, scale: _Float | None = None) -> _Float:
    """Return the sum (d,) of the rows of M / scale, M (K, d)."""
    total = np.zeros(vectors.shape[1])
    for rows in row_blocks(*vectors.shape):
        block = vectors[rows]
        total += block.sum(axis=0) if scale is None else (1.0 / scale[rows]) @ block
    return total


def row_products(a: _Float, m: _Float) -> _Float:
    """Return the products (K,) of the rows of A and M, both (K, d)."""
    products = np.empty(len(m))
    for rows in row_blocks(*m.shape):
        products[rows] = np.einsum("kd,kd->k", a[rows], m[rows])
    return products


def tiles(num_rows: int, depth: int) -> Iterator[slice]:
    """Cut rows so that the product of two slices, of vectors of length `depth`, is a block."""
    side = math.isqrt(max(1, min(_BLOCK_ENTRIES, _BLOCK_PRODUCTS // depth)))
    for first in range(0, num_rows, side):
        yield slice(first, min(first + side, num_rows))


def row_blocks(num_rows: int, entries_per_row: int, depth: int = 1) -> Iterator[slice]:
    """Cut rows into slices of bounded memory and work, between which Ctrl-C is answered.

    An entry takes `depth` multiplications.
    """
    entries = min(_BLOCK_ENTRIES, _BLOCK_PRODUCTS // depth)
    step = max(1, entries // entries_per_row)
    for first in range(0, num_rows, step):
        yield slice(first, min(first + step, num_rows))
