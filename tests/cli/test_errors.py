"""Every mistake: one sentence, a hint, its exit code, nothing written; through the real entry point."""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from t2i.sampling import SamplingConfig
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import write_bundle
from t2i.store.manifest import Manifest, StageEntry

ENTRIES = (
    StageEntry("clip", "clip", "clip"),
    StageEntry("base", "base", "base", SamplingConfig(steps=4, guidance=1.5)),
)
BUNDLE = Manifest("unclip", "toy", ENTRIES, (64,))
WIDTHS = {
    "clip": {"embed_dim": 8, "text_dim": 8, "context": 8, "vocab": 8},
    "base": {"cond_dim": 0, "text_dim": 8, "size": 64},
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder to work in, with a model `toy` in it whose weights are no net's."""
    stages = {name: ({"widths": widths}, {"w": torch.zeros(2)}) for name, widths in WIDTHS.items()}
    write_bundle(tmp_path / "toy", BUNDLE, stages, "{}", "# toy\n")
    return tmp_path


def t2i(place: Path, *args: str | bytes, stdin: bytes = b"") -> subprocess.CompletedProcess[str]:
    env = {**os.environ, "T2I_HOME": str(place / "home"), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "t2i", *args],
        cwd=place,
        env=env,
        input=stdin,
        capture_output=True,
        check=False,
    )
    return subprocess.CompletedProcess(args, done.returncode, done.stdout.decode(), done.stderr.decode())


