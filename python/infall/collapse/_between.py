"""The centred class means, and what the metrics derive from them once."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall._arrays.calls import Progress, watch_of
from infall._arrays.host import Host
from infall._arrays.place import Place
from infall._arrays.threads import thread_count
from infall.classes.moments import ClassMoments, GlobalMean
from infall.collapse._checks import UndefinedMetric
from infall.frames._simplex import (
    PairSums,
    between_directions,
    distance_from_moments,
    distance_from_pairs,
    moment_matrix,
    pair_sums,
    power_of_two,
    product_distance,
    rounding,
    row_blocks,
    row_products,
    row_sum,
)

_Float = NDArray[np.float64]


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


class Between:
    """The centred class means of a ClassMoments, and what several metrics derive from them.

    Means and variances are multiplied by a power of two and its square, so that no square leaves
    the range of float64; `scale` is that power.
    """

    def __init__(
        self,
        moments: ClassMoments,
        global_mean: GlobalMean,
        num_threads: int | None,
        progress: Progress | None = None,
        place: Place | None = None,
    ) -> None:
        observed = moments.observed
        if len(observed) < 2:
            count = "is 1 class" if len(observed) == 1 else f"are {len(observed)} classes"
            raise UndefinedMetric(f"there {count} with samples; expected at least 2")
        centred, variances = moments.centred_means(global_mean), moments.variances[observed]
        self._set(centred, variances, num_threads, progress, place or Host())
        counts = moments.counts[observed]
        self.weights = np.ones(len(counts)) if global_mean == "classes" else counts.astype(float)
        self.observed = observed

    @classmethod
    def of_vectors(
        cls, vectors: _Float, num_threads: int | None, progress: Progress | None
    ) -> Between:
        """Return the same for vectors (K, d) as they stand, without variances."""
        if len(vectors) < 2:
            raise UndefinedMetric(f"there is {len(vectors)} vector; expected at least 2")
        between = cls.__new__(cls)
        between._set(vectors, np.zeros(len(vectors)), num_threads, progress, Host())
        between.observed = np.arange(len(vectors))
        return between

    def _set(
        self,
        centred: _Float,
        variances: _Float,
        num_threads: int | None,
        progress: Progress | None,
        place: Place,
    ) -> None:
        self.scale = power_of_two(centred)
        with np.errstate(over="ignore"):  # variances against which the means coincide
            self.centred = centred * self.scale
            self.variances = (variances * self.scale) * self.scale
        self.num_classes = len(centred)
        self._threads, self._progress = thread_count(num_threads), progress
        self._place = place
        self.square_lengths = row_products(self.centred, self.centred)
        self.lengths = np.sqrt(self.square_lengths)

    def per_trace(self, variance: float) -> float:
        """Return a variance over tr Sigma_B."""
        scaled = (variance * self.scale) * self.scale
        return scaled / (float(self.square_lengths.sum()) / self.num_classes)

    @property
    def trace(self) -> float:
        """Tr Sigma_B, infinite where float64 ends."""
        trace = float(self.square_lengths.sum()) / self.num_classes
        return trace / self.scale / self.scale

    @cached_property
    def _unit_directions(self) -> tuple[_Float, int]:
        spread = math.sqrt(float(self.variances.sum()))
        self._report(0, "directions of class means")
        directions = between_directions(self.centred, self.weights, spread)
        self._report(self.num_classes, "directions of class means")
        return directions

    @property
    def rank(self) -> int:
        """Of Sigma_B."""
        return self._unit_directions[1]

    @property
    def directions(self) -> _Float:
        """D (d, c) with |h D|^2 = h (M^T M)^+ h^T of the centred means M."""
        self.require_distinct()
        with np.errstate(over="ignore"):
            directions: _Float = self._unit_directions[0] * self.scale
        if not np.isfinite(directions).all():
            raise UndefinedMetric(
                "the class means of features differ by so little that squares underflow; scale "
                "the features up"
            )
        return directions

    def _report(self, done: int, stage: str) -> None:
        if self._progress is not None:
            self._progress(done, self.num_classes, stage)

    @cached_property
    def pairs(self) -> PairSums:
        total = self.num_classes * (self.num_classes - 1) // 2
        watch = watch_of(self._progress, total, "class pairs")
        with self._place as place:
            kernel = place.kernels("collapse").pair_geometry
            totals = kernel(place, self.centred, self.variances, self._threads, watch)
        return pair_sums(totals)

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

    def _watch(self) -> Callable[[int], object] | None:
        return watch_of(self._progress, self.num_classes, "class means")

    def nc2(self) -> float:
        self._require_mean_directions()
        k, dim = self.centred.shape
        if k > dim + 1:
            total = row_sum(self.centred, self.lengths)
            gram = moment_matrix(self.centred, self.lengths, self._watch())
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
            gram = moment_matrix(self.centred, None, self._watch())
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
        distance = product_distance(rows * power_of_two(rows), self.centred, self.lengths)
        if math.isnan(distance):
            raise UndefinedMetric("the product of classifier and class means is zero")
        return distance

    def nc3_papyan(self, rows: _Float, unit_means: bool) -> float:
        rows = rows * power_of_two(rows)
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
        pairs = self.num_classes * (self.num_classes - 1) // 2
        watch = watch_of(self._progress, pairs, "class pairs")
        for rows, block in self.cdnv_blocks(power):
            for row, variances in zip(range(rows.start, rows.stop), block, strict=True):
                later = variances[row + 1 :]
                if len(later) == 0:
                    continue
                total += float(later.sum())
                smallest = min(smallest, float(later.min()))
                partner = int(np.argmax(later))
                if later[partner] > largest:
                    largest, pair = float(later[partner]), (row, row + 1 + partner)
            if watch is not None:
                watch(rows.stop * (2 * self.num_classes - 1 - rows.stop) // 2)
        return CDNV(total / pairs, largest, self._classes(*pair), smallest)

    def _classes(self, first: int, second: int) -> tuple[int, int]:
        return int(self.observed[first]), int(self.observed[second])

    def cdnv_blocks(self, power: float) -> Iterator[tuple[slice, _Float]]:
        """Yield (rows, V (b, K)) of the matrix with any power of the distance."""
        for rows in row_blocks(self.num_classes, *self.centred.shape):
            block = self._cdnv_rows(rows)
            if power != 2.0:
                # V of squared distances is s / d^2: s / d^p = V^(p/2) s^(1 - p/2), in the unit of
                # the means as they came.
                block **= power / 2.0
                half_sums = 0.5 * (self.variances[rows, None] + self.variances)
                half_sums[half_sums == 0.0] = 1.0  # V is 0 or infinite there
                half_sums **= 1.0 - power / 2.0
                block *= half_sums
                block *= self.scale ** (power - 2.0)
            yield rows, block

    def _cdnv_rows(self, rows: slice) -> _Float:
        with self._place as place:
            block: _Float = place.kernels("collapse").cdnv_block(
                place, self.centred, self.variances, rows, self._threads
            )
        return block
