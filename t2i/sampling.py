"""How a stage is sampled, and what is asked of a whole cascade. Imports no torch: manifests are read without it.

`SamplingConfig` is the one type for how a stage is sampled. A recipe gives it, the manifest stores it as the stage's
default, a request overrides it, and the stage takes it. A new setting is one field here, and one option: see
`t2i/jobs/stage_options.py`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, Literal, TypeVar

from t2i.errors import UsageError, nearest
from t2i.schema import Between

Threshold = tuple[Annotated[float, Between(1e-6, 1)], Annotated[float, Between(1, 1e6)]] | Literal["static", "none"]
"""(percentile in (0, 1], cap >= 1) of dynamic thresholding, "static" (clip x0_hat to [-1, 1]), or "none"."""
Guidance = Annotated[float, Between(0, 100)]

SAMPLERS = ("euler", "heun", "dpmpp_2m", "unipc", "ancestral", "consistency")
"""The keys of `t2i.diffusion.samplers.SAMPLERS`, here so that a misspelt name costs no import of torch."""

T = TypeVar("T")

Size = int | tuple[int, int]
"""Side of a square in pixels, or (width, height)"""

PRIORS = ("diffusion", "none")


@dataclass(frozen=True)
class SamplingConfig:
    """How one stage is sampled. None means "not given": the next lower layer decides, and in the end the stage.

    steps: sampler steps, 8 if nobody says. sampler: a name in `SAMPLERS`, euler if nobody says. schedule: a name in
    `t2i.diffusion.schedule.SCHEDULES`, uniform_t if nobody says.
    guidance: weight of classifier-free guidance (Ho 2022, arXiv 2207.12598); 1 is no guidance.
    threshold: thresholding of the estimate x0_hat (Saharia 2022, section 2.3).
    interval: guide only where lo < sigma <= hi (Kynkäänniemi 2024, arXiv 2404.07724).
    noise: level in [0, 1] of noise conditioning augmentation, upsamplers only (Ho 2021, arXiv 2106.15282).
    best_of: embeddings that the prior draws for each picture; the nearest to the text is kept (Ramesh 2022,
    section 2.2).
    z_guidance: guidance of the base where it is given an embedding and no text.
    t_end: the lowest time t, of the stage's process, at which the network is asked; its estimate x0_hat there is the
    result (truncated conditioning: Ho 2021, section 4.1). For a stage that was trained above it alone; 0 if not given.
    temperature, top_k, top_p: of a stage that draws tokens, as in `t2i.stages.dalle.pick`.
    distilled: the weight of guidance that the network's own estimate has, where it is given a text (Meng 2022, arXiv
    2210.03142). Guidance of this weight takes one evaluation a step, any other as many as without. For a student; no
    request gives it.
    quality_steps: the steps where quality counts more than time: `--quality`, and edits; as `steps` if not given. No
    request gives it.
    """

    steps: Annotated[int, Between(1, 1000)] | None = None
    guidance: Guidance | None = None
    sampler: str | None = None
    schedule: str | None = None
    threshold: Threshold | None = None
    interval: tuple[float, float] | None = None
    noise: Annotated[float, Between(0, 1)] | None = None
    best_of: Annotated[int, Between(1, 64)] | None = None
    z_guidance: Guidance | None = None
    t_end: Annotated[float, Between(0, 100_000)] | None = None
    temperature: Annotated[float, Between(0, 100)] | None = None
    top_k: Annotated[int, Between(1, 4_194_304)] | None = None
    top_p: Annotated[float, Between(1e-6, 1)] | None = None
    distilled: Annotated[float, Between(1e-3, 100)] | None = None
    quality_steps: Annotated[int, Between(1, 1000)] | None = None

    def override(self, other: SamplingConfig | None) -> SamplingConfig:
        """This config with what `other` gives in its place."""
        given = {f.name: getattr(other, f.name) for f in fields(other)} if other is not None else {}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    @property
    def without_text(self) -> SamplingConfig:
        """This config for a base that is given no text: guidance is `z_guidance`, where there is one, and never
        distilled: a student's estimate without a text is what guidance leads away from."""
        return self if self.z_guidance is None else replace(self, guidance=self.z_guidance, distilled=None)

    def for_drawing(self, *, with_text: bool, quality: bool) -> SamplingConfig:
        """These defaults for one drawing. with_text: whether a base is given a text, and not an image embedding alone.
        quality: whether `quality_steps`, where there are some, take the place of `steps`."""
        found = self if with_text else self.without_text
        return replace(found, steps=given(found.quality_steps, found.steps)) if quality else found

    @property
    def unguided(self) -> SamplingConfig:
        """The settings of a single estimate without guidance, of a student too."""
        return SamplingConfig(guidance=1.0, distilled=self.distilled)

    def check(self) -> SamplingConfig:
        """Return self. Raises UsageError for a sampler or a threshold that does not exist."""
        if self.sampler is not None and self.sampler not in SAMPLERS:
            near = ", ".join(nearest(self.sampler, list(SAMPLERS)) or SAMPLERS)
            raise UsageError(f"there is no sampler {self.sampler!r}.", f"Did you mean {near}?")
        if isinstance(self.threshold, str) and self.threshold not in ("static", "none"):
            raise UsageError(f"there is no threshold {self.threshold!r}.", "Write (percentile, cap), static or none.")
        return self


@dataclass(frozen=True)
class SampleRequest:
    """What is asked of a whole cascade, beside prompts and seeds.

    size: where the cascade stops, None for the model's own. negative: what not to draw, for every stage that is guided
    by text. quality: whether stages take their `quality_steps`; edits always do. prior: "diffusion", or "none": the
    base then reads the text alone, or, if it reads none, the text's embedding in the place of an image's (Ramesh 2022,
    section 5.1). keep_stages: whether what each stage made is kept. stages: stage name -> what differs from the stage's
    defaults.
    """

    size: Size | None = None
    negative: str | None = None
    quality: bool = False
    prior: str = "diffusion"
    keep_stages: bool = False
    stages: Mapping[str, SamplingConfig] = field(default_factory=dict)

    def of(self, stage: str) -> SamplingConfig:
        """What is asked of a stage."""
        return self.stages.get(stage, SamplingConfig())

    def override(self, stage: str, config: SamplingConfig) -> SampleRequest:
        """This request with more asked of a stage."""
        return replace(self, stages={**self.stages, stage: self.of(stage).override(config)})

    def check(self) -> None:
        """Raises UsageError for a prior, a sampler or a threshold that does not exist."""
        if self.prior not in PRIORS:
            raise UsageError(f"there is no prior {self.prior!r}.", f"Choose one of {', '.join(PRIORS)}.")
        for config in self.stages.values():
            config.check()


def by_stage(**tables: Mapping[str, Any]) -> dict[str, SamplingConfig]:
    """One config for each stage, from one table for each field: steps={"base": 8}, noise={"upsampler256": 0.1}."""
    stages = dict.fromkeys(stage for table in tables.values() for stage in table)
    return {s: SamplingConfig(**{name: table[s] for name, table in tables.items() if s in table}) for s in stages}


def given(value: T | None, otherwise: T) -> T:
    """`value`, or `otherwise` where it is None."""
    return otherwise if value is None else value


def pair(size: Size) -> tuple[int, int]:
    """(width, height) of a size."""
    return (size, size) if isinstance(size, int) else size
