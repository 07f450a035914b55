"""Files of objects: whole or not at all, under the name that was given, refused if damaged."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import time
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest

import infall
from infall._arrays import files as _saved

KIND = "infall.Test"


def raises(kind, text):
    return pytest.raises(kind, match=re.escape(text))


def save(path, **arrays):
    _saved.save(path, KIND, 3, arrays or {"values": np.arange(5.0)})


def load(path, **settings):
    return _saved.load(path, KIND, 3, **settings)


def files(folder):
    return sorted(path.name for path in folder.iterdir())


def rewritten(path, **members):
    """Store the members of a file again, some of them replaced."""
    members_written = dict(np.load(path)) | members
    np.savez(path.with_suffix(".npz"), **members_written)
    return path.with_suffix(".npz")


def test_what_is_saved_is_loaded(tmp_path):
    arrays = {"a": np.arange(6).reshape(2, 3), "b": np.asfortranarray(np.eye(3)[:2]), "c": "text"}
    save(tmp_path / "x", **arrays, empty=np.empty((0, 4), dtype=np.float32))
    loaded = load(tmp_path / "x")
    assert (loaded["a"] == arrays["a"]).all()
    assert (loaded["b"] == arrays["b"]).all()
    assert str(loaded["c"]) == "text"
    assert loaded["empty"].shape == (0, 4)
    assert str(loaded["engine"]) == infall.__version__
    assert int(loaded["mapping"]) == _saved.MAPPING_VERSION == 1
    assert files(tmp_path) == ["x"]


def test_a_file_keeps_its_mode_and_a_new_one_has_that_of_the_umask(tmp_path):
    before = os.umask(0o027)
    try:
        save(tmp_path / "new")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    for mode in (0o600, 0o604, 0o666):
        (tmp_path / "new").chmod(mode)
        save(tmp_path / "new")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == mode


def test_a_symbolic_link_stays_and_its_target_is_replaced(tmp_path):
    (tmp_path / "far").mkdir()
    (tmp_path / "far" / "target").write_bytes(b"old")
    (tmp_path / "near").symlink_to("link")
    (tmp_path / "link").symlink_to(tmp_path / "far" / "target")
    save(tmp_path / "near")
    assert (tmp_path / "near").is_symlink()
    assert (tmp_path / "link").is_symlink()
    assert "values" in load(tmp_path / "far" / "target")
    assert files(tmp_path / "far") == ["target"]
    (tmp_path / "dangling").symlink_to(tmp_path / "far" / "new")
    save(tmp_path / "dangling")
    assert "values" in load(tmp_path / "far" / "new")


def test_what_is_no_regular_file_is_refused_and_stays(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "folder").mkdir()
    (tmp_path / "loop").symlink_to("loop")
    for name, kind in (("fifo", OSError), ("folder", IsADirectoryError), ("loop", OSError)):
        path = tmp_path / name
        before = path.lstat()
        for call in (save, load):
            with pytest.raises(kind) as caught:
                call(path)
            assert caught.value.filename == str(path)
        assert path.lstat().st_ino == before.st_ino
    with pytest.raises(OSError, match="Not a regular file"):
        save("/dev/null")
    assert stat.S_ISCHR(Path("/dev/null").stat().st_mode)
    assert files(tmp_path) == ["fifo", "folder", "loop"]


@pytest.mark.parametrize("call", [save, load])
def test_errors_name_the_path_that_was_given(tmp_path, call, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("nowhere/x", "", "x/"):
        with raises(OSError, f": {path!r}") as caught:
            call(path)
        assert caught.value.errno in (errno.ENOENT, errno.EISDIR)
    for path in ("/", "."):
        with raises(IsADirectoryError, repr(path)):
            call(path)
    with raises(TypeError, "path is 5; expected a str or another path"):
        call(5)
    assert files(tmp_path) == []


def test_a_full_disk_leaves_the_old_file(tmp_path):
    # The limit on the size of files stands for the size of the disk.
    program = (
        "import resource, signal, sys, numpy as np; from infall._arrays import files as _saved;"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000));"
        "_saved.save(sys.argv[1], 'infall.Test', 3, {'values': np.zeros(10_000)})"
    )
    save(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path / "x")],
        capture_output=True,
        text=True,
        check=False,
    )
    assert f"File too large: '{tmp_path / 'x'}'" in done.stderr
    assert (tmp_path / "x").read_bytes() == before
    assert files(tmp_path) == ["x"]


def test_a_killed_process_leaves_the_old_file_and_a_temporary_named_after_it(tmp_path):
    program = (
        "import sys, time; from infall._arrays import files as _saved\n"
        "with _saved.written_whole(sys.argv[1]) as file:\n"
        "    file.write(bytes(1000)); file.flush(); print(flush=True); time.sleep(60)\n"
    )
    save(tmp_path / "x")
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "x")], stdout=subprocess.PIPE
    ) as process:
        process.stdout.readline()
        process.send_signal(signal.SIGKILL)
    assert "values" in load(tmp_path / "x")
    left = [name for name in files(tmp_path) if name != "x"]
    assert len(left) == 1
    assert re.fullmatch(r"\.x\.[0-9a-f]{16}\.tmp", left[0])


def test_an_interrupted_save_leaves_the_old_file(tmp_path):
    save(tmp_path / "x")
    before = (tmp_path / "x").read_bytes()

    def interrupted():
        with _saved.written_whole(tmp_path / "x") as file:
            file.write(b"part")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert (tmp_path / "x").read_bytes() == before
    assert files(tmp_path) == ["x"]


def test_the_file_is_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    done = []
    sync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda handle: (done.append("fsync"), sync(handle)))
    monkeypatch.setattr(os, "replace", lambda *names: (done.append("replace"), replace(*names)))
    save(tmp_path / "x")
    assert done == ["fsync", "replace", "fsync"]


def test_long_names_and_undecodable_ones(tmp_path):
    for name in ("x" * 255, "ä" * 127, os.fsdecode(b"\xff\xfe")):
        save(tmp_path / name)
        assert "values" in load(tmp_path / name)


def test_other_versions_and_kinds_are_refused_by_name(tmp_path):
    save(tmp_path / "x")
    with raises(ValueError, f"{tmp_path / 'x'} is not a saved infall.Other"):
        _saved.load(tmp_path / "x", "infall.Other", 3)
    with raises(ValueError, "has format version 3, written by infall"):
        _saved.load(tmp_path / "x", KIND, 4)
    other = rewritten(tmp_path / "x", mapping=np.array(2))
    load(other)
    with raises(
        ValueError, f"{other} has mapping version 2, written by infall {infall.__version__}"
    ):
        load(other, mapping=True)


def test_every_flipped_bit_and_every_cut_is_seen(tmp_path):
    path = tmp_path / "x"
    save(path, values=np.arange(40.0))
    whole, expected = path.read_bytes(), load(path)
    rng = np.random.default_rng(0)
    with zipfile.ZipFile(path) as archive:
        start = next(i.header_offset for i in archive.infolist() if i.filename == "values.npy")
    for _ in range(300):
        position, bit = int(rng.integers(len(whole))), int(rng.integers(8))
        damaged = bytearray(whole)
        damaged[position] ^= 1 << bit
        path.write_bytes(damaged)
        try:
            loaded = load(path)
        except ValueError:
            continue
        # The bit was in what zip archives say twice, or about dates.
        assert loaded.keys() == expected.keys()
        assert all((loaded[name] == expected[name]).all() for name in expected)
    damaged = bytearray(whole)
    damaged[start + 300] ^= 1
    path.write_bytes(damaged)
    with raises(ValueError, "Bad CRC-32"):
        load(path)
    for length in range(0, len(whole), 97):
        path.write_bytes(whole[:length])
        with raises(ValueError, str(path)):
            load(path)


def header_of(text):
    text = text.ljust(118).encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text


def test_members_are_read_only_if_they_are_wanted_and_are_what_they_say(tmp_path):
    path = tmp_path / "x"
    save(path, values=np.arange(5.0), huge=np.zeros(2**19))
    tracemalloc.start()
    try:
        assert "huge" not in load(path, members=lambda name: name == "values")
        assert tracemalloc.get_traced_memory()[1] < 2**21
    finally:
        tracemalloc.stop()
    for name, content, text in (
        (
            "values",
            header_of("{'descr': '<f8', 'fortran_order': False, 'shape': (10**9,)}"),
            "or a damaged one",
        ),
        (
            "values",
            header_of("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000000,)}"),
            "values does not have the size that its header says",
        ),
        (
            "values",
            header_of("{'descr': (), 'fortran_order': False, 'shape': ()}"),
            "or a damaged one",
        ),
        ("values", header_of("{'descr': '|O', 'fortran_order': False, 'shape': ()}"), "pickled"),
        ("values", header_of("(" + "-" * 100 + "1,)"), "or a damaged one"),
        ("values", header_of("(" + "[" * 100), "or a damaged one"),
        ("values", b"junk", "or a damaged one"),
        ("format", bytes(2**20), "format has 1048576 bytes"),
    ):
        with zipfile.ZipFile(tmp_path / "other", "w") as other, zipfile.ZipFile(path) as archive:
            for member in ("format", "version", "engine", "mapping", "values"):
                stored = archive.read(f"{member}.npy")
                other.writestr(f"{member}.npy", content if member == name else stored)
        with raises(ValueError, text) as caught:
            load(tmp_path / "other", members=lambda name: name == "values")
        assert str(tmp_path / "other") in str(caught.value)
    np.savez_compressed(tmp_path / "small.npz", **dict(np.load(path)))
    with raises(ValueError, "format is compressed"):
        load(tmp_path / "small.npz")


def test_two_processes_may_save_under_one_name(tmp_path):
    program = (
        "import sys, numpy as np; from infall._arrays import files as _saved\n"
        "for _ in range(30): _saved.save(sys.argv[1], 'infall.Test', 3,"
        " {'values': np.full(10_000, int(sys.argv[2]))})\n"
    )
    save(tmp_path / "x", values=np.zeros(10_000))
    processes = [
        subprocess.Popen([sys.executable, "-c", program, str(tmp_path / "x"), str(number)])
        for number in (1, 2)
    ]
    while any(process.poll() is None for process in processes):
        entries = load(tmp_path / "x")["values"]
        assert (entries == entries[0]).all()
        time.sleep(0.01)
    assert [process.returncode for process in processes] == [0, 0]
    assert files(tmp_path) == ["x"]
