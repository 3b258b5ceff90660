"""The suite of scenes: made again byte for byte, held out in every line, possible in every colour; its scores."""

from __future__ import annotations

import hashlib
import json
import random
from collections import Counter
from functools import cache

import pytest

from t2i.lab.scene_content import held_out_parts
from t2i.lab.scenes_suite import COUNTS, SHOWS, text
from t2i.score.statistics import share_interval
from t2i.score.suite import SuitePrompt, read_suite, shipped_suite
from t2i.score.task_scores import GENEVAL_TASKS, TASK_CHECKS, geneval_score, passes, subsample, task_scores
from t2i.text.words import KnownWords
from t2i.world.captions import caption
from t2i.world.graph import Scene
from t2i.world.holdout import combinations, held_out, scene_held_out
from t2i.world.layout import PLATFORMS, Layout, WorldConfig
from t2i.world.places import PLACES
from t2i.world.reading import Detection, Expectation, Reading, Wanted
from t2i.world.vocabulary import COLOURS, is_shape, things

CORE = tuple(key for key, thing in things().items() if thing.core and not is_shape(thing))
ALL = tuple(key for key, thing in things().items() if not is_shape(thing))
OLD = "7c784c0118003c167364a6b97904adb2cc5a3da956bcbcef15848dc68749845b"
"""sha256 of the 348 scenes that came first, without the key `vocabulary`."""
MIRROR = {"left": "right", "right": "left", "above": "below", "below": "above", "next": "next"}
CENTRE = {"single object": "place", "background": "place", "style": "place", "two objects": "pair",
          "attribute binding": "pair"}  # fmt: skip


@cache
def suite() -> tuple[SuitePrompt, ...]:
    return tuple(read_suite(shipped_suite()))


@cache
def layout() -> Layout:
    return Layout(WorldConfig(vocabulary="all"), things(), ALL, tuple(PLACES))


def kinds(expectation: Expectation) -> set[str]:
    return {part[0] for part in held_out_parts(expectation)}


def test_the_shipped_file_is_what_the_generator_writes() -> None:
    assert text() == shipped_suite().read_text("utf-8")


def test_counts_and_mirrored_languages() -> None:
    prompts = suite()
    for part, counts in COUNTS.items():
        assert Counter(p.task for p in prompts if p.lang == "en" and p.vocabulary == part) == counts
        assert set(GENEVAL_TASKS) <= set(counts) <= set(TASK_CHECKS)
    assert len(prompts) >= 2 * 600 and {p.vocabulary for p in prompts} == set(COUNTS)
    assert len({p.text for p in prompts}) == len(prompts)
    for en, zh in zip(prompts[::2], prompts[1::2], strict=True):
        assert (en.lang, zh.lang) == ("en", "zh")
        assert en.task == zh.task and en.expectation == zh.expectation
        assert en.text.isascii() and not any("a" <= c <= "z" for c in zh.text)


def test_the_first_scenes_never_change() -> None:
    rows = [json.loads(line) for line in shipped_suite().read_text("utf-8").splitlines()[:696]]
    assert all(row.pop("vocabulary") == "core" for row in rows)
    text = "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)
    assert hashlib.sha256(text.encode()).hexdigest() == OLD


def test_each_part_asks_for_all_of_its_things() -> None:
    for part, keys in (("core", set(CORE)), ("all", set(ALL) - set(CORE))):
        asked = Counter(w.thing for p in suite() if p.vocabulary == part for w in p.expectation.objects)
        assert set(asked) == keys and max(asked.values()) <= 24, part


