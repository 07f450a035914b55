"""Hyperplane codes of vectors, and their Hamming distances."""

from __future__ import annotations

from typing import Any

from numpy.typing import ArrayLike

from infall._arrays.calls import Progress, standard_floats, watch_of
from infall._arrays.checks import row_count, seed_and_layer
from infall._arrays.locate import in_place, place_of
from infall._arrays.place import Place
from infall._arrays.threads import thread_count
from infall.rows._task import Hyperplanes


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
        Vectors; only their directions matter. On a device they are not checked for NaN, infinity
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
    place, x = place_of(x, "x")
    with place:
        blocks, num_vectors, dim, batched = place.vector_blocks(x, "x")
        num_bits = row_count(num_bits, "num_bits")
        seed, number = seed_and_layer(seed, 0 if layer is None else layer)
        hyperplanes = Hyperplanes(dim, num_bits, seed, None if layer is None else number)
        shape = num_vectors, num_bits // 8 + (num_bits % 8 > 0)
        if shape[0] * shape[1] >= 2**60:
            raise ValueError(f"num_bits is {num_bits}; {num_vectors} codes of them do not fit")
        threads = thread_count(num_threads)
        watch = watch_of(progress, num_bits * num_vectors, "bits")
        codes = place.kernels("rows").codes(
            place, blocks, shape, hyperplanes, batched, threads, watch
        )
        return place.returned(codes if batched else codes[0])


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
    place, first = place_of(a, "a")
    second = first if b is None else in_place(place, b, "b", "a")
    with place:
        codes = [_checked_codes(place, *code) for code in ((first, "a"), (second, "b"))]
        num_bytes = codes[0].shape[-1]
        if num_bytes != codes[1].shape[-1]:
            raise ValueError(
                f"b has codes of {codes[1].shape[-1]} bytes; expected {num_bytes}, as in a"
            )
        if num_bytes >= 2**28:
            raise ValueError(f"a has codes of {num_bytes} bytes; the limit is 2**28 - 1")
        # Without the axis of a code that came alone.
        alone = tuple(0 if code.ndim == 1 else slice(None) for code in codes)
        codes = [code if code.ndim == 2 else code[None] for code in codes]
        threads = thread_count(num_threads)
        watch = watch_of(progress, len(codes[0]), "codes")
        distances = place.kernels("rows").distances(place, *codes, threads, watch)
        return place.returned(distances[alone])


def _checked_codes(place: Place, codes: Any, name: str) -> Any:
    codes = place.array(codes, name)
    dtype = place.dtype_name(codes)
    if dtype != "uint8":
        raise TypeError(f"{name} has dtype {dtype}; expected uint8")
    if codes.ndim not in (1, 2):
        raise ValueError(f"{name} has {codes.ndim} axes; expected shape (bytes,) or (N, bytes)")
    if codes.shape[-1] == 0:
        raise ValueError(f"{name} is empty: shape {tuple(codes.shape)}")
    return codes
