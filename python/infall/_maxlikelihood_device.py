"""Fitting a network of layers on a device: everything is queued, nothing is waited for."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall import _rows_device
from infall._device import Device


class QueuedFit:
    """A fit that a stream of a device is at work on, in arrays of the device's library.

    Attributes
    ----------
    layers : list of float32 arrays, shape (k, k)
        The selected rows.
    directions : float64 array, shape (L + 1, k)
        The fitted vector before the first layer and after each.
    """

    def __init__(
        self, device: Device, vector: Any, depth: int, select: Callable[[int, Any], Any]
    ) -> None:
        """Queue the fit of `vector` (1, k), float64; ``select(number, w)`` selects for a layer."""
        self.dim = int(vector.shape[1])
        self.layers: list[Any] = []
        self._device, self._stream = device, device.stream
        self._selections: list[Any] = []
        with device:
            self.directions = device.empty((depth + 1, self.dim), "float64")
            self._norms = device.empty((depth + 1,), "float64")
            self._exponents = device.empty((depth + 1,), "int64")
            self._normalise(vector, 0)
            for number in range(depth):
                direction = self.directions[number]
                selection = select(number, direction)
                self._selections.append(selection)
                self.layers.append(selection.rows)
                output = _rows_device.multiply_in_order(device, selection.rows, direction)
                self._normalise(output[None], number + 1)
            self._done = device.recorded()

    def _normalise(self, vector: Any, number: int) -> None:
        here = slice(number, number + 1)
        into = (self.directions[here], self._norms[here], self._exponents[here])
        _rows_device.unit_vectors(self._device, vector, into)

    def is_at(self, device: Device | None) -> bool:
        """Whether the arrays are at hand on the current stream of a device.

        Memory is given back to the stream it was taken on: others may not use it without waiting.
        """
        if device is None or (device.library, device.number, device.stream) != (
            self._device.library,
            self._device.number,
            self._stream,
        ):
            return False
        device.wait_for(self._done)  # a stream of this name may have come after the one of the fit
        return True

    def fetched(self) -> dict[str, Any]:
        """Wait for the fit and return the attributes of the model, in host memory.

        Raises
        ------
        ValueError
            If the vector was zero or not finite.
        """
        device = self._device
        self._done.synchronize()
        with device:
            norms, exponents = device.download(self._norms), device.download(self._exponents)
            if np.isnan(norms[0]):
                raise ValueError(
                    "w, which the model was fitted to, is zero or not finite: it has no direction"
                )
            directions = device.download(self.directions)

            def stacked(arrays: list[Any]) -> NDArray[Any]:
                return np.stack([device.download(array) for array in arrays])

            return {
                "layers_": stacked(self.layers),
                "outputs_": directions[1:].copy(),
                "log_norms_": np.array(
                    [math.log(norm) for norm in np.ldexp(norms[1:], exponents[1:])]
                ),
                "indices_": stacked([selection.indices for selection in self._selections]),
                "scores_": stacked([selection.projections for selection in self._selections]),
                "input_": directions[0].copy(),
                "log_input_norm_": math.log(norms[0]) + int(exponents[0]) * math.log(2.0),
            }
