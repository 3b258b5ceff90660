"""`t2i sample`: pictures from prompts."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.panels import Panel
from t2i.cli.ui import UI
from t2i.errors import GateError, UsageError
from t2i.jobs.parsing import parse_seeds
from t2i.prompts import check_prompt
from t2i.store.lora import Lora, read_lora

EPILOG = """Examples:

\b
  t2i sample "a cat in the snow" -n 4
  t2i sample "一只猫在雪地里玩耍" --seed 7 --show
  t2i sample "a red apple" --steps base=8,up=2 --guidance 2
  t2i sample -f prompts.txt -o out/    # one prompt a line; again to resume
  t2i sample -f jobs.jsonl --json > done.jsonl
  t2i sample "a dog" -o "{slug}/{index:03}.png" --seed 7..14
  t2i sample "a {red|blue} {apple|cat}" --seed 1,2,3 --grid
  t2i sample "a cat" --seed 1..4 --sweep guidance=1,2,4
  t2i sample "a castle" --init sketch.png --strength 0.8
  t2i sample --replay out/a-cat-7.png  # identical, equal or different
  generate-prompts | t2i sample -f - --json > done.jsonl
  t2i sample -f prompts.txt --shard 1/4  # a quarter, for a job array
  t2i sample -f prompts.txt --ray 4      # four workers, or a Ray cluster
  t2i sample --interactive --size 64   # a line, a picture; /help

