"""The judge against 500 pictures that were read by eye, and the arithmetic of that comparison.

`old.png` and `new.png` hold the pictures of `t2i/lab/by_eye.txt` (seed 0) as the judge reads them, drawn by the
weights of `small` before and after it got its upsampler for 256 pixels, `newest.png` after that had learned more,
`former.png` by the weights before the shipped ones, and `shipped.png` by those. Each was
read twice, without the prompts.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from t2i.lab.by_eye import PROMPTS, read_prompts
from t2i.lab.judge_agreement import Agreement, agreement, main, readers_of

HERE = Path(__file__).parent
BOUNDS = {
    "old": (0.73, 0.23),
    "new": (0.73, 0.23),
    "newest": (0.79, 0.19),
    "former": (0.85, 0.06),
    "shipped": (0.85, 0.08),
}
"""Least agreement and largest bias of the shipped judge, a little looser than what docs/evaluation.md says of it. The
goal, of the shipped weights, is .85 and .05."""


def test_every_prompt_was_read_twice_in_each_set() -> None:
    expectations, sets = readers_of(HERE)
    assert [json.loads(line)["prompt"] for line in (HERE / "readings.jsonl").read_text("utf-8").splitlines()] == (
        read_prompts(PROMPTS)
    )
    assert set(sets) == {"old", "new", "newest", "former", "shipped"} and all(
        len(readers) == 2 for readers in sets.values()
    )
    assert len(expectations) == 100 and all(e.objects for e in expectations)
    for name, (first, second) in sets.items():
        assert Image.open(HERE / f"{name}.png").size == (640, 640)
        assert 0.5 < sum(first) / 100 < 0.95 and agreement(first, second).agree > 0.9


def test_agreement_by_hand() -> None:
    found = agreement([True, True, False, True], [True, False, False, False])
    assert found == Agreement(0.5, 0.75, 0.25) and found.bias == 0.5


def test_the_shipped_judge_keeps_to_its_bounds(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(HERE), "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [(row["pictures"], row["reading"]) for row in rows] == [
        (s, k) for s in ("old", "new", "newest", "former", "shipped") for k in (1, 2)
    ]
    for row in rows:
        agree, bias = BOUNDS[row["pictures"]]
        assert row["agreement"] >= agree and abs(row["bias"]) <= bias, row


def test_a_folder_without_readings_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([str(tmp_path)]) == 3
    assert "readings.jsonl" in capsys.readouterr().err
