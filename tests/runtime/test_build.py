"""What the build is made for, and what an import costs."""

import json
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import pytest

import infall
from infall import _core
from interrupts import SLACK

ROOT = Path(__file__).parents[2]


def test_versions_agree():
    assert infall.__version__ == _core.__version__ == version("infall")


def run_fresh(program, *arguments):
    """Run a program in a fresh interpreter; what it printed."""
    return subprocess.run(
        [sys.executable, "-c", program, *arguments], check=True, capture_output=True, text=True
    ).stdout


def test_import_loads_nothing_heavy():
    loaded = json.loads(run_fresh("import infall, json, sys; print(json.dumps(list(sys.modules)))"))
    heavy = {
        "importlib.metadata", "jax", "joblib", "matplotlib", "pandas", "rich", "sklearn",
        "scipy.linalg", "scipy.ndimage", "scipy.optimize", "scipy.sparse", "scipy.spatial",
        "scipy.special", "scipy.stats", "torch", "typer",
    }  # fmt: skip
    assert heavy.intersection(loaded) == set()


def seconds(command):
    """Return the median of five runs of a command."""
    taken = []
    for _ in range(5):
        start = time.perf_counter()
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        taken.append(time.perf_counter() - start)
    return sorted(taken)[2]


def test_import_returns_quickly():
    numpy_alone = seconds([sys.executable, "-c", "import numpy"])
    assert seconds([sys.executable, "-c", "import infall"]) < numpy_alone + 0.35 * SLACK


@pytest.mark.parametrize("option", ["--version", "--help"])
def test_command_answers_quickly(option):
    numpy_alone = seconds([sys.executable, "-c", "import numpy"])
    command = [sys.executable, "-c", "import infall.cli; infall.cli.main()", option]
    assert seconds(command) < numpy_alone + 1.0 * SLACK


# As the kernel names what the processor has and what it saves when it switches threads.
V2 = {"pni", "ssse3", "cx16", "sse4_1", "sse4_2", "popcnt"}
V3 = V2 | {"fma", "movbe", "avx", "f16c", "bmi1", "avx2", "bmi2", "abm"}
V4 = V3 | {"avx512f", "avx512dq", "avx512cd", "avx512bw", "avx512vl"}


def test_levels_are_those_the_kernel_names():
    flags = re.search(r"^flags\s*:(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    levels = {"x86-64-v4": V4, "x86-64-v3": V3, "x86-64-v2": V2}
    if flags:
        expected = [name for name, needs in levels.items() if needs <= set(flags[1].split())]
    else:
        expected = ["arm64" if platform.machine() == "aarch64" else "baseline"]
    assert _core.available_isas() == expected


@pytest.mark.nvcc
def test_a_list_of_architectures_is_handed_on(tmp_path):
    """CMake takes a semicolon in a definition for the end of it."""
    import pybind11

    tools = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    subprocess.run(
        [
            "cmake", "-S", ROOT, "-B", tmp_path, "-G", "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}", f"-Dpybind11_DIR={pybind11.get_cmake_dir()}",
            "-DINFALL_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=80;90",
            "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON",
        ],
        check=True,
        capture_output=True,
        env={**os.environ, "PATH": tools},
    )  # fmt: skip
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    [command] = [one["command"] for one in commands if one["file"].endswith("bindings/cuda.cpp")]
    assert '-DINFALL_CUDA_ARCHITECTURES="80,90"' in shlex.split(command)
    assert all("-ffp-contract=off" in one["command"] for one in commands)
