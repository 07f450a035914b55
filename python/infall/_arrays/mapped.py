"""Arrays of .npy and .npz files, mapped into memory where the file allows it, and checked."""

from __future__ import annotations

import gzip
import math
import struct
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import IO, Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

# The fixed part of a local file header of a zip archive, and where the lengths of what follows it
# stand in it: the name, then an extra field.
_LOCAL_HEADER = struct.Struct("<26xHH")
_CHUNK = 2**20  # bytes read at a time
_PLAIN_KINDS = "?biufcSU"
MAX_DEFLATE_RATIO = 1032
"""Bytes that one compressed byte can stand for: a file that claims more is damaged."""


def read_npy(path: Path) -> NDArray[Any]:
    """Map the array of a .npy file.

    Raises OSError if it cannot be opened; ValueError if it is not a whole .npy file of plain
    numbers or text, and nothing else.
    """
    with open_file(path) as file:
        try:
            header = _read_header(file)
            _check_size(header, path.stat().st_size)
            return _mapped(path, header, 0)
        except (ValueError, OSError) as error:
            raise ValueError(f"{path}: not a whole .npy file: {error}") from error


def npz_names(path: Path) -> list[str]:
    """Return the names of the arrays of a .npz file.

    Raises OSError if it cannot be opened; ValueError if it is no zip archive, or a damaged one.
    """
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                return [_array_name(member) for member in archive.infolist()]
        except Exception as error:
            raise _damaged_archive(path, error) from error


def read_npz(path: Path, names: Iterable[str]) -> dict[str, NDArray[Any]]:
    """Return those arrays of a .npz file that there are: mapped, or read if they are compressed.

    Their checksums are compared, which reads each once, and no other array of the file.

    Raises OSError if it cannot be opened; ValueError if it is damaged, or one of these arrays holds
    anything but plain numbers and text.
    """
    wanted = set(names)
    arrays = {}
    with open_file(path) as file:
        try:
            with zipfile.ZipFile(file) as archive:
                for member in archive.infolist():
                    if _array_name(member) in wanted:
                        arrays[_array_name(member)] = _member(path, file, archive, member)
        except MemoryError:
            raise
        except Exception as error:
            raise _damaged_archive(path, error) from error
    return arrays


def open_file(path: Path) -> IO[bytes]:
    """Open a regular file.

    Raises OSError if it cannot be opened; ValueError if it is a folder, a pipe or a device.
    """
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    return path.open("rb")


def _damaged_archive(path: Path, error: Exception) -> ValueError:
    # zipfile raises errors of nine kinds, most of which say little.
    return ValueError(f"{path}: not a readable .npz file: {str(error) or type(error).__name__}")


def _array_name(member: zipfile.ZipInfo) -> str:
    return member.filename.removesuffix(".npy")


class _Header(NamedTuple):
    shape: tuple[int, ...]
    by_columns: bool
    dtype: np.dtype[Any]
    length: int
    """Bytes before the entries."""

    @property
    def size(self) -> int:
        """Bytes of the entries."""
        return math.prod(self.shape) * self.dtype.itemsize


def _read_header(stream: IO[bytes]) -> _Header:
    try:
        version = np.lib.format.read_magic(stream)
        read = {
            (1, 0): np.lib.format.read_array_header_1_0,
            (2, 0): np.lib.format.read_array_header_2_0,
        }[version]
        shape, by_columns, dtype = read(stream)
    except KeyError:
        raise ValueError(f"it has .npy version {version}") from None
    except Exception as error:  # from a tokenizer, a parser of Python literals, the dtype
        raise ValueError(f"its header is damaged: {str(error) or type(error).__name__}") from error
    if dtype.kind not in _PLAIN_KINDS:
        held = "Python objects" if dtype.hasobject else f"entries of dtype {dtype}"
        raise ValueError(f"it holds {held}, expected plain numbers or text")
    if any(length < 0 for length in shape):
        raise ValueError(f"its header is damaged: shape {shape}")
    return _Header(tuple(int(n) for n in shape), bool(by_columns), dtype, stream.tell())


def _check_size(header: _Header, file_size: int) -> None:
    expected = header.length + header.size
    if file_size != expected:
        wrong = "it is truncated" if file_size < expected else "bytes are left over"
        raise ValueError(
            f"{wrong}: {file_size} bytes where shape {header.shape} of {header.dtype} takes "
            f"{expected}"
        )


def _order(header: _Header) -> Literal["F", "C"]:
    return "F" if header.by_columns else "C"


def _mapped(path: Path, header: _Header, start: int) -> NDArray[Any]:
    if header.size == 0:
        return np.empty(header.shape, header.dtype, order=_order(header))
    offset = start + header.length
    shape, order = header.shape, _order(header)
    return np.memmap(path, header.dtype, mode="r", offset=offset, shape=shape, order=order)


def _member(
    path: Path, file: IO[bytes], archive: zipfile.ZipFile, member: zipfile.ZipInfo
) -> NDArray[Any]:
    try:
        with archive.open(member) as stream:
            header = _read_header(stream)
            _check_size(header, member.file_size)
            if member.compress_type == zipfile.ZIP_STORED:
                while stream.read(_CHUNK):  # at the end zipfile compares the checksum
                    pass
            else:
                if member.file_size > MAX_DEFLATE_RATIO * (member.compress_size + 1):
                    raise ValueError("it is truncated: its compressed bytes are too few")
                array = _read_entries(stream, header)
                stream.read(1)
                return array
    except ValueError as error:
        raise ValueError(f"{member.filename}: {error}") from error
    file.seek(member.header_offset)
    name_length, extra_length = _LOCAL_HEADER.unpack(file.read(_LOCAL_HEADER.size))
    start = member.header_offset + _LOCAL_HEADER.size + name_length + extra_length
    return _mapped(path, header, start)


def _read_entries(stream: IO[bytes], header: _Header) -> NDArray[Any]:
    content = read_exactly(stream, header.size)
    if len(content) < header.size:
        raise ValueError(f"it is truncated: {len(content)} of {header.size} bytes")
    if header.size == 0:
        return np.empty(header.shape, header.dtype, order=_order(header))
    entries = np.frombuffer(content, header.dtype)
    return entries.reshape(header.shape, order=_order(header))


def read_exactly(stream: IO[bytes] | gzip.GzipFile, size: int) -> bytearray:
    """Return the next bytes of a stream, fewer than `size` only where it ends before."""
    content = bytearray()
    while len(content) < size and (part := stream.read(min(_CHUNK, size - len(content)))):
        content += part
    return content
