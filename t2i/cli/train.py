"""`t2i train`: a model from pictures and captions."""

from __future__ import annotations

import os
import signal
from pathlib import Path
from typing import Annotated, Any

import typer

from t2i.cli import options as opt
from t2i.cli.panels import Panel
from t2i.cli.streams import drop_stdout
from t2i.cli.train_output import finish, preparing, watching
from t2i.cli.ui import UI
from t2i.errors import UsageError, nearest
from t2i.jobs.device import check_device, pick_device
from t2i.jobs.output_paths import check_writable
from t2i.prompts import MAX_SEED
from t2i.train.overrides import parse_overrides

EPILOG = """Examples:

\b
  t2i train --recipe tiny --out my-model      # drawn scenes, minutes on a CPU
  t2i sample "a red circle" --model my-model
  t2i train --recipe imagen-tiny --out model  # a language model for CLIP
  t2i train --recipe dalle-tiny --out my-dalle  # a VAE, and its tokens
  t2i train --recipe gan-tiny --out my-gan    # generator and discriminator
  t2i train base --recipe first --sprites sprites/ --out my-model --resume
  t2i train clip --recipe first --sprites sprites/ --out model --start small
  t2i train --recipe tiny --set base.lr=1e-4 --dry-run
  accelerate launch --multi_gpu -m t2i train --recipe small --sprites sprites/
  torchrun --nproc-per-node 2 -m t2i train --out my-model
  t2i train --recipe tiny --data photos/ --out my-photos
  t2i train --recipe tiny --data "shards/{0000..0003}.tar" --out my-shards
  t2i train lora --data my-photos/ --token "<mine>" -o mine.safetensors
  t2i train student --start small --sprites sprites/ --out my-student
"""
STAGES = ("all", "clip", "text", "vae", "dalle", "gan", "prior", "base", "upsampler256", "upsampler1024")
LORA, STUDENT = "lora", "student"


def launched() -> int:
    """How many processes `accelerate launch` or `torchrun` has started to train together; 1 where neither did."""
    text = os.environ.get("WORLD_SIZE", "1")
    return int(text) if text.isascii() and text.isdigit() else 1


