"""The program that measures guidance and negative prompts, on a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest

from t2i.lab.guidance import Case, cases, key, main
from t2i.store.registry import resolve_judge
from t2i.world.judge import Judge
from t2i.world.reading import Detection, Reading


def test_the_judge_knows_what_is_to_go_and_what_is_to_stay() -> None:
    config = Judge.load(resolve_judge()).config
    every = cases()
    assert len(every) == 40 == len({case.prompt for case in every})
    for case in every:
        assert key(case.thing) in config.things
        assert case.negative in config.places if case.place else key(case.negative) in config.things


def test_gone_and_kept() -> None:
    def reading(place: str, *things: str) -> Reading:
        return Reading(tuple(Detection(thing, 0.5, 0.5, 0.9, "own") for thing in things), place, 0.9, None)

    snow = Case("a cat in the snow", "snow", "cat", True)
    assert snow.gone(reading("plain", "cat")) and not snow.gone(reading("snow", "cat"))
    assert snow.kept(reading("plain", "cat")) and not snow.kept(reading("plain", "dog"))
    ball = Case("a dog and a soccer ball", "soccer ball", "dog", False)
    assert ball.gone(reading("plain", "dog")) and not ball.gone(reading("plain", "dog", "soccer_ball"))


def test_tables_and_sheets(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tiny), "--size", "16", "--prompts", "8", "--sheets", str(tmp_path)]) == 0
    out = capsys.readouterr().out
    assert "| places (24) | no |" in out and "| things (16) | yes |" in out
    assert [line.split(" | ")[0] for line in out.splitlines() if line[:3] in ("| 1", "| 3", "| 6")] == [
        "| 1",
        "| 3",
        "| 6",
    ]
    assert {path.name.split("-")[0] for path in tmp_path.iterdir()} == {"guidance", "negative"}


def test_a_model_that_is_not_there(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", "nothing-of-this-name"]) == 4
    assert "nothing-of-this-name" in capsys.readouterr().err
