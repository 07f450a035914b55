"""Simplex equiangular tight frames, orthoplexes and cubes."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall import _core
from infall._arrays.checks import MAX_DIM, MAX_SEED, integer, one_of
from infall._arrays.host import Host
from infall._arrays.locks import object_lock
from infall._arrays.place import Place
from infall._arrays.threads import thread_count
from infall.frames._host import Structure
from infall.frames.base import BLOCK_ENTRIES, Frame
from infall.frames.fit import FrameFit, fitted_frame, reduced

Basis = Literal["haar", "identity", "hadamard"]

_BASES = ("haar", "identity", "hadamard")
_Float = NDArray[np.float64]


class SimplexETF(Frame):
    """A simplex equiangular tight frame: K unit vectors with all pairwise cosines -1/(K-1).

    Parameters
    ----------
    num_classes : int
        Classes K, at least 2.
    dim : int
        Dimension d of the features, at least K - 1. With d = K - 1 the frame is in its tight form:
        nothing is left over. With d >= K it is sqrt(K/(K-1)) U (I - 11^T/K).
    basis : {"haar", "identity", "hadamard"}
        The orthonormal columns U. "haar": uniformly random, the Q of the QR decomposition (R's
        diagonal positive) of a Gaussian matrix whose random words serve nothing else; stored, K d
        float64 numbers, and made when first used in O(K^2 d), once for all threads. Products with
        float32 features keep a float32 copy too, those on a device a copy there for each dtype. A
        pickle holds the float64 numbers once they are made. "identity": the first K unit vectors;
        nothing stored. "hadamard": random signs and Walsh-Hadamard transforms, O(d log d) per
        feature, only signs ever made, one bit per coordinate.
    seed : int
        0 <= seed < 2**64, of "haar" and "hadamard".
    class_norms : array, shape (K,), optional
        Lengths of the class vectors, positive; one by default. See `seli_norms`.

    Raises
    ------
    TypeError
        For numbers that are not integers.
    ValueError
        For too few classes, a dim under K - 1 (no K vectors of fewer dimensions have equal
        pairwise cosines of -1/(K-1)), an unknown basis, and norms that are not positive.

    Notes
    -----
    The vectors and, for "identity" and "hadamard", everything computed with them are bit for bit
    the same for any number of threads and any instruction set.

    Source: Papyan, Han and Donoho (2020); Kothapalli, Neural Collapse: A Review, Section 5;
    Progressive Feedforward Collapse, Definition 1.

    Examples
    --------
    >>> import numpy as np
    >>> import infall
    >>> frame = infall.SimplexETF(4, 8, basis="hadamard")
    >>> np.round(frame.vectors() @ frame.vectors().T, 3)[0]
    array([ 1.   , -0.333, -0.333, -0.333])
    >>> frame.classify(frame.vectors([2, 0]))
    array([2, 0])
    """

    def __init__(
        self,
        num_classes: int,
        dim: int,
        *,
        basis: Basis = "haar",
        seed: int = 0,
        class_norms: ArrayLike | None = None,
    ) -> None:
        count = integer(num_classes, "num_classes", 2, MAX_DIM, "2**32")
        dim = integer(dim, "dim", 1, MAX_DIM, "2**32")
        one_of(basis, "basis", _BASES)
        self.seed = integer(seed, "seed", 0, MAX_SEED, "2**64")
        if dim < count - 1:
            raise ValueError(
                f"dim is {dim}; {count} vectors with pairwise cosines -1/{count - 1} span "
                f"{count - 1} dimensions: take dim >= {count - 1}, Orthoplex({count}) in "
                f"{-(-count // 2)} dimensions or Cube({count}) in {(count - 1).bit_length()}"
            )
        super().__init__(count, dim, class_norms)
        self.basis = basis
        if basis != "haar":
            hadamard = basis == "hadamard"
            self._structure = Structure(count, dim, hadamard, self.seed, self.class_norms)
        self._stored: _Float | None = None
        self._placed: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._lock = object_lock()  # of both

    @property
    def coherence(self) -> float:
        """The largest absolute cosine: 1/(K-1), the Welch bound of K vectors in K-1 dimensions."""
        return 1.0 / (self.num_classes - 1)

    def _unit_margin(self) -> float:
        return self.num_classes / (self.num_classes - 1)

    def _cosines(self, rows: Any, columns: Any) -> _Float:
        return np.where(rows == columns, 1.0, -1.0 / (self.num_classes - 1))

    def _rows(self, class_numbers: NDArray[np.int64]) -> _Float:
        if self._structure is None:
            with self._lock:
                vectors = self._haar()
            return vectors[class_numbers]
        ones = np.zeros((len(class_numbers), self.num_classes))
        ones[np.arange(len(class_numbers)), class_numbers] = 1.0
        rows = np.empty((len(class_numbers), self.dim))
        _, _, hadamard, seed, norms = self._structure
        _core.frame_synthesise(ones, rows, hadamard, seed, norms, thread_count(None), None)
        return rows

    def _haar(self) -> _Float:
        """Return the vectors of the stored basis (K, d), made on first use; under the lock."""
        if self._stored is None:
            count, dim = self.num_classes, self.dim
            rows, step = np.empty((count, dim)), max(1, BLOCK_ENTRIES // dim)
            _core.haar_vectors(rows, self.seed, thread_count(None), None)
            if self.class_norms is not None:
                for first in range(0, count, step):
                    rows[first : first + step] *= self.class_norms[first : first + step, None]
            self._stored = rows
        return self._stored

    def _block(self, place: Place, classes: slice, dtype: str) -> Any:
        key = (place.description, dtype)
        with self._lock:
            if key not in self._placed:
                vectors = place.upload(self._haar().astype(dtype, copy=False))
                self._placed[key] = vectors, place.recorded()
            vectors, event = self._placed[key]
        place.wait_for(event)  # which another stream may have queued
        return vectors[classes]

    def _fit(self, means: _Float, returned: Callable[[_Float], Any]) -> FrameFit:
        return fitted_frame(means, None, returned, self._span)

    def _span(self) -> _Float:
        return reduced(self._unit_vectors()) / math.sqrt(
            self.num_classes / (self.num_classes - 1.0)
        )

    def _settings(self) -> dict[str, Any]:
        return {"basis": self.basis, "seed": self.seed}

    def __getstate__(self) -> dict[str, Any]:
        state = self.__dict__.copy()
        del state["_placed"], state["_lock"]
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self._placed, self._lock = {}, object_lock()

    def __sizeof__(self) -> int:
        arrays = [] if self._stored is None else [self._stored]
        arrays += [
            array for (key, _), (array, _) in self._placed.items() if key == Host.description
        ]
        # In float64 the two are one.
        return super().__sizeof__() + sum({id(array): array.nbytes for array in arrays}.values())


class Orthoplex(Frame):
    """An orthoplex: classes 2j and 2j + 1 are the unit vectors e_j and -e_j.

    Half as many dimensions as classes; pairwise cosines 0, and -1 for the two of a pair.

    Parameters
    ----------
    num_classes : int
        Classes K, at least 2.
    dim : int, optional
        Dimension of the features, at least ceil(K / 2), the default.
    class_norms : array, shape (K,), optional
        As in `SimplexETF`.

    Raises
    ------
    TypeError, ValueError
        As `SimplexETF`.

    Notes
    -----
    Source: Pernici, Bruni, Baecchi and Del Bimbo, Regular polytope networks (2021); Kothapalli,
    Neural Collapse: A Review, Section 5.
    """

    def __init__(
        self, num_classes: int, dim: int | None = None, *, class_norms: ArrayLike | None = None
    ) -> None:
        count = integer(num_classes, "num_classes", 2, MAX_DIM, "2**32")
        super().__init__(count, _dim_from(dim, -(-count // 2), "Cube", count), class_norms)

    @property
    def coherence(self) -> float:
        """The largest absolute cosine: 1, of the two classes of a pair."""
        return 1.0

    def _unit_margin(self) -> float:
        return 1.0 if self.num_classes > 2 else 2.0

    def _cosines(self, rows: Any, columns: Any) -> _Float:
        return np.where(rows // 2 == columns // 2, np.where(rows == columns, 1.0, -1.0), 0.0)

    def _rows(self, class_numbers: NDArray[np.int64]) -> _Float:
        rows = np.zeros((len(class_numbers), self.dim))
        lengths = 1.0 if self.class_norms is None else self.class_norms[class_numbers]
        rows[np.arange(len(class_numbers)), class_numbers // 2] = np.where(
            class_numbers % 2 == 0, lengths, -lengths
        )
        return rows

    def _scores(self, place: Place, x: Any, classes: slice, dtype: str) -> Any:
        scores = place.empty((len(x), classes.stop - classes.start), dtype)
        for odd in (0, 1):
            first = classes.start + odd  # blocks start at even classes
            columns = x[:, first // 2 : (classes.stop - odd + 1) // 2]
            weights = self._weights(place, slice(first, classes.stop, 2), dtype)
            scores[:, odd::2] = (-columns if odd else columns) * weights
        return scores

    def _add_vectors(self, place: Place, y: Any, classes: slice, dtype: str, out: Any) -> None:
        if classes.start == 0:
            out[:] = 0.0
        first = classes.start // 2
        for odd in (0, 1):
            weights = self._weights(place, slice(classes.start + odd, classes.stop, 2), dtype)
            columns = y[:, odd::2] * weights
            axes = slice(first, first + int(columns.shape[1]))
            out[:, axes] = out[:, axes] - columns if odd else out[:, axes] + columns

    def _weights(self, place: Place, classes: slice, dtype: str) -> Any:
        return (
            1.0
            if self.class_norms is None
            else place.upload(self.class_norms[classes].astype(dtype, copy=False))
        )


class Cube(Frame):
    """A cube: the corners {1, -1}^m / sqrt(m), negative in coordinate i where bit i of c is set.

    Logarithmically few dimensions; the cosine of two classes is 1 - 2 (differing bits) / m.

    Parameters
    ----------
    num_classes : int
        Classes K, at least 2; m = ceil(log2 K).
    dim : int, optional
        Dimension of the features, at least m, the default.
    class_norms : array, shape (K,), optional
        As in `SimplexETF`.

    Raises
    ------
    TypeError, ValueError
        As `SimplexETF`.

    Notes
    -----
    Source: as `Orthoplex`.
    """

    def __init__(
        self, num_classes: int, dim: int | None = None, *, class_norms: ArrayLike | None = None
    ) -> None:
        count = integer(num_classes, "num_classes", 2, MAX_DIM, "2**32")
        self.num_bits = (count - 1).bit_length()
        super().__init__(count, _dim_from(dim, self.num_bits, None, count), class_norms)

    @property
    def coherence(self) -> float:
        """The largest absolute cosine: 1, of opposite corners."""
        return 1.0

    def _unit_margin(self) -> float:
        # Class 0 has a neighbour along every edge, whatever K.
        return 2.0 / self.num_bits

    def _cosines(self, rows: Any, columns: Any) -> _Float:
        cosines: _Float = 1.0 - np.bitwise_count(rows ^ columns) * (2.0 / self.num_bits)
        return cosines

    def _rows(self, class_numbers: NDArray[np.int64]) -> _Float:
        rows = np.zeros((len(class_numbers), self.dim))
        bits = class_numbers[:, None] >> np.arange(self.num_bits) & 1
        rows[:, : self.num_bits] = (1.0 - 2.0 * bits) / math.sqrt(self.num_bits)
        if self.class_norms is not None:
            rows *= self.class_norms[class_numbers, None]
        return rows


# --------------------------------------------------------------------------------------------------


def _dim_from(dim: int | None, least: int, alternative: str | None, num_classes: int) -> int:
    if dim is None:
        return least
    dim = integer(dim, "dim", 1, MAX_DIM, "2**32")
    if dim < least:
        or_else = "" if alternative is None else f", or {alternative}({num_classes})"
        raise ValueError(f"dim is {dim}; {num_classes} classes take dim >= {least}{or_else}")
    return dim
