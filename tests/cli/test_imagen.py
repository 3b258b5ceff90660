"""The commands on a bundle whose text encoder has never seen a picture."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.media.images import load_image, read_metadata

CAT = "a cat in the snow"

Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture
def place(blind: Path, studio: Path, tmp_path: Path) -> Path:
    shutil.copytree(blind, tmp_path / "home" / "models" / "blind")
    values = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(values).save("a.png")
    return studio


@pytest.fixture
def t2i(command: Draw) -> Draw:
    return partial(command, model="blind")


def pixels(path: str) -> bytes:
    return load_image(path).tobytes()


def test_sample_and_replay(place: Path, t2i: Draw) -> None:
    out, err = t2i("sample", "a zyxt in the snow", "--seed", "7")
    assert "never read 'zyxt'" in err
    assert load_image(out[0]).size == (64, 64)
    stages = read_metadata(out[0])["t2i"]["settings"]["stages"]
    assert list(stages) == ["base", "upsampler64"] and stages["base"]["threshold"] == [0.995, 10.0]
    dials = ("--threshold", "base=0.9,1.5,up=static", "--sr-noise", "0.3", "--guidance", "base=3,up=2")
    (other,), _ = t2i("sample", "a zyxt in the snow", "--seed", "7", *dials, "-o", "x")
    stages = read_metadata(other)["t2i"]["settings"]["stages"]
    assert stages["base"]["threshold"] == [0.9, 1.5] and stages["upsampler64"]["threshold"] == "static"
    assert stages["upsampler64"]["noise"] == 0.3 and stages["upsampler64"]["guidance"] == 2
    assert pixels(other) != pixels(out[0])
    assert "identical" in t2i("sample", "--replay", other, "--device", "cpu", model="")[0][-1]


@pytest.mark.parametrize("threshold", ["static", "none", "0.9"])
def test_each_threshold_draws_another_picture(place: Path, t2i: Draw, threshold: str) -> None:
    args = ("sample", CAT, "--seed", "7", "--guidance", "8", "--size", "16")
    (plain,), _ = t2i(*args)
    (other,), _ = t2i(*args, "--threshold", threshold, "-o", "x")
    assert pixels(plain) != pixels(other)


def test_what_the_bundle_does_anyway_is_not_drawn_again(place: Path, t2i: Draw) -> None:
    (plain,), _ = t2i("sample", CAT, "--seed", "7")
    assert t2i("sample", CAT, "--seed", "7", "--sr-noise", "0.1", "--threshold", "0.995,10")[0] == [plain]


def test_from_a_picture(place: Path, t2i: Draw) -> None:
    (made,), _ = t2i("sample", CAT, "--init", "a.png", "--strength", "0.5", "--seed", "7")
    assert read_metadata(made)["t2i"]["settings"]["init"]["strength"] == 0.5
    (painted,), _ = t2i("inpaint", "a.png", CAT, "--box", "4,4,8,8", "--seed", "7")
    before, after = np.asarray(load_image("a.png")), np.asarray(load_image(painted))
    assert np.array_equal(before[16:], after[16:]) and not np.array_equal(before, after)
    (removed,), _ = t2i("inpaint", "a.png", "--box", "4,4,8,8", "--seed", "7", "-o", "removed")
    assert not np.array_equal(np.asarray(load_image(removed)), after)


def test_the_upsampler_reads_the_prompt(place: Path, t2i: Draw) -> None:
    args = ("upscale", "a.png", "--scale", "2", "--trust")
    made = []
    for i, prompt in enumerate(((), ("--prompt", CAT), ("--prompt", "two penguins"))):
        (path,), err = t2i(*args, *prompt, "-o", f"big{i}")
        assert "reads no text" not in err
        made.append(pixels(path))
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    ("args", "words", "hint"),
    [
        (("vary", "a.png"), "t2i vary cannot be used", "--init IMAGE"),
        (("vary", "a.png", "--to", "a.png"), "t2i vary cannot be used", "--model small"),
        (("vary", "a.png", "--from-text", "a cat", "--to-text", "a dog"), "t2i vary cannot be used", "--init IMAGE"),
        (("sample", CAT, "--rerank", "3"), "--rerank cannot be used", "-n"),
        (("sample", CAT, "--prior-best-of", "3"), "--prior-best-of needs a prior", "Leave it out"),
    ],
)
def test_what_needs_clip_says_so(place: Path, t2i: Draw, args: tuple[str, ...], words: str, hint: str) -> None:
    out, err = t2i(*args, code=2)
    assert not out and words in err and hint in err and "'blind'" in err


def test_the_library_says_so_too(blind: Path) -> None:
    from t2i.errors import UsageError
    from t2i.pipeline import Pipeline

    with pytest.raises(UsageError, match="has no image encoder"):
        _ = Pipeline.load(blind).clip


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--sr-noise", "2"), "--sr-noise '2' cannot be read"),
        (("--sr-noise", "base=0.1"), "the stage 'base' does not take it"),
        (("--threshold", "statc"), "percentile,cap"),
        (("--threshold", "0.9,1.5,3"), "percentile,cap"),
        (("--threshold", "text=static"), "the stage 'text' does not take it"),
    ],
)
def test_a_dial_that_makes_no_sense(place: Path, t2i: Draw, args: tuple[str, ...], words: str) -> None:
    assert words in t2i("sample", CAT, *args, code=2)[1]


def test_models(place: Path, tmp_path: Path, command: Draw) -> None:
    from t2i.store.bundle_writing import share_stage

    models = tmp_path / "home" / "models"
    shutil.copytree(models / "blind", models / "third")
    share_stage(models / "third", "text", "blind")
    share_stage(models / "third", "upsampler64", "blind")
    assert "text (text, from blind)" in "\n".join(command("models", "show", "third")[0])
    command("models", "verify", "third")
    assert "needs blind" in "\n".join(command("models", "list")[0])
    shutil.rmtree(models / "blind")
    assert "which is not here" in command("models", "verify", "third", code=3)[1]
