"""Suites: reading them, and the arithmetic of their scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2i.data.scenes.holdout import held_out
from t2i.data.scenes.places import PLACES
from t2i.data.scenes.vocabulary import things
from t2i.errors import InputError
from t2i.score.reading import Expectation, Found, Reading, Wanted
from t2i.score.suite import Prompt, interval, read_suite, summarise

SUITE = Path(__file__).parent.parent / "suites" / "object_place.jsonl"


def reading(thing: str, place: str) -> Reading:
    return Reading((Found(thing, 0.5, 0.5, 0.9, "own"),), place, 0.9, None)


def test_the_shipped_suite_says_its_sides_truly() -> None:
    prompts = read_suite(SUITE)
    assert len(prompts) == 60 and len({p.text for p in prompts}) == 60
    for p in prompts:
        (wanted,) = p.expectation.objects
        assert wanted.thing in things() and p.expectation.place in PLACES
        side = "held-out" if held_out("place", wanted.thing, str(p.expectation.place)) else "train"
        assert p.side == side
    assert {p.lang for p in prompts} == {"en", "zh"} and {p.side for p in prompts} == {"train", "held-out"}


def test_summary_counts_pictures_by_prompt_side_and_language() -> None:
    cat, dog = (Expectation((Wanted(k),), "snow") for k in ("cat", "dog"))
    prompts = [Prompt("a cat in the snow", cat), Prompt("雪地里的狗", dog, "zh", side="held-out")]
    right, wrong = reading("cat", "snow"), reading("cat", "beach")
    table = summarise(prompts, [[right, right, wrong, wrong], [wrong, wrong, wrong, right]])
    assert table["object"].mean == 0.5  # every cat is there, no dog is
    assert table["object (held-out)"].mean == 0.0 and table["object (train)"].mean == 1.0
    assert table["background"].mean == pytest.approx((0.5 + 0.25) / 2)
    assert table["background [zh]"].mean == 0.25


def test_interval_is_students_t_on_prompt_means() -> None:
    m = interval([0.0, 1.0, 1.0, 0.0, 1.0])
    deviation = (sum((v - 0.6) ** 2 for v in (0, 1, 1, 0, 1)) / 4) ** 0.5
    assert m.mean == pytest.approx(0.6)
    assert m.high == 1.0 and m.low == max(0.0, 0.6 - 2.776 * deviation / 5**0.5)
    assert interval([0.5]).low == 0.0 and interval([0.5]).high == 1.0  # one prompt says nothing about others


@pytest.mark.parametrize("text", ["", "{", json.dumps({"prompt": "a cat"}), json.dumps({"prompt": "x", "expect": []})])
def test_a_broken_suite_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"suite\.jsonl"):
        read_suite(path)
