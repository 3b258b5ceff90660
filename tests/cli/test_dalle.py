"""The commands on a bundle that draws tokens."""

from __future__ import annotations

import json
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
def place(dalle: Path, studio: Path, tmp_path: Path) -> Path:
    shutil.copytree(dalle, tmp_path / "home" / "models" / "tokens")
    values = np.random.default_rng(0).integers(0, 256, (24, 24, 3), dtype=np.uint8)
    Image.fromarray(values).save("a.png")
    return studio


@pytest.fixture
def t2i(command: Draw) -> Draw:
    return partial(command, model="tokens")


def test_sample_and_replay(place: Path, t2i: Draw) -> None:
    (plain,), _ = t2i("sample", CAT, "--seed", "7")
    assert load_image(plain).size == (64, 64)
    record = read_metadata(plain)["t2i"]
    assert list(record["settings"]["stages"]) == ["dalle", "vae", "upsampler64"]
    dials = ("--temperature", "0.5", "--top-k", "9", "--top-p", "0.9")
    (other,), _ = t2i("sample", CAT, "--seed", "7", *dials)
    assert "temperature-0-5-top-k-9" in other and load_image(other).tobytes() != load_image(plain).tobytes()
    stages = read_metadata(other)["t2i"]["settings"]["stages"]
    assert stages["dalle"] == {"temperature": 0.5, "top_k": 9, "top_p": 0.9}
    for path in (plain, other):
        assert "identical" in t2i("sample", "--replay", path, "--device", "cpu", model="")[0][-1]
    (greedy,), _ = t2i("sample", CAT, "--seed", "7", "--temperature", "0")
    assert read_metadata(greedy)["t2i"]["settings"]["stages"]["dalle"]["temperature"] == 0
    assert "identical" in t2i("sample", "--replay", greedy, "--device", "cpu", model="")[0][-1]
    assert t2i("sample", CAT, "--seed", "7", "--temperature", "1")[0] == [plain]  # what it does anyway
    (coarse,), _ = t2i("sample", CAT, "--seed", "7", "--dtype", "bfloat16", "-o", "bf16")
    assert load_image(coarse).size == (64, 64)


def test_jobs_sweeps_and_the_best_of_several(place: Path, t2i: Draw) -> None:
    Path("jobs.jsonl").write_text(json.dumps({"prompt": CAT, "seed": 7, "temperature": 0.5, "top_k": 3}) + "\n")
    (path,), _ = t2i("sample", "-f", "jobs.jsonl", "-o", "jobs", "--size", "16")
    assert read_metadata(path)["t2i"]["settings"]["stages"]["dalle"] == {"temperature": 0.5, "top_k": 3}
    swept, _ = t2i("sample", CAT, "--seed", "7", "--sweep", "temperature=0.2,1", "-o", "sweep", "--size", "16")
    assert len(swept) == 3  # two pictures and a sheet
    (best,), _ = t2i("sample", CAT, "--seed", "7", "--rerank", "3", "-o", "best", "--size", "16")
    assert read_metadata(best)["t2i"]["settings"]["rerank"] == 3


def test_show_says_what_it_can_do(place: Path, command: Draw) -> None:
    out, _ = command("models", "show", "tokens")
    said = "\n".join(out)
    assert "dalle (dalle)" in said and "temperature 1" in said
    assert "can be used with: t2i sample, t2i upscale, --rerank" in said
    assert command("models", "verify", "tokens")[0]


@pytest.mark.parametrize(
    "args",
    [
        ("sample", CAT, "--init", "a.png"),
        ("sample", CAT, "--negative", "snow"),
        ("inpaint", "a.png", CAT, "--box", "4,4,8,8"),
        ("inpaint", "a.png", "--box", "4,4,8,8"),
        ("vary", "a.png"),
        ("vary", "a.png", "--to", "a.png"),
    ],
)
def test_what_takes_diffusion_says_so(place: Path, t2i: Draw, args: tuple[str, ...]) -> None:
    out, err = t2i(*args, code=2)
    assert not out and "does not draw by diffusion" in err and "--model small" in err


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (("--sampler", "heun"), "none of this model's stages takes it"),
        (("--steps", "4"), "has no stage 'base'"),
        (("--steps", "dalle=3"), "the stage 'dalle' does not take it"),
        (("--guidance", "base=3"), "has no stage 'base'"),
        (("--temperature", "-1"), "from 0 to 100"),
        (("--top-k", "1.5"), "whole number"),
        (("--top-p", "0"), "--top-p '0' cannot be read"),
        (("--temperature", "upsampler64=1"), "does not take it"),
        (("--prior", "none"), "needs a prior"),
    ],
)
def test_dials_that_make_no_sense(place: Path, t2i: Draw, args: tuple[str, ...], words: str) -> None:
    assert words in t2i("sample", CAT, *args, code=2)[1]


def test_dials_of_tokens_are_for_tokens(place: Path, command: Draw) -> None:
    for dial in ("--temperature", "--top-k", "--top-p"):
        assert "takes it" in command("sample", CAT, dial, "1", model="tiny", code=2)[1]
