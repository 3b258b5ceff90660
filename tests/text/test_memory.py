"""Encoded prompts are remembered within a budget."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from t2i.pipeline import Pipeline
from t2i.text.cond import TextCond
from t2i.text.memory import BESIDE, TextCache


def row(value: float) -> TextCond:
    return TextCond(torch.full((1, 4, 8), value), torch.ones(1, 4, dtype=torch.bool), torch.full((1, 8), value))


SIZE = BESIDE + 4 * (4 * 8 + 8) + 4


def test_the_prompt_used_longest_ago_goes_first() -> None:
    texts = TextCache(3 * SIZE)
    for name, value in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        texts.put(name, row(value), None)
    assert texts.used == 3 * SIZE
    texts.get("a")
    texts.put("d", row(4.0), "rest")
    assert texts.get("b") is None
    assert texts.used == 3 * SIZE
    kept = texts.get("d")
    assert kept is not None
    assert kept[1] == "rest"
    assert torch.equal(kept[0].tokens, row(4.0).tokens)


def test_one_prompt_larger_than_the_budget_is_kept() -> None:
    texts = TextCache(1)
    texts.put("a", row(1.0), None)
    assert texts.get("a") is not None


def test_each_prompt_of_a_run_is_encoded_once(tiny: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pipeline = Pipeline.load(tiny)
    calls: list[int] = []
    real = pipeline.clip.encode_text

    def encode(ids: torch.Tensor) -> object:
        calls.append(len(ids))
        return real(ids)

    monkeypatch.setattr(pipeline.clip, "encode_text", encode)
    first, cut = pipeline.encode(["a cat", "a dog", "a cat " * 40])
    again, cut_again = pipeline.encode(["a cat " * 40, "a fox", "a cat", "a cat"])
    assert calls == [1] * 4
    assert torch.equal(first.tokens[[2, 0, 0]], again.tokens[[0, 2, 3]])
    assert torch.equal(first.mask[[2, 0, 0]], again.mask[[0, 2, 3]])
    assert torch.equal(first.pooled[[2, 0, 0]], again.pooled[[0, 2, 3]])
    assert cut[2] == cut_again[0] is not None
    assert cut[:2] == [None, None]
