"""Class moments: counts, means, variances and scatter, in one mergeable pass."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from infall._arrays import files as _saved
from infall._arrays.calls import Progress, standard_floats, watch_of
from infall._arrays.checks import MAX_ROWS, integer
from infall._arrays.convert import AnyArray, Labels, to_numpy
from infall._arrays.locate import place_of
from infall._arrays.locks import object_lock
from infall._arrays.place import Place
from infall._arrays.threads import thread_count
from infall.classes._host import HostMoments, symmetric
from infall.classes._labels import ClassLabels

if TYPE_CHECKING:
    from infall.classes._device import DeviceMoments

GlobalMean = Literal["classes", "samples"]

_FORMAT = "infall.ClassMoments"
_FORMAT_VERSION = 1
_MAX_ENTRIES = 2**48
_ARRAYS = ("observed", "counts", "shifts", "sums", "squares", "within")
_MEMBERS = ("num_classes", "num_features", "scatter", "classes", *_ARRAYS)


class ClassMoments:
    """Counts, means, variances and, if wanted, the within scatter of features by class.

    Feed batches with `update`; join the moments of disjoint sets of samples with `merge`; start
    anew with `reset`.

    Parameters
    ----------
    num_classes : int
        Classes K; samples carry labels 0 <= y < K, or names in `classes`.
    num_features : int
        Features d of a sample.
    scatter : bool
        Keep the pooled within-class scatter as well: d x d numbers more, N d^2 operations more.
    classes : sequence of K hashables, optional
        Names of the classes, in order, where labels are not 0, 1, ..., K - 1.
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
    for the classes it touches; for `merge`, `save`, `state_dict`, pickles and copies as much again.

    Threads: any number of threads may use one object. Changes are made one after the other; what
    is read meanwhile is the state before or after a change, never a part of it. A process that is
    forked meanwhile has one or the other, too. `progress` may read the moments, but not change
    them.

    Whole or not at all: whatever `update`, `merge` and `reset` raise, the moments are as they were,
    and the call can be repeated. That includes KeyboardInterrupt, except one that arrives in the
    last microseconds of the call, when all is done: Python then raises it on the way out.

    Pickles and copies are whole, and share no memory with the object. State that was unpickled
    without a copy (buffers of protocol 5, memory maps of joblib) is copied when samples are added.

    Features in CUDA memory (CuPy, PyTorch, and others through CuPy) are added there, on the current
    stream of their library, and nothing waits: counts, means and variances are the bits of the
    host. Their values are not checked: NaN and infinity stay in the moments of their class, and a
    label in device memory that is out of range makes all moments NaN. Scatters and centred means
    are computed in host memory, and returned on the device. Memory on a device: twice that of the
    host, and once more the scatter, for the state before an update is kept whole. Pickles and files
    hold the moments as those of the host.

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
        self._state: HostMoments | DeviceMoments = self._without_samples()
        self._add_locks()

    @property
    def classes(self) -> list[Hashable] | None:
        """Names of the classes, if they have any."""
        return self._labels.names

    @property
    def counts(self) -> Any:
        """Samples of each class, int64 (K,)."""
        with self._lock, self._state.place as place:
            return place.returned(self._state.counts + 0)

    @property
    def num_samples(self) -> int:
        """Samples of all classes."""
        return int(self._host_counts().sum())

    @property
    def observed(self) -> NDArray[np.int64]:
        """Numbers of the classes that have samples, int64 (K_observed,), ascending."""
        return np.flatnonzero(self._host_counts())

    @property
    @standard_floats
    def means(self) -> Any:
        """Class means mu_c, float64 (K, d); NaN for a class without samples."""
        with self._lock, self._state.place as place:
            return place.returned(self._state.means())

    @property
    @standard_floats
    def variances(self) -> Any:
        """Mean squared distance of its samples to a class mean, float64 (K,); NaN without samples.

        This is the trace of the class covariance: the sum over features, with 1/n_c.
        """
        with self._lock, self._state.place as place:
            return place.returned(self._state.variances())

    @property
    @standard_floats
    def within_scatter(self) -> Any:
        """Within-class covariance Sigma_W = (1/N) sum (h - mu_c)(h - mu_c)^T, float64 (d, d).

        Raises
        ------
        ValueError
            Without `scatter=True`, or without samples.
        """
        if not self.scatter:
            raise ValueError("within_scatter was not kept; make ClassMoments with scatter=True")
        return self._computed(HostMoments.within_scatter)

    @property
    @standard_floats
    def between_scatter(self) -> Any:
        """Between-class covariance (1/K) sum (mu_c - mu_G)(mu_c - mu_G)^T, float64 (d, d).

        mu_G is the mean of the class means, and K counts the classes that have samples.

        Raises
        ------
        ValueError
            Without samples.
        """
        return self._computed(HostMoments.between_scatter)

    @standard_floats
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
        return self._computed(lambda state: state.global_mean(kind))

    @standard_floats
    def centred_means(self, global_mean: GlobalMean = "classes") -> Any:
        """Return mu_c - mu_G for the classes that have samples, float64 (K_observed, d).

        The offset that the classes share is subtracted before anything is rounded: it costs no
        precision.

        Parameters
        ----------
        global_mean : {"classes", "samples"}
            mu_G: the mean of the class means, or of all samples.

        Raises
        ------
        ValueError
            Without samples.
        """
        return self._computed(lambda state: state.centred_means(global_mean))

    @standard_floats
    def update(
        self, features: AnyArray, labels: Labels, *, progress: Progress | None = None
    ) -> None:
        """Add samples.

        Parameters
        ----------
        features : array, shape (N, d)
            Real numbers in any layout and byte order; N may be 0. float16, bfloat16, float32 and
            float64 with contiguous rows are read in place, in the order of the classes: a file
            larger than memory is best fed in blocks. Others are copied in blocks of 32 MiB, all
            other dtypes as float64; variances then change by rounding as with batches.
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
            For another shape, a label out of range, and NaN or infinity, with the position.
        RuntimeError
            From within `progress` of another change of these moments.

        Notes
        -----
        Another thread that writes into `features` meanwhile makes the sums wrong, but does no other
        harm; `labels` are copied first.
        """
        place, located = place_of(features, "features")
        kernels = place.kernels("classes")
        with place:
            rows = kernels.feature_rows(place, located, self.num_features)
            class_numbers = kernels.class_numbers(place, labels, len(rows), self)
        watch_of(progress, len(rows), "samples")

        def add(state: HostMoments | DeviceMoments) -> Callable[[], None]:
            self._require_place(place)
            with place:
                exchange: Callable[[], None] = kernels.update(
                    place, state, rows, class_numbers, progress, self._replacement
                )
            return exchange

        if len(rows) > 0:
            self._change(add)

    def merge(self, other: ClassMoments) -> None:
        """Add the samples of other moments, which stay as they are.

        Parameters
        ----------
        other : ClassMoments
            With the same classes and number of features; with `scatter` if these have it. The
            object itself doubles its samples.

        Raises
        ------
        TypeError
            If it is something else.
        ValueError
            If it does not match, and if the sums do not fit into float64.
        OverflowError
            For 2**63 samples.
        RuntimeError
            As `update`.
        """
        if not isinstance(other, ClassMoments):
            raise TypeError(f"other is a {type(other).__name__}; expected ClassMoments")
        for name in ("num_classes", "num_features", "classes"):
            mine, theirs = getattr(self, name), getattr(other, name)
            if mine != theirs:
                raise ValueError(f"other has {name} {theirs!r}; expected {mine!r}")
        if self.scatter and not other.scatter:
            raise ValueError("other has no scatter; make it with scatter=True")

        @standard_floats
        def join(state: HostMoments | DeviceMoments) -> Callable[[], None]:
            # Whoever holds the lock of an object waits for no other lock.
            with other._lock:
                merged = self._host().merged(other._host())
            return self._replacement(state.holding(merged))

        self._change(join)

    def reset(self) -> None:
        """Forget all samples; moments on a device may then take features from anywhere.

        Raises
        ------
        RuntimeError
            As `update`.
        """
        self._change(lambda _: self._replacement(self._without_samples()))

    @standard_floats
    def state_dict(self) -> dict[str, NDArray[Any] | str | int | bool]:
        """Return the moments as plain arrays and numbers, to be stored in any format.

        Returns
        -------
        dict
            Copies of all that `from_state_dict` needs, in host memory.

        Raises
        ------
        TypeError
            If `classes` holds names that are neither all text nor all integers.
        ValueError
            If the moments of a class are not finite, as those of a device can be.
        """
        names = self._labels.names_as_array()
        arrays = self._stored()
        finite = np.isfinite(arrays["squares"])
        if not finite.all():
            label = arrays["observed"][np.argmin(finite)]
            raise ValueError(f"the moments of class {label} are not finite")
        return {
            "format": _FORMAT,
            "version": _FORMAT_VERSION,
            "num_classes": self.num_classes,
            "num_features": self.num_features,
            "scatter": self.scatter,
            **({} if names is None else {"classes": names}),
            **arrays,
        }

    @classmethod
    def from_state_dict(
        cls, state: Mapping[str, Any], *, num_threads: int | None = None
    ) -> ClassMoments:
        """Return moments from what `state_dict` gave, which is copied.

        Parameters
        ----------
        state : mapping
            As `state_dict` gives it.
        num_threads : int, optional
            As for a new object.

        Returns
        -------
        ClassMoments
            The moments, bit for bit.

        Raises
        ------
        TypeError
            If `state` is no mapping.
        ValueError
            If it lacks something, is of another version, or no samples can have such moments.
        """
        _saved.check_state(state, _FORMAT, _FORMAT_VERSION)
        members = {name: np.array(state[name]) for name in _MEMBERS if name in state}
        try:
            return cls._from_members(members, num_threads)
        except ValueError as error:
            raise ValueError(f"state is damaged: {error}") from None

    @standard_floats
    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the moments to one .npz file, whole or not at all.

        Parameters
        ----------
        path : path
            File to write, under exactly this name; a symbolic link is followed. Names in `classes`
            must be all text or all integers.

        Raises
        ------
        OSError
            If it cannot be written, or is there and not a regular file; a file of that name is
            then still the old one.
        TypeError
            If `classes` holds names of another kind.
        """
        _saved.save(path, _FORMAT, _FORMAT_VERSION, self.state_dict())

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
        members = _saved.load(path, _FORMAT, _FORMAT_VERSION, members=_MEMBERS.__contains__)
        try:
            return cls._from_members(members, num_threads)
        except ValueError as error:
            raise ValueError(f"{os.fspath(path)} is damaged: {error}") from None

    @classmethod
    def _from_members(
        cls, members: Mapping[str, NDArray[Any]], num_threads: int | None
    ) -> ClassMoments:
        missing = [name for name in _MEMBERS if name not in members and name != "classes"]
        if missing:
            raise ValueError(f"{missing[0]} is missing")
        try:
            moments = cls(
                _saved.saved_integer(members, "num_classes"),
                _saved.saved_integer(members, "num_features"),
                scatter=bool(_saved.saved_array(members, "scatter", (), np.bool_)),
                classes=members["classes"].tolist() if "classes" in members else None,
                num_threads=num_threads,
            )
            moments._check_stored(members)
            moments._state = moments._restored(members)
        except TypeError as error:
            raise ValueError(str(error)) from None
        except MemoryError as error:
            raise ValueError(f"there is not memory enough: {error}") from None
        return moments

    def _stored(self) -> dict[str, NDArray[Any]]:
        # Of the classes that have samples; all of it copies.
        with self._lock:
            state = self._host()
            seen = state.observed
            within = np.zeros((0, 0)) if state.scatter is None else symmetric(state.products())
            arrays = (array[seen] for array in state.arrays())
            return dict(zip(_ARRAYS, (seen, *arrays, within), strict=True))

    def _check_stored(self, arrays: Mapping[str, NDArray[Any]]) -> None:
        number = len(np.atleast_1d(arrays["observed"]))
        shape = (number, self.num_features)
        size = self.num_features if self.scatter else 0
        for name, expected, dtypes in (
            ("observed", (number,), (np.int64,)),
            ("counts", (number,), (np.int64,)),
            ("shifts", shape, (np.float32, np.float64)),
            ("sums", shape, (np.float64,)),
            ("squares", (number,), (np.float64,)),
            ("within", (size, size), (np.float64,)),
        ):
            array = _saved.saved_array(arrays, name, expected, *dtypes)
            if not np.isfinite(array).all():
                raise ValueError(f"{name} is not finite")
        seen, counts = arrays["observed"], arrays["counts"]
        if number and (seen[0] < 0 or seen[-1] >= self.num_classes or (np.diff(seen) <= 0).any()):
            raise ValueError("observed is not an ascending list of classes")
        if (counts <= 0).any():
            raise ValueError("counts has a class without samples")
        if sum(counts.tolist()) >= MAX_ROWS:
            raise ValueError("counts has 2**63 samples or more")
        if (arrays["squares"] < 0.0).any():
            raise ValueError("squares has negative sums of squares")
        if (arrays["within"] != arrays["within"].T).any():
            raise ValueError("within is not symmetric")

    def _restored(self, arrays: Mapping[str, NDArray[Any]]) -> HostMoments:
        state = self._without_samples()
        seen = arrays["observed"]
        if len(seen) == self.num_classes:
            # Memory maps among them become plain arrays, of the same memory.
            state.counts, state.shifts, state.sums, state.squares = (
                np.asarray(arrays[name]) for name in _ARRAYS[1:5]
            )
        else:
            state.own_arrays(arrays["shifts"].dtype)
            for name, array in zip(_ARRAYS[1:], state.arrays(), strict=False):
                array[seen] = arrays[name]
        if self.scatter:
            state.set_scatter(np.asarray(arrays["within"]))
        return state

    def __getstate__(self) -> dict[str, Any]:
        kept = ("num_classes", "num_features", "scatter", "num_threads", "classes")
        return {name: getattr(self, name) for name in kept} | {"arrays": self._stored()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        arrays, classes = state.pop("arrays"), state.pop("classes")
        self.__dict__.update(state)
        self._labels = ClassLabels(self.num_classes, classes)
        self._state = self._restored(arrays)
        self._add_locks()

    def __copy__(self) -> ClassMoments:
        copied = type(self).__new__(type(self))
        with self._lock:
            copied.__dict__.update(self.__dict__)
            with self._state.place:
                copied._state = self._state.copy()
        copied._add_locks()
        return copied

    def __deepcopy__(self, memo: dict[int, Any]) -> ClassMoments:
        return self.__copy__()

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sys.getsizeof(self.__dict__) + self._state.nbytes

    def label_numbers(self, labels: Labels, num_samples: int) -> NDArray[np.int64]:
        """Return labels as class numbers, int64 (N,), a copy.

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
        if self.classes is None and hasattr(labels, "dtype"):
            # What is checked is what the kernels read, whatever another thread writes meanwhile.
            labels = np.array(to_numpy(labels, "labels"))
        return self._labels.numbers(labels, num_samples)

    def to_host(self) -> ClassMoments:
        """Return these moments in host memory: themselves, or a copy from their device.

        The copy waits for the current stream of the device's library.
        """
        if self._state.place.is_host:
            return self
        moments = ClassMoments(
            self.num_classes,
            self.num_features,
            scatter=self.scatter,
            classes=self.classes,
            num_threads=self.num_threads,
        )
        with self._lock:
            moments._state = self._host()
        return moments

    def __repr__(self) -> str:
        scatter = ", scatter=True" if self.scatter else ""
        counts = self._host_counts()
        return (
            f"ClassMoments({self.num_classes}, {self.num_features}{scatter}: {counts.sum()} "
            f"samples of {np.count_nonzero(counts)} classes)"
        )

    def _add_locks(self) -> None:
        # Changes wait for each other, and take the second lock only to exchange the state; what
        # is computed from the state takes only the second.
        self._changes, self._lock = object_lock(), object_lock()
        self._changing_process = 0

    def _change(self, prepare: Callable[[HostMoments | DeviceMoments], Callable[[], None]]) -> None:
        # prepare(state) leaves the state as it is, and returns what exchanges it. Between an
        # exchange and the end of this function no call returns but those of the locks: there is no
        # other place where Python answers a signal. What was exchanged is held till then: to free
        # it can take long.
        with self._changes:
            if self._changing_process == os.getpid():
                raise RuntimeError("progress must not change the moments that report it")
            self._changing_process = os.getpid()
            try:
                replaced = self._state
                exchange = prepare(replaced)
                with self._lock:
                    exchange()
            finally:
                self._changing_process = 0

    def _replacement(self, state: HostMoments | DeviceMoments) -> Callable[[], None]:
        def exchange() -> None:
            self._state = state

        return exchange

    def _without_samples(self) -> HostMoments:
        return HostMoments(self.num_classes, self.num_features, self.scatter, self.num_threads)

    def _host(self) -> HostMoments:
        # The state in host memory: of a device, a copy. The caller holds a lock.
        return self._state.on_host(self.num_threads)

    def _host_counts(self) -> NDArray[np.int64]:
        # Of a device, nothing else is copied.
        with self._lock, self._state.place as place:
            return np.array(place.download(self._state.counts))

    def _computed(self, compute: Callable[[HostMoments], NDArray[np.float64]]) -> Any:
        with self._lock:
            array = compute(self._host())
            with self._state.place as place:
                return place.returned(place.upload(array))

    def _require_place(self, place: Place) -> None:
        held = self._state.place.description
        if not self._state.is_empty and place.description != held:
            raise TypeError(
                f"features is in {place.description}, the moments in {held}; expected both in one "
                "place (moments of several places can be merged)"
            )

    @contextmanager
    def _state_at(self, place: Place) -> Iterator[Any]:
        """Hold the lock and yield the state in a place, which is its own or the host."""
        with self._lock:
            if place.is_host:
                yield self._host()
            elif place.description == self._state.place.description:
                yield self._state
            else:
                raise TypeError(
                    "moments is in host memory, features is not; expected both in one place"
                )


def mean_differences(
    first: ClassMoments, second: ClassMoments, classes: NDArray[np.int64]
) -> NDArray[np.float64]:
    """Return the means of some classes less those of other moments, float64 (k, d).

    Shifts and means about them are subtracted apart, so that an offset that both share costs no
    digits. The classes have samples in both.
    """
    with first._lock:
        first_state = first._host().copy()
    with second._lock:
        return first_state.means_less(second._host(), classes)
