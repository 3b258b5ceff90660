"""Sweeps over guidance, steps and best-of around the bundle's defaults."""

from __future__ import annotations

import time
from typing import Any

from torch import Tensor

from t2i.lab.evaluate.suite import COLUMNS
from t2i.lab.evaluate.workbench import Workbench, interval_row
from t2i.sampling import SampleRequest, SamplingConfig, given
from t2i.score.statistics import share_interval
from t2i.score.task_scores import geneval_score, pass_share, task_scores
from t2i.world.reading import Reading

GUIDANCE = (1.0, 1.25, 1.5, 2.0, 3.0)
STEPS = (2, 4, 6, 8, 12, 16)
BEST_OF = (1, 2, 4)


def sweeps(bench: Workbench) -> dict[str, Any]:
    """One setting at a time, all others at the bundle's defaults; pictures of the base's size, one per prompt."""
    prompts = bench.suite(bench.few)
    manifest, pipeline = bench.pipeline.manifest, bench.pipeline
    base, priors = pipeline.base[0], manifest.of_kind("prior")
    base_size = SampleRequest(size=manifest.sizes[0])
    rows: list[tuple[str, float, float, SampleRequest]] = []  # setting, its value, its default, the request
    stages = [base, *priors]
    for entry in stages:
        guidance, steps = given(entry.defaults.guidance, 1.0), given(entry.defaults.steps, 8)
        for g in sorted({*GUIDANCE, guidance}):
            rows.append(
                (f"{entry.kind} guidance", g, guidance, base_size.override(entry.name, SamplingConfig(guidance=g)))
            )
        for n in sorted({*STEPS, steps}):
            rows.append((f"{entry.kind} steps", n, steps, base_size.override(entry.name, SamplingConfig(steps=n))))
    for entry in priors:
        best_of = given(entry.defaults.best_of, 1)
        for k in sorted({*BEST_OF, best_of}):
            rows.append(("prior best_of", k, best_of, base_size.override(entry.name, SamplingConfig(best_of=k))))
    out: dict[str, list[dict[str, Any]]] = {}
    shown: dict[str, list[tuple[float, list[Tensor]]]] = {}
    stride = max(1, len(prompts) // COLUMNS)
    at_defaults: tuple[list[list[Reading]], list[Tensor], float] | None = None
    for dial, value, default, settings in rows:
        bench.say(f"{dial} {value:g}")
        if value == default and at_defaults is not None:
            readings, kept, seconds = at_defaults  # every series has the defaults; they are drawn once
        else:
            began = time.monotonic()
            readings, kept = bench.look(prompts, 1, settings, keep=manifest.sizes[0])
            seconds = (time.monotonic() - began) / len(prompts)
            if value == default:
                at_defaults = readings, kept, seconds
        values = [pass_share(p, r) for p, r in zip(prompts, readings, strict=True)]
        six = geneval_score(task_scores(prompts, readings))
        out.setdefault(dial, []).append({
            "value": value, "default": value == default, "all prompts": interval_row(share_interval(values)),
            "mean of the six": interval_row(six) if six else None, "seconds": round(seconds, 3),
        })  # fmt: skip
        shown.setdefault(dial, []).append((value, kept[::stride][:COLUMNS]))
    for dial, series in shown.items():
        words = [p.text for p in prompts[::stride][:COLUMNS]]
        pictures = [picture for _, row_of in series for picture in row_of]
        labels = [[f"{value:g}", text] for value, row_of in series for text, _ in zip(words, row_of, strict=True)]
        columns = len(series[0][1])
        bench.sheet(f"sweep-{dial.replace(' ', '-')}", pictures, labels, columns, f"{manifest.name} · {dial}")
    return {"dials": out, "prompts": len(prompts)}
