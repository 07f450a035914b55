"""What all frames share: vectors on demand, logits, their adjoint, the nearest to class means."""

from __future__ import annotations

import abc
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from infall._arrays import gradients as _gradients
from infall._arrays.blocks import block_size
from infall._arrays.calls import Progress, Watch, standard_floats, watch_of
from infall._arrays.checks import check_finite, integer
from infall._arrays.convert import to_numpy
from infall._arrays.locate import place_of
from infall._arrays.place import Place
from infall._arrays.threads import thread_count
from infall.frames._host import Structure, Vectors
from infall.frames._simplex import tiles
from infall.frames.fit import FrameFit, fitted_frame, read_means
from infall.frames.measures import maximum_margin

_DTYPES = ("float32", "float64")
_Float = NDArray[np.float64]

# Numbers of a block of vectors, and of logits that are there at a time.
BLOCK_ENTRIES = 2**20
_SCORES_PER_BLOCK = 2**22
_ROWS_PER_BLOCK = 2**6  # at least, where so many vectors come
_PRODUCTS_PER_BLOCK = 2**31  # multiplications between two looks at Ctrl-C: under 0.1 s


class TopK(NamedTuple):
    """The largest logits of each vector, descending; equal ones by ascending class.

    Attributes
    ----------
    values : array, shape (N, k) or (k,)
        Logits, of the dtype computed with.
    classes : int64 array, shape (N, k) or (k,)
        Class numbers.
    """

    values: Any
    classes: Any


