"""A recipe: every number of a training, in frozen dataclasses.

Here are the parts that all recipes have. The table of a stage (`[base]`, `[clip]` ...) is defined beside the objective
that trains it, in `objectives/`; `recipes/__init__.py: load_recipe` reads TOML files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Literal, TypeVar

from t2i.sampling import SamplingConfig
from t2i.world.layout import WorldConfig


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage is trained.

    lr: the peak of the learning rate. warmup: steps until it is reached. decay: the last share of the steps, in which
    it falls to 0. ema: the relative width of the weights' average (EDM2), in (0, 0.28).
    """

    steps: int = 1000
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 200
    decay: float = 0.25
    clip_norm: float = 1.0
    weight_decay: float = 0.01
    muon: bool = True
    ema: float = 0.08
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    log_every: int = 50
    sample_every: int = 500
    save_every: int = 500

    def __post_init__(self) -> None:
        for name in ("batch", "log_every", "sample_every", "save_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}, less than 1")
        if self.steps < 0 or self.lr <= 0 or not 0 <= self.decay <= 1 or not 0 < self.ema < 0.28:
            raise ValueError("steps must be at least 0, lr above 0, decay in [0, 1], ema in (0, 0.28)")


@dataclass(frozen=True)
class TokenizerRecipe:
    captions: int = 60_000  # drawn from the world to learn the merges
    vocabulary: Literal["shapes", "core", "all"] = "all"  # whose words: larger than the world's leaves room to grow


class StageRecipe(ABC):
    """The base class of the tables of stages, which are frozen dataclasses. `net` is the config of the network."""

    net: Any
    schedule: Schedule

    @property
    @abstractmethod
    def kind(self) -> str:
        """The objective that trains such a stage, by its key in `objectives/__init__.py: OBJECTIVES`."""

    @property
    def copied(self) -> bool:
        """Whether the stage is not trained but copied from somewhere."""
        return False


SAMPLING = {
    "prior": SamplingConfig(10, 1.0, "euler", "uniform_t", best_of=2),
    "base": SamplingConfig(8, 3.0, "dpmpp_2m", "uniform_t", z_guidance=1.5),
    "upsampler": SamplingConfig(2, None, "euler", "uniform_t", noise=0.0),
}
"""How the stages of each kind are sampled where a recipe says nothing; chosen by sweeps, see docs/decisions.md."""


@dataclass(frozen=True)
class SampleRecipe:
    """What the bundle says about sampling. size: where the cascade stops unless told otherwise, None for the largest.
    What a recipe leaves out is taken from `SAMPLING`."""

    size: int | None = None
    prior: SamplingConfig = field(default_factory=SamplingConfig)
    base: SamplingConfig = field(default_factory=SamplingConfig)
    upsampler: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        for kind, defaults in SAMPLING.items():
            object.__setattr__(self, kind, defaults.override(getattr(self, kind)))


S = TypeVar("S", bound=StageRecipe)


@dataclass(frozen=True)
class Recipe:
    """One model: its world and its stages. stages: name -> table, in the order of training, all that exist. share:
    stage -> the model whose stage is used instead of training one."""

    name: str = "unnamed"
    seed: int = 0
    world: WorldConfig = field(default_factory=WorldConfig)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    stages: dict[str, StageRecipe] = field(default_factory=dict)
    sample: SampleRecipe = field(default_factory=SampleRecipe)
    share: dict[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for name in self.share:
            if name not in self.stages:
                raise ValueError(f"share names {name!r}; stages are {', '.join(self.stages)}")

    def stage(self, name: str, table: type[S]) -> S:
        """The table of a stage, as the class that it is known to have."""
        found = self.stages[name]
        assert isinstance(found, table), f"[{name}] is a {type(found).__name__}"
        return found

    def with_stage(self, name: str, **changes: Any) -> Recipe:
        """The same recipe with other values in the table of a stage."""
        part: Any = self.stages[name]
        return replace(self, stages={**self.stages, name: replace(part, **changes)})

    def with_steps(self, name: str, steps: int) -> Recipe:
        """The same recipe with another number of steps of a stage."""
        return self.with_stage(name, schedule=replace(self.stages[name].schedule, steps=steps))

    @property
    def encoder(self) -> str:
        """The stage that reads the prompts: "text" where the recipe has one, else "clip"."""
        return "text" if self.has("text") else "clip"

    @property
    def family(self) -> str:
        """What the manifest calls the cascade: "unclip" where an image embedding stands between text and picture."""
        return "unclip" if self.encoder == "clip" else "imagen"

    def has(self, stage: str) -> bool:
        """Whether the model has this stage, be it trained, shared or copied."""
        part = self.stages[stage]
        return bool(stage in self.share or part.copied or part.schedule.steps)

    def to_dict(self) -> dict[str, Any]:
        """The tables as a recipe file has them."""
        out: dict[str, Any] = {}
        for key, value in asdict(self).items():
            out |= value if key == "stages" else {key: value}
        return out
