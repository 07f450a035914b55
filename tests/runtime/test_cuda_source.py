"""The machine code nvcc makes of the CUDA kernels: nothing contracted, nothing approximate.

But for the estimate that a square root begins with (test_square_root.py), and for what estimates of
projections are made of, whose errors a margin covers (docs/screening.md).
"""

import re
import subprocess
from pathlib import Path

import pytest

SOURCES = sorted((Path(__file__).parents[2] / "csrc").glob("*/*.cu"))
ESTIMATING = r"\.entry \w*screen_(?:stream|estimates)_kernel.*?\n}"

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
        rest = re.sub(ESTIMATING, without_approximations, text, flags=re.DOTALL)
        rest = re.sub(r"\brsqrt\.approx\.ftz\.f32\b", "", rest)
        assert not re.findall(r"\bmad\.(?:\w+\.)*f(?:32|64)\b|\.approx|\.ftz|\.full\b", rest), name


def without_approximations(kernel):
    return re.sub(r"\b(?:lg2|sqrt|cos)\.approx\.ftz\.f32\b", "", kernel[0])


def bodies(text, kernel):
    """Return the PTX of a kernel, one text per instance of its template."""
    return re.findall(rf"\.entry \w*{kernel}.*?\n}}", text, re.DOTALL)


def test_fused_operations_are_those_written(ptx):
    # Per pair of normals: 1 for the uniform, 10 for the logarithm, 3 for the sine, 4 for the cosine
    # and 5 for the root, which begins with an estimate.
    for body in bodies(ptx["gaussian"], "gaussian_rows_kernel"):
        assert body.count("fma.rn.f32") == 2 * 23
        assert body.count("rsqrt.approx.ftz.f32") == 2
    # And four more per block of columns for the projection on one vector; of two rows at a time.
    (body,) = bodies(ptx["stream"], "select_stream_kernelILi1E")
    assert body.count("fma.rn.f32") == 2 * (2 * 23 + 4)
    assert body.count("rsqrt.approx.ftz.f32") == 2 * 2


def test_a_pair_of_an_estimate_takes_three_approximations(ptx):
    # Two pairs per block of columns, of two rows at a time.
    kernels = re.findall(ESTIMATING, ptx["stream"], re.DOTALL)
    assert len(kernels) == 2
    for body in kernels:
        for function in ("lg2", "sqrt", "cos"):
            assert len(re.findall(rf"\b{function}\.approx\.ftz\.f32\b", body)) == 2 * 2


def test_no_kernel_of_rows_divides(ptx):
    # 64-bit integers, that is: a call of some seventy instructions.
    for name in ("gaussian", "codes", "directions", "matrix", "rotation", "stream"):
        assert not re.findall(r"\b(?:div|rem)\.[su]64\b", ptx[name]), name


def test_the_module_is_built_and_says_what_is_missing():
    _cuda = pytest.importorskip("infall._cuda", reason="built without CUDA")
    assert _cuda.architectures()
    try:
        said = f"{_cuda.device_count()} devices"
    except RuntimeError as error:
        said = str(error)
    # A number of devices, or CUDA's own text.
    assert re.fullmatch(r"[1-9]\d* devices|CUDA: counting devices: .+", said)
