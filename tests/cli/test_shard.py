"""`--shard i/n`: the shares of a batch together are the batch."""

from __future__ import annotations

import json
import subprocess
import sys
from itertools import chain
from pathlib import Path

import numpy as np
import pytest
from cli.conftest import Draw
from PIL import Image

from t2i.errors import UsageError
from t2i.jobs.shard import Shard

PROMPTS = """a cat in the snow
a red apple on a blue background
a cat in the snow
a zebra next to a house at night
"""


def check_same_pictures(one: Path, other: Path) -> None:
    """The same names and pixels, give or take a level: a batch of other neighbours may round otherwise."""
    names = {path.name for path in one.glob("*.png")}
    assert names == {path.name for path in other.glob("*.png")} != set()
    for name in names:
        a, b = (np.asarray(Image.open(folder / name)).astype(int) for folder in (one, other))
        assert a.shape == b.shape and abs(a - b).max() <= 1, name


def lines(folder: Path) -> list[tuple[str, str]]:
    """(file, key) of each line of the manifest, sorted."""
    found = [json.loads(line) for line in (folder / "manifest.jsonl").read_text().splitlines()]
    return sorted((table["path"], table["key"]) for table in found)


@pytest.mark.parametrize("text", ["0/4", "5/4", "a/b", "1", "1/0", "-1/4", "1/4/2", "", "1.5/2", "１/２"])
def test_what_is_no_share_is_refused(draw: Draw, text: str) -> None:
    with pytest.raises(UsageError, match="is not a share"):
        Shard.parse(text)
    _, err = draw("a cat", "--seed", "1", "--shard", text, code=2)
    assert "is not a share" in err
    assert "1/4" in err


def test_there_is_a_limit_of_shares() -> None:
    with pytest.raises(UsageError, match="999,999"):
        Shard.parse("1/1000000")


def test_every_item_is_in_one_share() -> None:
    items = list(range(23))
    shares = [Shard(i, 4).take(items) for i in range(1, 5)]
    assert sorted(chain(*shares)) == items
    assert {len(share) for share in shares} == {5, 6}
    by_mark = [Shard(i, 3).take(items, lambda x: x % 5) for i in range(1, 4)]
    assert sorted(chain(*by_mark)) == items
    assert all(len([share for share in by_mark if item in share or item + 5 in share]) == 1 for item in range(5))
    assert Shard(9, 9).take(items[:3]) == []
    assert Shard(1, 1).take(items) == items


def test_shares_of_a_file_are_the_whole(draw: Draw) -> None:
    """Names too: pictures of one name with other settings are numbered in the order of the file."""
    Path("jobs.jsonl").write_text(
        "".join(json.dumps({"prompt": prompt, "seed": 7, "steps": 2, "n": 2}) + "\n" for prompt in PROMPTS.splitlines())
        + "".join(json.dumps({"prompt": "a cat in the snow", "seed": 7, "guidance": g}) + "\n" for g in (2, 1, 3))
        + json.dumps({"prompt": "a cat in the snow", "seed": 7, "guidance": 2, "name": "other"})
    )
    whole, _ = draw("-f", "jobs.jsonl", "-o", "whole", "--batch", "3")
    told = []
    for i in (3, 1, 2):
        told += draw("-f", "jobs.jsonl", "-o", "parts", "--batch", "3", "--shard", f"{i}/3")[0]
    check_same_pictures(Path("parts"), Path("whole"))
    assert sorted(name.replace("parts/", "whole/") for name in told) == sorted(whole)
    assert lines(Path("parts")) == lines(Path("whole"))


def test_an_index_is_that_of_the_whole_batch(draw: Draw) -> None:
    out, _ = draw("a cat in the snow", "--seed", "1..5", "-o", "{index:03}.png", "--shard", "2/2")
    assert out == ["001.png", "003.png"]
    out, _ = draw("a cat in the snow", "--seed", "1..5", "-o", "{index:03}.png")
    assert out == [f"{i:03}.png" for i in range(5)]


def test_a_share_without_pictures_is_no_fault(draw: Draw) -> None:
    out, err = draw("a cat in the snow", "--seed", "1", "--shard", "2/2")
    assert out == []
    assert "more shares than pictures" in err
    out, _ = draw("a cat in the snow", "--seed", "1", "--shard", "2/2", "--json")
    assert json.loads(out[-1])["ok"]


