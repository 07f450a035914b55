"""Row selection, codes and distances in CUDA memory, by the CUDA kernels.

Callers are inside `with device`; everything is queued on its current stream.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from infall._arrays.blocks import block_size
from infall._arrays.calls import Watch
from infall._arrays.device import Device, cuda_kernels
from infall._arrays.locate import in_place
from infall.rows._task import (
    Hyperplanes,
    SelectionTask,
    check_indices,
    draw_order_statistics,
    expected_to_pass,
    threshold,
)

_DTYPES = ("float32", "float64", "float16", "bfloat16")
# Numbers of a block of rows that are rotated at a time: 16 MiB as float64.
_ROTATED_ENTRIES = 2**21


def unit_vectors(
    device: Device, vectors: Any, name: str, into: tuple[Any, Any, Any] | None = None
) -> Any:
    """Split (B, k) float64 vectors into directions and norms fraction * 2**exponent, each (B,).

    A vector which is zero or not finite has a direction and a norm of NaN.
    """
    batch, dim = (int(n) for n in vectors.shape)
    if into is None:
        into = (
            device.empty((batch, dim), "float64"),
            device.empty((batch,), "float64"),
            device.empty((batch,), "int64"),
        )
    if batch > 0:
        kernel = cuda_kernels(name, None).unit_vectors
        kernel(device.pointer(vectors), batch, dim, *device.pointers(*into), *device.queue)
    return into


def select(
    device: Device, task: SelectionTask, sampler: str, directions: Any, norms: Any
) -> tuple[Any, Any, Any]:
    batch, dim = (int(n) for n in directions.shape)
    if batch == 0:
        return _no_rows(device, task, dim, "float32")
    count, span = batch * task.num_rows, min(batch, dim)
    layer = task.seed, task.layer, dim
    kernels = cuda_kernels("w", None)
    if sampler == "order_statistics":
        statistics = draw_order_statistics(task)
        indices, unit_projections = (device.upload(array) for array in statistics)
    else:
        available = task.last - task.first
        # The second threshold is for the case, one in 10^9, that the first lets too few pass; the
        # workspace has room for what either does.
        thresholds = tuple(
            threshold(expected_to_pass(task.num_rows, deviations), available, task.absolute)
            for deviations in (6.0, 12.0)
        )
        num_bytes = int(kernels.selection_workspace(task.num_rows, available, batch))
        workspace = device.empty(num_bytes, "uint8")
        indices = device.empty((batch, task.num_rows), "int64")
        unit_projections = device.empty((batch, task.num_rows), "float64")
        selection = (
            *(task.first, task.last, task.num_rows, batch, task.absolute, task.by_index),
            *thresholds,
            *device.pointers(workspace, indices, unit_projections),
        )
    if sampler == "stream":
        padded = _padded(device, directions)
        kernels.select_stream(layer, selection, device.pointer(padded), None, *device.queue)
    else:
        reflections = device.empty((span, dim), "float64")
        scale = device.empty((span,), "float64")
        columns = device.empty((dim, batch), "float64")  # the factors are its first rows
        rotation = device.pointers(reflections, scale, columns)
        kernels.householder(device.pointer(directions), batch, dim, *rotation, *device.queue)
        if sampler == "rotated":
            kernels.select_rotated(layer, selection, device.pointer(columns), span, *device.queue)
        selected = device.pointers(indices, unit_projections)
        kernels.discard_undirected(
            device.pointer(norms), batch, task.num_rows, *selected, *device.queue
        )

    rows = device.empty((count, dim), "float32")
    row_numbers = indices.reshape(count)
    regenerate(device, row_numbers, rows, task.seed, task.layer, task.threads, None)
    if sampler != "stream":
        drawn = unit_projections.reshape(count, 1) if sampler == "order_statistics" else None
        _rotate(device, task, rows, row_numbers, drawn, reflections, scale)
    if task.watch is not None:
        task.watch(task.last - task.first)
    return indices, unit_projections, rows.reshape(batch, task.num_rows, dim)


def _rotate(
    device: Device,
    task: SelectionTask,
    rows: Any,
    row_numbers: Any,
    drawn: Any | None,
    reflections: Any,
    scale: Any,
) -> None:
    """Turn rows (n, k) by the entries that decide them: drawn ones (n, 1), or those of columns."""
    kernels = cuda_kernels("w", None)
    (count, dim), span = (int(n) for n in rows.shape), int(reflections.shape[0])
    step = min(count, max(1, block_size(_ROTATED_ENTRIES) // max(span, dim)))
    deciding = device.empty((step, span), "float64")
    scratch = device.empty((step, dim), "float64")
    for start in range(0, count, step):
        block = rows[start : start + step]
        if drawn is not None:
            deciding = drawn[start : start + step]
        else:
            kernels.deciding_entries(
                (task.seed, task.layer, dim),
                device.pointer(row_numbers[start : start + step]),
                *(len(block), span),
                device.pointer(deciding),
                *device.queue,
            )
        kernels.rotate_rows(
            device.pointer(block),
            *(len(block), dim),
            *device.pointers(deciding, reflections, scale),
            span,
            device.pointer(scratch),
            *device.queue,
        )


def _padded(device: Device, vectors: Any) -> Any:
    count, dim = (int(n) for n in vectors.shape)
    padded = device.empty((count, -(-dim // 4) * 4), "float32")
    padded[:, :dim] = vectors
    padded[:, dim:] = 0.0
    return padded


def _no_rows(device: Device, task: SelectionTask, dim: int, dtype: str) -> tuple[Any, Any, Any]:
    shape = (0, task.num_rows)
    return (
        device.empty(shape, "int64"),
        device.empty(shape, "float64"),
        device.empty((*shape, dim), dtype),
    )


def select_from_matrix(
    device: Device, task: SelectionTask, matrix: Any, directions: Any
) -> tuple[Any, Any, Any]:
    batch, dim = (int(n) for n in directions.shape)
    if device.dtype_name(matrix) not in _DTYPES:
        matrix = device.cast(matrix, "float64")
    dtype = device.dtype_name(matrix)
    if batch == 0:
        return _no_rows(device, task, dim, dtype)
    kernels = cuda_kernels("weights", None)
    strides = device.element_strides(matrix, "weights")
    stored = device.pointer(matrix), dtype, task.last, dim, *strides
    w = device.cast(directions, "float64" if dtype == "float64" else "float32")
    num_bytes = int(kernels.matrix_workspace(task.last, task.num_rows, batch))
    workspace = device.empty(num_bytes, "uint8")
    indices = device.empty((batch, task.num_rows), "int64")
    unit_projections = device.empty((batch, task.num_rows), "float64")
    selection = (
        *(0, task.last, task.num_rows, batch, task.absolute, task.by_index),
        *(0.0, 0.0),  # no thresholds
        *device.pointers(workspace, indices, unit_projections),
    )
    kernels.select_matrix(stored, selection, device.pointer(w), *device.queue)
    rows = device.empty((batch, task.num_rows, dim), dtype)
    kernels.gather_rows(
        stored, device.pointer(indices), batch * task.num_rows, device.pointer(rows), *device.queue
    )
    if task.watch is not None:
        task.watch(task.last)
    return indices, unit_projections, rows


def multiply_in_order(device: Device, rows: Any, w: Any) -> Any:
    """Return rows (m, k) times w (k,), summed column by column in float64: (m,)."""
    count, dim = (int(n) for n in rows.shape)
    product = device.empty((count,), "float64")
    cuda_kernels("w", None).multiply_in_order(
        device.pointer(rows),
        count,
        dim,
        device.pointer(w),
        device.pointer(product),
        device.number,
        device.stream,
    )
    return product


def row_numbers(device: Device, indices: Any) -> Any:
    dtype = device.dtype_name(indices)
    check_indices(dtype, dtype.startswith(("int", "uint")), indices.ndim)
    return device.contiguous(device.cast(indices, "int64"))


def target_of(device: Device, out: Any, shape: tuple[int, int], _: Any) -> Any:
    if out is None:
        return device.empty(shape, "float32")
    target = in_place(device, out, "out", "indices")
    dtype = device.dtype_name(target)
    if dtype != "float32":
        raise TypeError(f"out is of dtype {dtype}; expected a float32 array on {device}")
    if tuple(target.shape) != shape:
        raise ValueError(f"out has shape {tuple(target.shape)}; expected {shape}")
    if not device.is_contiguous(target):
        raise ValueError("out is not C-contiguous")
    return target


def regenerate(
    device: Device, rows: Any, target: Any, seed: int, layer: int, _: int, watch: Watch
) -> None:
    count, dim = (int(n) for n in target.shape)
    if count > 0:
        cuda_kernels("indices", None).gaussian_rows(
            (seed, layer, dim), device.pointer(rows), count, device.pointer(target), *device.queue
        )
    if watch is not None:
        watch(count)


def projections(device: Device, unit_projections: Any, norms: Any, exponents: Any) -> Any:
    """Return unit projections (B, m) times norms * 2**exponents, (B,)."""
    return device.scaled(unit_projections * norms[:, None], exponents[:, None])


def codes(
    device: Device,
    blocks: Iterable[tuple[int, Any]],
    shape: tuple[int, int],
    hyperplanes: Hyperplanes,
    batched: bool,
    threads: int,
    watch: Watch,
) -> Any:
    """Return packed codes (N, bytes) of vectors that come in blocks."""
    dim, num_bits, seed, layer = hyperplanes
    kernel = cuda_kernels("x", None).hyperplane_codes
    codes = device.empty(shape, "uint8")
    for first, block in blocks:
        padded, target = _padded(device, block), codes[first : first + len(block)]
        kernel(
            device.pointer(padded),
            *(dim, len(block), num_bits, seed, layer),
            device.pointer(target),
            *device.queue,
        )
    if watch is not None:
        watch(num_bits * shape[0])
    return codes


def distances(device: Device, a: Any, b: Any, threads: int, watch: Watch) -> Any:
    """Return the Hamming distances of packed codes (N, bytes) and (M, bytes), (N, M)."""
    a, b = device.contiguous(a), device.contiguous(b)
    (count, num_bytes), others = (int(n) for n in a.shape), int(b.shape[0])
    distances = device.empty((count, others), "int32")
    if count > 0 and others > 0:
        cuda_kernels("a", None).hamming_distances(
            *(device.pointer(a), count, device.pointer(b), others, num_bytes),
            device.pointer(distances),
            *device.queue,
        )
    if watch is not None:
        watch(count)
    return distances
