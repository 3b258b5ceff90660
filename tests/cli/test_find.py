"""`t2i find`: on a picture of the shipped model, whose things the judge knows, and on files of every kind."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.cli.app import run
from t2i.media.images import load_image

Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cat in the snow, drawn by the shipped model."""
    path = tmp_path_factory.mktemp("drawn") / "cat.png"
    args = ["a cat in the snow", "--seed", "7", "--size", "64", "-o", str(path), "--device", "cpu", "--quiet"]
    assert run(["sample", *args]) == 0
    return path


@pytest.fixture
def place(studio: Path, drawn: Path) -> Path:
    """A folder with cat.png, which holds a cat, and empty.png, which holds nothing."""
    Path("cat.png").write_bytes(drawn.read_bytes())
    Image.new("RGB", (40, 30), (90, 140, 220)).save("empty.png")
    return studio


def test_a_thing_that_is_there(place: Path, command: Draw) -> None:
    out, err = command("find", "cat.png", "the cat", "--mask", "masks/m.png")
    ((path, found, thing, score, box, mask),) = [line.split("\t") for line in out]
    assert (path, found, thing, mask) == ("cat.png", "yes", "cat", "masks/m.png")
    assert 0 < float(score) <= 1 and not err
    x, y, w, h = map(int, box.split(","))
    white = np.asarray(load_image(mask))[..., 0] > 0
    assert white.shape == (64, 64) and 0.02 < white.mean() < 0.9
    rows, columns = np.nonzero(white.any(1))[0], np.nonzero(white.any(0))[0]
    assert (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1) == (x, y, x + w, y + h)
    # what is found is what inpaint repaints
    command("inpaint", "cat.png", "a dog", "--mask", mask, "--seed", "1", model="tiny")


def test_a_mask_replaces_no_other_picture(place: Path, command: Draw) -> None:
    Image.new("RGB", (8, 8), "red").save("notes.png")
    before = Path("notes.png").read_bytes()
    args = ("find", "cat.png", "the cat", "--mask", "notes.png")
    for _ in range(2):  # an equal mask keeps its name
        out, err = command(*args)
        assert out[0].endswith("\tnotes-2.png") and "notes.png is taken: the mask is notes-2.png" in err
    assert Path("notes.png").read_bytes() == before and not Path("notes-3.png").exists()
    out, _ = command(*args, "--overwrite")
    assert out[0].endswith("\tnotes.png")
    assert Path("notes.png").read_bytes() == Path("notes-2.png").read_bytes()


def test_chinese_and_several_pictures(place: Path, command: Draw) -> None:
    out, err = command("find", "cat.png", "empty.png", "猫", "--mask", "masks")
    assert [line.split("\t")[:3] for line in out] == [["cat.png", "yes", "cat"], ["empty.png", "no", ""]]
    assert Path("masks/cat.png").is_file() and not Path("masks/empty.png").exists()
    assert "empty.png: no thing is clearly seen in the picture" in err
    assert "1 of 2 pictures has no record of t2i" in err


def test_what_is_not_there_is_no_failure_unless_it_is_a_gate(place: Path, command: Draw) -> None:
    out, err = command("find", "cat.png", "the cat and the dog", "--json")
    record = json.loads(out[0])
    assert record["found"] is False and record["things"] == [] and record["mask"] is None
    assert [thing["name"] for thing in record["seen"]] == ["cat"]
    assert "the picture shows a cat" in err
    command("find", "cat.png", "a cat", "--check")
    _, err = command("find", "cat.png", "empty.png", "a cat", "--check", code=1)
    assert "'a cat' was not found in empty.png" in err
    _, err = command("find", "cat.png", "一只蓝色的猫", "--check", code=1)
    assert "the picture shows a cat, but no blue cat" in err


def test_a_plural_and_a_place_are_asked_for_too(place: Path, command: Draw) -> None:
    _, err = command("find", "cat.png", "cats", "--check", code=1)
    assert "looked for: two or more cats" in err and "the picture shows a cat, but only one cat" in err
    out, err = command("find", "cat.png", "a cat in the snow", "--check", "--json")
    assert json.loads(out[0])["place"] == "snow" and "looked for: a cat, in the snow" in err
    out, err = command("find", "cat.png", "a cat at the beach", "--mask", "m.png")
    assert out[0].split("\t")[1] == "no" and not Path("m.png").exists()
    assert "the picture shows a cat, but not at the beach (seen: snow)" in err
    # a mask is of things alone, wherever they are
    command("inpaint", "cat.png", "--mask-text", "the cats at the beach", "--seed", "1", model="tiny")


def test_words_that_are_not_heeded_are_told(place: Path, command: Draw) -> None:
    out, err = command("find", "cat.png", "a cat wearing a hat")
    assert out[0].split("\t")[1] == "yes"
    assert "warning: 'wearing hat' is not heeded; looked for: a cat" in err
    _, err = command("find", "cat.png", "一只猫在雪地里玩耍")  # our words are English, quoted ones are the user's
    assert "warning: '玩耍' is not heeded; looked for: a cat, in the snow" in err
    _, err = command("inpaint", "cat.png", "--mask-text", "the cat on the left", "--seed", "1", model="tiny")
    assert "warning: --mask-text: 'on left' is not heeded; looked for: a cat" in err


