"""How far vectors are from frames: distances, bounds, coherence and margins."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays.calls import Progress, watch_of
from infall._arrays.checks import check_finite, integer
from infall._arrays.convert import to_numpy
from infall._arrays.host import Host
from infall.frames import _simplex
from infall.frames.fit import directions, exponent_of, read_means

_Float = NDArray[np.float64]


def etf_distance(means: ArrayLike) -> float:
    """Distance of class means to a simplex ETF: the NC2 metric.

    Parameters
    ----------
    means : array, shape (K, d)
        Class means, K >= 2; they are centred by their mean and brought to unit length.

    Returns
    -------
    float
        ``||G/||G||_F - E/sqrt(K-1)||_F`` for the Gram matrix G of the unit centred means and
        E = I - 11^T/K, in [0, 2]. Computed from the parts of G along and across E: means
        at an ETF give 1e-15, not the 1e-8 at which ``2 - 2 cos`` ends. O(K^2 d) time, O(K d^2) for
        more classes than an ETF has room for; G is not stored.

    Raises
    ------
    TypeError
        For anything but an array of real numbers.
    ValueError
        For another shape, NaN or infinity, and a class whose mean is the mean of all.

    Notes
    -----
    Source: Kothapalli, Neural Collapse: A Review, Eq. 7.
    """
    units, _ = read_means(means, None, None)  # a copy
    power, blocks = exponent_of(units), list(_simplex.row_blocks(*units.shape))
    for rows in blocks:
        units[rows] = np.ldexp(units[rows], -power)
    centre = _simplex.row_sum(units) / len(units)
    for rows in blocks:
        units[rows] = directions(units[rows] - centre)
        zero = ~units[rows].any(axis=1)
        if zero.any():
            c = rows.start + int(np.argmax(zero))
            raise ValueError(f"means[{c}] is the mean of all means: it has no direction")
    return _simplex.product_distance(units, units, np.ones(len(units)))


def welch_bound(num_vectors: int, dim: int) -> float:
    """Return the least coherence that `num_vectors` vectors of R^dim can have, as far as known.

    Parameters
    ----------
    num_vectors, dim : int
        K >= 2 and d >= 1.

    Returns
    -------
    float
        ``sqrt((K - d) / (d (K - 1)))``, and 0 for K <= d. Equiangular tight frames attain it:
        1/d for a simplex ETF of K = d + 1 vectors.

    Raises
    ------
    TypeError, ValueError
        For anything but an integer, and one that is too small.

    Notes
    -----
    Source: Welch (1974), Lower bounds on the maximum cross correlation of signals.
    """
    count = integer(num_vectors, "num_vectors", 2, 2**63, "2**63")
    dim = integer(dim, "dim", 1, 2**63, "2**63")
    return math.sqrt((count - dim) / (dim * (count - 1))) if count > dim else 0.0


def coherence(vectors: ArrayLike, *, progress: Progress | None = None) -> float:
    """Return the largest absolute cosine between two of some vectors.

    Parameters
    ----------
    vectors : array, shape (K, d)
        K >= 2 vectors, one to a row, none of them zero, of any magnitude.
    progress : callable, optional
        Called as progress(vectors_done, vectors_total, "vectors").

    Returns
    -------
    float
        max |<a, b>| / (||a|| ||b||) over pairs of different rows; O(K^2 d) time.

    Raises
    ------
    TypeError, ValueError
        As `etf_distance`, and ValueError for a vector that is zero.
    """
    units = _rows(vectors)
    for rows in _simplex.row_blocks(*units.shape):
        units[rows] = directions(units[rows])
        zero = ~units[rows].any(axis=1)
        if zero.any():
            c = rows.start + int(np.argmax(zero))
            raise ValueError(f"vectors[{c}] is zero: it has no direction")
    watch = watch_of(progress, len(units), "vectors")
    largest, blocks = 0.0, list(_simplex.tiles(*units.shape))
    for i, rows in enumerate(blocks):
        for columns in blocks[: i + 1]:
            cosines = units[rows] @ units[columns].T
            if rows == columns:
                np.fill_diagonal(cosines, 0.0)
            largest = max(largest, float(np.abs(cosines, out=cosines).max()))
        if watch is not None:
            watch(rows.stop)
    return min(largest, 1.0)


def maximum_margin(vectors: ArrayLike, *, progress: Progress | None = None) -> float:
    """Return the margin of vectors as the weights of a fixed linear classifier.

    Parameters
    ----------
    vectors : array, shape (K, d)
        Weights w_c of K >= 2 classes, one to a row, of any magnitude.
    progress : callable, optional
        Called as progress(classes_done, classes_total, "classes").

    Returns
    -------
    float
        The largest g such that every class c has a unit feature h with
        ``(w_c - w_c') . h >= g`` for all other classes c'; 0 where a class has none that it wins.
        For class c that is the distance from the origin to the convex hull of all w_c - w_c'.

    Raises
    ------
    TypeError, ValueError
        As `etf_distance`.

    Notes
    -----
    One non-negative least-squares problem (SciPy) per class, each with d + 1 equations in K - 1
    unknowns: for hundreds of classes. Frames know theirs: `Frame.maximum_margin`.
    """
    from scipy.optimize import nnls  # takes as long to import as all of infall

    weights = _rows(vectors)
    power = exponent_of(weights)
    weights = np.ldexp(weights, -power)
    watch = watch_of(progress, len(weights), "classes")
    least = math.inf
    for c in range(len(weights)):
        differences = np.delete(weights[c] - weights, c, axis=0)
        size = float(np.abs(differences).max())
        if size == 0.0:
            return 0.0
        # The point of least norm of the hull minimises |A x|^2 + (1 - sum x)^2, x >= 0, up to the
        # scale of x.
        system = np.vstack([differences.T / size, np.ones(len(differences))])
        target = np.append(np.zeros(weights.shape[1]), 1.0)
        x, _ = nnls(system, target)
        nearest = (x / x.sum()) @ differences
        least = min(least, float(np.linalg.norm(nearest)))
        if least <= 1e-12 * size:
            return 0.0
        if watch is not None:
            watch(c + 1)
    return math.ldexp(least, power)


def _rows(array: ArrayLike) -> _Float:
    """Return a float64 copy of at least two vectors (K, d)."""
    blocks, count, dim, batched = Host().vector_blocks(array, "vectors")
    if not batched or count < 2:
        raise ValueError(f"vectors has shape {np.shape(array)}; expected (K, d), K at least 2")
    rows = np.empty((count, dim))
    for first, block in blocks:
        rows[first : first + len(block)] = block
    return rows


def seli_norms(class_counts: ArrayLike) -> _Float:
    """Lengths of the classifier vectors that training on imbalanced classes prefers.

    Parameters
    ----------
    class_counts : array, shape (K,)
        Samples n_c of each class, or their shares; positive.

    Returns
    -------
    float64 array, shape (K,)
        Lengths with mean square 1, to be given as `class_norms`: 1 for balanced classes, larger
        for the larger classes. Right to about 1e-15; O(K log K) time.

    Raises
    ------
    TypeError, ValueError
        For anything but a vector of at least two positive finite numbers.

    Notes
    -----
    With the simplex-encoded labels Z = (I - 11^T/K) Y, Y (K, N) one-hot, and Z = V S U^T, the
    classifier of the unconstrained-features model under cross-entropy and vanishing regularisation
    has the Gram matrix V S V^T = ((I - 11^T/K) diag(n) (I - 11^T/K))^(1/2); these are the square
    roots of its diagonal. No matrix is made for it: with q_c = t^2 / (n_c + t^2), the diagonal is
    sqrt(n_c) - 2/(pi K) times the integral of 1 - q_c^2 / mean(q) over all t > 0. A frame scaled by
    them keeps the angles of the simplex: the lengths, not the angles, are those of that geometry.

    Source: Thrampoulidis, Kini, Vakilian and Behnia (2022), Imbalance Trouble: Revisiting
    Neural-Collapse Geometry (there: the SELI geometry).
    """
    counts = to_numpy(class_counts, "class_counts").astype(np.float64)
    if counts.ndim != 1 or len(counts) < 2:
        raise ValueError(f"class_counts has shape {counts.shape}; expected (K,), K at least 2")
    check_finite(counts, "class_counts")
    if (counts <= 0.0).any():
        c = int(np.argmin(counts))
        raise ValueError(f"class_counts is {counts[c]} at position {c}; expected positive counts")
    distinct, group, sizes = np.unique(
        counts / counts.max(), return_inverse=True, return_counts=True
    )
    distinct = np.maximum(distinct, 1e-200)  # the roots of less are lost beside that of 1
    squares = np.sqrt(distinct) - _centring_integral(distinct, sizes / len(counts)) / len(counts)
    squares = squares[group]
    norms: _Float = np.sqrt(squares / squares.mean())
    return norms


def _centring_integral(n: _Float, shares: _Float) -> _Float:
    """Return 2/pi times the integral of 1 - q^2 / sum(shares q), q = t^2 / (n + t^2), over t > 0.

    By (A^(1/2)) = 2/pi integral of A (A + t^2)^(-1) and the rank-one formula for the inverse on
    the vectors of sum zero. In log t the integrand is analytic up to pi/2 off the real line and
    falls off as exp(-|log t|): the trapezoidal rule ends at exp(-pi^2 / step).
    """
    step, reach = 0.25, 38.0
    integral = np.zeros(len(n))
    nodes = np.arange(0.5 * math.log(n[0]) - reach, 0.5 * math.log(n[-1]) + reach, step)
    for rows in _simplex.row_blocks(len(nodes), len(n)):
        t = np.exp(nodes[rows, None])
        q, p = t * t / (n + t * t), n / (n + t * t)
        mean_q, mean_p = (q @ shares)[:, None], (p @ shares)[:, None]
        # mean(q) - q^2, without cancellation where q is near 1.
        excess = np.where(mean_p < 0.5, p * (1.0 + q) - mean_p, mean_q - q * q)
        integral += (t * excess / mean_q).sum(axis=0)
    return integral * (2.0 / math.pi * step)
