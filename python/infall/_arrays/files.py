"""Objects in .npz files: written whole or not at all, and refused if damaged or foreign.

A process that is killed while it writes leaves its temporary file behind, named
``.NAME.<16 digits>.tmp`` in the folder of the file NAME. It may be deleted.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import secrets
import stat
import zipfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from infall._core import __version__

MAPPING_VERSION = 1
"""Of the mapping from counters to normal entries, which docs/random-rows.md describes."""

_Object = TypeVar("_Object")

_HEADER = ("format", "version", "engine", "mapping")
_HEADER_BYTES = 4096  # of each of its members, at most
_CHUNK_BYTES = 2**20
_NAME_BYTES = 200  # of the name in that of the temporary file: file systems allow 255


def save(path: str | os.PathLike[str], kind: str, version: int, arrays: Mapping[str, Any]) -> None:
    """Write arrays under exactly this name, with the kind of object and version of its format.

    Raises OSError or TypeError as `written_whole`.
    """
    header = {"format": kind, "version": version, "engine": __version__, "mapping": MAPPING_VERSION}
    members: dict[str, Any] = {**arrays, **header}
    with written_whole(path) as file:
        np.savez(file, **members)


@contextlib.contextmanager
def written_whole(path: str | os.PathLike[str]) -> Iterator[IO[bytes]]:
    """Open a temporary file that replaces `path` when all is written and on the disk.

    A symbolic link stays, and its target is replaced. A file that was there keeps its mode.

    Raises TypeError for anything but a path, and OSError, with `path` as its file name, if the file
    cannot be written, is there but read-only, or is not a regular file: it is then the old one.
    """
    given = _path_text(path)
    with _naming(given):
        target = Path(os.path.realpath(given))
        mode = _mode_of(target, given)
        name = os.fsdecode(os.fsencode(target.name)[:_NAME_BYTES])
        temporary = target.with_name(f".{name}.{secrets.token_hex(8)}.tmp")
        # Nobody may read what the old file kept from them, not even for a moment.
        creation, flags = 0o666 if mode is None else 0o600, os.O_WRONLY | os.O_CREAT | os.O_EXCL
        try:
            with os.fdopen(os.open(temporary, flags, creation), "wb") as file:
                yield file
                file.flush()
                if mode is not None:
                    os.fchmod(file.fileno(), mode)
                os.fsync(file.fileno())
            temporary.replace(target)
        except BaseException:
            with contextlib.suppress(OSError):
                temporary.unlink()
            raise
        _sync_folder(target.parent)


def load(
    path: str | os.PathLike[str],
    kind: str,
    version: int,
    *,
    members: Callable[[str], bool] | None = None,
    mapping: bool = False,
) -> dict[str, NDArray[Any]]:
    """Read what `save` has written: the arrays whose names `members` accepts, all by default.

    `mapping` says whether the object depends on the mapping from counters to normal entries.

    Raises OSError if the file cannot be read, or is not a regular one; ValueError if it is
    truncated, damaged, of another kind of object, another version or another mapping; TypeError for
    anything but a path.
    """
    given = _path_text(path)
    with contextlib.ExitStack() as stack:
        with _naming(given):
            _mode_of(Path(given), given, to_write=False)
            handle = stack.enter_context(Path(given).open("rb"))
        try:
            with zipfile.ZipFile(handle) as archive:
                header = {name: _member(archive, name, _HEADER_BYTES) for name in _HEADER[:1]}
                if str(header["format"]) != kind:
                    raise ValueError(f"it is a saved {header['format']}")
                for name in _HEADER[1:]:
                    header[name] = _member(archive, name, _HEADER_BYTES)
                _check_versions(header, kind, version, mapping)
                wanted = [
                    name
                    for name in (n.removesuffix(".npy") for n in archive.namelist())
                    if name not in _HEADER and (members is None or members(name))
                ]
                return header | {name: _member(archive, name) for name in wanted}
        except _OtherVersionError as error:
            raise ValueError(f"{given} has {error}") from None
        except Exception as error:  # a damaged archive raises many kinds
            text = str(error) or type(error).__name__
            raise ValueError(f"{given} is not a saved {kind}, or a damaged one: {text}") from None


def load_object(
    path: str | os.PathLike[str],
    kind: str,
    version: int,
    made_of: Callable[[dict[str, NDArray[Any]]], _Object],
) -> _Object:
    """Return the object of a file, which depends on the mapping; raises as `load`, `of_state`."""
    state = load(path, kind, version, mapping=True)
    try:
        return of_state(state, kind, version, made_of)
    except ValueError as error:
        raise ValueError(f"{os.fspath(path)}: {error}") from None


def of_state(
    state: Mapping[str, Any],
    kind: str,
    version: int,
    made_of: Callable[[dict[str, NDArray[Any]]], _Object],
) -> _Object:
    """Return the object that a state is of, whose arrays `made_of` checks.

    Raises TypeError for anything but a mapping, ValueError for a state that is damaged.
    """
    check_state(state, kind, version)
    try:
        return made_of({name: np.asarray(entry) for name, entry in state.items()})
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        missing = f"{error} is missing" if isinstance(error, KeyError) else error
        raise ValueError(f"state is damaged: {missing}") from None


def check_state(state: Mapping[str, Any], kind: str, version: int) -> None:
    """Refuse what is no mapping, and states of another kind of object or version of its format."""
    if not isinstance(state, Mapping):
        raise TypeError(f"state is a {type(state).__name__}; expected a mapping")
    for name, expected in (("format", kind), ("version", version)):
        if state.get(name) != expected:
            raise ValueError(f"state has {name} {state.get(name)!r}; expected {expected!r}")


class _OtherVersionError(ValueError):
    """The file is whole, but of another version."""


def _check_versions(
    header: Mapping[str, NDArray[Any]], kind: str, version: int, mapping: bool
) -> None:
    written, engine = saved_integer(header, "version"), str(header["engine"])
    if written != version:
        raise _OtherVersionError(
            f"format version {written}, written by infall {engine}; this infall reads version "
            f"{version}"
        )
    written = saved_integer(header, "mapping")
    if mapping and written != MAPPING_VERSION:
        raise _OtherVersionError(
            f"mapping version {written}, written by infall {engine}; this infall makes the entries "
            f"of rows by version {MAPPING_VERSION}, so that the rows of this {kind} would be others"
        )


def _member(archive: zipfile.ZipFile, name: str, max_bytes: int | None = None) -> NDArray[Any]:
    # Nothing is read that is not there: members are stored as they are, and their size is checked
    # before memory is taken.
    info = archive.getinfo(f"{name}.npy")
    if info.compress_type != zipfile.ZIP_STORED:
        raise ValueError(f"{name} is compressed")
    if max_bytes is not None and info.file_size > max_bytes:
        raise ValueError(f"{name} has {info.file_size} bytes")
    with archive.open(info) as file:
        if np.lib.format.read_magic(file) != (1, 0):
            raise ValueError(f"{name} has another version of the .npy format")
        shape, is_fortran, dtype = np.lib.format.read_array_header_1_0(file)
        if dtype.hasobject:
            raise ValueError(f"{name} holds pickled objects")
        if info.file_size != file.tell() + math.prod(shape) * dtype.itemsize:
            raise ValueError(f"{name} does not have the size that its header says")
        array = np.empty(shape, dtype=dtype, order="F" if is_fortran else "C")
        if array.nbytes:
            stored = array.reshape(-1, order="A").view(np.uint8)
            for first in range(0, len(stored), _CHUNK_BYTES):
                part = stored[first : first + _CHUNK_BYTES]
                # The last part checks the CRC as well.
                part[:] = np.frombuffer(file.read(len(part)), dtype=np.uint8)
    return array


def _path_text(path: Any) -> str:
    try:
        return os.fsdecode(path)
    except TypeError:
        raise TypeError(f"path is {path!r}; expected a str or another path") from None


@contextlib.contextmanager
def _naming(given: str) -> Iterator[None]:
    # Errors tell the path that the caller knows.
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise OSError(f"{given}: {error}") from None
        raise OSError(error.errno, error.strerror, given) from None


def _mode_of(target: Path, given: str, *, to_write: bool = True) -> int | None:
    # The mode of a regular file, None where there is nothing yet.
    if not given:
        raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), given)
    try:
        mode = target.stat().st_mode
    except FileNotFoundError:
        if not to_write:
            raise
        if given.endswith(os.sep):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), given) from None
        return None
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), given)
    if not stat.S_ISREG(mode):
        raise OSError(errno.EINVAL, "Not a regular file", given)
    if to_write and not os.access(target, os.W_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), given)
    return stat.S_IMODE(mode)


def _sync_folder(folder: Path) -> None:
    # Not every file system can.
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def saved_array(
    arrays: Mapping[str, NDArray[Any]], name: str, shape: tuple[int, ...], *dtypes: Any
) -> NDArray[Any]:
    """Return an array after a check of its shape and dtype.

    Raises KeyError or ValueError if it is missing or another.
    """
    array = arrays[name]
    if array.shape != shape or array.dtype not in [np.dtype(dtype) for dtype in dtypes]:
        expected = " or ".join(str(np.dtype(dtype)) for dtype in dtypes)
        raise ValueError(
            f"{name} is {array.dtype} of shape {array.shape}; expected {expected} of shape {shape}"
        )
    return array


def saved_integer(arrays: Mapping[str, NDArray[Any]], name: str) -> int:
    """Return an integer of any size of dtype; raises as `saved_array`."""
    array = arrays[name]
    if array.shape != () or array.dtype.kind not in "iu":
        raise ValueError(f"{name} is {array.dtype} of shape {array.shape}; expected an integer")
    return int(array)
