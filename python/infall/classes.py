"""Class moments: counts, means, variances and scatter of labelled features, in one pass.

Each class keeps a shift (its first sample) and float64 sums of deviations from it and of their
squares. Deviations of float32 samples that lie close together are exact, so that moments hold
their digits however far the classes have collapsed and whatever offset they share, where the
one-pass form E[h h^T] - mu mu^T and float32 sums lose all of them.
"""

from __future__ import annotations

import math
import os
from collections.abc import Hashable, Sequence
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from infall import _core, _saved
from infall._arrays import Progress, integer, one_of, thread_count, to_numpy, watch_of
from infall._features import feature_rows, refuse_nonfinite

GlobalMean = Literal["classes", "samples"]

_FORMAT = "infall.ClassMoments"
_FORMAT_VERSION = 1
_GLOBAL_MEANS = ("classes", "samples")
_MAX_ENTRIES = 2**48
_HELD_SAMPLES = 256  # deviations that wait until the scatter is worth a matrix product
_SCATTER_ENTRIES = 2**22  # deviations made at a time: 32 MiB


class ClassMoments:
    """Counts, means, variances and, if wanted, the within scatter of features by class.

    Feed batches with `update`; join the moments of disjoint sets of samples with `merge`.

    Parameters
    ----------
    num_classes : int
        Classes K; samples carry labels 0 <= y < K, or names in `classes`.
    num_features : int
        Features d of a sample.
    scatter : bool
        Keep the pooled within-class scatter as well: d x d numbers more, N d^2 operations more.
    classes : sequence of K hashables, optional
        Names of the classes, in order, where labels are not the numbers from 0 on.
    num_threads : int, optional
        Threads; all processors by default. Does not change the result.

    Raises
    ------
    TypeError, ValueError
        For counts that are not positive integers, and names that are not K different hashables.

    Notes
    -----
    All moments are bit for bit the same for any number of threads and any instruction set; counts,
    means and scatter also for any cut of the same samples into batches. Variances change with the
    batches by rounding only (1e-15), and so does everything with `merge` and the order of samples.
    Memory: K d (8 + 4) bytes, 16 once float64 features were seen, and for an update as much again
    for the classes it touches.

    Source: the shifted one-pass moments of Chan, Golub and LeVeque (1983), with one shift per
    class.

    Examples
    --------
    >>> import numpy as np
    >>> import infall
    >>> moments = infall.ClassMoments(2, 3)
    >>> moments.update(np.eye(3), [0, 1, 1])
    >>> moments.counts
    array([1, 2])
    >>> moments.means[1]
    array([0. , 0.5, 0.5])
    >>> moments.variances
    array([0. , 0.5])
    """

    def __init__(
        self,
        num_classes: int,
        num_features: int,
        *,
        scatter: bool = False,
        classes: Sequence[Hashable] | None = None,
        num_threads: int | None = None,
    ) -> None:
        self.num_classes = integer(num_classes, "num_classes", 1, 2**40)
        self.num_features = integer(num_features, "num_features", 1, 2**32)
        if self.num_classes * self.num_features >= _MAX_ENTRIES:
            raise ValueError(
                f"num_classes is {num_classes}; {num_classes} means of {num_features} do not fit"
            )
        if not isinstance(scatter, (bool, np.bool_)):
            raise TypeError(f"scatter is {scatter!r}; expected True or False")
        self.scatter = bool(scatter)
        self.num_threads = num_threads
        thread_count(num_threads)
        self.classes = None if classes is None else _class_names(classes, self.num_classes)
        self._numbers = None if self.classes is None else {c: i for i, c in enumerate(self.classes)}
        shape = (self.num_classes, self.num_features)
        self._counts = np.zeros(self.num_classes, dtype=np.int64)
        # What belongs to a class without samples is not read.
        self._shifts: NDArray[Any] = np.empty(shape, dtype=np.float32)
        self._sums = np.empty(shape)
        self._squares = np.zeros(self.num_classes)
        size = self.num_features if self.scatter else 0
        self._scatter = np.zeros((size, size))  # tiles on and above the diagonal
        self._held = np.empty((_HELD_SAMPLES if self.scatter else 0, size))
        self._num_held = 0

    @property
    def counts(self) -> NDArray[np.int64]:
        """Samples of each class, int64 (K,)."""
        return self._counts.copy()

    @property
    def num_samples(self) -> int:
        """Samples of all classes."""
        return int(self._counts.sum())

    @property
    def observed(self) -> NDArray[np.int64]:
        """Numbers of the classes that have samples, int64 (K_observed,), ascending."""
        return np.flatnonzero(self._counts)

    @property
    def means(self) -> NDArray[np.float64]:
        """Class means mu_c, float64 (K, d); NaN for a class without samples."""
        return self._class_means(np.zeros(self.num_features))

    @property
    def variances(self) -> NDArray[np.float64]:
        """Mean squared distance of its samples to a class mean, float64 (K,); NaN without samples.

        This is the trace of the class covariance: the sum over features, with 1/n_c.
        """
        _, offsets = _core.class_means(
            *self._state(), np.zeros(self.num_features), False, True, self._threads()
        )
        # The square of the offset is part of the sum of squares: the difference is not negative
        # but by rounding.
        with np.errstate(invalid="ignore"):
            mean_squares = self._squares / self._counts
        variances: NDArray[np.float64] = np.maximum(mean_squares - offsets, 0.0)
        return variances

    @property
    def within_scatter(self) -> NDArray[np.float64]:
        """Within-class covariance Sigma_W = (1/N) sum (h - mu_c)(h - mu_c)^T, float64 (d, d).

        Raises
        ------
        ValueError
            Without `scatter=True`, or without samples.
        """
        if not self.scatter:
            raise ValueError("within_scatter was not kept; make ClassMoments with scatter=True")
        self._require_samples()
        self._flush()
        offsets = np.zeros_like(self._scatter)
        for block in self._observed_blocks():
            scaled = self._sums[block] / np.sqrt(self._counts[block])[:, None]
            _core.accumulate_scatter(scaled, offsets, self._threads())
        return _symmetric(self._scatter - offsets) / self.num_samples

    @property
    def between_scatter(self) -> NDArray[np.float64]:
        """Between-class covariance (1/K) sum (mu_c - mu_G)(mu_c - mu_G)^T, float64 (d, d).

        mu_G is the mean of the class means, and K counts the classes that have samples.

        Raises
        ------
        ValueError
            Without samples.
        """
        centred = self.centred_means()
        scatter = np.zeros((self.num_features, self.num_features))
        _core.accumulate_scatter(centred, scatter, self._threads())
        return _symmetric(scatter) / len(centred)

    def global_mean(self, kind: GlobalMean = "classes") -> NDArray[np.float64]:
        """Return the mean of the class means, or of all samples, float64 (d,).

        Parameters
        ----------
        kind : {"classes", "samples"}
            Which.

        Raises
        ------
        ValueError
            Without samples.
        """
        centre, means = self._about_a_shift()
        return centre + self._mean_of(means, kind)

    def centred_means(self, global_mean: GlobalMean = "classes") -> NDArray[np.float64]:
        """Return mu_c - mu_G for the classes that have samples, float64 (K_observed, d).

        The offset that the classes share is subtracted before anything is rounded, so that it
        costs no digits.

        Parameters
        ----------
        global_mean : {"classes", "samples"}
            mu_G: the mean of the class means, or of all samples.

        Raises
        ------
        ValueError
            Without samples.
        """
        _, means = self._about_a_shift()
        means -= self._mean_of(means, global_mean)
        return means

    def update(self, features: Any, labels: Any, *, progress: Progress | None = None) -> None:
        """Add samples.

        Parameters
        ----------
        features : array, shape (N, d)
            float16, bfloat16, float32 or float64, each row in one piece; N may be 0. Read in the
            order of the classes: a file larger than memory is best fed in blocks.
        labels : array or sequence, shape (N,)
            Class numbers of any integer type, or names in `classes`.
        progress : callable, optional
            Called as progress(samples_done, samples_total) about every 50 ms; what it raises stops
            the update.

        Raises
        ------
        TypeError
            For another dtype, and memory of a device.
        ValueError
            For another shape, a label out of range, and NaN or infinity, with the position. After
            this or any other exception, Ctrl-C included, the moments are as they were.
        """
        rows = feature_rows(features, "features", dim=self.num_features)
        numbers = self.label_numbers(labels, len(rows))
        watch = watch_of(progress, len(rows))
        if len(rows) == 0:
            return
        self._widen_shifts(rows.dtype)
        threads = self._threads()
        scatter, held = self._scatter, self._num_held
        if self.scatter:
            scatter, held, remainder = self._scatter_with(rows, numbers)
        label = _core.accumulate_moments(rows, numbers, *self._state(), threads, watch)
        if label >= 0:
            refuse_nonfinite(rows, "features", threads)
            raise ValueError(
                f"features overflows: the squares of class {label} do not fit into float64"
            )
        if self.scatter:
            self._held[held - len(remainder) : held] = remainder
            self._scatter, self._num_held = scatter, held

    def merge(self, other: ClassMoments) -> None:
        """Add the samples of other moments, which stay as they are.

        Parameters
        ----------
        other : ClassMoments
            With the same classes and number of features; with `scatter` if these have it.

        Raises
        ------
        TypeError
            If it is something else.
        ValueError
            If it does not match.
        """
        if not isinstance(other, ClassMoments):
            raise TypeError(f"other is a {type(other).__name__}; expected ClassMoments")
        for name in ("num_classes", "num_features", "classes"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"other has {name} {theirs!r}; expected {mine!r}")
        if self.scatter and not other.scatter:
            raise ValueError("other has no scatter; make it with scatter=True")
        if self.scatter:
            self._flush()
            other._flush()
        self._widen_shifts(other._shifts.dtype)
        new = np.flatnonzero((self._counts == 0) & (other._counts > 0))
        both = np.flatnonzero((self._counts > 0) & (other._counts > 0))
        sums, squares = self._sums.copy(), self._squares.copy()
        scatter = self._scatter + other._scatter if self.scatter else self._scatter
        self._shifts[new] = other._shifts[new]  # not read until the class is counted
        sums[new], squares[new] = other._sums[new], other._squares[new]
        for block in _blocks(both, self.num_features):
            # The other's deviations, taken from the shifts of these moments.
            moved = other._shifts[block].astype(np.float64) - self._shifts[block]
            counts, theirs = other._counts[block][:, None], other._sums[block]
            sums[block] += theirs + counts * moved
            squares[block] += other._squares[block] + (moved * (2.0 * theirs + counts * moved)).sum(
                axis=1
            )
            if self.scatter:
                product = moved.T @ (theirs + counts * moved / 2.0)
                scatter += product + product.T
        self._counts, self._sums, self._squares, self._scatter = (
            self._counts + other._counts,
            sums,
            squares,
            scatter,
        )

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moments to one .npz file, whole or not at all.

        Parameters
        ----------
        path : path
            File to write, under exactly this name. Names in `classes` must be all text or all
            integers.

        Raises
        ------
        OSError
            If it cannot be written; a file of that name is then still the old one.
        TypeError
            If `classes` holds names of another kind.
        """
        self._flush()
        seen = self.observed
        arrays = {
            "num_classes": np.array(self.num_classes),
            "num_features": np.array(self.num_features),
            "scatter": np.array(self.scatter),
            "observed": seen,
            "counts": self._counts[seen],
            "shifts": self._shifts[seen],
            "sums": self._sums[seen],
            "squares": self._squares[seen],
            "within": self._scatter,
        }
        if self.classes is not None:
            arrays["classes"] = _names_as_array(self.classes)
        _saved.save(path, _FORMAT, _FORMAT_VERSION, arrays)

    @classmethod
    def load(cls, path: str | os.PathLike[str], *, num_threads: int | None = None) -> ClassMoments:
        """Read moments that `save` has written.

        Parameters
        ----------
        path : path
            The file.
        num_threads : int, optional
            As for a new object.

        Returns
        -------
        ClassMoments
            The moments saved, bit for bit.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is truncated, damaged, foreign, or of another format version.
        """
        found = _saved.load(path, _FORMAT, _FORMAT_VERSION)
        try:
            names = found["classes"].tolist() if "classes" in found else None
            moments = cls(
                _saved.saved_integer(found, "num_classes"),
                _saved.saved_integer(found, "num_features"),
                scatter=bool(_saved.saved_array(found, "scatter", (), np.bool_)),
                classes=names,
                num_threads=num_threads,
            )
            moments._restore(found)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        return moments

    def _restore(self, found: dict[str, NDArray[Any]]) -> None:
        number = len(found["observed"])
        seen = _saved.saved_array(found, "observed", (number,), np.int64)
        if number and (seen[0] < 0 or seen[-1] >= self.num_classes or (np.diff(seen) <= 0).any()):
            raise ValueError("observed is not an ascending list of classes")
        shape = (number, self.num_features)
        counts = _saved.saved_array(found, "counts", (number,), np.int64)
        if (counts <= 0).any():
            raise ValueError("counts has a class without samples")
        self._widen_shifts(found["shifts"].dtype)
        size = self.num_features if self.scatter else 0
        self._counts[seen] = counts
        for name, array, expected, dtypes in (
            ("shifts", self._shifts, shape, (np.float32, np.float64)),
            ("sums", self._sums, shape, (np.float64,)),
            ("squares", self._squares, (number,), (np.float64,)),
        ):
            values = _saved.saved_array(found, name, expected, *dtypes)
            if not np.isfinite(values).all():
                raise ValueError(f"{name} is not finite")
            array[seen] = values
        self._scatter = _saved.saved_array(found, "within", (size, size), np.float64)

    def label_numbers(self, labels: Any, num_samples: int) -> NDArray[np.int64]:
        """Return labels as class numbers, int64 (N,).

        Parameters
        ----------
        labels : array or sequence, shape (N,)
            As `update` takes them.
        num_samples : int
            N.

        Raises
        ------
        TypeError
            For labels that are not integers, without `classes`.
        ValueError
            For another shape, and a label out of range or not in `classes`, with its position.
        """
        if self._numbers is not None:
            return _numbers_of_names(labels, num_samples, self._numbers)
        found = to_numpy(labels, "labels")
        if found.size == 0 and not hasattr(labels, "dtype"):
            found = found.astype(np.int64)  # an empty list has no dtype of its own
        if found.dtype.kind not in "iu":
            raise TypeError(
                f"labels has dtype {found.dtype}; expected integers (or names, with classes=)"
            )
        _check_length(found.shape, num_samples)
        bad = (found < 0) | (found >= self.num_classes)
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"labels is {found[i]} at position {i}; expected 0 <= label < {self.num_classes}"
            )
        return np.ascontiguousarray(found, dtype=np.int64)

    def __repr__(self) -> str:
        scatter = ", scatter=True" if self.scatter else ""
        return (
            f"ClassMoments({self.num_classes}, {self.num_features}{scatter}: {self.num_samples} "
            f"samples of {len(self.observed)} classes)"
        )

    def _threads(self) -> int:
        return thread_count(self.num_threads)

    def _state(self) -> tuple[NDArray[np.int64], NDArray[Any], NDArray[Any], NDArray[Any]]:
        return self._counts, self._shifts, self._sums, self._squares

    def _require_samples(self) -> None:
        if not self._counts.any():
            raise ValueError("there are no samples yet; call update first")

    def _class_means(self, centre: NDArray[np.float64]) -> NDArray[np.float64]:
        means: NDArray[np.float64]
        means, _ = _core.class_means(*self._state(), centre, True, False, self._threads())
        return means

    def _about_a_shift(self) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        # Means of the observed classes less the shift of the first: small if they share an offset.
        self._require_samples()
        seen = self.observed
        centre = self._shifts[seen[0]].astype(np.float64)
        means = self._class_means(centre)
        return centre, means if len(seen) == len(means) else means[seen]

    def _mean_of(self, means: NDArray[np.float64], kind: str) -> NDArray[np.float64]:
        one_of(kind, "global_mean", _GLOBAL_MEANS)
        if kind == "classes":
            mean: NDArray[np.float64] = means.mean(axis=0)
            return mean
        weights = self._counts[self.observed] / self.num_samples
        return weights @ means

    def _observed_blocks(self) -> list[NDArray[np.int64]]:
        return _blocks(self.observed, self.num_features)

    def _widen_shifts(self, dtype: np.dtype[Any]) -> None:
        # Exact, so that it need not be undone if the update fails.
        if dtype == np.float64 and self._shifts.dtype != np.float64:
            if self._counts.any():
                self._shifts = self._shifts.astype(np.float64)
            else:
                self._shifts = np.empty(self._shifts.shape)

    def _scatter_with(
        self, rows: NDArray[Any], numbers: NDArray[np.int64]
    ) -> tuple[NDArray[np.float64], int, NDArray[np.float64]]:
        # The scatter with these samples, how many deviations then wait, and the new ones of them.
        threads = self._threads()
        _core.start_classes(rows, numbers, *self._state())
        held, count = self._num_held, len(rows)
        if held + count < _HELD_SAMPLES:
            waiting = np.empty((count, self.num_features))
            _core.deviations(rows, numbers, self._shifts, waiting, threads)
            return self._scatter, held + count, waiting
        scatter = self._scatter.copy()
        step = max(1, _SCATTER_ENTRIES // (self.num_features * _HELD_SAMPLES)) * _HELD_SAMPLES
        waiting = self._held[:held]
        for start in range(0, count, step):
            some = slice(start, min(start + step, count))
            x = np.empty((len(waiting) + some.stop - start, self.num_features))
            x[: len(waiting)] = waiting
            _core.deviations(rows[some], numbers[some], self._shifts, x[len(waiting) :], threads)
            whole = len(x) // _HELD_SAMPLES * _HELD_SAMPLES
            _core.accumulate_scatter(x[:whole], scatter, threads)
            waiting = x[whole:]
        return scatter, len(waiting), waiting

    def _flush(self) -> None:
        # Sums run over the samples in order wherever they are cut: the bits stay the same.
        if self._num_held:
            scatter = self._scatter.copy()
            _core.accumulate_scatter(self._held[: self._num_held], scatter, self._threads())
            self._scatter, self._num_held = scatter, 0


def within_projection(
    features: Any,
    labels: Any,
    moments: ClassMoments,
    directions: Any,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> NDArray[np.float64]:
    """Return the within-class sums of squares along some directions, class by class.

    Parameters
    ----------
    features, labels : arrays, shapes (N, d) and (N,)
        As `ClassMoments.update` takes them; read once, in order, and may be memory-mapped.
    moments : ClassMoments
        Holds the class means mu_c.
    directions : array, shape (d, r)
        The directions V.
    num_threads, progress : optional
        As in `ClassMoments.update`.

    Returns
    -------
    float64 array, shape (K,)
        Sum over the samples of each class of ||V^T (h - mu_c)||^2, in float64; bit-identical for
        any number of threads and instruction set.

    Raises
    ------
    TypeError, ValueError
        As `ClassMoments.update`; for a label of a class without a mean.
    """
    rows = feature_rows(features, "features", dim=moments.num_features)
    numbers = moments.label_numbers(labels, len(rows))
    threads = thread_count(num_threads)
    columns = np.ascontiguousarray(to_numpy(directions, "directions"), dtype=np.float64)
    if columns.ndim != 2 or len(columns) != moments.num_features:
        raise ValueError(
            f"directions has shape {columns.shape}; expected ({moments.num_features}, r)"
        )
    missing = moments.counts[numbers] == 0
    if missing.any():
        i = int(np.argmax(missing))
        raise ValueError(f"labels is {numbers[i]} at position {i}, a class without a mean")
    square_norms = _core.projected_square_norms(
        rows, numbers, moments.means, columns, threads, watch_of(progress, len(rows))
    )
    if not np.isfinite(square_norms).all():
        refuse_nonfinite(rows, "features", threads)
    sums = np.bincount(numbers, weights=square_norms, minlength=moments.num_classes)
    return cast(NDArray[np.float64], sums)


def _blocks(classes: NDArray[np.int64], num_features: int) -> list[NDArray[np.int64]]:
    step = max(1, _SCATTER_ENTRIES // num_features)
    return [classes[start : start + step] for start in range(0, len(classes), step)]


def _symmetric(upper: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.triu(upper) + np.triu(upper, 1).T


def _class_names(classes: Sequence[Hashable], num_classes: int) -> list[Hashable]:
    names = classes.tolist() if hasattr(classes, "tolist") else list(classes)
    if len(names) != num_classes:
        raise ValueError(f"classes has {len(names)} names; expected {num_classes}")
    seen: set[Hashable] = set()
    for i, name in enumerate(names):
        try:
            repeated = name in seen
        except TypeError:
            raise TypeError(f"classes[{i}] is {name!r}, which is not hashable") from None
        if repeated:
            raise ValueError(f"classes[{i}] is {name!r} a second time")
        seen.add(name)
    return names


def _names_as_array(names: list[Hashable]) -> NDArray[Any]:
    for kind in (str, int):
        if all(type(name) is kind for name in names):
            return np.array(names, dtype=None if kind is str else np.int64)
    raise TypeError("classes can be saved if they are all text or all integers")


def _numbers_of_names(
    labels: Any, num_samples: int, numbers: dict[Hashable, int]
) -> NDArray[np.int64]:
    if hasattr(labels, "__array__") and not isinstance(labels, np.ndarray):
        labels = np.asarray(labels)
    if isinstance(labels, np.ndarray):
        _check_length(labels.shape, num_samples)
        if labels.dtype.kind in "iubSUf":
            # Each distinct label is looked up once.
            distinct, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
            table = _look_up(distinct.tolist(), first.tolist(), numbers)
            return table[inverse]
        labels = labels.tolist()
    names = list(labels)
    _check_length((len(names),), num_samples)
    return _look_up(names, range(len(names)), numbers)


def _look_up(
    names: list[Any], positions: Sequence[int], numbers: dict[Hashable, int]
) -> NDArray[np.int64]:
    found = np.empty(len(names), dtype=np.int64)
    unknown: tuple[float, Any] = (math.inf, None)
    for i, (name, position) in enumerate(zip(names, positions, strict=True)):
        try:
            found[i] = numbers[name]
        except (KeyError, TypeError):
            unknown = min(unknown, (position, name), key=lambda pair: pair[0])
    if unknown[0] != math.inf:
        raise ValueError(
            f"labels is {unknown[1]!r} at position {unknown[0]}; expected one of classes"
        )
    return found


def _check_length(shape: tuple[int, ...], num_samples: int) -> None:
    if shape != (num_samples,):
        raise ValueError(f"labels has shape {shape}; expected ({num_samples},), one per sample")
