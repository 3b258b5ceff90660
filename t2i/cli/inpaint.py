"""`t2i inpaint`: parts of a picture, painted anew."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import UsageError
from t2i.jobs.device import check_device
from t2i.jobs.output_paths import check_writable
from t2i.jobs.parsing import DTYPES, check_choice, check_count, parse_seeds
from t2i.prompts import check_prompt, random_seed

if TYPE_CHECKING:
    from PIL.Image import Image

EPILOG = """Examples:

\b
  t2i inpaint photo.png "a dog" --mask mask.png          # white is repainted
  t2i inpaint photo.png "a dog" --mask-text "the cat"    # the box around what the model takes for the cat
  t2i inpaint photo.png "a house" --box 40,60,120,120 -n 4
  t2i inpaint photo.png "a beach" --outpaint left=50%,right=128
  t2i inpaint photo.png --box 40,60,120,120              # no prompt: what is there is removed
"""


def inpaint(
    ctx: typer.Context,
    picture: Annotated[Path, typer.Argument(metavar="PICTURE", help="A PNG, JPEG or WebP file of any size.")],
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="What to paint; without it, what is masked is removed."),
    ] = None,
    mask: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Mask as large as the picture; white is repainted.")
    ] = None,
    mask_mode: Annotated[
        str, typer.Option(metavar="replace|keep", help="What happens to the white of --mask.")
    ] = "replace",
    mask_text: Annotated[
        str | None, typer.Option(metavar="TEXT", help="Repaint what this says; the model looks for it.")
    ] = None,
    box: Annotated[
        list[str] | None, typer.Option(metavar="X,Y,W,H", help="Repaint a rectangle; may come more than once.")
    ] = None,
    outpaint: Annotated[
        str | None, typer.Option(metavar="SIDE=N,…", help="Make the picture larger: left=50%,right=128, or 25%.")
    ] = None,
    feather: Annotated[
        int | None,
        typer.Option(metavar="PX", min=0, max=4096, help="Blend this far outside of the mask.  [default: by size]"),
    ] = None,
    mask_shape: Annotated[
        str, typer.Option(metavar="box|exact", help="Of --mask-text: the box around what was found, or its outline.")
    ] = "box",
    mask_grow: Annotated[
        float, typer.Option(metavar="SHARE", min=0, max=0.5, help="Widen --mask-text by this share of the short side.")
    ] = 0.02,
    mask_threshold: Annotated[
        float | None,
        typer.Option(metavar="T", min=0.01, max=0.99, help="Least contrast of --mask-text.  [default: Otsu's]"),
    ] = None,
    show_mask: Annotated[bool, typer.Option("--show-mask", help="Save the mask beside the pictures, too.")] = False,
    n: Annotated[int | None, typer.Option("--count", "-n", metavar="N", help="Pictures to make.  [default: 1]")] = None,
    seed: opt.Seeds = None,
    model: opt.Model = "small",
    output: opt.Output = "out",
    steps: opt.Steps = None,
    guidance: opt.Guidance = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What not to paint.", show_default=False)] = "",
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--skip-existing", help="Paint again and replace what is there.")
    ] = False,
    strict: opt.FirstFrame = False,
    no_prompt_metadata: opt.NoPromptMetadata = False,
    sign_cert: opt.SignCert = None,
    sign_key: opt.SignKey = None,
    batch: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=1024, help="Pictures painted together; moves a value by a level at most."),
    ] = 8,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    offline: opt.Offline = False,
    deterministic: opt.Deterministic = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Repaint a part of a picture, or paint around it.

    The part comes from --mask, --box, --mask-text, --outpaint, or the picture's own transparency; several are joined.
    The square around it goes through the model and back into its place: outside of the mask and its feather every
    pixel of a PNG is what it was. The path of each picture goes to stdout, one a line.
    """
    ui: UI = ctx.obj
    from t2i.jobs.inputs import MODES, check_mask, parse_box, read_mask, read_source
    from t2i.jobs.job import Job
    from t2i.jobs.output_paths import OutputPaths
    from t2i.jobs.runner import Runner, RunRequest
    from t2i.jobs.settings import check_words, read_dials
    from t2i.store.bundle import read_bundle
    from t2i.store.registry import resolve

    check_count(n)
    check_choice("mask-mode", mask_mode, MODES)
    check_choice("mask-shape", mask_shape, ("box", "exact"))
    check_choice("dtype", dtype, DTYPES)
    check_device(device)
    if prompt is not None and not prompt.strip():
        raise UsageError("the prompt is empty.", "Leave it out to remove what is masked, or say what to paint.")
    for needed, there, options in (
        ("--mask", mask, ("mask_mode",)),
        ("--mask-text", mask_text, ("mask_shape", "mask_grow", "mask_threshold")),
    ):
        for name in options:
            if there is None and opt.is_given(ctx, name):
                raise UsageError(f"--{name.replace('_', '-')} needs {needed}.", f"Say {needed}, or leave it out.")
    text = check_prompt(prompt) if prompt is not None else ""
    looked_for = check_prompt(mask_text, "--mask-text") if mask_text is not None else None
    seeds = parse_seeds(seed, n)
    given = {"steps": steps, "guidance": guidance}
    words = {"negative": negative, **{name: value for name, value in given.items() if value is not None}}
    check_words(words)
    boxes = [parse_box(b) for b in box or []]
    signer = opt.read_signer(sign_cert, sign_key)

    source = read_source(ui, picture, strict)
    white = read_mask(ui, mask, source.image.size, mask_mode, strict) if mask is not None else None
    painted, margins = _join_masks(source, white, boxes, outpaint)
    if painted is None and looked_for is None:
        raise UsageError("nothing says what to repaint.", 'Add --mask, --box, --mask-text "the cat" or --outpaint 25%.')
    if painted is not None and looked_for is None:
        check_mask(painted)

    bundle = read_bundle(resolve(model))
    names = OutputPaths(output, bundle.manifest.name)
    plan = {
        "picture": source.digest,
        "mask": _digest(painted),
        "outpaint": list(margins),
        "feather": feather,
        **({"text": looked_for, "shape": mask_shape, "grow": mask_grow} if looked_for else {}),
        **({"threshold": mask_threshold} if looked_for and mask_threshold else {}),
    }
    size = (source.image.width + margins[0] + margins[2], source.image.height + margins[1] + margins[3])
    request = RunRequest.editing(
        bundle, names, "inpaint", source, size=size, overwrite=overwrite, private=no_prompt_metadata, signer=signer
    )
    dials = read_dials(bundle, dtype, words, bool(text)).with_settings({"inpaint": plan})
    fallback = random_seed()
    title = f"{picture.stem} {text or 'removed'}"
    numbers = seeds if seeds is not None else range(fallback, fallback + (n or 1))
    jobs = [Job(text, number, i, i, dials, title) for i, number in enumerate(numbers)]
    for folder in names.folders(jobs):
        check_writable(folder)
    if seeds is None:
        ui.note(f"seed {fallback}")
    opt.environment(offline, deterministic)
    from t2i.jobs.inpaint import Inpainting

    beside = names.path(jobs[0]).parent / f"{picture.stem}.mask.png" if show_mask else None
    paint = Inpainting(ui, source, painted, margins, feather, looked_for, mask_shape, mask_grow, mask_threshold, beside)
    drawing = Runner(ui, request, jobs, device, batch, paint=paint)
    drawing.run()
    drawing.finish()


