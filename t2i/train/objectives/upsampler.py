"""An upsampler: crops of large pictures, drawn again from their small versions, which are blurred and noised.

Noise on the input (conditioning augmentation) keeps it from trusting the stage before it too much: Saharia 2021 (SR3),
Ho 2021 (cascaded diffusion, section 4). Shapes: B crops of `crop` pixels a side.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.data.source import Source
from t2i.diffusion.loss import DenoisingObjective, Levels, diffusion_loss
from t2i.diffusion.process import Flow
from t2i.nets.upsampler import Upsampler, UpsamplerConfig
from t2i.schema import Between
from t2i.store.manifest import StageEntry
from t2i.train.objective import Objective
from t2i.train.part import denoising_noise
from t2i.train.recipe import Pixels, Recipe, Schedule, Share, StageRecipe
from t2i.train.sheets import COLUMNS, upsampler_rows
from t2i.train.streams import examples_seed, first_weights


@dataclass(frozen=True)
class UpsamplerRecipe(StageRecipe):
    """`[upsampler256]`, `[upsampler1024]`."""

    net: UpsamplerConfig = field(default_factory=UpsamplerConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(batch=32))
    objective: DenoisingObjective = field(
        default_factory=lambda: DenoisingObjective(levels=Levels(mean=0.0, std=1.2, stratified=True))
    )
    size: Pixels = 256
    drawn: Pixels | None = None  # side of the pictures that crops are cut from; None: `size`
    crop: Pixels = 64  # side of a crop of the large picture
    crops: Annotated[int, Between(1, 4096)] = 4  # taken from each picture
    blur: Share = 0.5  # chance of a Gaussian blur of the input
    noise: Share = 0.25  # the highest level of noise on the input
    drop_text: Share = 0.1  # for an upsampler that reads text (net.pooled_dim)

    @property
    def trained_by(self) -> str:
        return "upsampler"

    @property
    def unit(self) -> int:
        return self.crops  # of one picture


class UpsamplerObjective(Objective):
    """The denoising loss of crops at their small versions."""

    examples = "upsampler"
    compiles = True
    config: UpsamplerRecipe
    net: Upsampler

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> Upsampler:
        return first_weights(recipe.seed, name, lambda: Upsampler(recipe.stage(name, UpsamplerRecipe).net))

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        return (recipe.encoder,) if recipe.stage(name, UpsamplerRecipe).net.pooled_dim else ()

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part = recipe.stage(name, UpsamplerRecipe)
        config: dict[str, Any] = {"net": part.net.to_dict()}
        config |= {"prediction": part.objective.prediction, "process": {"kind": "flow"}}
        config["widths"] = {"low": part.size // part.net.scale, "size": part.size}
        if part.net.pooled_dim:
            config["widths"]["text_dim"] = part.net.pooled_dim
        return StageEntry(name, "upsampler", name, recipe.sample.upsampler), config

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        if name not in stages or name in recipe.share:
            return []
        part = recipe.stage(name, UpsamplerRecipe)
        unit = part.net.unshuffle
        return [
            (part.crop <= (part.drawn or part.size), f"{name}.crop is larger than its pictures"),
            (
                part.crop % unit == 0 == part.size % unit == (part.drawn or 0) % unit,
                f"{name}.crop, .size and .drawn are not multiples of {unit}",
            ),
        ]

    @property
    def source(self) -> Source:
        return self.run.pictures.large

    @property
    def captions_read(self) -> int:
        return self.schedule.steps * self.pictures_a_step if self.net.config.pooled_dim else 0

    @property
    def pictures_a_step(self) -> int:
        """The pictures that the crops of a batch are cut from."""
        return -(-self.schedule.batch // self.config.crops)

    def crops(self, step: int, g: torch.Generator) -> Tensor:
        """(B, 3, crop, crop) in [-1, 1], aligned to the grid of the small picture."""
        c, scale, p, n = self.config, self.net.config.scale, self.part, self.pictures_a_step
        size = c.drawn or c.size
        pictures = self.source.batch(self.examples_seed, step * p.of + p.index, n // p.of, size).pixels
        places = p.rows(torch.randint((size - c.crop) // scale + 1, (n, c.crops, 2), generator=g) * scale)
        rows = [
            picture[:, y : y + c.crop, x : x + c.crop]
            for picture, spots in zip(pictures, places.tolist(), strict=True)
            for y, x in spots
        ]
        return torch.stack(rows[: c.schedule.batch // p.of])

    def pairs(self, step: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (B, 3, crop, crop), the inputs (B, 3, crop/scale, crop/scale), the inputs' levels of noise (B,)."""
        c, high, rows = self.config, self.crops(step, g), self.part.rows
        n = c.schedule.batch
        low = F.interpolate(high, scale_factor=1 / self.net.config.scale, mode="area")
        low = blur(low, rows(torch.rand(n, generator=g) * (torch.rand(n, generator=g) < c.blur)))
        level = rows(torch.rand(n, generator=g) * c.noise * (torch.rand(n, generator=g) < 0.8))
        low = low + level.view(-1, 1, 1, 1) * rows(torch.randn(n, *low.shape[1:], generator=g))
        return high.to(self.device), low.to(self.device), level.to(self.device)

    def captions(self, step: int) -> list[str]:
        """A caption of the picture of each crop, B in all."""
        n = self.pictures_a_step
        said = [self.source.captions(self.examples_seed, step * n + i, 0) for i in self.part.rows(list(range(n)))]
        return [text for text in said for _ in range(self.config.crops)][: self.schedule.batch // self.part.of]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        c, g = self.config, self.noise(step)
        high, low, level = self.pairs(step, g)

        cond: tuple[Tensor, ...] = (low, level)
        if self.net.config.pooled_dim:
            assert self.encoders.text is not None
            pooled = self.encoders.text.encode(self.captions(step), self.tight)[0].pooled
            keep = self.part.rows(torch.rand(self.schedule.batch, generator=g) >= c.drop_text)
            cond = (low, level, pooled.to(self.device), keep.to(self.device))

        def net(x_t: Tensor, t: Tensor, cond: tuple[Tensor, ...]) -> Tensor:
            return self.net(x_t, t, *cond)

        t, eps = denoising_noise(c.objective, Flow(), high, self.part, g)
        loss, extra = diffusion_loss(net, Flow(), c.objective, high, cond, generator=g, t=t, eps=eps)
        return loss.mean(), {"mse": float(extra["mse"].mean())}

    def sheet(self) -> Tensor | None:
        """Four rows: the small picture, its bicubic enlargement, ours, the truth."""
        size, prediction = self.config.drawn or self.config.size, self.config.objective.prediction
        seed = examples_seed(self.recipe.seed, "sheets")
        high = self.source.batch(seed, 0, COLUMNS // 2, size).pixels.to(self.device)
        steps = self.recipe.sample.upsampler.steps
        return upsampler_rows(self.net, prediction, self.name, high, steps)


def blur(x: Tensor, width: Tensor) -> Tensor:
    """Pictures (B, 3, H, W), each blurred by a separable Gaussian of its width (B,), in pixels."""
    n, sigma = x.shape[0], width + 1e-3
    axis = torch.arange(-2, 3).float()
    kernel = torch.exp(-axis.square() / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # (3n, 5)
    flat = F.pad(x.reshape(1, 3 * n, *x.shape[2:]), (2, 2, 2, 2), mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=3 * n)
    return F.conv2d(flat, kernel[:, None, :, None], groups=3 * n).reshape(x.shape)
