"""What is done of a long call, in a file that another one goes on from."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from infall._arrays import files

_VERSION = 1


def digest_of(array: NDArray[Any]) -> str:
    """Return a digest of the dtype, shape and numbers of an array."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Checkpoint:
    """A file with the settings of a call and what is done of it; without a path, nothing.

    Parameters
    ----------
    path : path or None
        The file.
    kind : str
        Of the call.
    settings : mapping of str to integers and text
        What another call has to share in order to go on.
    seconds : float
        At least so long between two writes.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None,
        kind: str,
        settings: Mapping[str, int | str],
        seconds: float,
    ) -> None:
        self.path = None if path is None else os.fspath(path)
        self._kind, self._settings, self._seconds = kind, settings, seconds
        self._written = time.monotonic()

    def load(self) -> dict[str, NDArray[Any]] | None:
        """Return the arrays that were saved, or None if there is no file yet.

        Raises OSError if it cannot be read; ValueError if it is damaged or foreign, or that of a
        call with other settings.
        """
        if self.path is None:
            return None
        try:
            state = files.load(self.path, self._kind, _VERSION, mapping=True)
        except FileNotFoundError:
            return None
        for name, mine in self._settings.items():
            theirs = state.pop(f"setting_{name}", None)
            if theirs is None or str(theirs) != str(mine):
                told = "" if name == "w" else f": {theirs}, not {mine}"
                raise ValueError(f"{self.path} is the checkpoint of another {name}{told}")
        return state

    def save(self, arrays: Callable[[], Mapping[str, Any]], *, now: bool = False) -> None:
        """Write the arrays, if it is time to or `now`, whole or not at all."""
        if self.path is None or (not now and time.monotonic() - self._written < self._seconds):
            return
        settings = {f"setting_{name}": np.array(str(v)) for name, v in self._settings.items()}
        files.save(self.path, self._kind, _VERSION, {**arrays(), **settings})
        self._written = time.monotonic()
