"""Metrics of the layers of a network together."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

from infall._arrays.calls import Progress, watch_of
from infall._arrays.convert import AnyArray
from infall.collapse._checks import number_between, real_vector
from infall.collapse._samples import ArraySamples
from infall.frames._simplex import power_of_two, row_blocks


def effective_depth(ncc_errors: ArrayLike, epsilon: float = 0.0) -> int:
    """Epsilon-effective depth: the first layer whose nearest class means err at most epsilon.

    Parameters
    ----------
    ncc_errors : array, shape (L,)
        `ncc_error` of layers 1 .. L, each from 0 to 1; the input is no layer.
    epsilon : float
        From 0 to 1.

    Returns
    -------
    int
        From 1 to L; L if there is no such layer.

    Raises
    ------
    TypeError, ValueError
        For numbers that are not real, or not in [0, 1], and without layers.

    Notes
    -----
    Source: Kothapalli, Section 4.2; Galanti, Galanti, Ben-Shaul 2022.
    """
    epsilon = number_between(epsilon, "epsilon", 0.0, 1.0)
    errors = real_vector(ncc_errors, "ncc_errors")
    for i, error in enumerate(errors.tolist()):
        number_between(error, f"ncc_errors[{i}]", 0.0, 1.0)
    reached = np.flatnonzero(errors <= epsilon)
    return int(reached[0]) + 1 if len(reached) else len(errors)


def layer_coordinates(
    layers: Sequence[AnyArray], *, progress: Progress | None = None
) -> NDArray[np.float64]:
    """Relative position of each layer by the distance that the samples have travelled.

    sum_{j<l} sum_i ||h_i^{j+1} - h_i^j|| over the same sum up to the last layer.

    Parameters
    ----------
    layers : sequence of arrays, each (N, d)
        Features of the same samples in layers 0 .. L, L >= 1, as `collapse_report` takes them;
        read block by block, from a device through host memory.
    progress : callable, optional
        Called as progress(rows_done, rows_total, "layers"), L N rows in all.

    Returns
    -------
    float64 array, shape (L + 1,)
        From 0 to 1, ascending.

    Raises
    ------
    TypeError, ValueError
        For fewer than two layers, layers of different shapes or without samples, dtypes that are
        not real and entries that are not finite; if no sample moves at all.

    Notes
    -----
    Source: Wang et al., Progressive Feedforward Collapse, Section IV-A.
    """
    if not hasattr(layers, "__getitem__") or not hasattr(layers, "__len__"):
        raise TypeError(f"layers is a {type(layers).__name__}; expected a sequence of arrays")
    if len(layers) < 2:
        raise ValueError(f"layers has {len(layers)} entries; expected at least 2")
    samples = [ArraySamples(layer, f"layers[{i}]") for i, layer in enumerate(layers)]
    shape = samples[0].shape
    for entry in samples:
        if entry.shape != shape:
            raise ValueError(
                f"{entry.name} has shape {entry.shape}, layers[0] {shape}; expected the same, for "
                "there is no distance between features of different widths"
            )
    if shape[0] == 0:
        raise ValueError("layers have no samples; expected at least one")
    watch = watch_of(progress, (len(layers) - 1) * shape[0], "layers")
    lengths = np.zeros(len(layers))  # (L + 1,), times `unit`
    unit: float | None = None  # the power of two of the first steps
    for layer in range(1, len(layers)):
        for rows in row_blocks(*shape):
            # Halves, of which no difference leaves the range of float64.
            step = 0.5 * samples[layer].float64_rows(rows)
            step -= 0.5 * samples[layer - 1].float64_rows(rows)
            scale = power_of_two(step)
            step *= scale
            norms = np.sqrt(np.einsum("nd,nd->n", step, step))
            if unit is None and norms.any():
                unit = scale
            lengths[layer] += float(norms.sum()) * ((unit or scale) / scale)
            if watch is not None:
                watch((layer - 1) * shape[0] + rows.stop)
    distances = np.cumsum(lengths)
    if distances[-1] == 0.0:
        raise ValueError("layers are all equal: no sample moves, and there are no coordinates")
    coordinates: NDArray[np.float64] = distances / distances[-1]
    return coordinates
