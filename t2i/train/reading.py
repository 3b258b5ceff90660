"""A base's reader, taught before it draws: to say of a text what another base is told by the embedding of its picture.

Learning to read from the denoising loss alone is slow: little of that loss depends on the text, and each lesson costs
a pass of the whole U-Net. Where training starts from a base that a CLIP embedding conditions, that base's conditioner
says what the U-Net can use: the vector, tokens and map that it makes of a picture's embedding. Regression on these
costs no pass of the U-Net, and its best answer is their mean over all pictures that the text allows. Once drawing is
learned, the teacher is needed no more. (REPA, Yu 2024, 2410.06940, aligns states in this way; this, the condition.)
"""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from t2i.data.source import Source
from t2i.nets.clip import Clip
from t2i.nets.conditioner import Conditioner, UNetCond
from t2i.nets.reader import CondFeatures, QueryReader
from t2i.nets.unet_config import UNetConfig
from t2i.rng import generator
from t2i.text.encoder import TextEncoder
from t2i.train.pool import Pool
from t2i.train.recipe import Recipe

READING = "reading"
"""What this part of a base's training is called, in the log and where its checkpoint is."""


def why_not(teacher: UNetConfig | None, pupil: UNetConfig) -> str:
    """What keeps the one base from teaching the other's reader: nothing (""), if what it is told by an embedding has
    the sizes of what that one says. teacher: None if there is none."""
    if teacher is None:
        return "--start names no base to learn from"
    if not teacher.cond_dim:
        return "no embedding tells the base of --start anything"
    sizes = ("emb_dim", "context_dim", "z_tokens", "z_grid", "z_channels")
    other = [name for name in sizes if getattr(teacher, name) != getattr(pupil, name)]
    said = ", ".join(f"base.net.{name} is {getattr(pupil, name)}, not {getattr(teacher, name)}" for name in other)
    return f"beside the base of --start, {said}" if said else ""


@dataclass
class ReadingObjective:
    """The reader (`module`) of a new base, at a pool of scenes embedded once by the teacher's CLIP."""

    recipe: Recipe
    module: QueryReader
    encoder: TextEncoder
    clip: Clip
    teacher: Conditioner
    source: Source
    device: torch.device
    name: str = READING
    pool: Pool = field(init=False)

    def __post_init__(self) -> None:
        for net in (self.clip, self.teacher):
            net.to(self.device).eval().requires_grad_(False)
        self.pool = Pool(self.clip, self.source, self.recipe.seed + 7, self.recipe.base.reading.pool, self.device)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        """Of vector, tokens and map the mean squared error in units of their variance; 1 is what a constant reaches."""
        n, g = self.recipe.base.reading.batch, generator(self.recipe.seed, "reading", step)
        _, captions, z = self.pool.draw(n, step, g)
        keep = (torch.rand(n, generator=g) >= self.recipe.base.drop_text).to(self.device)
        with torch.no_grad():
            text = self.encoder.encode(captions, tight=True)[0].to(self.device)
            told = self.teacher.image_features(UNetCond(z=z, z_keep=keep), n)
        said, _, _ = self.module(text.tokens, text.mask & keep[:, None])
        missed = unsaid(said, told)
        return torch.stack(list(missed.values())).mean(), {k: float(v.detach()) for k, v in missed.items()}

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """None: no picture is made here; what is not yet said is in the log."""
        return None


def unsaid(said: CondFeatures, told: CondFeatures) -> dict[str, Tensor]:
    """By part the share of the teacher's variance that the reader misses: scalars."""
    missed = {}
    for name in ("vector", "tokens", "map"):
        guess, truth = getattr(said, name), getattr(told, name)
        if guess is not None and truth is not None:
            error = (guess.float() - truth.float()).square().mean()
            missed[name] = error / (truth.float() - truth.float().mean(0)).square().mean()
    return missed
