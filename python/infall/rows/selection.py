"""Selections: the rows of a Gaussian layer, or of a matrix, with the largest projections."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays import files
from infall._arrays.calls import Progress, standard_floats, watch_of
from infall._arrays.checks import one_of
from infall._arrays.convert import to_numpy
from infall._arrays.locate import in_place, on_host, place_of
from infall._arrays.place import Place
from infall._arrays.threads import thread_count
from infall.rows._state import ARRAYS, checked_attributes
from infall.rows._task import SelectionTask
from infall.rows.settings import (
    ORDERS,
    SCORES,
    Order,
    Sampler,
    Score,
    checked_num_rows,
    checked_settings,
)

_FORMAT = "infall.RowSelection"
_FORMAT_VERSION = 1


@dataclass(frozen=True, eq=False)
class RowSelection:
    """The rows of a layer or matrix with the largest projections on a vector w.

    Selections are equal if their settings and all their numbers are, wherever they live; comparing
    those on a device waits for it.

    Attributes
    ----------
    indices : int64 array, shape (m,) or (B, m)
        Row numbers; -1 on a device for a w without a direction.
    projections : float64 array, shape (m,) or (B, m)
        Signed projections of the rows on w: the unit projections times ||w||.
    rows : float32 array, shape (m, k) or (B, m, k)
        The rows themselves; those of a matrix in its own dtype.
    unit_projections : float64 array, shape (m,) or (B, m)
        Signed projections on w/||w||: what the rows are ranked by. The stream sampler's are
        binary32 sums of row times w/||w||, column by column.
    width : int
        Rows of the layer or matrix selected from.
    seed, layer : int or None
        What the layer was made of; None for a matrix.
    sampler : str or None
        How the layer was sampled; None for a matrix.
    score, order : str
        As given to the selection.
    row_range : tuple of int
        First row and row past the last that were looked at.
    """

    indices: Any
    projections: Any
    rows: Any
    unit_projections: Any
    width: int
    seed: int | None
    layer: int | None
    sampler: str | None
    score: str
    order: str
    row_range: tuple[int, int]

    def regenerate(self, w: ArrayLike, *, num_threads: int | None = None) -> RowSelection:
        """Select again from the same layer with the same settings, and check that nothing changed.

        Parameters
        ----------
        w : array, shape (k,) or (B, k)
            The vector the selection was made for, which it does not keep.
        num_threads : int, optional
            Threads; does not change the result.

        Returns
        -------
        RowSelection
            Bit for bit this one, in the library of w.

        Raises
        ------
        TypeError
            For w as `select_rows`.
        ValueError
            For a selection from a matrix, which is not kept, and for another w: on a device, where
            values are not looked at, only for one of another shape.
        """
        if self.sampler is None or self.seed is None or self.layer is None:
            raise ValueError("a selection from a matrix cannot be regenerated without the matrix")
        expected = (*self.indices.shape[:-1], self.rows.shape[-1])
        place, located = place_of(w, "w")
        shape = tuple(place.array(located, "w").shape)
        if shape != expected:
            raise ValueError(f"w has shape {shape}; this selection was made for shape {expected}")
        again = select_rows(
            w,
            self.width,
            num_rows=self.indices.shape[-1],
            seed=self.seed,
            layer=self.layer,
            sampler=cast(Sampler, self.sampler),
            score=cast(Score, self.score),
            order=cast(Order, self.order),
            row_range=self.row_range,
            num_threads=num_threads,
        )
        if place.is_host and again != self:
            raise ValueError("w is not the vector that this selection was made for")
        return again

    def state_dict(self) -> dict[str, NDArray[Any] | int | str]:
        """Return what the selection is made of: NumPy arrays, integers and text.

        Returns
        -------
        dict
            The attributes by name, without seed, layer and sampler for a selection from a matrix,
            and format and version.
            Arrays in host memory are not copied; those on a device are, which waits for it.
        """
        arrays = {name: host_array(getattr(self, name)) for name in ARRAYS}
        settings = {name: getattr(self, name) for name in _SETTINGS}
        return {
            "format": _FORMAT,
            "version": _FORMAT_VERSION,
            **arrays,
            **{name: value for name, value in settings.items() if value is not None},
            "row_range": np.array(self.row_range, dtype=np.int64),
        }

    @classmethod
    def from_state_dict(cls, state: Mapping[str, Any]) -> RowSelection:
        """Make a selection of what `state_dict` has returned.

        Parameters
        ----------
        state : mapping
            As `state_dict` returns it; other keys are ignored. Arrays are not copied.

        Returns
        -------
        RowSelection
            Equal to the one that the state was taken from, of NumPy arrays.

        Raises
        ------
        TypeError
            If `state` is not a mapping.
        ValueError
            If something is missing, of another version, shape or dtype, or cannot be: settings that
            `select_rows` refuses, rows out of range, repeated or out of order, numbers that are not
            finite, or, for the stream sampler, rows that are not the layer's (the first, the middle
            and the last row are regenerated).
        """
        return files.of_state(state, _FORMAT, _FORMAT_VERSION, cls._from_arrays)

    @classmethod
    def _from_arrays(cls, state: Mapping[str, NDArray[Any]]) -> RowSelection:
        return cls(*checked_attributes(state))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the selection to one .npz file, whole or not at all.

        Parameters
        ----------
        path : path
            File to write, under exactly this name.

        Raises
        ------
        OSError
            If it cannot be written; a file of that name is then still the old one.
        """
        files.save(path, _FORMAT, _FORMAT_VERSION, self.state_dict())

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> RowSelection:
        """Read a selection that `save` has written.

        Parameters
        ----------
        path : path
            The file.

        Returns
        -------
        RowSelection
            Equal to the selection saved, of NumPy arrays.

        Raises
        ------
        OSError
            If it cannot be read.
        ValueError
            If it is truncated, damaged, foreign, of another format version or of another mapping
            of random words to rows, and as `from_state_dict`.
        """
        return files.load_object(path, _FORMAT, _FORMAT_VERSION, cls._from_arrays)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, RowSelection):
            return NotImplemented
        names = (*_SETTINGS, "row_range")
        return all(getattr(self, name) == getattr(other, name) for name in names) and all(
            np.array_equal(
                host_array(getattr(self, name)), host_array(getattr(other, name)), equal_nan=True
            )
            for name in ARRAYS
        )

    __hash__ = None  # type: ignore[assignment]  # arrays have none

    def __sizeof__(self) -> int:
        return object.__sizeof__(self) + sum(int(getattr(self, name).nbytes) for name in ARRAYS)

    def __repr__(self) -> str:
        source = "a matrix" if self.sampler is None else f"layer {self.layer} of seed {self.seed}"
        shape = tuple(self.rows.shape)
        how = "" if self.sampler is None else f", sampler={self.sampler!r}"
        return (
            f"RowSelection(rows {shape} of {self.width} from {source}{how}, score={self.score!r}, "
            f"order={self.order!r}, row_range={self.row_range})"
        )


