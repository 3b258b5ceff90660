"""The registry: which objective trains which kind of stage, and which stages a recipe can have."""

from __future__ import annotations

from t2i.train.objective import EncoderObjective, Objective
from t2i.train.objectives.base import BaseObjective, BaseRecipe
from t2i.train.objectives.clip import ClipObjective, ClipRecipe
from t2i.train.objectives.clip_locked import LockedClipObjective
from t2i.train.objectives.dalle import DalleObjective, DalleRecipe
from t2i.train.objectives.gan import GanObjective, GanRecipe
from t2i.train.objectives.prior import PriorObjective, PriorRecipe
from t2i.train.objectives.sr_unet import SRUNetObjective, SRUNetRecipe
from t2i.train.objectives.text import TextObjective, TextRecipe
from t2i.train.objectives.upsampler import UpsamplerObjective, UpsamplerRecipe
from t2i.train.objectives.vae import VAEObjective, VAERecipe
from t2i.train.recipe import Recipe, Schedule, StageRecipe

OBJECTIVES: dict[str, type[Objective]] = {
    "clip": ClipObjective,
    "clip_locked": LockedClipObjective,
    "text": TextObjective,
    "vae": VAEObjective,
    "dalle": DalleObjective,
    "gan": GanObjective,
    "prior": PriorObjective,
    "base": BaseObjective,
    "upsampler": UpsamplerObjective,
    "sr_unet": SRUNetObjective,
}
"""What `StageRecipe.trained_by` says -> the objective."""

STAGES: dict[str, StageRecipe] = {
    "clip": ClipRecipe(),
    "text": TextRecipe(),
    "vae": VAERecipe(),
    "dalle": DalleRecipe(),
    "gan": GanRecipe(),
    "prior": PriorRecipe(),
    "base": BaseRecipe(),
    "upsampler256": UpsamplerRecipe(),
    "upsampler1024": UpsamplerRecipe(size=1024, schedule=Schedule(steps=0, batch=32)),
}
"""The stages in the order of their training, with the tables of recipes that do not name them. A schedule of 0 steps
means that the stage is trained only where a recipe or the user says so."""

DESIGNS: dict[str, dict[str, StageRecipe]] = {"upsampler256": {"sr_unet": SRUNetRecipe()}}
"""Stage -> what its table may say as `design` -> the table that it is then."""


def objective_of(recipe: Recipe, stage: str) -> type[Objective]:
    """The objective that trains a stage of this recipe."""
    return OBJECTIVES[recipe.stages[stage].trained_by]


def encoder_of(recipe: Recipe) -> type[EncoderObjective]:
    """The objective that trains the text encoder of this recipe."""
    found = objective_of(recipe, recipe.encoder)
    assert issubclass(found, EncoderObjective)
    return found
