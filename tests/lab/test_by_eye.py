"""The fixed list for reading by eye, and its sheets, drawn by a tiny model."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from t2i.lab.by_eye import PER_SHEET, PROMPTS, main, read_prompts, sheets


def test_the_list_has_a_hundred_different_prompts_in_both_languages() -> None:
    prompts = read_prompts(PROMPTS)
    assert len(prompts) == len(set(prompts)) == 100
    chinese = [prompt for prompt in prompts if not prompt.isascii()]
    assert 20 <= len(chinese) <= 50


def test_five_sheets_of_at_most_1600_pixels() -> None:
    pictures = [Image.new("RGB", (256, 256), "blue")] * 100
    made = sheets(pictures, [str(number) for number in range(1, 101)])
    assert len(made) == 100 // PER_SHEET and all(sheet.width <= 1600 for sheet in made)


def test_the_program_draws_numbered_sheets_and_their_key(
    tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat in the snow\n\n雪地里的一只狗\n", "utf-8")
    out = tmp_path / "out"
    assert main(["--model", str(tiny), "--out", str(out), "--prompts", str(prompts), "--labels"]) == 0
    assert capsys.readouterr().out.splitlines() == [str(out / "sheet-1.png")]
    assert (out / "prompts.txt").read_text("utf-8") == "1 a cat in the snow\n2 雪地里的一只狗\n"
    assert main(["--model", str(tiny), "--out", str(out), "--prompts", str(tmp_path / "none.txt")]) != 0
    assert "cannot read the prompts" in capsys.readouterr().err
