"""Programs of the lab tell a user's error in a line, with its exit code, and without a traceback."""

from __future__ import annotations

import importlib
from pathlib import Path

import pytest


@pytest.mark.parametrize(
    ("program", "argv", "code"),
    [
        ("mask_measures", ["--sprites", "nowhere"], 3),
        ("edge_measures", ["inpaint", "--sprites", "nowhere", "--model", "nowhere"], 4),
        ("edit_measures", ["repaint"], 2),
        ("edit_measures", ["photos", "--model", "nowhere"], 4),
        ("vary_measures", ["--model", "nowhere"], 4),
        ("rates", ["--model", "nowhere"], 4),
        ("gate_power", ["damage", "--pool", "nowhere"], 3),
        ("judge_train", ["--out", "judge", "--sprites", "nowhere"], 3),
    ],
)
def test_an_error_of_the_user_is_a_line(
    program: str, argv: list[str], code: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    assert importlib.import_module(f"t2i.lab.{program}").main(argv) == code
    err = capsys.readouterr().err
    assert err and "Traceback" not in err


@pytest.mark.parametrize("n", ["0", "-3", "many"])
def test_a_number_of_pictures_that_is_none(n: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        importlib.import_module("t2i.lab.vary_measures").main(["things", "-n", n])
    assert stop.value.code == 2
    assert "is not a whole number from 1 on" in capsys.readouterr().err
