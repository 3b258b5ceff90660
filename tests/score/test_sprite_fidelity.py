"""Fidelity in `t2i score`: a render scores 1, a blurred one less; what cannot have it is left out and said so."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image, ImageFilter

from t2i.cli.app import run
from t2i.errors import InputError
from t2i.media.images import save_image, to_pil
from t2i.score.sprite_fidelity import STYLE, lone_things
from t2i.score.suite import SuitePrompt
from t2i.world import Group, World, WorldConfig
from t2i.world.reading import Expectation, Wanted
from t2i.world.shapes import draw_shape
from t2i.world.sprites import load_atlas
from t2i.world.vocabulary import things

PROMPT = "a cat on a blue background"


@pytest.fixture
def sprites(tmp_path: Path) -> Path:
    """A sprite library of one drawn cat."""
    folder = tmp_path / "sprites" / STYLE
    folder.mkdir(parents=True)
    shape = next(t for t in things().values() if t.sprite.startswith("shape:") and t.en == "cat")
    pixels = draw_shape(shape.sprite.removeprefix("shape:"), 256)
    Image.fromarray(pixels, "RGBA").save(folder / f"{things()['cat'].sprite}.webp", lossless=True)
    return tmp_path / "sprites"


@pytest.fixture
def pictures(sprites: Path, tmp_path: Path) -> Path:
    """A render of the cat, the same blurred, and a picture of which nothing is known; and a suite."""
    world = World(WorldConfig(things=("cat",)), sprites, resolution=256)
    scene = world.layout.compose((Group("cat"),), "plain", shade="blue")
    folder = tmp_path / "pictures"
    folder.mkdir()
    render = to_pil(world.draw([scene], 256)[0][0])
    for name, picture in (("sharp", render), ("blurred", render.filter(ImageFilter.GaussianBlur(8)))):
        save_image(picture, folder / f"{name}.png")
        (folder / f"{name}.txt").write_text(PROMPT)
    save_image(render, folder / "unknown.png")
    expect = {"objects": [{"thing": "cat"}], "place": "plain", "shade": "blue"}
    (tmp_path / "suite.jsonl").write_text(json.dumps({"prompt": PROMPT, "expect": expect}) + "\n")
    return folder


def score(capsys: pytest.CaptureFixture[str], *args: object) -> tuple[dict[str, dict[str, float]], list[str]]:
    """File name -> metrics, and the notes of the report."""
    assert run(["score", *map(str, args), "--json", "--fresh", "--extractor", "judge", "--device", "cpu"]) == 0
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    whole = next(line for line in lines if "recipe" in line)
    return {Path(line["name"]).stem: line["metrics"] for line in lines if "metrics" in line and "name" in line}, whole[
        "notes"
    ]


def test_a_render_scores_one_and_a_blurred_one_less(
    pictures: Path, sprites: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, notes = score(capsys, pictures, "--suite", tmp_path / "suite.jsonl", "--sprites", sprites)
    assert not notes
    assert found["sharp"]["fidelity"] > 0.99
    assert found["blurred"]["fidelity"] < 0.9
    assert "fidelity" not in found["unknown"]


def test_without_sprites_it_is_said_to_be_unavailable(
    pictures: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    found, notes = score(capsys, pictures, "--suite", tmp_path / "suite.jsonl")
    assert "fidelity" not in found["sharp"]
    assert len(notes) == 1 and notes[0].startswith("fidelity is unavailable: ")


def test_only_one_thing_in_its_own_colours_on_a_plain_background_has_it() -> None:
    cat = Wanted("cat")
    asked = {
        "yes": Expectation((cat,), "plain", "blue"),
        "counted once": Expectation((Wanted("cat", 1),), "plain", "red"),
        "elsewhere": Expectation((cat,), "snow"),
        "anywhere": Expectation((cat,)),
        "painted": Expectation((Wanted("cat", None, "black"),), "plain", "blue"),
        "two": Expectation((Wanted("cat", 2),), "plain", "blue"),
        "a pair": Expectation((cat, Wanted("dog")), "plain", "blue"),
    }
    found = lone_things([SuitePrompt(text, expectation) for text, expectation in asked.items()])
    assert found == {"yes": "cat", "counted once": "cat"}


def test_a_missing_sprite_is_named(sprites: Path) -> None:
    with pytest.raises(InputError, match="cannot read the sprite"):
        load_atlas(things(), ["dog"], (STYLE,), sprites, 64)
