"""The parts of an evaluation that the judge decides: the suite, its ceiling, what the prior is worth, the sweeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from itertools import groupby
from typing import Any

import torch.nn.functional as F
from torch import Tensor

from t2i.lab.bench import Bench, row
from t2i.pipeline import Conditioning
from t2i.sampling import SampleRequest, SamplingConfig, given
from t2i.score.statistics import interval, share_interval
from t2i.score.suite import SuitePrompt
from t2i.score.task_scores import TaskScore, geneval_score, passes, task_scores
from t2i.world.reading import Reading

Draw = Callable[[Sequence[str], Sequence[int]], Tensor]
COLUMNS = 12  # pictures side by side on a sheet
THUMB = 96  # pixels a side of a picture on a sheet
GUIDANCE = (1.0, 1.25, 1.5, 2.0, 3.0)
STEPS = (2, 4, 6, 8, 12, 16)
BEST_OF = (1, 2, 4)


def tasks_of(table: dict[str, TaskScore]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for task, score in table.items():
        langs = {lang: row(m) for lang, m in score.langs.items()}
        out[task] = {**row(score.whole), **langs, "zh - en": row(score.gap) if score.gap else None}
    return out


def summary(prompts: Sequence[SuitePrompt], readings: Sequence[Sequence[Reading]]) -> dict[str, Any]:
    """All that is reported of a suite: its tasks, the mean of the six, Chinese against English over all tasks."""
    table = task_scores(prompts, readings)
    six = geneval_score(table)
    # one scene after the other: its English and its Chinese prompt
    shares = {
        lang: [_passed(p, r) for p, r in zip(prompts, readings, strict=True) if p.lang == lang] for lang in ("en", "zh")
    }
    gap = None
    if shares["en"] and len(shares["en"]) == len(shares["zh"]):
        gap = row(interval([zh - en for en, zh in zip(shares["en"], shares["zh"], strict=True)]))
    everything = row(share_interval([_passed(p, r) for p, r in zip(prompts, readings, strict=True)]))
    return {
        "tasks": tasks_of(table),
        "mean of the six": row(six) if six else None,
        "all prompts": everything,
        "zh - en": gap,
        "prompts": len(prompts),
        "pictures": sum(map(len, readings)),
    }


def suite(bench: Bench) -> dict[str, Any]:
    """The suite by the bundle's defaults, drawn to the end of the cascade."""
    prompts = bench.suite(bench.prompts)
    readings, kept = bench.look(prompts, bench.n, keep=THUMB)
    _sheet(bench, "suite", prompts, readings, kept)
    return summary(prompts, readings)


def renders(bench: Bench) -> dict[str, Any]:
    """The scenes of the suite drawn by the world: what a perfect model would score with this judge."""
    prompts = [p for p in bench.suite(bench.prompts) if p.lang == "en"]
    scenes = [bench.scene_of(p.expectation, i, bench.seed + k) for i, p in enumerate(prompts) for k in range(bench.n)]
    readings: list[Reading] = []
    kept: list[Tensor] = []
    for start in range(0, len(scenes), 128):
        pixels = bench.render(scenes[start : start + 128], 128)
        readings += bench.judge.read(pixels)
        kept += [F.interpolate(p[None], (THUMB, THUMB), mode="area")[0]
                 for i, p in enumerate(pixels, start) if i % bench.n == 0]  # fmt: skip
    grouped = [readings[i : i + bench.n] for i in range(0, len(readings), bench.n)]
    _sheet(bench, "renders", prompts, grouped, kept)
    return summary(prompts, grouped)


