"""With --json every command says what the JSON Schema says: each is run for real, on tiny inputs."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from t2i.cli.app import run

jsonschema = pytest.importorskip("jsonschema", reason="jsonschema is not installed")

SCHEMA = json.loads((Path(__file__).parents[2] / "docs" / "schema" / "records-1.json").read_text("utf-8"))
CAT = "a cat in the snow"
TINY = ("--model", "tiny", "--device", "cpu")


@pytest.fixture
def place(studio: Path) -> Path:
    """A folder to work in, with photo.png (40x30), mask.png as large, and p.txt with six prompts."""
    values = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(values).save("photo.png")
    mask = Image.new("L", (40, 30), 0)
    mask.paste(255, (10, 8, 22, 17))
    mask.save("mask.png")
    prompts = [CAT, "a red apple", "a zebra next to a house", "two penguins", "一只猫在雪地里玩耍", "two cats"]
    Path("p.txt").write_text("\n".join(prompts), "utf-8")
    return studio


class Said:
    """What a command with --json said, its envelope checked."""

    def __init__(self, capsys: pytest.CaptureFixture[str]) -> None:
        self.capsys = capsys

    def __call__(self, *args: str, code: int = 0, kinds: list[str] | None = None) -> list[dict[str, Any]]:
        """The records of `t2i args`, each of its kind and of one that the schema knows."""
        got = run([*args, "--json"])
        out, err = self.capsys.readouterr()
        assert got == code, err
        *records, envelope = [json.loads(line) for line in out.splitlines()]
        check(envelope, "envelope")
        assert envelope["command"] == args[0]
        assert envelope["ok"] is (code == 0)
        for record in records:
            check(record)
        if kinds is not None:
            assert len(records) == len(kinds), records
            for record, kind in zip(records, kinds, strict=True):
                check(record, kind)
        counted = ("picture", "enlarged", "animation", "found", "labelled", "scored", "info")
        if kinds is not None and code == 0:
            assert envelope["pictures"] == sum(kind in counted for kind in kinds)
        return records


def check(record: dict[str, Any], kind: str = "") -> None:
    schema = {key: value for key, value in SCHEMA.items() if key != "anyOf" or not kind}
    jsonschema.Draft202012Validator({**schema, **({"$ref": f"#/$defs/{kind}"} if kind else {})}).validate(record)


@pytest.fixture
def said(place: Path, capsys: pytest.CaptureFixture[str]) -> Said:
    return Said(capsys)


def test_inpaint(said: Said) -> None:
    args = ("inpaint", "photo.png", CAT, "--mask", "mask.png", "--seed", "7", *TINY)
    first = said(*args, "-n", "2", "--show-mask", kinds=["picture"] * 2)
    assert [(r["command"], r["seed"], r["skipped"]) for r in first] == [("inpaint", 7, False), ("inpaint", 8, False)]
    assert said(*args, kinds=["picture"])[0]["skipped"]
    said(*args, "--no-prompt-metadata", "-o", "x.webp", kinds=["picture"])
    Path("blank.png").write_bytes(Path("mask.png").read_bytes()[:60])
    said("inpaint", "photo.png", CAT, "--mask", "blank.png", *TINY, code=3, kinds=[])


def test_upscale(said: Said) -> None:
    Path("broken.png").write_bytes(Path("photo.png").read_bytes()[:200])
    made = said("upscale", "photo.png", "--to", "80", *TINY, kinds=["enlarged"])
    assert (made[0]["command"], made[0]["size"]) == ("upscale", [80, 60])
    again = said("upscale", "photo.png", "broken.png", "--to", "80", *TINY, code=3, kinds=["enlarged"])
    assert again[0]["skipped"] and "detail" not in again[0]


def test_pictures_from_pictures(said: Said) -> None:
    args = ("vary", "photo.png", "--to", "photo.png", "--frames", "2", "--animate", "webp", "--seed", "1")
    records = said(*args, "--size", "16", *TINY, kinds=["picture", "picture", "animation"])
    assert records[-1]["frames"] == 2


def test_find(said: Said) -> None:
    """Pictures in which nothing is seen: the records of what is found are checked in test_find.py."""
    found = said("find", "photo.png", "mask.png", "the cat", kinds=["found"] * 2)
    assert [r["mask"] for r in found] == [None, None]
    eye = ("--extractor", "clip:tiny", "--device", "cpu")
    (labelled,) = said("find", "photo.png", "--labels", "a cat,snow", *eye, kinds=["labelled"])
    assert labelled["label"] in labelled["probabilities"]
    said("find", "photo.png", "p.txt", "the cat", code=3, kinds=["found"])
    said("find", "mask.png", "the cat", "--check", code=1, kinds=["found"])


def test_score(said: Said) -> None:
    eye = ("--device", "cpu", "--extractor", "clip:tiny")
    draw = ("score", "--suite", "p.txt", "--size", "16", "-n", "2", "--model", "tiny", *eye)
    kinds = ["scored"] * 12 + ["score"]
    drawn = said(*draw, "--save-baseline", "base.json", kinds=kinds)
    assert {r["prompt"] for r in drawn[:-1]} == set(Path("p.txt").read_text("utf-8").split("\n"))
    assert drawn[-1]["verdict"] is None and drawn[-1]["suite"] == "p.txt"
    compared = said(*draw, "--baseline", "base.json", "--labels", "cat,snow", kinds=kinds)
    assert compared[-1]["verdict"] == "pass" and compared[-1]["gate"]["checks"]
    assert compared[0]["label"] in ("cat", "snow")
    folder = "scores/p-tiny"
    sets = said("score", folder, "--against", folder, "--before", folder, "--tier", "exact", *eye, kinds=kinds)
    assert len(sets[-1]["pairs"]) == 12 and sets[-1]["set"] is not None
    for path in Path(folder).glob("*.png"):  # a generator that draws one grey picture
        text = Path(folder) / f"{path.stem}.txt"
        text.write_text(CAT, "utf-8")
        Image.new("RGB", (16, 16), "grey").save(path)
    said("score", folder, *eye, "--alpha", "0.01", code=2, kinds=[])
    grey = said("score", folder, *eye, kinds=kinds)
    assert grey[-1]["warnings"]
    one = sorted(Path(folder).glob("*.png"))[0]
    said("score", str(one), *eye, kinds=["scored", "score"])  # one value says nothing of others: null, not infinity


def test_train(said: Said, micro: str) -> None:
    recipe = ("train", "--recipe", micro, "--device", "cpu")
    plan = said(*recipe, "--dry-run", kinds=["plan"])[0]
    assert [row["stage"] for row in plan["stages"]] == ["clip", "prior", "base", "upsampler256"]
    records = said(*recipe, "--steps", "2", "--out", "new")
    for record in records:
        check(record, "training")
    seen = [(record["event"], record.get("stage")) for record in records]
    for stage in ("clip", "base", "prior", "upsampler256"):
        assert [event for event, name in seen if name == stage and event in ("start", "step", "written")] == [
            "start", "step", "step", "written",
        ]  # fmt: skip
    kept = said(*recipe, "--steps", "2", "--out", "new", "--resume")
    assert [record["event"] for record in kept] == ["kept"] * 4
    said(*recipe, "--out", "new", code=3, kinds=[])
    said("sample", CAT, "--model", "new", "--device", "cpu", kinds=["picture"])


def test_a_folder_of_pictures_is_counted(said: Said, micro: str) -> None:
    Path("data").mkdir()
    for i in range(3):
        shutil.copy("photo.png", f"data/{i}.png")
        Path(f"data/{i}.txt").write_text("a cat in the snow")
    Path("data/2.png").write_text("no picture")
    args = ("train", "clip", "--recipe", micro, "--device", "cpu", "--steps", "1", "--data", "data", "--out", "new")
    data = next(record for record in said(*args) if record["event"] == "data")
    assert (data["pictures"], data["broken"]) == (2, 1)


def test_models_and_info(said: Said, place: Path) -> None:
    home = place.parent / "home" / "models"
    shutil.copytree(home / "tiny", home / "hurt")
    (home / "hurt" / "tokenizer.json").write_text("{}")
    records = said("models", "list")
    for record in records:
        check(record, "model")
    said("models", "show", "tiny", kinds=["shown"])
    said("models", "verify", "tiny", "hurt", "nowhere", code=3, kinds=["verified"] * 3)
    said("info", "photo.png", kinds=["info"])
    said("info", "p.txt", code=3, kinds=[])


def test_serve(place: Path, tmp_path: Path) -> None:
    """Until nobody asks: a process of its own, since it would serve this one's folder."""
    words = [sys.executable, "-m", "t2i", "serve", *TINY, "--idle", "1", "--socket", str(tmp_path / "a.sock"), "--json"]
    done = subprocess.run(words, capture_output=True, text=True, check=True)
    serving, envelope = map(json.loads, done.stdout.splitlines())
    check(serving, "serving")
    check(envelope, "envelope")
    assert serving["serving"] == str(tmp_path / "a.sock") and not (tmp_path / "a.sock").exists()


@pytest.mark.parametrize("command", ["sample", "vary", "inpaint", "upscale", "score", "train", "find", "serve", "info"])
def test_a_mistake_is_an_envelope(said: Said, command: str) -> None:
    said(command, "--nonsense", code=2, kinds=[])
