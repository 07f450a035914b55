"""The machine code nvcc makes of the CUDA kernels: nothing contracted, nothing approximate."""

import re
import subprocess
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "csrc").glob("*/*.cu"))

pytestmark = pytest.mark.nvcc


@pytest.fixture(scope="module")
def ptx(tmp_path_factory):
    """PTX of every CUDA source, with the options of the build."""
    folder = tmp_path_factory.mktemp("ptx")
    texts = {}
    for source in SOURCES:
        target = folder / f"{source.stem}.ptx"
        subprocess.run(
            ["nvcc", "-std=c++17", "-O3", "-fmad=false", "-arch=compute_75", "-ptx", "-I",
             source.parent.parent, source, "-o", target],
            check=True,
            capture_output=True,
        )  # fmt: skip
        texts[source.stem] = target.read_text()
    return texts


def test_every_operation_states_its_rounding(ptx):
    # Without .rn, the assembler may fuse a product and a sum.
    for name, text in ptx.items():
        assert not re.findall(r"\b(?:mul|add|sub|div|sqrt|fma)\.(?:ftz\.)?f(?:32|64)\b", text), name
        assert not re.findall(r"\bmad\.(?:\w+\.)*f(?:32|64)\b|\.approx|\.ftz|\.full\b", text), name


def test_fused_operations_are_those_written(ptx):
    # Per pair of normals: 1 for the radius, 10 for the logarithm, 3 for the sine, 4 for the cosine.
    body = re.search(r"\.entry \w*gaussian_rows_kernel.*?\n}", ptx["gaussian"], re.DOTALL)[0]
    assert len(re.findall(r"\bfma\.rn\.f32\b", body)) == 2 * 18
    # And four more per block of columns for the projection on one vector.
    body = re.search(r"\.entry \w*select_stream_kernelILi1E.*?\n}", ptx["stream"], re.DOTALL)[0]
    assert len(re.findall(r"\bfma\.rn\.f32\b", body)) == 2 * 18 + 4


def test_the_module_is_built_and_says_what_is_missing():
    _cuda = pytest.importorskip("infall._cuda", reason="built without CUDA")
    assert _cuda.architectures()
    try:
        said = f"{_cuda.device_count()} devices"
    except RuntimeError as error:
        said = str(error)
    # A number of devices, or CUDA's own text.
    assert re.fullmatch(r"[1-9]\d* devices|CUDA: counting devices: .+", said)
