"""`t2i vary`; and of `t2i sample` --init, --rerank, --prior, --prior-best-of."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from t2i.errors import UsageError
from t2i.jobs.vary import parse_theta
from t2i.media.images import load_image, read_metadata

CAT = "a cat in the snow"

Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture
def place(studio: Path) -> Path:
    for seed, name in enumerate(("a", "b")):
        values = np.random.default_rng(seed).integers(0, 256, (24, 24, 3), dtype=np.uint8)
        Image.fromarray(values).save(f"{name}.png")
    return studio


@pytest.fixture
def sample(command: Draw) -> Draw:
    return partial(command, "sample", model="tiny")


@pytest.fixture
def vary(command: Draw) -> Draw:
    return partial(command, "vary", model="tiny")


def pixels(path: str) -> bytes:
    return load_image(path).tobytes()


def test_variations(place: Path, vary: Draw) -> None:
    out, _ = vary("a.png", "-n", "2", "--seed", "7")
    assert out == ["out/like-a-7.png", "out/like-a-8.png"]
    assert pixels(out[0]) != pixels(out[1])
    facts = read_metadata(out[0])
    assert facts["digital_source_type"] == "trainedAlgorithmicMedia"
    assert len(facts["t2i"]["settings"]["like"]["pictures"]) == 1
    assert facts["t2i"]["command"] == "vary"
    (other,), _ = vary("b.png", "--seed", "7", "-o", "x")
    assert pixels(other) != pixels(out[0])
    (with_words,), _ = vary("a.png", CAT, "--seed", "7", "-o", "y")
    assert with_words == "y/like-a-a-cat-in-the-snow-7.png"
    assert pixels(with_words) != pixels(out[0])
    times = Path(out[0]).stat().st_mtime_ns
    assert vary("a.png", "-n", "2", "--seed", "7")[0] == out
    assert Path(out[0]).stat().st_mtime_ns == times


def test_a_blend_and_its_animation(place: Path, vary: Draw) -> None:
    args = ("a.png", "--to", "b.png", "--frames", "5", "--seed", "7", "--size", "16")
    out, _ = vary(*args, "--animate", "webp", "--batch", "2")
    assert out[:5] == [f"out/blend-a-b-{i:03}-7.png" for i in range(5)]
    assert len({pixels(path) for path in out[:5]}) == 5
    assert out[5] == "out/blend-a-b-000-7.frames.webp"
    with Image.open(out[5]) as moving:
        assert (moving.n_frames, moving.size) == (8, (16, 16))  # type: ignore[attr-defined]
    assert read_metadata(out[5])["digital_source_type"] == "trainedAlgorithmicMedia"
    assert [read_metadata(p)["t2i"]["settings"]["blend"]["at"] for p in out[:5]] == [0, 0.25, 0.5, 0.75, 1]
    out, _ = vary(*args, "--animate", "gif", "--json")
    assert json.loads(out[5])["path"] == "out/blend-a-b-000-7.frames.gif"
    assert [json.loads(line)["skipped"] for line in out[:5]] == [True] * 5


def test_a_picture_is_no_prompt(place: Path, vary: Draw, command: Draw) -> None:
    """As of `vary *.png`, which the shell expands."""
    _, err = vary("a.png", "b.png", code=2)
    assert "'b.png' is a picture, and words are expected there" in err and "--to b.png" in err
    _, err = command("inpaint", "a.png", "b.png", "--box", "1,1,5,5", model="tiny", code=2)
    assert "'b.png' is a picture" in err and "--mask FILE" in err
    vary("a.png", "c.png", "--seed", "1")  # no such file: words


def test_no_picture_that_is_read_is_overwritten(place: Path, vary: Draw, sample: Draw) -> None:
    before = {path: path.read_bytes() for path in Path().iterdir()}
    for call in (
        partial(vary, "a.png", "-o", "a.png"),
        partial(vary, "a.png", "--to", "b.png", "--frames", "2", "-o", "b.png"),
        partial(sample, CAT, "--init", "a.png", "-o", "a.png"),
    ):
        _, err = call("--seed", "1", "--overwrite", code=2)
        assert "-o would write over the picture" in err
    assert {path: path.read_bytes() for path in Path().iterdir()} == before
    Path("a.png").rename("like-2.png")  # a number that the second picture would get
    out, _ = vary("like-2.png", "-o", "like.png", "-n", "2", "--seed", "1", "--overwrite")
    assert out == ["like.png", "like-3.png"] and Path("like-2.png").read_bytes() == before[Path("a.png")]


def test_seeds_that_would_draw_the_same_frames_are_refused(place: Path, vary: Draw) -> None:
    _, err = vary("a.png", "--to", "b.png", "-n", "3", code=2)
    assert "3 seeds would draw the same 9 frames 3 times" in err and "--frames 3" in err
    out, _ = vary("a.png", "--to", "b.png", "-n", "2", "--frames", "2", "--strength", "0.5", "--size", "16")
    assert len({pixels(path) for path in out}) == 4


def test_a_text_diff(place: Path, vary: Draw) -> None:
    args = (
        "a.png",
        "--from-text",
        "a cat",
        "--to-text",
        "a zebra",
        "--theta",
        "0..0.5",
        "--frames",
        "3",
        "--seed",
        "7",
    )
    out, _ = vary(*args, "--size", "16")
    assert out == [f"out/text-diff-a-a-cat-a-zebra-{i:03}-7.png" for i in range(3)]
    assert len({pixels(path) for path in out}) == 3


def test_from_a_sketch(place: Path, sample: Draw) -> None:
    (weak,), _ = sample(CAT, "--init", "a.png", "--strength", "0.3", "--seed", "7", "--size", "16")
    assert weak == "out/init-a-a-cat-in-the-snow-7.png"
    (strong,), _ = sample(CAT, "--init", "a.png", "--strength", "1", "--seed", "7", "--size", "16", "-o", "x")
    assert pixels(weak) != pixels(strong)
    (other,), _ = sample(CAT, "--init", "b.png", "--strength", "0.3", "--seed", "7", "--size", "16", "-o", "y")
    assert pixels(weak) != pixels(other)


def test_the_prior_and_reranking_enter_the_key(place: Path, sample: Draw) -> None:
    made = {}
    for name, args in {
        "plain": [],
        "none": ["--prior", "none"],
        "best": ["--prior-best-of", "9"],
        "rerank": ["--rerank", "4"],
    }.items():
        (path,), _ = sample(CAT, "--seed", "7", "--size", "16", "-o", name, *args)
        made[name] = read_metadata(path)["t2i"]["key"], pixels(path)
    assert len({key for key, _ in made.values()}) == 4
    assert made["plain"][1] != made["none"][1]
    (path,), _ = sample(CAT, "--seed", "7", "--size", "16", "-o", "named", "--prior", "diffusion")
    assert read_metadata(path)["t2i"]["key"] == made["plain"][0]


def test_replaying(place: Path, sample: Draw, vary: Draw) -> None:
    (path,), _ = sample(CAT, "--seed", "7", "--size", "16", "--rerank", "3", "--prior", "none")
    assert sample("--replay", path)[0] == [f"{path}: identical"]
    (path,), _ = vary("a.png", "--seed", "7", "--size", "16")
    _, err = sample("--replay", path, code=3)
    assert "was made from another picture (like)" in err and "--from" in err
    assert sample("--replay", path, "--from", "a.png")[0] == [f"{path}: identical"]
    _, err = sample("--replay", path, "--from", "a.png", "--from", "b.png", code=3)
    assert f"{path} was not made from b.png" in err
    _, err = sample("--replay", path, "--from", "b.png", code=3)
    assert "was not made from b.png" in err
    assert "--from needs --replay" in sample(CAT, "--from", "a.png", code=2)[1]
    for args, given in (
        (["--to", "b.png", "--frames", "3"], ["--from", "b.png", "--from", "a.png"]),
        (["--from-text", CAT, "--to-text", "a dog", "--theta", "0.3"], ["--from", "a.png"]),
    ):
        paths, _ = vary("a.png", *args, "--seed", "7", "--size", "16", "--strength", "0.4")
        assert sample("--replay", paths[-1], *given)[0] == [f"{paths[-1]}: identical"]
    (path,), _ = sample(CAT, "--init", "a.png", "--strength", "0.5", "--seed", "7", "--size", "16")
    assert sample("--replay", path, "--from", "a.png")[0] == [f"{path}: identical"]


def test_thetas() -> None:
    assert parse_theta("0.25..0.5", None) == (0.25, 0.3125, 0.375, 0.4375, 0.5)
    assert parse_theta("0.25..0.5", 2) == (0.25, 0.5)
    assert parse_theta("0.3", 7) == (0.3,)
    assert parse_theta("0.1,0.9", None) == (0.1, 0.9)
    for wrong in ("", "x", "0.1..2", "-1", "0.1..0.2..0.3", "nan"):
        with pytest.raises(UsageError, match="--theta"):
            parse_theta(wrong, None)


TEXTS = ["--from-text", "a cat", "--to-text", "a dog"]
REFUSED: dict[str, tuple[list[str], int, str]] = {
    "two ways": (["vary", "a.png", "--to", "b.png", *TEXTS], 2, "--to and --to-text do not go together"),
    "half a way": (["vary", "a.png", "--to-text", "a dog"], 2, "--from-text and --to-text go together"),
    "no words": (["sample", "--init", "a.png"], 2, "there is no prompt"),
    "blend with words": (["vary", "a.png", CAT, "--to", "b.png"], 2, "--to reads no prompt"),
    "diff with words": (["vary", "a.png", CAT, *TEXTS], 2, "--to-text reads no prompt"),
    "empty prompt": (["vary", "a.png", " "], 2, "the prompt is empty"),
    "file": (["sample", "-f", "p.txt", "--init", "a.png"], 2, "--init and a prompt file"),
    "sweep": (["sample", CAT, "--init", "a.png", "--sweep", "guidance=1,2"], 2, "--init and --sweep"),
    "frames alone": (["vary", "a.png", "--frames", "3"], 2, "--frames needs"),
    "one frame": (["vary", "a.png", "--to", "b.png", "--frames", "1"], 2, "--frames 1"),
    "theta alone": (["vary", "a.png", "--theta", "0.3"], 2, "--theta needs --from-text and --to-text"),
    "same texts": (["vary", "a.png", "--from-text", "a cat", "--to-text", " a cat"], 2, "say the same"),
    "strength alone": (["sample", CAT, "--strength", "0.3"], 2, "--strength needs a picture"),
    "strength": (["sample", CAT, "--init", "a.png", "--strength", "1.3"], 2, "--strength 1.3"),
    "strength of variations": (["vary", "a.png", "--strength", "1.3"], 2, "--strength 1.3"),
    "no strength": (["sample", CAT, "--init", "a.png", "--strength", "0"], 2, "--strength 0 changes nothing"),
    "animate": (["vary", "a.png", "--animate", "gif"], 2, "--animate needs"),
    "animate what": (["vary", "a.png", "--to", "b.png", "--animate", "mp4"], 2, "--animate 'mp4'"),
    "rerank": (["sample", CAT, "--init", "a.png", "--rerank", "3"], 2, "--rerank and --init"),
    "prior": (["sample", CAT, "--prior", "magic"], 2, "--prior 'magic'"),
    "prior and best": (["sample", CAT, "--prior", "none", "--prior-best-of", "2"], 2, "--prior none and --prior-best"),
    "no picture": (["vary", "no.png"], 3, "cannot read no.png"),
    "damaged": (["vary", "a.png", "--to", "cut.png"], 3, "cut.png"),
    "empty text": (["vary", "a.png", "--from-text", " ", "--to-text", "a dog"], 2, "--from-text is empty"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_refused(place: Path, command: Draw, name: str) -> None:
    Path("cut.png").write_bytes(Path("a.png").read_bytes()[:-300])
    Path("p.txt").write_text(CAT)
    args, code, sentence = REFUSED[name]
    out, err = command(*args, model="tiny", code=code)
    assert out == []
    assert sentence in err
    assert not Path("out").exists()


def test_a_picture_that_is_not_square_is_said(place: Path, vary: Draw) -> None:
    Image.new("RGB", (30, 20), (10, 200, 30)).save("wide.png")
    _, err = vary("wide.png", "--seed", "7", "--size", "16")
    assert "wide.png is 30x20; the model sees the square in its middle" in err
