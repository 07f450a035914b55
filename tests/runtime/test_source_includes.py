"""Who includes whom in csrc: a stem the runtime and the random numbers, these no stem."""

import re
from pathlib import Path

import pytest

CSRC = Path(__file__).parents[2] / "csrc"
SHARED = {"runtime": {"runtime"}, "random": {"runtime", "random"}}
FOLDERS = sorted({folder.name for folder in CSRC.iterdir()} - {"bindings"})


@pytest.mark.parametrize("folder", FOLDERS)
def test_a_folder_includes_only_what_it_rests_on(folder):
    allowed = SHARED.get(folder, {"runtime", "random", folder})
    for source in (CSRC / folder).iterdir():
        included = set(re.findall(r'^#include "(\w+)/', source.read_text(), re.MULTILINE))
        assert included <= allowed, source.name
