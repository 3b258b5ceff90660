"""Baselines and the gate: what is refused, what fails, what cannot be decided."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from t2i.errors import InputError, UnavailableError, UsageError
from t2i.score import baseline as base
from t2i.score.baseline import ScoredSet, comparison_notes
from t2i.score.gate import MaxDrop, parse_margins, run_gate
from t2i.score.metric_table import check_metric_names
from t2i.score.metrics import UnitScore, columns
from t2i.score.recipe import NetworkInfo, ScoreRecipe, read_recipe, recipe_differences, require_same_recipe

CLIP = NetworkInfo("clip:small", "a" * 64, 64, "area")
RECIPE = ScoreRecipe(CLIP, NetworkInfo("judge", "b" * 64, 64, "area"), {"scene": 1, "clip": 1}, "suite")
TASKS = ("counting", "colours", "position")


def score(seed: int = 0, fall: dict[str, float] | None = None, n: int = 90, **changes: float) -> ScoredSet:
    """n prompts of three tasks; `fall` lowers the share of a task, `changes` set a metric for every prompt."""
    rng = np.random.default_rng(seed)
    easy = np.random.default_rng(99).uniform(0.5, 1.0, n)  # the same prompts are easy in every score
    units = []
    for i in range(n):
        p = float(np.clip(easy[i] - (fall or {}).get(TASKS[i % 3], 0.0), 0, 1))
        metrics = {"scene": rng.binomial(4, p) / 4, "clip": 60 + rng.normal(0, 2), "duplicate": 0.0, **changes}
        units.append(UnitScore(f"prompt {i:03}", metrics, 4, TASKS[i % 3]))
    return ScoredSet(RECIPE, tuple(units), ("w" * 64,), "2026-11-22T00:00:00+00:00")


def test_the_same_model_with_fresh_seeds_is_not_failed() -> None:
    verdicts = [run_gate(score(2 * s), score(2 * s + 1), MaxDrop.parse("5%")).verdict for s in range(100)]
    assert verdicts.count("regression") <= 5
    wide = [run_gate(score(2 * s), score(2 * s + 1), MaxDrop.parse("20%")).verdict for s in range(40)]
    assert wide.count("pass") >= 38


def test_a_task_that_fell_is_named() -> None:
    outcome = run_gate(score(0), score(1, {"colours": 0.5}), MaxDrop.parse("5%"))
    assert outcome.verdict == "regression"
    assert "scene: colours" in outcome.fell
    assert not {"scene: counting", "scene: position", "clip"} & set(outcome.fell)
    leads = outcome.checks[0]
    assert leads.leads and leads.column == "scene" and leads.p is not None
    assert leads.result.change.n == 90 and leads.result.mdd > 0


def test_a_collapse_fails_though_nothing_else_fell() -> None:
    outcome = run_gate(score(0), score(1, duplicate=1.0), MaxDrop.parse("5%"))
    assert outcome.fell == ("duplicate",)


def with_blanks(hits: Sequence[int]) -> ScoredSet:
    """Prompts of two pictures that are all alike, but for how many of them are blank."""
    looks = {"clip": 60.0, "sharpness": 20.0, "duplicate": 0.0}
    units = [UnitScore(f"prompt {i:03}", {**looks, "blank": k / 2}, 2) for i, k in enumerate(hits)]
    return ScoredSet(RECIPE, tuple(units))


@pytest.mark.parametrize(
    ("before", "after", "fell"),
    [
        ([0] * 8, [2, 1, 1] + [0] * 5, ("blank",)),  # a quarter of the pictures: flips of three prompts say p = 1/8
        ([0] * 8, [1, 1] + [0] * 6, ()),
        ([1, 1, 0, 0, 0, 0, 0, 0], [0, 0, 1, 1, 1, 0, 0, 0], ()),  # as it was, nearly
        ([1] * 8, [2] * 8, ("blank",)),  # here the flips tell it
    ],
)
def test_blank_pictures_in_a_few_prompts(before: list[int], after: list[int], fell: tuple[str, ...]) -> None:
    assert run_gate(with_blanks(before), with_blanks(after), MaxDrop.parse("5%")).fell == fell


@pytest.mark.parametrize("rate", [0.02, 0.08])
def test_a_model_that_draws_blank_pictures_now_and_then_is_not_failed(rate: float) -> None:
    rng = np.random.default_rng(0)
    sides = rng.binomial(2, rate, (100, 2, 8))
    failed = [run_gate(with_blanks(a), with_blanks(b), MaxDrop.parse("5%")).fell for a, b in sides]
    assert sum(map(bool, failed)) <= 5


def test_what_leads_where_no_prompt_is_known() -> None:
    """A repeat is rare, so "duplicate" would decide nothing: how the pictures look leads."""
    before, after = score(0), score(1)
    looks = [replace(s, units=tuple(replace(u, metrics={"duplicate": 0.0, "blank": 0.0, "sharpness": 20.0 + i % 3})
                                    for i, u in enumerate(s.units))) for s in (before, after)]  # fmt: skip
    assert run_gate(*looks, MaxDrop.parse("5%")).checks[0].column == "sharpness"


def test_margins() -> None:
    before, after = score(0, clip=60.0), score(0, clip=58.0)
    assert "clip" not in run_gate(before, after, MaxDrop.parse("5%")).fell
    assert run_gate(before, after, MaxDrop.parse("5%"), {"clip": 1.0}).fell == ("clip",)
    assert run_gate(before, after, MaxDrop.parse("3%")).fell == ("clip",)
    assert run_gate(before, after, MaxDrop.parse("2.5"), primary="clip").verdict == "pass"
    assert (MaxDrop.parse("2%").margin(0.5), MaxDrop.parse("0.02").margin(0.5)) == (0.01, 0.02)
    assert parse_margins("scene=0.05, clip=1") == {"scene": 0.05, "clip": 1.0}
    for text in ("x", "-1%", "101%", "nan"):
        with pytest.raises(UsageError):
            MaxDrop.parse(text)
    for text in ("scene", "scene=-1", "sene=1"):
        with pytest.raises(UsageError):
            parse_margins(text)
    with pytest.raises(UsageError, match="no metric"):
        check_metric_names(["sharpnes"])
    with pytest.raises(UnavailableError):
        run_gate(before, after, MaxDrop.parse("5%"), primary="object")


def test_few_prompts_decide_nothing() -> None:
    outcome = run_gate(score(0, n=3), score(1, {"counting": 0.9}, n=3), MaxDrop.parse("5%"))
    assert outcome.verdict == "inconclusive"


def test_another_recipe_is_refused() -> None:
    others = {
        "extractor's weights": replace(RECIPE, extractor=replace(CLIP, weights="c" * 64)),
        "extractor's resize": replace(RECIPE, extractor=replace(CLIP, resize="bicubic")),
        "extractor's side": replace(RECIPE, extractor=replace(CLIP, side=224)),
        "judge's weights": replace(RECIPE, judge=replace(CLIP, name="judge", weights="d" * 64, resize="area")),
        "'clip' has version": replace(RECIPE, metrics={"scene": 1, "clip": 2}),
        "suite": replace(RECIPE, suite="other"),
    }
    for what, other in others.items():
        assert other.digest != RECIPE.digest
        with pytest.raises(InputError, match=what) as caught:
            require_same_recipe(RECIPE, other, "base.json")
        assert caught.value.code == "recipe"
    assert recipe_differences(RECIPE, replace(RECIPE, metrics={**RECIPE.metrics, "blank": 1})) == []
    raw = RECIPE.to_json()
    assert read_recipe(raw, "x") == RECIPE
    with pytest.raises(InputError, match="digest"):
        read_recipe({**raw, "suite": "edited"}, "x")


def test_a_baseline_is_kept_and_never_lost_by_chance(tmp_path: Path) -> None:
    path, first, second = tmp_path / "base.json", score(0), score(1)
    base.save_baseline(path, first)
    assert base.load_baseline(path) == first
    with pytest.raises(InputError, match="there already"):
        base.save_baseline(path, second)
    base.save_baseline(path, second, base.load_baseline(path))
    kept = base.load_baseline(path)
    assert kept == second and [h["means"] for h in kept.history] == [first.means()]
    base.save_baseline(path, first, kept)
    assert len(base.load_baseline(path).history) == 2
    table = json.loads(path.read_text())
    for damage in ({"schema": 9}, {"units": []}, {"recipe": {}}, {"units": [{"unit": 1}]}):
        path.write_text(json.dumps({**table, **damage}))
        with pytest.raises(InputError):
            base.load_baseline(path)
    path.write_text("{")
    with pytest.raises(InputError, match="cannot be used as JSON"):
        base.load_baseline(path)


@pytest.mark.parametrize("number", ["1e999", "1e308", "-1e300", "9" * 400, "9" * 5000, "NaN"])
def test_a_number_that_no_metric_has_is_no_verdict(tmp_path: Path, number: str) -> None:
    """Arithmetic with it would overflow, and an overflow decides nothing: the gate would let everything pass."""
    path = tmp_path / "base.json"
    base.save_baseline(path, score(0))
    table = json.loads(path.read_text())
    for name in table["units"][0]["metrics"]:
        text = json.dumps({**table, "units": [{**table["units"][0], "metrics": {name: "@"}}, *table["units"][1:]]})
        path.write_text(text.replace('"@"', number))
        with pytest.raises(InputError, match=r"base\.json"):
            base.load_baseline(path)


def test_a_baseline_whose_prompts_were_not_all_scored_is_refused() -> None:
    before, after = score(0), score(1)
    with pytest.raises(InputError, match="2 of the 90 prompts"):
        comparison_notes(before, replace(after, units=after.units[2:]), "base.json")
    known = replace(before, units=before.units[2:])
    assert comparison_notes(known, after, "x") == ["not in the baseline and not compared: 2 of 90 prompts"]


def test_columns_slice_the_leading_metric_by_task() -> None:
    units = [UnitScore("a", {"clip": 1.0}, 1, "one"), UnitScore("b", {"clip": 3.0}, 1, "two")]
    assert columns(units)["clip: two"] == {"b": 3.0}


def test_a_margin_that_lets_a_share_fall_to_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="fall to nothing"):
        run_gate(score(0), score(1), MaxDrop.parse("5"))
    with pytest.raises(UsageError, match="fall to nothing"):
        run_gate(score(0), score(1), MaxDrop.parse("5%"), {"scene": 1.0})


def test_prompts_without_a_metric_on_one_side_are_told() -> None:
    before, after = score(0), score(1)
    units = tuple(replace(u, metrics={"clip": u.metrics["clip"]}) if i < 6 else u for i, u in enumerate(before.units))
    said = " ".join(comparison_notes(replace(before, units=units), after, "x"))
    assert "only one side has scene of 6 of 90 prompts" in said
