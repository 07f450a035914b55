"""Features of one layer, handed out block by block where they are not read in place."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays import Progress
from infall.classes import ClassMoments
from infall.collapse._inputs import feature_shape, float64_rows, in_one_piece, is_in_one_piece

_BLOCK_BYTES = 2**26


class Samples(ABC):
    """Features (N, d) and how they are cut into blocks."""

    shape: tuple[int, int]
    dtype: str

    @abstractmethod
    def pieces(self) -> Iterator[tuple[slice, Any]]:
        """Yield slices of the samples and their features, in order."""

    def blocks(self, progress: Progress | None) -> Iterator[tuple[slice, Any, Progress | None]]:
        """Yield slices, their features, and the progress of the whole within each of them."""
        total = self.shape[0]
        for rows, block in self.pieces():
            if progress is None:
                yield rows, block, None
            else:
                yield rows, block, partial(_report_within, progress, rows.start, total)

    def add_to(
        self, moments: ClassMoments, numbers: NDArray[np.int64], progress: Progress | None
    ) -> None:
        """Add the samples, of classes (N,), to moments."""
        for rows, block, within in self.blocks(progress):
            try:
                moments.update(block, numbers[rows], progress=within)
            except ValueError as error:
                if rows.start == 0:
                    raise
                raise ValueError(f"{error}, counted from sample {rows.start} on") from None

    def _cut(self, bytes_per_sample: int) -> Iterator[slice]:
        step = max(1, _BLOCK_BYTES // bytes_per_sample)
        for first in range(0, self.shape[0], step):
            yield slice(first, min(first + step, self.shape[0]))


class ArraySamples(Samples):
    """Features as they are given: read in place, or in blocks from a memory map.

    NumPy arrays whose rows are not in one piece, not aligned or of the other byte order are
    copied block by block.
    """

    def __init__(self, features: Any, name: str) -> None:
        if not hasattr(features, "dtype"):
            features = np.asarray(features)
        self.shape = feature_shape(features, name)
        self.dtype = str(features.dtype).removeprefix("torch.")
        self._features = features

    def pieces(self) -> Iterator[tuple[slice, Any]]:
        features = self._features
        if not isinstance(features, np.memmap) and is_in_one_piece(features):
            yield slice(0, self.shape[0]), features
            return
        for rows in self._cut(self.shape[1] * features.dtype.itemsize):
            yield rows, in_one_piece(features[rows])


class LineSamples(Samples):
    """Features (1 - t) first + t last in float64, of which only a block is made at a time."""

    dtype = "float64"

    def __init__(self, first: Any, last: Any, time: float) -> None:
        self.shape = feature_shape(first, "first")
        if feature_shape(last, "last") != self.shape:
            raise ValueError(
                f"last has shape {feature_shape(last, 'last')}, first {self.shape}; expected the "
                "same, for there is no line between features of different widths"
            )
        self._first, self._last, self._time = first, last, time

    def pieces(self) -> Iterator[tuple[slice, Any]]:
        for rows in self._cut(self.shape[1] * 8):
            block = float64_rows(self._first, rows, "first") * (1.0 - self._time)
            block += float64_rows(self._last, rows, "last") * self._time
            yield rows, block


def _report_within(
    progress: Progress, first: int, total: int, done: int, _: int, stage: str
) -> None:
    progress(first + done, total, stage)
