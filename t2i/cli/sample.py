"""`t2i sample`: pictures from prompts."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import UsageError
from t2i.jobs.device import check_device
from t2i.jobs.output_paths import check_writable
from t2i.jobs.parsing import DTYPES, check_choice, check_count, parse_seeds
from t2i.prompts import check_prompt, random_seed
from t2i.sampling import SAMPLERS

EPILOG = """Examples:

\b
  t2i sample "a cat in the snow" -n 4
  t2i sample "一只猫在雪地里玩耍" --seed 7 --show
  t2i sample "a red apple" --size 64 --steps base=8,up=2 --guidance 2
  t2i sample -f prompts.txt -o out/            # one prompt a line, # comments; run it again to resume
  t2i sample -f jobs.jsonl --json > done.jsonl # {"prompt": "a cat", "seed": 7, "n": 4, "steps": 8} a line
  t2i sample "a dog" -o "{slug}/{index:03}.png" --seed 7..14
  t2i sample "a {red|blue} {apple|cat}" --seed 1,2,3 --grid
  t2i sample "a cat" --seed 1..4 --sweep guidance=1,2,4
  t2i sample --replay out/a-cat-7.png          # says identical, or how far off
  t2i sample --like photo.png -n 4             # variations of a picture
  t2i sample --blend cat.png dog.png --frames 9 --animate webp
  t2i sample --text-diff cat.png "a cat" "a dog" --theta 0.25..0.5
  t2i sample "a castle" --init sketch.png --strength 0.8
  generate-prompts | t2i sample -f - --json > done.jsonl
