"""Recipes: every number of a training, in frozen dataclasses read from TOML files beside this one.

    recipe = load_recipe("tiny", {"base.lr": "1e-4"})       # short for base.schedule.lr

A recipe is a name of `recipes/*.toml` or the path of a TOML file. Unknown keys are refused with the nearest
known one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, get_type_hints

from t2i.diffusion.loss import DenoisingObjective, Levels
from t2i.errors import InputError, UsageError, nearest
from t2i.nets.clip import ClipConfig
from t2i.nets.language import LanguageConfig
from t2i.nets.prior import PriorConfig
from t2i.nets.unet_config import UNetConfig
from t2i.nets.upsampler import UpsamplerConfig
from t2i.sampling import SamplingConfig
from t2i.schema import build
from t2i.world.layout import WorldConfig

FOLDER = Path(__file__).parent / "recipes"
STAGES = ("clip", "text", "prior", "base", "upsampler256", "upsampler1024", "sharp256")
"""The stages in the order of their training, by the names of their tables."""


@dataclass(frozen=True)
class Schedule:
    """How long and how fast. lr: the peak rate; warmup: in steps; decay: share of steps that fall to 0."""

    steps: int = 1000
    batch: int = 64
    lr: float = 1e-3
    warmup: int = 200
    decay: float = 0.25
    clip_norm: float = 1.0
    weight_decay: float = 0.01
    muon: bool = True
    ema: float = 0.08  # relative width of the power-law average
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


@dataclass(frozen=True)
class ClipRecipe:
    """Both towers, by contrast plus the denoising loss of a small base that sees only the embedding."""

    net: ClipConfig = field(default_factory=ClipConfig)
    schedule: Schedule = field(default_factory=Schedule)
    denoise: float = 1.0  # weight of the base's denoising loss; 0: contrast alone, as in the paper
    contrast: float = 0.5
    loss: Literal["sigmoid", "softmax"] = "sigmoid"  # of the contrast: SigLIP's or CLIP's own
    locked: bool = False  # the text tower alone, at the image tower of --start (train/locked.py)
    regression: float = 10.0  # weight of the text's distance to the picture's own embedding, for the text tower alone
    pool: int = 20_000  # scenes whose embeddings are computed once, where locked
    z_noise: float = 0.15  # of the embedding that the base sees, per coordinate in units of 1/sqrt(d)

    def __post_init__(self) -> None:
        if self.loss == "sigmoid" and self.net.init_logit_bias is None:
            raise ValueError("clip.loss sigmoid needs a bias, and clip.net.init_logit_bias is none")


@dataclass(frozen=True)
class TextRecipe:
    """A frozen text-only encoder in CLIP's place: our language model, trained on captions alone, or a T5 from a local
    folder, of which `net.context` tokens are read. With a schedule of 0 steps and no T5 there is none."""

    encoder: Literal["language", "t5"] = "language"
    net: LanguageConfig = field(default_factory=LanguageConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=0, batch=128))
    hidden: float = 0.3  # share of the tokens that have to be guessed
    folder: str = ""  # of the T5


@dataclass(frozen=True)
class ReadingSchedule(Schedule):
    """How long a base's reader (net.reader_layers) is taught by the base that it starts from (train/reading.py)."""

    steps: int = 0
    batch: int = 256
    pool: int = 50_000  # scenes whose embeddings are computed once; their captions are drawn anew


@dataclass(frozen=True)
class BaseRecipe:
    net: UNetConfig = field(default_factory=UNetConfig)
    schedule: Schedule = field(default_factory=Schedule)
    reading: ReadingSchedule = field(default_factory=ReadingSchedule)
    objective: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(levels=Levels(mean=0.4, std=1.0, stratified=True))
    )
    size: int = 64
    drop_z: float = 0.1
    drop_text: float = 0.3
    masked: float = 0.15  # share of samples in inpainting mode
    z_noise: float = 0.15
    imagined: float = 0.0  # share of the embeddings that are the prior's (train/imagining.py); it has to be there
    warm_start: bool = True  # from the small base that trained CLIP


@dataclass(frozen=True)
class PriorRecipe:
    net: PriorConfig = field(default_factory=PriorConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=4000, batch=256))
    objective: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(judge="x0", levels=Levels(law="uniform", stratified=True))
    )
    pool: int = 50_000  # scenes whose embeddings are computed once; their captions are drawn anew
    drop: float = 0.1  # of the text, for guidance
    draws: int = 1  # noise levels that each pair is shown at: most of a step's time is spent on reading the text


@dataclass(frozen=True)
class UpsamplerRecipe:
    net: UpsamplerConfig = field(default_factory=UpsamplerConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(batch=32))
    objective: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(levels=Levels(mean=0.0, std=1.2, stratified=True))
    )
    size: int = 256
    drawn: int | None = None  # side of the pictures that crops are cut from, if not `size`: none need be enlarged
    crop: int = 64  # side of the high-resolution crop
    crops: int = 4  # taken from each picture
    blur: float = 0.5  # chance of a Gaussian blur of the low-resolution input
    noise: float = 0.25  # largest level of noise-conditioning augmentation
    drop_text: float = 0.1  # of an upsampler that reads text (net.pooled_dim)
    instead_of: str = ""  # the upsampler that this one starts from, and stands in for where sharpness is asked for
    adversarial: float = 0.0  # of such a one: the weight of what its critic says against the mean error in L1


