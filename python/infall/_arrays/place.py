"""Where the arrays of a call live: host memory or a CUDA device, behind one set of methods.

A public function asks `infall._arrays.locate.place_of` for the place of its arguments, once, and
for the kernels of its capability there. What differs between places is in their classes, and in the
modules `_host` and `_device` of a capability.
"""

from __future__ import annotations

import functools
import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from types import ModuleType
from typing import Any, ClassVar

from numpy.typing import NDArray


class Place(ABC):
    """Memory that kernels work in; a context in which it is the current one."""

    room: ClassVar[str]
    """Name of the modules that hold its kernels."""
    is_host: ClassVar[bool]
    """Whether values are looked at: on a device that would wait for it."""
    xp: Any
    """Namespace of its arrays."""

    def kernels(self, capability: str) -> Any:
        """Return the module of a capability, such as ``"rows"``, for arrays in this place."""
        return _module(f"infall.{capability}.{self.room}")

    @property
    @abstractmethod
    def description(self) -> str:
        """What error messages call it; two arrays are in one place if theirs are equal."""

    @abstractmethod
    def __enter__(self) -> Place: ...

    @abstractmethod
    def __exit__(self, *error: Any) -> None: ...

    @abstractmethod
    def array(self, given: Any, name: str) -> Any:
        """Return an array of real numbers as one of this place's; nothing is copied for it.

        Raises TypeError for other kinds and dtypes.
        """

    @abstractmethod
    def empty(self, shape: tuple[int, ...] | int, dtype: str) -> Any:
        """Return uninitialised memory."""

    @abstractmethod
    def upload(self, array: NDArray[Any]) -> Any:
        """Return an array of the host in this place, in the order of its current stream.

        To a device it is copied, through page-locked memory: from other memory the driver may wait
        for the stream.
        """

    @abstractmethod
    def download(self, array: Any) -> NDArray[Any]:
        """Return an array of this place in host memory, which waits for the current stream."""

    @abstractmethod
    def dtype_name(self, array: Any) -> str:
        """Return NumPy's name of the dtype, or ``"bfloat16"``."""

    @abstractmethod
    def contiguous(self, array: Any) -> Any:
        """Return the array in C order: itself, or a copy."""

    @abstractmethod
    def cast(self, array: Any, dtype: str) -> Any:
        """Return the array with another dtype, itself if it has it."""

    @abstractmethod
    def returned(self, array: Any) -> Any:
        """Return a result as an array of the caller's library, as far as that holds its dtype."""

    @abstractmethod
    def vectors(self, array: Any, name: str, *, dim: int | None = None) -> tuple[Any, bool]:
        """Return float64 vectors of shape (B, k) in C order, and whether there was a batch axis.

        Raises TypeError as `array`; ValueError for another number of axes than 1 or 2, vectors of
        length 0, another length than `dim`, and in host memory NaN or infinity, with the first
        position; not for a batch of none, shape (0, k).
        """

    @abstractmethod
    def vector_blocks(
        self, array: Any, name: str, *, dim: int | None = None
    ) -> tuple[Iterator[tuple[int, Any]], int, int, bool]:
        """Return float64 vectors block by block, so that no large array is copied whole.

        They are an iterator over the first row of each block and the block (b, k), on a device
        scaled by powers of two to magnitudes below one; the number of vectors, their length, and
        whether there was a batch axis. Raises as `vectors`, for NaN and infinity while iterating.
        """

    @abstractmethod
    def recorded(self) -> Any:
        """Return an event: what the current stream holds so far is done."""

    @abstractmethod
    def wait_for(self, event: Any) -> None:
        """Let the current stream wait for an event."""


def is_real(dtype: str) -> bool:
    """Whether a dtype of this name, ``"bfloat16"`` included, is one of real numbers."""
    return dtype.startswith(("float", "bfloat", "int", "uint", "bool"))


@functools.cache
def _module(name: str) -> ModuleType:
    return importlib.import_module(name)
