"""The command line with real networks that draw in milliseconds."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i.cli.app import run

Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture
def studio(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder to work in, the current one, with the model `tiny` among this user's models."""
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    shutil.copytree(tiny, models / "tiny")
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    return tmp_path / "here"


@pytest.fixture
def draw(studio: Path, capsys: pytest.CaptureFixture[str]) -> Draw:
    """`t2i sample` at 16 pixels, in this process: (lines of stdout, stderr). Checks the exit code."""

    def draw(*args: str, code: int = 0) -> tuple[list[str], str]:
        size = [] if "--size" in args or "--replay" in args else ["--size", "16"]
        model = [] if "--model" in args else ["--model", "tiny"]
        got = run(["sample", *args, *size, *model, "--device", "cpu"])
        out, err = capsys.readouterr()
        assert got == code, err
        return out.splitlines(), err

    return draw


@pytest.fixture
def command(studio: Path, capsys: pytest.CaptureFixture[str]) -> Draw:
    """A command, with a model where one is named, in this process: (lines of stdout, stderr). Checks the exit code."""

    def command(*args: str, model: str = "", code: int = 0) -> tuple[list[str], str]:
        got = run([*args, *(["--model", model, "--device", "cpu"] if model else [])])
        out, err = capsys.readouterr()
        assert got == code, err
        assert "Traceback" not in err
        return out.splitlines(), err

    return command
