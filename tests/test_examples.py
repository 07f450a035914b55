"""The examples and the docstrings run."""

import doctest
import runpy
from pathlib import Path

import pytest

import infall.laws
import infall.maxlikelihood
import infall.rows

EXAMPLES = sorted((Path(__file__).parent.parent / "examples").glob("*.py"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(path, capsys):
    runpy.run_path(str(path), run_name="__main__")
    assert capsys.readouterr().out


@pytest.mark.parametrize("module", [infall.rows, infall.maxlikelihood, infall.laws])
def test_docstrings(module):
    result = doctest.testmod(module)
    assert result.failed == 0


def test_the_tour_of_the_readme():
    readme = (Path(__file__).parent.parent / "README.md").read_text()
    tour = readme.split("```python\n")[1].split("```")[0]
    assert len(tour.splitlines()) <= 16
    exec(compile(tour, "README.md", "exec"), {})
