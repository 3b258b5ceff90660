"""`t2i sample`: pictures from prompts."""

from __future__ import annotations

from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import InputError, UsageError
from t2i.prompts import check_prompt, check_text, random_seed

MAX_COUNT = 100_000
EPILOG = """Examples:

\b
  t2i sample "a cat in the snow" -n 4
  t2i sample "一只猫在雪地里玩耍" --seed 7
  t2i sample "a red apple" --size 64 --steps base=8,up=2 --guidance 2
  t2i sample -f prompts.txt -o out/            # one prompt a line, # comments; run it again to resume
  t2i sample "a dog" -o "{slug}/{index:03}.png" --seed 7..14
  generate-prompts | t2i sample -f - --json > done.jsonl
"""


def sample(
    ctx: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="What to draw, in English or Chinese.", show_default=False),
    ] = None,
    file: Annotated[str | None, typer.Option("--file", "-f", metavar="FILE|-", help="Prompts, one a line.")] = None,
    n: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", help="Pictures of each prompt.  [default: 1]")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="S|A,B|A..B", help="Picture i has seed S+i; without it, random.")
    ] = None,
    model: opt.Model = "small",
    output: Annotated[
        str,
        typer.Option("--output", "-o", metavar="DIR|TEMPLATE", help="Fields: {slug} {seed} {index:03} {n} {model}."),
    ] = "out",
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Where the cascade stops.  [default: all the way]")
    ] = None,
    steps: Annotated[str | None, typer.Option(metavar="N|STAGE=N,…", help="Sampling steps.")] = None,
    guidance: Annotated[str | None, typer.Option(metavar="G|STAGE=G,…", help="How closely to follow the text.")] = None,
    sampler: Annotated[str | None, typer.Option(metavar="|".join(opt.SAMPLERS), help="Sampler of the base.")] = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What not to draw.", show_default=False)] = "",
    threshold: Annotated[
        str | None, typer.Option(metavar="P,CAP", help="Dynamic thresholding, as in 0.995,1.5.")
    ] = None,
    keep_stages: Annotated[bool, typer.Option("--keep-stages", help="Save what each stage made, too.")] = False,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Draw again and replace what is there.")] = False,
    no_prompt_metadata: Annotated[
        bool, typer.Option("--no-prompt-metadata", help="Keep the prompt out of the files.")
    ] = False,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, max=1024, help="Pictures drawn together; changes none of them.")
    ] = 8,
    device: opt.Device = "auto",
    dtype: opt.Dtype = "float32",
    offline: opt.Offline = False,
    deterministic: opt.Deterministic = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Draw pictures from a prompt, or from a file of prompts.

    The path of each picture goes to stdout, one a line. A picture that is there already, with the same
    weights, prompt, settings and seed, is not drawn again; its path is printed all the same.
    """
    ui: UI = ctx.obj
    from t2i.cli.draw import Drawing, Request
    from t2i.cli.jobs import Names, plan, read_prompts
    from t2i.store.bundle import read_bundle
    from t2i.store.registry import resolve

    if n is not None and n < 1:
        raise UsageError(f"-n {n} asks for no picture.", "Write -n 1 or more.")
    if n is not None and n > MAX_COUNT:
        raise UsageError(f"-n {n} is more than {MAX_COUNT} pictures.", "Run it several times with other seeds.")
    if (prompt is None) == (file is None):
        what = "there is no prompt." if prompt is None else "there is a prompt and a prompt file."
        raise UsageError(what, 'Write t2i sample "a cat in the snow", or t2i sample -f prompts.txt')
    seeds = opt.parse_seeds(seed, n)
    check_text(negative, "the negative prompt")
    if sampler is not None:
        opt.check_choice("sampler", sampler, opt.SAMPLERS)
    opt.check_choice("dtype", dtype, opt.DTYPES)
    opt.check_device(device)
    cut = opt.parse_threshold(threshold)
    prompts = [check_prompt(prompt)] if prompt is not None else read_prompts(file or "-")

    bundle = read_bundle(resolve(model))
    manifest = bundle.manifest
    if not manifest.sizes:
        hint = "Train its base first: t2i train base --out …"
        raise InputError(f"the model {manifest.name!r} is not complete: it has no stage that draws.", hint, "bundle")
    if size is not None and size not in manifest.sizes:
        made = ", ".join(str(s) for s in manifest.sizes)
        raise UsageError(f"--size {size}: the model {manifest.name!r} stops at {made}.", "Choose one of these.")
    request = Request(
        bundle=bundle,
        names=Names(output, manifest.name),
        size=size or manifest.sizes[-1],
        steps={k: int(v) for k, v in opt.per_stage("steps", steps, manifest, 1, 1000, whole=True).items()},
        guidance=opt.per_stage("guidance", guidance, manifest, 0, 100, kinds=("prior", "base")),
        sampler=sampler,
        threshold=cut,
        negative=negative.strip(),
        dtype=dtype,
        keep_stages=keep_stages,
        overwrite=overwrite,
        private=no_prompt_metadata,
    )
    fallback = random_seed()
    jobs = plan(prompts, n or 1, seeds, file is not None, fallback)
    for folder in request.names.folders(jobs):
        opt.check_writable(folder)
    if seeds is None and file is None:
        ui.note(f"seed {fallback}")
    opt.environment(offline, deterministic)
    Drawing(ui, request, jobs, device, batch).run()
