"""A fit on a device: everything is queued, nothing is waited for."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays.device import Device
from infall._arrays.host import Host
from infall._arrays.place import Place
from infall.maxlikelihood._host import Fit
from infall.rows import _device as _rows_device
from infall.rows import _host as _rows_host


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
        row = slice(number, number + 1)
        into = (self._directions[row], self._norms[row], self._exponents[row])
        _rows_device.unit_vectors(self._device, vector, "w", into)

    def at(self, place: Place, depth: int) -> tuple[list[Any], Any]:
        """Return the first layers (k, k), and the fitted vector before and after each.

        They are the arrays of the fit itself if the place is its device, on its stream: memory is
        given back to the stream it was taken on, and others may not use it without waiting.
        """
        held_at = (self._device.description, self._stream)
        wanted_at = (place.description, place.stream if isinstance(place, Device) else None)
        selections, directions = self._selections, self._directions
        if held_at != wanted_at or self._fit is not None:  # when its arrays on the device are gone
            return self.fetched().at(place, depth)
        place.wait_for(self._done)  # a stream of this name may have come after the one of the fit
        return [selection.rows for selection in selections[:depth]], directions

    def fetched(self) -> Fit:
        """Wait for the fit and return it; after the first time from host memory.

        Raises ValueError if the vector was zero or not finite.
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


def fit(
    device: Device, vector: Any, depth: int, _: int, select: Callable[[int, Any], Any]
) -> QueuedFit:
    """Queue the fit to a vector (1, k), of the device or the host, which then is not zero.

    The fourth argument is the number of threads of a fit on the host.
    """
    if isinstance(vector, np.ndarray):
        _rows_host.unit_vectors(Host(), vector, "w")  # refuses zero
        with device:
            vector = device.upload(vector)
    return QueuedFit(device, vector, depth, select)


def unit_blocks(device: Device, X: Any, dim: int) -> tuple[Iterator[tuple[int, Any]], int, bool]:
    """Return blocks (first sample, unit vectors (b, k)), the number of samples, and batched."""
    blocks, num_samples, _, batched = device.vector_blocks(X, "X", dim=dim)
    norm = device.xp.linalg.norm
    units = ((first, block / norm(block, axis=1, keepdims=True)) for first, block in blocks)
    return units, num_samples, batched


def entropy(device: Device, theta: Any) -> Any:
    """Return H2(theta) in bits, theta <= 1/2."""
    log, log1p = device.xp.log, device.xp.log1p
    inside = theta * log(theta + (theta == 0.0)) + (1.0 - theta) * log1p(-theta)
    return inside * (-1.0 / math.log(2.0))