def train(
    ctx: typer.Context,
    stage: Annotated[str, typer.Argument(metavar="STAGE", help=f"{', '.join(STAGES)}, lora or student.")] = "all",
    recipe: Annotated[str, typer.Option(metavar="NAME|FILE", help="The recipe.")] = "tiny",
    data: Annotated[
        str, typer.Option(metavar="scenes|DIR|SHARDS", help="Pictures and captions; scenes are drawn.")
    ] = "scenes",
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FOLDER", help="The model to write, a folder of its own.")
    ] = Path("my-model"),
    resume: Annotated[bool, typer.Option("--resume", help="Go on from the last checkpoint in --out.")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show sizes and time; train nothing.")] = False,
    steps: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=1,
            max=1_000_000_000,
            help="Steps, instead of the recipe's.",
            rich_help_panel=Panel.TRAINING,
        ),
    ] = None,
    seed: Annotated[
        int | None,
        typer.Option(
            metavar="S",
            min=0,
            max=MAX_SEED,
            help="Seed, instead of the recipe's.",
            rich_help_panel=Panel.TRAINING,
        ),
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option(
            "--set", metavar="KEY=VALUE", help="Change the recipe, as in base.lr=1e-4.", rich_help_panel=Panel.TRAINING
        ),
    ] = None,
    start: Annotated[
        str | None,
        typer.Option(
            metavar="MODEL",
            help="Start from the weights of a model.",
            show_default=False,
            rich_help_panel=Panel.TRAINING,
        ),
    ] = None,
    sprites: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="The sprite library for scenes.", rich_help_panel=Panel.TRAINING),
    ] = None,
    token: Annotated[
        str | None,
        typer.Option(
            metavar="<WORD>",
            help="Of lora: what prompts call your thing.",
            show_default=False,
            rich_help_panel=Panel.TRAINING,
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|FOLDER",
            help="Of lora: the model that learns it.  [default: small]",
            show_default=False,
            rich_help_panel=Panel.TRAINING,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="N",
            min=0,
            max=1024,
            help="Processes that draw or read pictures ahead.  [default: 0; with a GPU one a processor, but for one]",
            show_default=False,
            rich_help_panel=Panel.TRAINING,
        ),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Train anew a stage that --out holds.", rich_help_panel=Panel.TRAINING)
    ] = False,
    device: opt.Device = "auto",
    offline: opt.Offline = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Train one stage of a model, or all of them, and write a bundle that `t2i sample --model` takes. Or teach a model
    your own thing from a few pictures: `lora` writes a file that `--lora` takes, beside --model. Or make a model
    faster: `student` writes one that draws like --start in half of the work."""
    ui: UI = ctx.obj
    if stage not in (*STAGES, LORA, STUDENT):
        near = nearest(stage, (*STAGES, LORA, STUDENT), 1)
        hint = f"Did you mean {near[0]}?" if near else f"Stages are {', '.join(STAGES)}, lora or student."
        raise UsageError(f"there is no stage {stage!r}.", hint)
    overrides = set_ or []
    parse_overrides(overrides)  # a mistake is told before torch is imported
    check_device(device)
    ranks = launched()
    if ranks > 1 and (stage in (LORA, STUDENT) or dry_run):
        what = stage if stage in (LORA, STUDENT) else "--dry-run"
        raise UsageError(f"t2i train {what} is one process, and {ranks} were launched.", "Run it without a launcher.")
    if stage == LORA:
        opt.check_alone(
            ctx, "lora", "stage", "data", "token", "model", "out", "resume", "dry_run", "steps", "seed", "set_",
            "overwrite", "device", "offline", "json", "quiet", "debug",
        )  # fmt: skip
        if data == "scenes" or token is None:
            lacks, like = ("--data", "my-photos/") if data == "scenes" else ("--token", '"<mine>"')
            raise UsageError(f"t2i train lora needs {lacks}.", f"Write {lacks} {like}")
        out = out if opt.is_given(ctx, "out") else Path("mine.safetensors")
        _lora(
            ui, Path(data), token, model or "small", out, overrides, seed=seed or 0, steps=steps, resume=resume,
            overwrite=overwrite, dry_run=dry_run, device=device, offline=offline,
        )  # fmt: skip
        return
    for name, given in (("--token", token), ("--model", model)):
        if given is not None:
            raise UsageError(f"{name} is for t2i train lora.", "To start from a model's weights, write --start MODEL.")
    if stage == STUDENT:
        if start is None:
            raise UsageError("t2i train student needs --start, its teacher.", "Write --start small")
        named = recipe if opt.is_given(ctx, "recipe") else None
        _student(
            ui, start, out, named, overrides, data, sprites=sprites, seed=seed, steps=steps, resume=resume,
            overwrite=overwrite, dry_run=dry_run, device=device, offline=offline, workers=workers,
        )  # fmt: skip
        return
    check_writable(out)
    opt.environment(offline, False)
    with preparing(ui):
        from t2i.store.registry import resolve
        from t2i.train.sharding import launched_team
        from t2i.train.team import SOLO
        from t2i.train.trainer import train as run

        device = pick_device(device)
    team = SOLO
    if ranks > 1:
        team = launched_team(device)
        device = str(team.device)
        if not team.leads:  # what it would print, the first process prints
            drop_stdout()
            ui.quiet = True
    with watching(ui, None if dry_run else out) as (signals, report):
        result: Any = run(
            stage,
            recipe,
            overrides,
            data,
            out,
            resume,
            dry_run,
            report=report,
            sprites=sprites,
            seed=seed,
            start=resolve(start) if start else None,
            steps=steps,
            device=device,
            stop=lambda: bool(signals),
            overwrite=overwrite,
            team=team,
            workers=workers,
        )
        if team.any(bool(signals)) and not signals:  # another process was told to stop, and so all have
            signals.append(signal.SIGTERM)
    finish(ui, out, out, result if dry_run else None, signals)


def _lora(
    ui: UI, data: Path, token: str, model: str, out: Path, overrides: list[str], *, device: str, offline: bool,
    dry_run: bool, **rest: Any,
) -> None:  # fmt: skip
    """Train a personal model."""
    from t2i.store.bundle import Bundle
    from t2i.store.models import find_model
    from t2i.store.personal import check_token

    check_token(token)
    check_writable(out.parent)
    opt.environment(offline, False)
    stored = find_model(model)
    if not isinstance(stored, Bundle):
        what = f"t2i train lora: {model} is an open checkpoint."
        raise UsageError(what, "Use --model small; for open checkpoints use diffusers or kohya's scripts.")
    with preparing(ui):
        from t2i.train.personal import train_personal, work_folder

    with watching(ui, None if dry_run else work_folder(out)) as (signals, report):
        plan = train_personal(
            data, token, stored, out, overrides,
            device=pick_device(device), dry_run=dry_run, report=report, stop=lambda: bool(signals), **rest,
        )  # fmt: skip
    finish(ui, out, work_folder(out), plan, signals)


def _student(
    ui: UI, start: str, out: Path, recipe: str | None, overrides: list[str], data: str, *, device: str, offline: bool,
    dry_run: bool, **rest: Any,
) -> None:  # fmt: skip
    """Train a student of the model `start`."""
    from t2i.store.bundle import Bundle
    from t2i.store.models import find_model

    check_writable(out)
    opt.environment(offline, False)
    teacher = find_model(start)
    if not isinstance(teacher, Bundle):
        what = f"t2i train student: {start} is an open checkpoint."
        raise UsageError(what, "Start from a model of ours, such as --start small.")
    with preparing(ui):
        from t2i.train.student.trainer import train_student

    with watching(ui, None if dry_run else out) as (signals, report):
        plan = train_student(
            teacher, out, recipe, overrides, data,
            device=pick_device(device), dry_run=dry_run, report=report, stop=lambda: bool(signals), **rest,
        )  # fmt: skip
    finish(ui, out, out, plan, signals)
