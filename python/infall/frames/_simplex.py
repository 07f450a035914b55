"""Centred class means beside the simplex equiangular tight frame (ETF), without K x K arrays.

With E = I - 11^T/K, all distances to the simplex here are || G/||G||_F - E/sqrt(K-1) ||_F of some
Gram matrix G (K, K). Written out as 2 - 2 cos they end at 1e-8, where the cosine rounds to one;
instead the part of G along E and the part across it are summed apart, and the distance is
2 sin(phi/2) of the angle between G and E. What is summed are the entries of G - a0 E, which are
small near the simplex, with a0 = tr G/(K-1).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

_Float = NDArray[np.float64]
_BLOCK_ENTRIES = 2**20  # 8 MiB
_PANEL = 128  # rows of a triangular factor that are solved together
_FACTOR_DEVIATION = 0.1  # Frobenius norm of B B^T - I: singular values from 0.94 to 1.05
_FEW_PRODUCTS = 2**22  # K^2 d up to which a decomposition takes a few milliseconds
_BLOCK_PRODUCTS = 2**28  # multiplications between two looks at Ctrl-C: about 10 ms


def rounding(shape: tuple[int, ...]) -> float:
    """Return the relative size under which parts of (K, d) class means are rounding error."""
    return float(np.finfo(np.float64).eps) * max(shape)


def power_of_two(array: _Float) -> float:
    """Return the power of two that brings the largest magnitude near one; 1 for zeros.

    Nothing is rounded by it, and squares keep within the range of float64.
    """
    blocks = row_blocks(len(array), max(1, math.prod(array.shape[1:])))
    return unit_scale(np.abs(array[rows]).max() for rows in blocks)


def unit_scale(magnitudes: Iterable[Any]) -> float:
    """Return the power of two that brings the largest of some magnitudes to [1/2, 1)."""
    largest = float(max(magnitudes))
    return math.ldexp(1.0, -max(-1022, min(math.frexp(largest)[1], 1022))) if largest else 1.0


def between_directions(centred: _Float, weights: _Float, spread: float) -> tuple[_Float, int]:
    """Return D (d, c) with |h D|^2 = h (M^T M)^+ h^T of M = centred (K, d), and the rank of M.

    Singular values of M are left out that the rounding of the means explains, relative to the
    largest of them and to `spread`, the root of the summed class variances. `weights` (K,) are
    those for which weights @ M = 0.

    D comes from Cholesky factors, made block by block so that Ctrl-C is answered, where these show
    that M has the rank K - 1 or d that it should: M = L B, B with rows that are orthonormal but
    for the rounding of L, which the factor of B B^T then makes good ("Cholesky QR twice"). Where
    they do not, and for few classes in more dimensions, a decomposition of NumPy's decides, which
    Ctrl-C has to wait for: the singular values of M, or for K > d the eigenvalues of M^T M, where
    directions under about 1e-7 of the largest are lost.
    """
    num_classes, dim = centred.shape
    few = num_classes <= dim and num_classes**2 * dim < _FEW_PRODUCTS
    if not few and centred.any():
        directions = _cholesky_directions(centred, weights)
        if directions is not None:
            # The squares of D sum up to those of the inverse singular values.
            largest = math.sqrt(float(row_products(centred, centred).sum()))
            least = 1.0 / math.sqrt(float(row_products(directions, directions).sum()))
            if least > rounding(centred.shape) * max(largest, spread):
                return directions, min(num_classes - 1, dim)
    directions = _decomposed_directions(centred, spread)
    return directions, directions.shape[1]


def _cholesky_directions(centred: _Float, weights: _Float) -> _Float | None:
    num_classes, dim = centred.shape
    wide = num_classes <= dim
    vectors = centred
    if wide:
        # With a column of the one combination of rows that is zero, all rows are independent.
        extra = math.sqrt(float(row_products(centred, centred).sum()) / num_classes)
        extra /= float(np.linalg.norm(weights))
        vectors = np.concatenate([centred, extra * weights[:, None]], axis=1)
    factor = cholesky(_products(vectors) if wide else moment_matrix(vectors))
    if factor is None:
        return None
    if wide:
        rows = solve_triangular(factor, vectors, transposed=False)
        gram = _products(rows)
    else:
        gram = np.zeros((dim, dim))
        for block in row_blocks(num_classes, dim, dim):
            columns = solve_triangular(factor, vectors[block].T, transposed=False)
            gram += columns @ columns.T
    # Singular values of B near one: L is a factor of M, whatever it was rounded to.
    gram.flat[:: len(gram) + 1] -= 1.0
    if not np.linalg.norm(gram) < _FACTOR_DEVIATION:
        return None
    gram.flat[:: len(gram) + 1] += 1.0
    second = cholesky(gram)
    assert second is not None
    right = solve_triangular(second, rows[:, :dim], transposed=False) if wide else np.eye(dim)
    right = solve_triangular(second, right, transposed=True)
    right = solve_triangular(factor, right, transposed=True)
    return np.ascontiguousarray(right.T) if wide else right


def _products(vectors: _Float) -> _Float:
    """Return the products (K, K) of the rows of vectors (K, d)."""
    products = np.empty((len(vectors), len(vectors)))
    for rows in row_blocks(len(vectors), len(vectors), vectors.shape[1]):
        products[rows] = vectors[rows] @ vectors.T
    return products


def cholesky(matrix: _Float) -> _Float | None:
    """Return L (n, n) with L L^T = matrix, panel by panel in its memory; None if there is none.

    What is above the panels on the diagonal has no meaning.
    """
    from scipy.linalg import solve_triangular as solve

    count = len(matrix)
    for first in range(0, count, _PANEL):
        last = min(first + _PANEL, count)
        left = matrix[first:last, :first]
        for rows in row_blocks(count - first, _PANEL, max(1, first)):
            below = slice(first + rows.start, first + rows.stop)
            matrix[below, first:last] -= matrix[below, :first] @ left.T
        try:
            corner = np.linalg.cholesky(matrix[first:last, first:last])
        except np.linalg.LinAlgError:
            return None
        matrix[first:last, first:last] = corner
        for rows in row_blocks(count - last, _PANEL, _PANEL):
            below = slice(last + rows.start, last + rows.stop)
            matrix[below, first:last] = solve(
                corner, matrix[below, first:last].T, lower=True, check_finite=False
            ).T
    return matrix


def solve_triangular(factor: _Float, right: _Float, *, transposed: bool) -> _Float:
    """Return L^-1 R, or L^-T R, for R (n, m), panel by panel; of L, as `cholesky` leaves it."""
    from scipy.linalg import solve_triangular as solve

    count = len(factor)
    solution = np.array(right, order="C")
    panels = [slice(first, min(first + _PANEL, count)) for first in range(0, count, _PANEL)]
    for panel in reversed(panels) if transposed else panels:
        depth = count - panel.stop if transposed else panel.start
        for columns in row_blocks(solution.shape[1], _PANEL, max(_PANEL, depth)):
            block = solution[panel, columns]
            if transposed:
                block -= factor[panel.stop :, panel].T @ solution[panel.stop :, columns]
            else:
                block -= factor[panel, : panel.start] @ solution[: panel.start, columns]
            solution[panel, columns] = solve(
                *(factor[panel, panel], block),
                lower=True,
                trans=1 if transposed else 0,
                check_finite=False,
            )
    return solution


def _decomposed_directions(centred: _Float, spread: float) -> _Float:
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


def pair_sums(totals: tuple[NDArray[Any], ...]) -> PairSums:
    """Sum over all pairs what the kernels of the geometry return for each class."""
    largest = int(np.argmax(totals[1]))
    return PairSums(
        len(totals[0]),
        float(totals[0].sum()),
        float(totals[1][largest]),
        (largest, int(totals[2][largest])),
        float(totals[3].min()),
        float(totals[4].sum()),
        float(totals[5].sum()),
        float(totals[6].max()),
        float(totals[8].sum()),
        float(totals[9].sum()),
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

    They are the last arguments of `distance_from_pairs`.
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


def moment_matrix(
    vectors: _Float, scale: _Float | None = None, watch: Callable[[int], object] | None = None
) -> _Float:
    """Return (M / scale)^T (M / scale), (d, d), of M (K, d), without a copy of M.

    `watch` is called with the rows done.
    """
    num_classes, dim = vectors.shape
    total = np.zeros((dim, dim))
    for rows in row_blocks(num_classes, dim, dim):
        block = vectors[rows] if scale is None else vectors[rows] / scale[rows, None]
        total += block.T @ block
        if watch is not None:
            watch(rows.stop)
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
