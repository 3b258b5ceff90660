"""The commands on a bundle whose text encoder has never seen a picture."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.cli.app import run
from t2i.images import load_image, read_metadata

CAT = "a cat in the snow"


@pytest.fixture
def place(blind: Path, studio: Path, tmp_path: Path) -> Path:
    shutil.copytree(blind, tmp_path / "home" / "models" / "blind")
    values = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(values).save("a.png")
    return studio


def t2i(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0, model: str = "blind") -> tuple[list[str], str]:
    got = run([*args, "--model", model, "--device", "cpu"])
    out, err = capsys.readouterr()
    assert got == code, err
    assert "Traceback" not in err
    return out.splitlines(), err


def pixels(path: str) -> bytes:
    return load_image(path).tobytes()


def test_sample_and_replay(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, err = t2i(capsys, "sample", "a zyxt in the snow", "--seed", "7")
    assert "never read 'zyxt'" in err
    assert load_image(out[0]).size == (64, 64)
    stages = read_metadata(out[0])["t2i"]["settings"]["stages"]
    assert list(stages) == ["base", "upsampler64"] and stages["base"]["threshold"] == [0.995, 10.0]
    dials = ("--threshold", "base=0.9,1.5,up=static", "--sr-noise", "0.3", "--guidance", "base=3,up=2")
    (other,), _ = t2i(capsys, "sample", "a zyxt in the snow", "--seed", "7", *dials, "-o", "x")
    stages = read_metadata(other)["t2i"]["settings"]["stages"]
    assert stages["base"]["threshold"] == [0.9, 1.5] and stages["upsampler64"]["threshold"] == "static"
    assert stages["upsampler64"]["noise"] == 0.3 and stages["upsampler64"]["guidance"] == 2
    assert pixels(other) != pixels(out[0])
    assert run(["sample", "--replay", other, "--device", "cpu"]) == 0
    assert "identical" in capsys.readouterr().out


@pytest.mark.parametrize("threshold", ["static", "none", "0.9"])
def test_each_threshold_draws_another_picture(place: Path, capsys: pytest.CaptureFixture[str], threshold: str) -> None:
    args = ("sample", CAT, "--seed", "7", "--guidance", "8", "--size", "16")
    (plain,), _ = t2i(capsys, *args)
    (other,), _ = t2i(capsys, *args, "--threshold", threshold, "-o", "x")
    assert pixels(plain) != pixels(other)


def test_what_the_bundle_does_anyway_is_not_drawn_again(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (plain,), _ = t2i(capsys, "sample", CAT, "--seed", "7")
    assert t2i(capsys, "sample", CAT, "--seed", "7", "--sr-noise", "0.1", "--threshold", "0.995,10")[0] == [plain]


def test_from_a_picture(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (made,), _ = t2i(capsys, "sample", CAT, "--init", "a.png", "--strength", "0.5", "--seed", "7")
    assert read_metadata(made)["t2i"]["settings"]["init"]["strength"] == 0.5
    (painted,), _ = t2i(capsys, "inpaint", "a.png", CAT, "--box", "4,4,8,8", "--seed", "7")
    before, after = np.asarray(load_image("a.png")), np.asarray(load_image(painted))
    assert np.array_equal(before[16:], after[16:]) and not np.array_equal(before, after)
    (removed,), _ = t2i(capsys, "inpaint", "a.png", "--box", "4,4,8,8", "--seed", "7", "-o", "removed")
    assert not np.array_equal(np.asarray(load_image(removed)), after)


def test_the_upsampler_reads_the_prompt(place: Path, capsys: pytest.CaptureFixture[str]) -> None:
    args = ("upscale", "a.png", "--scale", "2", "--trust")
    made = []
    for i, prompt in enumerate(((), ("--prompt", CAT), ("--prompt", "two penguins"))):
        (path,), err = t2i(capsys, *args, *prompt, "-o", f"big{i}")
        assert "reads no text" not in err
        made.append(pixels(path))
    assert len(set(made)) == 3


@pytest.mark.parametrize(
    ("args", "words", "hint"),
    [
        (("--like", "a.png"), "--like needs an image encoder", "--init IMAGE"),
        (("--blend", "a.png", "a.png"), "--blend needs an image encoder", "--model small"),
        (("--text-diff", "a.png", "a cat", "a dog"), "--text-diff needs an image encoder", "--init IMAGE"),
        ((CAT, "--rerank", "3"), "--rerank needs an image encoder", "-n"),
        ((CAT, "--prior-best-of", "3"), "--prior-best-of needs a prior", "Leave it out"),
    ],
)
def test_what_needs_clip_says_so(
    place: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str, hint: str
) -> None:
    out, err = t2i(capsys, "sample", *args, code=2)
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
        (("--sr-noise", "base=0.1"), "no stage 'base' that takes it"),
        (("--threshold", "statc"), "percentile,cap"),
        (("--threshold", "0.9,1.5,3"), "percentile,cap"),
        (("--threshold", "text=static"), "no stage 'text' that takes it"),
    ],
)
def test_a_dial_that_makes_no_sense(
    place: Path, capsys: pytest.CaptureFixture[str], args: tuple[str, ...], words: str
) -> None:
    assert words in t2i(capsys, "sample", CAT, *args, code=2)[1]


def test_models(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from t2i.store.bundle import share_stage

    models = tmp_path / "home" / "models"
    shutil.copytree(models / "blind", models / "third")
    share_stage(models / "third", "text", "blind")
    share_stage(models / "third", "upsampler64", "blind")
    assert run(["models", "show", "third"]) == 0
    assert "text (text, from blind)" in capsys.readouterr().out
    assert run(["models", "verify", "third"]) == 0
    assert run(["models", "list"]) == 0
    assert "needs blind" in capsys.readouterr().out
    shutil.rmtree(models / "blind")
    assert run(["models", "verify", "third"]) == 3
    assert "which is not here" in capsys.readouterr().err
