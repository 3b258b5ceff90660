"""The sheet of several models, drawn by a tiny one."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from t2i.lab.side_by_side import CELL, PROMPTS, main


def test_a_row_a_prompt_and_a_column_a_model(tiny: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("a cat\n一只狗\n", "utf-8")
    out = tmp_path / "sheet.png"
    wanted = ["--prompts", str(prompts), "--out", str(out)]
    assert main([*wanted, "--models", f"{tiny},{tiny}"]) == 0
    sheet = Image.open(out).convert("RGB")
    right = sheet.crop((sheet.width - CELL, sheet.height - CELL, sheet.width, sheet.height))
    left = sheet.crop((sheet.width - 2 * CELL - 2, sheet.height - CELL, sheet.width - CELL - 2, sheet.height))
    assert right.tobytes() == left.tobytes()  # the same model, prompt and seed
    assert len(set(right.tobytes())) > 1
    assert main([*wanted, "--models", "no-such-model"]) == 4
    assert "no-such-model" in capsys.readouterr().err


def test_the_prompts_of_the_shipped_sheet_are_there() -> None:
    assert len((Path(__file__).parents[2] / PROMPTS).read_text("utf-8").splitlines()) == 10
