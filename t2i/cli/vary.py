"""`t2i vary`: pictures from pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.panels import Panel
from t2i.cli.ui import UI
from t2i.errors import check_choice

EPILOG = """Examples:

\b
  t2i vary cat.png -n 4                 # other pictures of the same content
  t2i vary cat.png -n 4 --strength 0.3  # … and with the same layout
  t2i vary cat.png "a cat in the snow"  # a prompt, read beside the picture
  t2i vary cat.png --to dog.png --frames 9 --animate webp
  t2i vary cat.png --from-text "a cat" --to-text "a dog" --theta 0.25..0.5
"""
ANIMATIONS = ("webp", "gif")


def vary(
    ctx: typer.Context,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file.")],
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="Of variations: what to draw, besides.", show_default=False),
    ] = None,
    to: Annotated[
        Path | None,
        typer.Option("--to", metavar="PICTURE", help="Blend into this picture, step by step.", show_default=False),
    ] = None,
    from_text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Move the picture from this text …", show_default=False)
    ] = None,
    to_text: Annotated[str | None, typer.Option(metavar="TEXT", help="… to this one.", show_default=False)] = None,
    theta: Annotated[
        str | None, typer.Option(metavar="A..B|A,B", help="How far to move, 0 to 1.  [default: 0.25..0.5]")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(metavar="N", help="Pictures on the way.  [default: --to 9, --to-text 5]")
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="Share of new noise.  [default: variations 1, others 0]"),
    ] = None,
    n: opt.Count = None,
    seed: opt.Seeds = None,
    size: opt.Size = None,
    model: opt.Model = "small",
    output: opt.Output = "out",
    steps: opt.Steps = None,
    guidance: opt.Guidance = None,
    negative: opt.Negative = "",
    sampler: opt.Sampler = None,
    lora: opt.Loras = None,
    threshold: opt.Thresholds = None,
    sr_noise: opt.Noise = None,
    animate: Annotated[
        str | None,
        typer.Option(metavar="webp|gif", help="Write the frames as one animation, too.", rich_help_panel=Panel.EXTRA),
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
    """Make pictures from a picture: variations of it, the way to another, or the way from one text to another.

    The model sees the square in the middle. The path of each picture goes to stdout, one a line; what exists already is
    not drawn again.
    """
    ui: UI = ctx.obj
    from t2i.cli.show import Screen
    from t2i.errors import UsageError
    from t2i.jobs.output_paths import OutputPaths
    from t2i.jobs.request import DrawRequest
    from t2i.jobs.runner import Runner
    from t2i.jobs.settings import check_options, read_settings
    from t2i.jobs.shard import share
    from t2i.jobs.sheets import write_sheets
    from t2i.jobs.vary import VaryEdit, write_animations
    from t2i.store.models import find_model

    opt.check_run(n, device)
    if animate is not None:
        check_choice("animate", animate, ANIMATIONS)
        if to is None and to_text is None:
            raise UsageError("--animate needs --to or --to-text.", "Their frames become one animation.")
    edit = VaryEdit.read(
        ui, picture, prompt, to=to, from_text=from_text, to_text=to_text, theta=theta, frames=frames, strength=strength
    )
    seeds, drawn_seed = opt.read_seeds(seed, n)
    part = opt.read_shard(ctx, shard, drawn_seed)
    options = opt.written(
        size=size, steps=steps, guidance=guidance, sampler=sampler, threshold=threshold, sr_noise=sr_noise,
        negative=negative,
    )  # fmt: skip
    check_options(options)
    signer = edit.signer(opt.read_signer(sign_cert, sign_key))
    loading = opt.read_loading(dtype, lora, quantize, memory, compile)

    stored = find_model(model)
    stored.check_options(options)
    edit.check_model(stored, prompt, negative)
    paths = OutputPaths(output, stored.manifest.name)
    settings = read_settings(stored, loading, options, bool(prompt), edit.without, quality=True)
    jobs = edit.jobs(prompt or "", seeds, settings)
    opt.begin(ui, paths, jobs, drawn_seed, offline, deterministic, device, edit.reads if overwrite else ())
    opt.can_go_on(ui, overwrite, drawn_seed)
    ui.screen = Screen.wanted(ui, show, preview)
    request = DrawRequest(
        stored, paths.names, command="vary", keep_stages=keep_stages, overwrite=overwrite, manifest=not paths.single,
        private=no_prompt_metadata, signer=signer, inputs=edit.reads, draw_jobs=edit.draw,
    )  # fmt: skip
    runner = Runner(ui, request, share(part, jobs, request), device, batch, remember=bool(grid or animate))
    runner.run()
    write_sheets(ui, request, jobs, runner, grid)
    if animate:
        write_animations(ui, request, jobs, runner.paths, animate)
    runner.finish()
