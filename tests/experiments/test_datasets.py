"""Image files: what is read, and that every kind of damage is refused by name."""

import gzip
import io
import struct
import tempfile
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infall._arrays.mapped import read_npy, read_npz
from infall.experiments.datasets import load_digits, load_images

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
    actual = below + (column % 1) * (above - below)
    np.testing.assert_allclose(actual, expected, atol=0.1)
    with pytest.raises(ValueError, match="side is 0"):
        load_digits(0)
    with pytest.raises(TypeError, match="side"):
        load_digits(28.0)  # type: ignore[arg-type]


@pytest.mark.parametrize("dtype", IDX_CODES)
@pytest.mark.parametrize("compressed", [False, True])
def test_idx(tmp_path: Path, dtype: str, compressed: bool) -> None:
    pixels = IMAGES - 20 if dtype[1] != "u" else IMAGES
    content = idx_bytes(pixels, dtype)
    path = tmp_path / ("images.gz" if compressed else "images")
    path.write_bytes(gzip.compress(content) if compressed else content)
    images, labels = load_images(path)
    assert images.dtype == np.float64
    assert images.flags.writeable
    assert np.array_equal(images, pixels.reshape(4, 6))
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
    refused(path, "not a zip file")


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


# ---------------------------------------------------------------- damage of any kind


