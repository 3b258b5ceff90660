"""From a checked request to files: what is there already is told again, the rest is drawn in batches."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.batching import in_halves
from t2i.errors import InputError, InternalError
from t2i.jobs.device import pick_device
from t2i.jobs.job import Job, content_key
from t2i.jobs.manifests import Manifests
from t2i.jobs.output_index import OutputIndex
from t2i.jobs.output_paths import OutputPaths, make_folder, variants
from t2i.jobs.reporter import OnStep, Reporter, Stopped, shorten
from t2i.jobs.timing import StageTimer
from t2i.media.record import carried, edited_source_type
from t2i.prompts import unseen

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from t2i.jobs.inputs import SourceImage
    from t2i.media.c2pa import Signer
    from t2i.media.record import Record
    from t2i.pipeline import Pipeline, Samples
    from t2i.sampling import SampleRequest
    from t2i.store.bundle import Bundle

    #: how jobs with equal dials become pictures where it is not by `Pipeline.sample`: from pictures, for example
    Paint = Callable[[Pipeline, list[Job], SampleRequest, OnStep], Samples]

PATIENCE = 10  # pictures in a row that may fail before anything was drawn
MOST_WORDS = 5  # unknown words of a prompt that are told one by one
AHEAD = 8  # batches of jobs that may wait for others with the same dials, or be told later than they were drawn


@dataclass(frozen=True)
class RunRequest:
    """What a run was asked for, beside its jobs.

    size: width and height where they are not those of the job; source_type: IPTC's word for how much of the picture a
    model made; source: what the edited picture said of itself; icc: its colour profile, to be written again.
    """

    bundle: Bundle
    names: OutputPaths
    keep_stages: bool = False
    overwrite: bool = False
    private: bool = False
    signer: Signer | None = None
    command: str = "sample"
    size: tuple[int, int] | None = None
    source_type: str = "trainedAlgorithmicMedia"
    source: dict[str, Any] | None = None
    icc: bytes | None = None

    @classmethod
    def editing(
        cls, bundle: Bundle, names: OutputPaths, command: str, source: SourceImage, **options: Any
    ) -> RunRequest:
        """The request of a command whose pictures come from `source`. options: other fields."""
        options["signer"] = source.signer(options.get("signer"))
        return cls(
            bundle,
            names,
            command=command,
            source_type=edited_source_type(source.marks, command),
            source=carried(source.marks),
            icc=source.picture.icc,
            **options,
        )

    def record(self, job: Job, cut: str | None = None) -> Record:
        """What the picture of ``job`` will say about itself."""
        from t2i.media.record import Record

        dials = job.dials
        return Record(
            key=self.key(job),
            command=self.command,
            prompt=job.prompt,
            seed=job.seed,
            model=self.bundle.manifest.name,
            weights=self.digest,
            size=self.size or (dials.size, dials.size),
            settings=dials.settings,
            negative=dials.negative,
            cut=cut,
            private=self.private,
            source_type=self.source_type,
            files=_weights(self.bundle, list(dials.settings["stages"])),
            source=self.source,
            signer=self.signer,
        )

    @cached_property
    def digest(self) -> str:
        """The model's; asked for with every picture, and worked out once."""
        return self.bundle.digest

    def key(self, job: Job) -> str:
        """By what the picture of ``job`` is known."""
        return content_key(self.digest, job.prompt, job.dials.negative, job.seed, job.dials.settings)


def _weights(bundle: Bundle, stages: list[str]) -> dict[str, str]:
    """sha256 of the weights that a picture came from: the text encoder's and its stages'."""
    from t2i.store.compatibility import ENCODERS

    manifest = bundle.manifest
    used = [entry for entry in manifest.stages if entry.kind in ENCODERS or entry.name in stages]
    return {entry.name: manifest.digest(entry) for entry in used}


