"""Measures of frames, and frames fitted to class means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import scipy  # its parts are loaded where they are used: optimize takes a quarter of a second
from numpy.typing import NDArray

from infall import _simplex
from infall._arrays import check_finite, integer, like, to_numpy, vectors
from infall._device import located

_Float = NDArray[np.float64]
_BLOCK_PRODUCTS = 2**28  # multiplications between two looks at Ctrl-C: under 0.1 s


@dataclass(frozen=True, eq=False)
class FrameFit:
    """The nearest scaled rotation of a frame to class means.

    Attributes
    ----------
    scale : float
        The factor alpha >= 0.
    vectors : array, shape (K, d)
        The rotated frame R M0, one class to a row; ``centre + scale * vectors`` are the fitted
        means.
    centre : array, shape (d,)
        Mean of the class means, less that of the scaled rotated frame where it is not zero.
    residual : float
        Frobenius distance of the means to the fitted means.
    relative_residual : float
        The same over the Frobenius norm of the centred means.
    angles : array, shape (K,)
        Angle of each centred mean to its fitted vector, in radians; pi/2 where one of them is zero.
    """

    scale: float
    vectors: Any
    centre: Any
    residual: float
    relative_residual: float
    angles: Any
    _target: _Float
    _source: Callable[[], _Float]

    @cached_property
    def rotation(self) -> _Float:
        """The orthonormal R (d, d) that takes the frame to `vectors`: R m_c for each class c.

        Made when it is asked for, in O(d^3). Where frame and means span less than all of R^d it
        is completed by the rotation of what is left that is nearest to the identity.
        """
        target, source = self._target, self._source()  # (r, d) each, orthonormal rows
        rank = len(target)
        rest = [np.linalg.qr(span.T, mode="complete")[0][:, rank:] for span in (target, source)]
        left, _, right = np.linalg.svd(rest[0].T @ rest[1])
        rotation: _Float = target.T @ source + rest[0] @ (left @ right) @ rest[1].T
        return rotation


def read_means(
    means: Any, num_classes: int | None, dim: int | None
) -> tuple[_Float, Callable[[_Float], Any]]:
    """Return finite float64 means (K, d), and what the results are to be like.

    Raises
    ------
    TypeError, ValueError
        For another kind or shape, and NaN or infinity, with the position.
    """
    device, found = located(means, "means")
    host = found if device is None else device.download(found)
    values, batched = vectors(host, "means", dim=dim)
    if not batched:
        raise ValueError("means has 1 axes; expected shape (K, d)")
    if num_classes is not None and len(values) != num_classes:
        raise ValueError(f"means has {len(values)} rows; expected {num_classes}, one to a class")
    if len(values) < 2:
        raise ValueError("means has 1 rows; expected at least 2 classes")

    def returned(array: _Float) -> Any:
        if device is None:
            return like(array, means)
        with device:
            return device.returned(device.upload(array))

    return values, returned


def reduced(rows: _Float) -> _Float:
    """Return V x for x (K, d): coordinates (K - 1, d) in a basis V of the sums that are zero.

    V is the first K - 1 rows of the reflection that takes 1/sqrt(K) to the last axis, and minus.
    """
    count = len(rows)
    root = math.sqrt(count)
    head = rows[:-1]
    found: _Float = head - head.sum(axis=0) / (count + root) - rows[-1] / root
    return found


def expanded(rows: _Float) -> _Float:
    """Return V^T y for y (K - 1, d): rows (K, d) whose sum is zero."""
    count = len(rows) + 1
    root, total = math.sqrt(count), rows.sum(axis=0)
    return np.vstack([rows - total / (count + root), -total / root])


def fit(
    means: _Float,
    frame: _Float | None,
    returned: Callable[[_Float], Any],
    source: Callable[[], _Float],
) -> FrameFit:
    """Fit a frame (K, d) to means (K, d); None stands for a simplex ETF in any position.

    `source` gives orthonormal rows of which the vectors of the frame before it is rotated are
    combinations: those of `FrameFit.vectors` with the fitted rows in their place.
    """
    count, dim = means.shape
    offset = means.mean(axis=0)
    centred = means - offset
    norm = float(np.linalg.norm(centred))
    if norm <= np.finfo(np.float64).eps * math.sqrt(count) * float(np.linalg.norm(offset)):
        raise ValueError("means coincide: no rotation or scale of a frame is nearest to a point")
    if frame is None:
        # The means less their own are V^T V of themselves: K - 1 coordinates hold all.
        left, singular, right = np.linalg.svd(reduced(centred), full_matrices=False)
        target, base_mean = left @ right, np.zeros(dim)
        length = math.sqrt(count / (count - 1.0))
        rotated = length * expanded(target)
        scale = length * float(singular.sum()) / count
    else:
        base_mean = frame.mean(axis=0)
        base = frame - base_mean
        left, singular, right = np.linalg.svd(centred.T @ base)
        rotation = left @ right  # (d, d)
        rotated = frame @ rotation.T
        base_mean = rotation @ base_mean
        scale = float(singular.sum()) / float(np.sum(base * base))
        target = rotation.T
    residual = float(np.linalg.norm(centred - scale * (rotated - base_mean)))
    return FrameFit(
        scale,
        returned(rotated),
        returned(offset - scale * base_mean),
        residual,
        residual / norm,
        returned(_angles(centred, rotated - base_mean)),
        target,
        source,
    )


def _angles(a: _Float, b: _Float) -> _Float:
    # 2 atan2(|a/|a| - b/|b||, |a/|a| + b/|b||): right for the smallest angles, where the arc
    # cosine has none.
    units = []
    for rows in (a, b):
        norms = np.linalg.norm(rows, axis=1, keepdims=True)
        units.append(rows / np.where(norms == 0.0, 1.0, norms))
    apart, along = (np.linalg.norm(units[0] - s * units[1], axis=1) for s in (1.0, -1.0))
    angles: _Float = 2.0 * np.arctan2(apart, along)
    return angles


def etf_distance(means: Any) -> float:
    """Distance of class means to a simplex ETF: the NC2 metric.

    Parameters
    ----------
    means : array, shape (K, d)
        Class means, K >= 2; they are centred by their mean and brought to unit length.

    Returns
    -------
    float
        ``||G/||G||_F - E/sqrt(K-1)||_F`` for the Gram matrix G of the unit centred means and
        E = I - 11^T/K, in [0, 2]. Computed from the parts of G along and across E, so that means
        at an ETF give 1e-15, not the 1e-8 at which ``2 - 2 cos`` ends. O(K^2 d) time, O(K d^2) for
        more classes than an ETF has room for; G is not stored.

    Raises
    ------
    TypeError
        For what is not an array of real numbers.
    ValueError
        For another shape, NaN or infinity, and a class whose mean is the mean of all.

    Notes
    -----
    Source: Kothapalli, Neural Collapse: A Review, Eq. 7.
    """
    values, _ = read_means(means, None, None)
    centred = values - values.mean(axis=0)
    norms = np.linalg.norm(centred, axis=1)
    if not norms.all():
        c = int(np.argmin(norms))
        raise ValueError(f"means[{c}] is the mean of all means: it has no direction")
    return _simplex.product_distance(centred / norms[:, None], centred, norms)


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
        For what is not an integer, or too small.

    Notes
    -----
    Source: Welch (1974), Lower bounds on the maximum cross correlation of signals.
    """
    count = integer(num_vectors, "num_vectors", 2, 2**63, "2**63")
    dim = integer(dim, "dim", 1, 2**63, "2**63")
    return math.sqrt((count - dim) / (dim * (count - 1))) if count > dim else 0.0