TOY = ("--model", "toy")
CASES: dict[str, tuple[int, tuple[str | bytes, ...], str]] = {
    "no prompt": (2, ("sample",), "there is no prompt"),
    "empty prompt": (2, ("sample", ""), "the prompt is empty"),
    "no picture": (2, ("info", ""), "IMAGE is empty"),
    "no folder": (2, ("upscale", "a.png", "", "--to", "64"), "PICTURE is empty"),
    "no output": (2, ("sample", "a", "-o", ""), "--output is empty"),
    "blank prompt": (2, ("sample", " \t\n"), "the prompt is empty"),
    "prompt and file": (2, ("sample", "a", "-f", "x"), "a prompt and a prompt file"),
    "two prompts": (2, ("sample", "a", "cat"), "Put the prompt in quotes"),
    "surrogate": (2, ("sample", b"a \xff cat"), "not valid Unicode"),
    "a long prompt": (2, ("sample", "cat " * 20_000), "at most 65536"),
    "none of them": (2, ("sample", "a", "-n", "0"), "-n 0 asks for no picture"),
    "too many": (2, ("sample", "a", "-n", "1000000"), "more than 100000"),
    "n no number": (
        2,
        ("sample", "a", "-n", "two"),
        "-n 'two' is not a whole number.\nt2i: hint: Write a whole number.",
    ),
    "out of range": (
        2,
        ("sample", "a", "--batch", "0"),
        "--batch 0 is out of range.\nt2i: hint: Write a whole number from 1 to 1024.",
    ),
    "too large": (2, ("train", "--steps=2000000000"), "--steps 2000000000 is out of range."),
    "below zero": (
        2,
        ("score", "a", "--seed", "-3"),
        "-3 is out of range.\nt2i: hint: Write a whole number of 0 or more.",
    ),
    "half a step": (2, ("train", "--steps", "1.5"), "--steps '1.5' is not a whole number."),
    "a fraction": (
        2,
        ("upscale", "a", "--scale", "0.5"),
        "--scale 0.5 is out of range.\nt2i: hint: Write a number from 1 to 64.",
    ),
    "too short a wait": (2, ("serve", "--idle", "0"), "Write a number from 1 to 10000000."),
    "a scale that is none": (2, ("upscale", "a", "--scale", "nan"), "--scale nan is out of range."),
    "unknown option": (2, ("sample", "a", "--sead", "7"), "no such option: --sead"),
    "unknown command": (2, ("sampel", "a"), "sampel"),
    "bad seed": (2, ("sample", "a", "--seed", "-3"), "'-3' is not a seed"),
    "huge seed": (2, ("sample", "a", "--seed", "9223372036854775807", "-n", "2"), "too large"),
    "seeds and n": (2, ("sample", "a", "--seed", "1,2,3", "-n", "2"), "names 3 seeds"),
    "backwards": (2, ("sample", "a", "--seed", "9..3"), "not a range"),
    "sampler": (2, ("sample", "a", "--sampler", "eular"), "Did you mean euler?"),
    "device": (2, ("sample", "a", "--device", "gpu"), "--device 'gpu' is not known"),
    "dtype": (2, ("sample", "a", "--dtype", "float23"), "Did you mean float32?"),
    "threshold": (2, ("sample", "a", "--threshold", "high"), "percentile,cap"),
    "threshold in percent": (2, ("sample", "a", "--threshold", "99.5,1.5"), "percentile,cap"),
    "size": (2, ("sample", "a", *TOY, "--size", "63"), "stops at 64"),
    "stage": (2, ("sample", "a", *TOY, "--steps", "bsae=3"), "Did you mean base?"),
    "steps": (2, ("sample", "a", *TOY, "--steps", "0"), "from 1 to 1000"),
    "guidance": (2, ("sample", "a", *TOY, "--guidance", "nan"), "from 0 to 100"),
    "template": (2, ("sample", "a", *TOY, "-o", "{p.__class__}.png"), "is not a field"),
    "nothing but an ending": (2, ("sample", "a", *TOY, "-o", ".png"), "does not end in"),
    "another picture format": (2, ("sample", "a", *TOY, "-o", "cat.gif"), "does not end in"),
    "a brace left open": (2, ("sample", "a {red|blue cat", *TOY), "never closed"),
    "no such device": (4, ("sample", "a", *TOY, "--device", "cuda:99"), "there is no device"),
    "template ending": (2, ("sample", "a", *TOY, "-o", "{slug}.gif"), "does not end in"),
    "unknown model": (4, ("sample", "a", "--model", "smoll"), "there is no model 'smoll'"),
    "no such folder": (4, ("sample", "a", "--model", "./nowhere"), "there is no model './nowhere'"),
    "not a bundle": (3, ("sample", "a", "--model", "."), "it has no bundle.json"),
    "unwritable": (3, ("sample", "a", *TOY, "-o", "toy/bundle.json/x"), "it is not a folder"),
    "read-only": (3, ("sample", "a", *TOY, "-o", "/proc/x"), "cannot write to /proc/x"),
    "no prompt file": (3, ("sample", "-f", "nowhere.txt"), "No such file"),
    "stdin without prompts": (3, ("sample", "-f", "-"), "stdin holds no prompt"),
    "unknown stage": (2, ("train", "bass"), "Did you mean base?"),
    "bad override": (2, ("train", "--set", "base.lr"), "--set 'base.lr' cannot be read"),
    "verify nothing": (4, ("models", "verify", "nowhere"), "there is no model"),
    "info of nothing": (3, ("info", "nowhere.png"), "cannot read nowhere.png"),
    "info of no picture": (3, ("info", "toy/bundle.json"), "not a PNG, JPEG or WebP"),
}


@pytest.mark.parametrize("name", CASES)
def test_a_mistake(place: Path, name: str) -> None:
    code, args, sentence = CASES[name]
    before = sorted(place.rglob("*"))
    done = t2i(place, *args)
    assert done.returncode == code, done.stderr
    assert sentence in done.stderr
    assert done.stderr.startswith("t2i: error: ")
    assert "Traceback" not in done.stderr
    assert done.stdout == ""
    assert sorted(place.rglob("*")) == before


@pytest.mark.parametrize("damage", ["missing", "cut"])
def test_damaged_weights(place: Path, damage: str) -> None:
    weights = place / "toy" / "base" / "model.safetensors"
    data = weights.read_bytes()
    weights.unlink() if damage == "missing" else weights.write_bytes(data[:-1])
    done = t2i(place, "models", "verify", "toy")
    assert done.returncode == 3
    assert "base/model.safetensors" in done.stderr
    if damage == "missing":
        done = t2i(place, "sample", "a cat", "--model", "toy")
        assert (done.returncode, done.stdout) == (3, "")
        assert "base/model.safetensors" in done.stderr
        assert not (place / "out").exists()


