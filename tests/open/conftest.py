"""Tiny checkpoints in diffusers' layout, and the command line to use them with."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

pytest.importorskip("diffusers", reason="the library diffusers is not installed")
pytest.importorskip("transformers", reason="the library transformers is not installed")
sys.path.insert(0, str(Path(__file__).parent))

from checkpoints import write_folder

from t2i.cli.app import run
from t2i.open.engine import DiffusersEngine
from t2i.store.open_model import read_open_model

Command = Callable[..., tuple[list[str], str]]


@pytest.fixture(autouse=True, scope="session")
def _small_pictures() -> Iterator[None]:
    """64 pixels also where a network does not say its size, as FLUX's; 1024 would take minutes."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("t2i.store.diffusers_folder.LATENT", 8)
        yield


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The folder of a family, written once. Read it; copy it before you damage it."""
    root, known = tmp_path_factory.mktemp("checkpoints"), dict[str, Path]()

    def checkpoint(family: str) -> Path:
        if family not in known:
            known[family] = write_folder(family, root / family)
        return known[family]

    return checkpoint


@pytest.fixture(scope="session")
def engine(checkpoint: Callable[[str], Path]) -> Callable[[str], DiffusersEngine]:
    """The loaded engine of a family, or of A+B, once."""
    known: dict[str, DiffusersEngine] = {}

    def engine(name: str) -> DiffusersEngine:
        if name not in known:
            known[name] = DiffusersEngine.load(read_open_model([checkpoint(part) for part in name.split("+")]))
        return known[name]

    return engine


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """A command in an empty folder, on the CPU: (lines of stdout, stderr). Checks the exit code."""
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)

    def command(*args: str | Path, code: int = 0) -> tuple[list[str], str]:
        got = run([*map(str, args), "--device", "cpu"])
        out, err = capsys.readouterr()
        assert got == code, err
        assert "Traceback" not in err
        return out.splitlines(), err

    return command
