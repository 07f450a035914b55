"""The centred class means, and what the metrics derive from them once."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays import Progress, one_of, thread_count
from infall._simplex import (
    PairSums,
    between_directions,
    distance_from_moments,
    distance_from_pairs,
    moment_matrix,
    pair_sums,
    product_distance,
    rounding,
    row_blocks,
    row_products,
    row_sum,
)
from infall.classes import ClassMoments, GlobalMean

_Float = NDArray[np.float64]

WEIGHTS = ("classes", "samples")  # what all classes, or all samples, weigh the same in


class UndefinedMetric(ValueError):  # noqa: N818
    """A metric has no value for these data; the message says why."""


class Equiangularity(NamedTuple):
    """How far the angles between K vectors are from those of a simplex ETF."""

    std: float
    """Standard deviation, over pairs, of the cosine."""
    max: float
    """Largest cos + 1/(K-1): of the two vectors that are closest in angle."""


class CDNV(NamedTuple):
    """Class-distance normalized variances over all pairs of classes."""

    mean: float
    max: float
    pair: tuple[int, int]
    """Indices of the classes that attain the maximum; the first such pair."""
    min: float


def check_moments(moments: Any) -> None:
    """Raise TypeError for anything but a ClassMoments."""
    if not isinstance(moments, ClassMoments):
        raise TypeError(f"moments is a {type(moments).__name__}; expected a ClassMoments")
    if not isinstance(moments.counts, np.ndarray):
        raise TypeError(
            "moments are in device memory; expected moments on the host, where the metrics of "
            "collapse are computed: see to_host()"
        )


class Between:
    """The centred class means of a ClassMoments, and what several metrics derive from them."""

    def __init__(
        self,
        moments: ClassMoments,
        global_mean: GlobalMean,
        num_threads: int | None,
        progress: Progress | None = None,
    ) -> None:
        check_moments(moments)
        one_of(global_mean, "global_mean", WEIGHTS)
        observed = moments.observed
        self._require_two(len(observed), "class with samples", "classes with samples")
        self._set(
            moments.centred_means(global_mean), moments.variances[observed], num_threads, progress
        )
        self.observed = observed

    @classmethod
    def of_vectors(
        cls, vectors: _Float, num_threads: int | None, progress: Progress | None
    ) -> Between:
        """Return the same for vectors (K, d) as they stand, without variances."""
        cls._require_two(len(vectors), "vector", "vectors")
        between = cls.__new__(cls)
        between._set(vectors, np.zeros(len(vectors)), num_threads, progress)
        between.observed = np.arange(len(vectors))
        return between

    @staticmethod
    def _require_two(count: int, singular: str, plural: str) -> None:
        if count < 2:
            there = f"is 1 {singular}" if count == 1 else f"are {count} {plural}"
            raise UndefinedMetric(f"there {there}; expected at least 2")

    def _set(
        self,
        centred: _Float,
        variances: _Float,
        num_threads: int | None,
        progress: Progress | None,
    ) -> None:
        self.centred, self.variances = centred, variances
        self.num_classes = len(centred)
        self._threads, self._progress = thread_count(num_threads), progress
        self.square_lengths = row_products(centred, centred)
        self.lengths = np.sqrt(self.square_lengths)
        self.trace = float(self.square_lengths.sum()) / self.num_classes  # of Sigma_B

    @cached_property
    def all_directions(self) -> _Float:
        spread = math.sqrt(float(self.variances.sum()))
        return between_directions(self.centred, spread)

    @property
    def directions(self) -> _Float:
        self.require_distinct()
        return self.all_directions

    @cached_property
    def pairs(self) -> PairSums:
        total = self.num_classes * (self.num_classes - 1) // 2
        progress = self._progress
        return pair_sums(
            self.centred,
            self.variances,
            self._threads,
            None if progress is None else lambda done: progress(done, total, "class pairs"),
        )

    def _shortest_real(self) -> float:
        largest = max(float(self.lengths.max()), math.sqrt(float(self.variances.max())))
        return rounding(self.centred.shape) * largest

    def require_distinct(self) -> None:
        """Refuse class means that all coincide, up to the rounding of the means."""
        if self.lengths.max() <= self._shortest_real():
            raise UndefinedMetric("all class means coincide")

    def require_directions(self, what: str) -> None:
        """Refuse vectors of length zero, up to rounding, which have no direction."""
        short = self.lengths <= self._shortest_real()
        if short.any():
            raise UndefinedMetric(what.format(int(self.observed[np.argmax(short)])))

    def nc2(self) -> float:
        self._require_mean_directions()
        k, dim = self.centred.shape
        if k > dim + 1:
            total = row_sum(self.centred, self.lengths)
            gram = moment_matrix(self.centred, self.lengths)
            return distance_from_moments(k, float(k), float(total @ total), float(np.sum(gram**2)))
        sums = self.pairs
        return distance_from_pairs(
            k, float(k), 0.0, 2.0 * sums.excess_sum, 2.0 * sums.excess_square_sum
        )

    def pfc2(self) -> float:
        self.require_distinct()
        k, dim = self.centred.shape
        trace = float(self.square_lengths.sum())
        if k > dim + 1:
            total = row_sum(self.centred)
            gram = moment_matrix(self.centred)
            return distance_from_moments(k, trace, float(total @ total), float(np.sum(gram**2)))
        diagonal = self.square_lengths - trace / k
        sums = self.pairs
        return distance_from_pairs(
            k,
            trace,
            float(diagonal @ diagonal),
            2.0 * sums.product_sum,
            2.0 * sums.product_square_sum,
        )

    def equinorm(self) -> float:
        mean = float(self.lengths.mean())
        if mean == 0.0:
            raise UndefinedMetric("all vectors are zero")
        return float(self.lengths.std()) / mean

    def equiangularity(self) -> Equiangularity:
        self.require_directions("vector {} is zero and has no direction")
        sums = self.pairs
        mean = sums.excess_sum / sums.num_pairs
        variance = sums.excess_square_sum / sums.num_pairs - mean * mean
        return Equiangularity(math.sqrt(max(variance, 0.0)), sums.excess_max)

    def nc3(self, rows: _Float) -> float:
        self._require_mean_directions()
        distance = product_distance(rows, self.centred, self.lengths)
        if math.isnan(distance):
            raise UndefinedMetric("the product of classifier and class means is zero")
        return distance

    def nc3_papyan(self, rows: _Float, unit_means: bool) -> float:
        norm = math.sqrt(float(row_products(rows, rows).sum()))
        if norm == 0.0:
            raise UndefinedMetric("the classifier is zero")
        if unit_means:
            self._require_mean_directions()
            scale = self.lengths * math.sqrt(self.num_classes)
        else:
            self.require_distinct()
            scale = np.full(self.num_classes, math.sqrt(self.square_lengths.sum()))
        total = 0.0
        for block in row_blocks(*self.centred.shape):
            difference = rows[block] / norm - self.centred[block] / scale[block, None]
            total += float(np.einsum("kd,kd->", difference, difference))
        return total

    def _require_mean_directions(self) -> None:
        self.require_directions("the mean of class {} coincides with the global mean")

    def cdnv(self, power: float) -> CDNV:
        if power == 2.0:
            sums = self.pairs
            mean, (first, second) = sums.cdnv_sum / sums.num_pairs, sums.cdnv_max_pair
            return CDNV(mean, sums.cdnv_max, self._classes(first, second), sums.cdnv_min)
        total, smallest, largest, pair = 0.0, math.inf, -math.inf, (0, 1)
        for rows, block in self.cdnv_blocks(power):
            for row, values in zip(range(rows.start, rows.stop), block, strict=True):
                later = values[row + 1 :]
                if len(later) == 0:
                    continue
                total += float(later.sum())
                smallest = min(smallest, float(later.min()))
                partner = int(np.argmax(later))
                if later[partner] > largest:
                    largest, pair = float(later[partner]), (row, row + 1 + partner)
        pairs = self.num_classes * (self.num_classes - 1) // 2
        return CDNV(total / pairs, largest, self._classes(*pair), smallest)

    def _classes(self, first: int, second: int) -> tuple[int, int]:
        return int(self.observed[first]), int(self.observed[second])

    def cdnv_blocks(self, power: float) -> Iterator[tuple[slice, _Float]]:
        """Yield (rows, V (b, K)) of the matrix with any power of the distance."""
        for rows in row_blocks(self.num_classes, *self.centred.shape):
            block = _core.cdnv_block(
                self.centred, self.variances, rows.start, rows.stop, self._threads, None
            )
            if power != 2.0:
                # V of squared distances is s / d^2: s / d^p = V^(p/2) s^(1 - p/2).
                block **= power / 2.0
                half_sums = 0.5 * (self.variances[rows, None] + self.variances)
                half_sums[half_sums == 0.0] = 1.0  # V is 0 or infinite there
                half_sums **= 1.0 - power / 2.0
                block *= half_sums
            yield rows, block
