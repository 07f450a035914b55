"""What a fit finds, and a fit in host memory."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall._arrays.host import Host, normalised
from infall._arrays.place import Place
from infall.laws import binary_entropy
from infall.rows import RowSelection
from infall.rows._host import multiply_in_order, unit_vectors


class Fit(NamedTuple):
    """The attributes of a fitted model, in host memory."""

    layers_: NDArray[np.float32]  # (L, k, k)
    outputs_: NDArray[np.float64]  # (L, k)
    log_norms_: NDArray[np.float64]  # (L,)
    indices_: NDArray[np.int64]  # (L, k)
    scores_: NDArray[np.float64]  # (L, k)
    input_: NDArray[np.float64]  # (k,)
    log_input_norm_: float

    @property
    def dim(self) -> int:
        return len(self.input_)

    def fetched(self) -> Fit:
        """Return this fit."""
        return self

    def at(self, place: Place, depth: int) -> tuple[list[Any], Any]:
        """Return the first layers (k, k), and the fitted vector before and after each."""
        directions = np.concatenate([self.input_[None], self.outputs_])
        return [place.upload(rows) for rows in self.layers_[:depth]], place.upload(directions)


def fit(
    host: Host,
    vector: NDArray[np.float64],
    depth: int,
    threads: int,
    select: Callable[[int, Any], RowSelection],
) -> Fit:
    """Fit to a vector (1, k); ``select(number, w)`` selects for a layer."""
    directions, norms, exponents = unit_vectors(host, vector, "w")
    dim = directions.shape[1]
    current = directions[0]
    layers = np.empty((depth, dim, dim), dtype=np.float32)
    outputs = np.empty((depth, dim))
    log_norms = np.empty(depth)
    indices = np.empty((depth, dim), dtype=np.int64)
    scores = np.empty((depth, dim))
    for number in range(depth):
        selection = select(number, current)
        layers[number] = selection.rows
        indices[number], scores[number] = selection.indices, selection.projections
        output = multiply_in_order(host, layers[number], current, threads)
        unit, norm, exponent = unit_vectors(host, output[None], "w")
        log_norms[number] = math.log(np.ldexp(norm[0], exponent[0]))
        current = outputs[number] = unit[0]
    log_input_norm = math.log(norms[0]) + int(exponents[0]) * math.log(2.0)
    return Fit(layers, outputs, log_norms, indices, scores, directions[0], log_input_norm)


def unit_blocks(
    host: Host, X: Any, dim: int
) -> tuple[Iterator[tuple[int, NDArray[np.float64]]], int, bool]:
    """Return blocks (first sample, unit vectors (b, k)), the number of samples, and batched."""
    blocks, num_samples, _, batched = host.vector_blocks(X, "X", dim=dim)
    units = ((first, normalised(block, "X", first, batched)) for first, block in blocks)
    return units, num_samples, batched


def entropy(_: Host, theta: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return H2(theta) in bits, theta <= 1/2."""
    return np.asarray(binary_entropy(theta))
