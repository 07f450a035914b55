"""Rows of very wide Gaussian layers: regenerated, selected and used as hyperplanes.

A layer is a matrix of independent standard normals whose entry (i, j) is a pure function of
(seed, layer, i, j); see docs/random-rows.md. None of its width is ever stored.

Arrays in CUDA memory (CuPy, PyTorch, and others through CuPy) stay there: the work is queued on the
current stream of their library and the results are arrays of that library on that device, the same
bits as on the host. Calls return before the work is done, and none waits for the device. Arrays are
therefore checked for shape and dtype, and their values taken as they are: for a vector w that is
zero or not finite, the rows selected have index -1 and are NaN, and so are their projections, while
the other vectors of the batch are not touched by it. To see whether that is so, look at the result,
``bool((selection.indices < 0).any())``, which waits as any look at an array does. On a device
`num_threads` has no effect, and `progress` is called once, when everything is queued. All arrays of
one call live in one place.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from infall import _core, _rows_device, _rows_host
from infall._arrays import (
    MAX_DIM,
    MAX_ROWS,
    Progress,
    integer,
    largest_magnitudes,
    like,
    one_of,
    padded_float32,
    row_count,
    seed_and_layer,
    standard_floats,
    thread_count,
    to_numpy,
    unit_vectors,
    vector_blocks,
    vectors,
    watch_of,
)
from infall._device import Device, located, located_with
from infall._selection import SelectionTask

Sampler = Literal["stream", "rotated", "order_statistics"]
Score = Literal["absolute", "signed"]
Order = Literal["index", "score"]

_SAMPLERS = ("stream", "rotated", "order_statistics")
_SCORES = ("absolute", "signed")
_ORDERS = ("index", "score")


@dataclass(frozen=True, eq=False)
class RowSelection:
    """The rows of a layer or matrix with the largest projections on a vector w.

    Attributes
    ----------
    indices : int64 array, shape (m,) or (B, m)
        Row numbers; -1 on a device for a w without a direction.
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


@standard_floats
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
        The vector, or B vectors that share the layer (its words are then drawn once for all). On a
        device values are not searched: for a w that is zero or not finite all indices are -1, and
        projections and rows NaN.
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
        Called as progress(rows_done, rows_total, "rows") about every 50 ms; what it raises stops
        the call.

    Returns
    -------
    RowSelection
        Arrays are of the library of `w`. For "stream" and "rotated" bit-identical for any number of
        threads, instruction set and split into row ranges; "order_statistics" additionally
        evaluates SciPy's inverse error function.

    Raises
    ------
    TypeError
        For kinds and dtypes: complex or text in w, a fractional width, a device array in a build
        without CUDA kernels.
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
    device, w = located(w, "w")
    values, batched = _vectors(device, w, None)
    batch, dim = values.shape
    width = row_count(width, "width")
    one_of(sampler, "sampler", _SAMPLERS)
    one_of(score, "score", _SCORES)
    one_of(order, "order", _ORDERS)
    seed, layer = seed_and_layer(seed, layer)
    first, last = _row_range(row_range, width)
    num_rows = _num_rows(num_rows, dim, last - first)
    threads = thread_count(num_threads)
    watch = watch_of(progress, last - first, "rows")
    absolute = score == "absolute"
    if num_rows * dim * batch >= 2**60:
        raise ValueError(f"num_rows is {num_rows}; {batch} x {num_rows} rows of {dim} do not fit")
    if sampler == "order_statistics":
        _require_whole_layer(batch, absolute, (first, last) == (0, width))
    task = SelectionTask(
        seed, layer, first, last, num_rows, absolute, order == "index", threads, watch
    )
    if device is None:
        directions, norms, exponents = unit_vectors(values, "w")
        found = _rows_host.select(task, sampler, directions)
    else:
        with device:
            directions, norms, exponents = _rows_device.unit_vectors(device, values)
            found = _rows_device.select(device, task, sampler, directions, norms)
    return _selection(
        device,
        w,
        batched,
        *found,
        norms,
        exponents,
        width=width,
        seed=seed,
        layer=layer,
        sampler=sampler,
        score=score,
        order=order,
        row_range=(first, last),
    )


