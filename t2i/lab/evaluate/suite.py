"""The suite of scenes: drawn by the model, and drawn by the world itself."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from t2i.lab.evaluate.workbench import Workbench, interval_row
from t2i.score.statistics import interval, share_interval
from t2i.score.suite import SuitePrompt
from t2i.score.task_scores import TaskScore, geneval_score, pass_share, passes, task_scores
from t2i.world.reading import Reading

COLUMNS = 12  # pictures side by side on a sheet
SHEET_SIDE = 96  # pixels a side of a picture on a sheet


def suite(bench: Workbench) -> dict[str, Any]:
    """The suite drawn with the bundle's defaults, by the whole cascade."""
    prompts = bench.suite(bench.prompts)
    readings, kept = bench.look(prompts, bench.n, keep=SHEET_SIDE)
    task_sheet(bench, "suite", prompts, readings, kept)
    return suite_summary(prompts, readings)


def renders(bench: Workbench) -> dict[str, Any]:
    """The scenes of the suite rendered by the world: what a perfect model would score with this judge."""
    prompts = [p for p in bench.suite(bench.prompts) if p.lang == "en"]
    scenes = [bench.scene_of(p.expectation, i, bench.seed + k) for i, p in enumerate(prompts) for k in range(bench.n)]
    readings: list[Reading] = []
    kept: list[Tensor] = []
    for start in range(0, len(scenes), 128):
        pixels = bench.render(scenes[start : start + 128], 128)
        readings += bench.judge.read(pixels)
        kept += [F.interpolate(p[None], (SHEET_SIDE, SHEET_SIDE), mode="area")[0]
                 for i, p in enumerate(pixels, start) if i % bench.n == 0]  # fmt: skip
    grouped = [readings[i : i + bench.n] for i in range(0, len(readings), bench.n)]
    task_sheet(bench, "renders", prompts, grouped, kept)
    return suite_summary(prompts, grouped)


def suite_summary(prompts: Sequence[SuitePrompt], readings: Sequence[Sequence[Reading]]) -> dict[str, Any]:
    """The scores by task, GenEval's mean of six tasks, and Chinese minus English over all tasks.

    readings: the pictures of each prompt, in the order of `prompts`. "parts": the same for each vocabulary, if the
    prompts are of more than one.
    """
    parts = {}
    if len(names := dict.fromkeys(p.vocabulary for p in prompts)) > 1:
        for name in names:
            chosen = [i for i, p in enumerate(prompts) if p.vocabulary == name]
            parts[name] = suite_summary([prompts[i] for i in chosen], [readings[i] for i in chosen])
    table = task_scores(prompts, readings)
    six = geneval_score(table)
    # the suite lists the English and the Chinese prompt of one scene after the other
    shares = {
        lang: [pass_share(p, r) for p, r in zip(prompts, readings, strict=True) if p.lang == lang]
        for lang in ("en", "zh")
    }
    gap = None
    if shares["en"] and len(shares["en"]) == len(shares["zh"]):
        gap = interval_row(interval([zh - en for en, zh in zip(shares["en"], shares["zh"], strict=True)]))
    everything = interval_row(share_interval([pass_share(p, r) for p, r in zip(prompts, readings, strict=True)]))
    return {
        "tasks": task_table(table),
        "mean of the six": interval_row(six) if six else None,
        "all prompts": everything,
        "zh - en": gap,
        "prompts": len(prompts),
        "pictures": sum(map(len, readings)),
        **({"parts": parts} if parts else {}),
    }


def task_table(table: dict[str, TaskScore]) -> dict[str, Any]:
    """Scores by task as JSON."""
    out: dict[str, Any] = {}
    for task, score in table.items():
        langs = {lang: interval_row(m) for lang, m in score.langs.items()}
        out[task] = {**interval_row(score.whole), **langs, "zh - en": interval_row(score.gap) if score.gap else None}
    return out


def task_sheet(
    bench: Workbench,
    name: str,
    prompts: Sequence[SuitePrompt],
    readings: Sequence[Sequence[Reading]],
    pictures: list[Tensor],
) -> None:
    """A contact sheet with a row per task. Labels say how many pictures of a prompt pass.

    pictures: one of each prompt, (3, S, S).
    """
    tasks = [list(rows) for _, rows in groupby(range(len(prompts)), key=lambda i: prompts[i].task)]
    columns = min(COLUMNS, max(map(len, tasks)))
    shown: list[int] = []
    for every in tasks:
        keep = min(columns, len(every))
        # spread over the task, English and Chinese in turn
        shown += [every[i * len(every) // keep + i % 2 * (len(every) > 2 * keep)] for i in range(keep)]
        shown += [-1] * (columns - keep)
    blank = pictures[0] * 0 + 1
    labels = []
    for i in shown:
        good = sum(passes(prompts[i], r) for r in readings[i]) if i >= 0 else 0
        labels.append([f"{good}/{len(readings[i])} {prompts[i].text}", prompts[i].task] if i >= 0 else [])
    cells = [pictures[i] if i >= 0 else blank for i in shown]
    bench.sheet(name, cells, labels, columns, f"{bench.pipeline.manifest.name} · {name}")
