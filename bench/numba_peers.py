"""What a user would compile with Numba where no library has it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numba

if TYPE_CHECKING:
    import numpy as np

# Numbers of a block that is transformed while it lies in the second-level cache.
BLOCK = 2**16


@numba.njit(fastmath=True, nogil=True)
def butterflies(x: np.ndarray, first_stride: int) -> None:
    """All levels of the Hadamard transform of x (n,) from ``first_stride`` on, two at a time."""
    length, stride = len(x), first_stride
    while 4 * stride <= length:
        for first in range(0, length, 4 * stride):
            a = x[first : first + stride]
            b = x[first + stride : first + 2 * stride]
            c = x[first + 2 * stride : first + 3 * stride]
            d = x[first + 3 * stride : first + 4 * stride]
            for i in range(stride):
                sum_ab, difference_ab = a[i] + b[i], a[i] - b[i]
                sum_cd, difference_cd = c[i] + d[i], c[i] - d[i]
                a[i], b[i] = sum_ab + sum_cd, difference_ab + difference_cd
                c[i], d[i] = sum_ab - sum_cd, difference_ab - difference_cd
        stride *= 4
    if stride < length:
        a, b = x[:stride], x[stride:]
        for i in range(stride):
            a[i], b[i] = a[i] + b[i], a[i] - b[i]


@numba.njit(fastmath=True, nogil=True)
def scaled_copy(x: np.ndarray, scale: float, out: np.ndarray) -> None:
    """Write scale x (n,) to ``out``."""
    for i in range(len(x)):
        out[i] = scale * x[i]


@numba.njit(fastmath=True, nogil=True)
def walsh_hadamard(x: np.ndarray, out: np.ndarray) -> np.ndarray:
    """Write the orthonormal transform of x (n,), n a power of two, to ``out``."""
    length = len(x)
    block = min(length, BLOCK)
    scale = x.dtype.type(1.0 / math.sqrt(length))
    for first in range(0, length, block):
        scaled_copy(x[first : first + block], scale, out[first : first + block])
        butterflies(out[first : first + block], 1)
    butterflies(out, block)
    return out
