"""A suite's score by task, as GenEval counts (2310.11513): a picture passes or fails the task of its prompt.

What a prompt asks for besides its task (the place of "two cats in the snow") is not counted here; `suite.summarise`
reports it by kind of check.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from t2i.score.statistics import Interval, interval, share, t_quantile
from t2i.score.suite import Prompt, scene_keys
from t2i.world.reading import Reading, check

PASSES: dict[str, tuple[str, ...]] = {
    "single object": ("object",),
    "two objects": ("object",),
    "counting": ("count",),
    "colours": ("colour",),
    "position": ("object", "position"),
    "attribute binding": ("object", "binding"),
    "background": ("background",),
    "style": ("object",),
}
"""Task -> the checks of `reading.check` that must all hold. Of any other task: all that its prompt touches."""

SIX = ("single object", "two objects", "counting", "colours", "position", "attribute binding")
"""The tasks of GenEval, whose mean is its score."""


@dataclass(frozen=True)
class Score:
    """One task. whole: over scenes (a prompt and its translation are one scene and count once); langs: over the
    prompts of each language; gap: Chinese minus English over the scenes told in both, or None."""

    whole: Interval
    langs: dict[str, Interval]
    gap: Interval | None


def passes(prompt: Prompt, reading: Reading) -> bool:
    """Whether the picture does what the prompt's task is about."""
    verdicts = check(reading, prompt.expectation)
    wanted = PASSES.get(prompt.task, tuple(verdicts))
    return all(verdicts[name] for name in wanted if name in verdicts)


def sample(prompts: Sequence[Prompt], n: int) -> list[Prompt]:
    """About n prompts spread evenly over each task, at least one scene of each, translations kept together."""
    scenes: dict[str, dict[object, list[Prompt]]] = defaultdict(dict)
    for key, prompt in zip(scene_keys(prompts), prompts, strict=True):
        scenes[prompt.task].setdefault(key, []).append(prompt)
    share = min(1.0, n / len(prompts))
    out: list[Prompt] = []
    for told in scenes.values():
        groups = list(told.values())
        keep = max(1, round(share * len(groups)))
        out += [prompt for i in range(keep) for prompt in groups[i * len(groups) // keep]]
    return out


def by_task(prompts: Sequence[Prompt], readings: Iterable[Sequence[Reading]]) -> dict[str, Score]:
    """Task -> Score, in the order of the suite; `readings` holds each prompt's pictures in the order of `prompts`.

    A prompt's value is its share of passing pictures, a scene's the mean of its prompts'; intervals are over
    scenes, or over the prompts of one language.
    """
    values: dict[str, dict[object, dict[str, list[float]]]] = defaultdict(
        lambda: defaultdict(lambda: defaultdict(list))
    )
    for key, prompt, pictures in zip(scene_keys(prompts), prompts, readings, strict=True):
        share = sum(passes(prompt, reading) for reading in pictures) / len(pictures)
        values[prompt.task][key][prompt.lang].append(share)
    return {task: _score(list(scenes.values())) for task, scenes in values.items()}


def mean_of_six(table: dict[str, Score]) -> Interval | None:
    """GenEval's score: the mean of its six tasks with equal weight; None where one is missing."""
    if any(task not in table for task in SIX):
        return None
    parts = [table[task].whole for task in SIX]
    mean = sum(p.mean for p in parts) / len(parts)
    variance = sum(p.sd**2 / p.n for p in parts) / len(parts) ** 2
    if not math.isfinite(variance):
        return Interval(mean, 0.0, 1.0, sum(p.n for p in parts), math.inf)
    half = t_quantile(0.975, sum(p.n for p in parts) - len(parts)) * math.sqrt(variance)
    sd = math.sqrt(sum(p.sd**2 for p in parts) / len(parts))
    return Interval(mean, max(0.0, mean - half), min(1.0, mean + half), sum(p.n for p in parts), sd)


def _score(scenes: Sequence[dict[str, list[float]]]) -> Score:
    def mean(xs: Sequence[float]) -> float:
        return sum(xs) / len(xs)

    whole = share([mean([mean(xs) for xs in told.values()]) for told in scenes])
    langs = sorted({lang for told in scenes for lang in told})
    by_lang = {lang: share([mean(told[lang]) for told in scenes if lang in told]) for lang in langs}
    gaps = [mean(told["zh"]) - mean(told["en"]) for told in scenes if {"en", "zh"} <= set(told)]
    return Score(whole, by_lang, interval(gaps) if gaps else None)
