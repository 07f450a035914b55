"""Decisions in host memory: products by the BLAS, the rest by the CPU kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.blocks import block_size
from infall._arrays.features import feature_rows, float32_of
from infall._arrays.host import Host
from infall.classes._decisions._bounds import CLASS_ENTRIES, Precision, Side, sides_of

_Float = NDArray[Any]  # float32 or float64, as the products are
_Float64 = NDArray[np.float64]
_Int64 = NDArray[np.int64]

_SAMPLE_ENTRIES = 2**23  # of a block of samples: 32 MiB as float32
_SCORES = 2**21  # of a block of products: 8 MiB as float32
_PRODUCTS = 2**31  # multiply-adds between two looks for Ctrl-C


def decisions(
    _: Host,
    features: Any,
    means: _Float64,
    classifier: NDArray[Any] | None,
    bias: NDArray[Any] | None,
    threads: int,
    progress: Callable[[int], object] | None,
) -> tuple[_Int64, _Int64 | None]:
    samples = feature_rows(features, "features", dim=means.shape[1])
    count, dim = (int(n) for n in samples.shape)
    precision = Precision.of(samples.dtype.name, dim)
    centre, scale, sides = sides_of(means, classifier, bias, precision)
    results = [np.empty(count, dtype=np.int64) for _ in sides]
    step = max(1, min(count, block_size(_SAMPLE_ENTRIES) // dim))
    for first in range(0, count, step):
        row_numbers = np.arange(first, min(first + step, count))
        block = _Samples.block(samples, row_numbers, centre, scale, precision, threads)
        for side, result in zip(sides, results, strict=True):
            result[row_numbers] = _decided(block, side, precision, threads)
        if progress is not None:
            progress(first + len(row_numbers))
    return results[0], results[1] if classifier is not None else None


# Decisions ----------------------------------------------------------------------------------------


class _Samples(NamedTuple):
    """Samples as the products take them: relative to the centre, times the scale."""

    features: NDArray[Any]  # (N, d), all there are
    row_numbers: _Int64  # (n,)
    centred: _Float  # (n, d)
    norms: _Float64  # (n,)
    factors: _Float  # (n,)

    @classmethod
    def block(
        cls,
        features: NDArray[Any],
        row_numbers: _Int64,
        centre: _Float64,
        scale: float,
        precision: Precision,
        threads: int,
    ) -> _Samples:
        centred = np.empty((len(row_numbers), features.shape[1]), dtype=precision.dtype)
        square_norms = np.empty(len(row_numbers))
        first = int(row_numbers[0])
        position = _core.centre_rows(features, first, centre, scale, centred, square_norms, threads)
        if position >= 0:
            row, column = divmod(position, features.shape[1])
            value = float32_of(features[first + row : first + row + 1])[0, column]
            raise ValueError(f"features is not finite: {value} at position {(first + row, column)}")
        norms = np.sqrt(square_norms)
        factor, constant = precision.row_factor()
        factors = (factor * norms + constant).astype(precision.dtype)
        return cls(features, row_numbers, centred, norms, factors)

    def part(self, rows: _Int64) -> _Samples:
        return _Samples._make([self.features, *(array[rows] for array in self[1:])])


class _Block(NamedTuple):
    """Products of some samples with some classes, and what bounds the scores made of them."""

    rows: slice  # of the samples
    products: _Float  # (r, c)
    first_class: int
    bounds: tuple[_Float, _Float, _Float]  # term, norm and slack (c,)


def _products(
    samples: _Samples, side: Side, precision: Precision, threads: int
) -> Iterator[_Block]:
    """Yield the products in blocks, those of the lower classes first."""
    count, dim = samples.centred.shape
    class_step = min(len(side.rows), max(1, block_size(CLASS_ENTRIES) // dim))
    row_step = min(count, max(1, min(block_size(_SCORES), _PRODUCTS // dim) // class_step))
    centred = np.empty((class_step, dim), dtype=precision.dtype)
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
            centred[:width],
            square_norms[:width],
            threads,
        )
        bounds = side.bounds(classes, square_norms[:width], precision)
        for first in range(0, count, row_step):
            rows = slice(first, min(first + row_step, count))
            height = rows.stop - rows.start
            products = memory[: height * width].reshape(height, width)
            with np.errstate(all="ignore"):  # what overflows is decided otherwise
                np.matmul(samples.centred[rows], centred[:width].T, out=products)
            yield _Block(rows, products, first_class, bounds)


def _decided(samples: _Samples, side: Side, precision: Precision, threads: int) -> _Int64:
    """Return the class with the largest score of each sample (n,)."""
    count = len(samples.row_numbers)
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
    constant, per_norm, per_square = precision.shared(side.bias is None)
    least = low - (constant + per_norm * samples.norms + per_square * samples.norms**2)
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
    samples: _Samples, side: Side, least: _Float, precision: Precision, threads: int
) -> _Int64:
    """Return the best of the classes whose upper bound reaches `least` (n,), by float64 sums."""
    scores = np.full(len(samples.row_numbers), -np.inf)
    classes = np.full(len(samples.row_numbers), -1, dtype=np.int64)
    for block in _products(samples, side, precision, threads):
        rows = block.rows
        _core.decide(
            block.products,
            block.first_class,
            samples.factors[rows],
            *block.bounds,
            least[rows],
            samples.row_numbers[rows],
            samples.features,
            side.rows,
            side.scale,
            side.bias,
            scores[rows],
            classes[rows],
            threads,
        )
    return classes
