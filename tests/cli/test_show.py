"""Pictures and progress on a terminal: a pseudo-terminal stands in for it, and answers as real ones do."""

from __future__ import annotations

import io
import re
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from PIL import Image
from terminal import on_a_terminal

from t2i.cli.show import HalfBlocks, Screen
from t2i.cli.ui import UI, time_left

Draw = Callable[..., tuple[list[str], str]]
ASKED_KITTY, ASKED_SIXEL, ASKED_CELL = b"\x1b_G", b"\x1b[c", b"\x1b[16t"


def args(*more: str) -> list[str]:
    return ["sample", "a cat in the snow", "--seed", "7", "--model", "tiny", "--device", "cpu", "--size", "16", *more]


def test_half_blocks_hold_the_colours() -> None:
    from rich.console import Console

    image = Image.new("RGB", (2, 2))
    colours = [(250, 10, 20), (1, 2, 3), (9, 200, 30), (77, 88, 99)]
    image.putdata(colours)
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, color_system="truecolor", width=40)
    console.print(HalfBlocks(image, 1))
    text = out.getvalue()
    assert text.count("▀") == 2
    found = re.findall(r"38;2;(\d+);(\d+);(\d+);48;2;(\d+);(\d+);(\d+)", text)
    assert [tuple(map(int, six)) for six in found] == [(*colours[0], *colours[2]), (*colours[1], *colours[3])]


@pytest.mark.parametrize(("width", "height"), [(400, 100), (100, 400), (16, 16), (1, 1)])
def test_half_blocks_fit_the_terminal(width: int, height: int) -> None:
    from rich.console import Console

    out = io.StringIO()
    Console(file=out, force_terminal=False, width=40).print(HalfBlocks(Image.new("RGB", (width, height)), 20))
    lines = out.getvalue().splitlines()
    assert 1 <= len(lines) <= 20
    assert max(map(len, lines)) <= 40
    columns = max(map(len, lines))
    assert columns == 1 or abs(columns / (2 * len(lines)) - width / height) <= 0.3 * width / height


def test_the_estimate_is_shown_for_pictures_only() -> None:
    from rich.console import Console

    screen, console = Screen(False, True), Console(file=io.StringIO(), width=80)
    assert screen.estimate(torch.zeros(2, 32), console) is None  # the prior's
    assert screen.estimate(torch.full((1, 3, 8, 8), float("nan")), console) is None
    shown = screen.estimate(torch.zeros(9, 3, 256, 256), console)
    assert isinstance(shown, HalfBlocks)
    assert shown.image.size == (4 * 64 + 3 * 4, 64)


def test_off_a_terminal_nothing_is_shown(draw: Draw) -> None:
    out, err = draw("a cat", "--seed", "1", "--show", "--preview")
    assert out == ["out/a-cat-1.png"]
    assert "not a terminal" in err
    assert "▀" not in err


def test_a_terminal_without_graphics_gets_half_blocks(studio: Path) -> None:
    seen = on_a_terminal(args("--show", "--preview"), {ASKED_SIXEL: b"\x1b[?62;22c", ASKED_KITTY: b""})
    assert "out/a-cat-in-the-snow-7.png" in seen
    assert seen.count("▀") >= 40
    assert "\x1bP" not in seen
    assert re.search(r"base", seen), "no bar for the stage"


def test_a_terminal_with_sixels_gets_them(studio: Path) -> None:
    pytest.importorskip("textual_image")
    answers = {ASKED_SIXEL: b"\x1b[?62;4c", ASKED_CELL: b"\x1b[6;20;10t"}
    seen = on_a_terminal(args("--show", "-q"), answers)
    assert re.search("\x1bP[0-9;]*q", seen), "no sixel picture"
    assert "▀" not in seen


def test_pictures_do_not_get_into_the_results(studio: Path) -> None:
    """stdout redirected: the picture still comes to the terminal, by stderr."""
    seen = on_a_terminal(args("--show", "-q"), {}, redirect=True)
    assert "▀" in seen
    assert "out/a-cat" not in seen


@pytest.mark.parametrize(
    ("passed", "made", "to_make", "text"),
    [
        (10, 0, 5, ""),
        (10, 5, 0, ""),
        (10, 5, 5, "about 10 s left"),
        (0.1, 5, 5, "about 1 s left"),
        (60, 1, 9, "about 9 min left"),
        (60, 1, 600, "about 10.0 h left"),
    ],
)
def test_the_time_left(passed: float, made: int, to_make: int, text: str) -> None:
    assert time_left(passed, made, to_make) == text


def test_lines_off_a_terminal_say_stage_and_time_left(capsys: pytest.CaptureFixture[str]) -> None:
    from t2i.cli.progress import Lines

    ui = UI()
    ui.lines = Lines(ui.note, 0.0)
    ui.started, ui.done_before = time.monotonic() - 60, 0
    with ui.progress("pictures 9-16 of 80", 8, 80) as on_step:
        on_step("base", 3, 8, None)
    assert capsys.readouterr().err == "pictures 9-16 of 80: base 3/8, about 9 min left\n"
