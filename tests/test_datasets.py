"""Image files: what is read, and that every kind of damage is refused by name."""

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest

from infall.datasets import load_digits, load_images

IDX_CODES = {">u1": 0x08, ">i1": 0x09, ">i2": 0x0B, ">i4": 0x0C, ">f4": 0x0D, ">f8": 0x0E}
IMAGES = np.arange(1, 25).reshape(4, 2, 3)


def idx_bytes(array: np.ndarray, dtype: str = ">u1") -> bytes:
    header = bytes([0, 0, IDX_CODES[dtype], array.ndim])
    return header + struct.pack(f">{array.ndim}I", *array.shape) + array.astype(dtype).tobytes()


def refused(path: Path, pattern: str) -> None:
    with pytest.raises(ValueError, match=pattern) as caught:
        load_images(path)
    assert str(caught.value).startswith(str(path))


def test_digits() -> None:
    images, labels = load_digits()
    assert images.shape == (1797, 64)
    assert images.dtype == np.float64
    assert images.min() == 0.0
    assert images.max() == 1.0
    assert labels.dtype == np.int64
    assert set(labels.tolist()) == set(range(10))


def test_enlarged_digits() -> None:
    small, labels = load_digits()
    images, same_labels = load_digits(28)
    assert images.shape == (1797, 784)
    assert np.array_equal(labels, same_labels)
    assert images.min() == 0.0
    assert images.max() == 1.0
    # Pixels are areas: the centre of a large pixel lies between the centres of two small ones.
    rows = (np.arange(28) + 0.5) * 8 / 28 - 0.5
    expected = np.interp(rows, np.arange(8), small[3].reshape(8, 8)[4])
    column = np.interp(4.0, rows, np.arange(28))
    below, above = images[3].reshape(28, 28)[[int(column), int(column) + 1]]
    found = below + (column % 1) * (above - below)
    np.testing.assert_allclose(found, expected, atol=0.1)
    with pytest.raises(ValueError, match="side is 0"):
        load_digits(0)
    with pytest.raises(TypeError, match="side"):
        load_digits(28.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("compressed", [False, True])
def test_idx(tmp_path: Path, dtype: str, compressed: bool) -> None:
    values = IMAGES - 20 if dtype[1] != "u" else IMAGES
    content = idx_bytes(values, dtype)
    path = tmp_path / ("images.gz" if compressed else "images")
    path.write_bytes(gzip.compress(content) if compressed else content)
    images, labels = load_images(path)
    assert images.dtype == np.float64
    assert images.flags.writeable
    assert np.array_equal(images, values.reshape(4, 6))
    assert labels is None


@pytest.mark.parametrize("suffix", ["", ".gz"])
@pytest.mark.parametrize("infix", ["-idx{}-ubyte", ".idx{}-ubyte"])
def test_idx_labels_beside_the_images(tmp_path: Path, suffix: str, infix: str) -> None:
    pack = gzip.compress if suffix else bytes
    images_path = tmp_path / f"train-images{infix.format(3)}{suffix}"
    labels_path = tmp_path / f"train-labels{infix.format(1)}{suffix}"
    images_path.write_bytes(pack(idx_bytes(IMAGES)))
    labels_path.write_bytes(pack(idx_bytes(np.array([3, 1, 4, 1]))))
    _, labels = load_images(images_path)
    assert labels is not None
    assert labels.tolist() == [3, 1, 4, 1]
    assert labels.dtype == np.int64
    labels_path.write_bytes(pack(idx_bytes(np.array([3, 1, 4]))))
    refused(images_path, r"labels of shape \(3,\) for 4 images")
    refused(labels_path, "one image per row")


def test_idx_truncated_anywhere(tmp_path: Path) -> None:
    content = idx_bytes(IMAGES)
    path = tmp_path / "images-idx3-ubyte"
    for size in range(len(content)):
        path.write_bytes(content[:size])
        refused(path, "truncated")
        (tmp_path / "images.gz").write_bytes(gzip.compress(content[:size]))
        refused(tmp_path / "images.gz", "truncated")
    path.write_bytes(content + b"\0")
    refused(path, "bytes left over")


def test_idx_size_beyond_memory(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 0x0E, 4]) + b"\xff" * 16 + b"\0" * 64)
    refused(path, "truncated")


@pytest.mark.parametrize(
    "magic", [b"\x00\x01\x08\x03", b"\x00\x00\x0a\x03", b"\x89PNG", b"PK\x03\x04"]
)
def test_wrong_magic(tmp_path: Path, magic: bytes) -> None:
    path = tmp_path / "images-idx3-ubyte"
    path.write_bytes(magic + idx_bytes(IMAGES)[4:])
    refused(path, f"not an IDX file.*{magic.hex(' ')}")


