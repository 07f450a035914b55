"""The nearest class mean of every sample, and the class of its largest output.

Both are the largest of K scores per sample: products of samples and classes, made by the BLAS in
blocks, plus a term per class. Products in binary32 are estimates, right to a bound that holds for
any order of summation. Where more than one class lies within it, float64 sums in a fixed order
decide, so that the BLAS has no say in the result.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays import thread_count, to_numpy

_Float = NDArray[Any]  # float32 or float64, as the products are
_Float64 = NDArray[np.float64]
_Int64 = NDArray[np.int64]

_SAMPLE_ENTRIES = 2**23  # of a block of samples: 32 MiB as float32
_CLASS_ENTRIES = 2**20  # of a block of classes
_SCORES = 2**21  # of a block of products: 8 MiB as float32
_PRODUCTS = 2**31  # multiply-adds between two looks for Ctrl-C
# Binary32 loses its bound where the length of a row times its unit is no longer small.
_LONGEST_FLOAT32 = 2**20


def decisions(
    features: Any,
    means: _Float64,
    classifier: NDArray[Any] | None = None,
    bias: NDArray[Any] | None = None,
    *,
    num_threads: int | None = None,
    progress: Callable[[int], object] | None = None,
) -> tuple[_Int64, _Int64 | None]:
    """Return the class of the nearest mean of each sample, and that of its largest output.

    Parameters
    ----------
    features : array (N, d)
        Of float16, bfloat16 (also as uint16), float32 or float64; its rows in one piece each.
    means : float64 array (K, d)
        C-contiguous and finite, as the next two.
    classifier : array (K', d), optional
        Of any of the same dtypes.
    bias : array (K',), optional
        Zeros, if there is none.
    num_threads : int, optional
        For everything but the products, whose threads are the BLAS's own.
    progress : callable, optional
        Called with the number of samples done.

    Returns
    -------
    nearest : int64 array (N,)
        Position of the mean at the least distance.
    predicted : int64 array (N,) or None
        Position of the largest output h . a + b; None without a classifier.

    Raises
    ------
    ValueError
        For NaN and infinity among the features, with their first position.

    Notes
    -----
    The lowest class wins ties. Distances and outputs that decide are float64 sums over the columns
    in eight lanes, so that the result depends on neither BLAS, threads nor instruction set.
    """
    threads = thread_count(num_threads)
    samples = _feature_rows(features)
    count, dim = (int(n) for n in samples.shape)
    wide = samples.dtype == np.float64 or dim > _LONGEST_FLOAT32
    precision = _Precision.of(np.float64 if wide else np.float32, dim)
    centre = means.mean(axis=0)
    scale = _unit_scale(np.abs(means[rows] - centre).max() for rows in _blocks(means))
    sides = [_Side.distances(means, centre, scale)]
    if classifier is not None:
        sides.append(_Side.outputs(classifier, bias, centre, scale, precision))
    found = [np.empty(count, dtype=np.int64) for _ in sides]
    step = max(1, min(count, _SAMPLE_ENTRIES // dim))
    for first in range(0, count, step):
        numbers = np.arange(first, min(first + step, count))
        block = _Samples.centred(samples, numbers, centre, scale, precision, threads)
        for side, result in zip(sides, found, strict=True):
            result[numbers] = _decided(block, side, precision, threads)
        if progress is not None:
            progress(first + len(numbers))
    return found[0], found[1] if classifier is not None else None


# Bounds -------------------------------------------------------------------------------------------


class _Precision(NamedTuple):
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
    def of(cls, dtype: type[np.floating[Any]], dim: int) -> _Precision:
        info = np.finfo(dtype)
        unit = float(info.eps) / 2.0
        longest = 2.0**60 if dtype is np.float32 else 2.0**480
        return cls(
            dtype, dim, unit, dim * unit / (1.0 - dim * unit), float(info.tiny), longest,
            (dim + 8) * 2.0**-53,
        )  # fmt: skip

    def upward(self, values: _Float64) -> _Float:
        """Round bounds so that they still hold after the arithmetic they take part in."""
        return (values * (1.0 + 64.0 * self.unit) + self.tiny).astype(self.dtype)

    def row_factors(self, norms: _Float64) -> _Float:
        """Bound per unit of a class's norm: entries and result are rounded, sums are not exact."""
        error = norms * (self.gamma + 8.0 * self.unit + self.exact)
        return self.upward(error + math.sqrt(self.dim) * self.tiny)

    def shared(self, norms: _Float64, distances: bool) -> _Float64:
        """Bound that all classes of a sample have in common, for both sides of a comparison."""
        underflow = self.tiny * (math.sqrt(self.dim) * norms + 2.0 * self.dim)
        return 2.0 * (underflow + self.exact * norms**2 if distances else underflow)


class _Side(NamedTuple):
    """Classes whose scores are compared: product with the sample plus a term."""

    rows: NDArray[Any]  # (K, d)
    centre: _Float64 | None
    scale: float
    offsets: _Float64 | None  # (K,) of outputs, in the unit of the products
    slack: _Float64 | None  # (K,) of outputs
    bias: _Float64 | None  # (K,) of outputs, as it was given
    bounded: bool  # whether products and terms stay within the range of the precision

    @classmethod
    def distances(cls, means: _Float64, centre: _Float64, scale: float) -> _Side:
        """-|h - m|^2 / 2 without |h|^2 / 2, for samples and means relative to the centre."""
        return cls(means, centre, scale, None, None, None, True)

    @classmethod
    def outputs(
        cls,
        classifier: NDArray[Any],
        bias: NDArray[Any] | None,
        centre: _Float64,
        scale: float,
        precision: _Precision,
    ) -> _Side:
        """Score h . a + b as (h - g) . a + (g . a + b), g the centre."""
        biases = np.zeros(len(classifier)) if bias is None else np.asarray(bias, dtype=np.float64)
        own = _unit_scale(np.abs(classifier[rows]).max() for rows in _blocks(classifier))
        shifts, norms = np.empty(len(classifier)), np.empty(len(classifier))
        for rows in _blocks(classifier):
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
        self, classes: slice, square_norms: _Float64, precision: _Precision
    ) -> tuple[_Float, _Float, _Float]:
        """Term, norm and slack of a block of classes, each (b,)."""
        norms = np.sqrt(square_norms)
        if self.offsets is None or self.slack is None:
            terms = -0.5 * square_norms
            slack = square_norms * (4.0 * precision.unit + precision.exact)
        else:
            terms, slack = self.offsets[classes], self.slack[classes]
        return terms.astype(precision.dtype), precision.upward(norms), precision.upward(slack)


def _unit_scale(largest_magnitudes: Iterator[Any]) -> float:
    """Return the power of two that brings the largest of the numbers to [1/2, 1)."""
    largest = float(max(largest_magnitudes))
    return math.ldexp(1.0, -max(-1022, min(math.frexp(largest)[1], 1022))) if largest else 1.0


def _blocks(rows: NDArray[Any]) -> Iterator[slice]:
    step = max(1, _CLASS_ENTRIES // rows.shape[1])
    return (slice(first, first + step) for first in range(0, len(rows), step))


# Decisions ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Samples:
    """Samples as the products take them: relative to the centre, times the scale."""

    features: NDArray[Any]  # (N, d), all there are
    numbers: _Int64  # (n,)
    values: _Float  # (n, d)
    norms: _Float64  # (n,)
    factors: _Float  # (n,)

    @classmethod
    def centred(
        cls,
        features: NDArray[Any],
        numbers: _Int64,
        centre: _Float64,
        scale: float,
        precision: _Precision,
        threads: int,
    ) -> _Samples:
        values = np.empty((len(numbers), features.shape[1]), dtype=precision.dtype)
        square_norms = np.empty(len(numbers))
        first = int(numbers[0])
        position = _core.centre_rows(features, first, centre, scale, values, square_norms, threads)
        if position >= 0:
            row, column = divmod(position, features.shape[1])
            value = _as_numbers(features[first + row, column])
            raise ValueError(f"features is not finite: {value} at position {(first + row, column)}")
        norms = np.sqrt(square_norms)
        return cls(features, numbers, values, norms, precision.row_factors(norms))

    def part(self, rows: _Int64) -> _Samples:
        return _Samples(
            self.features,
            self.numbers[rows],
            self.values[rows],
            self.norms[rows],
            self.factors[rows],
        )


class _Block(NamedTuple):
    """Products of some samples with some classes, and what bounds the scores made of them."""

    rows: slice  # of the samples
    products: _Float  # (r, c)
    first_class: int
    bounds: tuple[_Float, _Float, _Float]  # term, norm and slack (c,)


def _products(
    samples: _Samples, side: _Side, precision: _Precision, threads: int
) -> Iterator[_Block]:
    """Yield the products in blocks, those of the lower classes first."""
    count, dim = samples.values.shape
    class_step = min(len(side.rows), max(1, _CLASS_ENTRIES // dim))
    row_step = min(count, max(1, min(_SCORES, _PRODUCTS // dim) // class_step))
    values = np.empty((class_step, dim), dtype=precision.dtype)
    square_norms = np.empty(class_step)
    memory = np.empty(row_step * class_step, dtype=precision.dtype)
    for first_class in range(0, len(side.rows), class_step):
        classes = slice(first_class, min(first_class + class_step, len(side.rows)))
        width = classes.stop - classes.start
        _core.centre_rows(
            side.rows,
            first_class,
            side.centre,
            side.scale,
            values[:width],
            square_norms[:width],
            threads,
        )
        bounds = side.bounds(classes, square_norms[:width], precision)
        for first in range(0, count, row_step):
            rows = slice(first, min(first + row_step, count))
            height = rows.stop - rows.start
            products = memory[: height * width].reshape(height, width)
            with np.errstate(all="ignore"):  # what overflows is decided otherwise
                np.matmul(samples.values[rows], values[:width].T, out=products)
            yield _Block(rows, products, first_class, bounds)


def _decided(samples: _Samples, side: _Side, precision: _Precision, threads: int) -> _Int64:
    """Return the class with the largest score of each sample (n,)."""
    count = len(samples.numbers)
    low, high, second = (np.full(count, -np.inf, dtype=precision.dtype) for _ in range(3))
    candidate = np.zeros(count, dtype=np.int64)
    for block in _products(samples, side, precision, threads):
        rows = block.rows
        _core.reduce_scores(
            block.products,
            block.first_class,
            samples.factors[rows],
            *block.bounds,
            low[rows],
            high[rows],
            second[rows],
            candidate[rows],
            threads,
        )
    least = low - precision.shared(samples.norms, side.bias is None)
    least[~(samples.norms < precision.longest)] = -np.inf
    if not side.bounded:
        least[:] = -np.inf
    reachable = np.nextafter(least.astype(precision.dtype), precision.dtype(-np.inf))
    undecided = np.flatnonzero(~(second < reachable))
    if len(undecided) > 0:
        candidate[undecided] = _decided_exactly(
            samples.part(undecided), side, reachable[undecided], precision, threads
        )
    return candidate


def _decided_exactly(
    samples: _Samples, side: _Side, least: _Float, precision: _Precision, threads: int
) -> _Int64:
    """Return the best of the classes whose upper bound reaches `least` (n,), by float64 sums."""
    scores = np.full(len(samples.numbers), -np.inf)
    classes = np.full(len(samples.numbers), -1, dtype=np.int64)
    for block in _products(samples, side, precision, threads):
        rows = block.rows
        _core.decide(
            block.products,
            block.first_class,
            samples.factors[rows],
            *block.bounds,
            least[rows],
            samples.numbers[rows],
            samples.features,
            side.rows,
            side.scale,
            side.bias,
            scores[rows],
            classes[rows],
            threads,
        )
    return classes


# Features -----------------------------------------------------------------------------------------


def _feature_rows(features: Any) -> NDArray[Any]:
    """Return (N, d) features as the kernels read them: bfloat16 as uint16."""
    torch = sys.modules.get("torch")
    if (
        torch is not None
        and isinstance(features, torch.Tensor)
        and features.dtype is torch.bfloat16
    ):
        bits: NDArray[Any] = features.detach().view(torch.int16).numpy().view(np.uint16)
        return bits
    if isinstance(features, np.ndarray) and features.dtype.name == "bfloat16":
        return features.view(np.uint16)
    return to_numpy(features, "features")


def _as_numbers(values: Any) -> Any:
    if values.dtype == np.uint16:
        return (values.astype(np.uint32) << np.uint32(16)).view(np.float32)
    return values
