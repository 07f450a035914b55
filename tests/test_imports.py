"""Imports of the package run downward only: a layer knows those below it, and none above."""

import ast
from pathlib import Path

PACKAGE = Path(__file__).parents[1] / "python" / "infall"
# Names of one line do not know each other. `__init__` exports what is below it.
LAYERS = [
    {"_core", "_cuda"},
    {"_arrays"},
    {"laws"},
    {"rows", "frames"},
    {"maxlikelihood", "classes"},
    {"collapse"},
    {"__init__"},
    {"distributed"},
    {"experiments"},
    {"cli"},
    {"__main__"},
]
HEIGHTS = {name: height for height, names in enumerate(LAYERS) for name in names}


def imported_names(path):
    """Parts of the package that a file imports, in functions and for type checkers too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            modules = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            modules = [f"{node.module}.{alias.name}" for alias in node.names]
        else:
            continue
        for module in modules:
            top, _, rest = f"{module}.__init__".partition(".")
            if top == "infall":
                yield rest.split(".")[0]


def test_imports_run_downward():
    for path in PACKAGE.rglob("*.py"):
        name = path.relative_to(PACKAGE).parts[0].split(".")[0]
        for imported in imported_names(path):
            height = HEIGHTS.get(imported, HEIGHTS["__init__"])
            assert imported == name or height < HEIGHTS[name], f"{path} imports {imported}"
