"""`t2i sample --interactive`: lines from a pipe, and at a terminal."""

from __future__ import annotations

import io
import json
import os
import pty
import re
import select
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i.cli.interactive import COMMANDS, HELP, Dials
from t2i.cli.ui import UI
from t2i.errors import UsageError
from t2i.jobs.prompt_file import PromptLine
from t2i.jobs.sample import SampleOrder, SamplePlan, WarmEngine
from t2i.jobs.settings import check_options
from t2i.store.load_options import LoadOptions
from t2i.store.models import find_model

CAT = "a cat in the snow"
Draw = Callable[..., tuple[list[str], str]]


@pytest.fixture
def says(monkeypatch: pytest.MonkeyPatch) -> Callable[[str | bytes], None]:
    def says(text: str | bytes) -> None:
        data = text if isinstance(text, bytes) else text.encode()
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data), "utf-8"))

    return says


def test_a_line_is_a_picture(draw: Draw, says: Callable[[str | bytes], None]) -> None:
    """The same files as one run for each line makes, and commands between them."""
    says(
        f"# a comment\n\n{CAT}\n/seed 9\n/n 2\n/steps 2\n一只猫\n/seed\n/n\n/steps\n"
        + '{"prompt": "a dog", "seed": 3}\n'
    )
    out, err = draw("--interactive", "--seed", "7", "-o", "here")
    assert out == [f"here/{name}.png" for name in ("a-cat-in-the-snow-7", "一只猫-9", "一只猫-10", "a-dog-3")]
    assert "n 2, seed 9, size 16, steps 2" in err
    alone, _ = draw(CAT, "--seed", "7", "-o", "alone")
    alone += draw("一只猫", "--seed", "9", "-n", "2", "--steps", "2", "-o", "alone")[0]
    alone += draw("a dog", "--seed", "3", "-o", "alone")[0]
    assert [Path(path).read_bytes() for path in out] == [Path(path).read_bytes() for path in alone]


def test_seeds_are_drawn_at_random_and_told(draw: Draw, says: Callable[[str | bytes], None]) -> None:
    says(f"{CAT}\n{CAT}\n")
    out, err = draw("-i")
    seeds = re.findall(r"^seed (\d+)$", err, re.MULTILINE)
    assert out == [f"out/a-cat-in-the-snow-{seed}.png" for seed in seeds] and len(set(seeds)) == 2


def test_a_line_that_fails_does_not_end_it(draw: Draw, says: Callable[[str | bytes], None]) -> None:
    says(
        b"/sed 7\n/size 17\n/steps 0\n/guidance none\n"
        + CAT.encode()
        + b'\na \xff\n{"prompt": "a cat", "size": 17}\n'
        + b"x" * (3 << 20)
        + b"\n/n many\n"
        + CAT.encode()
    )
    out, err = draw("--interactive", "--seed", "7", "--json", code=3)
    *records, envelope = map(json.loads, out)
    assert [record["path"] for record in records] == ["out/a-cat-in-the-snow-7.png"] * 2
    assert envelope["error"]["code"] == "partial" and envelope["error"]["message"].startswith("8 of the lines")
    assert err.count("the line: ") == 1  # of the only one that says a size itself
    for said in ("/sed is no command. Did you mean /seed?", "--steps '0'", "--guidance 'none'", "17",
                 "not text in UTF-8", "longer than 1 MB", "'many'"):  # fmt: skip
        assert said in err.replace("\nt2i: hint:", ""), said


def test_quit_ends_it(draw: Draw, says: Callable[[str | bytes], None]) -> None:
    says("/help\n/quit\na cat\n")
    out, err = draw("--interactive")
    assert out == [] and "a line is a prompt" in err
    assert max(map(len, err.splitlines())) <= 80
    assert all(len(re.findall(rf"/{name}\b", HELP)) == 1 for name in COMMANDS if name != "size")


@pytest.mark.parametrize("args", [[CAT], ["-f", "p.txt"], ["--sweep", "steps=1,2"], ["--grid"], ["--init", "a.png"]])
def test_what_does_not_go_with_lines(draw: Draw, args: list[str]) -> None:
    if args[0] == "--init":
        Path("a.png").write_bytes(Path(draw(CAT, "--seed", "1")[0][0]).read_bytes())
    _, err = draw("--interactive", *args, code=2)
    assert "--interactive and" in err


def test_a_command_that_makes_no_sense_changes_nothing() -> None:
    dials = Dials(2, "7", {"size": "16"})
    for line in ("/seed x", "/n 0", "/sampler nothing", "/seed 1,2,3", "/threshold x"):
        with pytest.raises(UsageError):
            dials.set(line, check_options)
        assert dials == Dials(2, "7", {"size": "16"}), line
    assert dials.set("/size", check_options) == "n 2, seed 7"
    assert dials.set("/negative snow and ice", check_options) == "n 2, seed 7, negative snow and ice"


def test_the_model_is_loaded_once(studio: Path) -> None:
    model, warm = find_model("tiny"), WarmEngine()
    kept = []
    for seed in (1, 2):
        order = SampleOrder((PromptLine(CAT),), seeds=(seed,), options={"size": "16"})
        SamplePlan.of(order, model, LoadOptions()).draw(UI(quiet=True), "cpu", warm=warm)
        kept.append(warm.engine)
    assert kept[0] is kept[1] is not None


@pytest.mark.slow
def test_at_a_terminal(studio: Path) -> None:
    """A prompt, a picture in half blocks, Ctrl-C at the prompt, history, and Ctrl-D, which is no failure."""
    main, other = pty.openpty()
    command = [sys.executable, "-m", "t2i", "sample", "-i", "--model", "tiny", "--device", "cpu", "--size", "16"]
    env = {**os.environ, "T2I_HALF_BLOCKS": "1", "TERM": "xterm-256color", "COLUMNS": "80", "LINES": "40"}
    with subprocess.Popen(command, stdin=other, stdout=other, stderr=other, env=env, start_new_session=True) as process:
        os.close(other)
        said = ""

        def until(text: str, more: str = "") -> None:
            """Type ``more``, and read up to ``text``."""
            nonlocal said
            end = time.monotonic() + 300
            os.write(main, more.encode())
            while text not in said and time.monotonic() < end:
                if select.select([main], [], [], 1)[0]:
                    said += os.read(main, 65536).decode("utf-8", "replace")
            assert text in said
            said = said.partition(text)[2]

        until("t2i> ")
        until("t2i> ", "/seed 7\n")
        until("▀", CAT + "\n")
        until("t2i> ")
        until("a-cat-in-the-snow-7.png", "\x1b[A\n")  # the line before, again
        until("t2i> ")
        until("no command", "/x\n")
        until("t2i> ")
        os.write(main, b"\x04")
        while True:
            try:
                if not os.read(main, 65536):
                    break
            except OSError:  # the other side is closed
                break
        assert process.wait(300) == 0
    os.close(main)
    assert [path.name for path in (studio / "out").glob("*.png")] == ["a-cat-in-the-snow-7.png"]