\b
A line of jobs.jsonl: {"prompt": "a cat", "seed": 7, "n": 4, "steps": 8}
"""


LINES = {"prompt": "a prompt", "file": "a prompt file", "init": "--init", "sweep": "--sweep", "grid": "--grid"}
"""parameter -> what takes the place of the lines of --interactive."""

BY_ONE = {
    "shard": "--shard", "init": "--init", "sweep": "--sweep", "show": "--show", "preview": "--preview",
    "sign_cert": "--sign-cert", "sign_key": "--sign-key", "deterministic": "--deterministic",
}  # fmt: skip
"""parameter -> what the workers of --ray do not do."""


def sample(
    ctx: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="What to draw, in English or Chinese; {a|b} draws both.", show_default=False
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE|-", help="Prompts, one a line, or jobs in JSON lines.")
    ] = None,
    interactive: Annotated[
        bool, typer.Option("--interactive", "-i", help="A line, a picture; the model stays loaded.")
    ] = False,
    n: opt.PromptCount = None,
    seed: opt.Seeds = None,
    size: opt.Size = None,
    model: opt.Model = "small",
    output: opt.Output = "out",
    steps: opt.Steps = None,
    guidance: opt.Guidance = None,
    quality: Annotated[
        bool,
        typer.Option(
            "--quality", help="Take more steps where --steps says none: slower.", rich_help_panel=Panel.PICTURE
        ),
    ] = False,
    negative: opt.Negative = "",
    sampler: opt.Sampler = None,
    lora: opt.Loras = None,
    threshold: opt.Thresholds = None,
    sr_noise: opt.Noise = None,
    temperature: opt.Temperature = None,
    top_k: opt.TopK = None,
    top_p: opt.TopP = None,
    prior: Annotated[
        str | None,
        typer.Option(metavar="diffusion|none", help="Whether to use the prior.", rich_help_panel=Panel.PICTURE),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="Start from a picture: a sketch, another style.",
            show_default=False,
            rich_help_panel=Panel.FROM_PICTURE,
        ),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="How far to go from it.  [default: 0.6]", rich_help_panel=Panel.FROM_PICTURE),
    ] = None,
    replay: Annotated[
        Path | None,
        typer.Option(
            metavar="IMAGE",
            help="Draw a picture again and compare.",
            show_default=False,
            rich_help_panel=Panel.FROM_PICTURE,
        ),
    ] = None,
    from_: Annotated[
        list[Path] | None,
        typer.Option(
            "--from",
            metavar="IMAGE",
            help="Of --replay: what it was made from.",
            show_default=False,
            rich_help_panel=Panel.FROM_PICTURE,
        ),
    ] = None,
    rerank: Annotated[
        int | None,
        typer.Option(
            metavar="K",
            min=2,
            max=1000,
            help="Draw K, keep the best by CLIP.",
            rich_help_panel=Panel.CHOICE,
        ),
    ] = None,
    prior_best_of: Annotated[
        int | None,
        typer.Option(metavar="N", min=1, max=1000, help="Keep the best of N embeddings.", rich_help_panel=Panel.CHOICE),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(
            metavar="SETTING=A,B,…",
            help="Draw with each value, and a labelled sheet.",
            rich_help_panel=Panel.EXTRA,
        ),
    ] = None,
    grid: opt.Grid = False,
    show: opt.Show = False,
    preview: opt.Preview = False,
    keep_stages: opt.KeepStages = False,
    overwrite: opt.Overwrite = False,
    no_prompt_metadata: opt.NoPromptMetadata = False,
    sign_cert: opt.SignCert = None,
    sign_key: opt.SignKey = None,
    batch: opt.Batch = 8,
    shard: opt.ShardText = None,
    ray: Annotated[
        str | None,
        typer.Option(
            metavar="N|ADDRESS",
            help="Draw by N workers, or by a Ray cluster.",
            show_default=False,
            rich_help_panel=Panel.MACHINE,
        ),
    ] = None,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    quantize: opt.Quantize = None,
    memory: opt.Memory = "auto",
    compile: opt.Compile = False,
    offline: opt.Offline = False,
    deterministic: opt.Deterministic = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Draw pictures from a prompt, or from a file of prompts.

    The path of each picture goes to stdout, one a line. A picture that exists with the same weights, prompt, settings
    and seed is not drawn again; its path is printed all the same. Each output folder gets a manifest.jsonl with a line
    for each picture.
    """
    ui: UI = ctx.obj
    from t2i.cli.show import Screen
    from t2i.jobs.cluster import check_workers, draw_by_ray
    from t2i.jobs.prompt_file import PromptLine, read_lines
    from t2i.jobs.sample import SampleOrder, SamplePlan, WarmEngine
    from t2i.jobs.sample_edit import SampleEdit
    from t2i.jobs.settings import check_options
    from t2i.jobs.sweep import parse_sweep
    from t2i.serve.client import draw_by_server
    from t2i.store.models import find_model

    opt.check_run(n, device)
    if replay is not None:
        opt.check_alone(
            ctx, "--replay", "replay", "from_", "prompt", "model", "lora", "device", "offline", "deterministic",
            "json", "quiet", "debug",
        )  # fmt: skip
        opt.environment(offline, deterministic)
        named = model if opt.is_given(ctx, "model") else None
        _replay(ui, replay, prompt, named, device, from_ or [], [read_lora(text) for text in lora or []])
        return
    if from_:
        raise UsageError("--from needs --replay.", "To start from a picture, write --init IMAGE.")
    if init is not None and (file is not None or sweep):
        other = "a prompt file" if file is not None else "--sweep"
        raise UsageError(f"--init and {other} do not go together.", "Run it once for each.")
    edit = SampleEdit.read(ui, init=init, strength=strength, rerank=rerank, prior=prior, best_of=prior_best_of)
    if interactive:
        opt.check_without(ctx, "--interactive", LINES)
    elif (prompt is None) == (file is None):
        if prompt is not None:
            raise UsageError("there is a prompt and a prompt file.", "Leave one of them out.")
        raise UsageError("there is no prompt.", 'Write t2i sample "a cat in the snow", or t2i sample -f prompts.txt')
    # without --seed the seed of a line of a file follows from its text
    seeds, drawn_seed = opt.read_seeds(seed, n) if prompt is not None else (parse_seeds(seed, n), None)
    share = opt.read_shard(ctx, shard, drawn_seed)
    if ray is not None:
        check_workers(ray)
        opt.check_parted(ctx, "--ray")
        opt.check_without(ctx, "--ray", BY_ONE)
    options = opt.written(
        size=size, steps=steps, guidance=guidance, sampler=sampler, threshold=threshold, sr_noise=sr_noise,
        temperature=temperature, top_k=top_k, top_p=top_p, negative=negative,
        quality="yes" if quality else None,
    )  # fmt: skip
    check_options(options)
    parse_sweep(sweep or [])
    if interactive:
        lines = []  # they come one after the other
    else:
        lines = [PromptLine(check_prompt(prompt))] if prompt is not None else read_lines(file or "-")
    signer = edit.signer(opt.read_signer(sign_cert, sign_key))
    loading = opt.read_loading(dtype, lora, quantize, memory, compile)

    stored = find_model(model)
    order = SampleOrder(
        tuple(lines), n, tuple(seeds) if seeds else None, options, edit, tuple(sweep or []), output, batch,
        grid, keep_stages, overwrite, no_prompt_metadata, share,
    )  # fmt: skip
    plan, warm = SamplePlan.of(order, stored, loading), WarmEngine()
    opt.begin(ui, plan.paths, plan.jobs, drawn_seed, offline, deterministic, device, plan.kept)
    if not interactive and file != "-":
        opt.can_go_on(ui, overwrite, drawn_seed)
    ui.screen = Screen.wanted(ui, show or (interactive and sys.stderr.isatty()), preview)

    if ray is not None:
        draw_by_ray(ui, plan, ray, device, model, loading)
        return

    def draw(plan: SamplePlan) -> None:
        told: int | None = 0
        if init is None and signer is None and not preview and not deterministic:  # what no server does
            told = draw_by_server(ui, plan, device, loading)
        if told is not None:
            plan.draw(ui, device, signer=signer, warm=warm, told=told)

    if interactive:
        from t2i.cli.interactive import Dials, converse

        dials = Dials(n, seed, {name: text for name, text in options.items() if text})
        converse(ui, dials, order, lambda line: SamplePlan.of(line, stored, loading).check(), draw)
    else:
        draw(plan)


def _replay(
    ui: UI, path: Path, prompt: str | None, model: str | None, device: str, sources: Sequence[Path],
    loras: Sequence[Lora],
) -> None:  # fmt: skip
    """Raises GateError for a picture that comes out different."""
    from t2i.jobs.replay import replay

    result = replay(ui, path, prompt, model, device, sources, loras)
    most, mean, share = result.max_difference, result.mean_difference, result.differing
    if ui.json:
        table = {"replayed": str(path), "verdict": result.verdict, "identical": result.identical}
        table |= {"same_weights": result.same_weights}
        ui.record({**table, "max_difference": most, "mean_difference": round(mean, 4), "differing": round(share, 6)})
    elif result.identical:
        ui.line(f"{path}: identical")
    elif result.verdict == "equal":
        ui.line(f"{path}: equal to a level of 255; {share:.1%} of its values differ by one")
    else:
        ui.line(f"{path}: different, by {mean:.2f} of 255 on average, by {most} at most, in {share:.1%} of its values")
    if result.verdict == "different":
        reason = "the same weights" if result.same_weights else "other weights"
        raise GateError(f"{path} came out different, from {reason}.", "`t2i info` shows what it was made with.")
