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
_SETTING = "setting_"


def digest_of(array: NDArray[Any]) -> str:
    """Return a digest of the dtype, shape and numbers of an array."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape} ".encode())
    digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


def read(path: str | os.PathLike[str], kind: str) -> tuple[dict[str, str], dict[str, NDArray[Any]]]:
    """Return the settings and the arrays of a checkpoint of any call; raises as `files.load`."""
    state = files.load(path, kind, _VERSION, mapping=True)
    settings = {name: str(state.pop(name)) for name in list(state) if name.startswith(_SETTING)}
    return {name.removeprefix(_SETTING): text for name, text in settings.items()}, state


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
            settings, arrays = read(self.path, self._kind)
        except FileNotFoundError:
            return None
        for name, mine in self._settings.items():
            if settings.get(name) != str(mine):
                told = "" if name == "w" else f": {settings.get(name)}, not {mine}"
                raise ValueError(f"{self.path} is the checkpoint of another {name}{told}")
        return arrays

    def save(self, arrays: Callable[[], Mapping[str, Any]], *, now: bool = False) -> None:
        """Write the arrays, if it is time to or `now`, whole or not at all."""
        if self.path is None or (not now and time.monotonic() - self._written < self._seconds):
            return
        settings = {f"{_SETTING}{name}": np.array(str(v)) for name, v in self._settings.items()}
        files.save(self.path, self._kind, _VERSION, {**arrays(), **settings})
        self._written = time.monotonic()
