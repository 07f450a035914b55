"""The examples and the docstrings run."""

import doctest
import importlib
import runpy
from pathlib import Path

import pytest

import infall

PACKAGE = Path(infall.__file__).parent
WITH_EXAMPLES = [path for path in sorted(PACKAGE.rglob("*.py")) if ">>> " in path.read_text()]
EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, capsys, tmp_path, monkeypatch):
    if path.stem.startswith("torch_"):
        pytest.importorskip("torch", reason="PyTorch is not installed")
    monkeypatch.chdir(tmp_path)  # where an example writes
    monkeypatch.setattr("sys.argv", [str(path)])
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("path", WITH_EXAMPLES, ids=lambda path: path.stem)
def test_docstrings(path):
    module = ".".join(path.relative_to(PACKAGE.parent).with_suffix("").parts)
    result = doctest.testmod(importlib.import_module(module))
    assert result.attempted > 0
    assert result.failed == 0


def test_the_tour_of_the_readme():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    tour = readme.split("```python\n")[1].split("```")[0]
    assert len(tour.splitlines()) <= 16
    exec(compile(tour, "README.md", "exec"), {})


def test_the_collapse_of_the_readme(tmp_path, monkeypatch):
    """The example writes the file that the command of the README reads."""
    from typer.testing import CliRunner

    from infall import cli

    root = Path(__file__).parent.parent
    section = (root / "README.md").read_text().split("## Neural collapse\n")[1]
    example, command = (line.split() for line in section.splitlines() if line.startswith("    "))
    assert example[0] == "python"
    assert command[:2] == ["infall", "collapse"]
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", example[1:])
    runpy.run_path(str(root / example[1]), run_name="__main__")
    result = CliRunner().invoke(cli.app, command[1:])
    assert result.exit_code == 0, result.output
    assert "NC1" in result.stdout
    written = sorted(path.name for path in tmp_path.rglob("*.*"))
    assert written == ["collapse.png", "figure.png", "last_layer.npz"]


def test_the_frames_of_the_readme():
    import numpy as np

    readme = (Path(__file__).parent.parent / "README.md").read_text()
    section = readme.split("## Frames\n")[1].split("```python\n")[1].split("```")[0]
    rng = np.random.default_rng(0)
    names = {
        "infall": infall,
        "features": rng.normal(size=(2, 2**20)).astype(np.float32),
        "logit_gradient": rng.normal(size=(2, 10**6)).astype(np.float32),
        "class_means": rng.normal(size=(10, 64)),
    }
    exec(compile(section, "README.md", "exec"), names)
    assert names["best"].classes[:, 0].tolist() == names["classes"].tolist()
    assert names["loss_gradient"].shape == (2, 2**20)
    assert 0 < names["fit"].relative_residual < 1