def test_numbers_from_one_to_four_alike() -> None:
    counted = [p.expectation.objects[0].count for p in suite() if p.task == "counting"]
    assert set(Counter(counted).values()) == {len(counted) // 4} and set(counted) == {1, 2, 3, 4}


def test_every_line_is_held_out() -> None:
    halves = {"counting": Counter(), "colours": Counter()}  # type: ignore[var-annotated]
    for p in suite():
        assert p.side == "held-out"
        e = p.expectation
        found = kinds(e)
        if p.task in CENTRE:
            assert CENTRE[p.task] in found, p
        elif p.task == "position" and e.relation:
            kind, a, b = e.relation[0], e.objects[0].thing, e.objects[1].thing
            assert held_out("relation", a, kind, b), p
            if kind in MIRROR:  # the same picture may be told the other way round
                assert held_out("relation", b, MIRROR[kind], a), p
        elif p.task == "position":
            assert "place" in found, p
        else:
            assert found & {"count", "colour", "place"}, p
            halves[p.task][bool(found & {"count", "colour"})] += 1
    assert min(halves["counting"][True] / 192, halves["colours"][True] / 176) >= 0.35


def test_training_cannot_draw_what_a_line_says() -> None:
    said = {frozenset(held_out_parts(p.expectation)) for p in suite()}
    assert all(said)
    everything = set().union(*said)
    for index in range(3000):
        scene = layout()(5, index)
        assert not scene_held_out(scene) and not everything & set(combinations(scene))


def test_only_what_the_world_can_show() -> None:
    table = things()
    for p in suite():
        e = p.expectation
        hues = [w.colour for w in e.objects if w.colour]
        assert p.task not in ("colours", "attribute binding") or len(hues) == len(e.objects)
        assert len(set(hues)) == len(hues), "two of one colour bind nothing"
        for w in e.objects:
            assert w.thing in ALL and e.place not in SHOWS.get(w.thing, ()), p
            assert w.colour is None or w.colour in (*table[w.thing].colours, table[w.thing].colour), p
            assert e.shade is None or e.shade not in (w.colour, table[w.thing].colour), p
        assert (e.place == "plain") == (e.shade is not None)
        assert e.relation is None or e.relation[0] != "on" or e.objects[1].thing in PLATFORMS


def test_the_prompt_says_what_is_expected() -> None:
    for p in suite():
        e, low = p.expectation, p.text.lower()
        for w in e.objects:
            if w.colour:
                zh = COLOURS[w.colour][0][0]
                assert (zh in low) if p.lang == "zh" else (w.colour in low or (w.colour == "grey" and "gray" in low)), p
        if p.task == "style":
            assert "3d" in low
        elif e.shade:
            assert (COLOURS[e.shade][0][0] if p.lang == "zh" else e.shade) in low


def test_every_word_is_one_that_training_captions_say() -> None:
    rng = random.Random(0)
    unknown = set(KnownWords.collect(p.text for p in suite()).split())
    for start in range(0, 60000, 6000):  # a word of a rare thing comes late
        captions: list[str] = []
        for index in range(start, start + 6000):
            scene: Scene = layout()(6, index)
            says = {"say_style": 0.1, "say_place": 0.85}
            form = ("dense", "short", "telegraphic")[index % 3]
            captions += [caption(scene, rng, lang, form, **says) for lang in ("en", "zh")]  # type: ignore[arg-type]
        unknown -= set(KnownWords.collect(captions).split())
        if not unknown:
            break
    assert not unknown


def test_the_other_side_makes_a_suite_of_trained_combinations() -> None:
    lines = text(held=False).splitlines()
    assert len(lines) == 2 * sum(sum(counts.values()) for counts in COUNTS.values())
    assert not set(lines) & set(shipped_suite().read_text("utf-8").splitlines())
    assert '"side": "train"' in lines[0]


# Scores -----------------------------------------------------------------------------------------------------------


def seen(*found: Detection, place: str = "snow") -> Reading:
    return Reading(found, place, 0.9, None)


CAT, DOG = Detection("cat", 0.3, 0.5, 0.9, "black"), Detection("dog", 0.7, 0.5, 0.9, "white")


@pytest.mark.parametrize(
    ("task", "expectation", "right", "wrong"),
    [
        ("single object", Expectation((Wanted("cat"),), "beach"), seen(CAT), seen(DOG, place="beach")),
        ("two objects", Expectation((Wanted("cat"), Wanted("dog"))), seen(CAT, DOG), seen(CAT)),
        ("counting", Expectation((Wanted("cat", 1),)), seen(CAT), seen(CAT, CAT)),
        ("colours", Expectation((Wanted("cat", None, "black"),)), seen(CAT), seen(DOG)),
        ("position", Expectation((Wanted("cat"), Wanted("dog")), relation=("left", 0, 1)), seen(CAT, DOG),
         seen(Detection("cat", 0.8, 0.5, 0.9, "black"), DOG)),
        ("attribute binding", Expectation((Wanted("cat", None, "black"), Wanted("dog", None, "white"))), seen(CAT, DOG),
         seen(CAT, Detection("dog", 0.7, 0.5, 0.9, "black"))),
        ("background", Expectation((Wanted("cat"),), "snow"), seen(DOG), seen(CAT, place="beach")),
        ("of my own", Expectation((Wanted("cat", 1),), "snow"), seen(CAT), seen(CAT, place="beach")),
    ],
)  # fmt: skip
def test_a_task_counts_what_it_is_about(task: str, expectation: Expectation, right: Reading, wrong: Reading) -> None:
    prompt = SuitePrompt("", expectation, task=task)
    assert passes(prompt, right) and not passes(prompt, wrong)


def test_scores_pair_the_languages() -> None:
    prompts, readings = [], []
    yes, no = seen(CAT), seen(DOG)
    shares = [(4, 3), (4, 4), (2, 1), (0, 0)]  # of four pictures, English and Chinese
    for k, pair in enumerate(shares):
        expectation = Expectation((Wanted("cat"),), ("snow", "beach", "rain", "rain")[k])
        for lang, good in zip(("en", "zh"), pair, strict=True):
            prompts.append(SuitePrompt(f"{k}{lang}", expectation, lang, "single object"))
            readings.append([yes] * good + [no] * (4 - good))
    score = task_scores(prompts, readings)["single object"]
    assert score.whole.mean == pytest.approx(18 / 32) and score.whole.n == 4
    assert score.langs["en"].mean == pytest.approx(10 / 16) and score.langs["zh"].mean == pytest.approx(8 / 16)
    assert score.gap is not None and score.gap.mean == pytest.approx(-1 / 8)
    gaps = [-0.25, 0.0, -0.25, 0.0]
    half = 3.18245 * (sum((g + 0.125) ** 2 for g in gaps) / 3) ** 0.5 / 2
    assert score.gap.low == pytest.approx(-0.125 - half, 1e-4) and score.gap.high == pytest.approx(-0.125 + half, 1e-4)


def test_a_sample_keeps_tasks_and_translations() -> None:
    prompts = list(suite())
    few = subsample(prompts, 80)
    assert {p.task for p in few} == set(TASK_CHECKS) and 64 <= len(few) <= 96
    assert {p.vocabulary for p in few} == set(COUNTS)
    assert [p.lang for p in few] == ["en", "zh"] * (len(few) // 2)
    assert all(a.expectation == b.expectation for a, b in zip(few[::2], few[1::2], strict=True))
    assert subsample(prompts, 10**6) == prompts


@pytest.mark.parametrize(("n", "scenes"), [(1, 1), (2, 1), (3, 1), (4, 2), (9, 4), (16, 8), (20, 8)])
def test_a_small_sample_has_scenes_of_as_many_tasks_as_it_allows(n: int, scenes: int) -> None:
    few = subsample([p for p in suite() if p.vocabulary == "core"], n)
    assert len(few) == 2 * scenes and len({p.task for p in few}) == scenes  # a prompt and its translation


def test_the_score_is_the_mean_of_the_six() -> None:
    prompts = list(suite())
    table = task_scores(prompts, [[seen()]] * len(prompts))
    total = geneval_score(table)
    assert total is not None and total.mean == 0.0 and geneval_score({"style": table["style"]}) is None


def test_a_share_without_a_failure_still_has_an_interval() -> None:
    perfect, none = share_interval([1.0] * 48), share_interval([0.0] * 48)
    assert perfect.low == pytest.approx(0.025 ** (1 / 48)) and perfect.high == 1.0  # 48 in a row: 2.5% at this share
    assert none.low == 0.0 and none.high == pytest.approx(1 - perfect.low)
    assert share_interval([0.5] * 8).low == 0.5 and share_interval([1.0]).low == 0.025
