"""What a run was asked for, apart from its jobs: where pictures go, what their records say, how they are drawn."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from t2i.engine import OnStep
from t2i.jobs.engine import load_engine
from t2i.jobs.job import Job, batch_of, content_key
from t2i.media.record import GENERATED, Record, carried, edited_source_type
from t2i.sampling import pair

if TYPE_CHECKING:
    from t2i.engine import Engine, Samples
    from t2i.jobs.inputs import SourceImage
    from t2i.media.c2pa import Signer
    from t2i.sampling import SampleRequest
    from t2i.store.models import StoredModel

    DrawJobs = Callable[[Engine, list[Job], SampleRequest, OnStep], Samples]
    """Draws jobs with equal settings; in place of `Engine.sample`."""


class AnyJob(Protocol):
    """What the runner reads of a job. index: its number in the run, from 0; group: jobs of one group may share a batch;
    label: its point of a sweep; place: jobs with equal keys are drawn once for each place."""

    @property
    def index(self) -> int: ...
    @property
    def group(self) -> str: ...
    @property
    def label(self) -> tuple[str, ...]: ...
    @property
    def place(self) -> str: ...


J = TypeVar("J", bound=AnyJob)


class Request(Protocol[J]):
    """What the runner asks of a request. overwrite: whether pictures that exist are drawn again; keep_stages: whether
    the output of each stage is saved too; manifest: whether each folder gets a manifest.jsonl."""

    @property
    def overwrite(self) -> bool: ...
    @property
    def keep_stages(self) -> bool: ...
    @property
    def manifest(self) -> bool: ...

    def names(self, job: J) -> Sequence[Path]:
        """The files that the picture may have, the best first; then come numbered variants of the last."""

    def record(self, job: J, cut: str | None = None) -> Record:
        """What the picture will say about itself; `cut` is the part of the prompt that the model did not read.
        Raises T2IError where the job cannot be done: the run goes on with the next."""

    def said(self, job: J) -> str:
        """The text that the model is given."""

    def load(self, job: J, device: str) -> Engine:
        """The model that draws the job, and all others of the run."""

    def draw(self, engine: Engine, jobs: list[J], on_step: OnStep) -> Samples:
        """The pictures of jobs of one group."""

    def icc(self, job: J) -> bytes | None:
        """A colour profile to write into the file."""

    def reads(self, job: J) -> Collection[Path]:
        """The files that the job reads, never to be overwritten by its picture."""

    def facts(self, job: J, timing: dict[str, Any]) -> dict[str, Any]:
        """What `--json` says of a new picture besides its record."""


@dataclass(frozen=True)
class DrawRequest:
    """The request of `sample`, `vary`, `inpaint` and of a suite that `score` draws.

    names: the files that the picture of a job may have; private: keep prompts out of the file; edited: the picture that
    is edited, whose record and colour profile are carried over; inputs: all files that are read; size: width and height
    where they are not those of the settings; draw_jobs: in place of `Engine.sample`.
    """

    model: StoredModel
    names: Callable[[Job], Sequence[Path]]
    command: str = "sample"
    keep_stages: bool = False
    overwrite: bool = False
    manifest: bool = True
    private: bool = False
    signer: Signer | None = None
    edited: SourceImage | None = None
    inputs: Collection[Path] = ()
    size: tuple[int, int] | None = None
    draw_jobs: DrawJobs | None = None

    @cached_property
    def digest(self) -> str:
        """The model's digest, computed once."""
        return self.model.digest

    def key(self, job: Job) -> str:
        """The content key of a job's picture."""
        return content_key(self.digest, job.prompt, job.settings.negative, job.seed, job.settings.table)

    def record(self, job: Job, cut: str | None = None) -> Record:
        """See `Request`."""
        settings, tags = job.settings, self.edited.tags if self.edited else None
        return Record(
            key=self.key(job),
            command=self.command,
            prompt=job.prompt,
            seed=job.seed,
            model=self.model.manifest.name,
            weights=self.digest,
            size=self.size or pair(settings.size),
            settings=settings.table,
            negative=settings.negative,
            cut=cut,
            source_type=GENERATED if tags is None else edited_source_type(tags, self.command),
            private=self.private,
            files=self.model.weights(list(settings.table["stages"])),
            source=None if tags is None else carried(tags),
            signer=self.signer,
        )

    def said(self, job: Job) -> str:
        """See `Request`."""
        return job.prompt

    def load(self, job: Job, device: str) -> Engine:
        """See `Request`."""
        return load_engine(self.model, device, job.settings.loading)

    def draw(self, engine: Engine, jobs: list[Job], on_step: OnStep) -> Samples:
        """See `Request`."""
        request = jobs[0].settings.request(self.keep_stages)
        if self.draw_jobs is not None:
            return self.draw_jobs(engine, jobs, request, on_step)
        return engine.sample(batch_of(jobs, request, on_step))

    def icc(self, job: Job) -> bytes | None:
        """See `Request`."""
        return self.edited.picture.icc if self.edited else None

    def reads(self, job: Job) -> Collection[Path]:
        """See `Request`."""
        return self.inputs

    def facts(self, job: Job, timing: dict[str, Any]) -> dict[str, Any]:
        """See `Request`."""
        return timing