def npy_bytes(header: str, content: bytes = b"") -> bytes:
    text = header.encode() + b" " * (-(len(header) + 11) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text + content


@pytest.mark.parametrize(
    "content",
    [
        npy_bytes("{'descr': (), 'fortran_order': False, 'shape': (2, 3)}", bytes(48)),
        npy_bytes("{'descr': ('<f8',), 'fortran_order': False, 'shape': (2, 3)}", bytes(48)),
        npy_bytes(f"{{'descr': '<f8', 'fortran_order': False, 'shape': ({'-' * 3000}1,)}}"),
        npy_bytes("{'descr': '<f8', 'fortran_order': False, 'shape': " + "(" * 3000),
        npy_bytes("{'descr': '<f8', 'fortran_order': False, 'shape': (-2, -3)}", bytes(48)),
        npy_bytes("{'descr': '|V8', 'fortran_order': False, 'shape': (2, 3)}", bytes(48)),
        npy_bytes("{'descr': '|O', 'fortran_order': False, 'shape': (2, 3)}", bytes(48)),
        npy_bytes("{'descr': '<f8', 'fortran_order': False, 'shape': (2, 3)}", bytes(49)),
        b"junk" * 50,
        b"",
    ],
    ids=[
        "dtype ()",
        "dtype tuple",
        "minus",
        "nested",
        "negative",
        "void",
        "object",
        "more",
        "junk",
        "",
    ],
)
def test_damaged_headers(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "images.npy"
    path.write_bytes(content)
    refused(path, r"not a whole \.npy file")
    for kind in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        path = tmp_path / "images.npz"
        with zipfile.ZipFile(path, "w", kind) as archive:
            archive.writestr("images.npy", content)
        refused(path, r"not a readable \.npz file: images\.npy")


def test_one_flipped_bit_in_a_stored_member(tmp_path: Path) -> None:
    """Where the array is mapped, too: of more than one chunk, anywhere in it."""
    path = tmp_path / "images.npz"
    np.savez(path, images=np.ones((300, 1000)))
    content = bytearray(path.read_bytes())
    for position in (300, len(content) // 2, len(content) - 300):
        damaged = content.copy()
        damaged[position] ^= 1
        path.write_bytes(damaged)
        refused(path, "CRC")
        with pytest.raises(ValueError, match="CRC"):
            read_npz(path, ["images"])


@pytest.mark.parametrize("write", [np.savez, np.savez_compressed])
def test_other_arrays_are_not_read(tmp_path: Path, write) -> None:
    path = tmp_path / "images.npz"
    write(path, images=IMAGES, foreign=np.zeros(2**22))
    tracemalloc.start()
    try:
        load_images(path)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**22


def test_compressed_bombs_are_not_unpacked(tmp_path: Path) -> None:
    """64 MiB of zeros: behind a wrong magic number, or in the place of a few bytes."""
    zeros = np.zeros((2**13, 2**13), dtype=np.uint8)
    (tmp_path / "a.gz").write_bytes(gzip.compress(b"zero" + zeros.tobytes()))
    (tmp_path / "b.gz").write_bytes(gzip.compress(idx_bytes(IMAGES) + zeros.tobytes()))
    content = idx_bytes(IMAGES)[:4] + struct.pack(">3I", 2**31, 2**10, 2**10)
    (tmp_path / "c.gz").write_bytes(gzip.compress(content))
    tracemalloc.start()
    try:
        refused(tmp_path / "a.gz", "not an IDX file")
        refused(tmp_path / "b.gz", "left over")
        refused(tmp_path / "c.gz", "truncated")
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 2**22


def test_too_many_dimensions(tmp_path: Path) -> None:
    path = tmp_path / "images"
    path.write_bytes(bytes([0, 0, 0x08, 255]) + struct.pack(">255I", *[1] * 255) + b"\1")
    refused(path, "255 dimensions, expected 64 at most")


def test_labels_beyond_int64(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    labels = np.array([1, 2, 3, 2**63], dtype=np.uint64)
    np.savez(path, images=IMAGES, labels=labels)
    refused(path, "a label is 9223372036854775808")


def packed(write, **arrays: np.ndarray) -> bytes:
    stream = io.BytesIO()
    write(stream, **arrays)
    return stream.getvalue()


FRACTIONS = np.random.default_rng(0).standard_normal((5, 7))
SMALL_FILES = {
    "plain.npy": packed(np.save, arr=FRACTIONS),
    "stored.npz": packed(np.savez, images=FRACTIONS, labels=np.arange(5)),
    "compressed.npz": packed(np.savez_compressed, images=FRACTIONS, labels=np.arange(5)),
    "images.gz": gzip.compress(idx_bytes(FRACTIONS, ">f8")),
    "images": idx_bytes(FRACTIONS, ">f8"),
}
WITH_CHECKSUM = ("stored.npz", "compressed.npz", "images.gz")


@pytest.mark.parametrize("name", SMALL_FILES)
def test_any_damage_is_refused_by_name_or_without_effect(name: str) -> None:
    """Bits flipped, bytes overwritten, cut off, put in: the right array, or an error with the path.

    Files without a checksum may give other numbers; those with one never do.
    """
    whole = SMALL_FILES[name]

    @settings(max_examples=200, deadline=None, derandomize=True)
    @given(data=st.data())
    def holds(data) -> None:
        content = bytearray(whole)
        for _ in range(data.draw(st.integers(1, 3))):
            at = data.draw(st.integers(0, max(0, len(content) - 1)))
            kind = data.draw(st.sampled_from(["flip", "byte", "cut", "insert", "drop"]))
            if kind == "flip" and content:
                content[at] ^= 1 << data.draw(st.integers(0, 7))
            elif kind == "byte" and content:
                content[at] = data.draw(st.sampled_from([0, 1, 40, 45, 127, 255]))
            elif kind == "cut":
                del content[at:]
            elif kind == "insert":
                content[at:at] = data.draw(st.binary(max_size=9))
            else:
                del content[at : at + data.draw(st.integers(1, 9))]
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder, name)
            path.write_bytes(content)
            try:
                images, labels = load_images(path)
            except (ValueError, OSError) as error:
                assert str(path) in str(error)  # noqa: PT017
                return
        if name in WITH_CHECKSUM:
            np.testing.assert_array_equal(images, FRACTIONS)
            assert labels is None or labels.tolist() == list(range(5))

    holds()


def test_reading_arrays(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, np.array(["x", "yz"]))
    assert read_npy(path).tolist() == ["x", "yz"]
    np.save(path, np.array(3))
    assert read_npy(path).shape == ()
    with pytest.raises(FileNotFoundError, match="no such file"):
        read_npz(tmp_path / "b.npz", ["x"])
