"""The frame nearest to given class means."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.host import Host
from infall._arrays.locate import place_of
from infall.laws import angle_of_units

_Float = NDArray[np.float64]


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

    Notes
    -----
    It can be pickled, with the frame it was fitted by: for the basis "haar" with its K x d values.
    """

    scale: float
    vectors: Any = field(repr=False)
    centre: Any = field(repr=False)
    residual: float
    relative_residual: float
    angles: Any = field(repr=False)
    _target: _Float = field(repr=False)
    _source: Callable[[], _Float] = field(repr=False)

    @cached_property
    def rotation(self) -> _Float:
        """The orthonormal R (d, d) that takes the frame to `vectors`: R m_c for each class c.

        A NumPy array, made when it is asked for, in O(d^3). Where frame and means span less than
        all of R^d, it is completed by that rotation of the rest which is nearest to the identity.
        The QR and singular value decompositions for that are LAPACK's, which cannot be interrupted:
        Ctrl-C is answered after each.
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

    Raises TypeError or ValueError for another kind or shape, NaN and infinity, with the position.
    """
    place, located = place_of(means, "means")
    with place:
        located = place.download(located)
    blocks, count, length, batched = Host().vector_blocks(located, "means", dim=dim)
    if not batched:
        raise ValueError("means has 1 axes; expected shape (K, d)")
    if num_classes is not None and count != num_classes:
        raise ValueError(f"means has {count} rows; expected {num_classes}, one to a class")
    if count < 2:
        raise ValueError(f"means has {count} rows; expected at least 2 classes")
    class_means = np.empty((count, length))
    for first, block in blocks:
        class_means[first : first + len(block)] = block

    def returned(array: _Float) -> Any:
        with place:
            return place.returned(place.upload(array))

    return class_means, returned


def reduced(rows: _Float) -> _Float:
    """Return V x for x (K, d): coordinates (K - 1, d) in a basis V of the sums that are zero.

    V is the first K - 1 rows of the reflection that takes 1/sqrt(K) to the last axis, and minus.
    """
    count = len(rows)
    root = math.sqrt(count)
    head = rows[:-1]
    coordinates: _Float = head - head.sum(axis=0) / (count + root) - rows[-1] / root
    return coordinates


def expanded(rows: _Float) -> _Float:
    """Return V^T y for y (K - 1, d): rows (K, d) whose sum is zero."""
    count = len(rows) + 1
    root, total = math.sqrt(count), rows.sum(axis=0)
    return np.vstack([rows - total / (count + root), -total / root])


def fitted_frame(
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
    power = exponent_of(means)
    means = np.ldexp(means, -power)
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
    with np.errstate(over="ignore"):
        sizes = np.ldexp([scale, residual], power)
        centre = np.ldexp(offset - scale * base_mean, power)
    if not (np.isfinite(sizes).all() and np.isfinite(centre).all()):
        raise ValueError("means are too long: their distance to a frame overflows; scale them down")
    return FrameFit(
        float(sizes[0]),
        returned(rotated),
        returned(centre),
        float(sizes[1]),
        residual / norm,
        returned(angle_of_units(directions(centred), directions(rotated - base_mean))),
        target,
        source,
    )


def exponent_of(array: _Float) -> int:
    """Return the least e such that all magnitudes are below 2^e."""
    return int(np.frexp(max(array.max(), -array.min()))[1])


def directions(rows: _Float) -> _Float:
    """Return rows (K, d) at length one, whatever theirs is; a row that is zero stays zero."""
    largest = np.maximum(rows.max(axis=1), -rows.min(axis=1))
    units: _Float = np.ldexp(rows, -np.frexp(largest)[1][:, None])
    norms = np.linalg.norm(units, axis=1, keepdims=True)
    units /= np.where(norms == 0.0, 1.0, norms)
    return units
