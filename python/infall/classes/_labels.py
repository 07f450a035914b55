"""Labels of any kind as class numbers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Iterable, Sequence
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from infall._arrays.convert import to_numpy
from infall._arrays.locate import on_host

_Int64 = NDArray[np.int64]


class ClassLabels:
    """What labels a set of classes has: the numbers 0, 1, ..., K - 1, or names.

    Raises TypeError or ValueError for names that are not a sequence of `num_classes` different
    hashables.
    """

    def __init__(self, num_classes: int, classes: Sequence[Hashable] | None) -> None:
        self.num_classes = num_classes
        self.names = None if classes is None else _class_names(classes, num_classes)
        self._numbers = None if self.names is None else {c: i for i, c in enumerate(self.names)}

    @classmethod
    def named(cls, classes: Sequence[Hashable]) -> ClassLabels:
        """Return the classes of these names.

        Raises TypeError or ValueError as the constructor, and without names.
        """
        names = _class_names(classes, None)
        if not names:
            raise ValueError("classes is empty; expected at least one name")
        return cls(len(names), names)

    @classmethod
    def distinct(
        cls, labels: Any, num_samples: int, name: str = "labels"
    ) -> tuple[ClassLabels, _Int64]:
        """Return the classes that labels (N,) have, in ascending order, and their numbers.

        Raises TypeError or ValueError as `numbers`, for a label that is missing (None, NaN), and
        for kinds without an order.
        """
        labels = _host_labels(labels, num_samples, name)
        if labels.dtype.kind in "iu" and num_samples > 0:
            low, span = int(labels.min()), int(labels.max()) - int(labels.min()) + 1
            if span <= 4 * num_samples:
                counts = np.bincount((labels - labels.min()).astype(np.int64), minlength=span)
                present = counts > 0
                names = [low + number for number in np.flatnonzero(present).tolist()]
                ranks = np.cumsum(present) - 1
                return cls._of(names), ranks[(labels - labels.min()).astype(np.int64)]
        if labels.dtype.kind != "O":
            distinct, class_numbers = np.unique(labels, return_inverse=True)
            return cls._of(distinct.tolist()), class_numbers.astype(np.int64)
        entries = labels.tolist()
        _refuse_missing(entries, name)
        try:
            names = sorted(dict.fromkeys(entries))
        except TypeError as error:
            raise TypeError(
                f"{name} has kinds without a common order ({error}); name the classes by classes="
            ) from None
        labels_of_names = cls(len(names), names)
        return labels_of_names, labels_of_names.numbers(labels, num_samples, name)

    @classmethod
    def _of(cls, names: list[Any]) -> ClassLabels:
        numbered = names == list(range(len(names))) and not isinstance(names[0], bool)
        return cls(len(names), None if numbered else names)

    def numbers(self, labels: Any, num_samples: int, name: str = "labels") -> _Int64:
        """Return labels (N,) as class numbers, int64 (N,).

        Raises TypeError for labels that are not integers, where classes have no names; ValueError
        for another shape, and a label that is none of the classes, with its position.
        """
        if self._numbers is not None:
            return _numbers_of_names(labels, num_samples, self._numbers, name)
        labels = _host_labels(labels, num_samples, name)
        if labels.dtype.kind not in "iub":
            raise TypeError(
                f"{name} has dtype {labels.dtype}; expected integers (or names, with classes=)"
            )
        if labels.size > 0 and not 0 <= labels.min() <= labels.max() < self.num_classes:
            i = int(np.argmax((labels < 0) | (labels >= self.num_classes)))
            raise ValueError(
                f"{name} is {labels[i]} at position {i}; expected 0 <= label < {self.num_classes}"
            )
        return np.ascontiguousarray(labels, dtype=np.int64)

    def names_of(self, class_numbers: Iterable[int]) -> tuple[Any, ...]:
        """Return the names of classes, their numbers where they have none."""
        names = self.names
        return tuple(
            class_numbers if names is None else (names[number] for number in class_numbers)
        )

    def names_as_array(self) -> NDArray[Any] | None:
        """Return the names as they can be saved.

        Raises TypeError if they are neither all text nor all integers.
        """
        if self.names is None:
            return None
        for kind in (str, int):
            if all(type(name) is kind for name in self.names):
                return np.array(self.names, dtype=None if kind is str else np.int64)
        raise TypeError("classes can be saved if they are all text or all integers")


def check_length(shape: tuple[int, ...], num_samples: int, name: str = "labels") -> None:
    """Raise ValueError unless labels are one per sample."""
    if shape != (num_samples,):
        raise ValueError(f"{name} has shape {shape}; expected ({num_samples},), one per sample")


def _host_labels(labels: Any, num_samples: int, name: str) -> NDArray[Any]:
    """Return labels (N,) in host memory: integers, bool, text, or objects.

    Floating point labels become integers. From a device they are copied, which waits for its
    stream.

    Raises TypeError for other kinds, and masked arrays; ValueError for another shape, and a
    fraction, NaN or infinity, with its position.
    """
    array = on_host(labels, name)
    if isinstance(array, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; fill it first, for masks are not looked at")
    if hasattr(array, "__dlpack__") and not isinstance(array, np.ndarray):
        array = to_numpy(array, name)
    elif not isinstance(array, np.ndarray):
        array = _array_of(array, name)
    check_length(array.shape, num_samples, name)
    if array.dtype.kind == "f":
        array = _whole_numbers(array, name)
    if array.dtype.kind == "T":
        array = array.astype(object)
    if array.size == 0 and not hasattr(labels, "dtype"):
        array = array.astype(np.int64)  # an empty list has no dtype of its own
    if array.dtype.kind not in "iubUSO":
        raise TypeError(f"{name} has dtype {array.dtype}; expected integers or text")
    return cast("NDArray[Any]", array)


def _array_of(labels: Any, name: str) -> NDArray[Any]:
    if isinstance(labels, (str, bytes, set, frozenset, dict)) or not (
        isinstance(labels, Sequence) or hasattr(labels, "__array__")
    ):
        raise TypeError(f"{name} is a {type(labels).__name__}; expected one label per sample")
    try:
        array = np.asarray(labels)
    except ValueError as error:
        raise TypeError(f"{name} is not an array: {error}") from None
    kinds = {type(label) for label in labels} if isinstance(labels, (list, tuple)) else set()
    if (len(kinds) > 1 and array.dtype.kind in "US") or (
        kinds == {int} and array.dtype.kind == "f"
    ):
        return np.array(labels, dtype=object)  # NumPy would turn 1 into "1", and round past 2**63
    return array


def _whole_numbers(labels: NDArray[Any], name: str) -> _Int64:
    with np.errstate(invalid="ignore"):
        bad = ~((np.abs(labels) < 2.0**63) & (np.trunc(labels) == labels))
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"{name} is {labels[i]} at position {i}; expected whole numbers or names of classes"
        )
    return labels.astype(np.int64)


def _refuse_missing(entries: list[Any], name: str) -> None:
    for i, entry in enumerate(entries):
        try:
            missing = entry is None or bool(entry != entry)
        except TypeError:
            missing = True  # pandas.NA
        if missing:
            raise ValueError(f"{name} is {entry} at position {i}; expected a label of every sample")


def _class_names(classes: Any, num_classes: int | None) -> list[Hashable]:
    if isinstance(classes, (np.ma.MaskedArray, str, bytes)):
        raise TypeError(f"classes is {classes!r}; expected a sequence of names")
    if hasattr(classes, "tolist"):
        names = classes.tolist()
    elif isinstance(classes, Sequence):
        names = list(classes)
    else:
        raise TypeError(
            f"classes is {classes!r}; expected a sequence of names, whose order numbers the classes"
        )
    if not isinstance(names, list):
        raise TypeError(f"classes is {classes!r}; expected a sequence of names")
    if num_classes is not None and len(names) != num_classes:
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


def _numbers_of_names(
    labels: Any, num_samples: int, number_of: dict[Hashable, int], name: str
) -> _Int64:
    # A list may hold names that NumPy would take for rows of an array.
    names = list(labels) if isinstance(labels, (list, tuple)) else None
    if names is None:
        array = _host_labels(labels, num_samples, name)
        if array.dtype.kind != "O":
            # Each distinct label is looked up once.
            distinct, first, inverse = np.unique(array, return_index=True, return_inverse=True)
            return _look_up(distinct.tolist(), first.tolist(), number_of, name)[inverse]
        names = array.tolist()
    check_length((len(names),), num_samples, name)
    return _look_up(names, range(len(names)), number_of, name)


def _look_up(
    entries: list[Any], positions: Sequence[int], number_of: dict[Hashable, int], name: str
) -> _Int64:
    class_numbers = np.empty(len(entries), dtype=np.int64)
    unknown: tuple[float, Any] = (math.inf, None)
    for i, (entry, position) in enumerate(zip(entries, positions, strict=True)):
        try:
            class_numbers[i] = number_of[entry]
        except (KeyError, TypeError):
            unknown = min(unknown, (position, entry), key=lambda pair: pair[0])
    if unknown[0] != math.inf:
        raise ValueError(
            f"{name} is {unknown[1]!r} at position {unknown[0]}; expected one of classes"
        )
    return class_numbers
