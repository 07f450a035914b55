"""Class moments in host memory, by the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays import one_of
from infall._features import refuse_nonfinite
from infall._threads import thread_count

_Float = NDArray[np.float64]

_GLOBAL_MEANS = ("classes", "samples")
_HELD_SAMPLES = 256  # deviations that wait until the scatter is worth a matrix product
_BLOCK_ENTRIES = 2**22  # deviations made at a time: 32 MiB


class HostMoments:
    """The state of a `ClassMoments`: what belongs to a class without samples is not read."""

    def __init__(
        self, num_classes: int, num_features: int, scatter: bool, num_threads: int | None
    ) -> None:
        shape = (num_classes, num_features)
        self.num_threads = num_threads
        self.counts = np.zeros(num_classes, dtype=np.int64)
        self.shifts: NDArray[Any] = np.empty(shape, dtype=np.float32)
        self.sums = np.empty(shape)
        self.squares = np.zeros(num_classes)
        # Tiles on and above the diagonal.
        self.scatter = np.zeros((num_features, num_features)) if scatter else None
        self._held = np.empty((_HELD_SAMPLES, num_features)) if scatter else np.empty((0, 0))
        self._num_held = 0

    @property
    def num_samples(self) -> int:
        return int(self.counts.sum())

    @property
    def observed(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.counts)

    def add(
        self,
        rows: NDArray[Any],
        numbers: NDArray[np.int64],
        watch: Callable[[int], object] | None = None,
    ) -> None:
        """Add samples; the state stays as it was if anything is raised.

        Raises
        ------
        ValueError
            For NaN and infinity, with their position, and for squares that overflow.
        """
        self._widen_shifts(rows.dtype)
        threads = self._threads()
        with_these = None if self.scatter is None else self._scatter_with(rows, numbers)
        label = _core.accumulate_moments(rows, numbers, *self._state(), threads, watch)
        if label >= 0:
            refuse_nonfinite(rows, "features", threads)
            raise ValueError(
                f"features overflows: the squares of class {label} do not fit into float64"
            )
        if with_these is not None:
            self.scatter, self._num_held, new = with_these
            self._held[self._num_held - len(new) : self._num_held] = new

    def means(self, centre: _Float | None = None) -> _Float:
        """Return class means less `centre` (d,), which is subtracted from the shifts; (K, d)."""
        if centre is None:
            centre = np.zeros(self.sums.shape[1])
        return _core.class_means(*self._state(), centre, True, False, self._threads())[0]

    def variances(self) -> _Float:
        centre = np.zeros(self.sums.shape[1])
        offsets = _core.class_means(*self._state(), centre, False, True, self._threads())[1]
        with np.errstate(invalid="ignore"):
            mean_squares = self.squares / self.counts
        # The square of the offset is part of the sum of squares: the difference is not negative
        # but by rounding.
        variances: _Float = np.maximum(mean_squares - offsets, 0.0)
        return variances

    def about_a_shift(self) -> tuple[_Float, _Float]:
        """Return a point (d,) near the means, and the observed means less this point."""
        seen = self.observed
        if len(seen) == 0:
            raise ValueError("there are no samples yet; call update first")
        centre = self.shifts[seen[0]].astype(np.float64)
        means = self.means(centre)
        return centre, means if len(seen) == len(means) else means[seen]

    def mean_of(self, means: _Float, kind: str) -> _Float:
        """Return the mean of observed class means, by class or weighted by samples."""
        one_of(kind, "global_mean", _GLOBAL_MEANS)
        if kind == "classes":
            mean: _Float = means.mean(axis=0)
            return mean
        weights = self.counts[self.observed] / self.num_samples
        return weights @ means

    def centred_means(self, kind: str) -> _Float:
        _, means = self.about_a_shift()
        means -= self.mean_of(means, kind)
        return means

    def within_scatter(self) -> _Float:
        if self.num_samples == 0:
            raise ValueError("there are no samples yet; call update first")
        self.flush()
        assert self.scatter is not None
        offsets = np.zeros_like(self.scatter)
        for block in self._blocks(self.observed):
            scaled = self.sums[block] / np.sqrt(self.counts[block])[:, None]
            _core.accumulate_scatter(scaled, offsets, self._threads())
        return symmetric(self.scatter - offsets) / self.num_samples

    def between_scatter(self) -> _Float:
        centred = self.centred_means("classes")
        scatter = np.zeros((centred.shape[1], centred.shape[1]))
        _core.accumulate_scatter(centred, scatter, self._threads())
        return symmetric(scatter) / len(centred)

    def merge(self, other: HostMoments) -> None:
        """Add the samples of another state of the same shape."""
        self.flush()
        other.flush()
        self._widen_shifts(other.shifts.dtype)
        new = np.flatnonzero((self.counts == 0) & (other.counts > 0))
        both = np.flatnonzero((self.counts > 0) & (other.counts > 0))
        sums, squares, scatter = self.sums.copy(), self.squares.copy(), None
        self.shifts[new] = other.shifts[new]  # not read until the class is counted
        sums[new], squares[new] = other.sums[new], other.squares[new]
        if self.scatter is not None and other.scatter is not None:
            scatter = self.scatter + other.scatter
        for block in self._blocks(both):
            # The other's deviations, taken from the shifts of this state.
            moved = other.shifts[block].astype(np.float64) - self.shifts[block]
            counts, theirs = other.counts[block][:, None], other.sums[block]
            sums[block] += theirs + counts * moved
            squares[block] += other.squares[block] + (moved * (2.0 * theirs + counts * moved)).sum(
                axis=1
            )
            if scatter is not None:
                product = moved.T @ (theirs + counts * moved / 2.0)
                scatter += product + product.T
        self.counts, self.sums, self.squares, self.scatter = (
            self.counts + other.counts,
            sums,
            squares,
            scatter,
        )

    def flush(self) -> None:
        """Add the deviations that wait to the scatter."""
        # Sums run over the samples in order wherever they are cut: the bits stay the same.
        if self.scatter is not None and self._num_held:
            scatter = self.scatter.copy()
            _core.accumulate_scatter(self._held[: self._num_held], scatter, self._threads())
            self.scatter, self._num_held = scatter, 0

    def _state(self) -> tuple[NDArray[np.int64], NDArray[Any], _Float, _Float]:
        return self.counts, self.shifts, self.sums, self.squares

    def _threads(self) -> int:
        return thread_count(self.num_threads)

    def _blocks(self, classes: NDArray[np.int64]) -> list[NDArray[np.int64]]:
        step = max(1, _BLOCK_ENTRIES // self.sums.shape[1])
        return [classes[start : start + step] for start in range(0, len(classes), step)]

    def _widen_shifts(self, dtype: np.dtype[Any]) -> None:
        # Exact, so that it need not be undone if the update fails.
        if dtype == np.float64 and self.shifts.dtype != np.float64:
            known = self.counts.any()
            self.shifts = self.shifts.astype(np.float64) if known else np.empty(self.sums.shape)

    def _scatter_with(
        self, rows: NDArray[Any], numbers: NDArray[np.int64]
    ) -> tuple[_Float, int, _Float]:
        # The scatter with these samples, how many deviations then wait, and the new ones of them.
        assert self.scatter is not None
        threads, held, count = self._threads(), self._num_held, len(rows)
        dim = self.sums.shape[1]
        _core.start_classes(rows, numbers, *self._state())
        if held + count < _HELD_SAMPLES:
            waiting = np.empty((count, dim))
            _core.deviations(rows, numbers, self.shifts, waiting, threads)
            return self.scatter, held + count, waiting
        scatter = self.scatter.copy()
        step = max(1, _BLOCK_ENTRIES // (dim * _HELD_SAMPLES)) * _HELD_SAMPLES
        waiting = self._held[:held]
        for start in range(0, count, step):
            some = slice(start, min(start + step, count))
            x = np.empty((len(waiting) + some.stop - start, dim))
            x[: len(waiting)] = waiting
            _core.deviations(rows[some], numbers[some], self.shifts, x[len(waiting) :], threads)
            whole = len(x) // _HELD_SAMPLES * _HELD_SAMPLES
            _core.accumulate_scatter(x[:whole], scatter, threads)
            waiting = x[whole:]
        return scatter, len(waiting), waiting


def symmetric(upper: _Float) -> _Float:
    """Return a matrix whose upper triangle is given, whole."""
    return np.triu(upper) + np.triu(upper, 1).T
