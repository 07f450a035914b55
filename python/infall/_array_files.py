"""Arrays of .npy and .npz files, mapped into memory wherever the file allows it."""

from __future__ import annotations

import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

# The fixed part of a local file header of a zip archive, and where the lengths of what follows it
# stand in it: the name, then an extra field.
_LOCAL_HEADER = struct.Struct("<26xHH")
_DAMAGED = (
    ValueError,
    EOFError,
    OSError,
    OverflowError,
    struct.error,
    zipfile.BadZipFile,
    zlib.error,
    NotImplementedError,
    RuntimeError,
)


def read_npy(path: Path) -> NDArray[Any]:
    """Map the array of a .npy file.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is not a whole .npy file of plain numbers or text.
    """
    _require_file(path)
    try:
        # A memory map checks the header against the length of the file.
        return np.lib.format.open_memmap(path, mode="r")
    except _DAMAGED as error:
        raise ValueError(f"{path}: not a whole .npy file: {error}") from error


def read_npz(path: Path) -> dict[str, NDArray[Any]]:
    """Map the arrays of a .npz file; those that are compressed are read.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If it is damaged, or holds anything but plain numbers and text.
    """
    _require_file(path)
    arrays = {}
    try:
        with zipfile.ZipFile(path) as archive:
            for member in archive.infolist():
                name = member.filename.removesuffix(".npy")
                arrays[name] = _member(path, archive, member)
    except _DAMAGED as error:
        raise ValueError(f"{path}: not a readable .npz file: {error}") from error
    return arrays


def _require_file(path: Path) -> None:
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")


def _member(path: Path, archive: zipfile.ZipFile, member: zipfile.ZipInfo) -> NDArray[Any]:
    with archive.open(member) as stream:
        if member.compress_type != zipfile.ZIP_STORED:
            array: NDArray[Any] = np.lib.format.read_array(stream, allow_pickle=False)
            return array
        version = np.lib.format.read_magic(stream)
        read_header = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }.get(version)
        if read_header is None:
            raise ValueError(f"{member.filename} has .npy version {version}")
        shape, by_columns, dtype = read_header(stream)
        length = stream.tell()
    if dtype.hasobject:
        raise ValueError(f"{member.filename} holds Python objects")
    size = int(np.prod(shape, dtype=object)) * dtype.itemsize
    if length + size != member.file_size:
        raise ValueError(f"{member.filename} is truncated")
    with path.open("rb") as file:
        file.seek(member.header_offset)
        name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length + length
    order: Literal["F", "C"] = "F" if by_columns else "C"
    if size == 0:
        return np.empty(shape, dtype=dtype, order=order)
    return np.memmap(path, dtype=dtype, mode="r", offset=start, shape=shape, order=order)