def _join_masks(
    source: Any, mask: Image | None, boxes: list[tuple[int, int, int, int]], outpaint: str | None
) -> tuple[Image | None, tuple[int, int, int, int]]:
    """What is to be repainted of the picture as it was given (L, 255 = repaint), None for nothing said yet, and the
    margins (left, top, right, bottom) to add. The mask has the size of the picture with its margins."""
    from PIL import ImageChops, ImageOps

    from t2i.jobs.inputs import boxes_mask, parse_outpaint

    size, parts = source.image.size, []
    if mask is not None:
        parts.append(mask)
    if boxes:
        parts.append(boxes_mask(size, boxes))
    if source.picture.alpha is not None and not parts:
        parts.append(ImageChops.invert(source.picture.alpha))
    margins = parse_outpaint(outpaint, size) if outpaint is not None else (0, 0, 0, 0)
    if not parts and not any(margins):
        return None, margins
    if not parts:
        from PIL import Image

        parts.append(Image.new("L", size, 0))
    joined = parts[0]
    for part in parts[1:]:
        joined = ImageChops.lighter(joined, part)
    return ImageOps.expand(joined, border=margins, fill=255), margins


def _digest(mask: Image | None) -> str | None:
    import hashlib

    return None if mask is None else hashlib.sha256(repr(mask.size).encode() + mask.tobytes()).hexdigest()