def prior_ablation(bench: Bench) -> dict[str, Any]:
    """The suite with the prior's embedding, with a true one or the text's own in its place, and with the text alone.

    DALL-E 2 (2204.06125, section 5.1, figure 8) in our terms: the same seeds and the same base throughout. The true
    embedding, of a render of what was asked for, is what a perfect prior could reach with this base.
    """
    pipeline, prompts = bench.pipeline, bench.suite(bench.few)
    base = pipeline.base[1].config
    ways: dict[str, Draw | None] = {}
    if pipeline.manifest.of_kind("prior"):
        ways["prior"] = None

    def drawn(with_text: bool, with_z: bool) -> Draw:
        def draw(texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
            text = pipeline.encode(texts)[0]
            z = F.normalize(text.pooled, dim=-1) if with_z else None
            return pipeline.draw(Conditioning(text if with_text else None, z), seeds, SampleRequest()).images

        return draw

    asked = {p.text: (i, p.expectation) for i, p in enumerate(prompts)}

    def from_renders(texts: Sequence[str], seeds: Sequence[int]) -> Tensor:
        scenes = [bench.scene_of(asked[text][1], asked[text][0], seed) for text, seed in zip(texts, seeds, strict=True)]
        z = bench.z_image(bench.render(scenes, 128))
        text = pipeline.encode(texts)[0]
        return pipeline.draw(Conditioning(text, z.to(text.pooled.device)), seeds, SampleRequest()).images

    if base.cond_dim:
        ways["embedding of a render in its place"] = from_renders
        ways["text embedding in its place"] = drawn(with_text=True, with_z=True)
    if base.text_dim:
        ways["text tokens alone"] = drawn(with_text=True, with_z=False)
    values, out = {}, {}
    for name, draw in ways.items():
        readings, kept = bench.look(prompts, min(2, bench.n), draw=draw, keep=THUMB)
        values[name] = [_passed(p, r) for p, r in zip(prompts, readings, strict=True)]
        out[name] = {
            "all prompts": row(share_interval(values[name])),
            "tasks": tasks_of(task_scores(prompts, readings)),
        }
        if name != "prior" and "prior" in values:
            change = [a - b for a, b in zip(values["prior"], values[name], strict=True)]
            out[name]["gain of the prior"] = row(interval(change))
        _sheet(bench, f"prior-{name.replace(' ', '-')}", prompts, readings, kept)
    return {"ablation": out}


def sweeps(bench: Bench) -> dict[str, Any]:
    """One dial at a time around the bundle's defaults, the others left alone; pictures of the base's size."""
    prompts = bench.suite(bench.few)
    manifest, pipeline = bench.pipeline.manifest, bench.pipeline
    base, priors = pipeline.base[0], manifest.of_kind("prior")
    plain = SampleRequest(size=manifest.sizes[0])
    rows: list[tuple[str, float, float, SampleRequest]] = []  # dial, value, default, settings
    stages = [base, *priors]
    for entry in stages:
        guidance, steps = given(entry.defaults.guidance, 1.0), given(entry.defaults.steps, 8)
        for g in sorted({*GUIDANCE, guidance}):
            rows.append((f"{entry.kind} guidance", g, guidance, plain.override(entry.name, SamplingConfig(guidance=g))))
        for n in sorted({*STEPS, steps}):
            rows.append((f"{entry.kind} steps", n, steps, plain.override(entry.name, SamplingConfig(steps=n))))
    for entry in priors:
        best_of = given(entry.defaults.best_of, 1)
        for k in sorted({*BEST_OF, best_of}):
            rows.append(("prior best_of", k, best_of, plain.override(entry.name, SamplingConfig(best_of=k))))
    out: dict[str, list[dict[str, Any]]] = {}
    shown: dict[str, list[tuple[float, list[Tensor]]]] = {}
    stride = max(1, len(prompts) // COLUMNS)
    usual_look: tuple[list[list[Reading]], list[Tensor], float] | None = None
    for dial, value, default, settings in rows:
        bench.say(f"{dial} {value:g}")
        if value == default and usual_look is not None:
            readings, kept, seconds = usual_look  # the defaults are in every series and are drawn once
        else:
            began = time.monotonic()
            readings, kept = bench.look(prompts, 1, settings, keep=manifest.sizes[0])
            seconds = (time.monotonic() - began) / len(prompts)
            if value == default:
                usual_look = readings, kept, seconds
        values = [_passed(p, r) for p, r in zip(prompts, readings, strict=True)]
        six = geneval_score(task_scores(prompts, readings))
        out.setdefault(dial, []).append({
            "value": value, "default": value == default, "all prompts": row(share_interval(values)),
            "mean of the six": row(six) if six else None, "seconds": round(seconds, 3),
        })  # fmt: skip
        shown.setdefault(dial, []).append((value, kept[::stride][:COLUMNS]))
    for dial, series in shown.items():
        words = [p.text for p in prompts[::stride][:COLUMNS]]
        pictures = [picture for _, row_of in series for picture in row_of]
        labels = [[f"{value:g}", text] for value, row_of in series for text, _ in zip(words, row_of, strict=True)]
        columns = len(series[0][1])
        bench.sheet(f"sweep-{dial.replace(' ', '-')}", pictures, labels, columns, f"{manifest.name} · {dial}")
    return {"dials": out, "prompts": len(prompts)}


def _passed(prompt: SuitePrompt, readings: Sequence[Reading]) -> float:
    return sum(passes(prompt, reading) for reading in readings) / len(readings)


def _sheet(
    bench: Bench,
    name: str,
    prompts: Sequence[SuitePrompt],
    readings: Sequence[Sequence[Reading]],
    pictures: list[Tensor],
) -> None:
    """One sheet: a row of each task, its first prompts, marked with how many of their pictures pass."""
    tasks = [list(rows) for _, rows in groupby(range(len(prompts)), key=lambda i: prompts[i].task)]
    columns = min(COLUMNS, max(map(len, tasks)))
    shown: list[int] = []
    for every in tasks:
        keep = min(columns, len(every))
        # English and Chinese in turn, spread over the task
        shown += [every[i * len(every) // keep + i % 2 * (len(every) > 2 * keep)] for i in range(keep)]
        shown += [-1] * (columns - keep)
    blank = pictures[0] * 0 + 1
    labels = []
    for i in shown:
        good = sum(passes(prompts[i], r) for r in readings[i]) if i >= 0 else 0
        labels.append([f"{good}/{len(readings[i])} {prompts[i].text}", prompts[i].task] if i >= 0 else [])
    cells = [pictures[i] if i >= 0 else blank for i in shown]
    bench.sheet(name, cells, labels, columns, f"{bench.pipeline.manifest.name} · {name}")