"""


def sample(
    ctx: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(
            metavar="PROMPT", help="What to draw, in English or Chinese; {a|b} is each in turn.", show_default=False
        ),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE|-", help="Prompts, one a line, or jobs in JSON lines.")
    ] = None,
    replay: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Draw a picture again and compare.", show_default=False)
    ] = None,
    n: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", help="Pictures of each prompt.  [default: 1]")
    ] = None,
    seed: opt.Seeds = None,
    model: opt.Model = "small",
    output: opt.Output = "out",
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Where the cascade stops.  [default: the model's]")
    ] = None,
    steps: opt.Steps = None,
    guidance: opt.Guidance = None,
    sampler: Annotated[str | None, typer.Option(metavar="|".join(SAMPLERS), help="Sampler of the base.")] = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What not to draw.", show_default=False)] = "",
    threshold: Annotated[
        str | None,
        typer.Option(
            metavar="P,CAP|static|none|STAGE=…", help="Thresholding of the estimates; dynamic as in 0.995,1.5."
        ),
    ] = None,
    sr_noise: Annotated[
        str | None,
        typer.Option(metavar="L|STAGE=L,…", help="How much the input of the upsamplers is noised, from 0 to 1."),
    ] = None,
    sweep: Annotated[
        list[str] | None,
        typer.Option(metavar="DIAL=A,B,…", help="Each value in turn, and a labelled sheet; may come more than once."),
    ] = None,
    grid: Annotated[bool, typer.Option("--grid", help="All pictures of the run as one, too.")] = False,
    keep_stages: Annotated[bool, typer.Option("--keep-stages", help="Save what each stage made, too.")] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite/--skip-existing", help="Draw again and replace what is there.")
    ] = False,
    like: Annotated[
        Path | None, typer.Option(metavar="IMAGE", help="Variations of a picture.", show_default=False)
    ] = None,
    blend: Annotated[
        tuple[Path, Path] | None,
        typer.Option(metavar="A B", help="The way from one picture to another.", show_default=False),
    ] = None,
    text_diff: Annotated[
        tuple[Path, str, str] | None,
        typer.Option(metavar="IMAGE FROM TO", help="A picture moved from one text to another.", show_default=False),
    ] = None,
    init: Annotated[
        Path | None,
        typer.Option(metavar="IMAGE", help="Start from a picture: a sketch, another style.", show_default=False),
    ] = None,
    strength: Annotated[
        float | None,
        typer.Option(metavar="0..1", help="How far from the picture given.  [default: like 1, init 0.6, others 0]"),
    ] = None,
    theta: Annotated[
        str | None, typer.Option(metavar="A..B|A,B", help="How far to move in --text-diff.  [default: 0.25..0.5]")
    ] = None,
    frames: Annotated[
        int | None, typer.Option(metavar="N", help="Frames of --blend and --text-diff.  [default: 9 and 5]")
    ] = None,
    animate: Annotated[
        str | None, typer.Option(metavar="webp|gif", help="The frames as one moving picture, too.")
    ] = None,
    rerank: Annotated[
        int | None,
        typer.Option(metavar="K", min=2, max=1000, help="Draw K for each picture and keep the best, by CLIP."),
    ] = None,
    prior: Annotated[
        str | None, typer.Option(metavar="diffusion|none", help="Whether the text goes through the prior.")
    ] = None,
    prior_best_of: Annotated[
        int | None, typer.Option(metavar="N", min=1, max=1000, help="Embeddings that the prior draws, to keep one.")
    ] = None,
    show: Annotated[bool, typer.Option("--show", help="Show each picture in the terminal.")] = False,
    preview: Annotated[bool, typer.Option("--preview", help="Show the pictures coming into being.")] = False,
    no_prompt_metadata: opt.NoPromptMetadata = False,
    sign_cert: opt.SignCert = None,
    sign_key: opt.SignKey = None,
    batch: Annotated[
        int,
        typer.Option(metavar="N", min=1, max=1024, help="Pictures drawn together; moves a value by a level at most."),
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
    weights, prompt, settings and seed, is not drawn again; its path is printed all the same. Each output folder
    gets a manifest.jsonl with a line a picture.
    """
    ui: UI = ctx.obj
    from t2i.cli.show import Screen
    from t2i.jobs.edits import EditRequest
    from t2i.jobs.output_paths import OutputPaths
    from t2i.jobs.prompt_file import PromptLine, plan, read_lines
    from t2i.jobs.runner import Runner, RunRequest
    from t2i.jobs.settings import check_words, read_dials
    from t2i.jobs.sheets import write_sheets
    from t2i.jobs.sweep import parse_sweep
    from t2i.store.bundle import read_bundle
    from t2i.store.completeness import check_complete
    from t2i.store.registry import resolve

    check_count(n)
    check_choice("dtype", dtype, DTYPES)
    check_device(device)
    if replay is not None:
        opt.check_alone(
            ctx, "--replay", "replay", "prompt", "model", "device", "offline", "deterministic", "json", "quiet", "debug"
        )
        opt.environment(offline, deterministic)
        _replay(ui, replay, prompt, model if opt.is_given(ctx, "model") else None, device)
        return
    wish = EditRequest.read(
        ui, like=like, blend=blend, text_diff=text_diff, init=init, theta=theta, frames=frames, strength=strength,
        rerank=rerank, prior=prior, best_of=prior_best_of, animate=animate,
    )  # fmt: skip
    wish.check(prompt, file, sweep)
    if wish.needs_prompt and (prompt is None) == (file is None):
        if prompt is not None:
            raise UsageError("there is a prompt and a prompt file.", "Leave one of them out.")
        raise UsageError("there is no prompt.", 'Write t2i sample "a cat in the snow", or t2i sample -f prompts.txt')
    seeds = parse_seeds(seed, n)
    given = {"size": size, "steps": steps, "guidance": guidance, "sampler": sampler, "threshold": threshold}
    given["sr_noise"] = sr_noise
    words = {"negative": negative, **{name: str(value) for name, value in given.items() if value is not None}}
    check_words(words)
    axes = parse_sweep(sweep or [])
    lines = [] if wish.way else [PromptLine(check_prompt(prompt))] if prompt is not None else read_lines(file or "-")
    signer = opt.read_signer(sign_cert, sign_key)
    signer = wish.way.signer(signer) if wish.way else signer

    bundle = read_bundle(resolve(model))
    check_complete(bundle.manifest, bundle.configs)
    wish.check_model(bundle)
    names = OutputPaths(output, bundle.manifest.name)
    request = RunRequest(bundle, names, keep_stages, overwrite, no_prompt_metadata, signer)
    fallback = random_seed() if prompt is not None or wish.way else None
    if wish.way is not None:
        first = seeds if seeds is not None else range(fallback or 0, (fallback or 0) + (n or 1))
        jobs = wish.jobs(prompt or "", first, read_dials(bundle, dtype, words, bool(prompt)))
    else:
        jobs = plan(lines, n, seeds, words, lambda said: wish.dials(read_dials(bundle, dtype, said)), axes, fallback)
    for folder in names.folders(jobs):
        check_writable(folder)
    if seeds is None and fallback is not None:
        ui.note(f"seed {fallback}")
    opt.environment(offline, deterministic)
    ui.screen = Screen.wanted(ui, show, preview)
    remember = bool(grid or axes or animate)
    drawing = Runner(ui, request, jobs, device, batch, remember, wish.paint if wish.asked else None)
    drawing.run()
    write_sheets(ui, request, jobs, drawing, grid)
    wish.animation(ui, request, jobs, drawing)
    drawing.finish()


def _replay(ui: UI, path: Path, prompt: str | None, model: str | None, device: str) -> None:
    from t2i.jobs.replay import replay

    result = replay(ui, path, prompt, model, device)
    most, mean, share = result.max_difference, result.mean_difference, result.differing
    if ui.json:
        table = {"replayed": str(path), "identical": result.identical, "same_weights": result.same_weights}
        ui.record({**table, "max_difference": most, "mean_difference": round(mean, 4), "differing": round(share, 6)})
    elif result.identical:
        ui.line(f"{path}: identical")
    else:
        ui.line(f"{path}: differs by {mean:.2f} of 255 on average, by {most} at most, in {share:.1%} of its values")
