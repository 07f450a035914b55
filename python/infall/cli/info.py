"""The command `infall info`: versions, instruction set, threads and the state of CUDA."""

from __future__ import annotations

import ctypes
import importlib
import json
import platform
from importlib.metadata import version
from typing import Annotated

import typer

import infall
from infall import _core
from infall._arrays.threads import thread_count
from infall.cli._terminal import Delivery

_NO_DRIVER = "no NVIDIA driver was found, and so no GPU"


def info(
    as_json: Annotated[
        bool, typer.Option("--json", metavar="", help="Print one JSON object.")
    ] = False,
) -> None:
    """Print the version, the instruction set in use, CPU threads, and the state of CUDA."""
    facts = {
        "infall": infall.__version__,
        "isa": _core.isa(),
        "available_isas": list(_core.available_isas()),
        "cpu_threads": thread_count(None),
        "cuda": _cuda(),
        "numpy": version("numpy"),
        "scipy": version("scipy"),
        "python": platform.python_version(),
    }
    names = {"isa": "ISA", "available_isas": "ISAs available", "cpu_threads": "CPU threads"}
    names |= {"cuda": "CUDA", "numpy": "NumPy", "scipy": "SciPy", "python": "Python"}
    with Delivery() as delivery, delivery.to_output() as output:
        if as_json:
            output.json(json.dumps(facts, indent=2))
            return
        for key, fact in facts.items():
            shown = ", ".join(fact) if isinstance(fact, list) else str(fact)
            output.line(f"{names.get(key, key):<16}{shown}")


def _cuda() -> str:
    try:
        kernels = importlib.import_module("infall._cuda")
    except ModuleNotFoundError:
        reason = _core.without_cuda or "there is no module infall._cuda"
        return f"not built: {reason}; build with INFALL_CUDA=ON"
    except ImportError as error:
        return f"built, but cannot be loaded: {error}"
    architectures = f"built for {kernels.architectures()}"
    try:
        devices = kernels.device_count()
    except RuntimeError as error:
        return f"{architectures}, but off: {error if _has_driver() else _NO_DRIVER}"
    return f"{architectures}; devices: {devices}"


def _has_driver() -> bool:
    # Without any driver CUDA says that the driver is too old.
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True
