"""Angles of test vectors to the fitted one, to full relative precision at any depth."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from infall.maxlikelihood.network import MaxLikelihood


def deep_angles(
    model: MaxLikelihood, X: NDArray[np.float64], layers: Sequence[int]
) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Return the distance of each angle score to the nearer of 0 and 1, and which one it is.

    `MaxLikelihood.pole_distances` takes the difference of two unit vectors and ends at 1e-16; a
    layer of 2^25 rows and k = 256 gets there in 24 layers. Here the part of a test vector along the
    fitted one and the part across go through the layers separately, which preserves the precision
    of the small one down to the smallest normal float64.

    Parameters
    ----------
    model : MaxLikelihood
        A fitted network.
    X : ndarray of float64, shape (N, k)
        Test vectors, none zero.
    layers : sequence of int
        Layers wanted, ascending, from 0, the input, to L.

    Returns
    -------
    distances : ndarray of float64, shape (len(layers), N)
        In [0, 1/2]; relative error below 1e-12.
    near_one : ndarray of bool, shape (len(layers), N)
        True where the angle score is nearer to 1 than to 0.

    Notes
    -----
    A test vector ``x = c w + r``, r orthogonal to the unit vector w, leaves a layer as
    ``G x = (c T + w' . G r) w' + (I - w' w'^T) G r``, T the norm and w' the direction of ``G w``.
    That is linear in (c, r), and the layers between two that are wanted are multiplied first.
    Everything is divided by T once a layer: c settles and r decays.
    """
    along = X @ model.input_  # (N,)
    across = X - along[:, None] * model.input_  # (N, k)
    distances = np.empty((len(layers), len(X)))
    near_one = np.empty((len(layers), len(X)), dtype=bool)
    reached = 0
    for row, layer in enumerate(layers):
        if layer > reached:
            step = _step_of_layer(model, reached)  # of (c, r)
            for between in range(reached + 1, layer):
                step = _step_of_layer(model, between) @ step
            moved = across @ step[:, 1:].T  # (N, k + 1)
            along = along + moved[:, 0]
            across = moved[:, 1:]
            reached = layer
        across_norms = np.sqrt(np.einsum("ij,ij->i", across, across))
        distances[row] = np.arctan2(across_norms, np.abs(along)) / math.pi
        near_one[row] = along < 0.0
    return distances, near_one


def _step_of_layer(model: MaxLikelihood, layer: int) -> NDArray[np.float64]:
    """Return what a layer does to (c, r), divided by T: (k + 1, k + 1)."""
    dim = len(model.input_)
    rows = model.layers_[layer].astype(np.float64) * math.exp(-model.log_norms_[layer])
    output = model.outputs_[layer]
    step = np.zeros((dim + 1, dim + 1))
    step[0, 0] = 1.0
    step[0, 1:] = output @ rows
    step[1:, 1:] = rows - np.outer(output, step[0, 1:])
    return step
