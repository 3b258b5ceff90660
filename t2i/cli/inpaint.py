"""`t2i inpaint`: parts of a picture, painted anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2i.cli import options as opt
from t2i.cli.panels import Panel
from t2i.cli.ui import UI
from t2i.errors import UsageError, check_choice
from t2i.prompts import check_prompt

if TYPE_CHECKING:
    from PIL.Image import Image

EPILOG = """Examples:

\b
  t2i inpaint photo.png "a dog" --mask mask.png        # white is repainted
  t2i inpaint photo.png "a dog" --mask-text "the cat"  # a box around the cat
  t2i inpaint photo.png "a house" --box 40,60,120,120 -n 4
  t2i inpaint photo.png "a beach" --outpaint left=50%,right=128
  t2i inpaint photo.png --box 40,60,120,120            # no prompt: removes it
"""


def inpaint(
    ctx: typer.Context,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file of any size.")],
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="What to paint; without it, what is masked is removed.", show_default=False
        ),
    ] = None,
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="A picture as large; white is repainted.", rich_help_panel=Panel.MASK),
    ] = None,
    box: Annotated[
        list[str] | None,
        typer.Option(metavar="X,Y,W,H", help="A rectangle; may be given again.", rich_help_panel=Panel.MASK),
    ] = None,
    mask_text: Annotated[
        str | None,
        typer.Option(metavar="TEXT", help="What this names; the model looks for it.", rich_help_panel=Panel.MASK),
    ] = None,
    outpaint: Annotated[
        str | None,
        typer.Option(metavar="SIDE=N,…", help="New margins: left=50%,right=128, or 25%.", rich_help_panel=Panel.MASK),
    ] = None,
    feather: Annotated[
        int | None,
        typer.Option(
            metavar="PX",
            min=0,
            max=4096,
            help="Blend so far inside.  [default: by size]",
            rich_help_panel=Panel.MASK,
        ),
    ] = None,
    mask_mode: Annotated[
        str,
        typer.Option(metavar="replace|keep", help="Of --mask: what happens to white.", rich_help_panel=Panel.MASK),
    ] = "replace",
    mask_shape: Annotated[
        str,
        typer.Option(
            metavar="box|exact", help="Of --mask-text: a box around it, or its outline.", rich_help_panel=Panel.MASK
        ),
    ] = "box",
    mask_grow: Annotated[
        float,
        typer.Option(
            metavar="SHARE",
            help="Of --mask-text: widen, by a share of the short side; 0 to 0.5.",
            rich_help_panel=Panel.MASK,
        ),
    ] = 0.05,
    mask_threshold: Annotated[
        float | None,
        typer.Option(
            metavar="T",
            min=0.01,
            max=0.99,
            help="Of --mask-text: least contrast.  [default: Otsu's]",
            rich_help_panel=Panel.MASK,
        ),
    ] = None,
    n: opt.Count = None,
    seed: opt.Seeds = None,
    model: opt.Model = "small",
    output: opt.Output = "out",
    steps: opt.Steps = None,
    guidance: opt.Guidance = None,
    negative: opt.Negative = "",
    lora: opt.Loras = None,
    show_mask: Annotated[
        bool, typer.Option("--show-mask", help="Save the mask beside each picture.", rich_help_panel=Panel.EXTRA)
    ] = False,
    overwrite: opt.Overwrite = False,
    strict: opt.FirstFrame = False,
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
    """Repaint a part of a picture, or paint around it.

    The part is given by --mask, --box, --mask-text, --outpaint, or the picture's own transparency; several are joined.
    The model paints the square around it. Outside of the mask every pixel of a PNG stays as it was.
    The path of each picture goes to stdout, one a line.
    """
    ui: UI = ctx.obj
    from t2i.jobs.inpaint import InpaintEdit
    from t2i.jobs.inputs import check_words, read_edited
    from t2i.jobs.job import Job
    from t2i.jobs.masks import MODES, check_mask, join_masks, parse_box, read_mask
    from t2i.jobs.output_paths import OutputPaths
    from t2i.jobs.request import DrawRequest
    from t2i.jobs.runner import Runner
    from t2i.jobs.settings import check_options, read_settings
    from t2i.jobs.shard import share
    from t2i.store.models import find_model

    opt.check_run(n, device)
    check_choice("mask-mode", mask_mode, MODES)
    check_choice("mask-shape", mask_shape, ("box", "exact"))
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty.", "Leave it out to remove what is masked, or say what to paint.")
    for needed, there, dependent in (
        ("--mask", mask, ("mask_mode",)),
        ("--mask-text", mask_text, ("mask_shape", "mask_grow", "mask_threshold")),
    ):
        for name in dependent:
            if there is None and opt.is_given(ctx, name):
                raise UsageError(f"--{name.replace('_', '-')} needs {needed}.", f"Say {needed}, or leave it out.")
    if not 0 <= mask_grow <= 0.5:
        hint = "Write a share of the picture's short side, 0 to 0.5, as in 0.05."
        raise UsageError(f"--mask-grow {mask_grow:g} is out of range.", hint)
    if prompt is not None:
        check_words(prompt, "Say what to paint. A mask is --mask FILE.")
    text = check_prompt(prompt) if prompt is not None else ""
    looked_for = check_prompt(mask_text, "--mask-text") if mask_text is not None else None
    seeds, drawn_seed = opt.read_seeds(seed, n)
    part = opt.read_shard(ctx, shard, drawn_seed)
    options = opt.written(steps=steps, guidance=guidance, negative=negative)
    check_options(options)
    boxes = [parse_box(b) for b in box or []]
    signer = opt.read_signer(sign_cert, sign_key)
    loading = opt.read_loading(dtype, lora, quantize, memory, compile)

    inputs = [picture] if mask is None else [picture, mask]
    source = read_edited(ui, picture, strict)
    white = read_mask(ui, mask, source.image.size, mask_mode, strict) if mask is not None else None
    painted, margins = join_masks(ui, source, white, boxes, outpaint)
    if painted is None and looked_for is None:
        raise UsageError("nothing says what to repaint.", 'Add --mask, --box, --mask-text "the cat" or --outpaint 25%.')
    if painted is not None and looked_for is None:
        check_mask(painted)

    stored = find_model(model)
    stored.check_can("t2i inpaint" if text else "t2i inpaint without a prompt")
    if looked_for is not None:
        stored.check_can("--mask-text")
    paths = OutputPaths(output, stored.manifest.name)
    edit = InpaintEdit(ui, source, painted, margins, feather, looked_for, mask_shape, mask_grow, mask_threshold)
    settings = edit.apply(read_settings(stored, loading, options, bool(text), quality=True))
    title = f"{picture.stem} {text or 'removed'}"
    jobs = [Job(text, s, i, i, settings, title) for i, s in enumerate(seeds)]
    opt.begin(ui, paths, jobs, drawn_seed, offline, deterministic, device, inputs if overwrite else ())
    opt.can_go_on(ui, overwrite, drawn_seed)
    request = DrawRequest(
        stored, paths.names, command="inpaint", overwrite=overwrite, manifest=not paths.single,
        private=no_prompt_metadata, signer=source.signer(signer), edited=source, inputs=inputs,
        size=edit.size, draw_jobs=edit.draw,
    )  # fmt: skip

    def on_picture(path: Path, table: dict[str, Any], image: Image | None) -> None:
        ui.picture(path, table, image)
        if show_mask:  # where every picture was there already, no model is loaded yet
            edit.save_mask(path, lambda: runner.engine_for(jobs[0]), overwrite, inputs)

    runner = Runner(ui, request, share(part, jobs, request), device, batch, on_picture=on_picture)
    runner.run()
    runner.finish()
