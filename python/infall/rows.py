"""Rows of very wide Gaussian layers: regenerated, selected and used as hyperplanes.

A layer is a matrix of independent standard normals whose entry (i, j) is a pure function of
(seed, layer, i, j); see docs/random-rows.md. None of its width is ever stored.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy import special

from infall import _core
from infall._arrays import (
    MAX_DIM,
    MAX_ROWS,
    check_finite,
    integer,
    largest_magnitudes,
    like,
    one_of,
    padded_float32,
    row_count,
    seed_and_layer,
    thread_count,
    to_numpy,
    unit_vectors,
    vector_blocks,
    vectors,
)

Sampler = Literal["stream", "rotated", "order_statistics"]
Score = Literal["absolute", "signed"]
Order = Literal["index", "score"]
Progress = Callable[[int, int], object]
_Found = list[tuple[NDArray[np.int64], NDArray[np.float64]]]

_SAMPLERS = ("stream", "rotated", "order_statistics")
_SCORES = ("absolute", "signed")
_ORDERS = ("index", "score")


@dataclass(frozen=True, eq=False)
class RowSelection:
    """The rows of a layer or matrix with the largest projections on a vector w.

    Attributes
    ----------
    indices : int64 array, shape (m,) or (B, m)
        Row numbers.
    projections : float64 array, shape (m,) or (B, m)
        Signed projections of the rows on w: the unit projections times ||w||.
    rows : float32 array, shape (m, k) or (B, m, k)
        The rows themselves.
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

    def regenerate(self, w: Any, *, num_threads: int | None = None) -> RowSelection:
        """Select again from the same layer with the same settings.

        Parameters
        ----------
        w : array, shape (k,) or (B, k)
            The vector the selection was made for.
        num_threads : int, optional
            Threads; does not change the result.

        Returns
        -------
        RowSelection
            Bit for bit this one, for the same w.

        Raises
        ------
        ValueError
            For a selection from a matrix, which is not kept.
        """
        if self.sampler is None or self.seed is None or self.layer is None:
            raise ValueError("a selection from a matrix cannot be regenerated without the matrix")
        return select_rows(
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

    def __repr__(self) -> str:
        source = "a matrix" if self.sampler is None else f"layer {self.layer} of seed {self.seed}"
        shape = tuple(self.rows.shape)
        how = "" if self.sampler is None else f", sampler={self.sampler!r}"
        return (
            f"RowSelection(rows {shape} of {self.width} from {source}{how}, score={self.score!r}, "
            f"order={self.order!r}, row_range={self.row_range})"
        )


def select_rows(
    w: Any,
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
        The vector, or B vectors that share the layer (its words are then drawn once for all).
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
        time. "rotated": G* = Z H with H e_1 = w/||w||, so that one column decides (B columns for a
        batch), O(n + m k). "order_statistics": the m largest of n normals drawn directly, O(m k)
        for any n; one w only, absolute score only, and the whole layer.
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
        Called as progress(rows_done, rows_total) about every 50 ms; what it raises stops the call.

    Returns
    -------
    RowSelection
        Arrays are of the library of `w`. For "stream" and "rotated" bit-identical for any number of
        threads, instruction set and split into row ranges; "order_statistics" additionally
        evaluates SciPy's inverse error function.

    Raises
    ------
    TypeError
        For kinds and dtypes: complex or text in w, a fractional width, device memory.
    ValueError
        For shapes and values: NaN, infinity or zero w, num_rows above the rows there are, a
        reversed or outlying row_range, an unknown sampler, score or order.
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
    values, batched = vectors(w, "w")
    batch, dim = values.shape
    width = row_count(width, "width")
    one_of(sampler, "sampler", _SAMPLERS)
    one_of(score, "score", _SCORES)
    one_of(order, "order", _ORDERS)
    seed, layer = seed_and_layer(seed, layer)
    first, last = _row_range(row_range, width)
    num_rows = _num_rows(num_rows, dim, last - first)
    threads = thread_count(num_threads)
    watch = _watch(progress, last - first)
    absolute = score == "absolute"
    if num_rows * dim * batch >= 2**60:
        raise ValueError(f"num_rows is {num_rows}; {batch} x {num_rows} rows of {dim} do not fit")
    directions, norms, exponents = unit_vectors(values, "w")

    if sampler == "stream":
        padded = padded_float32(directions)

        def select(threshold: float) -> _Found:
            return _core.select_stream(
                padded,
                dim,
                seed,
                layer,
                first,
                last,
                num_rows,
                absolute,
                threshold,
                threads,
                watch,
            )

        indices, unit_projections = _selected(select, num_rows, last - first, absolute)
    else:
        if sampler == "order_statistics":
            _require_whole_layer(batch, absolute, (first, last) == (0, width))
        reflections, scale, factors = _core.householder(directions)
        if sampler == "order_statistics":
            spacings, signs, drawn = _core.draw_order_statistics(num_rows, 0, width, seed, layer)
            magnitudes = _largest_folded_normals(spacings, width)
            indices = drawn[None]
            unit_projections = np.where(signs, -magnitudes, magnitudes)[None]
            if watch is not None:
                watch(width)
        else:
            if batch == 1:
                factors = np.ones((1, 1))  # the direction's norm, exactly

            def select(threshold: float) -> _Found:
                return _core.select_rotated(
                    factors, seed, layer, first, last, num_rows, absolute, threshold, threads, watch
                )

            indices, unit_projections = _selected(select, num_rows, last - first, absolute)

    if order == "index":
        indices, unit_projections = _by_index(indices, unit_projections)
    rows = np.empty((batch * num_rows, dim), dtype=np.float32)
    numbers = indices.ravel()
    _core.gaussian_rows(numbers, rows, seed, layer, threads, None)
    if sampler != "stream":
        # In blocks: the deciding entries of a large batch outweigh its rows.
        step = max(1, 2**18 // len(reflections))
        for start in range(0, len(rows), step):
            block = slice(start, start + step)
            if sampler == "order_statistics":
                deciding = unit_projections.reshape(-1, 1)[block]
            else:
                deciding = _core.deciding_entries(
                    numbers[block], len(reflections), seed, layer, threads
                )
            _core.rotate_rows(rows[block], deciding, reflections, scale, threads, None)

    return _selection(
        w,
        batched,
        indices,
        unit_projections,
        norms,
        exponents,
        rows.reshape(batch, num_rows, dim),
        width=width,
        seed=seed,
        layer=layer,
        sampler=sampler,
        score=score,
        order=order,
        row_range=(first, last),
    )


def select_rows_from(
    weights: Any,
    w: Any,
    num_rows: int | None = None,
    *,
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
    weights : float32 or float64 array, shape (n, k)
        Any strides, C or Fortran order included.
    w : array, shape (k,) or (B, k)
        The vector or vectors.
    num_rows : int, optional
        Rows m to select; k by default.
    score, order, num_threads, progress
        As in `select_rows`.

    Returns
    -------
    RowSelection
        With seed, layer and sampler None. Projections are summed column by column in the matrix's
        own type, so that the rows of a layer selected here are those `select_rows` selects.

    Raises
    ------
    TypeError
        For another dtype, or a byte order that is not the machine's.
    ValueError
        As `select_rows`, and for NaN or infinity in `weights`, with the first position.
    """
    matrix = to_numpy(weights, "weights")
    if matrix.ndim != 2:
        raise ValueError(f"weights has {matrix.ndim} axes; expected shape (n, k)")
    if matrix.dtype not in (np.dtype(np.float32), np.dtype(np.float64)):
        raise TypeError(f"weights has dtype {matrix.dtype}; expected float32 or float64")
    if not matrix.flags.aligned or any(step % matrix.itemsize for step in matrix.strides):
        raise TypeError("weights is not aligned to its element size; copy it first")
    if matrix.size == 0:
        raise ValueError(f"weights is empty: shape {matrix.shape}")
    total, dim = matrix.shape
    values, batched = vectors(w, "w", dim=dim)
    one_of(score, "score", _SCORES)
    one_of(order, "order", _ORDERS)
    num_rows = _num_rows(num_rows, dim, total)
    directions, norms, exponents = unit_vectors(values, "w")
    found = _core.select_matrix(
        matrix,
        directions.astype(matrix.dtype),
        num_rows,
        score == "absolute",
        thread_count(num_threads),
        _watch(progress, total),
    )
    if isinstance(found, int):
        _refuse_first_nonfinite(matrix)
        raise ValueError(f"weights overflows: the projection of row {found} is not finite")
    indices = np.stack([rows for rows, _ in found])
    unit_projections = np.stack([values for _, values in found])
    if order == "index":
        indices, unit_projections = _by_index(indices, unit_projections)
    return _selection(
        w,
        batched,
        indices,
        unit_projections,
        norms,
        exponents,
        matrix[indices],
        width=total,
        seed=None,
        layer=None,
        sampler=None,
        score=score,
        order=order,
        row_range=(0, total),
    )


def merge_selections(parts: Iterable[RowSelection], num_rows: int | None = None) -> RowSelection:
    """Merge selections of disjoint row ranges of one layer into that of their union.

    Parameters
    ----------
    parts : iterable of RowSelection
        Selections for the same w with the same settings, in any order, whose row ranges join
        without a gap. A part holds at least `num_rows` rows, or all rows of its range.
    num_rows : int, optional
        Rows to keep; those of the largest part by default.

    Returns
    -------
    RowSelection
        Bit for bit what one call over the joined range gives.

    Raises
    ------
    TypeError
        If a part is not a RowSelection.
    ValueError
        If there are no parts, they differ in a setting, overlap, leave a gap, or a part is too
        short.
    """
    ordered = sorted(_checked_parts(list(parts)), key=lambda part: part.row_range)
    for before, after in itertools.pairwise(ordered):
        if before.row_range[1] != after.row_range[0]:
            raise ValueError(
                f"row ranges {before.row_range} and {after.row_range} overlap or leave a gap"
            )
    held = [part.indices.shape[-1] for part in ordered]
    kept = _num_rows(max(held) if num_rows is None else num_rows, 0, sum(held))
    for part, rows_held in zip(ordered, held, strict=True):
        if rows_held < min(kept, part.row_range[1] - part.row_range[0]):
            raise ValueError(
                f"the part with row_range {part.row_range} has {rows_held} rows; {kept} are needed"
            )

    def joined(name: str, axis: int) -> NDArray[Any]:
        return np.concatenate([to_numpy(getattr(part, name), "parts") for part in ordered], axis)

    indices, unit_projections = joined("indices", -1), joined("unit_projections", -1)
    scores = np.abs(unit_projections) if ordered[0].score == "absolute" else unit_projections
    best = np.lexsort((indices, -scores), axis=-1)[..., :kept]
    if ordered[0].order == "index":
        by_index = np.argsort(np.take_along_axis(indices, best, axis=-1), axis=-1)
        best = np.take_along_axis(best, by_index, axis=-1)
    original = ordered[0].rows
    return replace(
        ordered[0],
        indices=like(np.take_along_axis(indices, best, axis=-1), original),
        projections=like(np.take_along_axis(joined("projections", -1), best, axis=-1), original),
        rows=like(np.take_along_axis(joined("rows", -2), best[..., None], axis=-2), original),
        unit_projections=like(np.take_along_axis(unit_projections, best, axis=-1), original),
        row_range=(ordered[0].row_range[0], ordered[-1].row_range[1]),
    )


def gaussian_rows(
    indices: Any,
    dim: int,
    *,
    seed: int = 0,
    layer: int = 0,
    out: Any = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Regenerate rows of a Gaussian layer.

    Parameters
    ----------
    indices : integer array, shape (m,)
        Row numbers, 0 <= i < 2**63, in any order, repeats allowed.
    dim : int
        Columns k.
    seed, layer : int
        As in `select_rows`.
    out : float32 NumPy array, shape (m, k), optional
        C-contiguous array to write to; an interrupted call leaves it partly written.
    num_threads, progress
        As in `select_rows`.

    Returns
    -------
    float32 array, shape (m, k)
        Independent N(0, 1) entries; bit-identical everywhere. docs/random-rows.md has the mapping.

    Raises
    ------
    TypeError
        For indices that are not integers, or another kind of `out`.
    ValueError
        For negative indices, another shape than (m,), dim outside 1..2**32 - 1.
    """
    numbers = to_numpy(indices, "indices")
    if numbers.size == 0 and not hasattr(indices, "dtype"):
        numbers = numbers.astype(np.int64)  # an empty list has no dtype of its own
    if numbers.dtype.kind not in "iu":
        raise TypeError(f"indices has dtype {numbers.dtype}; expected integers")
    if numbers.ndim != 1:
        raise ValueError(f"indices has {numbers.ndim} axes; expected shape (m,)")
    for bad in (numbers < 0, numbers >= np.uint64(MAX_ROWS)):
        if bad.any():
            i = int(np.argmax(bad))
            raise ValueError(
                f"indices is {numbers[i]} at position {i}; expected 0 <= index < 2**63"
            )
    dim = integer(dim, "dim", 1, MAX_DIM, "2**32")
    seed, layer = seed_and_layer(seed, layer)
    if out is None:
        target = np.empty((len(numbers), dim), dtype=np.float32)
    else:
        if not isinstance(out, np.ndarray) or out.dtype != np.float32:
            kind = f"dtype {out.dtype}" if isinstance(out, np.ndarray) else type(out).__name__
            raise TypeError(f"out is of {kind}; expected a float32 NumPy array")
        if out.shape != (len(numbers), dim):
            raise ValueError(f"out has shape {out.shape}; expected {(len(numbers), dim)}")
        if not (out.flags.c_contiguous and out.flags.writeable and out.flags.aligned):
            raise ValueError("out is not C-contiguous, aligned and writeable")
        if np.may_share_memory(out, numbers):
            raise ValueError("out shares memory with indices")
        target = out
    rows = np.require(numbers, dtype=np.int64, requirements=["C", "A"])
    watch = _watch(progress, len(rows))
    _core.gaussian_rows(rows, target, seed, layer, thread_count(num_threads), watch)
    return target if out is not None else like(target, indices)


def hyperplane_codes(
    x: Any,
    num_bits: int,
    *,
    seed: int = 0,
    layer: int = 0,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Hash vectors by random hyperplanes, the rows of a Gaussian layer.

    Parameters
    ----------
    x : array, shape (k,) or (N, k)
        Vectors; only their directions matter.
    num_bits : int
        Bits of a code; bit i is [row_i . x >= 0].
    seed, layer : int
        The layer the hyperplanes come from.
    num_threads, progress
        As in `select_rows`; progress counts bits.

    Returns
    -------
    uint8 array, shape (ceil(num_bits / 8),) or (N, ceil(num_bits / 8))
        Packed codes: bit i is bit i % 8 of byte i // 8, unused bits zero
        (``numpy.unpackbits(..., bitorder="little")``). Bit-identical everywhere.

    Raises
    ------
    TypeError, ValueError
        As `select_rows`.

    Notes
    -----
    The Hamming distance of the codes of two vectors at angle t is Binomial(num_bits, t / pi).
    Source: Charikar (2002); Wormhole Dynamics, Eq. 16-21.
    """
    blocks, num_vectors, dim, batched = vector_blocks(x, "x")
    num_bits = row_count(num_bits, "num_bits")
    seed, layer = seed_and_layer(seed, layer)
    threads = thread_count(num_threads)
    num_bytes = num_bits // 8 + (num_bits % 8 > 0)
    if num_vectors * num_bytes >= 2**60:
        raise ValueError(f"num_bits is {num_bits}; {num_vectors} codes of them do not fit")
    codes = np.empty((num_vectors, num_bytes), dtype=np.uint8)
    for first, block in blocks:
        last = first + len(block)
        largest = largest_magnitudes(block, "x", first, batched)
        # Only signs matter: a power of two keeps the projection in range.
        scaled = padded_float32(np.ldexp(block, -np.frexp(largest)[1][:, None]))
        watch = _watch(progress, num_bits * num_vectors, done_before=num_bits * first)
        codes[first:last] = _core.hyperplane_codes(
            scaled, dim, num_bits, seed, layer, threads, watch
        )
    return like(codes if batched else codes[0], x)


def hamming_distances(
    a: Any, b: Any, *, num_threads: int | None = None, progress: Progress | None = None
) -> Any:
    """Count the differing bits of all pairs of packed codes.

    Parameters
    ----------
    a, b : uint8 arrays, shapes (N, bytes) and (M, bytes)
        Codes as `hyperplane_codes` gives them.
    num_threads, progress
        As in `select_rows`; progress counts codes of `a`.

    Returns
    -------
    int32 array, shape (N, M)
        Hamming distances.

    Raises
    ------
    TypeError
        For another dtype than uint8.
    ValueError
        For another number of axes than two, or different code lengths.
    """
    codes = []
    for array, name in ((a, "a"), (b, "b")):
        found = to_numpy(array, name)
        if found.dtype != np.uint8:
            raise TypeError(f"{name} has dtype {found.dtype}; expected uint8")
        if found.ndim != 2:
            raise ValueError(f"{name} has {found.ndim} axes; expected shape (N, bytes)")
        codes.append(np.ascontiguousarray(found))
    if codes[0].shape[1] != codes[1].shape[1]:
        raise ValueError(
            f"b has codes of {codes[1].shape[1]} bytes; expected {codes[0].shape[1]}, as in a"
        )
    if codes[0].shape[1] >= 2**28:
        raise ValueError(f"a has codes of {codes[0].shape[1]} bytes; the limit is 2**28 - 1")
    watch = _watch(progress, len(codes[0]))
    return like(_core.hamming_distances(codes[0], codes[1], thread_count(num_threads), watch), a)


# --------------------------------------------------------------------------------------------------


def _row_range(row_range: tuple[int, int] | None, width: int) -> tuple[int, int]:
    if row_range is None:
        return 0, width
    try:
        first, last = row_range
    except (TypeError, ValueError):
        raise TypeError(f"row_range is {row_range!r}; expected a pair (first, last)") from None
    first = integer(first, "row_range[0]", 0, MAX_ROWS, "2**63")
    last = integer(last, "row_range[1]", 0, MAX_ROWS, "2**63")
    if not first < last <= width:
        raise ValueError(
            f"row_range is {(first, last)}; expected 0 <= first < last <= width = {width}"
        )
    return first, last


def _num_rows(num_rows: int | None, dim: int, available: int) -> int:
    wanted = integer(dim if num_rows is None else num_rows, "num_rows", 1, MAX_ROWS, "2**63")
    if wanted > available:
        by_default = " (the length of w, by default)" if num_rows is None else ""
        raise ValueError(f"num_rows is {wanted}{by_default}; there are only {available} rows")
    return wanted


def _checked_parts(parts: list[Any]) -> list[RowSelection]:
    if not parts:
        raise ValueError("parts is empty; expected at least one RowSelection")
    for i, part in enumerate(parts):
        if not isinstance(part, RowSelection):
            raise TypeError(f"parts[{i}] is a {type(part).__name__}; expected a RowSelection")
        if part.sampler not in ("stream", "rotated"):
            raise ValueError(
                f"parts[{i}] has sampler {part.sampler!r}; only 'stream' and 'rotated' selections "
                "can be split and merged"
            )
        for name in ("width", "seed", "layer", "sampler", "score", "order"):
            mine, first = getattr(part, name), getattr(parts[0], name)
            if mine != first:
                raise ValueError(f"parts[{i}] has {name} {mine!r}, parts[0] has {first!r}")
        mine, first = part.rows.shape, parts[0].rows.shape
        if (*mine[:-2], mine[-1]) != (*first[:-2], first[-1]):
            raise ValueError(
                f"parts[{i}] has rows of shape {tuple(mine)}, parts[0] of {tuple(first)}"
            )
    return parts


def _watch(
    progress: Progress | None, total: int, *, done_before: int = 0
) -> Callable[[int], object] | None:
    if progress is None:
        return None
    if not callable(progress):
        raise TypeError(f"progress is {progress!r}; expected a callable")
    return lambda done: progress(done_before + done, total)


def _require_whole_layer(batch: int, absolute: bool, whole: bool) -> None:
    if batch > 1:
        raise ValueError(
            f"w has {batch} rows, but sampler='order_statistics' draws the rows of one w; use "
            "'rotated' or 'stream' for a shared layer, or a layer number for each w"
        )
    if not absolute or not whole:
        raise ValueError(
            "sampler='order_statistics' draws the largest absolute projections of the whole "
            "layer; use 'rotated' or 'stream' for score='signed' or a row_range"
        )


def _selected(
    select: Callable[[float], _Found],
    num_rows: int,
    available: int,
    absolute: bool,
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    # Unit projections are N(0, 1), so a threshold is known that about num_rows pass; six standard
    # deviations more make a second pass without a threshold all but impossible.
    expected = num_rows + 6.0 * math.sqrt(num_rows) + 12.0
    share = expected / available
    threshold = -math.inf
    if share < 0.5:
        threshold = float(-special.ndtri(share / 2 if absolute else share))
    found = select(threshold)
    if any(len(rows) < num_rows for rows, _ in found):
        found = select(-math.inf)
    assert all(len(rows) == num_rows for rows, _ in found)
    return np.stack([rows for rows, _ in found]), np.stack([values for _, values in found])


def _largest_folded_normals(spacings: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    # The largest of `width` iid |N(0, 1)|, descending (Renyi 1953): the survival probabilities
    # 1 - exp(-S_j) of the order statistics have independent exponential spacings.
    remaining = width - np.arange(len(spacings), dtype=np.float64)
    survival = -np.expm1(-np.cumsum(spacings / remaining))
    largest: NDArray[np.float64] = math.sqrt(2.0) * special.erfcinv(survival)
    return largest


def _refuse_first_nonfinite(matrix: NDArray[Any]) -> None:
    step = max(1, 2**20 // matrix.shape[1])
    for start in range(0, len(matrix), step):
        block = matrix[start : start + step]
        try:
            check_finite(block, "weights")
        except ValueError:
            row, column = np.unravel_index(np.argmin(np.isfinite(block)), block.shape)
            raise ValueError(
                f"weights is not finite: {block[row, column]} at position "
                f"{(start + int(row), int(column))}"
            ) from None


def _by_index(
    indices: NDArray[np.int64], unit_projections: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    order = np.argsort(indices, axis=1)
    return np.take_along_axis(indices, order, 1), np.take_along_axis(unit_projections, order, 1)


def _selection(
    w: Any,
    batched: bool,
    indices: NDArray[np.int64],
    unit_projections: NDArray[np.float64],
    norms: NDArray[np.float64],
    exponents: NDArray[np.int64],
    rows: NDArray[Any],
    **settings: Any,
) -> RowSelection:
    with np.errstate(over="ignore"):
        projections = np.ldexp(unit_projections * norms[:, None], exponents[:, None])
    if not np.isfinite(projections).all():
        raise ValueError("w is too long: its projections overflow float64; scale it down")
    arrays = (indices, projections, rows, unit_projections)
    return RowSelection(*(like(a if batched else a[0], w) for a in arrays), **settings)
