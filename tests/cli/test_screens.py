"""What people read on a terminal of 80 columns; JSON comes with --json alone, wherever stdout goes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from rich.cells import cell_len
from terminal import screen

from t2i.cli.app import run
from t2i.media.images import save_image
from t2i.media.record import Record

HASH = "0123456789abcdef" * 4


@pytest.fixture
def pictures(studio: Path) -> Path:
    """A folder with made.png, whose record is as long as those of edited pictures."""
    dials = {"steps": 8, "guidance": 3.0, "sampler": "dpmpp_2m", "schedule": "uniform_t"}
    settings = {"size": 8, "dtype": "float32", "stages": {"prior": dials, "base": dials}}
    source = {"t2i": {"prompt": "a dog", "key": HASH[:32], "settings": settings}}
    record = Record(
        HASH[:32], "inpaint", "a cat in the snow", 7, "m", HASH, (8, 8), settings=settings,
        files={"clip": HASH, "prior": HASH, "base": HASH}, source=source,
    )  # fmt: skip
    save_image(Image.new("RGB", (8, 8)), Path("made.png"), record)
    return studio


def commands(micro: str) -> dict[str, list[str]]:
    return {
        "info": ["info", "made.png"],
        "capabilities": ["capabilities"],
        "models list": ["models", "list"],
        "models show": ["models", "show", "small"],
        "plan": ["train", "--recipe", micro, "--dry-run", "--device", "cpu"],
    }


@pytest.mark.parametrize("name", commands(""))
def test_a_screen_is_for_people(pictures: Path, micro: str, name: str) -> None:
    lines = screen(commands(micro)[name])
    assert max(map(cell_len, lines)) <= 80
    assert len(lines) <= 40 or name == "models show"  # whose card is a page
    text = "\n".join(lines)
    assert '{"' not in text
    whole = subprocess.run(
        [sys.executable, "-m", "t2i", *commands(micro)[name]], capture_output=True, text=True, check=True
    ).stdout
    assert '{"' not in whole and "\x1b" not in whole
    if name in ("info", "capabilities"):  # the same words in the same order, none of them cut
        assert re.findall(r"[^\s:]+", text) == re.findall(r"[^\s:]+", whole)


@pytest.mark.parametrize("name", commands(""))
def test_json_is_json_on_a_terminal_too(pictures: Path, micro: str, name: str) -> None:
    quiet = ["--quiet"] if name == "plan" else []
    lines = screen([*commands(micro)[name], "--json", *quiet])[:-1]
    *records, envelope = map(json.loads, lines)
    assert envelope["ok"] and records


def test_the_plan_says_what_a_stranger_asks(studio: Path, micro: str) -> None:
    text = "\n".join(screen(["train", "--recipe", micro, "--dry-run", "--device", "cpu"]))
    assert "training on scenes, into my-model" in text
    for word in ("clip", "prior", "base", "upsampler256", "parameters", "steps", "batch", "time", "memory", "MB"):
        assert word in text
    assert re.search(r"\d+ s\b|\d+ min|\d h", text) and "--json has the whole recipe" in text


def test_info_is_an_outline(pictures: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["info", "made.png"]) == 0
    out = capsys.readouterr().out.splitlines()
    assert out[1] == "  prompt: a cat in the snow"
    assert "      base: steps 8, guidance 3.0, sampler dpmpp_2m, schedule uniform_t" in out
    assert "      prompt: a dog" in out  # that of the source, below it
    assert HASH[:16] + "…" in "".join(out) and HASH[:17] not in "".join(out)
    assert run(["info", "made.png", "--json"]) == 0
    assert HASH in capsys.readouterr().out


def test_paths_in_a_table_are_whole(studio: Path) -> None:
    """Also where they do not fit: they are continued on the next line."""
    lines = screen(["models", "list"], width=60)
    cells = [[cell.strip() for cell in line.split("│")[1:-1]] for line in lines if line.startswith("│")]
    assert str(studio.parent / "home" / "models" / "tiny") in "".join(row[-1] for row in cells)