def test_words_that_nothing_can_judge(place: Path, command: Draw) -> None:
    out, err = command("find", "empty.png", "the noise", "--json", model="tiny")
    record = json.loads(out[0])
    assert record["found"] is None and record["things"] == record["seen"] == []
    assert "'the noise' names no thing that can be told from others; what stands out is taken for it" in err
    assert err.count("the noise") == 1 and "everywhere" not in err and record["share"] > 0
    Image.new("RGB", (40, 30), (90, 140, 220)).save("other.png")
    _, err = command("find", "empty.png", "other.png", "the noise", model="tiny")  # told once, not of each
    assert err.count("the noise") == 1 and "seems" not in err
    _, err = command("find", "empty.png", "an elefant", "--check", code=2)
    assert "can be told to be there or not" in err and "Did you mean elephant?" in err


@pytest.mark.parametrize(
    ("args", "code"),
    [
        (["find", "cat.png", "two cats"], 2),
        (["find", "cat.png", "不是猫"], 2),
        (["find", "cat.png", "an elefant", "--check"], 2),
        (["find", "cat.png", "the noise", "--model", "nowhere"], 4),
        (["find", "cat.png", "the cat", "--model", "nowhere"], 4),
        (["find", "nothing.png", "the cat"], 3),
        (["find", "cat.txt", "the cat"], 3),
        (["find", "cat.png", "the cat", "--mask", "m.jpg"], 2),
        (["find", "nothing.png", "--labels", "a cat,a dog"], 3),
        (["inpaint", "cat.png", "a dog", "--mask-text", "no cat", "--model", "tiny"], 2),
    ],
)
def test_what_is_refused_is_refused_before_torch_is_imported(place: Path, args: list[str], code: int) -> None:
    Path("cat.txt").write_text("no picture", "utf-8")
    lines = ["import sys", "from t2i.cli.app import run", f"assert run({args!r}) == {code}"]
    lines.append("assert 'torch' not in sys.modules")
    subprocess.run([sys.executable, "-c", "\n".join(lines)], check=True)


def test_labels(place: Path, command: Draw) -> None:
    out, _ = command("find", "cat.png", "--labels", "a cat, a car, a house")
    ((path, label, chance),) = [line.split("\t") for line in out]
    assert (path, label) == ("cat.png", "a cat") and float(chance) > 0.5


def test_what_the_numbers_of_labels_are_is_said(place: Path, command: Draw) -> None:
    """And which words no model has read, by score too."""
    args = ("--labels", "a cat,a grommet", "--extractor", "clip:tiny", "--device", "cpu")
    _, err = command("find", "cat.png", *args)
    assert "t2i: warning: --labels: the model has never read 'grommet'\n" in err and "'cat'" not in err
    assert "share among these labels: they sum to 1, whether or not one of them fits" in err
    _, err = command("score", "cat.png", *args)
    assert "t2i: warning: --labels: the model has never read 'grommet'\n" in err


def test_score_says_why_the_judge_was_not_asked(place: Path, command: Draw) -> None:
    args = ("score", "cat.png", "--extractor", "clip:tiny", "--device", "cpu")
    _, err = command(*args)
    (line,) = [line for line in err.splitlines() if line.startswith("scene is unavailable: ")]
    assert "suite" in line and "--suite" in line
    assert "scene" not in command(*args, "--metrics", "sharpness")[1]


def test_labels_are_those_of_score(place: Path, command: Draw) -> None:
    eye = ("--labels", "a cat,snow", "--extractor", "clip:tiny", "--device", "cpu", "--json")
    found, scored = (json.loads(command(name, "cat.png", *eye)[0][0]) for name in ("find", "score"))
    assert found["label"] == scored["label"]
    assert found["probability"] == pytest.approx(scored["probability"], abs=1e-4)


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["the cat"], 2, "there is no picture"),
        (["cat.png"], 2, "there is nothing to look for"),
        (["empty.png", "cat.png"], 2, "'cat.png' is a picture"),
        (["cat.png", "  "], 2, "empty"),
        (["cat.png", "no cat", "--check"], 2, "only what is there can be looked for"),
        (["cat.png", "两只猫"], 2, "not counted"),
        (["cat.png", "!?"], 2, "holds no word"),
        (["nothing.png", "the cat"], 3, "cannot read nothing.png"),
        (["cat.png", "p.txt", "the cat"], 3, "p.txt is not a PNG"),
        (["cat.png", "the cat", "--mask", "m.jpg"], 2, "not a PNG file"),
        (["cat.png", "the cat", "--mask", "cat.png"], 2, "write over the picture"),
        (["cat.png", "the cat", "--mask", "."], 2, "write over the picture"),
        (["cat.png", "empty.png", "the cat", "--mask", "m.png"], 2, "there are 2 pictures"),
        (["cat.png", "the cat", "--mask", "p.txt/m.png"], 3, "cannot write to p.txt"),
        (["cat.png", "the cat", "--overwrite"], 2, "--overwrite is about --mask"),
        (["cat.png", "the cat", "--weights", "w.safetensors"], 2, "--weights is about --labels"),
        (["cat.png", "the noise", "--model", "nowhere"], 4, "there is no model 'nowhere'"),
        (["cat.png", "--labels", "cat"], 2, "nothing to choose"),
        (["cat.png", "a cat", "--labels", "cat,dog"], 2, "--labels stands in place of TEXT"),
        (["cat.png", "--labels", "cat,dog", "--check"], 2, "--labels and --check do not go together"),
        (["cat.png", "--labels", "cat,dog", "--extractor", "open_clip:ViT-B-32"], 4, "needs its weights"),
        (["cat.png", "--labels", "cat,dog", "--extractor", "judge"], 4, "reads no text"),
    ],
)
def test_what_is_refused(place: Path, command: Draw, args: list[str], code: int, said: str) -> None:
    Path("p.txt").write_text("no picture", "utf-8")
    before = Path("cat.png").read_bytes()
    _, err = command("find", *args, code=code)
    assert said in err
    assert Path("cat.png").read_bytes() == before
