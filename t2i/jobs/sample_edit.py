"""The edit of `t2i sample`: --init, --rerank, --prior, --prior-best-of."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.engine import OnStep
from t2i.errors import UsageError, check_choice
from t2i.jobs.edits import check_sees, check_strength
from t2i.jobs.engine import bundle_pipeline
from t2i.jobs.inputs import SourceImage, read_square
from t2i.jobs.job import Job, batch_of
from t2i.jobs.reporter import Reporter
from t2i.jobs.settings import Settings
from t2i.sampling import PRIORS, SampleRequest, SamplingConfig

if TYPE_CHECKING:
    from t2i.engine import Engine, Samples
    from t2i.media.c2pa import Signer
    from t2i.store.models import StoredModel

MAX_CANDIDATES = 1000  # pictures, or embeddings, that compete for one
STRENGTH = 0.6  # of --init


@dataclass(frozen=True)
class SampleEdit:
    """What these options ask for, checked. It enters each picture's key and record.

    init: the picture to start from (SDEdit, arXiv 2108.01073); strength: how far to go from it, in (0, 1]; rerank: draw
    so many and keep the best by CLIP; prior: "none" or None; best_of: embeddings that the prior draws, to keep one.
    """

    init: SourceImage | None = None
    strength: float | None = None
    rerank: int | None = None
    prior: str | None = None
    best_of: int | None = None

    @classmethod
    def read(
        cls,
        reporter: Reporter,
        *,
        init: Path | None,
        strength: float | None,
        rerank: int | None,
        prior: str | None,
        best_of: int | None,
    ) -> SampleEdit:
        """Raises UsageError for options that do not go together, InputError for a picture that cannot be read."""
        if strength is not None and init is None:
            raise UsageError("--strength needs a picture.", "Say which: --init sketch.png")
        if rerank is not None and init is not None:
            raise UsageError("--rerank and --init do not go together.", "Draw more with -n and choose.")
        if prior is not None:
            check_choice("prior", prior, PRIORS)
        if prior == "none" and best_of is not None:
            raise UsageError("--prior none and --prior-best-of do not go together.", "Leave one of them out.")
        check_strength(strength)
        if strength == 0:
            raise UsageError("--strength 0 changes nothing.", "Write a number above 0 and at most 1.")
        source = read_square(reporter, init) if init is not None else None
        return cls(source, strength, rerank, prior if prior != "diffusion" else None, best_of)

    def check_model(self, model: StoredModel) -> None:
        """Raise UsageError for a model without the part that is needed: an image encoder, or a prior."""
        for option, given in self._options().items():
            if given:
                model.check_can(option)
        if self.rerank:
            check_sees(model, "--rerank", "Draw more with -n and choose, or use --model small.")
        option = "--prior-best-of" if self.best_of else "--prior" if self.prior else ""
        if option and not model.manifest.of_kind("prior"):
            what = f"{option} needs a prior, and the model {model.manifest.name!r} has none."
            raise UsageError(what, "Leave it out: its base reads the text itself.")

    @property
    def without(self) -> tuple[str, ...]:
        """The kinds of stage that do not run."""
        return ("prior",) if self.prior == "none" else ()

    @property
    def reads(self) -> list[Path]:
        """The files that are read."""
        return [] if self.init is None else [self.init.path]

    def _options(self) -> dict[str, Any]:
        return {
            "--init": self.init,
            "--rerank": self.rerank,
            "--prior": self.prior,
            "--prior-best-of": self.best_of,
        }

    def signer(self, signer: Signer | None) -> Signer | None:
        """The signer for the pictures; one that starts from a picture names it as its parent."""
        return signer if self.init is None else self.init.signer(signer)

    def apply(self, settings: Settings) -> Settings:
        """The same settings with what this asks for, for keys and records."""
        more: dict[str, Any] = {"rerank": self.rerank, "prior": self.prior, "prior_best_of": self.best_of}
        if self.init is not None:
            strength = {} if self.strength is None else {"strength": self.strength}
            more["init"] = {"pictures": [self.init.digest], **strength}
        more = {name: value for name, value in more.items() if value}
        return settings.adding(more) if more else settings

    def jobs(self, prompt: str, seeds: Sequence[int], settings: Settings) -> list[Job]:
        """A job for each seed, from the picture of --init. settings: with what this asks for."""
        assert self.init is not None
        name = f"init {self.init.path.stem} {prompt}"
        return [Job(prompt, seed, i, i, settings, name) for i, seed in enumerate(seeds)]

    def draw(self, engine: Engine, jobs: list[Job], request: SampleRequest, on_step: OnStep) -> Samples:
        """The pictures of jobs with equal settings."""
        request = replace(request, prior=self.prior or "diffusion")
        for entry in bundle_pipeline(engine).manifest.of_kind("prior") if self.best_of else ():
            request = request.override(entry.name, SamplingConfig(best_of=self.best_of))
        batch = batch_of(jobs, request, on_step)
        if self.init is not None:
            strength = STRENGTH if self.strength is None else self.strength
            return engine.image_to_image(self.init.tensor, batch, strength=strength)
        if self.rerank:
            from t2i.edit.rerank import rerank

            pipeline = bundle_pipeline(engine)
            return rerank(pipeline, batch.prompts, batch.seeds, self.rerank, request, on_step=on_step).samples
        return engine.sample(batch)
