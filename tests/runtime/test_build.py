"""What the build is made for, and what an import costs."""

import importlib.util
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


def test_the_build_says_why_it_is_without_cuda():
    assert bool(_core.without_cuda) == (importlib.util.find_spec("infall._cuda") is None)


def configure(folder, *options, path=None):
    """What CMake says; the commands of the build are in compile_commands.json."""
    folders = [*([path] if path else []), Path(sys.executable).parent, os.environ["PATH"]]
    return subprocess.run(
        [
            "cmake", "-S", ROOT, "-B", folder, "-G", "Ninja",
            f"-DPython_EXECUTABLE={sys.executable}", "-DCMAKE_EXPORT_COMPILE_COMMANDS=ON", *options,
        ],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PATH": os.pathsep.join(map(str, folders))},
    )  # fmt: skip


def test_cmake_refuses_another_word_for_cuda(tmp_path):
    tried = configure(tmp_path, "-DINFALL_CUDA=yes")
    assert tried.returncode
    assert "INFALL_CUDA is yes; expected AUTO, ON or OFF" in tried.stderr


@pytest.mark.nvcc
@pytest.mark.parametrize("answer", ["No devices were found", "GPU 0: NVIDIA H200 (UUID: GPU-1)"])
def test_auto_leaves_cuda_out_where_there_is_no_gpu(answer, tmp_path):
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!/bin/sh\necho '{answer}'\n")
    smi.chmod(0o755)
    expected = answer.startswith("GPU") or any(Path("/dev").glob("nvidia[0-9]*"))
    said = configure(
        tmp_path / "build", "-DINFALL_CUDA=AUTO", "-DCMAKE_CUDA_ARCHITECTURES=90", path=tmp_path
    )
    assert said.returncode == 0, said.stderr
    assert ("infall is built without CUDA: no GPU was found" in said.stdout) != expected
    assert ("_cuda_EXPORTS" in (tmp_path / "build/compile_commands.json").read_text()) == expected


@pytest.mark.nvcc
def test_a_list_of_architectures_is_handed_on(tmp_path):
    """CMake takes a semicolon in a definition for the end of it."""
    configure(tmp_path, "-DINFALL_CUDA=ON", "-DCMAKE_CUDA_ARCHITECTURES=80;90").check_returncode()
    commands = json.loads((tmp_path / "compile_commands.json").read_text())
    bindings = [
        entry["command"]
        for entry in commands
        if "_cuda.dir" in entry["output"] and "unity" in Path(entry["file"]).name
    ]
    assert bindings
    for command in bindings:
        assert '-DINFALL_CUDA_ARCHITECTURES="80,90"' in shlex.split(command)
    assert all("-ffp-contract=off" in entry["command"] for entry in commands)


def isas_compiled(folder, option):
    configure(folder, "-DINFALL_PYTHON=OFF", f"-DINFALL_ISAS={option}").check_returncode()
    commands = json.loads((folder / "compile_commands.json").read_text())
    isas = [re.search(r"-DINFALL_ISA=(\S+)", entry["command"]) for entry in commands]
    return {isa[1] for isa in isas if isa}


def test_a_native_build_has_the_best_instruction_set_of_this_machine_alone(tmp_path):
    best = _core.available_isas()[0].removeprefix("x86-64-")
    compiled = isas_compiled(tmp_path / "native", "NATIVE")
    assert compiled == {best if best in {"v2", "v3", "v4"} else "baseline"}
    assert compiled <= isas_compiled(tmp_path / "all", "ALL")
