"""Objects in .npz files: written whole or not at all, and refused if damaged or foreign."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray


def save(path: str | os.PathLike[str], kind: str, version: int, arrays: Mapping[str, Any]) -> None:
    """Write arrays under exactly this name, with the kind of object and version of its format.

    Raises
    ------
    OSError
        If the file cannot be written; one of that name is then still the old one.
    """
    target = Path(path)
    temporary = target.with_name(f".{secrets.token_hex(8)}.tmp")
    try:
        with temporary.open("xb") as file:
            np.savez(file, format=np.array(kind), version=np.array(version), **arrays)
        temporary.replace(target)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def load(path: str | os.PathLike[str], kind: str, version: int) -> dict[str, NDArray[Any]]:
    """Read what `save` has written.

    Raises
    ------
    OSError
        If the file cannot be read.
    ValueError
        If it is truncated, damaged, of another kind of object or another version.
    """
    with Path(path).open("rb") as handle:
        try:
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it is not an .npz archive")
            found = {name: archive[name] for name in archive.files}
        except Exception as error:  # a damaged archive raises many kinds
            raise ValueError(f"{path} is not a saved {kind}, or a damaged one: {error}") from None
    if str(found.get("format")) != kind:
        raise ValueError(f"{path} is not a saved {kind}")
    try:
        written = saved_integer(found, "version")
    except (KeyError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None
    if written != version:
        raise ValueError(
            f"{path} has format version {written}; this infall reads version {version}"
        )
    return found


def saved_array(
    found: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], *dtypes: Any
) -> NDArray[Any]:
    """Return an array after a check of its shape and dtype.

    Raises
    ------
    KeyError, ValueError
        If it is missing or another.
    """
    array = found[name]
    if array.shape != shape or array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        expected = " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
        raise ValueError(
            f"{name} is {array.dtype} of shape {array.shape}; expected {expected} of shape {shape}"
        )
    return array


def saved_integer(found: Mapping[str, NDArray[Any]], name: str) -> int:
    """Return an integer of any size of dtype; raises as `saved_array`."""
    array = found[name]
    if array.shape != () or array.dtype.kind not in "iu":
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; expected an integer")
    return int(array)
