"""Class moments in host memory, by the compiled kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays.calls import Progress, watch_of
from infall._arrays.checks import MAX_ROWS, one_of
from infall._arrays.features import FeatureBlocks, refuse_nonfinite
from infall._arrays.host import Host
from infall._arrays.threads import thread_count

if TYPE_CHECKING:
    from infall.classes.moments import ClassMoments

_Float = NDArray[np.float64]

_GLOBAL_MEANS = ("classes", "samples")
_HELD_SAMPLES = 256  # deviations that wait until the scatter is worth a matrix product
_BLOCK_ENTRIES = 2**22  # deviations made at a time: 32 MiB
_MERGED_ENTRIES = 2**20  # merged between two looks at Ctrl-C: 8 MiB
_PRODUCT_COLUMNS = 512  # of the scatter, likewise


class ScatterSums(NamedTuple):
    """Products of deviations (d, d) in tiles on and above the diagonal, and deviations that wait.

    The first `num_held` rows of `held` belong to it; those after them are free.
    """

    products: _Float
    held: _Float
    num_held: int


class HostMoments:
    """The state of a `ClassMoments`: what belongs to a class without samples is not read.

    Arrays may be read-only, or those of a file: they are copied before anything is written.
    """

    place = Host()

    def __init__(
        self, num_classes: int, num_features: int, scatter: bool, num_threads: int | None
    ) -> None:
        shape = (num_classes, num_features)
        self.num_threads = num_threads
        self.counts = np.zeros(num_classes, dtype=np.int64)
        self.shifts: NDArray[Any] = np.empty(shape, dtype=np.float32)
        self.sums = np.empty(shape)
        self.squares = np.zeros(num_classes)
        self.scatter: ScatterSums | None = None
        if scatter:
            self.set_scatter(np.zeros((num_features, num_features)))

    @property
    def num_samples(self) -> int:
        return int(self.counts.sum())

    @property
    def is_empty(self) -> bool:
        """Whether the next samples may come from anywhere."""
        return not self.counts.any()

    def on_host(self, num_threads: int | None) -> HostMoments:
        """Return this state."""
        return self

    def holding(self, state: HostMoments) -> HostMoments:
        """Return a state of host memory where this one is."""
        return state

    @property
    def observed(self) -> NDArray[np.int64]:
        return np.flatnonzero(self.counts)

    @property
    def nbytes(self) -> int:
        arrays = [*self.arrays(), *(() if self.scatter is None else self.scatter[:2])]
        return sum(array.nbytes for array in arrays)

    def arrays(self) -> tuple[NDArray[np.int64], NDArray[Any], _Float, _Float]:
        """Return counts (K,), shifts (K, d), sums (K, d) and squares (K,)."""
        return self.counts, self.shifts, self.sums, self.squares

    def set_scatter(self, products: _Float) -> None:
        """Start from the products of all deviations (d, d)."""
        self.scatter = ScatterSums(products, np.empty((_HELD_SAMPLES, len(products))), 0)

    def own_arrays(self, dtype: np.dtype[Any]) -> None:
        """Make the arrays such that samples of this dtype can be added."""
        for name in ("counts", "shifts", "sums", "squares"):
            array = getattr(self, name)
            if not (array.flags.owndata and array.flags.writeable):
                setattr(self, name, np.array(array))
        if dtype == np.float64 and self.shifts.dtype != np.float64:
            known = self.counts.any()
            self.shifts = self.shifts.astype(np.float64) if known else np.empty(self.sums.shape)

    def copy(self) -> HostMoments:
        """Return a state that shares no memory with this one."""
        copied = HostMoments(0, self.sums.shape[1], False, self.num_threads)
        copied.counts, copied.shifts = self.counts.copy(), self.shifts.copy()
        copied.sums, copied.squares = self.sums.copy(), self.squares.copy()
        if self.scatter is not None:
            copied.scatter = self.scatter._replace(
                products=self.scatter.products.copy(), held=self.scatter.held.copy()
            )
        return copied

    def means(self, centre: _Float | None = None) -> _Float:
        """Return class means less `centre` (d,), which is subtracted from the shifts; (K, d)."""
        if centre is None:
            centre = np.zeros(self.sums.shape[1])
        state = self.arrays()[:3]
        return _core.class_means(*state, centre, True, False, self.threads())[0]

    def offsets(self) -> _Float:
        """Return class means less the shift of their class, (K, d)."""
        return self.sums / np.maximum(self.counts, 1)[:, None]

    def means_less(self, other: HostMoments, classes: NDArray[np.int64]) -> _Float:
        """Return the means of some classes less those of another state, (k, d)."""
        shifts = self.shifts[classes].astype(np.float64) - other.shifts[classes]
        sums = self.sums[classes] / self.counts[classes, None]
        less: _Float = shifts + (sums - other.sums[classes] / other.counts[classes, None])
        return less

    def variances(self) -> _Float:
        centre = np.zeros(self.sums.shape[1])
        state = self.arrays()[:3]
        offsets = _core.class_means(*state, centre, False, True, self.threads())[1]
        with np.errstate(invalid="ignore"):
            mean_squares = self.squares / self.counts
        # The square of the offset is part of the sum of squares: the difference is not negative
        # but by rounding.
        return np.maximum(mean_squares - offsets, 0.0)

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

    def global_mean(self, kind: str) -> _Float:
        centre, means = self.about_a_shift()
        return centre + self.mean_of(means, kind)

    def centred_means(self, kind: str) -> _Float:
        _, means = self.about_a_shift()
        means -= self.mean_of(means, kind)
        return means

    def within_scatter(self) -> _Float:
        if self.num_samples == 0:
            raise ValueError("there are no samples yet; call update first")
        products = self.products()
        offsets = np.zeros_like(products)
        for block in self._blocks(self.observed, _BLOCK_ENTRIES):
            scaled = self.sums[block] / np.sqrt(self.counts[block])[:, None]
            _core.accumulate_scatter(scaled, offsets, self.threads())
        return symmetric(products - offsets) / self.num_samples

    def between_scatter(self) -> _Float:
        centred = self.centred_means("classes")
        scatter = np.zeros((centred.shape[1], centred.shape[1]))
        _core.accumulate_scatter(centred, scatter, self.threads())
        return symmetric(scatter) / len(centred)

    def products(self) -> _Float:
        """Return the products of all deviations (d, d), right on and above the diagonal."""
        assert self.scatter is not None
        products, held, num_held = self.scatter
        if num_held:
            # Sums run over the samples in order wherever they are cut: the bits stay the same.
            products = products.copy()
            _core.accumulate_scatter(held[:num_held], products, self.threads())
            self.scatter = ScatterSums(products, held, 0)
        return products

    def merged(self, other: HostMoments) -> HostMoments:
        """Return the state of the samples of both, which share the number of classes and features.

        Raises OverflowError for 2**63 samples, ValueError if the sums do not fit into float64.
        """
        if self.num_samples + other.num_samples >= MAX_ROWS:
            raise OverflowError(
                f"other has {other.num_samples} samples, these {self.num_samples}; samples are "
                "counted below 2**63"
            )
        merged = HostMoments(len(self.counts), self.sums.shape[1], False, self.num_threads)
        merged.own_arrays(np.result_type(self.shifts, other.shifts))
        threads = self.threads()
        label = _core.merge_states(self.arrays(), other.arrays(), merged.arrays(), threads)
        # Moments of a device may be NaN before, and stay so.
        if label >= 0:
            raise ValueError(
                f"other overflows: the squares of class {label} do not fit into float64"
            )
        if self.scatter is not None:
            merged.set_scatter(self._sum_of_products(other, self._moved_products(other)))
        return merged

    def _moved_products(self, other: HostMoments) -> _Float:
        """Return what the products of the other gain by being taken from the shifts of these."""
        products = np.zeros((self.sums.shape[1],) * 2)
        shared = np.flatnonzero((self.counts > 0) & (other.counts > 0))
        for block in self._blocks(shared, _MERGED_ENTRIES):
            moved = other.shifts[block].astype(np.float64) - self.shifts[block]
            scaled = other.sums[block] + other.counts[block][:, None] * moved / 2.0
            for columns in _tiles(len(products)):
                products[columns] += moved[:, columns].T @ scaled
        return products

    def _sum_of_products(self, other: HostMoments, moved: _Float) -> _Float:
        mine, theirs = self.products(), other.products()
        total = np.empty_like(moved)
        for columns in _tiles(len(moved)):
            total[columns] = mine[columns] + theirs[columns]
            total[columns] += moved[columns] + moved.T[columns]
        return total

    def threads(self) -> int:
        return thread_count(self.num_threads)

    def _blocks(self, classes: NDArray[np.int64], entries: int) -> list[NDArray[np.int64]]:
        step = max(1, entries // self.sums.shape[1])
        return [classes[start : start + step] for start in range(0, len(classes), step)]


def feature_rows(_: Host, features: Any, dim: int) -> FeatureBlocks:
    """Return features (N, d), checked but for their values."""
    return FeatureBlocks(features, "features", dim=dim)


def class_numbers(
    _: Host, labels: Any, num_samples: int, moments: ClassMoments
) -> NDArray[np.int64]:
    """Return labels (N,) as class numbers."""
    return moments.label_numbers(labels, num_samples)


def update(
    _: Host,
    state: HostMoments,
    features: FeatureBlocks,
    class_numbers: NDArray[np.int64],
    progress: Progress | None,
    replacement: object,
) -> Callable[[], None]:
    """Return what adds features (N, d) of class numbers (N,) to a state, which waits for it."""
    return HostUpdate(state, features, class_numbers, progress).publish


def within_projection(
    _: Host,
    features: FeatureBlocks,
    class_numbers: NDArray[np.int64],
    moments: ClassMoments,
    directions: Any,
    threads: int,
    progress: Progress | None,
) -> _Float:
    """Return per class the sum of || directions^T (h - mu_c) ||^2, float64 (K,)."""
    directions = np.ascontiguousarray(directions, dtype=np.float64)
    with moments._state_at(Host()) as state:
        shifts, offsets = state.shifts.copy(), state.offsets()
        missing = state.counts[class_numbers] == 0
    if missing.any():
        i = int(np.argmax(missing))
        raise ValueError(f"labels is {class_numbers[i]} at position {i}, a class without a mean")
    offsets = _core.project_rows(offsets, directions, threads)
    square_norms = np.empty(len(features))
    for samples, rows in features:
        watch = watch_of(progress, len(features), "samples", done_before=samples.start)
        square_norms[samples] = _core.projected_square_norms(
            rows, class_numbers[samples], shifts, offsets, directions, threads, watch
        )
        if not np.isfinite(square_norms[samples]).all():
            refuse_nonfinite(rows, "features", threads, first_row=samples.start)
    sums: _Float = np.bincount(class_numbers, weights=square_norms, minlength=len(offsets)).astype(
        float
    )
    return sums


class HostUpdate:
    """Samples that are about to be added to a state, which stays as it is until `publish`.

    Raises ValueError for NaN and infinity, with their position, and for squares that overflow.
    """

    def __init__(
        self,
        state: HostMoments,
        features: FeatureBlocks,
        labels: NDArray[np.int64],
        progress: Progress | None,
    ) -> None:
        state.own_arrays(features.dtype)
        self._state, self._scatter = state, state.scatter
        self._sums = _core.MomentsUpdate(*state.arrays())
        self._threads = threads = state.threads()
        for samples, rows in features:
            watch = watch_of(progress, len(features), "samples", done_before=samples.start)
            self._sums.add(rows, labels[samples], threads, watch)
            label = self._sums.first_nonfinite_class()
            if label >= 0:
                refuse_nonfinite(rows, "features", threads, first_row=samples.start)
                raise ValueError(
                    f"features overflows: the squares of class {label} do not fit into float64"
                )
            if self._scatter is not None:
                self._scatter = self._scatter_with(self._scatter, rows, labels[samples])

    def publish(self) -> None:
        """Make the state that of all samples: of an exception, Ctrl-C included, nothing is left.

        Signals are answered where a call returns, and so never between the scatter and the sums.
        """
        before = self._state.scatter
        try:
            self._state.scatter = self._scatter
            self._sums.publish(self._threads)
        except BaseException:
            self._state.scatter = before
            self._sums.withdraw(self._threads)
            raise

    def _scatter_with(
        self, scatter: ScatterSums, rows: NDArray[Any], labels: NDArray[np.int64]
    ) -> ScatterSums:
        products, held, num_held = scatter
        shifts, threads, count = self._state.shifts, self._threads, len(rows)
        if num_held + count < _HELD_SAMPLES:
            _core.deviations(rows, labels, shifts, held[num_held : num_held + count], threads)
            return scatter._replace(num_held=num_held + count)
        before = products
        if self._state.scatter is not None and products is self._state.scatter.products:
            products = np.zeros_like(products)
        added = count - (num_held + count) % _HELD_SAMPLES
        _core.accumulate_deviations(
            held[:num_held], rows[:added], labels[:added], shifts, before, products, threads
        )
        # Those that waited before belong to the state as it is.
        held = np.empty_like(held)
        _core.deviations(rows[added:], labels[added:], shifts, held[: count - added], threads)
        return ScatterSums(products, held, count - added)


def _tiles(dim: int) -> Iterator[slice]:
    for first in range(0, dim, _PRODUCT_COLUMNS):
        yield slice(first, min(first + _PRODUCT_COLUMNS, dim))


def symmetric(upper: _Float) -> _Float:
    """Return a matrix whose upper triangle is given, whole."""
    return np.triu(upper) + np.triu(upper, 1).T
