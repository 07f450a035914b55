"""Image data sets, one image per row: the bundled digits, NumPy files, the IDX files of MNIST."""

from __future__ import annotations

import gzip
import math
import os
import struct
import zlib
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from infall._arrays.checks import integer
from infall._arrays.mapped import (
    MAX_DEFLATE_RATIO,
    npz_names,
    open_file,
    read_exactly,
    read_npy,
    read_npz,
)

__all__ = ["load_digits", "load_images"]

_IDX_DTYPES: dict[int, np.dtype[np.generic]] = {
    0x08: np.dtype(">u1"),
    0x09: np.dtype(">i1"),
    0x0B: np.dtype(">i2"),
    0x0C: np.dtype(">i4"),
    0x0D: np.dtype(">f4"),
    0x0E: np.dtype(">f8"),
}
_GZIP_MAGIC = b"\x1f\x8b"
_MAX_DIMS = 64  # of a NumPy array


def load_digits(side: int = 8) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
    """Load the 1797 handwritten 8 by 8 digits that come with scikit-learn.

    Parameters
    ----------
    side : int
        Pixels per side. For another number than 8 the images are interpolated, linearly in both
        directions; 28 is the size of MNIST.

    Returns
    -------
    images : ndarray of float64, shape (1797, side * side)
        One digit per row, pixels divided by the largest one: values in [0, 1].
    labels : ndarray of int64, shape (1797,)
        The digit, 0 to 9, of every row.

    Raises
    ------
    ModuleNotFoundError
        Without scikit-learn (``pip install infall[cli]``).
    TypeError, ValueError
        For a side that is no integer from 1 to 1024.
    """
    side = integer(side, "side", 1, 1025)
    from sklearn.datasets import load_digits as load_bundled_digits

    pixels, digits = load_bundled_digits(return_X_y=True)
    images = np.asarray(pixels, dtype=np.float64)
    images /= images.max()
    if side != 8:
        squares = images.reshape(-1, 8, 8)
        zoom = (1.0, side / 8, side / 8)
        enlarged = scipy.ndimage.zoom(squares, zoom, order=1, mode="nearest", grid_mode=True)
        images = enlarged.reshape(len(images), -1)
    return images, np.asarray(digits, dtype=np.int64)


def load_images(
    path: str | os.PathLike[str],
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64] | None]:
    """Load the images of a NumPy or IDX file, one flattened image per row.

    The suffix decides the format: ``.npy``; ``.npz``; anything else is read as IDX, the format of
    MNIST, plain or compressed with gzip. Nothing is ever unpickled.

    Parameters
    ----------
    path : str or path-like
        * ``.npy``: one array of shape (N, ...).
        * ``.npz``: the array named ``images`` or ``x``, else the only array; labels from
          ``labels`` or ``y`` if there is one.
        * IDX: any element type, two dimensions or more. MNIST keeps labels in a file of their
          own; it is read too where it lies beside the images under the usual name
          (``train-images-idx3-ubyte`` and ``train-labels-idx1-ubyte``).

    Returns
    -------
    images : ndarray of float64, shape (N, k)
        The values as they are stored, not rescaled.
    labels : ndarray of int64, shape (N,), or None
        None where the file has no labels.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is truncated, damaged, of another kind, or holds anything but finite real
        images; the message names the file and what is wrong with it.
    """
    path = Path(path)
    labels: npt.NDArray[np.generic] | None
    match path.suffix.lower():
        case ".npy":
            images, labels = read_npy(path), None
        case ".npz":
            images, labels = _read_npz(path)
        case _:
            images = _read_idx(path)
            labels_path = path.with_name(
                path.name.replace("images", "labels").replace("idx3", "idx1")
            )
            has_labels = labels_path != path and labels_path.is_file()
            labels = _read_idx(labels_path) if has_labels else None
    rows = _as_rows(images, path)
    return rows, None if labels is None else _as_labels(labels, len(rows), path)


def _read_npz(
    path: Path,
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic] | None]:
    names = npz_names(path)
    labels_name = next((name for name in ("labels", "y") if name in names), None)
    others = [name for name in names if name != labels_name]
    named = [name for name in ("images", "x") if name in others] or others
    if len(others) != 1 and named is others:
        raise ValueError(
            f"{path}: which array holds the images? It has {', '.join(names) or 'none'}; "
            "expected one named images or x, or a single array"
        )
    wanted = [named[0]] if labels_name is None else [named[0], labels_name]
    arrays = read_npz(path, wanted)
    return arrays[named[0]], None if labels_name is None else arrays[labels_name]


