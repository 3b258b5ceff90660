"""`t2i score`: how often a model draws what a suite of prompts asks for."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI

if TYPE_CHECKING:
    from t2i.score.reading import Reading

EPILOG = """Examples:

\b
  t2i score --suite prompts.jsonl -n 4
  t2i score --suite prompts.jsonl --model my-model --json
"""


def score(
    ctx: typer.Context,
    suite: Annotated[Path, typer.Option(metavar="FILE", help="Prompts with what to see, one JSON object a line.")],
    n: Annotated[int, typer.Option("--count", "-n", min=1, metavar="N", help="Pictures of each prompt.")] = 4,
    seed: Annotated[int, typer.Option(min=0, help="Picture i of every prompt has seed S+i.")] = 0,
    model: opt.Model = "small",
    batch: Annotated[int, typer.Option(min=1, help="Pictures drawn together.")] = 32,
    device: opt.Device = "auto",
    sheet: Annotated[Path | None, typer.Option(metavar="FILE", help="Also write all pictures as one.")] = None,
    offline: opt.Offline = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Draw a suite's prompts, let the shipped judge look, and print each task's share with its 95% interval."""
    ui: UI = ctx.obj
    opt.environment(offline, False)
    from t2i.score.suite import read_suite, summarise
    from t2i.store.registry import resolve, resolve_judge

    prompts = read_suite(suite)
    bundle, judge_folder = resolve(model), resolve_judge()

    import torch

    from t2i.images import contact_sheet
    from t2i.pipeline import Pipeline, SampleSettings
    from t2i.score.judge import Judge

    pipeline = Pipeline.load(bundle, device=opt.pick_device(device))
    judge = Judge.load(judge_folder)
    # The judge looks at 64 pixels; a cascade is drawn to the end, so that its upsamplers are judged too.
    jobs = [(prompt.text, seed + i) for prompt in prompts for i in range(n)]
    readings: list[Reading] = []
    thumbs: list[torch.Tensor] = []
    for start in range(0, len(jobs), batch):
        part = jobs[start : start + batch]
        images = pipeline.sample([text for text, _ in part], [s for _, s in part], SampleSettings()).images
        readings += judge.read(images)
        if sheet is not None:
            thumbs.append(torch.nn.functional.interpolate(images, size=(96, 96), mode="area"))
        ui.note(f"{len(readings)} of {len(jobs)} pictures")
    grouped = [readings[i : i + n] for i in range(0, len(readings), n)]
    table = summarise(prompts, grouped)
    if sheet is not None:
        contact_sheet(torch.cat(thumbs)).save(sheet)
    if ui.json:
        tasks = {task: asdict(mean) for task, mean in table.items()}
        name = pipeline.manifest.name
        ui.record({"suite": str(suite), "model": name, "pictures": len(jobs), "tasks": tasks})
        return
    rows = [[task, f"{m.mean:.3f}", f"{m.low:.3f} to {m.high:.3f}", str(m.prompts)] for task, m in table.items()]
    ui.table("score", ["task", "share", "95% interval", "prompts"], rows)
