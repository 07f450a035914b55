"""What a fit finds, and a fit on a device: everything is queued, nothing is waited for."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infall._arrays.device import Device
from infall.rows import _device as _rows_device


class Fit(NamedTuple):
    """The attributes of a fitted model, in host memory."""

    layers_: NDArray[np.float32]  # (L, k, k)
    outputs_: NDArray[np.float64]  # (L, k)
    log_norms_: NDArray[np.float64]  # (L,)
    indices_: NDArray[np.int64]  # (L, k)
    scores_: NDArray[np.float64]  # (L, k)
    input_: NDArray[np.float64]  # (k,)
    log_input_norm_: float


class QueuedFit:
    """A fit that a stream of a device is at work on, in arrays of the device's library."""

    def __init__(
        self, device: Device, vector: Any, depth: int, select: Callable[[int, Any], Any]
    ) -> None:
        """Queue the fit of `vector` (1, k), float64; ``select(number, w)`` selects for a layer."""
        self.dim = int(vector.shape[1])
        self._device, self._stream = device, device.stream
        self._selections: list[Any] = []
        self._fetching = threading.Lock()
        self._fit: Fit | None = None
        with device:
            self._directions = device.empty((depth + 1, self.dim), "float64")
            self._norms = device.empty((depth + 1,), "float64")
            self._exponents = device.empty((depth + 1,), "int64")
            self._normalise(vector, 0)
            for number in range(depth):
                direction = self._directions[number]
                selection = select(number, direction)
                self._selections.append(selection)
                output = _rows_device.multiply_in_order(device, selection.rows, direction)
                self._normalise(output[None], number + 1)
            self._done = device.recorded()

    def _normalise(self, vector: Any, number: int) -> None:
        here = slice(number, number + 1)
        into = (self._directions[here], self._norms[here], self._exponents[here])
        _rows_device.unit_vectors(self._device, vector, into)

    def at(self, device: Device | None) -> tuple[list[Any], Any] | None:
        """Return layers (k, k) and directions (L + 1, k), if a device has them on its stream.

        Memory is given back to the stream it was taken on: others may not use it without waiting.
        The directions are the fitted vector before the first layer and after each.
        """
        if device is None or (device.library, device.number, device.stream) != (
            self._device.library,
            self._device.number,
            self._stream,
        ):
            return None
        selections, directions = self._selections, self._directions
        if self._fit is not None:  # whose arrays on the device are gone
            return None
        device.wait_for(self._done)  # a stream of this name may have come after the one of the fit
        return [selection.rows for selection in selections], directions

    def fetched(self) -> Fit:
        """Wait for the fit and return it; after the first time from host memory.

        Raises
        ------
        ValueError
            If the vector was zero or not finite.
        """
        with self._fetching:
            if self._fit is None:
                self._fit = self._fetch()
                self._selections = []
                self._directions = self._norms = self._exponents = None
            return self._fit

    def _fetch(self) -> Fit:
        device = self._device
        self._done.synchronize()
        with device:
            norms, exponents = device.download(self._norms), device.download(self._exponents)
            if np.isnan(norms[0]):
                raise ValueError(
                    "w, which the model was fitted to, is zero or not finite: it has no direction"
                )
            directions = device.download(self._directions)

            def stacked(name: str) -> NDArray[Any]:
                return np.stack(
                    [device.download(getattr(selection, name)) for selection in self._selections]
                )

            return Fit(
                layers_=stacked("rows"),
                outputs_=directions[1:].copy(),
                log_norms_=np.array(
                    [math.log(norm) for norm in np.ldexp(norms[1:], exponents[1:])]
                ),
                indices_=stacked("indices"),
                scores_=stacked("projections"),
                input_=directions[0].copy(),
                log_input_norm_=math.log(norms[0]) + int(exponents[0]) * math.log(2.0),
            )
