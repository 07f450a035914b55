"""Vectors in host memory and frames applied to them by the CPU kernels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _core
from infall._arrays import check_finite, check_two_axes, like, to_numpy
from infall._features import feature_rows, float32_of

Watch = Callable[[int], object] | None

_BLOCK_ENTRIES = 2**20  # numbers looked at, or converted, between two looks at Ctrl-C


class Structure(NamedTuple):
    """A frame that is applied by its structure: nothing of it is stored but the norms."""

    num_classes: int
    dim: int
    hadamard: bool
    seed: int
    norms: NDArray[np.float64] | None


class Vectors(NamedTuple):
    """Vectors (N, k) as they were given, and the dtype to compute with."""

    rows: Any
    dtype: str
    batched: bool


class Host:
    """Host memory; a context, as a device is one."""

    key = "host"

    def __init__(self, original: Any) -> None:
        self.original = original
        self._is_bfloat16 = False

    def __enter__(self) -> Host:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def read(self, name: str, dim: int | None = None) -> Vectors:
        """Check kind, shape and values of the vectors; nothing large is copied.

        float16 and bfloat16 are computed with as float32, integers as float64.
        """
        array = self.original
        if not hasattr(array, "ndim"):
            array = to_numpy(array, name)
        batched = check_two_axes(tuple(array.shape), name, dim)
        if not batched:
            array = array[None]
        is_plain = isinstance(array, np.ndarray) and array.dtype.kind in "fiub"
        self._is_bfloat16 = not is_plain and "bfloat16" in str(array.dtype)
        rows = feature_rows(array, name) if self._is_bfloat16 else to_numpy(array, name)
        for first, block in self._row_blocks(rows):
            if batched:
                check_finite(block, name, first_row=first)
            else:
                check_finite(block[0], name)
        narrow = self._is_bfloat16 or (rows.dtype.kind == "f" and rows.dtype.itemsize <= 4)
        return Vectors(rows, "float32" if narrow else "float64", batched)

    def blocks(self, vectors: Vectors) -> Iterator[tuple[int, NDArray[Any]]]:
        """Return the vectors in C order and the dtype to compute with: as they are, or by block."""
        rows, dtype = vectors.rows, np.dtype(vectors.dtype)
        if rows.dtype == dtype and rows.flags.c_contiguous and rows.flags.aligned:
            yield 0, rows
            return
        for first, block in self._row_blocks(rows):
            yield first, np.require(block, dtype, ["C", "A"])

    def _row_blocks(self, rows: NDArray[Any]) -> Iterator[tuple[int, NDArray[Any]]]:
        step = max(1, _BLOCK_ENTRIES // rows.shape[1])
        for first in range(0, len(rows), step):
            block = rows[first : first + step]
            yield first, float32_of(block) if self._is_bfloat16 else block

    def empty(self, shape: tuple[int, ...], dtype: str) -> NDArray[Any]:
        return np.empty(shape, dtype)

    def constant(self, values: NDArray[np.float64], dtype: str) -> NDArray[Any]:
        return values.astype(dtype, copy=False)

    def returned(self, array: NDArray[Any]) -> Any:
        return like(array, self.original)

    def project(
        self, structure: Structure, x: Any, out: Any, name: str, threads: int, watch: Watch
    ) -> None:
        _, _, hadamard, seed, norms = structure
        check_range(_core.frame_project(x, out, hadamard, seed, norms, threads, watch), name)

    def synthesise(
        self, structure: Structure, x: Any, out: Any, name: str, threads: int, watch: Watch
    ) -> None:
        _, _, hadamard, seed, norms = structure
        check_range(_core.frame_synthesise(x, out, hadamard, seed, norms, threads, watch), name)

    def top_logits(
        self,
        structure: Structure,
        x: Any,
        classes: Any,
        values: Any,
        name: str,
        threads: int,
        watch: Watch,
    ) -> None:
        num_classes, _, hadamard, seed, norms = structure
        overflowed = _core.frame_top_logits(
            x, classes, values, num_classes, hadamard, seed, norms, threads, watch
        )
        check_range(overflowed, name)

    def top_scores(
        self, scores: Any, labels: Any | None, classes: Any, values: Any, threads: int
    ) -> int | None:
        """Return the number of a vector whose scores overflowed, or None."""
        return _core.top_scores(scores, labels, classes, values, threads, None)

    def walsh_hadamard(self, x: Any, out: Any, factor: float, threads: int, watch: Watch) -> None:
        _core.walsh_hadamard(x, out, factor, threads, watch)


def check_range(overflowed: int | None, name: str) -> None:
    """Raise ValueError if the products of a vector have overflowed."""
    if overflowed is not None:
        raise ValueError(f"{name} is too long: its products with the frame overflow; scale it down")
