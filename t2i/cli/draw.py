"""From a checked request to files: what is there already is told again, the rest is drawn in batches."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from t2i.cli import options as opt
from t2i.cli.jobs import Job, Names, content_key, find_done, variants
from t2i.cli.ui import UI, shorten
from t2i.errors import InputError, InternalError, UnavailableError
from t2i.files import explain_os_error, retry_name

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.marks import Record
    from t2i.pipeline import Pipeline, Samples, SampleSettings
    from t2i.store.bundle import Bundle

PATIENCE = 10  # pictures in a row that may fail before anything was drawn
MOST_WORDS = 5  # unknown words of a prompt that are told one by one


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


class Drawing:
    """One run: draws what is not there yet and reports every picture in the order asked for.

    Raises InputError (code ``partial``) when a picture came out as no picture, typer.Exit after a signal.
    """

    def __init__(self, ui: UI, request: Request, jobs: list[Job], device: str, batch: int) -> None:
        self.ui, self.request, self.jobs, self.device, self.batch = ui, request, jobs, device, batch
        self.pipeline: Pipeline | None = None
        self.drawn: dict[str, Path] = {}  # key -> its file, of this run
        self.told: set[str] = set()  # prompts that have been warned of
        self.waiting: dict[str, Job] = {}  # key -> job

    def run(self) -> None:
        """All of it."""
        started = time.monotonic()
        for job in self.jobs:
            record = self.request.record(job)
            if record.key in self.waiting:  # asked for twice
                self.flush()
            done = self.drawn.get(record.key)
            if done is None and not self.request.overwrite:
                done = find_done(self.request.names.path(job), record.key)
            if done is not None:
                self.flush()
                self.ui.picture(done, {**record.table(), "skipped": True})
                continue
            self.waiting[record.key] = job
            if len(self.waiting) == self.batch:
                self.flush()
        self.flush()
        if self.drawn:
            count = f"{len(self.drawn)} picture{'s' * (len(self.drawn) > 1)}"
            self.ui.note(f"{count} in {time.monotonic() - started:.1f} s")
        if self.ui.failed:
            failed = f"{self.ui.failed} of {len(self.jobs)} pictures failed."
            raise InputError(failed, "See above.", "partial")

    def flush(self) -> None:
        """Draw and save the pictures that wait; a signal in between is obeyed afterwards."""
        if not self.waiting:
            return
        jobs = list(self.waiting.values())
        if self.pipeline is None:
            from t2i.pipeline import Pipeline

            device, path = opt.pick_device(self.device), self.request.bundle.path
            self.pipeline = Pipeline.load(path, device=device, dtype=self.request.dtype)
        first, last = jobs[0].index + 1, jobs[-1].index + 1
        span = f"picture {first}" if first == last else f"pictures {first}-{last}"
        with self.ui.finishing(span) as signals:
            with self.ui.progress(f"{span} of {len(self.jobs)}") as on_step:
                groups = draw(self.pipeline, self.request, jobs, on_step)
            for group, samples in groups:
                for i, job in enumerate(group):
                    self.save(job, samples, i)
        self.waiting.clear()
        if signals:
            raise typer.Exit(128 + signals[0])

    def save(self, job: Job, samples: Samples, i: int) -> None:
        """Write one picture and report it; count it as failed where it is no picture."""
        cut = samples.truncated[i]
        self.warn(job, cut, samples.unknown[i])
        record = self.request.record(job, cut)
        try:
            path = self.write(self.request.names.path(job), samples.images[i], record)
            stages = {}
            for name, pixels in samples.stages.items() if self.request.keep_stages else ():
                if pixels.ndim == 4:  # not the prior's embeddings
                    stages[name] = str(_write_stage(path, name, pixels[i], record))
        except InternalError as error:
            self.ui.failed += 1
            self.ui.fail(error)
            if self.ui.failed >= PATIENCE and not self.drawn:
                hint = "The model, or its numbers in this --dtype, cannot draw this."
                raise InputError(f"the first {PATIENCE} pictures all failed.", hint, "partial") from error
            return
        self.drawn[record.key] = path
        self.ui.picture(path, {**record.table(), "skipped": False, **({"stages": stages} if stages else {})})

    def warn(self, job: Job, cut: str | None, unknown: list[str]) -> None:
        """Say once a prompt what of it the model does not read."""
        if job.prompt in self.told:
            return
        self.told.add(job.prompt)
        if cut:
            self.ui.warn(f"the prompt is longer than the model reads; it did not see “{shorten(cut)}”")
        assert self.pipeline is not None
        for word in unknown[:MOST_WORDS]:
            near = ", ".join(self.pipeline.words.near(word))
            self.ui.warn(f"the model has never read {shorten(word)!r}" + (f"; near: {near}" if near else ""))
        if len(unknown) > MOST_WORDS:
            self.ui.warn(f"nor {len(unknown) - MOST_WORDS} other words of the prompt")

    def write(self, path: Path, pixels: Tensor, record: Record) -> Path:
        """Save a picture under its name, or the first free one after it."""
        from t2i.images import save_image, to_pil

        image = to_pil(pixels)
        _make_folder(path.parent)
        if self.request.overwrite:  # but never a picture of this very run
            mine = set(self.drawn.values())
            path = next(name for name in variants(path) if name not in mine)
            save_image(image, path, record)
            return path
        return retry_name(path, lambda name: save_image(image, name, record, exclusive=True))


def draw(pipeline: Pipeline, request: Request, jobs: list[Job], on_step: Any) -> list[tuple[list[Job], Samples]]:
    """Sample ``jobs`` together; where memory does not suffice, in halves. The pictures are the same either
    way."""
    import torch

    try:
        prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
        return [(jobs, pipeline.sample(prompts, seeds, request.engine_settings(), on_step=on_step))]
    except (torch.OutOfMemoryError, MemoryError) as error:
        if len(jobs) == 1:
            raise UnavailableError(
                "there is not enough memory for one picture.", "Try a smaller --size.", "memory"
            ) from error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    half = len(jobs) // 2
    return [*draw(pipeline, request, jobs[:half], on_step), *draw(pipeline, request, jobs[half:], on_step)]


def _write_stage(path: Path, stage: str, pixels: Tensor, record: Record) -> Path:
    from t2i.images import save_image, to_pil

    image = to_pil(pixels)
    beside = path.with_name(f"{path.stem}.{stage}{path.suffix}")
    # the key is the finished picture's: a stage must not be taken for it
    save_image(image, beside, replace(record, key=f"{record.key}.{stage}", size=image.size))
    return beside


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = explain_os_error(error)
        raise InputError(f"cannot make the folder {folder}: {what}.", "Choose another with -o.", "output") from error