def _read_idx(path: Path) -> npt.NDArray[np.generic]:
    """Read an IDX file: two zero bytes, type, number of dimensions, sizes, values (big endian)."""
    with open_file(path) as file:
        start = file.read(2)
        file.seek(0)
        file_size = path.stat().st_size
        if start == _GZIP_MAGIC:
            try:
                with gzip.GzipFile(fileobj=file) as stream:
                    return _read_idx_stream(path, stream, MAX_DEFLATE_RATIO * file_size)
            except (EOFError, OSError, zlib.error, struct.error) as error:
                raise ValueError(f"{path}: damaged gzip file: {error}") from error
        if path.suffix.lower() == ".gz":
            raise ValueError(
                f"{path}: not a gzip file: it starts with {start.hex(' ') or 'nothing'}, "
                f"expected {_GZIP_MAGIC.hex(' ')}"
            )
        return _read_idx_stream(path, file, file_size)


def _read_idx_stream(
    path: Path, stream: IO[bytes] | gzip.GzipFile, most: int
) -> npt.NDArray[np.generic]:
    """Read the header, and of the rest what the header says, which is not beyond `most` bytes."""
    magic = stream.read(4)
    if len(magic) < 4:
        raise ValueError(f"{path}: truncated: {len(magic)} of the 4 bytes of an IDX magic number")
    if magic[:2] != b"\0\0" or magic[2] not in _IDX_DTYPES:
        raise ValueError(
            f"{path}: not an IDX file (nor .npy, .npz): the magic number is {magic.hex(' ')}"
        )
    dtype, num_dims = _IDX_DTYPES[magic[2]], magic[3]
    sizes = stream.read(4 * num_dims)
    if len(sizes) < 4 * num_dims:
        raise ValueError(
            f"{path}: truncated: {4 + len(sizes)} of the {4 + 4 * num_dims} bytes of an IDX header "
            f"with {num_dims} dimensions"
        )
    if num_dims > _MAX_DIMS:
        raise ValueError(f"{path}: {num_dims} dimensions, expected {_MAX_DIMS} at most")
    shape = struct.unpack(f">{num_dims}I", sizes)
    size = math.prod(shape) * dtype.itemsize
    content = bytearray() if size > most else read_exactly(stream, size)
    if len(content) < size or stream.read(1):
        wrong = "truncated" if len(content) < size else "bytes left over"
        raise ValueError(f"{path}: {wrong}: shape {shape} of {dtype.name} takes {size} bytes")
    return np.frombuffer(content, dtype=dtype).reshape(shape)


def _as_rows(images: npt.NDArray[np.generic], path: Path) -> npt.NDArray[np.float64]:
    if images.dtype.kind not in "buif":
        raise ValueError(f"{path}: images of dtype {images.dtype}, expected real numbers")
    if images.ndim < 2:
        raise ValueError(
            f"{path}: an array of shape {images.shape}, expected one image per row: (N, ...)"
        )
    if images.size == 0:
        raise ValueError(f"{path}: no images: the array has shape {images.shape}")
    rows = np.array(images, dtype=np.float64, order="C").reshape(len(images), -1)
    finite = np.isfinite(rows)
    if not finite.all():
        row, column = np.argwhere(~finite)[0]
        raise ValueError(
            f"{path}: image {row} is not finite: {rows[row, column]} at pixel {column}"
        )
    return rows


def _as_labels(
    labels: npt.NDArray[np.generic], num_images: int, path: Path
) -> npt.NDArray[np.int64]:
    if labels.dtype.kind not in "bui":
        raise ValueError(f"{path}: labels of dtype {labels.dtype}, expected integers")
    if labels.shape != (num_images,):
        raise ValueError(
            f"{path}: labels of shape {labels.shape} for {num_images} images, "
            f"expected ({num_images},)"
        )
    if labels.max() >= 2**63:
        raise ValueError(f"{path}: a label is {labels.max()}, expected at most 2**63 - 1")
    return labels.astype(np.int64)
