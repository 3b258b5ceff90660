"""`t2i sample`: pictures from prompts."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI, shorten
from t2i.errors import InputError, InternalError, UnavailableError, UsageError
from t2i.prompts import check_prompt, check_text, random_seed

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.cli.jobs import Job, Names
    from t2i.marks import Record
    from t2i.pipeline import Pipeline, Samples, SampleSettings
    from t2i.store.bundle import Bundle

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


@dataclass(frozen=True)
class Request:
    """A checked request: everything that decides a picture but its prompt and seed."""

    bundle: Bundle
    names: Names
    size: int
    steps: dict[str, int]
    guidance: dict[str, float]
    sampler: str | None
    threshold: tuple[float, float] | None
    negative: str
    dtype: str
    keep_stages: bool
    overwrite: bool
    private: bool

    def settings(self) -> dict[str, Any]:
        """The resolved settings as they enter the key and the picture's record."""
        stages: dict[str, Any] = {}
        for entry in self.bundle.manifest.stages:
            if entry.kind == "clip" or self.bundle.configs[entry.name]["widths"].get("size", 0) > self.size:
                continue
            defaults = entry.defaults
            threshold = (self.threshold if entry.kind == "base" else None) or defaults.threshold
            table = {
                "steps": self.steps.get(entry.name, defaults.steps),
                "guidance": self.guidance.get(entry.name, defaults.guidance),
                "sampler": self.sampler if self.sampler and entry.kind == "base" else defaults.sampler,
                "schedule": defaults.schedule,
                # JSON has no infinity: a threshold without a cap is written with null
                "threshold": threshold and [x if math.isfinite(x) else None for x in threshold],
            }
            stages[entry.name] = {key: value for key, value in table.items() if value is not None}
        return {"size": self.size, "dtype": self.dtype, "stages": stages}

    def engine_settings(self) -> SampleSettings:
        """The same for the pipeline."""
        from t2i.pipeline import SampleSettings

        return SampleSettings(
            size=self.size,
            steps=self.steps,
            guidance=self.guidance,
            sampler=self.sampler,
            negative=self.negative or None,
            threshold=self.threshold,
            keep_stages=self.keep_stages,
        )

    def record(self, job: Job, cut: str | None = None) -> Record:
        """What the picture of ``job`` will say about itself."""
        from t2i.cli.jobs import content_key
        from t2i.marks import Record

        settings = self.settings()
        return Record(
            key=content_key(self.bundle.digest, job.prompt, self.negative, job.seed, settings),
            command="sample",
            prompt=job.prompt,
            seed=job.seed,
            model=self.bundle.manifest.name,
            weights=self.bundle.digest,
            size=(self.size, self.size),
            settings=settings,
            negative=self.negative,
            cut=cut,
            private=self.private,
        )


