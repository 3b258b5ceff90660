"""The VAE of image tokens (DALL·E: Ramesh 2021, arXiv 2102.12092, section 2.1 and appendix A).

It maximises the evidence lower bound ln p(x | z) - beta KL(q(z | x) || p(z)), where x are the pixels of a picture
under the logit-Laplace distribution. Codes are relaxed by the Gumbel-softmax: its temperature falls, and beta rises,
along a cosine. Divided by the number of values of a picture, as in the paper, the loss is

    -mean ln f(x | mu, b) + beta / (3 S^2) KL

For straight-through codes (`net.latent = "vq"`) the two squared distances of VQ-VAE take the place of the KL
divergence; rounded latents (`"fsq"`) cost nothing.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from t2i.nets import laplace
from t2i.nets.vae import VAE, VAEConfig
from t2i.schema import Between
from t2i.store.manifest import StageEntry
from t2i.train.masking import thing_weights
from t2i.train.objective import Objective
from t2i.train.recipe import Pixels, Recipe, Schedule, Share, StageRecipe, Weight
from t2i.train.sheets import COLUMNS
from t2i.train.streams import examples_seed, first_weights

Tau = Annotated[float, Between(1e-3, 100)]
"""A temperature of the Gumbel-softmax."""


@dataclass(frozen=True)
class VAERecipe(StageRecipe):
    """`[vae]`."""

    net: VAEConfig = field(default_factory=VAEConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(steps=0))
    size: Pixels = 32
    tau: tuple[Tau, Tau] = (1.0, 1 / 16)  # temperature, first and last
    anneal: Share = 0.6  # share of the steps in which it falls
    kl: Weight = 6.6  # beta at its end
    kl_warmup: Share = 0.1  # share of the steps in which it rises from 0
    thing_weight: Weight = 1.0  # weight of the pixels of things, where those of the background have 1

    @property
    def trained_by(self) -> str:
        return "vae"


class VAEObjective(Objective):
    """The evidence lower bound of pictures. No caption is read."""

    examples = "vae"
    compiles = True
    can_be_first = True
    config: VAERecipe
    net: VAE

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> VAE:
        return first_weights(recipe.seed, name, lambda: VAE(recipe.stage(name, VAERecipe).net))

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part = recipe.stage(name, VAERecipe)
        widths = {"size": part.size, "grid": part.size // part.net.factor, "codes": part.net.tokens}
        return StageEntry(name, "vae", name), {"net": part.net.to_dict(), "widths": widths}

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        part = recipe.stage(name, VAERecipe)
        return [
            (part.size % part.net.factor == 0, f"vae.size is not a multiple of {part.net.factor}, as vae.net needs")
        ]

    @property
    def compiled(self) -> tuple[nn.Module, ...]:
        return self.net.encoder, self.net.decoder

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        r, latent = self.config, self.net.config.latent
        examples = self.batch(step, r.size, masks=r.thing_weight != 1)
        pixels = examples.pixels.to(self.device)
        tau, beta = self.dials(step)
        part = (self.part.index, self.part.of)
        coded = self.net.bottleneck(self.net.encode(pixels), tau, self.noise(step), part)
        mu, log_b = self.net.decode(coded.z)
        nll = -laplace.log_prob(laplace.squeeze(pixels), mu, log_b)
        if (things := thing_weights(examples.masks, r.thing_weight)) is not None:
            nll = nll * things.to(self.device)
        nll = nll.mean()
        weight = 1.0 if latent == "vq" else beta / pixels[0].numel()
        mse = (laplace.median(mu.detach()) - pixels).square().mean()
        facts = {"nll": float(nll.detach())}
        if latent != "fsq":
            facts["distance" if latent == "vq" else "kl"] = float(coded.cost.detach())
        facts["psnr"] = 10 * math.log10(4 / max(float(mse), 1e-10))
        if coded.tokens is not None:
            facts["use"] = len(coded.tokens.unique()) / self.net.config.codes
        return nll + weight * coded.cost, facts

    def dials(self, step: int) -> tuple[float, float]:
        """Temperature and beta at a step."""
        r = self.config
        first, last = r.tau
        fallen = cosine(step, r.anneal * r.schedule.steps)
        return first + (last - first) * fallen, r.kl * cosine(step, r.kl_warmup * r.schedule.steps)

    def sheet(self) -> Tensor | None:
        """Two rows: pictures, and what is left of them."""
        examples = self.source.batch(examples_seed(self.recipe.seed, "sheets"), 0, COLUMNS, self.config.size)
        pixels = examples.pixels.to(self.device)
        return torch.stack([pixels, self.net.reconstruct(pixels)])


def cosine(step: int, steps: float) -> float:
    """From 0 to 1 along half a cosine in so many steps, then 1."""
    return 1.0 if step >= steps else 0.5 - 0.5 * math.cos(math.pi * step / steps)
