"""Bits and files that must never change: see golden.py for what to do where one has to."""

import json
import subprocess
import sys

import numpy as np
import pytest

import fake_device
import golden
import infall
from infall import _core

KNOWN = json.loads(golden.DIGESTS.read_text())
VERSIONS = sorted(folder.name for folder in golden.FILES.iterdir())
every_case = pytest.mark.parametrize("case", golden.CASES, ids=lambda case: case.__name__)


@pytest.fixture
def isa(request):
    before = _core.isa()
    _core.set_isa(request.param)
    yield request.param
    _core.set_isa(before)


def known_of(case):
    return {name: value for name, value in KNOWN.items() if name.startswith(f"{case.__name__}, ")}


@every_case
@pytest.mark.parametrize("isa", _core.available_isas(), indirect=True)
def test_no_bit_has_moved(case, isa):
    assert golden.digests_of(case, golden.Host()) == known_of(case)


class Device:
    """The emulated device, through the stand-in for CuPy."""

    is_device = True

    def put(self, array):
        return fake_device.CUPY.put(array)

    def get(self, array):
        return array if isinstance(array, np.ndarray) else fake_device.CUPY.values(array)


@pytest.fixture
def _fake_cuda(monkeypatch):
    pytest.importorskip("infall._cuda_emulated", reason="built with -DINFALL_EMULATE_CUDA=ON only")
    yield from fake_device.installed(monkeypatch)


@every_case
@pytest.mark.usefixtures("_fake_cuda")
def test_no_bit_has_moved_on_the_device(case):
    known = known_of(case)
    digests = golden.digests_of(case, Device())
    assert digests == {name: known[name] for name in digests}
    assert digests or case is golden.words


def test_every_digest_is_of_a_case():
    assert set().union(*(known_of(case) for case in golden.CASES)) == set(KNOWN)


def test_digests_see_every_bit_dtype_and_shape():
    a = np.arange(6.0)
    changed = [np.nextafter(a, 9.0), a.astype(np.float32), a.reshape(2, 3), a[:5], a > 0]
    digests = [golden.digests([("a", array)])["a"] for array in (a, *changed)]
    assert len(set(digests)) == len(digests)
    assert golden.digests([("a", a.astype(">f8"))]) == golden.digests([("a", a)])


def test_the_script_names_what_changed():
    run = subprocess.run(
        [sys.executable, golden.__file__], capture_output=True, text=True, timeout=120, check=True
    )
    assert run.stdout == ""


@pytest.mark.parametrize("version", VERSIONS)
def test_files_of_every_version_load(version):
    folder = golden.FILES / version
    kept = json.loads((folder / "contents.json").read_text())
    assert set(kept) | {"contents.json"} == {path.name for path in folder.iterdir()}
    for name, known in kept.items():
        kind = getattr(infall, name.partition(".")[0])
        assert golden.digests(golden.contents(kind.load(folder / name))) == known, name


def test_files_of_this_version_are_kept():
    kept = json.loads((golden.FILES / infall.__version__ / "contents.json").read_text())
    assert set(kept) == set(golden.objects())
