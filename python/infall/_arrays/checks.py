"""Checks of arguments, and the limits that they check against."""

from __future__ import annotations

import math
import operator
from typing import Any

import numpy as np
from numpy.typing import NDArray

MAX_ROWS = 2**63
MAX_SEED = 2**64
MAX_LAYER = 2**32
MAX_DIM = 2**32


def kind_of(array: Any) -> str:
    """Return the full name of an object's class, for messages."""
    return f"{type(array).__module__}.{type(array).__name__}"


def check_two_axes(shape: tuple[int, ...], name: str, dim: int | None) -> bool:
    """Return whether vectors of shape (k,) or (B, k) have a batch axis.

    Raises ValueError as `vectors`, except for the values.
    """
    if len(shape) not in (1, 2):
        raise ValueError(f"{name} has {len(shape)} axes; expected shape (k,) or (B, k)")
    if shape[-1] == 0:
        raise ValueError(f"{name} has vectors of length 0: shape {shape}")
    if shape[-1] >= MAX_DIM:
        raise ValueError(f"{name} has {shape[-1]} columns; the limit is 2**32 - 1")
    if dim is not None and shape[-1] != dim:
        raise ValueError(f"{name} has {shape[-1]} columns; expected {dim}")
    return len(shape) == 2


def check_finite(entries: NDArray[Any], name: str, *, first_row: int = 0) -> None:
    """Raise ValueError that names the first position of NaN or infinity, if there is one."""
    finite = np.isfinite(entries)
    if not finite.all():
        position = tuple(int(i) for i in np.unravel_index(np.argmin(finite), entries.shape))
        shifted = (position[0] + first_row, *position[1:])
        where = shifted[0] if len(shifted) == 1 else shifted
        raise ValueError(f"{name} is not finite: {entries[position]} at position {where}")


def integer(value: Any, name: str, low: int, high: float, high_text: str | None = None) -> int:
    """Return `value` as an int in [low, high).

    Raises TypeError if it is not an integer (True and False are not, nor is 3.0); ValueError if it
    lies outside.
    """
    if isinstance(value, (bool, np.bool_)):
        raise TypeError(f"{name} is {value!r}; expected an integer")
    try:
        number = operator.index(value)
    except TypeError:
        raise TypeError(f"{name} is {value!r}; expected an integer") from None
    if not low <= number < high:
        top = high_text or str(high)
        raise ValueError(f"{name} is {number}; expected {low} <= {name} < {top}")
    return number


def row_count(value: Any, name: str) -> int:
    """Return a number of rows, at least 1.

    Raises OverflowError past 2**63 - 1, where row indices no longer fit.
    """
    number = integer(value, name, 1, math.inf, "2**63")
    if number >= MAX_ROWS:
        raise OverflowError(f"{name} is {number}; rows are numbered below 2**63")
    return number


def seed_and_layer(seed: Any, layer: Any) -> tuple[int, int]:
    """Return the checked seed and layer number."""
    return (
        integer(seed, "seed", 0, MAX_SEED, "2**64"),
        integer(layer, "layer", 0, MAX_LAYER, "2**32"),
    )


def real_number(value: Any, name: str) -> float:
    """Return a real number as a float.

    Raises TypeError if it is another object (True and False are, and so is an array).
    """
    is_real = isinstance(value, (int, float, np.integer, np.floating))
    if isinstance(value, bool) or not is_real:
        raise TypeError(f"{name} is {value!r}; expected a number")
    return float(value)


def positive_number(value: Any, name: str) -> float:
    """Return a positive finite number as a float.

    Raises TypeError if it is not a real number; ValueError if it is not positive, or not finite.
    """
    number = real_number(value, name)
    if not 0.0 < number < math.inf:
        raise ValueError(f"{name} is {value}; expected a positive finite number")
    return number


def one_of(value: Any, name: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    if value not in choices:
        raise ValueError(f"{name} is {value!r}; expected one of {', '.join(choices)}")
    return value
