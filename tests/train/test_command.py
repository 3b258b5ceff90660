"""`t2i train` through the real entry point, and the model that it writes through `t2i sample`."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from t2i.cli.app import run
from t2i.cli.train_output import TrainReporter
from t2i.store.bundle import read_bundle
from t2i.train.trainer import train


def t2i(place: Path, *args: str) -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "T2I_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    return subprocess.run(
        [sys.executable, "-m", "t2i", *args], cwd=place, env=env, capture_output=True, text=True, check=False
    )


def test_train_then_sample(tmp_path: Path) -> None:
    """The shipped recipe `tiny`, three steps a stage, then a picture of what it wrote."""
    changes = [
        "clip.batch=8",
        "base.batch=8",
        "prior.batch=8",
        "prior.pool=128",
        "upsampler256.batch=8",
        "tokenizer.captions=500",
    ]
    changes += [f"{stage}.sample_every=2" for stage in ("clip", "base", "upsampler256")]
    options = [word for change in changes for word in ("--set", change)]
    done = t2i(tmp_path, "train", "--recipe", "tiny", "--steps", "3", *options, "--out", "model")
    assert done.returncode == 0, done.stderr
    assert done.stdout == "model\n" and "upsampler256" in done.stderr and "pictures/s" in done.stderr
    for stage, rows in (("clip", 2), ("base", 2), ("upsampler256", 4)):
        sheets = sorted((tmp_path / f"model/.train/{stage}/sheets").iterdir())
        assert [sheet.name for sheet in sheets] == ["0000002.png", "0000003.png"]
        with Image.open(sheets[0]) as sheet:
            side = 128 if rows == 4 else 32
            assert sheet.size[1] == rows * (side + 2) - 2
    done = t2i(
        tmp_path,
        "sample",
        "a red circle",
        "--model",
        "model",
        "-n",
        "2",
        "--seed",
        "1",
        "-o",
        "out/",
        "--json",
    )
    assert done.returncode == 0, done.stderr
    records = [json.loads(line) for line in done.stdout.splitlines()]
    assert records[-1]["ok"] and records[-1]["pictures"] == 2
    pictures = sorted((tmp_path / "out").glob("*.png"))
    assert len(pictures) == 2
    for path in pictures:
        with Image.open(path) as picture:
            assert picture.size == (128, 128)


def test_the_card_and_the_notes_say_how_it_was_made(micro: str, tmp_path: Path) -> None:
    bundle = train("all", micro, steps=1, out=tmp_path)
    assert not isinstance(bundle, dict)
    card = bundle.card()
    for words in (
        "micro",
        "t2i train --recipe micro.toml --steps 1",
        "the built-in world: 3 objects",
        "cores",
        "torch 2.",
        '"crop": 32',
    ):
        assert words in card
    assert "None" not in card and "emoji" not in card.lower()
    words = bundle.manifest.notes["words"].split()
    assert {"circle", "star", "snow"} <= set(words) and "cat" not in words
    assert list(bundle.manifest.notes["training"]) == ["clip", "prior", "base", "upsampler256"]


def test_dry_run_shows_the_plan_and_writes_nothing(micro: str, tmp_path: Path) -> None:
    done = t2i(tmp_path, "train", "--recipe", micro, "--set", "base.lr=5e-4", "--dry-run", "--json")
    assert done.returncode == 0, done.stderr
    plan = json.loads(done.stdout.splitlines()[0])
    assert [row["stage"] for row in plan["stages"]] == ["clip", "prior", "base", "upsampler256"]
    assert plan["stages"][0]["samples"] == 48 and plan["recipe"]["base"]["schedule"]["lr"] == 5e-4
    assert not list(tmp_path.iterdir())
    done = t2i(tmp_path, "train", "--recipe", micro, "--dry-run")
    assert done.returncode == 0 and done.stdout.startswith("stage\tparameters")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("code", "args", "words"),
    [
        (2, ("--recipe", "tinny"), "tiny"),
        (2, ("--set", "base.stpes=3"), "did you mean"),
        (2, ("upsampler265",), "upsampler256"),
        (2, ("upsampler1024",), "0 steps"),
        (3, ("--resume",), "no checkpoint"),
        (3, ("base",), "train clip first"),
        (3, ("--data", "nowhere"), "does not exist"),
        (3, ("--data", "."), "holds no PNG, JPEG or WebP"),
    ],
)
def test_a_mistake_is_a_sentence(code: int, args: tuple[str, ...], words: str, tmp_path: Path) -> None:
    done = t2i(tmp_path, "train", *args, "--out", "model")
    assert done.returncode == code, done.stderr
    assert words in done.stderr and "Traceback" not in done.stderr
    assert not (tmp_path / "model/clip").exists()


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    """A folder with a captioned picture in it."""
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.new("RGB", (40, 40), "red").save(folder / "cat.png")
    (folder / "cat.txt").write_text("a red cat\n")
    return folder


@pytest.mark.parametrize(
    ("args", "words"),
    [
        ("{micro} --out photos", "photos holds other files, and no model or training of ours."),
        ("clip {micro} --out photos --overwrite", "holds other files"),
        ("{micro} --out photos --dry-run", "holds other files"),
        ("{micro} --out photos --resume", "holds other files"),
        ("student --start {tiny} {micro} --out photos", "holds other files"),
        ("{micro} --data photos --out photos", "photos holds the pictures of --data"),
        ("{micro} --data photos --out here/photos/", "holds the pictures of --data"),
        ("lora --data photos --token <mine> --model {tiny} -o photos.safetensors", "photos.training holds other files"),
    ],
)
def test_no_model_is_mixed_into_somebodys_files(
    args: str, words: str, tiny: Path, micro: str, photos: Path,
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(photos.parent)
    (photos.parent / "here").symlink_to(photos.parent)
    (photos.parent / "photos.training").mkdir()
    (photos.parent / "photos.training/notes.txt").write_text("of a course")
    before = sorted(photos.parent.rglob("*"))
    code = run(["train", *args.format(micro=f"--recipe {micro} --steps 1", tiny=tiny).split()])
    err = capsys.readouterr().err
    assert code == 2 and words in err and "t2i: hint: Choose" in err, err
    assert sorted(photos.parent.rglob("*")) == before


def test_a_model_goes_into_a_folder_that_is_empty_or_was_trained_in(
    micro: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hidden files, such as a Finder's, do not count; nor does it matter how little a training has left."""
    monkeypatch.chdir(tmp_path)
    for folder, hidden in (("empty", ".DS_Store"), ("begun", ".train")):
        (tmp_path / folder / hidden).mkdir(parents=True)
    (tmp_path / "begun/train.log").write_text("of the first try")
    for folder in ("empty", "begun"):
        assert run(["train", "clip", "--recipe", micro, "--steps", "1", "--out", folder]) == 0
        (tmp_path / folder / "notes.txt").write_text("of mine")
        assert run(["train", "clip", "--recipe", micro, "--steps", "2", "--out", folder, "--resume"]) == 0