def coherence(vectors: Any) -> float:
    """Return the largest absolute cosine between two of some vectors.

    Parameters
    ----------
    vectors : array, shape (K, d)
        K >= 2 vectors, one to a row, none of them zero.

    Returns
    -------
    float
        max |<a, b>| / (||a|| ||b||) over pairs of different rows; O(K^2 d) time.

    Raises
    ------
    TypeError, ValueError
        As `etf_distance`.
    """
    units = _unit_rows(vectors)
    largest, step = 0.0, max(1, _BLOCK_PRODUCTS // units.size)
    for first in range(0, len(units), step):
        cosines = np.abs(units[first : first + step] @ units.T)
        rows = np.arange(len(cosines))
        cosines[rows, rows + first] = 0.0
        largest = max(largest, float(cosines.max()))
    return min(largest, 1.0)


def maximum_margin(vectors: Any) -> float:
    """Return the margin of vectors as the weights of a fixed linear classifier.

    Parameters
    ----------
    vectors : array, shape (K, d)
        Weights w_c of K >= 2 classes, one to a row.

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
    weights = _rows(vectors)
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
        x, _ = scipy.optimize.nnls(system, target)
        nearest = (x / x.sum()) @ differences
        least = min(least, float(np.linalg.norm(nearest)))
        if least <= 1e-12 * size:
            return 0.0
    return least


def _rows(array: Any) -> _Float:
    values, batched = vectors(array, "vectors")
    if not batched or len(values) < 2:
        raise ValueError(f"vectors has shape {np.shape(array)}; expected (K, d), K at least 2")
    return values


def _unit_rows(array: Any) -> _Float:
    values = _rows(array)
    norms = np.linalg.norm(values, axis=1, keepdims=True)
    if not norms.all():
        raise ValueError(f"vectors[{int(np.argmin(norms))}] is zero: it has no direction")
    units: _Float = values / norms
    return units


def seli_norms(class_counts: Any) -> _Float:
    """Lengths of the classifier vectors that training on imbalanced classes prefers.

    Parameters
    ----------
    class_counts : array, shape (K,)
        Samples n_c of each class, or their shares; positive.

    Returns
    -------
    float64 array, shape (K,)
        Lengths with mean square 1, to be given as `class_norms`: 1 for balanced classes, larger
        for the larger classes. O(K + G^3) time for G different counts.

    Raises
    ------
    TypeError, ValueError
        For what is not a vector of at least two positive finite numbers.

    Notes
    -----
    With the simplex-encoded labels Z = (I - 11^T/K) Y, Y (K, N) one-hot, and Z = V S U^T, the
    classifier of the unconstrained-features model under cross-entropy and vanishing regularisation
    has the Gram matrix V S V^T = ((I - 11^T/K) diag(n) (I - 11^T/K))^(1/2); these are the square
    roots of its diagonal. Classes of equal size are exchangeable, which leaves a problem of the
    size of the number of different counts. A frame scaled by them keeps the angles of the simplex:
    the lengths, not the angles, are those of that geometry.

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
    shares = np.sqrt(sizes / len(counts))  # of the vector of ones in the groups' mean directions
    centring = np.eye(len(sizes)) - np.outer(shares, shares)
    values, directions = np.linalg.eigh((centring * distinct) @ centring)
    between = (directions * directions) @ np.sqrt(np.maximum(values, 0.0))  # diagonal of the root
    squares = (1.0 - 1.0 / sizes) * np.sqrt(distinct) + between / sizes
    squares = squares[group]
    norms: _Float = np.sqrt(squares / squares.mean())
    return norms
