"""What all frames share: vectors on demand, logits, their adjoint, the nearest to class means."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall import _frame_geometry
from infall._arrays import (
    Progress,
    check_finite,
    integer,
    one_of,
    standard_floats,
    to_numpy,
    watch_of,
)
from infall._frame_geometry import FrameFit, maximum_margin
from infall._frames_device import place_of
from infall._frames_host import Structure, check_range
from infall._threads import thread_count

_DTYPES = ("float32", "float64")
_Float = NDArray[np.float64]

# Numbers of a block of vectors, and of logits that are there at a time.
BLOCK_ENTRIES = 2**20
_SCORES_PER_BLOCK = 2**22
_CLASSES_PER_BLOCK = 2**16
_PRODUCTS_PER_BLOCK = 2**31  # multiplications between two looks at Ctrl-C: under 0.1 s


class TopLogits(NamedTuple):
    """The largest logits of each vector, descending; equal ones by ascending class.

    Attributes
    ----------
    classes : int64 array, shape (N, m) or (m,)
        Class numbers.
    values : array, shape (N, m) or (m,)
        Logits, of the dtype computed with.
    """

    classes: Any
    values: Any


class Frame:
    """What frames have in common; see `SimplexETF`, `Orthoplex` and `Cube`.

    Attributes
    ----------
    num_classes, dim : int
        K and d.
    class_norms : float64 array, shape (K,), or None
        Lengths of the class vectors, where they are not one.
    """

    # What is applied by its structure; None where vectors are multiplied.
    _structure: Structure | None = None

    def __init__(self, num_classes: int, dim: int, class_norms: Any) -> None:
        self.num_classes, self.dim = num_classes, dim
        self.class_norms = _norms(class_norms, num_classes)

    @standard_floats
    def vectors(self, classes: Any = None, *, dtype: str = "float64") -> NDArray[Any]:
        """Return the vectors of all classes, or of some.

        Parameters
        ----------
        classes : integer array, shape (m,), optional
            Class numbers in any order, repeats allowed; all by default.
        dtype : {"float64", "float32"}
            Of the result; computed in float64 and rounded once.

        Returns
        -------
        array, shape (K, d) or (m, d)
            M^T: one class to a row, as class means and the weights of a linear layer are. Bit for
            bit the same for any number of threads and any instruction set.

        Raises
        ------
        TypeError
            For classes that are not integers.
        ValueError
            For numbers outside 0 <= c < K, and another dtype.
        """
        one_of(dtype, "dtype", _DTYPES)
        if classes is None:
            numbers = np.arange(self.num_classes)
        else:
            numbers = _class_numbers(classes, self.num_classes)
        found = np.empty((len(numbers), self.dim), dtype)
        step = max(1, BLOCK_ENTRIES // max(self.dim, self.num_classes))
        for first in range(0, len(numbers), step):
            block = slice(first, first + step)
            found[block] = self._rows(numbers[block])
        return found

    @standard_floats
    def project(
        self, H: Any, *, num_threads: int | None = None, progress: Progress | None = None
    ) -> Any:
        """Return the logits of all classes: H M, the analysis operator of the frame.

        Parameters
        ----------
        H : array, shape (d,) or (N, d)
            Features. float32 and float64 are computed with as they are, float16 and bfloat16 as
            float32, integers as float64.
        num_threads : int, optional
            Threads; all processors by default. Does not change the result of a structured basis;
            products of stored vectors are NumPy's, whose rounding may depend on its own threads.
        progress : callable, optional
            Called as progress(vectors_done, vectors_total, "vectors") about every 50 ms; what it
            raises stops the call.

        Returns
        -------
        float32 or float64 array, shape (K,) or (N, K)
            Of the library of `H`. `logits` needs no array of this size.

        Raises
        ------
        TypeError
            For another kind or dtype.
        ValueError
            For another shape, NaN or infinity, with the first position, and vectors so long that
            their products overflow.
        """
        with place_of(H, "H") as place:
            x = place.read("H", self.dim)
            count, threads = len(x.rows), thread_count(num_threads)
            out = place.empty((count, self.num_classes), x.dtype)
            for first, block in place.blocks(x):
                watch = watch_of(progress, count, "vectors", done_before=first)
                target = out[first : first + len(block)]
                if self._structure is not None:
                    place.project(self._structure, block, target, "H", threads, watch)
                    continue
                for rows, classes in self._tiles(len(block)):
                    target[rows, classes] = self._scores(place, block[rows], classes, x.dtype)
                    _done(watch, rows, classes, self.num_classes)
            return place.returned(out if x.batched else out[0])

    @standard_floats
    def adjoint(
        self, Y: Any, *, num_threads: int | None = None, progress: Progress | None = None
    ) -> Any:
        """Return the combinations of class vectors Y M^T, the synthesis operator of the frame.

        ``sum(project(h) * y) == sum(h * adjoint(y))`` up to rounding.

        Parameters
        ----------
        Y : array, shape (K,) or (N, K)
            Coefficients.
        num_threads, progress
            As in `project`.

        Returns
        -------
        float32 or float64 array, shape (d,) or (N, d)
            Of the library of `Y`.

        Raises
        ------
        TypeError, ValueError
            As `project`.
        """
        with place_of(Y, "Y") as place:
            y = place.read("Y", self.num_classes)
            count, threads = len(y.rows), thread_count(num_threads)
            out = place.empty((count, self.dim), y.dtype)
            for first, block in place.blocks(y):
                watch = watch_of(progress, count, "vectors", done_before=first)
                target = out[first : first + len(block)]
                if self._structure is not None:
                    place.synthesise(self._structure, block, target, "Y", threads, watch)
                    continue
                for rows, classes in self._tiles(len(block)):
                    self._add_vectors(place, block[rows, classes], classes, y.dtype, target[rows])
                    _done(watch, rows, classes, self.num_classes)
            return place.returned(out if y.batched else out[0])

    @standard_floats
    def logits(
        self,
        H: Any,
        num_top: int = 1,
        *,
        num_threads: int | None = None,
        progress: Progress | None = None,
    ) -> TopLogits:
        """Return the largest logits of each feature, without an array of all of them.

        Parameters
        ----------
        H : array, shape (d,) or (N, d)
            Features, as in `project`.
        num_top : int
            How many, m <= K.
        num_threads, progress
            As in `project`.

        Returns
        -------
        TopLogits
            Classes and values, of the library of `H`: the m largest of what `project` gives.
            Memory beyond the result: d numbers per thread, or a fixed block.

        Raises
        ------
        TypeError, ValueError
            As `project`.
        """
        num_top = integer(num_top, "num_top", 1, self.num_classes + 1)
        with place_of(H, "H") as place:
            x = place.read("H", self.dim)
            count, threads = len(x.rows), thread_count(num_threads)
            classes = place.empty((count, num_top), "int64")
            values = place.empty((count, num_top), x.dtype)
            for first, block in place.blocks(x):
                watch = watch_of(progress, count, "vectors", done_before=first)
                here = slice(first, first + len(block))
                found = classes[here], values[here]
                if self._structure is not None:
                    place.top_logits(self._structure, block, *found, "H", threads, watch)
                else:
                    overflowed = self._top_scores(place, block, *found, threads, watch)
                    if overflowed is not None:
                        check_range(overflowed, f"H[{first + overflowed}]" if x.batched else "H")
            if not x.batched:
                classes, values = classes[0], values[0]
            return TopLogits(place.returned(classes), place.returned(values))

    def classify(
        self, H: Any, *, num_threads: int | None = None, progress: Progress | None = None
    ) -> Any:
        """Return the class with the largest logit of each feature; of equal ones the first.

        Parameters
        ----------
        H : array, shape (d,) or (N, d)
            Features, as in `project`.
        num_threads, progress
            As in `project`.

        Returns
        -------
        int64 array, shape () or (N,)
            Of the library of `H`.

        Raises
        ------
        TypeError, ValueError
            As `project`.
        """
        return self.logits(H, num_threads=num_threads, progress=progress).classes[..., 0]

    def gram_error(self, classes: Any = None, *, dtype: str = "float64") -> float:
        """Return the largest deviation of the Gram matrix of the vectors from what it should be.

        Parameters
        ----------
        classes, dtype
            Of the vectors that are made and compared, as in `vectors`. All pairs take O(K^2 d).

        Returns
        -------
        float
            max |<v_c, v_c'> - norm_c norm_c' cos_cc'|, the products in float64.

        Raises
        ------
        TypeError, ValueError
            As `vectors`.
        """
        numbers = np.arange(self.num_classes)
        if classes is not None:
            numbers = _class_numbers(classes, self.num_classes)
        rows = self.vectors(numbers, dtype=dtype).astype(np.float64, copy=False)
        lengths = np.ones(len(rows)) if self.class_norms is None else self.class_norms[numbers]
        worst, step = 0.0, max(1, _PRODUCTS_PER_BLOCK // max(1, rows.size))
        for first in range(0, len(rows), step):
            here = slice(first, first + step)
            expected = self._cosines(numbers[here, None], numbers)
            expected *= lengths[here, None] * lengths
            worst = max(worst, float(np.abs(rows[here] @ rows.T - expected).max()))
        return worst

    @property
    def coherence(self) -> float:
        """The largest absolute cosine between vectors of two classes; see `welch_bound`."""
        raise NotImplementedError

    @property
    def maximum_margin(self) -> float:
        """The margin as a fixed classifier of unit features, as `infall.frames.maximum_margin`.

        In closed form where all vectors have length one: 1 minus the largest cosine, which the
        features along the class vectors attain.
        """
        if self.class_norms is not None:
            return maximum_margin(self.vectors())
        return self._unit_margin()

    def nearest(self, means: Any) -> FrameFit:
        """Return the nearest scaled rotation of the frame to class means (Procrustes).

        The frame with unit lengths is scaled, rotated and moved: alpha >= 0, R orthonormal and the
        centre minimise the Frobenius distance to the means. The result is exact to rounding where
        the means are such a frame.

        Parameters
        ----------
        means : array, shape (K, d)
            Class means, one to a row; a common offset is taken off first. From a device they are
            read back, which waits for the stream.

        Returns
        -------
        FrameFit
            In float64, arrays of the library of `means`.

        Raises
        ------
        TypeError
            For another kind or dtype.
        ValueError
            For another shape, NaN or infinity, and means that coincide.

        Notes
        -----
        One singular value decomposition of NumPy's, (K - 1) x d for a simplex ETF and d x d for
        others, which Ctrl-C does not interrupt.

        Source: Schoenemann (1966), A generalized solution of the orthogonal Procrustes problem.
        """
        values, returned = _frame_geometry.read_means(means, self.num_classes, self.dim)
        return self._fit(values, returned)

    def project_means(self, means: Any, t: float) -> Any:
        """Return class means moved a fraction of the way towards the nearest frame.

        Parameters
        ----------
        means : array, shape (K, d)
            As in `nearest`.
        t : float
            From 0, where the means are, to 1, at the fitted frame.

        Returns
        -------
        float64 array, shape (K, d)
            ``(1 - t) means + t (centre + scale * vectors)``, of the library of `means`.

        Raises
        ------
        TypeError, ValueError
            As `nearest`, and for t outside [0, 1].

        Notes
        -----
        Source: the geodesic prediction of Progressive Feedforward Collapse, Eq. 10.
        """
        if isinstance(t, (bool, np.bool_)) or not isinstance(t, (int, float, np.number)):
            raise TypeError(f"t is {t!r}; expected a number")
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"t is {t}; expected 0 <= t <= 1")
        values, returned = _frame_geometry.read_means(means, self.num_classes, self.dim)
        fit = self._fit(values, lambda array: array)
        return returned((1.0 - t) * values + t * (fit.centre + fit.scale * fit.vectors))

    # What a kind of frame says of itself.

    def _rows(self, numbers: NDArray[np.int64]) -> _Float:
        """Vectors of some classes, (m, d)."""
        raise NotImplementedError

    def _cosines(self, rows: Any, columns: Any) -> _Float:
        """Cosines between classes, as they should be."""
        raise NotImplementedError

    def _unit_margin(self) -> float:
        raise NotImplementedError

    def _fit(self, means: _Float, returned: Callable[[_Float], Any]) -> FrameFit:
        unit = self.vectors()
        if self.class_norms is not None:
            unit /= self.class_norms[:, None]
        return _frame_geometry.fit(means, unit, returned, lambda: np.eye(self.dim))

    # Without a structure: products with vectors, block by block.

    def _block(self, place: Any, classes: slice, dtype: str) -> Any:
        """Vectors (b, d) of a block of classes, where the features are."""
        return place.constant(self._rows(np.arange(classes.start, classes.stop)), dtype)

    def _scores(self, place: Any, x: Any, classes: slice, dtype: str) -> Any:
        return x @ self._block(place, classes, dtype).T

    def _add_vectors(self, place: Any, y: Any, classes: slice, dtype: str, out: Any) -> None:
        found = y @ self._block(place, classes, dtype)
        out[:] = found if classes.start == 0 else out[:] + found

    def _tiles(self, count: int) -> list[tuple[slice, slice]]:
        """Rows and classes of the blocks that `count` vectors are worked through in."""
        width = min(self.num_classes, _CLASSES_PER_BLOCK)
        height = max(1, _PRODUCTS_PER_BLOCK // (width * self.dim))
        height = min(height, max(1, _SCORES_PER_BLOCK // width))
        return [
            (slice(i, min(i + height, count)), slice(c, min(c + width, self.num_classes)))
            for i in range(0, count, height)
            for c in range(0, self.num_classes, width)
        ]

    def _top_scores(
        self, place: Any, x: Any, classes: Any, values: Any, threads: int, watch: Any
    ) -> int | None:
        """Return the number of a vector whose scores overflowed, or None."""
        num_top, dtype = int(classes.shape[1]), values.dtype
        dtype = str(dtype).removeprefix("torch.")
        for rows, block in self._tiles(len(x)):
            width, height = block.stop - block.start, rows.stop - rows.start
            with np.errstate(over="ignore", invalid="ignore"):  # refused below
                scores = self._scores(place, x[rows], block, dtype)
            best = min(num_top, width)
            found = place.empty((height, best), "int64"), place.empty((height, best), dtype)
            overflowed = place.top_scores(scores, None, *found, threads)
            if overflowed is not None:
                return int(rows.start + overflowed)
            if block.start > 0:  # beside the best of the blocks before
                held = min(num_top, block.start)
                labels = place.empty((height, held + best), "int64")
                merged = place.empty((height, held + best), dtype)
                labels[:, :held], merged[:, :held] = classes[rows, :held], values[rows, :held]
                labels[:, held:], merged[:, held:] = found[0] + block.start, found[1]
                best = min(num_top, held + best)
                found = place.empty((height, best), "int64"), place.empty((height, best), dtype)
                place.top_scores(merged, labels, *found, threads)
            classes[rows, :best], values[rows, :best] = found
            _done(watch, rows, block, self.num_classes)
        return None

    def __repr__(self) -> str:
        norms = "" if self.class_norms is None else ", class_norms=..."
        return f"{type(self).__name__}({self.num_classes}, {self.dim}{self._settings()}{norms})"

    def _settings(self) -> str:
        return ""


# --------------------------------------------------------------------------------------------------


def _norms(class_norms: Any, num_classes: int) -> _Float | None:
    if class_norms is None:
        return None
    norms = np.array(to_numpy(class_norms, "class_norms"), dtype=np.float64)
    if norms.shape != (num_classes,):
        raise ValueError(f"class_norms has shape {norms.shape}; expected {(num_classes,)}")
    check_finite(norms, "class_norms")
    if (norms <= 0.0).any():
        c = int(np.argmin(norms))
        raise ValueError(f"class_norms is {norms[c]} at position {c}; expected positive lengths")
    norms.flags.writeable = False
    return norms


def _class_numbers(classes: Any, num_classes: int) -> NDArray[np.int64]:
    numbers = to_numpy(classes, "classes")
    if numbers.size == 0 and not hasattr(classes, "dtype"):
        numbers = numbers.astype(np.int64)  # an empty list has no dtype of its own
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"classes has dtype {numbers.dtype}; expected integers")
    if numbers.ndim != 1:
        raise ValueError(f"classes has {numbers.ndim} axes; expected shape (m,)")
    bad = (numbers < 0) | (numbers >= num_classes)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"classes is {numbers[i]} at position {i}; expected 0 <= class < {num_classes}"
        )
    return numbers.astype(np.int64)


def _done(
    watch: Callable[[int], object] | None, rows: slice, classes: slice, num_classes: int
) -> None:
    if watch is not None and classes.stop == num_classes:
        watch(rows.stop)
