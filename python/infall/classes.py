"""Class moments: counts, means, variances and scatter of labelled features, in one pass.

Each class keeps a shift (its first sample) and float64 sums of deviations from it and of their
squares. Deviations of float32 samples that lie close together are exact, so that moments hold
their digits however far the classes have collapsed and whatever offset they share, where the
one-pass form E[h h^T] - mu mu^T and float32 sums lose all of them.
"""

from __future__ import annotations

import os
from collections.abc import Hashable, Sequence
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from infall import _classes_device, _core, _saved
from infall._arrays import Progress, integer, to_numpy, watch_of
from infall._class_labels import ClassLabels
from infall._classes_device import DeviceMoments
from infall._classes_host import HostMoments, symmetric
from infall._device import Device, located, located_with
from infall._features import feature_rows, refuse_nonfinite
from infall._threads import thread_count

GlobalMean = Literal["classes", "samples"]

_FORMAT = "infall.ClassMoments"
_FORMAT_VERSION = 1
_MAX_ENTRIES = 2**48


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

    Features in CUDA memory (CuPy, PyTorch, and others through CuPy) are added there, on the current
    stream of their library, and nothing waits: counts, means and variances are the bits of the
    host. Their values are not searched, so that NaN and infinity stay in the moments of their
    class, and a label in device memory that is out of range makes all moments NaN. Scatters and
    centred means are computed in host memory, and returned on the device.

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
        self._labels = ClassLabels(self.num_classes, classes)
        self._state: HostMoments | DeviceMoments = HostMoments(
            self.num_classes, self.num_features, self.scatter, num_threads
        )

    @property
    def classes(self) -> list[Hashable] | None:
        """Names of the classes, if they have any."""
        return self._labels.names

    @property
    def counts(self) -> Any:
        """Samples of each class, int64 (K,)."""
        if isinstance(self._state, DeviceMoments):
            with self._state.device:
                return self._state.device.returned(self._state.counts + 0)
        return self._state.counts.copy()

    @property
    def num_samples(self) -> int:
        """Samples of all classes."""
        return self._host().num_samples

    @property
    def observed(self) -> NDArray[np.int64]:
        """Numbers of the classes that have samples, int64 (K_observed,), ascending."""
        return self._host().observed

    @property
    def means(self) -> Any:
        """Class means mu_c, float64 (K, d); NaN for a class without samples."""
        if isinstance(self._state, DeviceMoments):
            with self._state.device:
                return self._state.device.returned(self._state.means_and_offsets()[0])
        return self._state.means()

    @property
    def variances(self) -> Any:
        """Mean squared distance of its samples to a class mean, float64 (K,); NaN without samples.

        This is the trace of the class covariance: the sum over features, with 1/n_c.
        """
        if isinstance(self._state, DeviceMoments):
            with self._state.device:
                return self._state.device.returned(self._state.variances())
        return self._state.variances()

    @property
    def within_scatter(self) -> Any:
        """Within-class covariance Sigma_W = (1/N) sum (h - mu_c)(h - mu_c)^T, float64 (d, d).

        Raises
        ------
        ValueError
            Without `scatter=True`, or without samples.
        """
        if not self.scatter:
            raise ValueError("within_scatter was not kept; make ClassMoments with scatter=True")
        return self._returned(self._host().within_scatter())

    @property
    def between_scatter(self) -> Any:
        """Between-class covariance (1/K) sum (mu_c - mu_G)(mu_c - mu_G)^T, float64 (d, d).

        mu_G is the mean of the class means, and K counts the classes that have samples.

        Raises
        ------
        ValueError
            Without samples.
        """
        return self._returned(self._host().between_scatter())

    def global_mean(self, kind: GlobalMean = "classes") -> Any:
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
        state = self._host()
        centre, means = state.about_a_shift()
        return self._returned(centre + state.mean_of(means, kind))

    def centred_means(self, global_mean: GlobalMean = "classes") -> Any:
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
        return self._returned(self._host().centred_means(global_mean))

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
            Called as progress(samples_done, samples_total, "samples") about every 50 ms; what it
            raises stops the update.

        Raises
        ------
        TypeError
            For another dtype, and memory other than that of the features before.
        ValueError
            For another shape, a label out of range, and NaN or infinity, with the position. After
            this or any other exception, Ctrl-C included, the moments are as they were.
        """
        device, features = located(features, "features")
        self._require_place(device)
        if device is not None:
            with device:
                self._update_on(device, features, labels, progress)
            return
        assert isinstance(self._state, HostMoments)
        rows = feature_rows(features, "features", dim=self.num_features)
        numbers = self.label_numbers(labels, len(rows))
        watch = watch_of(progress, len(rows), "samples")
        if len(rows) > 0:
            self._state.add(rows, numbers, watch)

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
        merged = self._host()
        merged.merge(other._host())
        if isinstance(self._state, DeviceMoments):
            with self._state.device:
                self._state.upload(_whole(merged))

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
        state = self._host()
        state.flush()
        seen = state.observed
        arrays = {
            "num_classes": np.array(self.num_classes),
            "num_features": np.array(self.num_features),
            "scatter": np.array(self.scatter),
            "observed": seen,
            "counts": state.counts[seen],
            "shifts": state.shifts[seen],
            "sums": state.sums[seen],
            "squares": state.squares[seen],
            "within": np.zeros((0, 0)) if state.scatter is None else state.scatter,
        }
        names = self._labels.names_as_array()
        if names is not None:
            arrays["classes"] = names
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
            moments._state = moments._restored(found)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        return moments

    def _restored(self, found: dict[str, NDArray[Any]]) -> HostMoments:
        number = len(found["observed"])
        seen = _saved.saved_array(found, "observed", (number,), np.int64)
        if number and (seen[0] < 0 or seen[-1] >= self.num_classes or (np.diff(seen) <= 0).any()):
            raise ValueError("observed is not an ascending list of classes")
        shape = (number, self.num_features)
        counts = _saved.saved_array(found, "counts", (number,), np.int64)
        if (counts <= 0).any():
            raise ValueError("counts has a class without samples")
        state = HostMoments(self.num_classes, self.num_features, self.scatter, self.num_threads)
        state.counts[seen] = counts
        state.shifts = state.shifts.astype(found["shifts"].dtype)
        for name, array, expected, dtypes in (
            ("shifts", state.shifts, shape, (np.float32, np.float64)),
            ("sums", state.sums, shape, (np.float64,)),
            ("squares", state.squares, (number,), (np.float64,)),
        ):
            values = _saved.saved_array(found, name, expected, *dtypes)
            if not np.isfinite(values).all():
                raise ValueError(f"{name} is not finite")
            array[seen] = values
        size = self.num_features if self.scatter else 0
        scatter = _saved.saved_array(found, "within", (size, size), np.float64)
        state.scatter = scatter if self.scatter else None
        return state

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
        return self._labels.numbers(labels, num_samples)

    def to_host(self) -> ClassMoments:
        """Return these moments in host memory: themselves, or a copy from their device.

        The copy waits for the current stream of the device's library.
        """
        if isinstance(self._state, HostMoments):
            return self
        moments = ClassMoments(
            self.num_classes,
            self.num_features,
            scatter=self.scatter,
            classes=self.classes,
            num_threads=self.num_threads,
        )
        moments._state = self._host()
        return moments

    def __repr__(self) -> str:
        scatter = ", scatter=True" if self.scatter else ""
        state = self._host()
        return (
            f"ClassMoments({self.num_classes}, {self.num_features}{scatter}: {state.num_samples} "
            f"samples of {len(state.observed)} classes)"
        )

    def _host(self) -> HostMoments:
        # The state in host memory: of a device, a copy.
        if isinstance(self._state, HostMoments):
            return self._state
        state = HostMoments(0, self.num_features, self.scatter, self.num_threads)
        with self._state.device:
            for name, values in self._state.downloaded().items():
                setattr(state, name, values)
        return state

    def _returned(self, values: NDArray[np.float64]) -> Any:
        if isinstance(self._state, HostMoments):
            return values
        device = self._state.device
        with device:
            return device.returned(device.upload(values))

    def _require_place(self, device: Device | None) -> None:
        state = self._state
        if isinstance(state, HostMoments) and not state.counts.any():
            return
        held = None if isinstance(state, HostMoments) else state.device
        places = [
            "host memory" if d is None else f"memory of {d} held by {d.library}"
            for d in (device, held)
        ]
        if places[0] != places[1]:
            raise TypeError(
                f"features is in {places[0]}, the moments in {places[1]}; expected both in one "
                "place (moments of several places can be merged)"
            )

    def _update_on(
        self, device: Device, features: Any, labels: Any, progress: Progress | None
    ) -> None:
        rows = _classes_device.device_rows(device, features, "features", dim=self.num_features)
        numbers = self._numbers_on(device, labels, len(rows))
        watch = watch_of(progress, len(rows), "samples")
        if isinstance(self._state, HostMoments):
            shape = (self.num_classes, self.num_features)
            self._state = DeviceMoments(device, *shape, self.scatter)
        if len(rows) > 0:
            self._state.add(rows, numbers)
        if watch is not None:
            watch(len(rows))

    def _numbers_on(self, device: Device, labels: Any, num_samples: int) -> Any:
        place, found = located(labels, "labels")
        if place is None:
            return device.upload(self.label_numbers(found, num_samples))
        if self.classes is not None:
            raise TypeError("labels is in device memory; names are looked up in host memory")
        found = located_with(device, labels, "labels", "features")
        return _classes_device.device_labels(device, found, num_samples)


def within_projection(
    features: Any,
    labels: Any,
    moments: ClassMoments,
    directions: Any,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
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
    device, features = located(features, "features")
    place, columns = located(directions, "directions")
    if place is None:
        columns = np.ascontiguousarray(to_numpy(columns, "directions"), dtype=np.float64)
    if columns.ndim != 2 or len(columns) != moments.num_features:
        raise ValueError(
            f"directions has shape {tuple(columns.shape)}; expected ({moments.num_features}, r)"
        )
    if device is not None:
        return _projection_on(device, features, labels, moments, place, columns)
    if place is not None:
        raise TypeError(f"directions is in memory of {place}, features in host memory")
    rows = feature_rows(features, "features", dim=moments.num_features)
    numbers = moments.label_numbers(labels, len(rows))
    threads = thread_count(num_threads)
    state = moments._host()
    missing = state.counts[numbers] == 0
    if missing.any():
        i = int(np.argmax(missing))
        raise ValueError(f"labels is {numbers[i]} at position {i}, a class without a mean")
    square_norms = _core.projected_square_norms(
        rows, numbers, state.means(), columns, threads, watch_of(progress, len(rows), "samples")
    )
    if not np.isfinite(square_norms).all():
        refuse_nonfinite(rows, "features", threads)
    return np.bincount(numbers, weights=square_norms, minlength=moments.num_classes)


def _projection_on(
    device: Device,
    features: Any,
    labels: Any,
    moments: ClassMoments,
    place: Device | None,
    columns: Any,
) -> Any:
    state = moments._state
    if isinstance(state, HostMoments):
        raise TypeError("moments is in host memory, features is not; expected both in one place")
    with device:
        rows = _classes_device.device_rows(device, features, "features", dim=moments.num_features)
        numbers = moments._numbers_on(device, labels, len(rows))
        columns = device.upload(columns) if place is None else device.cast(columns, "float64")
        return device.returned(
            _classes_device.within_projection(device, rows, numbers, state, columns)
        )


def _whole(state: HostMoments) -> dict[str, NDArray[Any]]:
    # As a device holds it: the scatter with both its triangles.
    arrays: dict[str, NDArray[Any]] = {
        name: getattr(state, name) for name in ("counts", "shifts", "sums", "squares")
    }
    if state.scatter is not None:
        arrays["scatter"] = symmetric(state.scatter)
    return arrays
