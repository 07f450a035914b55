"""Hyperplane codes of vectors, and their Hamming distances."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from infall import _core
from infall._arrays.calls import Progress, standard_floats, watch_of
from infall._arrays.checks import (
    row_count,
    seed_and_layer,
)
from infall._arrays.convert import like, to_numpy
from infall._arrays.device import located, located_with
from infall._arrays.threads import thread_count
from infall._arrays.vectors import (
    largest_magnitudes,
    padded_float32,
    vector_blocks,
)
from infall.rows import _device as _rows_device


@standard_floats
def hyperplane_codes(
    x: ArrayLike,
    num_bits: int,
    *,
    seed: int = 0,
    layer: int | None = None,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Hash vectors by random hyperplanes.

    Parameters
    ----------
    x : array, shape (k,) or (N, k)
        Vectors; only their directions matter. On a device they are not searched for NaN, infinity
        and zero vectors, whose codes mean nothing.
    num_bits : int
        Bits of a code; bit i is [v_i . x >= 0], v_i the normal of hyperplane i, iid N(0, 1).
    seed : int
        0 <= seed < 2**64.
    layer : int, optional
        By default the hyperplanes are drawn for codes alone: they share no random word with layers
        and frames of the same seed. With a layer number they are the rows of that layer,
        ``gaussian_rows(range(num_bits), k, seed=seed, layer=layer)``: for the study of a network
        by its own rows.
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
    seed, number = seed_and_layer(seed, 0 if layer is None else layer)
    layer = None if layer is None else number
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
    a: ArrayLike,
    b: ArrayLike | None = None,
    *,
    num_threads: int | None = None,
    progress: Progress | None = None,
) -> Any:
    """Count the differing bits of all pairs of packed codes.

    Parameters
    ----------
    a : uint8 array, shape (bytes,) or (N, bytes)
        Codes as `hyperplane_codes` gives them. On a device those that are not in C order are
        copied there.
    b : uint8 array, shape (bytes,) or (M, bytes), optional
        Codes to compare them with; those of `a` by default.
    num_threads, progress
        As in `select_rows`; progress counts codes of `a`.

    Returns
    -------
    int32 array, shape (N, M)
        Hamming distances, exact, in the library of `a`. A single code has no axis in the result:
        (M,), (N,) or ().

    Raises
    ------
    TypeError
        For another dtype than uint8.
    ValueError
        For another number of axes than one or two, different code lengths, or codes of no bytes.
    """
    device, first = located(a, "a")
    second = first if b is None else located_with(device, b, "b", "a")
    codes = []
    for array, name in ((first, "a"), (second, "b")):
        found = to_numpy(array, name) if device is None else array
        dtype = found.dtype if device is None else device.dtype_name(found)
        if dtype != "uint8":
            raise TypeError(f"{name} has dtype {dtype}; expected uint8")
        if found.ndim not in (1, 2):
            raise ValueError(f"{name} has {found.ndim} axes; expected shape (bytes,) or (N, bytes)")
        if found.shape[-1] == 0:
            raise ValueError(f"{name} is empty: shape {tuple(found.shape)}")
        codes.append(found)
    num_bytes = codes[0].shape[-1]
    if num_bytes != codes[1].shape[-1]:
        raise ValueError(
            f"b has codes of {codes[1].shape[-1]} bytes; expected {num_bytes}, as in a"
        )
    if num_bytes >= 2**28:
        raise ValueError(f"a has codes of {num_bytes} bytes; the limit is 2**28 - 1")
    # Without the axis of a code that came alone.
    alone = tuple(0 if found.ndim == 1 else slice(None) for found in codes)
    codes = [found if found.ndim == 2 else found[None] for found in codes]
    threads = thread_count(num_threads)
    watch = watch_of(progress, len(codes[0]), "codes")
    if device is not None:
        with device:
            distances = _rows_device.distances(device, *codes)
            if watch is not None:
                watch(len(codes[0]))
            return device.returned(distances[alone])
    host_codes = [np.ascontiguousarray(found) for found in codes]
    distances = _core.hamming_distances(host_codes[0], host_codes[1], threads, watch)
    return like(distances[alone], a)
