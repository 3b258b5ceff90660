"""`t2i upscale`: pictures, larger."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.panels import Panel
from t2i.cli.ui import UI
from t2i.errors import InputError, UnavailableError, UsageError
from t2i.jobs.device import check_device
from t2i.jobs.output_paths import check_file, check_writable, named_file
from t2i.jobs.parsing import MAX_SCALE, MAX_SIDE, per_stage
from t2i.prompts import check_prompt, seeds_from

EPILOG = """Examples:

\b
  t2i upscale out/a-cat-7.png --to 1024
  t2i upscale photo.jpg --to 1024 -o big.png
  t2i upscale *.png --to 1024 -o big/
  t2i upscale photos/ --scale 2.5 -o big/  # folders keep their structure
  t2i upscale photo.jpg --scale 4 --prompt "a cat in the snow"
"""


def upscale(
    ctx: typer.Context,
    pictures: Annotated[
        list[str], typer.Argument(metavar="PICTURE", help="PNG, JPEG or WebP files, folders, patterns.")
    ],
    to: Annotated[
        int | None,
        typer.Option(
            "--to",
            metavar="PIXELS",
            min=1,
            max=MAX_SIDE,
            help="How long the longer side gets, never less than it is; this or --scale is needed.",
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(metavar="S", min=1.0, max=MAX_SCALE, help="How many times as large, as in 2.5."),
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(metavar="TEXT", help="What is in it, for models whose upsampler reads.")
    ] = None,
    output: Annotated[
        str, typer.Option("--output", "-o", metavar="DIR|FILE", help="Where the pictures go; the file of a lone one.")
    ] = "out",
    model: opt.Model = "small",
    trust: Annotated[
        bool,
        typer.Option("--trust", help="Keep all of the model's detail, unmeasured.", rich_help_panel=Panel.PICTURE),
    ] = False,
    steps: opt.Steps = None,
    lora: opt.Loras = None,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="Of the detail that is drawn.", rich_help_panel=Panel.PICTURE)
    ] = 0,
    overwrite: opt.Overwrite = False,
    strict: opt.FirstFrame = False,
    no_prompt_metadata: opt.NoPromptMetadata = False,
    sign_cert: opt.SignCert = None,
    sign_key: opt.SignKey = None,
    tile: Annotated[
        int,
        typer.Option(metavar="PX", min=32, max=4096, help="Side of a tile.", rich_help_panel=Panel.MACHINE),
    ] = 160,
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
    """Enlarge pictures of any size and shape, in tiles without seams.

    On each picture it is measured how much of the model's detail beats Lanczos; only that is kept, and a line on stderr
    says how much. A picture that fails does not stop the others, but makes the exit code 3. The path of each picture
    goes to stdout, one a line.
    """
    ui: UI = ctx.obj
    from t2i.jobs.inputs import expand_paths
    from t2i.jobs.runner import Runner
    from t2i.jobs.upscale import UpscaleJob, UpscaleRequest
    from t2i.store.bundle import Bundle
    from t2i.store.models import find_model

    if (to is None) == (scale is None):
        what = "nothing says how large: give --to or --scale." if to is None else "--to and --scale both say how large."
        raise UsageError(what, "Write --to 1024, or --scale 4.")
    check_device(device)
    seeds_from(seed, 1, "--seed ")
    text = check_prompt(prompt) if prompt is not None else ""
    if not output:
        raise UsageError("-o names no folder.", "Write -o big/")
    part = opt.read_shard(ctx, shard)
    signer = opt.read_signer(sign_cert, sign_key)
    loading = opt.read_loading(dtype, lora, quantize, memory, compile)
    files = expand_paths(pictures)
    file = named_file(output, len(files))
    if file is not None:
        files = [(path, Path(file.name)) for path, _ in files]
    folder = Path(output) if file is None else file.parent

    stored = find_model(model)
    stored.check_can("t2i upscale")
    stored.check_load(loading)
    stored.check_options({})
    name, upsamplers = stored.manifest.name, stored.manifest.of_kind("upsampler")
    if not isinstance(stored, Bundle) and opt.is_given(ctx, "tile"):
        raise UsageError(f"--tile: {name} enlarges a picture as a whole.", "Leave it out.")
    if not upsamplers:
        hint = "Train one: t2i train upsampler256 --out …"
        raise UnavailableError(f"the model {name!r} has no upsampler.", hint)
    counts = per_stage("steps", steps, stored.manifest, 1, 1000, whole=True, kinds=("upsampler",), bare=("upsampler",))
    if file is None:
        check_writable(folder)
    else:
        check_file("-o", file)
    measured = isinstance(stored, Bundle) and not trust  # of a model that redraws a picture, detail cannot be
    opt.environment(offline, deterministic, device)
    request = UpscaleRequest(
        ui, stored, folder, to, scale, text, seed, {k: int(v) for k, v in counts.items()}, tile,
        measured, loading, overwrite, strict, no_prompt_metadata, signer, file is None, len(files) == 1,
    )  # fmt: skip
    if text and not request.reads_text:
        ui.warn(f"the upsampler of {name!r} reads no text: --prompt only goes into the record")
    jobs = [UpscaleJob(path, below, i) for i, (path, below) in enumerate(files)]
    if part is not None:
        jobs = part.take(jobs, lambda job: job.place)
    runner = Runner(ui, request, jobs, device, batch=1)
    opt.can_go_on(ui, overwrite)
    runner.run()
    if request.large:
        many = len(request.large) > 1
        which = f"{len(request.large)} of {len(jobs)} pictures {'have' if many else 'has'}"
        ui.warn(f"{which} {to} pixels or more already: {'their' if many else 'its'} pixels are kept as they are")
    if runner.failures and len(jobs) > 1:
        what = f"{len(runner.failures)} of {len(jobs)} pictures failed; the first is {runner.failures[0][0].path}."
        raise InputError(what, "See above.", "partial")
    runner.finish()
