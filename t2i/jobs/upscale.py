"""The request of `t2i upscale`: pictures of any size, enlarged one after the other."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.batching import out_of_memory
from t2i.engine import OnStep, PromptBatch, Samples
from t2i.errors import InputError, T2IError, UnavailableError, UsageError
from t2i.jobs.engine import load_engine
from t2i.jobs.inputs import MAX_PIXELS, SourceImage, read_edited
from t2i.jobs.job import content_key
from t2i.jobs.parsing import MAX_SCALE
from t2i.jobs.reporter import Reporter, shorten
from t2i.media.record import Record, carried, edited_source_type

if TYPE_CHECKING:
    from t2i.engine import Engine, Upscaled
    from t2i.media.c2pa import Signer
    from t2i.store.load_options import LoadOptions
    from t2i.store.models import StoredModel


def enlarged_size(
    width: int, height: int, to: int | None, scale: float | None, factors: Sequence[int]
) -> tuple[int, int]:
    """Width and height after enlarging `scale` times, or until the longer side has `to` pixels; nothing gets smaller.

    factors: by how much each upsampler of the model enlarges. Raises UsageError for a scale outside of [1, 64],
    InputError (code `image`) for too many pixels, in the result or on the way to it.
    """
    if scale is not None and not 1 <= scale <= MAX_SCALE:
        what = f"the picture would become {scale:g} times as large."
        raise UsageError(what, f"It can become 1 to {MAX_SCALE:g} times as large.")
    factor = scale if scale is not None else max(1.0, (to or 0) / max(width, height))
    wide, high = max(1, round(width * factor)), max(1, round(height * factor))
    if wide * high > MAX_PIXELS:
        what = f"enlarged it would have {wide * high / 1e6:.0f} megapixels; at most 64 are made."
        raise InputError(what, "Ask for less.", "image")
    each = max(factors, default=1)
    uses = max(0, math.ceil(math.log(factor, each) - 1e-9)) if factor > 1 and each > 1 else 0
    largest = width * height * each ** (2 * uses)
    if largest > 4 * MAX_PIXELS:
        hint = f"Ask for a scale of {each ** max(uses - 1, 0)} at most, or a smaller picture."
        raise InputError(f"on its way it would have {largest / 1e6:.0f} megapixels.", hint, "image")
    return wide, high


@dataclass(frozen=True)
class UpscaleJob:
    """One picture to be enlarged. path: its file; below: where its result goes, relative to the output folder."""

    path: Path
    below: Path
    index: int
    label: tuple[str, ...] = ()

    @property
    def group(self) -> str:
        """Pictures have sizes of their own: each is a batch."""
        return str(self.index)

    @property
    def place(self) -> str:
        """Equal pictures in two files become two files."""
        return str(self.below)


@dataclass
class UpscaleRequest:
    """A checked request. Either `to`, the longer side in pixels, or `scale` is given.

    gate: whether the share of the model's detail is measured on each picture; strict: whether an animation is refused.
    lone: whether one picture was named, which is refused where it has `to` pixels already; among several its pixels are
    kept. large: the pictures that have.
    """

    reporter: Reporter
    model: StoredModel
    folder: Path
    to: int | None
    scale: float | None
    prompt: str
    seed: int
    steps: dict[str, int]
    tile: int
    gate: bool
    loading: LoadOptions
    overwrite: bool
    strict: bool
    private: bool
    signer: Signer | None
    manifest: bool = True
    lone: bool = False
    large: set[Path] = field(default_factory=set, init=False)
    keep_stages: bool = field(default=False, init=False)
    _source: tuple[int, SourceImage] | None = field(default=None, init=False)
    """The picture at hand, as its job's index, and what became of it; the runner takes one at a time."""
    _result: Upscaled | None = field(default=None, init=False)

    @property
    def reads_text(self) -> bool:
        """Whether an upsampler of the model reads the prompt."""
        stages = self.model.manifest.of_kind("upsampler")
        return any(self.model.configs[e.name]["widths"].get("text_dim") for e in stages)

    def names(self, job: UpscaleJob) -> Sequence[Path]:
        """See `Request`."""
        return [self.folder / job.below]

    def source(self, job: UpscaleJob) -> SourceImage:
        """The picture of a job, read once."""
        if self._source is None or self._source[0] != job.index:
            self._source = job.index, read_edited(self.reporter, job.path, self.strict)
        return self._source[1]

    def size(self, source: SourceImage) -> tuple[int, int]:
        """Width and height of the result. Raises InputError for too many pixels."""
        widths = [self.model.configs[e.name]["widths"] for e in self.model.manifest.of_kind("upsampler")]
        factors = [table["size"] // table["low"] for table in widths]
        return enlarged_size(*source.image.size, self.to, self.scale, factors)

    def record(self, job: UpscaleJob, cut: str | None = None) -> Record:
        """See `Request`. Raises T2IError, which names the file, for a picture that cannot be read or enlarged."""
        try:
            self._check_grows(self.source(job))
            return self._record(self.source(job))
        except T2IError as error:
            if str(job.path) in error.message:
                raise
            raise type(error)(f"{job.path}: {error.message}", error.hint, error.code) from error

    def _check_grows(self, source: SourceImage) -> None:
        """Note a picture that has `to` pixels already. Raises UsageError for a lone one."""
        longer = max(source.image.size)
        if self.to is None or longer < self.to:
            return
        if self.lone:
            what = f"its longer side has {longer} pixels already, and nothing is made smaller."
            raise UsageError(what, f"Write --to with more than {longer}, or --scale 2.")
        self.large.add(source.path)

    def _record(self, source: SourceImage) -> Record:
        size = self.size(source)
        manifest, tags = self.model.manifest, source.tags
        stages = {
            e.name: {"steps": self.steps.get(e.name, e.defaults.steps), "sampler": e.defaults.sampler}
            for e in manifest.of_kind("upsampler")
        }
        settings = {
            "size": list(size),
            **self.loading.facts(),
            "stages": stages,
            "upscale": {"picture": source.digest, "measured": self.gate},
        }
        prompt = self.prompt or str((tags.get("t2i") or {}).get("prompt") or "")
        return Record(
            key=content_key(self.model.digest, prompt, "", self.seed, settings),
            command="upscale",
            prompt=prompt,
            seed=self.seed,
            model=manifest.name,
            weights=self.model.digest,
            size=size,
            settings=settings,
            source_type=edited_source_type(tags, "upscale"),
            private=self.private,
            files=self.model.weights(list(stages), text=False),
            source=carried(tags),
            signer=source.signer(self.signer),
        )

    def said(self, job: UpscaleJob) -> str:
        """See `Request`."""
        return self.prompt if self.reads_text else ""

    def load(self, job: UpscaleJob, device: str) -> Engine:
        """See `Request`."""
        return load_engine(self.model, device, self.loading)

    def draw(self, engine: Engine, jobs: list[UpscaleJob], on_step: OnStep) -> Samples:
        """See `Request`. Raises UnavailableError (code `memory`)."""
        from t2i.media.images import to_tensor
        from t2i.sampling import SampleRequest, by_stage

        (job,) = jobs
        source = self.source(job)
        width, height = self.size(source)
        try:
            self._result = engine.upscale(
                to_tensor(source.image),
                (height, width),
                PromptBatch([self.said(job)], [self.seed], SampleRequest(stages=by_stage(steps=self.steps)), on_step),
                tile=self.tile,
                gate=self.gate,
            )
        except (MemoryError, RuntimeError) as error:
            if not out_of_memory(error):
                raise
            what = f"there is not enough memory to enlarge {job.path}."
            raise UnavailableError(what, "Ask for less, or try a smaller --tile.", "memory") from error
        return Samples(self._result.image[None], {}, [None], [[]])

    def icc(self, job: UpscaleJob) -> bytes | None:
        """See `Request`."""
        return self.source(job).picture.icc

    def reads(self, job: UpscaleJob) -> Collection[Path]:
        """See `Request`."""
        return [job.path]

    def facts(self, job: UpscaleJob, timing: dict[str, Any]) -> dict[str, Any]:
        """How much of the model's detail was kept; told on stderr, too."""
        assert self._result is not None
        self.reporter.note(f"{shorten(str(job.path))}: {_sentence(self._result, self.gate)}")
        return {"detail": round(self._result.share, 3)}


def _sentence(result: Upscaled, measured: bool) -> str:
    if not result.factors:
        return "nothing to enlarge; its pixels are kept"
    if not measured:
        return "all of the model's detail kept, unmeasured"
    if result.share < 0.02:
        return "the model's detail did not beat Lanczos on it, so this is Lanczos"
    return f"{result.share:.0%} of the model's detail kept, measured on the picture itself"