def test_a_prompt_file_that_is_no_text(place: Path) -> None:
    (place / "p.txt").write_bytes(b"a cat\n\xff\xfe\n")
    done = t2i(place, "sample", "-f", "p.txt")
    assert done.returncode == 3
    assert "line 2" in done.stderr
    done = t2i(place, "sample", "-f", "-", stdin=b"a cat\na\0dog\n")
    assert done.returncode == 2
    assert "line 2 of stdin contains a NUL" in done.stderr


def test_the_envelope_of_a_failure(place: Path) -> None:
    for args, code, word in ((("--model", "smoll"), 4, "model"), (("--sead", "1"), 2, "usage")):
        done = t2i(place, "sample", "a", *args, "--json")
        (line,) = done.stdout.splitlines()
        envelope = json.loads(line)
        assert done.returncode == code
        assert envelope["schema"] == 1
        assert envelope["ok"] is False
        assert (envelope["command"], envelope["pictures"], envelope["failed"]) == ("sample", 0, 0)
        assert envelope["error"]["code"] == word


def test_nothing_a_user_writes_reaches_the_terminal(place: Path) -> None:
    done = t2i(place, "sample", "a", "--model", "[/red]\x1b[31m\u202e")
    assert "\x1b" not in done.stderr
    assert "\u202e" not in done.stderr
    assert "[/red]" in done.stderr


def test_the_traceback_comes_with_debug_only(place: Path) -> None:
    assert "Traceback" in t2i(place, "sample", "", "--debug").stderr


def test_models(place: Path, tiny: Path) -> None:
    (place / "home" / "models").mkdir(parents=True)
    (place / "toy").rename(place / "home" / "models" / "toy")
    shutil.copytree(tiny, place / "home" / "models" / "tiny")
    done = t2i(place, "models", "list")
    assert done.returncode == 0
    assert "toy\tunclip\t64" in done.stdout
    records = [json.loads(line) for line in t2i(place, "models", "list", "--json").stdout.splitlines()]
    assert "toy" in [r.get("name") for r in records]
    assert records[-1]["ok"] is True
    assert read_bundle(tiny).card() in t2i(place, "models", "show", "tiny").stdout + "\n"
    shown = json.loads(t2i(place, "models", "show", "tiny", "--json").stdout.splitlines()[0])["manifest"]
    assert shown["sizes"] == list(read_bundle(tiny).manifest.sizes)
    assert t2i(place, "models", "verify", "tiny").stdout.startswith("tiny: whole, ")
    for verb in ("show", "verify"):  # the weights of toy are no net's
        done = t2i(place, "models", verb, "toy")
        assert done.returncode == 3
        assert "toy/clip/config.json" in done.stderr


@pytest.mark.parametrize("args", [(), ("sample",), ("vary",), ("train",), ("info",), ("models",), ("models", "list")])
def test_every_help_page_has_examples(place: Path, args: tuple[str, ...]) -> None:
    done = t2i(place, *args, "--help")
    assert done.returncode == 0
    assert "Examples:" in done.stdout
    assert "t2i " in done.stdout.split("Examples:")[1]


def test_version_and_bare_command(place: Path) -> None:
    assert t2i(place, "--version").stdout == "t2i 0.1.0\n"
    bare = t2i(place)
    assert bare.returncode == 0
    assert bare.stdout == t2i(place, "--help").stdout


def test_help_is_fast(place: Path) -> None:
    """Processor time: wall time on an idle machine; on a busy one the wall says nothing about the program."""
    costs = []
    for _ in range(3):
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        assert t2i(place, "--help").returncode == 0
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        costs.append(after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime)
    assert min(costs) < 0.5, costs


def test_the_samplers_offered_are_the_samplers_there_are() -> None:
    from t2i.diffusion import samplers
    from t2i.sampling import SAMPLERS

    assert set(SAMPLERS) == set(samplers.SAMPLERS)


def test_a_reader_that_leaves_early_is_no_crash(place: Path, tiny: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    env = {**os.environ, "T2I_HOME": str(place / "home")}
    command = [sys.executable, "-m", "t2i", "models", "show", str(tiny)]
    done = subprocess.run(command, cwd=place, env=env, stdout=write, stderr=subprocess.PIPE, check=False)
    os.close(write)
    assert done.returncode == 141  # as a program that a SIGPIPE ends
    assert done.stderr == b""
