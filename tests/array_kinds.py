"""The same array in other clothes, and results of any kind taken apart."""

import dataclasses
import warnings

import numpy as np


def layouts(array):
    """The same entries in other layouts, byte orders and classes, by name."""
    spread = np.zeros([2 * n + 1 for n in array.shape], array.dtype)
    every_other = spread[tuple(slice(1, None, 2) for _ in array.shape)]
    every_other[...] = array
    backwards = tuple(slice(None, None, -1) for _ in array.shape)
    read_only = array.copy()
    read_only.flags.writeable = False
    shifted = np.empty(array.nbytes + 1, np.uint8)[1:].view(array.dtype).reshape(array.shape)
    shifted[...] = array
    return {
        "fortran": np.asfortranarray(array),
        "strided": every_other,
        "reversed": array[backwards].copy()[backwards],
        "byte order": array.astype(array.dtype.newbyteorder()),
        "read-only": read_only,
        "unaligned": shifted,
        "list": array.tolist(),
    }


def masked(array):
    """The array with a mask, in every layout."""
    mask = np.zeros(array.shape, bool)
    mask.flat[0] = True
    masks = layouts(mask)
    return [
        np.ma.array(whole, mask=masks[name])
        for name, whole in layouts(array).items()
        if isinstance(whole, np.ndarray)
    ]


def parts(result):
    """The arrays and numbers that a result is made of, as a list of NumPy arrays."""
    if dataclasses.is_dataclass(result) and not isinstance(result, type):
        return parts([getattr(result, field.name) for field in dataclasses.fields(result)])
    if isinstance(result, dict):
        return parts(list(result.values()))
    if isinstance(result, (list, tuple)):
        return [part for item in result for part in parts(item)]
    if result is None or callable(result):
        return []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return [np.asarray(result)]
