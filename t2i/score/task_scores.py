"""The judge's scores of a suite, by task.

As in GenEval (Ghosh et al. 2023, 2310.11513), a picture passes or fails the task of its prompt and nothing else: the
place of "two cats in the snow" does not count for "counting". `check_scores` reports the single checks instead.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Hashable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from t2i.score.statistics import Interval, interval, share_interval, t_quantile
from t2i.score.suite import SuitePrompt, scene_keys
from t2i.world.reading import Reading, check

T = TypeVar("T")

TASK_CHECKS: dict[str, tuple[str, ...]] = {
    "single object": ("object",),
    "two objects": ("object",),
    "counting": ("count",),
    "colours": ("colour",),
    "position": ("object", "position"),
    "attribute binding": ("object", "binding"),
    "background": ("background",),
    "style": ("object",),
}
"""Task -> the checks of `reading.check` that must all hold. For any other task: all checks that apply."""

GENEVAL_TASKS = ("single object", "two objects", "counting", "colours", "position", "attribute binding")
"""The six tasks of GenEval, whose mean is its score."""


@dataclass(frozen=True)
class TaskScore:
    """The share of passing pictures of one task.

    whole: over scenes (a prompt and its translation are one scene). langs: over the prompts of each language.
    gap: Chinese minus English over the scenes that have both, or None.
    """

    whole: Interval
    langs: dict[str, Interval]
    gap: Interval | None


def passes(prompt: SuitePrompt, reading: Reading) -> bool:
    """Whether a picture passes the task of its prompt."""
    checks = check(reading, prompt.expectation)
    needed = TASK_CHECKS.get(prompt.task, tuple(checks))
    return all(checks[name] for name in needed if name in checks)


def pass_share(prompt: SuitePrompt, readings: Sequence[Reading]) -> float:
    """The share of a prompt's pictures that pass its task."""
    return sum(passes(prompt, reading) for reading in readings) / len(readings)


def subsample(prompts: Sequence[SuitePrompt], n: int) -> list[SuitePrompt]:
    """About n prompts in their order, spread evenly over each task, translations kept together: at least one scene of
    each task, or of as many tasks as n allows."""
    scenes: dict[str, dict[Hashable, list[int]]] = defaultdict(dict)
    for index, key in enumerate(scene_keys(prompts)):
        scenes[prompts[index].task].setdefault(key, []).append(index)
    tasks = [list(by_scene.values()) for by_scene in scenes.values()]
    fewest = sum(len(groups[0]) for groups in tasks)
    if n < fewest:
        tasks = _spread(tasks, max(1, n * len(tasks) // fewest))
    share = min(1.0, n / len(prompts))
    kept: list[int] = []
    for groups in tasks:
        kept += [index for group in _spread(groups, max(1, round(share * len(groups)))) for index in group]
    return [prompts[index] for index in sorted(kept)]


def _spread(items: Sequence[T], n: int) -> list[T]:
    """n of the items, evenly spaced, the first among them."""
    return [items[i * len(items) // n] for i in range(n)]


def task_scores(prompts: Sequence[SuitePrompt], readings: Iterable[Sequence[Reading]]) -> dict[str, TaskScore]:
    """Task -> score, in the order of the suite. `readings`: the pictures of each prompt, in the order of `prompts`.

    A prompt's value is its share of passing pictures, a scene's the mean over its prompts. Intervals are over scenes,
    or over the prompts of one language.
    """
    values: dict[str, dict[Hashable, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for key, prompt, pictures in zip(scene_keys(prompts), prompts, readings, strict=True):
        values[prompt.task][key][prompt.lang].append(pass_share(prompt, pictures))
    return {task: _task_score(list(scenes.values())) for task, scenes in values.items()}


def geneval_score(scores: dict[str, TaskScore]) -> Interval | None:
    """GenEval's score: the mean of its six tasks with equal weight; None where one is missing."""
    if any(task not in scores for task in GENEVAL_TASKS):
        return None
    parts = [scores[task].whole for task in GENEVAL_TASKS]
    n = sum(p.n for p in parts)
    mean = sum(p.mean for p in parts) / len(parts)
    variance = sum(p.sd**2 / p.n for p in parts) / len(parts) ** 2
    if not math.isfinite(variance):
        return Interval(mean, 0.0, 1.0, n, math.inf)
    half = t_quantile(0.975, n - len(parts)) * math.sqrt(variance)
    sd = math.sqrt(sum(p.sd**2 for p in parts) / len(parts))
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), n, sd)


def check_scores(prompts: Sequence[SuitePrompt], readings: Iterable[Sequence[Reading]]) -> dict[str, Interval]:
    """Check -> mean share of pictures that pass it, over scenes, with its 95% interval.

    Keys are the names of `reading.check`, and each of them by side ("count (held-out)") and by language ("count [zh]")
    where the suite has more than one. A suite of more than one vocabulary also has the share of pictures that pass
    their task for each ("scene, vocabulary core"). `readings` as in `task_scores`.
    """
    rows: dict[str, dict[Hashable, list[float]]] = defaultdict(lambda: defaultdict(list))
    mixed_sides = len({p.side for p in prompts}) > 1
    mixed_langs = len({p.lang for p in prompts}) > 1
    mixed_vocabularies = len({p.vocabulary for p in prompts}) > 1
    for scene, prompt, pictures in zip(scene_keys(prompts), prompts, readings, strict=True):
        if mixed_vocabularies:
            rows[f"scene, vocabulary {prompt.vocabulary}"][scene].append(pass_share(prompt, pictures))
        checks = [check(reading, prompt.expectation) for reading in pictures]
        for name in checks[0]:
            value = sum(c[name] for c in checks) / len(checks)
            rows[name][scene].append(value)
            if mixed_sides:
                rows[f"{name} ({prompt.side})"][scene].append(value)
            if mixed_langs:
                rows[f"{name} [{prompt.lang}]"][scene].append(value)
    return {name: share_interval([_mean(x) for x in scenes.values()]) for name, scenes in sorted(rows.items())}


def _task_score(scenes: Sequence[dict[str, list[float]]]) -> TaskScore:
    """scenes: language -> values of the scene's prompts in that language."""
    whole = share_interval([_mean([_mean(xs) for xs in by_lang.values()]) for by_lang in scenes])
    names = sorted({lang for by_lang in scenes for lang in by_lang})
    langs = {lang: share_interval([_mean(s[lang]) for s in scenes if lang in s]) for lang in names}
    gaps = [_mean(s["zh"]) - _mean(s["en"]) for s in scenes if {"en", "zh"} <= set(s)]
    return TaskScore(whole, langs, interval(gaps) if gaps else None)


def _mean(xs: Sequence[float]) -> float:
    return sum(xs) / len(xs)