@dataclass(frozen=True)
class SharpSchedule(Schedule):
    """Of a tune. Muon is for networks that start from nothing; more than this rate, and the critic is outrun."""

    steps: int = 0
    batch: int = 32
    lr: float = 2e-4
    muon: bool = False


@dataclass(frozen=True)
class SharpRecipe(UpsamplerRecipe):
    """An adversarial tune of a trained upsampler, whose `net` it has."""

    schedule: SharpSchedule = field(default_factory=SharpSchedule)
    instead_of: str = "upsampler256"
    adversarial: float = 0.005


SAMPLING = {
    "prior": SamplingConfig(10, 1.0, "euler", "uniform_t", best_of=2),
    "base": SamplingConfig(8, 3.0, "dpmpp_2m", "uniform_t", z_guidance=1.5),
    "upsampler": SamplingConfig(2, None, "euler", "uniform_t", noise=0.0),
}
"""How the stages of each kind are sampled where a recipe says nothing; chosen by sweeps, see docs/decisions.md."""


@dataclass(frozen=True)
class SampleRecipe:
    """What the bundle says about sampling. size: where the cascade stops unless told otherwise, None for the largest.
    The dials that a recipe leaves out are those of `SAMPLING`."""

    size: int | None = None
    prior: SamplingConfig = field(default_factory=SamplingConfig)
    base: SamplingConfig = field(default_factory=SamplingConfig)
    upsampler: SamplingConfig = field(default_factory=SamplingConfig)

    def __post_init__(self) -> None:
        for kind, defaults in SAMPLING.items():
            object.__setattr__(self, kind, defaults.override(getattr(self, kind)))


@dataclass(frozen=True)
class Recipe:
    """One model from nothing: the world and its stages. The TOML's head says hardware, hours and scores."""

    name: str = "unnamed"
    seed: int = 0
    world: WorldConfig = field(default_factory=WorldConfig)
    tokenizer: TokenizerRecipe = field(default_factory=TokenizerRecipe)
    clip: ClipRecipe = field(default_factory=ClipRecipe)
    text: TextRecipe = field(default_factory=TextRecipe)
    prior: PriorRecipe = field(default_factory=PriorRecipe)
    base: BaseRecipe = field(default_factory=BaseRecipe)
    upsampler256: UpsamplerRecipe = field(default_factory=UpsamplerRecipe)
    # of 0 steps: not trained, unless a recipe or the user says so
    upsampler1024: UpsamplerRecipe = field(
        default_factory=lambda: UpsamplerRecipe(size=1024, schedule=Schedule(steps=0, batch=32))
    )
    sharp256: SharpRecipe = field(default_factory=lambda: SharpRecipe())
    sample: SampleRecipe = field(default_factory=SampleRecipe)
    share: dict[str, str] = field(default_factory=dict)  # stage -> the model that it is shared with, and not trained

    def __post_init__(self) -> None:
        for name in self.share:
            if name not in STAGES:
                raise ValueError(f"share names {name!r}; stages are {', '.join(STAGES)}")

    @property
    def encoder(self) -> str:
        """The stage that reads the prompts: "text" where the recipe has one, else "clip"."""
        return "text" if self.trains("text") else "clip"

    @property
    def family(self) -> str:
        """What the manifest calls the cascade: by whether an embedding stands between text and picture."""
        return "unclip" if self.encoder == "clip" else "imagen"

    def trains(self, stage: str) -> bool:
        """Whether `stage` is a part of the model: trained, shared, or taken from a T5's folder."""
        taken = stage == "text" and self.text.encoder == "t5"
        return bool(stage in self.share or taken or getattr(self, stage).schedule.steps)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


def recipe_names() -> list[str]:
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str, overrides: Mapping[str, str] | None = None) -> Recipe:
    """The recipe of that name or path, with `key.subkey=value` overrides (values in TOML syntax, or words).

    `base.lr` may be said for `base.schedule.lr`, and so on for every stage and every key of its schedule.

    Raises UsageError for an unknown recipe, an unknown key or a value of the wrong type.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        near = nearest(name, recipe_names(), 1)
        guess = f"Did you mean {near[0]}? " if near else ""
        hint = f"{guess}Recipes are {', '.join(recipe_names())}, or the path of a .toml file."
        raise UsageError(f"there is no recipe {name!r}.", hint, "config")
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        for key, text in (overrides or {}).items():
            _set(raw, key, text)
        recipe: Recipe = build(Recipe, {"name": path.stem, **raw})
    except OSError as error:
        raise UsageError(f"the recipe {name!r} cannot be read: {error.strerror}", code="config") from error
    except InputError as error:  # a network's sizes
        raise UsageError(f"the recipe {name!r} cannot be used: {error.message}", error.hint, "config") from error
    except ValueError as error:  # also what tomllib raises
        raise UsageError(f"the recipe {name!r} cannot be used: {error}", code="config") from error
    return recipe


def _set(raw: dict[str, Any], key: str, text: str) -> None:
    *path, last = key.split(".")
    if len(path) == 1 and path[0] in STAGES:
        own = [f.name for f in fields(get_type_hints(Recipe)[path[0]])]
        shared = [f.name for f in fields(Schedule)]
        if last in shared:
            path.append("schedule")
        elif last not in own and (near := nearest(last, own + shared, 1)):
            raise ValueError(f"unknown key {key!r}; did you mean {f'{path[0]}.{near[0]}'!r}?")
    for part in path:
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise ValueError(f"{part!r} in {key!r} is not a table")
    try:
        raw[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raw[last] = text
