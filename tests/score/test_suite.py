"""Suites: reading them, and the arithmetic of their scores."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from t2i.errors import InputError
from t2i.score.suite import SuitePrompt, read_suite
from t2i.score.task_scores import check_scores
from t2i.world.holdout import held_out
from t2i.world.places import PLACES
from t2i.world.reading import Detection, Expectation, Reading, Wanted
from t2i.world.vocabulary import things

SUITE = Path(__file__).parent.parent / "suites" / "object_place.jsonl"


def reading(thing: str, place: str) -> Reading:
    return Reading((Detection(thing, 0.5, 0.5, 0.9, "own"),), place, 0.9, None)


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
    prompts = [SuitePrompt("a cat in the snow", cat), SuitePrompt("雪地里的狗", dog, "zh", side="held-out")]
    right, wrong = reading("cat", "snow"), reading("cat", "beach")
    table = check_scores(prompts, [[right, right, wrong, wrong], [wrong, wrong, wrong, right]])
    assert table["object"].mean == 0.5  # every cat is there, no dog is
    assert table["object (held-out)"].mean == 0.0 and table["object (train)"].mean == 1.0
    assert table["background"].mean == pytest.approx((0.5 + 0.25) / 2)
    assert table["background [zh]"].mean == 0.25


def test_the_interval_is_students_t_on_prompt_means_within_shares() -> None:
    cat, place = Expectation((Wanted("cat"),)), "snow"
    right, wrong = reading("cat", place), reading("dog", place)
    five = [0.0, 1.0, 1.0, 0.0, 1.0]
    m = check_scores([SuitePrompt(str(i), cat) for i in range(5)], [[right if v else wrong] for v in five])["object"]
    deviation = (sum((v - 0.6) ** 2 for v in five) / 4) ** 0.5
    assert m.mean == pytest.approx(0.6) and m.n == 5
    assert m.high == 1.0 and m.low == max(0.0, 0.6 - 2.776 * deviation / 5**0.5)
    six = check_scores(
        [SuitePrompt(str(i), cat) for i in range(6)], [[right, wrong], [right, right], *[[right, wrong]] * 4]
    )
    # five degrees of freedom: 2.5706, which a table of rounded points had as 2.571
    assert six["object"].high - six["object"].mean == pytest.approx(2.570582 * (1 / 24) ** 0.5 / 6**0.5, rel=1e-6)
    one = check_scores([SuitePrompt("one", cat)], [[right, wrong]])["object"]
    assert (one.low, one.high) == (0.0, 1.0)  # one prompt says nothing about others


def test_a_prompt_and_its_translation_count_once() -> None:
    cat = Expectation((Wanted("cat"),))
    right, wrong = reading("cat", "snow"), reading("dog", "snow")
    prompts = [
        SuitePrompt("a cat", cat),
        SuitePrompt("cats", cat),
        SuitePrompt("猫", cat, "zh"),
        SuitePrompt("小猫", cat, "zh"),
    ]
    table = check_scores(prompts, [[right], [wrong], [wrong], [wrong]])
    assert (table["object"].n, table["object"].mean) == (2, 0.25)
    assert table["object [en]"].n == 2


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        '{"prompt": "a dog", "expect": {}}\n{"prompt": "a cat"}',
        '{"prompt": "a", "expect": ' + "[" * 100_000,
        *(
            json.dumps({"prompt": "a cat", "expect": {"objects": [{"thing": "cat"}], **expect}})
            for expect in (
                {"position": "nowhere"},
                {"relation": ["beside", 0, 0]},
                {"relation": ["left", 0, 1]},
                {"relation": ["left", 0, -1]},
                {"relation": ["left", 0]},
                {"place": "nowhere"},
                {"place": ["snow"]},
                {"shade": "snow"},
                {"objects": [{"thing": "kat"}]},
                {"objects": [{"thing": "cat", "count": -1}]},
                {"objects": [{"thing": "cat", "count": 10**9}]},
                {"objects": [{"thing": "cat", "count": 1.5}]},
                {"objects": [{"thing": "cat", "colour": "loud"}]},
                {"objects": [], "position": "left"},
                {"more": 1},
            )
        ),
        json.dumps({"prompt": "x", "expect": []}),
        json.dumps({"prompt": 7, "expect": {}}),
        json.dumps({"prompt": "x", "lang": 7, "expect": {}}),
    ],
)
def test_a_broken_suite_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "suite.jsonl"
    path.write_text(text, "utf-8")
    with pytest.raises(InputError, match=r"suite\.jsonl"):
        read_suite(path)


def test_only_newlines_end_a_line(tmp_path: Path) -> None:
    """Other separators may stand in a prompt, and so may a newline in a quoted field."""
    text = "a cat\u2028in the snow"
    (tmp_path / "a.jsonl").write_text(json.dumps({"prompt": text}, ensure_ascii=False) + "\n", "utf-8")
    (tmp_path / "a.csv").write_text(f'Prompts,Category\n"{text}",x\n"a dog\nrunning",y\n', "utf-8")
    (tmp_path / "a.txt").write_text(f"# list\n{text}\n", "utf-8")
    assert [p.text for p in read_suite(tmp_path / "a.jsonl")] == [text]
    assert [p.text for p in read_suite(tmp_path / "a.txt")] == [text]
    assert [p.text for p in read_suite(tmp_path / "a.csv")] == [text, "a dog\nrunning"]


@pytest.mark.parametrize("ending", ["csv", "tsv"])
def test_a_table_with_a_huge_field_is_named(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"suite.{ending}"
    path.write_text("prompt\na cat\n" + "x" * 140_000 + "\n")
    with pytest.raises(InputError, match=rf"line 3 of .*suite\.{ending}"):
        read_suite(path)


def test_a_suite_of_two_vocabularies_has_a_score_for_each() -> None:
    cat, dog = Expectation((Wanted("cat"),)), Expectation((Wanted("dog"),))
    prompts = [
        SuitePrompt("a cat", cat, task="single object", vocabulary="core"),
        SuitePrompt("a dog", dog, task="single object", vocabulary="all"),
    ]
    seen = Reading((Detection("cat", 0.5, 0.5, 0.9, "own"),), "snow", 0.9, None)
    scores = check_scores(prompts, [[seen], [seen]])
    assert scores["scene, vocabulary core"].mean == 1.0 and scores["scene, vocabulary all"].mean == 0.0
    assert not any("vocabulary" in name for name in check_scores(prompts[:1], [[seen]]))