def sample(
    ctx: typer.Context,
    prompt: Annotated[
        str | None,
        typer.Argument(metavar="PROMPT", help="What to draw, in English or Chinese.", show_default=False),
    ] = None,
    file: Annotated[
        str | None, typer.Option("--file", "-f", metavar="FILE|-", help="Prompts, one a line.")
    ] = None,
    n: Annotated[
        int | None, typer.Option("--count", "-n", metavar="N", help="Pictures of each prompt.  [default: 1]")
    ] = None,
    seed: Annotated[
        str | None, typer.Option(metavar="S|A,B|A..B", help="Picture i has seed S+i; without it, random.")
    ] = None,
    model: opt.Model = "small",
    output: Annotated[
        str,
        typer.Option(
            "--output", "-o", metavar="DIR|TEMPLATE", help="Fields: {slug} {seed} {index:03} {n} {model}."
        ),
    ] = "out",
    size: Annotated[
        int | None, typer.Option(metavar="PIXELS", help="Where the cascade stops.  [default: all the way]")
    ] = None,
    steps: Annotated[str | None, typer.Option(metavar="N|STAGE=N,…", help="Sampling steps.")] = None,
    guidance: Annotated[
        str | None, typer.Option(metavar="G|STAGE=G,…", help="How closely to follow the text.")
    ] = None,
    sampler: Annotated[
        str | None, typer.Option(metavar="|".join(opt.SAMPLERS), help="Sampler of the base.")
    ] = None,
    negative: Annotated[str, typer.Option(metavar="TEXT", help="What not to draw.", show_default=False)] = "",
    threshold: Annotated[
        str | None, typer.Option(metavar="P,CAP", help="Dynamic thresholding, as in 0.995,1.5.")
    ] = None,
    keep_stages: Annotated[
        bool, typer.Option("--keep-stages", help="Save what each stage made, too.")
    ] = False,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Draw again and replace what is there.")
    ] = False,
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
    from t2i.cli.jobs import Names, plan, read_prompts
    from t2i.store.bundle import read_bundle
    from t2i.store.registry import resolve

    if n is not None and n < 1:
        raise UsageError(f"-n {n} asks for no picture.", "Write -n 1 or more.")
    if n is not None and n > MAX_COUNT:
        raise UsageError(
            f"-n {n} is more than {MAX_COUNT} pictures.", "Run it several times with other seeds."
        )
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
        raise InputError(
            f"the model {manifest.name!r} is not complete: it has no stage that draws.", hint, "bundle"
        )
    if size is not None and size not in manifest.sizes:
        made = ", ".join(str(s) for s in manifest.sizes)
        raise UsageError(
            f"--size {size}: the model {manifest.name!r} stops at {made}.", "Choose one of these."
        )
    request = Request(
        bundle=bundle,
        names=Names(output, manifest.name),
        size=size or manifest.sizes[-1],
        steps={k: int(v) for k, v in opt.per_stage("steps", steps, manifest, 1, 1000).items()},
        guidance=opt.per_stage("guidance", guidance, manifest, 0, 100),
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
    for folder in {request.names.path(job).parent for job in jobs}:
        opt.check_writable(folder)
    if seeds is None and file is None:
        ui.note(f"seed {fallback}")
    opt.environment(offline, deterministic)
    _run(ui, request, jobs, device, batch)


def _run(ui: UI, request: Request, jobs: list[Job], device: str, batch: int) -> None:
    """Draw what is not there yet, in batches, reporting every picture in the order asked for."""
    from t2i.cli.jobs import find_done

    pipeline: Pipeline | None = None
    started, drawn = time.monotonic(), 0
    waiting: list[Job] = []

    def flush() -> None:
        nonlocal pipeline, drawn
        if not waiting:
            return
        if pipeline is None:
            from t2i.pipeline import Pipeline

            pipeline = Pipeline.load(request.bundle.path, device=opt.pick_device(device), dtype=request.dtype)
        first, last = waiting[0].index + 1, waiting[-1].index + 1
        span = f"picture {first}" if first == last else f"pictures {first}-{last}"
        with ui.progress(f"{span} of {len(jobs)}") as on_step:
            groups = list(_draw(pipeline, request, waiting, on_step))
        for group, samples in groups:
            for i, job in enumerate(group):
                drawn += _save(ui, request, job, samples, i)
        waiting.clear()

    for job in jobs:
        done = None if request.overwrite else find_done(request.names.path(job), request.record(job).key)
        if done is not None:
            flush()
            ui.picture(done, {**request.record(job).table(), "skipped": True})
            continue
        waiting.append(job)
        if len(waiting) == batch:
            flush()
    flush()
    if drawn:
        ui.note(f"{drawn} picture{'s' * (drawn > 1)} in {time.monotonic() - started:.1f} s")
    if ui.failed:
        raise InputError(f"{ui.failed} of {len(jobs)} pictures failed.", "See above.", "partial")


def _draw(
    pipeline: Pipeline, request: Request, jobs: list[Job], on_step: Any
) -> list[tuple[list[Job], Samples]]:
    """Sample ``jobs`` together; where memory does not suffice, in halves. The pictures are the same either
    way."""
    import torch

    try:
        prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
        return [(list(jobs), pipeline.sample(prompts, seeds, request.engine_settings(), on_step=on_step))]
    except (torch.OutOfMemoryError, MemoryError) as error:
        if len(jobs) == 1:
            raise UnavailableError(
                "there is not enough memory for one picture.", "Try a smaller --size.", "memory"
            ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(jobs) // 2
    return [*_draw(pipeline, request, jobs[:half], on_step), *_draw(pipeline, request, jobs[half:], on_step)]


def _save(ui: UI, request: Request, job: Job, samples: Samples, i: int) -> int:
    """Write one picture and report it. Returns 1, or 0 for a picture that came out as no picture."""
    cut = samples.truncated[i]
    if cut:
        ui.warn(f"the prompt is longer than the model reads; it did not see “{shorten(cut)}”")
    if samples.unknown[i] and job.n == 0:
        ui.warn(f"words the model has not learned: {shorten(', '.join(samples.unknown[i]), 200)}")
    record = request.record(job, cut)
    try:
        path = _write(request, request.names.path(job), samples.images[i], record)
        stages = {}
        for name, pixels in samples.stages.items() if request.keep_stages else ():
            if pixels.ndim == 4:
                stages[name] = str(_write_stage(path, name, pixels[i], record))
    except InternalError as error:
        ui.failed += 1
        ui.fail(error)
        return 0
    ui.picture(path, {**record.table(), "skipped": False, **({"stages": stages} if stages else {})})
    return 1


def _write(request: Request, path: Path, pixels: Tensor, record: Record) -> Path:
    from t2i.files import retry_name
    from t2i.images import save_image, to_pil

    image = to_pil(pixels)
    _make_folder(path.parent)
    if request.overwrite:
        save_image(image, path, record)
        return path
    return retry_name(path, lambda p: save_image(image, p, record, exclusive=True))


def _write_stage(path: Path, stage: str, pixels: Tensor, record: Record) -> Path:
    from dataclasses import replace

    from t2i.images import save_image, to_pil

    image = to_pil(pixels)
    beside = path.with_name(f"{path.stem}.{stage}{path.suffix}")
    # the key is the finished picture's: a stage must not be taken for it
    save_image(image, beside, replace(record, key=f"{record.key}.{stage}", size=image.size))
    return beside


def _make_folder(folder: Path) -> None:
    from t2i.files import explain_os_error

    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = explain_os_error(error)
        raise InputError(
            f"cannot make the folder {folder}: {what}.", "Choose another with -o.", "output"
        ) from error
