"""The fidelity of a model: the whole program on a tiny bundle and drawn sprites, and the measure of variety."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from PIL import Image, ImageDraw

from t2i.lab.fidelity import Row, main, spread, table
from t2i.world.fidelity import BestRender
from t2i.world.vocabulary import things


@pytest.fixture
def sprites(tmp_path: Path) -> Path:
    """A library of a cat and a dog: discs with a square in them."""
    folder = tmp_path / "sprites" / "fluent3d"
    folder.mkdir(parents=True)
    for key, colour in (("cat", "orange"), ("dog", "brown")):
        picture = Image.new("RGBA", (48, 48))
        pen = ImageDraw.Draw(picture)
        pen.ellipse((2, 2, 46, 46), fill=colour)
        pen.rectangle((8, 12, 22, 20), fill="white")
        picture.save(folder / f"{things()[key].sprite}.webp", lossless=True)
    return folder.parent


def box(start: int, stop: int) -> BestRender:
    return BestRender(torch.zeros(3, 64, 64), torch.zeros(5), (slice(start, stop), slice(start, stop)), 0.0)


def test_variety_is_the_rms_difference_in_the_boxes_of_both() -> None:
    black, grey = torch.full((3, 64, 64), -1.0), torch.full((3, 64, 64), -0.5)
    assert spread([black, grey], [box(8, 40), box(16, 48)]) == pytest.approx(0.5)
    assert spread([black, black], [box(8, 40), box(16, 48)]) == 0
    half = black.clone()
    half[:, 8:28, 8:48] = 1  # half of the rectangle that holds both boxes
    assert spread([black, half], [box(8, 40), box(16, 48)]) == pytest.approx(2 / 2**0.5)


def test_a_table_shows_variety_where_it_was_measured() -> None:
    plain = table([Row("cat", 0.5, 1.5), Row("dog", 0.7, 1.0)])
    assert plain.splitlines()[-1] == "| mean | 0.600 | 1.25 |"
    varied = table([Row("cat", 0.5, 1.5, 0.1, 0.2), Row("dog", 0.7, 1.0, 0.2, 0.2)])
    assert varied.splitlines()[-1] == "| mean | 0.600 | 1.25 | 0.150 | 0.200 | 0.75 |"


@pytest.mark.parametrize("variety", [False, True])
def test_the_program_measures_a_bundle(
    tiny: Path, sprites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], variety: bool
) -> None:
    numbers, sheet = tmp_path / "numbers.json", tmp_path / "sheet.png"
    options = ["--things", "cat,dog", "--size", "64", "--json", str(numbers), "--sheet", str(sheet)]
    assert main(["--model", str(tiny), "--sprites", str(sprites), *options, *["--variety"] * variety]) == 0
    assert capsys.readouterr().out.splitlines()[2].startswith("| cat | ")
    rows = json.loads(numbers.read_text("utf-8"))
    assert [row["thing"] for row in rows] == ["cat", "dog"]
    assert all(-1 <= row["ssim"] <= 1 and row["edges"] >= 0 for row in rows)
    assert all((row["variety"] is not None) == variety for row in rows)
    with Image.open(sheet) as picture:
        assert picture.height > 64


def test_a_thing_that_does_not_exist_is_refused(tiny: Path, sprites: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--model", str(tiny), "--sprites", str(sprites), "--things", "gryphon"]) == 2
    assert "gryphon" in capsys.readouterr().err