def test_gzip_damage(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    packed = gzip.compress(idx_bytes(rng.integers(0, 256, (4, 5, 5))))
    path = tmp_path / "images.gz"
    for size in range(2, len(packed)):
        path.write_bytes(packed[:size])
        refused(path, "damaged gzip")
    for position in (2, len(packed) // 2, len(packed) - 6):  # method, data, checksum
        damaged = bytearray(packed)
        damaged[position] ^= 0xFF
        path.write_bytes(damaged)
        refused(path, "damaged gzip")
    path.write_bytes(idx_bytes(IMAGES))
    refused(path, "not a gzip file: it starts with 00 00")
    path.write_bytes(b"")
    refused(path, "not a gzip file: it starts with nothing")


@pytest.mark.parametrize("dtype", [bool, np.uint8, np.int64, np.float16, np.float32, ">f8"])
def test_npy(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "images.NPY"
    with path.open("wb") as handle:
        np.save(handle, np.asfortranarray(IMAGES).astype(dtype))
    images, labels = load_images(str(path))
    assert np.array_equal(images, IMAGES.astype(dtype).reshape(4, 6))
    assert images.flags.writeable
    assert type(images) is np.ndarray
    assert labels is None


def test_npy_truncated_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    np.save(path, IMAGES)
    content = path.read_bytes()
    for size in range(len(content)):
        path.write_bytes(content[:size])
        refused(path, r"not a whole \.npy file")


def test_npy_foreign(tmp_path: Path) -> None:
    path = tmp_path / "images.npy"
    path.write_bytes(idx_bytes(IMAGES))
    refused(path, r"not a whole \.npy file")
    with path.open("wb") as handle:
        np.savez(handle, images=IMAGES)
    refused(path, r"not a whole \.npy file")


def test_no_pickle_is_loaded(tmp_path: Path) -> None:
    objects = np.array([[{}, {}], [{}, {}]], dtype=object)
    np.save(tmp_path / "images.npy", objects, allow_pickle=True)
    refused(tmp_path / "images.npy", "object")
    np.savez(tmp_path / "images.npz", images=objects)
    refused(tmp_path / "images.npz", "[Oo]bject")
    (tmp_path / "images.npy").write_bytes(b"\x80\x04K\x01.")
    refused(tmp_path / "images.npy", "magic string")


@pytest.mark.parametrize(
    ("arrays", "has_labels"),
    [
        (("images",), False),
        (("x", "y"), True),
        (("faces", "labels"), True),
        (("images", "thumbnails", "labels"), True),
    ],
)
def test_npz(tmp_path: Path, arrays: tuple[str, ...], has_labels: bool) -> None:
    path = tmp_path / "images.npz"
    content = {name: np.zeros((9, 9)) for name in arrays}
    content[arrays[0]] = IMAGES
    if has_labels:
        content[arrays[-1]] = np.array([5, 6, 7, 8], dtype=np.uint8)
    np.savez_compressed(path, **content)
    images, labels = load_images(path)
    assert np.array_equal(images, IMAGES.reshape(4, 6))
    assert (labels is not None) == has_labels
    if labels is not None:
        assert labels.tolist() == [5, 6, 7, 8]


@pytest.mark.parametrize("names", [("x_train", "x_test"), ("y",), ()])
def test_npz_without_clear_images(tmp_path: Path, names: tuple[str, ...]) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, **dict.fromkeys(names, IMAGES))
    refused(path, f"which array.*{', '.join(names) or 'none'}")


def test_npz_damage(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=IMAGES)
    content = path.read_bytes()
    for size in range(0, len(content), 7):
        path.write_bytes(content[:size])
        refused(path, r"\.npz file")
    damaged = bytearray(content)
    damaged[content.index(b"images.npy") + 150] ^= 0xFF  # inside the array: its checksum fails
    path.write_bytes(damaged)
    refused(path, r"\.npz file")
    with path.open("wb") as handle:
        np.save(handle, IMAGES)
    refused(path, "single array")


@pytest.mark.parametrize(
    ("array", "pattern"),
    [
        (np.ones(5), r"shape \(5,\)"),
        (np.float64(1.0), r"shape \(\)"),
        (np.ones((0, 3)), r"no images.*\(0, 3\)"),
        (np.ones((3, 0)), r"no images.*\(3, 0\)"),
        (np.ones((2, 2), dtype=complex), "dtype complex128"),
        (np.array([["a", "b"]]), "dtype <U1"),
        (np.array([[1.0, 2.0], [3.0, np.nan]]), "image 1 is not finite: nan at pixel 1"),
        (np.array([[1.0, -np.inf], [3.0, np.nan]]), "image 0 is not finite: -inf at pixel 1"),
    ],
)
def test_arrays_that_are_not_images(tmp_path: Path, array: np.ndarray, pattern: str) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=array)
    refused(path, pattern)
    path = tmp_path / "images.npy"
    np.save(path, array)
    refused(path, pattern)


def test_labels_that_are_not_integers(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez(path, images=IMAGES, labels=np.ones(4))
    refused(path, "labels of dtype float64")


def test_missing_file_and_folder(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match=r"absent\.npy: no such file"):
        load_images(tmp_path / "absent.npy")
    refused(tmp_path, "not a file")
