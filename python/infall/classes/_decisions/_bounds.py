"""How far products in binary32 or binary64 may be from the scores that decide between classes.

The bounds hold for any order of summation, with or without fused operations, so that whoever makes
the products has no say in the decisions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall._arrays.blocks import block_size
from infall.frames._simplex import unit_scale

_Float = NDArray[Any]  # float32 or float64, as the products are
_Float64 = NDArray[np.float64]

CLASS_ENTRIES = 2**20  # of a block of classes
# Binary32 loses its bound where the length of a row times its unit is no longer small.
_LONGEST_FLOAT32 = 2**20


class Precision(NamedTuple):
    """What is known of products of rows of d numbers, summed in any order.

    A product of rows x, y is wrong by at most gamma |x| |y| (Higham 2002, section 3.1), `unit` is
    the largest relative error of one operation, `tiny` the least normal number; `exact` bounds the
    relative error of the float64 sums that decide.
    """

    dtype: type[np.floating[Any]]
    dim: int
    unit: float
    gamma: float
    tiny: float
    longest: float
    exact: float

    @classmethod
    def of(cls, features: str, dim: int, *, exact_float32: bool = True) -> Precision:
        """Return what products of features of this dtype are made in."""
        wide = features == "float64" or dim > _LONGEST_FLOAT32 or not exact_float32
        dtype = np.float64 if wide else np.float32
        info = np.finfo(dtype)
        unit = float(info.eps) / 2.0
        longest = 2.0**480 if wide else 2.0**60
        gamma = dim * unit / (1.0 - dim * unit)
        return cls(dtype, dim, unit, gamma, float(info.tiny), longest, (dim + 8) * 2.0**-53)

    def upward(self, bounds: _Float64) -> _Float:
        """Round bounds so that they still hold after the arithmetic they take part in."""
        return (bounds * (1.0 + 64.0 * self.unit) + self.tiny).astype(self.dtype)

    def row_factor(self) -> tuple[float, float]:
        """Bound per unit of a class's norm, as x norm + y of the norm of a sample.

        Entries and result are rounded, and sums are not exact.
        """
        return (
            (self.gamma + 8.0 * self.unit + self.exact) * (1.0 + 64.0 * self.unit),
            2.0 * (math.sqrt(self.dim) + 1.0) * self.tiny,
        )

    def shared(self, distances: bool) -> tuple[float, float, float]:
        """Bound that all classes of a sample have in common, for both sides of a comparison.

        As x + y norm + z norm^2 of the norm of the sample.
        """
        root = math.sqrt(self.dim)
        square = 2.0 * self.exact if distances else 0.0
        return 4.0 * self.dim * self.tiny, 2.0 * root * self.tiny, square


class Side(NamedTuple):
    """Classes whose scores are compared: product with the sample plus a term."""

    rows: NDArray[Any]  # (K, d)
    centre: _Float64 | None
    scale: float
    offsets: _Float64 | None  # (K,) of outputs, in the unit of the products
    slack: _Float64 | None  # (K,) of outputs
    bias: _Float64 | None  # (K,) of outputs, as it was given
    bounded: bool  # whether products and terms stay within the range of the precision

    @classmethod
    def distances(cls, means: _Float64, centre: _Float64, scale: float) -> Side:
        """-|h - m|^2 / 2 without |h|^2 / 2, for samples and means relative to the centre."""
        return cls(means, centre, scale, None, None, None, True)

    @classmethod
    def outputs(
        cls,
        classifier: NDArray[Any],
        bias: NDArray[Any] | None,
        centre: _Float64,
        scale: float,
        precision: Precision,
    ) -> Side:
        """Score h . a + b as (h - g) . a + (g . a + b), g the centre."""
        biases = np.zeros(len(classifier)) if bias is None else np.asarray(bias, dtype=np.float64)
        own = unit_scale(np.abs(classifier[rows]).max() for rows in class_blocks(classifier))
        shifts, norms = np.empty(len(classifier)), np.empty(len(classifier))
        for rows in class_blocks(classifier):
            block = own * classifier[rows].astype(np.float64)
            shifts[rows] = block @ (scale * centre)
            norms[rows] = np.linalg.norm(block, axis=1)
        scaled = scale * (own * biases)
        offsets = shifts + scaled
        slack = 2.0 * precision.exact * (np.linalg.norm(scale * centre) * norms + np.abs(scaled))
        slack += 4.0 * precision.unit * np.abs(offsets)
        bounded = bool(np.all(np.abs(offsets) + slack < precision.longest))
        return cls(classifier, None, own, offsets, slack, biases, bounded)

    def bounds(
        self, classes: slice, square_norms: _Float64, precision: Precision
    ) -> tuple[_Float, _Float, _Float]:
        """Term, norm and slack of a block of classes, each (b,)."""
        norms = np.sqrt(square_norms)
        if self.offsets is None or self.slack is None:
            terms = -0.5 * square_norms
            slack = square_norms * (4.0 * precision.unit + precision.exact)
        else:
            terms, slack = self.offsets[classes], self.slack[classes]
        with np.errstate(over="ignore"):  # of terms that are not bounded, which nothing relies on
            return terms.astype(precision.dtype), precision.upward(norms), precision.upward(slack)


def sides_of(
    means: _Float64,
    classifier: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    precision: Precision,
) -> tuple[_Float64, float, list[Side]]:
    """Return the common centre of the samples (d,), their scale, and what they are scored by."""
    centre = means.mean(axis=0)
    scale = unit_scale(np.abs(means[rows] - centre).max() for rows in class_blocks(means))
    sides = [Side.distances(means, centre, scale)]
    if classifier is not None:
        sides.append(Side.outputs(classifier, bias, centre, scale, precision))
    return centre, scale, sides


def class_blocks(rows: NDArray[Any]) -> Iterator[slice]:
    step = max(1, block_size(CLASS_ENTRIES) // rows.shape[1])
    return (slice(first, first + step) for first in range(0, len(rows), step))