class Runner:
    """One run: draws what is not there yet and reports every picture in the order asked for.

    Jobs with equal dials are drawn together, also when others stand between them; a picture is saved as soon as
    it is drawn and told as soon as those before it have been.  Raises Stopped after a signal.
    """

    def __init__(
        self,
        reporter: Reporter,
        request: RunRequest,
        jobs: Sequence[Job],
        device: str,
        batch: int,
        remember: bool = False,
        paint: Paint | None = None,
    ) -> None:
        self.reporter, self.request, self.jobs, self.device, self.batch = reporter, request, jobs, device, batch
        self.paint = paint
        self.pipeline: Pipeline | None = None
        self.remember = remember
        self.paths: dict[int, Path] = {}  # index -> its picture, if they are to be remembered
        self._shelf = OutputIndex(reporter.warn)
        self._manifests = Manifests(not request.names.single)
        self._drawn: dict[str, str] = {}  # key -> its file, of this run
        self._mine: set[str] = set()  # these files
        self._warned: set[int] = set()  # prompts and words that have been warned of
        self._waiting: dict[str, dict[str, Job]] = {}  # dials -> key -> job
        self._ready: dict[int, tuple[Path, dict[str, Any], Image | None] | None] = {}
        self._next = 0  # index of the next picture to tell
        self._done = 0
        self._started = time.monotonic()

    def run(self) -> None:
        """All of it."""
        for job in self.jobs:
            self._take(job)
        while self._waiting:
            self._flush(next(iter(self._waiting)))
        if self._drawn:
            count = f"{len(self._drawn)} picture{'s' * (len(self._drawn) > 1)}"
            self.reporter.note(f"{count} in {time.monotonic() - self._started:.1f} s")

    def finish(self) -> None:
        """Raise InputError (code ``partial``) when a picture came out as no picture."""
        if self.reporter.failed:
            failed = f"{self.reporter.failed} of {len(self.jobs)} pictures failed."
            raise InputError(failed, "See above.", "partial")

    def _take(self, job: Job) -> None:
        """Tell a picture that is there; let one that is not wait for its batch."""
        key = self.request.key(job)
        group = job.dials.group
        if key in self._waiting.get(group, {}):  # asked for twice
            self._flush(group)
        found: tuple[Path, dict[str, Any]] | None = None
        if key in self._drawn:
            found = Path(self._drawn[key]), self.request.record(job).table()
        elif not self.request.overwrite:
            found = self._shelf.find(self.request.names.path(job), key)
        if found is not None:
            self._manifests.add(*found)
            self._tell(job, found[0], {**found[1], "skipped": True})
        else:
            self._waiting.setdefault(group, {})[key] = job
            if len(self._waiting[group]) >= self.batch:
                self._flush(group)
        most = AHEAD * self.batch
        while self._waiting and max(sum(map(len, self._waiting.values())), len(self._ready)) > most:
            self._flush(next(iter(self._waiting)))  # the group that has waited longest

    def _flush(self, group: str) -> None:
        """Draw and save the jobs of a group; a signal in between is obeyed afterwards."""
        jobs = list(self._waiting.pop(group).values())
        if self.pipeline is None:
            from t2i.pipeline import Pipeline

            device, path = pick_device(self.device), self.request.bundle.path
            dtype = jobs[0].dials.settings["dtype"]
            self.pipeline = Pipeline.load(path, device=device, dtype=dtype)
        first, last = jobs[0].index + 1, jobs[-1].index + 1
        span = f"picture {first}" if first == last else f"pictures {first}-{last}"
        with self.reporter.finishing(span) as signals:
            with self.reporter.progress(f"{span} of {len(self.jobs)}", self._done, len(self.jobs)) as on_step:
                groups = self._draw(jobs, on_step)
            for some, (samples, clock) in groups:
                for i, job in enumerate(some):
                    self._save(job, samples, i, clock.table(len(some)))
        if signals:
            for index in sorted(self._ready):  # what was drawn out of turn
                self._say(self._ready.pop(index))
            raise Stopped(signals[0])

    def _draw(self, jobs: list[Job], on_step: OnStep) -> list[tuple[list[Job], tuple[Samples, StageTimer]]]:
        pipeline = self.pipeline
        assert pipeline is not None

        def draw(some: list[Job]) -> tuple[Samples, StageTimer]:
            clock = StageTimer()
            prompts, seeds = [job.prompt for job in some], [job.seed for job in some]
            settings = some[0].dials.engine(self.request.keep_stages)
            if self.paint is not None:
                return self.paint(pipeline, some, settings, clock.watch(on_step)), clock
            return pipeline.sample(prompts, seeds, settings, on_step=clock.watch(on_step)), clock

        def halved(size: int) -> None:
            self.batch = max(1, min(self.batch, size))
            self.reporter.note(f"not enough memory for this batch; going on with {self.batch} at a time")

        return in_halves(draw, jobs, halved)

    def _save(self, job: Job, samples: Samples, i: int, timing: dict[str, Any]) -> None:
        """Write one picture and report it; count it as failed where it is no picture."""
        from t2i.media.images import to_pil

        cut = samples.truncated[i]
        self._warn(job, cut, samples.unknown[i])
        record = self.request.record(job, cut)
        try:
            image = to_pil(samples.images[i])
            path, ours = self._write(self.request.names.path(job), image, record)
            stages = {}
            for name, pixels in samples.stages.items() if self.request.keep_stages else ():
                if pixels.ndim == 4:  # not the prior's embeddings
                    stages[name] = str(_write_stage(path, name, pixels[i], record))
        except InternalError as error:
            self.reporter.failed += 1
            self.reporter.fail(error)
            if self.reporter.failed >= PATIENCE and not self._drawn:
                hint = "The model, or its numbers in this --dtype, cannot draw this."
                raise InputError(f"the first {PATIENCE} pictures all failed.", hint, "partial") from error
            self._tell(job, None, {})
            return
        self._drawn[record.key] = str(path)
        self._mine.add(str(path))
        table = record.table()
        self._manifests.add(path, table)
        told = {**table, "skipped": not ours, **({"stages": stages} if stages else {}), **timing}
        self._tell(job, path, told, image if self.reporter.shows else None)

    def _tell(self, job: Job, path: Path | None, table: dict[str, Any], image: Image | None = None) -> None:
        """Report a picture, once all before it have been reported; ``path`` is None for one that failed."""
        self._done += 1
        if path is not None and self.remember:
            self.paths[job.index] = path
        if job.label:
            table = {**table, "sweep": list(job.label)}
        self._ready[job.index] = None if path is None else (path, table, image)
        while self._next in self._ready:
            self._say(self._ready.pop(self._next))
            self._next += 1

    def _say(self, told: tuple[Path, dict[str, Any], Image | None] | None) -> None:
        if told is not None:
            path, table, image = told
            self.reporter.picture(path, table, image)

    def _warn(self, job: Job, cut: str | None, unknown: list[str]) -> None:
        """Say once a prompt what of it the model does not read; of a word, once a run that it is unknown."""
        name = hash(job.prompt)
        if name in self._warned:
            return
        self._warned.add(name)
        odd = unseen(job.prompt)
        if odd:
            shown = ", ".join(f"U+{ord(c):04X}" for c in odd[:MOST_WORDS])
            self.reporter.warn(f"the prompt holds characters that do not show ({shown}): “{shorten(job.prompt)}”")
        if cut:
            self.reporter.warn(f"the prompt is longer than the model reads; it did not see “{shorten(cut)}”")
        assert self.pipeline is not None
        unknown = [word for word in unknown if hash((word,)) not in self._warned]
        self._warned |= {hash((word,)) for word in unknown}
        for word in unknown[:MOST_WORDS]:
            near = ", ".join(self.pipeline.words.near(word))
            self.reporter.warn(f"the model has never read {shorten(word)!r}" + (f"; near: {near}" if near else ""))
        if len(unknown) > MOST_WORDS:
            self.reporter.warn(f"nor {len(unknown) - MOST_WORDS} other words of the prompt")

    def _write(self, path: Path, image: Image, record: Record) -> tuple[Path, bool]:
        """Save a picture under its name, or the first free one after it. Where another run has drawn the same
        picture meanwhile, that one is taken, and the second value is False."""
        from t2i.media.images import save_image

        make_folder(path.parent)
        if self.request.overwrite:  # but never a picture of this very run
            path = next(name for name in variants(path) if str(name) not in self._mine)
            save_image(image, path, record, icc=self.request.icc)
            return path, True
        while True:
            free = self._shelf.free(path)
            try:
                save_image(image, free, record, exclusive=True, icc=self.request.icc)
                self._shelf.put(path, free, record.key)
                return free, True
            except FileExistsError:
                found = self._shelf.find(path, record.key)
                if found is not None:
                    return found[0], False


def _write_stage(path: Path, stage: str, pixels: Tensor, record: Record) -> Path:
    from t2i.media.images import save_image, to_pil

    image = to_pil(pixels)
    beside = path.with_name(f"{path.stem}.{stage}{path.suffix}")
    # the key is the finished picture's: a stage must not be taken for it
    save_image(image, beside, replace(record, key=f"{record.key}.{stage}", size=image.size))
    return beside