_SETTINGS = ("width", "seed", "layer", "sampler", "score", "order")


@standard_floats
def select_rows(
    w: ArrayLike,
    width: int,
    *,
    num_rows: int | None = None,
    seed: int = 0,
    layer: int = 0,
    sampler: Sampler = "stream",
    score: Score = "absolute",
    order: Order = "index",
    row_range: tuple[int, int] | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> RowSelection:
    """Select the rows of a Gaussian layer that maximise their projection on w.

    The layer G* is (width, k) with independent N(0, 1) entries and is never stored.

    Parameters
    ----------
    w : array, shape (k,) or (B, k)
        The vector, or B vectors that share the layer (its words are then drawn once for all): any
        real dtype, layout and byte order, converted to float64. On a device values are not
        searched: for a w that is zero or not finite all indices are -1, and projections and rows
        NaN.
    width : int
        Rows n of the layer, below 2**63.
    num_rows : int, optional
        Rows m to select; k by default.
    seed : int
        0 <= seed < 2**64.
    layer : int
        Layer number, 0 <= layer < 2**32; layers are independent.
    sampler : {"stream", "rotated", "order_statistics"}
        Three exact samplers of the same law. "stream": the counter-based matrix itself, O(n k)
        time. "rotated": G* = Z H with H e_1 = w/||w||, where one column decides (B columns for a
        batch), O(n + m k). "order_statistics": the m largest of n normals drawn directly, O(m k)
        for any width up to 2**63 - 1; one w only, absolute score only, and the whole layer. For
        wider layers `infall.laws.folded_normal_top` has the law of the scores.
    score : {"absolute", "signed"}
        Rank by |row . w| or by row . w.
    order : {"index", "score"}
        Rows by ascending index (the selection is a submatrix), or by descending score; ties go to
        the lower index either way.
    row_range : (int, int), optional
        Look only at rows first <= i < last; see `merge_selections`.
    num_threads : int, optional
        Threads; all processors by default. Does not change the result.
    progress : callable, optional
        Called as progress(rows_done, rows_total, "rows") about every 50 ms; what it raises stops
        the call.

    Returns
    -------
    RowSelection
        Arrays are of the library of `w`, as far as it holds their dtypes. Bit-identical for any
        number of threads, instruction set and split into row ranges.

    Raises
    ------
    TypeError
        For kinds and dtypes: complex or text in w, a fractional width.
    RuntimeError
        For an array in device memory, if this build has no CUDA kernels.
    ValueError
        For shapes and values: num_rows above the rows there are, a reversed or outlying row_range,
        an unknown sampler, score or order; on the host also NaN, infinity or zero w, and a w so
        long that its projections overflow float64 (on a device they are infinite).
    OverflowError
        For width past 2**63 - 1.

    Notes
    -----
    Source: Wormhole Dynamics in Deep Neural Networks, Section IV, Algorithm 1; order statistics
    after Renyi (1953).

    Examples
    --------
    >>> import numpy as np
    >>> import infall
    >>> selection = infall.select_rows(np.ones(3), 2**16, seed=1)
    >>> selection.rows.shape
    (3, 3)
    >>> bool((infall.gaussian_rows(selection.indices, 3, seed=1) == selection.rows).all())
    True
    """
    place, w = place_of(w, "w")
    with place:
        vectors, batched = place.vectors(w, "w")
        batch, dim = vectors.shape
        settings, num_rows = checked_settings(
            (batch, dim), width, num_rows, seed, layer, sampler, score, order, row_range
        )
        first, last = settings.row_range
        watch = watch_of(progress, last - first, "rows")
        task = SelectionTask.of(settings, num_rows, thread_count(num_threads), watch)
        kernels = place.kernels("rows")
        directions, norms, exponents = kernels.unit_vectors(place, vectors, "w")
        selected = kernels.select(place, task, sampler, directions, norms)
        projections = kernels.projections(place, selected[1], norms, exponents)
        return selection_of(place, selected, projections, batched, settings)


@standard_floats
def select_rows_from(
    w: ArrayLike,
    weights: ArrayLike,
    *,
    num_rows: int | None = None,
    score: Score = "absolute",
    order: Order = "index",
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> RowSelection:
    """Select the rows of a given matrix that maximise their projection on w.

    The matrix is read once, in blocks, and may be memory-mapped and larger than memory; nothing as
    long as the matrix is allocated.

    Parameters
    ----------
    w : array, shape (k,) or (B, k)
        The vector or vectors; on a device not checked, as in `select_rows`.
    weights : array, shape (n, k)
        Any real dtype, strides and byte order. All but native float32 and float64 is converted
        block by block; bfloat16 in host memory, whose rows come back as float32, and integers on a
        device are converted whole. On a device it is not checked for NaN and infinity: infinite
        projections rank first, and rows whose projection is NaN are passed over (index -1,
        projection and row NaN where none other is left).
    num_rows : int, optional
        Rows m to select; k by default.
    score, order, num_threads, progress
        As in `select_rows`.

    Returns
    -------
    RowSelection
        Of the library of `w`, with seed, layer and sampler None; `rows` in the dtype of `weights`
        (float64 for integers on a device). Projections are summed column by column, in float32 for
        float16, bfloat16 and float32 and in float64 for all others: a layer given as a matrix has
        the rows selected that `select_rows` selects.

    Raises
    ------
    TypeError
        For complex numbers and text, and arrays in different places.
    ValueError
        As `select_rows`, and on the host for NaN or infinity in `weights`, with the first position.
    """
    place, w = place_of(w, "w")
    matrix = in_place(place, weights, "weights", "w")
    with place:
        matrix = place.array(matrix, "weights")
        if matrix.ndim != 2:
            raise ValueError(f"weights has {matrix.ndim} axes; expected shape (n, k)")
        if 0 in matrix.shape:
            raise ValueError(f"weights is empty: shape {tuple(matrix.shape)}")
        total, dim = matrix.shape
        vectors, batched = place.vectors(w, "w", dim=dim)
        one_of(score, "score", SCORES)
        one_of(order, "order", ORDERS)
        num_rows = checked_num_rows(num_rows, dim, total)
        threads = thread_count(num_threads)
        watch = watch_of(progress, total, "rows")
        absolute = score == "absolute"
        task = SelectionTask(0, 0, 0, total, num_rows, absolute, order == "index", threads, watch)
        kernels = place.kernels("rows")
        directions, norms, exponents = kernels.unit_vectors(place, vectors, "w")
        selected = kernels.select_from_matrix(place, task, matrix, directions)
        projections = kernels.projections(place, selected[1], norms, exponents)
        settings = (total, None, None, None, score, order, (0, total))
        return selection_of(place, selected, projections, batched, settings)


def selection_of(
    place: Place,
    selected: tuple[Any, Any, Any],
    projections: Any,
    batched: bool,
    settings: tuple[Any, ...],
) -> RowSelection:
    """Return a selection in the library of w; `settings` are its attributes from `width` on."""
    indices, unit_projections, rows = selected
    arrays = (indices, projections, rows, unit_projections)
    if not batched:
        arrays = tuple(array[0] for array in arrays)
    return RowSelection(*map(place.returned, arrays), *settings)


def host_array(array: Any) -> NDArray[Any]:
    """Return an array of a selection in host memory."""
    return to_numpy(on_host(array, "parts"), "parts")
