"""docs/scripting.md is true: each of its recipes is run by bash, in the order of the page, in one folder."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[1] / "docs" / "scripting.md"
BLOCKS = re.findall(r"^```(bash|make)\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


@pytest.fixture(scope="module")
def place(tiny: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the tiny bundle as the model `small`, and `t2i` on the path."""
    place = tmp_path_factory.mktemp("scripts")
    for name in ("small", "tiny"):  # a picture names its model as the model names itself
        shutil.copytree(tiny, place / "home" / "models" / name)
    (place / "bin").mkdir()
    program = place / "bin" / "t2i"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m t2i "$@"\n')
    program.chmod(0o755)
    (place / "here" / "drawn").mkdir(parents=True)
    for name in ("cat", "dog"):
        (place / "here" / "drawn" / f"{name}.txt").write_text(f"a {name} in the snow\n")
    return place


@pytest.mark.parametrize("number", range(len(BLOCKS)), ids=[f"{i}-{kind}" for i, (kind, _) in enumerate(BLOCKS)])
def test_a_recipe(place: Path, number: int) -> None:
    kind, text = BLOCKS[number]
    env = {**os.environ, "T2I_HOME": str(place / "home"), "OMP_NUM_THREADS": "1", "PARALLEL_HOME": str(place / "home")}
    env["PATH"] = f"{place / 'bin'}:{env['PATH']}"
    program = "make" if kind == "make" else "parallel" if "\nparallel " in text else "bash"
    if shutil.which(program) is None:
        pytest.skip(f"{program} is not installed")
    if kind == "make":
        (place / "here" / "Makefile").write_text(text)
        text = "make -j 2\ntest -s drawn/cat.png\ntest -s drawn/dog.png\nmake -q\n"
    script = "set -euo pipefail\n" + text
    done = subprocess.run(
        ["bash", "-c", script], cwd=place / "here", env=env, capture_output=True, text=True, timeout=900, check=False
    )
    assert done.returncode == 0, f"{text}\n{done.stdout}\n{done.stderr}"


def test_there_are_recipes() -> None:
    assert len(BLOCKS) >= 9
