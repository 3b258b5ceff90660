"""The library in two calls."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

import t2i
from t2i.media.images import load_image

CAT = "a cat in the snow"


@pytest.fixture(scope="module")
def model(tiny: Path) -> t2i.Model:
    return t2i.load(str(tiny))


def far(a: Image.Image, b: Image.Image) -> int:
    assert a.size == b.size
    return max(abs(x - y) for x, y in zip(a.tobytes(), b.tobytes(), strict=True))


def test_pictures_from_python(model: t2i.Model) -> None:
    pictures = model.sample([CAT, "一只猫"], n=2, seed=5, size=16, steps={"base": 2})
    assert [picture.size for picture in pictures] == [(16, 16)] * 4
    assert len({picture.tobytes() for picture in pictures}) == 4
    alone = model.sample("一只猫", seed=6, size=16, steps={"base": 2})[0]
    assert far(alone, pictures[3]) <= 4
    small = model.sample(CAT, n=2, seed=5, size=16, steps={"base": 2}, batch=1)
    assert max(far(a, b) for a, b in zip(small, pictures, strict=False)) <= 4


def test_the_same_pixels_as_the_command(
    model: t2i.Model, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from t2i.cli.app import run

    monkeypatch.chdir(tmp_path)
    args = ["--model", str(tiny), "--device", "cpu", "--seed", "7", "-n", "3", "--negative", "a dog", "--guidance", "2"]
    assert run(["sample", CAT, *args, "-q"]) == 0
    pictures = model.sample(CAT, n=3, seed=7, negative="a dog", guidance=2.0)
    for seed, picture in zip((7, 8, 9), pictures, strict=True):
        assert load_image(f"out/a-cat-in-the-snow-{seed}.png").tobytes() == picture.tobytes()


def test_inpainting_keeps_what_is_outside(model: t2i.Model) -> None:
    photo = Image.radial_gradient("L").resize((40, 24)).convert("RGB")
    mask = Image.new("L", (40, 24))
    mask.paste(255, (4, 4, 14, 14))
    first, second = model.inpaint(photo, "a dog", mask, n=2, seed=3, feather=0)
    assert first.size == photo.size
    assert first.tobytes() != second.tobytes()
    alone = model.inpaint(photo, "a dog", mask, n=2, seed=3, feather=0, batch=1)
    assert max(far(a, b) for a, b in zip(alone, (first, second), strict=True)) <= 4
    for x in range(40):
        for y in range(24):
            if not (4 <= x < 14 and 4 <= y < 14):
                assert first.getpixel((x, y)) == photo.getpixel((x, y))
    assert first.crop((4, 4, 14, 14)).tobytes() != photo.crop((4, 4, 14, 14)).tobytes()
    for wrong, sentence in ((Image.new("L", (40, 24)), "all black"), (Image.new("L", (9, 9), 255), "differ in size")):
        with pytest.raises(t2i.UsageError, match=sentence):
            model.inpaint(photo, "a dog", wrong)


def test_upscaling(model: t2i.Model, tmp_path: Path) -> None:
    photo = Image.radial_gradient("L").resize((20, 12)).convert("RGB")
    photo.save(tmp_path / "x.png")
    assert model.upscale(photo, scale=2).size == (40, 24)
    assert model.upscale(tmp_path / "x.png", to=50).size == (50, 30)
    assert model.upscale(photo.resize((3, 2)), scale=20).size == (60, 40)  # as far as the command goes
    for wrong in ({}, {"scale": 2, "to": 40}, {"scale": 0.5}, {"to": 10}, {"scale": 99}, {"scale": 2, "seed": -1}):
        with pytest.raises(t2i.UsageError):
            model.upscale(photo, **wrong)
    with pytest.raises(t2i.InputError, match="megapixels"):
        model.upscale(photo, to=32_000)


def test_the_largest_seed(model: t2i.Model) -> None:
    from t2i.prompts import MAX_SEED

    assert len(model.sample(CAT, seed=MAX_SEED, size=16, steps={"base": 1})) == 1
    with pytest.raises(t2i.UsageError, match="too large"):
        model.sample(CAT, n=2, seed=MAX_SEED)


def test_scores_are_cosines(model: t2i.Model) -> None:
    pictures = model.sample(CAT, n=2, seed=1, size=16)
    scores = model.score(pictures, CAT)
    assert len(scores) == 2
    assert all(-1 <= score <= 1 for score in scores)
    assert model.score(pictures[:1], ["a house at night"])[0] != scores[0]
    assert model.score([], CAT) == []
    with pytest.raises(t2i.UsageError, match="2 pictures and 1 prompts"):
        model.score(pictures, [CAT])


def test_transparent_parts_are_white(model: t2i.Model) -> None:
    clear = Image.new("RGBA", (16, 16), (255, 0, 0, 0))
    white = Image.new("RGB", (16, 16), "white")
    assert model.score([clear], CAT) == model.score([white], CAT)


@pytest.mark.parametrize(
    ("prompt", "settings", "sentence"),
    [
        (" ", {}, "is empty"),
        ("a\0cat", {}, "NUL"),
        ("a cat", {"n": 0}, "n=0 asks for no picture"),
        ("a cat", {"batch": 0}, "batch=0 draws nothing"),
        ("a cat", {"seed": -1}, "seed=-1 is not a seed"),
        ("a cat", {"seed": True}, "seed=True is not a seed"),
        ("a cat", {"size": 63}, "no pictures of 63 pixels"),
        ("a cat", {"stepz": {"base": 2}}, "no setting 'stepz'"),
        ("a cat", {"sampler": "eular"}, "no sampler 'eular'"),
    ],
)
def test_mistakes_are_sentences(model: t2i.Model, prompt: str, settings: dict[str, object], sentence: str) -> None:
    with pytest.raises(t2i.UsageError, match=sentence):
        model.sample(prompt, **settings)  # type: ignore[arg-type]


def test_what_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(t2i.UnavailableError, match="there is no model"):
        t2i.load("smoll")
    with pytest.raises(t2i.InputError, match="it has no bundle"):
        t2i.load(str(tmp_path))


def test_importing_costs_nothing(tmp_path: Path) -> None:
    code = "import sys, t2i; t2i.T2IError; print([m for m in ('torch', 'numpy', 'PIL', 'typer') if m in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


def test_the_package_is_typed() -> None:
    assert (Path(t2i.__file__).parent / "py.typed").is_file()


def test_edits_and_scores_are_those_of_the_command(
    model: t2i.Model, tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from t2i.cli.app import run

    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    photo = Image.radial_gradient("L").resize((40, 24)).convert("RGB")
    mask = Image.new("L", (40, 24))
    mask.paste(255, (4, 4, 14, 14))
    photo.save("photo.png")
    mask.save("mask.png")
    common = ["--model", str(tiny), "--device", "cpu", "-q"]
    assert run(["inpaint", "photo.png", CAT, "--mask", "mask.png", "--seed", "3", "-o", "x.png", *common]) == 0
    assert model.inpaint(photo, CAT, mask, seed=3)[0].tobytes() == load_image("x.png").tobytes()
    assert run(["upscale", "photo.png", "--scale", "2", "--seed", "5", "-o", "big", *common]) == 0
    assert model.upscale(photo, scale=2, seed=5).tobytes() == load_image("big/photo.png").tobytes()
    capsys.readouterr()
    args = ["x.png", "--extractor", f"clip:{tiny}", "--metrics", "clip", "--device", "cpu", "--json"]
    assert run(["score", *args]) == 0
    record = json.loads(capsys.readouterr().out.splitlines()[0])
    assert record["metrics"]["clip"] == pytest.approx(100 * model.score(["x.png"], CAT)[0], abs=1e-3)
