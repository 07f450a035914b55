"""Widths and random vectors of experiments: what they may be, and how they are drawn and named."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.checks import row_count


def gaussian_input(
    seed: int, dim: int, num_test: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return a vector to fit, (k,), and test vectors, (N, k), of N(0, 1) entries from a seed."""
    drawn = np.random.default_rng(seed).standard_normal((num_test + 1, dim))
    return drawn[0], drawn[1:]


def layer_widths(widths: Sequence[int], dim: int) -> tuple[int, ...]:
    """Return checked widths of layers.

    Raises
    ------
    TypeError
        For anything but a sequence of integers.
    ValueError
        For none, one below `dim`, and for widths that do not ascend.
    """
    given: Any = widths
    if isinstance(given, (str, bytes)) or not isinstance(given, (Sequence, np.ndarray)):
        raise TypeError(f"widths is {widths!r}; expected a sequence of integers")
    if len(widths) == 0:
        raise ValueError("widths is empty; expected at least one")
    checked = tuple(row_count(width, f"widths[{i}]") for i, width in enumerate(widths))
    for i, width in enumerate(checked):
        if width < dim:
            raise ValueError(f"widths[{i}] is {width}; expected at least dim = {dim}")
        if i > 0 and width <= checked[i - 1]:
            raise ValueError(f"widths[{i}] is {width} after {checked[i - 1]}; they must ascend")
    return checked


def random_angles(
    rng: np.random.Generator, dim: int, shape: int | tuple[int, ...]
) -> NDArray[np.float64]:
    """Draw angles of Gaussian vectors in R^dim to a fixed one: a chi variable over a normal one."""
    return np.arctan2(np.sqrt(rng.chisquare(dim - 1, shape)), rng.standard_normal(shape))


def width_name(width: int) -> str:
    """Return a width in text: 2^25 for powers of two, otherwise 1,000,000."""
    exponent = width.bit_length() - 1
    return f"2^{exponent}" if width == 2**exponent and width > 2 else f"{width:,}"


def width_label(width: int) -> str:
    """Return a width as matplotlib sets it."""
    name = width_name(width)
    return f"$2^{{{name[2:]}}}$" if name.startswith("2^") else name
