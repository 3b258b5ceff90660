"""A recipe: every number of a training, in frozen dataclasses.

Here are the parts that all recipes have. The table of a stage (`[base]`, `[clip]` ...) is defined beside the objective
that trains it, in `objectives/`; `recipes/__init__.py: load_recipe` reads TOML files.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import asdict, dataclass, field, replace
from typing import Annotated, Any, Literal, TypeVar

from t2i.prompts import MAX_SEED
from t2i.sampling import SamplingConfig
from t2i.schema import Between, Length
from t2i.world.layout import WorldConfig

Share = Annotated[float, Between(0, 1)]
"""A probability, or a part of the whole."""
Weight = Annotated[float, Between(0, 1e6)]
"""A factor of a loss, or of noise."""
Pictures = Annotated[int, Between(1, 100_000_000)]
"""How many examples are computed in advance."""
Every = Annotated[int, Between(1, 1_000_000_000)]
"""Steps from one time to the next."""
Pixels = Annotated[int, Between(1, 8192)]
"""Side of a picture or of a crop."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast a stage is trained.

    lr: the peak of the learning rate. warmup: steps until it is reached. decay: the last share of the steps, in which
    it falls to 0. accumulate: passes that compute a batch, to save memory; their gradients are averaged. betas: decay
    of AdamW's two averages. ema: the relative width of the weights' average (EDM2), in (0, 0.28). compile: whether
    torch.compile makes kernels for the networks that `Trainable.compiled` names.
    """

    steps: Annotated[int, Between(0, 1_000_000_000)] = 1000
    batch: Annotated[int, Between(1, 65_536)] = 64
    accumulate: Annotated[int, Between(1, 65_536)] = 1
    lr: Annotated[float, Between(1e-12, 100)] = 1e-3
    warmup: Annotated[int, Between(0, 1_000_000_000)] = 200
    decay: Share = 0.25
    clip_norm: Annotated[float, Between(1e-6, 1e9)] = 1.0
    weight_decay: Share = 0.01
    muon: bool = True
    betas: tuple[Share, Share] = (0.9, 0.95)
    ema: Annotated[float, Between(1e-3, 0.279)] = 0.08
    precision: Literal["auto", "fp32", "bf16"] = "auto"
    compile: bool = False
    log_every: Every = 50
    sample_every: Every = 500
    save_every: Every = 500


@dataclass(frozen=True)
class TokenizerRecipe:
    captions: Pictures = 60_000  # drawn from the world to learn the merges
    vocabulary: Literal["shapes", "core", "all"] = "all"  # whose words: larger than the world's leaves room to grow


class StageRecipe(ABC):
    """The base class of the tables of stages, which are frozen dataclasses. `net` is the config of the network."""

    net: Any
    schedule: Schedule

    @property
    @abstractmethod
    def trained_by(self) -> str:
        """The objective that trains such a stage, by its key in `objectives/__init__.py: OBJECTIVES`."""

    @property
    def unit(self) -> int:
        """How many rows of a batch stay together where it is cut into parts."""
        return 1

    @property
    def copied(self) -> bool:
        """Whether the stage is not trained but copied from somewhere."""
        return False


SAMPLING = {
    "prior": SamplingConfig(10, 1.0, "euler", "uniform_t", best_of=2),
    "base": SamplingConfig(8, 3.0, "dpmpp_2m", "uniform_t", z_guidance=1.5),
    "gan": SamplingConfig(temperature=1.0),
    "dalle": SamplingConfig(temperature=1.0),
    "upsampler": SamplingConfig(2, None, "euler", "uniform_t", noise=0.0),
}
"""How the stages of each kind are sampled where a recipe says nothing; chosen by sweeps, see docs/decisions.md."""


@dataclass(frozen=True)
class SampleRecipe:
    """What the bundle says about sampling. size: where the cascade stops unless told otherwise, None for the largest.
    What a recipe leaves out is taken from `SAMPLING`."""

    size: Pixels | None = None
    prior: SamplingConfig = field(default_factory=SamplingConfig)
    base: SamplingConfig = field(default_factory=SamplingConfig)
    gan: SamplingConfig = field(default_factory=SamplingConfig)
    dalle: SamplingConfig = field(default_factory=SamplingConfig)
    upsampler: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        for kind, defaults in SAMPLING.items():
            object.__setattr__(self, kind, defaults.override(getattr(self, kind)))


S = TypeVar("S", bound=StageRecipe)


@dataclass(frozen=True)
class Recipe:
    """One model: its world and its stages. stages: name -> table, in the order of training, all that exist. share:
    stage -> the model whose stage is used instead of training one."""

    name: Annotated[str, Length(1, 200)] = "unnamed"
    seed: Annotated[int, Between(0, MAX_SEED)] = 0
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
        """What the manifest calls the cascade: "dalle" where the tokens of a VAE are drawn, "gan" where a generator
        draws, "unclip" where an image embedding stands between text and picture."""
        if self.has("gan"):
            return "gan"
        if self.has("vae"):
            return "dalle"
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
