"""`--quality`: the longer way to draw, which edits take by themselves."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from t2i import api
from t2i.media.images import load_image, read_metadata

CAT = "a cat in the snow"

Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture
def t2i(tiny: Path, studio: Path, tmp_path: Path, command: Draw) -> Draw:
    """`tiny` with a longer way: 3 steps of the base in the place of 2, 5 of the prior."""
    model = tmp_path / "home" / "models" / "quick"
    shutil.copytree(tiny, model)
    table = json.loads((model / "bundle.json").read_text())
    for stage, (steps, longer) in {"prior": (2, 5), "base": (2, 3)}.items():
        defaults = next(entry["defaults"] for entry in table["stages"] if entry["name"] == stage)
        defaults["steps"], defaults["extra"]["quality_steps"] = steps, longer
    (model / "bundle.json").write_text(json.dumps(table))
    return partial(command, model="quick")


def steps(path: str) -> dict[str, int]:
    stages: dict[str, Any] = read_metadata(path)["t2i"]["settings"]["stages"]
    return {name: table["steps"] for name, table in stages.items()}


def test_more_steps_are_another_picture_that_replays(t2i: Draw) -> None:
    (quick,), _ = t2i("sample", CAT, "--seed", "7")
    (slow,), _ = t2i("sample", CAT, "--seed", "7", "--quality", "-o", "slow")
    assert steps(quick) == {"prior": 2, "base": 2, "upsampler64": 1}
    assert steps(slow) == {"prior": 5, "base": 3, "upsampler64": 1}
    assert load_image(quick).tobytes() != load_image(slow).tobytes()
    for path in (quick, slow):
        assert "identical" in t2i("sample", "--replay", path, "--device", "cpu", model="")[0][-1]
    (same,), _ = t2i("sample", CAT, "--seed", "7", "--steps", "prior=5,base=3", "-o", "same")
    assert load_image(same).tobytes() == load_image(slow).tobytes()
    assert read_metadata(same)["t2i"]["key"] == read_metadata(slow)["t2i"]["key"]  # one picture, however it was asked
    (mixed,), _ = t2i("sample", CAT, "--quality", "--steps", "1", "-o", "mixed")
    assert steps(mixed) == {"prior": 5, "base": 1, "upsampler64": 1}


def test_a_line_of_a_file_and_a_sweep(t2i: Draw) -> None:
    jobs = [{"prompt": CAT, "quality": True}, {"prompt": CAT, "quality": False}, {"prompt": CAT}]
    Path("jobs.jsonl").write_text("".join(json.dumps({**job, "seed": 3}) + "\n" for job in jobs))
    made, _ = t2i("sample", "-f", "jobs.jsonl", "--size", "16")
    assert [steps(path)["base"] for path in made] == [3, 2, 2]
    made, _ = t2i("sample", CAT, "--seed", "3", "--sweep", "quality=no,yes", "--size", "16", "-o", "swept")
    assert [steps(path)["base"] for path in made if "sweep" not in Path(path).name] == [2, 3]


def test_edits_take_it_by_themselves(t2i: Draw) -> None:
    Image.new("RGB", (64, 64), "green").save("photo.png")
    (varied,), _ = t2i("vary", "photo.png")
    (painted,), _ = t2i("inpaint", "photo.png", CAT, "--box", "8,8,24,24")
    (redrawn,), _ = t2i("sample", CAT, "--init", "photo.png")
    assert steps(varied) == {"base": 3, "upsampler64": 1}
    assert steps(painted) == steps(redrawn) == {"prior": 5, "base": 3, "upsampler64": 1}
    for path in (varied, redrawn):
        again = t2i("sample", "--replay", path, "--from", "photo.png", "--device", "cpu", model="")
        assert "identical" in again[0][-1]
    (few,), _ = t2i("vary", "photo.png", "--steps", "1", "-o", "few")
    assert steps(few)["base"] == 1


def test_the_same_from_python(t2i: Draw) -> None:
    (slow,), _ = t2i("sample", CAT, "--seed", "7", "--quality")
    model = api.load("quick", device="cpu")
    (picture,) = model.sample(CAT, seed=7, quality=True)
    assert picture.tobytes() == load_image(slow).tobytes()


def test_steps_win_and_may_not_say_all(t2i: Draw) -> None:
    """Steps are more exact than --quality; where they leave it nothing to say, one of the two is a mistake."""
    refused = "--quality changes nothing"
    for given in (["--steps", "prior=1,base=1"], ["--sweep", "steps=1,2", "--prior", "none"]):
        _, err = t2i("sample", CAT, "--quality", "--seed", "1", *given, code=2)
        assert refused in err and "--steps" in err
        assert not Path("out").exists()
    jobs = [{"prompt": CAT, "seed": 1, "steps": {"prior": 1, "base": 1}}, {"prompt": CAT, "seed": 1}]
    Path("jobs.jsonl").write_text("".join(json.dumps(job) + "\n" for job in jobs))
    made, _ = t2i("sample", "-f", "jobs.jsonl", "--quality", "--size", "16")
    assert [steps(path) for path in made] == [{"prior": 1, "base": 1}, {"prior": 5, "base": 3}]
    Path("jobs.jsonl").write_text(json.dumps(jobs[0]))
    _, err = t2i("sample", "-f", "jobs.jsonl", "--quality", "--size", "16", code=2)
    assert refused in err


@pytest.mark.parametrize(
    ("line", "words"),
    [({"quality": "maybe"}, "maybe"), ({"quality": 2}, "2"), ({"quality": [True]}, "cannot be read")],
)
def test_what_is_no_yes_and_no_no(t2i: Draw, line: dict[str, Any], words: str) -> None:
    Path("jobs.jsonl").write_text(json.dumps({"prompt": CAT, **line}))
    _, err = t2i("sample", "-f", "jobs.jsonl", code=2)
    assert words in err


def test_a_model_with_one_way(t2i: Draw) -> None:
    _, err = t2i("sample", CAT, "--quality", code=2, model="tiny")
    assert "--quality: tiny has one number of steps" in err and "--steps N" in err
