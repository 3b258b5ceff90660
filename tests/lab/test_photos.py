"""Pictures of one thing, as a user's photos would be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from t2i.lab.photos import main
from t2i.world.vocabulary import things


@pytest.fixture
def sprites(tmp_path: Path) -> Path:
    """A library of a teapot: a red disc."""
    folder = tmp_path / "sprites" / "fluent3d"
    folder.mkdir(parents=True)
    picture = Image.new("RGBA", (48, 48))
    ImageDraw.Draw(picture).ellipse((2, 2, 46, 46), fill=(255, 0, 0))
    picture.save(folder / f"{things()['teapot'].sprite}.webp", lossless=True)
    return folder.parent


def test_the_thing_is_in_every_picture_and_no_two_are_alike(sprites: Path, tmp_path: Path) -> None:
    out = tmp_path / "photos"
    assert main(["--thing", "teapot", "--sprites", str(sprites), "-o", str(out), "--n", "4"]) == 0
    pictures = [Image.open(path).convert("RGB") for path in sorted(out.iterdir())]
    assert [picture.size for picture in pictures] == [(256, 256)] * 4
    pixels = [np.asarray(picture) for picture in pictures]
    red = [int(((p[..., 0] > 150) & (p[..., 1] < 60) & (p[..., 2] < 60)).sum()) for p in pixels]
    assert min(red) > 2000 and len(set(red)) == 4
    again = tmp_path / "again"
    main(["--thing", "teapot", "--sprites", str(sprites), "-o", str(again), "--n", "4"])
    assert [p.read_bytes() for p in sorted(out.iterdir())] == [p.read_bytes() for p in sorted(again.iterdir())]


def test_what_cannot_be_drawn_is_said(sprites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--thing", "teapott", "--sprites", str(sprites), "-o", str(tmp_path)]) == 2
    assert "no thing called 'teapott'" in capsys.readouterr().err
    assert main(["--thing", "koala", "--sprites", str(sprites), "-o", str(tmp_path)]) == 3
    assert "cannot read the sprite" in capsys.readouterr().err