class Frame(abc.ABC):
    """What frames have in common; see `SimplexETF`, `Orthoplex` and `Cube`.

    A frame does not change once it is made. Frames of equal settings are equal and have one hash;
    any number of threads may use one; it can be pickled and copied.

    Attributes
    ----------
    num_classes, dim : int
        K and d.
    class_norms : float64 array, shape (K,), or None
        Lengths of the class vectors, where they are not one.
    """

    # What is applied by its structure; None where vectors are multiplied.
    _structure: Structure | None = None

    def __init__(self, num_classes: int, dim: int, class_norms: ArrayLike | None) -> None:
        self.num_classes, self.dim = num_classes, dim
        self.class_norms = _norms(class_norms, num_classes)

    @standard_floats
    def vectors(
        self, classes: ArrayLike | None = None, *, dtype: DTypeLike = "float64"
    ) -> NDArray[Any]:
        """Return the vectors of all classes, or of some.

        Parameters
        ----------
        classes : integer array, shape (m,), optional
            Class numbers in any order, repeats allowed; all by default.
        dtype : NumPy dtype or its name
            float64 or float32, of the result; computed in float64 and rounded once.

        Returns
        -------
        NumPy array, shape (K, d) or (m, d)
            M^T: one class to a row, as class means and the weights of a linear layer are. Bit for
            bit the same for any number of threads and any instruction set.

        Raises
        ------
        TypeError
            For classes that are not integers, and anything but a dtype of NumPy.
        ValueError
            For numbers outside 0 <= c < K, another dtype, and lengths that it cannot hold.
        """
        result = _result_dtype(dtype)
        class_numbers = _checked_classes(classes, self.num_classes)
        vectors = np.empty((len(class_numbers), self.dim), result)
        step = max(1, BLOCK_ENTRIES // max(self.dim, self.num_classes))
        for first in range(0, len(class_numbers), step):
            block = slice(first, first + step)
            with np.errstate(over="ignore", invalid="ignore"):
                vectors[block] = self._rows(class_numbers[block])
            if self.class_norms is None:
                continue
            finite = np.isfinite(vectors[block]).all(axis=1)
            if not finite.all():
                c = int(class_numbers[first + int(np.argmin(finite))])
                raise ValueError(
                    f"class_norms is {self.class_norms[c]} at position {c}: the vector overflows "
                    f"{result}"
                )
        return vectors

    @standard_floats
    def project(
        self, H: ArrayLike, *, num_threads: int | None = None, progress: Progress | None = None
    ) -> Any:
        """Return the logits of all classes: H M, the analysis operator of the frame.

        Parameters
        ----------
        H : array, shape (d,) or (N, d)
            Features; N may be 0. float32 and float64 are computed with as they are, float16 and
            bfloat16 as float32, integers as float64. Of a PyTorch tensor that requires a gradient
            PyTorch differentiates the logits, any number of times: the gradient of `project` is
            `adjoint`.
        num_threads : int, optional
            Threads; all processors by default. Does not change the result of a structured basis;
            products of stored vectors are NumPy's, whose rounding may depend on its own threads.
        progress : callable, optional
            Called as progress(vectors_done, vectors_total, "vectors") about every 50 ms; what it
            raises stops the call.

        Returns
        -------
        float32 or float64 array, shape (K,) or (N, K)
            Of the library of `H`.

        Raises
        ------
        TypeError
            For another kind or dtype.
        ValueError
            For another shape; for NaN, infinity and vectors so long that their products overflow,
            with the first position. So are gradients refused, under the name of `adjoint`'s
            argument. On a device values are taken as they are, and what overflows is infinite.

        See Also
        --------
        topk, classify : The largest of them, without an array of all.
        """
        if _gradients.is_tracked(H):
            project = partial(self.project, num_threads=num_threads, progress=progress)
            return _gradients.product(H, project, partial(self.adjoint, num_threads=num_threads))
        return self._products(H, "H", False, num_threads, progress)

    @standard_floats
    def adjoint(
        self, Y: ArrayLike, *, num_threads: int | None = None, progress: Progress | None = None
    ) -> Any:
        """Return the combinations of class vectors Y M^T, the synthesis operator of the frame.

        ``sum(project(h) * y) == sum(h * adjoint(y))`` up to rounding.

        Parameters
        ----------
        Y : array, shape (K,) or (N, K)
            Coefficients; as `H` of `project`, with `project` for its gradient.
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
        if _gradients.is_tracked(Y):
            adjoint = partial(self.adjoint, num_threads=num_threads, progress=progress)
            return _gradients.product(Y, adjoint, partial(self.project, num_threads=num_threads))
        return self._products(Y, "Y", True, num_threads, progress)

    def _products(
        self,
        array: ArrayLike,
        name: str,
        adjoint: bool,
        num_threads: int | None,
        progress: Progress | None,
    ) -> Any:
        lengths = (self.num_classes, self.dim) if adjoint else (self.dim, self.num_classes)
        place, located = place_of(array, name)
        with place:
            kernels = place.kernels("frames")
            x = kernels.read(place, located, name, lengths[0])
            threads, careful = thread_count(num_threads), x.may_overflow(*self._growth())
            count = len(x.rows)
            out = place.empty((count, lengths[1]), x.dtype)
            for first, block in kernels.blocks(place, x):
                watch = watch_of(progress, count, "vectors", done_before=first)
                target = out[first : first + len(block)]
                overflowed = None
                if self._structure is not None:
                    kernel = kernels.synthesise if adjoint else kernels.project
                    overflowed = kernel(place, self._structure, block, target, threads, watch)
                else:
                    for rows, classes in self._tiles(len(block)):
                        with np.errstate(over="ignore", invalid="ignore"):
                            if adjoint:
                                y = block[rows, classes]
                                self._add_vectors(place, y, classes, x.dtype, target[rows])
                            else:
                                scores = self._scores(place, block[rows], classes, x.dtype)
                                target[rows, classes] = scores
                        _done(watch, rows, classes, self.num_classes)
                if careful:
                    x.check_products(first, target, overflowed)
            return place.returned(out if x.batched else out[0])

    @standard_floats
    def topk(
        self,
        H: ArrayLike,
        k: int = 1,
        *,
        num_threads: int | None = None,
        progress: Progress | None = None,
    ) -> TopK:
        """Return the largest logits of each feature, without an array of all of them.

        Parameters
        ----------
        H : array, shape (d,) or (N, d)
            Features, as in `project`; PyTorch does not differentiate their largest logits.
        k : int
            How many, 1 <= k <= K.
        num_threads, progress
            As in `project`.

        Returns
        -------
        TopK
            Values and classes, of the library of `H`: the k largest of what `project` gives,
            ordered as `torch.topk` orders them; equal ones by ascending class. Memory beyond the
            result: d numbers per thread, or a fixed block.

        Raises
        ------
        TypeError, ValueError
            As `project`.
        """
        k = integer(k, "k", 1, self.num_classes + 1)
        place, located = place_of(H, "H")
        with place:
            kernels = place.kernels("frames")
            x = kernels.read(place, located, "H", self.dim)
            threads, careful = thread_count(num_threads), x.may_overflow(*self._growth())
            count = len(x.rows)
            classes = place.empty((count, k), "int64")
            logits = place.empty((count, k), x.dtype)
            for first, block in kernels.blocks(place, x):
                watch = watch_of(progress, count, "vectors", done_before=first)
                part = slice(first, first + len(block))
                target = classes[part], logits[part]
                if self._structure is not None:
                    overflowed = kernels.top_logits(
                        place, self._structure, block, *target, threads, watch
                    )
                    if careful:
                        x.check_products(first, target[1], overflowed)
                else:
                    self._top_scores(place, block, *target, threads, watch, x, first)
            if not x.batched:
                classes, logits = classes[0], logits[0]
            return TopK(place.returned(logits), place.returned(classes))

    def classify(
        self, H: ArrayLike, *, num_threads: int | None = None, progress: Progress | None = None
    ) -> Any:
        """Return the class with the largest logit of each feature; of equal ones the first.

        Parameters
        ----------
        H : array, shape (d,) or (N, d)
            Features, as in `topk`.
        num_threads, progress
            As in `project`.

        Returns
        -------
        int64 array, shape (N,); for one feature a scalar
            Of the library of `H`. The scalar is a NumPy integer, or what indexing an array of
            another library gives, as a tensor without axes.

        Raises
        ------
        TypeError, ValueError
            As `project`.
        """
        classes = self.topk(H, num_threads=num_threads, progress=progress).classes
        return classes[0] if classes.ndim == 1 else classes[:, 0]

    def gram_error(
        self,
        classes: ArrayLike | None = None,
        *,
        dtype: DTypeLike = "float64",
        progress: Progress | None = None,
    ) -> float:
        """Return the largest deviation of the cosines of the vectors from what they should be.

        Parameters
        ----------
        classes, dtype
            Of the vectors that are made and compared, as in `vectors`. All pairs take O(K^2 d).
        progress : callable, optional
            Called as progress(classes_done, classes_total, "classes").

        Returns
        -------
        float
            max |<v_c, v_c'> / (norm_c norm_c') - cos_cc'|, the products in float64: the deviation
            of the Gram matrix where all lengths are one. It does not depend on them.

        Raises
        ------
        TypeError, ValueError
            As `vectors`.
        """
        class_numbers = _checked_classes(classes, self.num_classes)
        rows = self.vectors(class_numbers, dtype=dtype).astype(np.float64, copy=False)
        watch = watch_of(progress, len(rows), "classes")
        worst, blocks = 0.0, list(tiles(len(rows), self.dim))
        if self.class_norms is not None:
            for block in blocks:
                rows[block] /= self.class_norms[class_numbers[block], None]
        for i, first in enumerate(blocks):
            for second in blocks[: i + 1]:
                deviations = rows[first] @ rows[second].T
                deviations -= self._cosines(class_numbers[first, None], class_numbers[second])
                worst = max(worst, float(np.abs(deviations, out=deviations).max()))
            if watch is not None:
                watch(first.stop)
        return worst

    @property
    @abc.abstractmethod
    def coherence(self) -> float:
        """The largest absolute cosine between vectors of two classes; see `welch_bound`."""

    @property
    def maximum_margin(self) -> float:
        """The margin as a fixed classifier of unit features, as `infall.frames.maximum_margin`.

        In closed form where all vectors have length one: 1 minus the largest cosine, which the
        features along the class vectors attain.
        """
        if self.class_norms is not None:
            return maximum_margin(self.vectors())
        return self._unit_margin()

    def nearest(self, means: ArrayLike) -> FrameFit:
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
            For another shape, NaN or infinity, means that coincide, and means so long that their
            distance to the frame overflows.

        Notes
        -----
        One singular value decomposition of NumPy's, (K - 1) x d for a simplex ETF and d x d for
        others. LAPACK cannot be left before it is done: Ctrl-C is answered after it, and the
        last bits are those of its rounding, on the machine and the threads it takes.

        Source: Schoenemann (1966), A generalized solution of the orthogonal Procrustes problem.
        """
        class_means, returned = read_means(means, self.num_classes, self.dim)
        return self._fit(class_means, returned)

    def project_means(self, means: ArrayLike, t: float) -> Any:
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
        if isinstance(t, bool) or not isinstance(t, (int, float, np.integer, np.floating)):
            raise TypeError(f"t is {t!r}; expected a real number")
        if not 0.0 <= t <= 1.0:
            raise ValueError(f"t is {t}; expected 0 <= t <= 1")
        class_means, returned = read_means(means, self.num_classes, self.dim)
        fit = self._fit(class_means, lambda array: array)
        return returned((1.0 - t) * class_means + t * (fit.centre + fit.scale * fit.vectors))

    # What a kind of frame says of itself.

    @abc.abstractmethod
    def _rows(self, class_numbers: NDArray[np.int64]) -> _Float:
        """Vectors of some classes, (m, d)."""

    @abc.abstractmethod
    def _cosines(self, rows: NDArray[np.int64], columns: NDArray[np.int64]) -> _Float:
        """Cosines between classes, as they should be."""

    @abc.abstractmethod
    def _unit_margin(self) -> float: ...

    def _settings(self) -> dict[str, Any]:
        """Return what else makes the frame, by the names of the arguments."""
        return {}

    def _fit(self, means: _Float, returned: Callable[[_Float], Any]) -> FrameFit:
        return fitted_frame(means, self._unit_vectors(), returned, self._span)

    def _span(self) -> _Float:
        """Orthonormal rows (r, d) that the unit vectors are combinations of."""
        return np.eye(self.dim)

    def _unit_vectors(self) -> _Float:
        unit = self.vectors()
        if self.class_norms is not None:
            unit /= self.class_norms[:, None]
        return unit

    def _growth(self) -> tuple[int, float]:
        """Length and largest weight of the sums that products are made of."""
        weight = 1.0 if self.class_norms is None else float(self.class_norms.max())
        return max(self.num_classes, self.dim), weight

    # Without a structure: products with vectors, block by block.

    def _block(self, place: Place, classes: slice, dtype: str) -> Any:
        """Vectors (b, d) of a block of classes, where the features are."""
        rows = self._rows(np.arange(classes.start, classes.stop))
        return place.upload(rows.astype(dtype, copy=False))

    def _scores(self, place: Place, x: Any, classes: slice, dtype: str) -> Any:
        return x @ self._block(place, classes, dtype).T

    def _add_vectors(self, place: Place, y: Any, classes: slice, dtype: str, out: Any) -> None:
        part = y @ self._block(place, classes, dtype)
        out[:] = part if classes.start == 0 else out[:] + part

    def _tiles(self, count: int) -> list[tuple[slice, slice]]:
        """Rows and classes of the blocks that `count` vectors are worked through in."""
        scores = block_size(_SCORES_PER_BLOCK)
        width = min(self.num_classes, max(1, scores // _ROWS_PER_BLOCK))
        height = max(1, min(_PRODUCTS_PER_BLOCK // (width * self.dim), scores // width))
        return [
            (slice(i, min(i + height, count)), slice(c, min(c + width, self.num_classes)))
            for i in range(0, count, height)
            for c in range(0, self.num_classes, width)
        ]

    def _top_scores(
        self,
        place: Place,
        x: Any,
        classes: Any,
        logits: Any,
        threads: int,
        watch: Watch,
        vectors: Vectors,
        first: int,
    ) -> None:
        num_top, dtype = int(classes.shape[1]), place.dtype_name(logits)
        kernels = place.kernels("frames")
        for rows, block in self._tiles(len(x)):
            width, height = block.stop - block.start, rows.stop - rows.start
            with np.errstate(over="ignore", invalid="ignore"):  # refused below
                scores = self._scores(place, x[rows], block, dtype)
            best = min(num_top, width)
            top = place.empty((height, best), "int64"), place.empty((height, best), dtype)
            overflowed = kernels.top_scores(place, scores, None, *top, threads)
            if overflowed is not None:
                vectors.check_products(first + rows.start, scores, overflowed)
            if block.start > 0:  # beside the best of the blocks before
                held = min(num_top, block.start)
                labels = place.empty((height, held + best), "int64")
                merged = place.empty((height, held + best), dtype)
                labels[:, :held], merged[:, :held] = classes[rows, :held], logits[rows, :held]
                labels[:, held:], merged[:, held:] = top[0] + block.start, top[1]
                best = min(num_top, held + best)
                top = place.empty((height, best), "int64"), place.empty((height, best), dtype)
                kernels.top_scores(place, merged, labels, *top, threads)
            classes[rows, :best], logits[rows, :best] = top
            _done(watch, rows, block, self.num_classes)

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_") and name in self.__dict__:
            raise AttributeError(f"{name} of a frame cannot be changed; make another frame")
        super().__setattr__(name, value)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if self.class_norms is not None:
            self.class_norms.flags.writeable = False

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[Any, ...]:
        norms = None if self.class_norms is None else self.class_norms.tobytes()
        return type(self), self.num_classes, self.dim, *self._settings().values(), norms

    def __repr__(self) -> str:
        settings = "".join(f", {name}={value!r}" for name, value in self._settings().items())
        norms = "" if self.class_norms is None else ", class_norms=..."
        return f"{type(self).__name__}({self.num_classes}, {self.dim}{settings}{norms})"

    def __sizeof__(self) -> int:
        norms = 0 if self.class_norms is None else self.class_norms.nbytes
        return super().__sizeof__() + norms


# --------------------------------------------------------------------------------------------------


def _norms(class_norms: ArrayLike | None, num_classes: int) -> _Float | None:
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


def _result_dtype(dtype: DTypeLike) -> str:
    try:
        name = np.dtype(dtype).name
    except TypeError:
        raise TypeError(f"dtype is {dtype!r}; expected float32 or float64 of NumPy") from None
    if name not in _DTYPES:
        raise ValueError(f"dtype is {name}; expected {' or '.join(_DTYPES)}")
    return name


def _checked_classes(classes: ArrayLike | None, num_classes: int) -> NDArray[np.int64]:
    if classes is None:
        return np.arange(num_classes)
    class_numbers = to_numpy(classes, "classes")
    if class_numbers.size == 0 and not hasattr(classes, "dtype"):
        class_numbers = class_numbers.astype(np.int64)  # an empty list has no dtype of its own
    if class_numbers.dtype.kind not in "iu":
        raise TypeError(f"classes has dtype {class_numbers.dtype}; expected integers")
    if class_numbers.ndim != 1:
        raise ValueError(f"classes has {class_numbers.ndim} axes; expected shape (m,)")
    bad = (class_numbers < 0) | (class_numbers >= num_classes)
    if bad.any():
        i = int(np.argmax(bad))
        raise ValueError(
            f"classes is {class_numbers[i]} at position {i}; expected 0 <= class < {num_classes}"
        )
    return class_numbers.astype(np.int64)


def _done(
    watch: Callable[[int], object] | None, rows: slice, classes: slice, num_classes: int
) -> None:
    if watch is not None and classes.stop == num_classes:
        watch(rows.stop)
