"""Image data sets, one image per row: the bundled digits, NumPy files, the IDX files of MNIST."""

from __future__ import annotations

import gzip
import math
import os
import zipfile
import zlib
from pathlib import Path

import numpy as np
import numpy.typing as npt
import scipy  # its parts are loaded where they are used

from infall._arrays import integer

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
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if not path.is_file():
        raise ValueError(f"{path}: not a file")
    labels: npt.NDArray[np.generic] | None
    match path.suffix.lower():
        case ".npy":
            images, labels = _read_npy(path), None
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


def _read_npy(path: Path) -> npt.NDArray[np.generic]:
    try:
        # A memory map checks the header against the length of the file before anything is read.
        return np.lib.format.open_memmap(path, mode="r")
    except (ValueError, EOFError, OSError, OverflowError) as error:
        raise ValueError(f"{path}: not a whole .npy file: {error}") from error


def _read_npz(
    path: Path,
) -> tuple[npt.NDArray[np.generic], npt.NDArray[np.generic] | None]:
    try:
        with path.open("rb") as handle:  # np.load itself would leave a damaged file open
            archive = np.load(handle, allow_pickle=False)
            if not isinstance(archive, np.lib.npyio.NpzFile):
                raise ValueError("it holds a single array, not a zip archive")
            names = archive.files
            labels_name = next((name for name in ("labels", "y") if name in names), None)
            others = [name for name in names if name != labels_name]
            named = [name for name in ("images", "x") if name in others] or others
            if len(others) != 1 and named is others:
                held = ", ".join(names) or "none"
                raise ValueError(
                    f"which array holds the images? It has {held}; "
                    "expected one named images or x, or a single array"
                )
            images = archive[named[0]]
            labels = None if labels_name is None else archive[labels_name]
    except zipfile.BadZipFile as error:
        raise ValueError(f"{path}: damaged .npz file: {error}") from error
    except (ValueError, EOFError, OSError, zlib.error, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{path}: not a readable .npz file: {error}") from error
    return images, labels


def _read_idx(path: Path) -> npt.NDArray[np.generic]:
    """Read an IDX file: two zero bytes, type, number of dimensions, sizes, values (big endian)."""
    content = path.read_bytes()
    if content.startswith(_GZIP_MAGIC):
        try:
            content = gzip.decompress(content)
        except (EOFError, OSError, zlib.error) as error:
            raise ValueError(f"{path}: damaged gzip file: {error}") from error
    elif path.suffix.lower() == ".gz":
        raise ValueError(
            f"{path}: not a gzip file: it starts with {content[:2].hex(' ') or 'nothing'}, "
            f"expected {_GZIP_MAGIC.hex(' ')}"
        )
    if len(content) < 4:
        raise ValueError(f"{path}: truncated: {len(content)} of the 4 bytes of an IDX magic number")
    if content[:2] != b"\0\0" or content[2] not in _IDX_DTYPES:
        raise ValueError(
            f"{path}: not an IDX file (nor .npy, .npz): the magic number is {content[:4].hex(' ')}"
        )
    dtype, num_dims = _IDX_DTYPES[content[2]], content[3]
    header_size = 4 + 4 * num_dims
    if len(content) < header_size:
        raise ValueError(
            f"{path}: truncated: {len(content)} of the {header_size} bytes of an IDX header "
            f"with {num_dims} dimensions"
        )
    shape = tuple(
        int.from_bytes(content[start : start + 4], "big") for start in range(4, header_size, 4)
    )
    expected_size = header_size + math.prod(shape) * dtype.itemsize
    if len(content) != expected_size:
        wrong = "truncated" if len(content) < expected_size else "bytes left over"
        raise ValueError(
            f"{path}: {wrong}: {len(content)} bytes where shape {shape} of {dtype.name} "
            f"takes {expected_size}"
        )
    return np.frombuffer(content, dtype=dtype, offset=header_size).reshape(shape)


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
    return labels.astype(np.int64)
