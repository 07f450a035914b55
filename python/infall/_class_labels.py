"""Labels of any kind as class numbers."""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays import to_numpy


class ClassLabels:
    """What labels a set of classes has: the numbers from 0 on, or names.

    Raises
    ------
    TypeError, ValueError
        For names that are not `num_classes` different hashables.
    """

    def __init__(self, num_classes: int, classes: Sequence[Hashable] | None) -> None:
        self.num_classes = num_classes
        self.names = None if classes is None else _class_names(classes, num_classes)
        self._numbers = None if self.names is None else {c: i for i, c in enumerate(self.names)}

    def numbers(self, labels: Any, num_samples: int) -> NDArray[np.int64]:
        """Return labels (N,) in host memory as class numbers, int64 (N,).

        Raises
        ------
        TypeError
            For labels that are not integers, where classes have no names.
        ValueError
            For another shape, and a label that is none of the classes, with its position.
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
        check_length(found.shape, num_samples)
        bad = (found < 0) | (found >= self.num_classes)
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"labels is {found[i]} at position {i}; expected 0 <= label < {self.num_classes}"
            )
        return np.ascontiguousarray(found, dtype=np.int64)

    def names_as_array(self) -> NDArray[Any] | None:
        """Return the names as they can be saved.

        Raises
        ------
        TypeError
            If they are neither all text nor all integers.
        """
        if self.names is None:
            return None
        for kind in (str, int):
            if all(type(name) is kind for name in self.names):
                return np.array(self.names, dtype=None if kind is str else np.int64)
        raise TypeError("classes can be saved if they are all text or all integers")


def check_length(shape: tuple[int, ...], num_samples: int) -> None:
    """Raise ValueError unless labels are one per sample."""
    if shape != (num_samples,):
        raise ValueError(f"labels has shape {shape}; expected ({num_samples},), one per sample")


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


def _numbers_of_names(
    labels: Any, num_samples: int, numbers: dict[Hashable, int]
) -> NDArray[np.int64]:
    if hasattr(labels, "__array__") and not isinstance(labels, np.ndarray):
        labels = np.asarray(labels)
    if isinstance(labels, np.ndarray):
        check_length(labels.shape, num_samples)
        if labels.dtype.kind in "iubSUf":
            # Each distinct label is looked up once.
            distinct, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
            return _look_up(distinct.tolist(), first.tolist(), numbers)[inverse]
        labels = labels.tolist()
    names = list(labels)
    check_length((len(names),), num_samples)
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