def test_what_needs_all_pictures_is_not_of_a_share(draw: Draw, command: Draw) -> None:
    _, err = draw("a cat", "-n", "4", "--shard", "1/2", code=2)
    assert "--shard needs a seed" in err
    _, err = draw("a cat", "--seed", "1..4", "--grid", "--shard", "1/2", code=2)
    assert "--grid" in err
    assert "without --shard" in err
    _, err = draw("-i", "--shard", "1/2", code=2)
    assert "--interactive" in err
    _, err = command("score", "--suite", "scenes", "--shard", "1/2", "--html", "page.html", code=2)
    assert "--shard and --html" in err
    _, err = command("score", "out", "--shard", "1/2", code=2)
    assert "--shard is about drawing a suite" in err


def test_a_sweep_gets_its_sheet_from_the_run_without_shares(draw: Draw) -> None:
    args = ["a cat in the snow", "--seed", "1,2", "--sweep", "guidance=1,2"]
    for i in (1, 2):
        out, err = draw(*args, "--shard", f"{i}/2")
        assert len(out) == 2
        assert "without --shard" in err
    out, err = draw(*args)
    assert "4 of 4 were there already" in err
    assert "sweep-" in out[-1]


def test_edits_have_shares(draw: Draw, command: Draw) -> None:
    (cat,), _ = draw("a cat in the snow", "--seed", "7", "-o", "cat.png")
    small = ["--steps", "1", "--size", "16"]
    command("vary", cat, "--seed", "1..3", *small, model="tiny")
    pictures = sorted(map(str, Path("out").glob("*.png")))
    for args in (
        ["vary", cat, "--seed", "1..3", "-o", "varied", *small],
        ["inpaint", cat, "a dog", "--box", "2,2,8,8", "--seed", "1..3", "--steps", "1"],
        ["upscale", *pictures, "--to", "32", "-o", "big"],
    ):
        part, _ = command(*args, "--shard", "2/2", model="tiny")
        whole, err = command(*args, model="tiny")
        assert part == [whole[1]]
        assert len(whole) == 3
        assert "1 of 3 was there already" in err


def test_a_suite_is_drawn_in_shares_and_scored_as_one(command: Draw) -> None:
    Path("suite.jsonl").write_text(
        "".join(json.dumps({"prompt": prompt}) + "\n" for prompt in ("a cat in the snow", "two penguins in the snow"))
    )
    args = ["score", "--suite", "suite.jsonl", "-n", "2", "--size", "16"]
    parts = [command(*args, "--shard", f"{i}/2", model="tiny")[0] for i in (1, 2)]
    drawn = {path: Path(path).stat().st_mtime_ns for part in parts for path in part}
    assert [len(part) for part in parts] == [2, 2]
    out, err = command(*args, "--extractor", "clip:tiny", "--json", model="tiny")
    assert "4 of 4 were there already" in err
    assert {path: Path(path).stat().st_mtime_ns for path in drawn} == drawn
    assert json.loads(out[-1])["ok"]


@pytest.mark.slow
def test_shares_into_one_folder_at_the_same_time(studio: Path, draw: Draw) -> None:
    Path("prompts.txt").write_text(PROMPTS * 12)
    whole, _ = draw("-f", "prompts.txt", "-o", "whole", "--batch", "4")
    args = ["sample", "-f", "prompts.txt", "-o", "parts", "--size", "16", "--batch", "4", "--model", "tiny"]
    command = [sys.executable, "-m", "t2i", *args, "--device", "cpu", "--shard"]
    runs = [subprocess.Popen([*command, f"{i}/3"], stdout=subprocess.PIPE, text=True) for i in (1, 2, 3)]
    told = [process.communicate(timeout=600)[0] for process in runs]
    assert [process.returncode for process in runs] == [0, 0, 0]
    assert sorted(" ".join(told).replace("parts/", "whole/").split()) == sorted(whole)
    check_same_pictures(Path("parts"), Path("whole"))
    assert lines(Path("parts")) == lines(Path("whole"))