NOTHING = "stopped before the first step: nothing is saved yet. The same command begins anew"


@pytest.mark.parametrize(
    ("at", "times", "said"),
    [
        (("clip", "tokenizer"), 1, NOTHING),
        (("clip", "tokenizer"), 2, NOTHING),
        (("clip", "step"), 2, NOTHING),  # at once: before the checkpoint
        (("prior", "embed"), 1, "stopped; saved in m: clip. To go on: the same command with --resume"),
    ],
)
def test_what_is_stopped_early_says_what_is_saved(
    at: tuple[str, str], times: int, said: str,
    micro: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    """One ^C, or two, while the tokenizer learns, in the first step, and while pictures are embedded."""
    monkeypatch.chdir(tmp_path)
    tell, left = TrainReporter.__call__, [signal.SIGINT] * times

    def press(self: TrainReporter, facts: dict[str, Any]) -> None:
        tell(self, facts)
        while left and (facts["stage"], facts["event"]) == at:
            os.kill(os.getpid(), left.pop())

    monkeypatch.setattr(TrainReporter, "__call__", press)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a test run in the background ignores it
    try:
        assert run(["train", "--recipe", micro, "--out", "m", "--steps", "1"]) == 130
    finally:
        signal.signal(signal.SIGINT, before)
    out, err = capsys.readouterr()
    assert not out and said in err.splitlines() and not left
    if "--resume" in said:
        assert run(["train", "--recipe", micro, "--out", "m", "--steps", "1", "--resume"]) == 0


def test_one_number_says_how_large_a_network_is(micro: str, tmp_path: Path) -> None:
    """The dry run, the training, and the notes of the bundle; of CLIP without the small base that helps to train it."""
    seen: list[dict[str, Any]] = []
    plan = train("clip", micro, ["clip.steps=1"], out=tmp_path / "m", dry_run=True)
    train("clip", micro, ["clip.steps=1"], out=tmp_path / "m", report=seen.append)
    assert isinstance(plan, dict)
    (planned,) = (row["parameters"] for row in plan["stages"])
    (told,) = (facts["parameters"] for facts in seen if facts["event"] == "start")
    assert planned == told == read_bundle(tmp_path / "m").manifest.notes["training"]["clip"]["parameters"]
