"""Frames applied to vectors in CUDA memory by the CUDA kernels.

Everything is queued on the current stream of the device.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from infall._arrays.blocks import block_size
from infall._arrays.calls import Watch
from infall._arrays.checks import check_two_axes
from infall._arrays.device import Device, cuda_kernels
from infall.frames._host import Structure, Vectors

_BLOCK_ENTRIES = 2**24  # numbers of vectors that are worked on at a time
_BLOCK_VECTORS = 2**14


def read(device: Device, array: Any, name: str, dim: int | None = None) -> Vectors:
    """Check kind and shape of vectors; values are taken as they are."""
    array = device.array(array, name)
    batched = check_two_axes(tuple(int(n) for n in array.shape), name, dim)
    narrow = device.dtype_name(array) in ("float32", "float16", "bfloat16")
    dtype = "float32" if narrow else "float64"
    return Vectors(name, array if batched else array[None], dtype, batched, 0.0)


def blocks(device: Device, vectors: Vectors) -> Iterator[tuple[int, Any]]:
    """Return the vectors in C order and the dtype to compute with, block by block."""
    count, dim = (int(n) for n in vectors.rows.shape)
    step = min(_BLOCK_VECTORS, max(1, block_size(_BLOCK_ENTRIES) // dim))
    for first in range(0, count, step):
        block = device.cast(vectors.rows[first : first + step], vectors.dtype)
        yield first, device.contiguous(block)


def project(
    device: Device, structure: Structure, x: Any, out: Any, threads: int, watch: Watch
) -> None:
    _launch(device, "frame_project", structure, x, [out], watch)


def synthesise(
    device: Device, structure: Structure, x: Any, out: Any, threads: int, watch: Watch
) -> None:
    _launch(device, "frame_synthesise", structure, x, [out], watch)


def top_logits(
    device: Device,
    structure: Structure,
    x: Any,
    classes: Any,
    logits: Any,
    threads: int,
    watch: Watch,
) -> None:
    _launch(
        device, "frame_top_logits", structure, x, [classes, logits], watch, int(classes.shape[1])
    )


def top_scores(
    device: Device, scores: Any, labels: Any | None, classes: Any, logits: Any, threads: int
) -> None:
    scores = device.contiguous(scores)
    count, columns = (int(n) for n in scores.shape)
    kernels = cuda_kernels("H", None)
    dtype, top = device.dtype_name(scores), int(classes.shape[1])
    workspace = device.empty(int(kernels.scores_workspace(dtype, count, columns, top)), "uint8")
    kernels.top_scores(
        dtype,
        device.pointer(scores),
        0 if labels is None else device.pointer(labels),
        count,
        columns,
        top,
        *device.pointers(classes, logits, workspace),
        *device.queue,
    )


def walsh_hadamard(
    device: Device, x: Any, out: Any, factor: float, threads: int, watch: Watch
) -> None:
    count, length = (int(n) for n in x.shape)
    cuda_kernels("x", None).walsh_hadamard(
        device.dtype_name(x),
        device.pointer(x),
        count,
        length.bit_length() - 1,
        factor,
        device.pointer(out),
        *device.queue,
    )
    if watch is not None:
        watch(count)


def _launch(
    device: Device,
    kernel: str,
    structure: Structure,
    x: Any,
    out: list[Any],
    watch: Watch,
    top: int | None = None,
) -> None:
    kernels = cuda_kernels("H", None)
    count, dtype = len(x), device.dtype_name(x)
    norms = None if structure.norms is None else device.upload(structure.norms)
    frame = (
        *(structure.num_classes, structure.dim, structure.hadamard, structure.seed),
        0 if norms is None else device.pointer(norms),
    )
    workspace = device.empty(int(kernels.frame_workspace(dtype, frame, count, top or 0)), "uint8")
    getattr(kernels, kernel)(
        dtype,
        frame,
        device.pointer(x),
        count,
        *(() if top is None else (top,)),
        *device.pointers(*out, workspace),
        *device.queue,
    )
    if watch is not None:
        watch(count)