@standard_floats
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
        Any strides, C or Fortran order included. In CUDA memory also float16 and bfloat16; there it
        is not searched for NaN and infinity: infinite projections rank first, and rows whose
        projection is NaN are passed over (index -1, projection and row NaN where none other is
        left).
    w : array, shape (k,) or (B, k)
        The vector or vectors; on a device not searched, as in `select_rows`.
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
        As `select_rows`, and on the host for NaN or infinity in `weights`, with the first position.
    """
    device, matrix = located(weights, "weights")
    w = located_with(device, w, "w", "weights")
    matrix = (
        _rows_host.matrix_of(matrix) if device is None else _rows_device.matrix_of(device, matrix)
    )
    if matrix.ndim != 2:
        raise ValueError(f"weights has {matrix.ndim} axes; expected shape (n, k)")
    if 0 in matrix.shape:
        raise ValueError(f"weights is empty: shape {tuple(matrix.shape)}")
    total, dim = matrix.shape
    values, batched = _vectors(device, w, dim)
    one_of(score, "score", _SCORES)
    one_of(order, "order", _ORDERS)
    num_rows = _num_rows(num_rows, dim, total)
    threads = thread_count(num_threads)
    watch = watch_of(progress, total, "rows")
    absolute = score == "absolute"
    task = SelectionTask(0, 0, 0, total, num_rows, absolute, order == "index", threads, watch)
    if device is None:
        directions, norms, exponents = unit_vectors(values, "w")
        found = _rows_host.select_from_matrix(task, matrix, directions)
    else:
        with device:
            directions, norms, exponents = _rows_device.unit_vectors(device, values)
            found = _rows_device.select_from_matrix(device, task, matrix, directions)
    return _selection(
        device,
        w,
        batched,
        *found,
        norms,
        exponents,
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
        without a gap. A part holds at least `num_rows` rows, or all rows of its range. Parts on a
        device are merged on the host, which waits for them.
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
        return np.concatenate([_host_values(getattr(part, name)) for part in ordered], axis)

    indices, unit_projections = joined("indices", -1), joined("unit_projections", -1)
    scores = np.abs(unit_projections) if ordered[0].score == "absolute" else unit_projections
    best = np.lexsort((indices, -scores), axis=-1)[..., :kept]
    if ordered[0].order == "index":
        by_index = np.argsort(np.take_along_axis(indices, best, axis=-1), axis=-1)
        best = np.take_along_axis(best, by_index, axis=-1)
    original = ordered[0].rows
    return replace(
        ordered[0],
        indices=_like(np.take_along_axis(indices, best, axis=-1), original),
        projections=_like(np.take_along_axis(joined("projections", -1), best, axis=-1), original),
        rows=_like(np.take_along_axis(joined("rows", -2), best[..., None], axis=-2), original),
        unit_projections=_like(np.take_along_axis(unit_projections, best, axis=-1), original),
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
        Row numbers, 0 <= i < 2**63, in any order, repeats allowed. On a device they are not
        searched for negative ones, whose rows are NaN.
    dim : int
        Columns k.
    seed, layer : int
        As in `select_rows`.
    out : float32 array, shape (m, k), optional
        C-contiguous array to write to, a NumPy array or one that lives with `indices`; an
        interrupted call leaves it partly written.
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
    device, numbers = located(indices, "indices")
    if device is None:
        numbers = _rows_host.row_numbers(indices)
    else:
        with device:
            numbers = _rows_device.row_numbers(device, numbers)
    dim = integer(dim, "dim", 1, MAX_DIM, "2**32")
    seed, layer = seed_and_layer(seed, layer)
    threads = thread_count(num_threads)
    watch = watch_of(progress, len(numbers), "rows")
    if device is not None:
        with device:
            target = _rows_device.target_of(device, out, numbers, dim)
            _rows_device.regenerate(device, numbers, target, seed, layer)
        if watch is not None:
            watch(len(numbers))
        return out if out is not None else device.returned(target)
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
    _core.gaussian_rows(rows, target, seed, layer, threads, watch)
    return target if out is not None else like(target, indices)


@standard_floats
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
        Vectors; only their directions matter. On a device they are not searched for NaN, infinity
        and zero vectors, whose codes mean nothing.
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
    device, x = located(x, "x")
    if device is None:
        blocks, num_vectors, dim, batched = vector_blocks(x, "x")
    else:
        with device:
            blocks, num_vectors, dim, batched = device.vector_blocks(x, "x")
    num_bits = row_count(num_bits, "num_bits")
    seed, layer = seed_and_layer(seed, layer)
    threads = thread_count(num_threads)
    num_bytes = num_bits // 8 + (num_bits % 8 > 0)
    if num_vectors * num_bytes >= 2**60:
        raise ValueError(f"num_bits is {num_bits}; {num_vectors} codes of them do not fit")
    if device is not None:
        watch = watch_of(progress, num_bits * num_vectors, "bits")
        with device:
            found = _rows_device.codes(
                device, blocks, (num_vectors, num_bytes), dim, num_bits, seed, layer
            )
        if watch is not None:
            watch(num_bits * num_vectors)
        return device.returned(found if batched else found[0])
    codes = np.empty((num_vectors, num_bytes), dtype=np.uint8)
    for first, block in blocks:
        last = first + len(block)
        largest = largest_magnitudes(block, "x", first, batched)
        # Only signs matter: a power of two keeps the projection in range.
        scaled = padded_float32(np.ldexp(block, -np.frexp(largest)[1][:, None]))
        watch = watch_of(progress, num_bits * num_vectors, "bits", done_before=num_bits * first)
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
        Codes as `hyperplane_codes` gives them. On a device those that are not in C order are
        copied there.
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
    device, first = located(a, "a")
    codes = []
    for array, name in ((first, "a"), (located_with(device, b, "b", "a"), "b")):
        found = to_numpy(array, name) if device is None else array
        dtype = found.dtype if device is None else device.dtype_name(found)
        if dtype != "uint8":
            raise TypeError(f"{name} has dtype {dtype}; expected uint8")
        if found.ndim != 2:
            raise ValueError(f"{name} has {found.ndim} axes; expected shape (N, bytes)")
        codes.append(found)
    if codes[0].shape[1] != codes[1].shape[1]:
        raise ValueError(
            f"b has codes of {codes[1].shape[1]} bytes; expected {codes[0].shape[1]}, as in a"
        )
    if codes[0].shape[1] >= 2**28:
        raise ValueError(f"a has codes of {codes[0].shape[1]} bytes; the limit is 2**28 - 1")
    threads = thread_count(num_threads)
    watch = watch_of(progress, len(codes[0]), "codes")
    if device is not None:
        with device:
            distances = _rows_device.distances(device, *codes)
        if watch is not None:
            watch(len(codes[0]))
        return device.returned(distances)
    host_codes = [np.ascontiguousarray(found) for found in codes]
    return like(_core.hamming_distances(host_codes[0], host_codes[1], threads, watch), a)


# --------------------------------------------------------------------------------------------------


def _vectors(device: Device | None, w: Any, dim: int | None) -> tuple[Any, bool]:
    if device is None:
        return vectors(w, "w", dim=dim)
    with device:
        return device.vectors(w, "w", dim=dim)


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


def _selection(
    device: Device | None,
    w: Any,
    batched: bool,
    indices: Any,
    unit_projections: Any,
    rows: Any,
    norms: Any,
    exponents: Any,
    **settings: Any,
) -> RowSelection:
    if device is None:
        with np.errstate(over="ignore"):
            projections = np.ldexp(unit_projections * norms[:, None], exponents[:, None])
        if not np.isfinite(projections).all():
            raise ValueError("w is too long: its projections overflow float64; scale it down")
        arrays = (indices, projections, rows, unit_projections)
        return RowSelection(*(like(a if batched else a[0], w) for a in arrays), **settings)
    with device:
        projections = device.scaled(unit_projections * norms[:, None], exponents[:, None])
        arrays = (indices, projections, rows, unit_projections)
        return RowSelection(*(device.returned(a if batched else a[0]) for a in arrays), **settings)


def _host_values(array: Any) -> NDArray[Any]:
    device, found = located(array, "parts")
    return to_numpy(array, "parts") if device is None else device.download(found)


def _like(result: NDArray[Any], original: Any) -> Any:
    device, _ = located(original, "parts")
    if device is None:
        return like(result, original)
    with device:
        return device.returned(device.upload(result))
