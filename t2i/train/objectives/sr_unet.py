"""The super-resolution U-Net: crops of large pictures from small ones such as the base draws, and what they show.

Its pairs are drawn before the first step (`train/redrawn.py`). On the inputs there may be noise of a known level (Ho
2021, arXiv 2106.15282, section 4). What a picture shows is said by its image embedding, in a
model without by the text's vector.

Shapes: B crops of `crop` pixels a side, S side of a picture, s = net.scale.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.data.source import Source
from t2i.diffusion.process import Flow
from t2i.nets.sr_unet import SRUNet, SRUNetConfig
from t2i.nets.upsampler import enlarge
from t2i.pipeline import Pipeline
from t2i.stages.stage import Stage
from t2i.store.manifest import Manifest, StageEntry
from t2i.train.encoders import Encoders
from t2i.train.objective import Objective
from t2i.train.objectives.base import BaseObjective
from t2i.train.objectives.prior import PriorObjective
from t2i.train.recipe import Pixels, Recipe, Schedule, Share, StageRecipe, Weight
from t2i.train.redrawn import THINGS, RedrawnPool, RedrawnRecipe
from t2i.train.run import Run
from t2i.train.sheets import COLUMNS
from t2i.train.streams import examples_seed, first_weights, noise
from t2i.world.fidelity import luma, ssim_map

BEYOND = 1.1  # SSIM sees a prediction clamped to this, a little beyond the range of pixels


@dataclass(frozen=True)
class SRUNetRecipe(StageRecipe):
    """`[upsampler256]` with `design = "sr_unet"`."""

    net: SRUNetConfig = field(default_factory=SRUNetConfig)
    schedule: Schedule = field(default_factory=lambda: Schedule(batch=24, lr=1.5e-3, warmup=50, decay=0.4))
    pool: RedrawnRecipe = field(default_factory=RedrawnRecipe)
    design: str = "sr_unet"
    size: Pixels = 256
    crop: Pixels = 160  # side of a crop of the large picture
    near: Share = 0.85  # share of the crops that are cut around a thing, where the source knows where things are
    drawn: Share = 0.7  # share of the inputs that the base drew
    blur: Share = 0.15  # share of the inputs that are blurred, by up to two passes of (1, 2, 1) / 4
    noise: Share = 0.7  # the highest level of noise on the input
    clean: Share = 0.2  # share of the inputs without noise; the others' level is uniform up to `noise`
    told: Share = 0.6  # share of the embeddings that are what the base was told, not CLIP's of the picture
    ssim: Weight = 0.15  # weight of 1 - SSIM of luma beside the mean absolute error
    level: Share = 0.3  # of noise on the input when pictures are sampled
    z_noise: Weight = 0.15  # on the embedding, per coordinate in units of 1/sqrt(E)
    drop_z: Share = 0.1

    @property
    def trained_by(self) -> str:
        return self.design


class SRUNetObjective(Objective):
    """The mean absolute error of crops, and 1 - SSIM of their luma."""

    examples = "upsampler"
    compiles = True
    config: SRUNetRecipe
    net: SRUNet
    pool: RedrawnPool

    def __init__(self, run: Run, name: str, encoders: Encoders) -> None:
        super().__init__(run, name, encoders)
        c = self.config
        self.pool = RedrawnPool(
            run.folder(name) / "pool", self.source, c.pool, c.net, c.size, self.examples_seed, self.facts,
            lambda: Pipeline.load(run.out, str(self.device)), self._untrained,
        )  # fmt: skip

    @classmethod
    def build(cls, recipe: Recipe, name: str) -> SRUNet:
        return first_weights(recipe.seed, name, lambda: SRUNet(recipe.stage(name, SRUNetRecipe).net))

    @classmethod
    def learns_from(cls, recipe: Recipe, name: str) -> tuple[str, ...]:
        return (recipe.encoder, "prior", "base")

    @classmethod
    def bundle_entry(cls, recipe: Recipe, name: str) -> tuple[StageEntry, dict[str, Any]]:
        part = recipe.stage(name, SRUNetRecipe)
        config: dict[str, Any] = {"design": part.design, "net": part.net.to_dict()}
        config |= {"prediction": "x0", "process": {"kind": "flow"}}
        config["widths"] = {"low": part.size // part.net.scale, "size": part.size}
        config["widths"]["cond_dim" if part.net.image_dim else "text_dim"] = part.net.cond_dim
        return StageEntry(name, "upsampler", name, replace(recipe.sample.upsampler, steps=1, noise=part.level)), config

    @classmethod
    def rules(cls, recipe: Recipe, name: str, stages: tuple[str, ...]) -> list[tuple[bool, str]]:
        if name not in stages or name in recipe.share:
            return []
        part = recipe.stage(name, SRUNetRecipe)
        unit = part.net.scale * part.net.multiple
        return [
            (
                recipe.encoder == "clip" or not part.net.image_dim,
                f'{name} reads an image embedding, and [text] takes CLIP\'s place; write {name}.net.reads = "text"',
            ),
            (part.crop <= part.size, f"{name}.crop is larger than its pictures"),
            (part.crop % unit == 0 == part.size % unit, f"{name}.crop and .size are not multiples of {unit}"),
            (part.drawn + part.blur <= 1, f"{name}.drawn and .blur are more than 1 together"),
            (part.pool.strength[0] <= part.pool.strength[1], f"{name}.pool.strength ends before it begins"),
        ]

    @property
    def source(self) -> Source:
        return self.run.pictures.large

    def _untrained(self) -> Pipeline:
        """The stages before this one with their first weights: as fast as trained ones."""
        stages: dict[str, Stage] = {}
        entries: list[StageEntry] = []
        both: tuple[type[Objective], ...] = (PriorObjective, BaseObjective)
        for cls in both if self.recipe.has("prior") else both[1:]:
            entry, config = cls.bundle_entry(self.recipe, cls.examples)
            net = cls.build(self.recipe, entry.name).eval().requires_grad_(False)
            stages[entry.name] = Stage(entry.name, net, Flow(), config["prediction"], entry.defaults)
            entries.append(entry)
        manifest = Manifest(self.recipe.family, self.recipe.name, tuple(entries), (self.pool.low_side,))
        assert self.encoders.text is not None
        return Pipeline(manifest, self.encoders.text, stages, self.encoders.clip)

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        c, g, n, part = self.config, self.noise(step), self.schedule.batch, self.part.rows
        scale = c.net.scale
        small, side = c.size // scale, c.crop // scale
        rows = part(torch.randint(self.pool.size, (n,), generator=g)).tolist()
        corner = self._corners(rows, g)
        low = crop(self._inputs(rows, g), corner, side)
        high = crop(self.pool.pixels("high", rows), corner * scale, c.crop)
        u = part(torch.rand(n, 2, generator=g))
        level = torch.where(u[:, 0] < c.clean, torch.zeros(()), c.noise * u[:, 1])
        low = low + _wide(level) * part(torch.randn(n, *low.shape[1:], generator=g))
        u = part(torch.rand(n, 2, generator=g))
        z = torch.where(u[:, :1] < c.told, self.pool.embeddings("told", rows), self.pool.embeddings("z", rows))
        z = z + c.z_noise / z.shape[-1] ** 0.5 * part(torch.randn(n, z.shape[-1], generator=g))
        low, high, level, z, keep = (x.to(self.device) for x in (low, high, level, z, u[:, 1] >= c.drop_z))
        made = self.net(low, level, z, keep, corner, (small, small)).float()
        near, unlike = F.l1_loss(made, high), dissimilarity(made, high)
        psnr = 10 * torch.log10(4 / (made.detach() - high).square().mean())
        return near + c.ssim * unlike, {"psnr": float(psnr), "ssim": 1 - float(unlike.detach())}

    def _corners(self, rows: list[int], g: torch.Generator) -> Tensor:
        """(B, 2) Where crops begin, (y, x) in small pixels: around a thing, give or take an eighth of a crop, or
        anywhere."""
        c, n, part = self.config, len(rows), self.part
        most, side = (c.size - c.crop) / c.net.scale, c.crop / c.net.scale
        whole = n * part.of
        u, shift = part.rows(torch.rand(whole, 4, generator=g)), part.rows(torch.randn(whole, 2, generator=g))
        boxes = torch.from_numpy(self.pool.arrays["boxes"][rows].astype(np.float32))
        known = (boxes[..., 2] > 0).sum(1)
        chosen = (u[:, 2] * known).long().clamp(max=THINGS - 1)
        centre = boxes[torch.arange(n), chosen, :2].flip(1) * c.size / c.net.scale + shift * side / 8
        near = ((known > 0) & (u[:, 3] < c.near))[:, None]
        corner = torch.where(near, (centre - side / 2).clamp(0, most), u[:, :2] * most)
        return (corner / c.net.multiple).round().long() * c.net.multiple

    def _inputs(self, rows: list[int], g: torch.Generator) -> Tensor:
        """(B, 3, S/s, S/s): what the base drew, or the small pictures, a share of them blurred."""
        c, low = self.config, self.pool.pixels("low", rows)
        u = self.part.rows(torch.rand(len(rows) * self.part.of, 2, generator=g))
        once, kind, passes = soften(low), _wide(u[:, 0]), _wide(2 * u[:, 1])
        blurred = torch.where(passes < 1, torch.lerp(low, once, passes), torch.lerp(once, soften(once), passes - 1))
        low = torch.where(kind < c.drawn + c.blur, blurred, low)
        return torch.where(kind < c.drawn, self.pool.pixels("drawn", rows), low)

    def sheet(self) -> Tensor | None:
        """Four rows: the base's small picture, its bicubic enlargement, ours at the recipe's level of noise, the
        truth."""
        rows = list(range(min(COLUMNS // 2, self.pool.size)))
        low, high = self.pool.pixels("drawn", rows), self.pool.pixels("high", rows)
        level = torch.full((len(rows),), self.config.level)
        seed = examples_seed(self.recipe.seed, "sheets")
        noised = low + _wide(level) * torch.randn(low.shape, generator=noise(seed, self.name, 0))
        z = self.pool.embeddings("told", rows)
        ours = self.net(*(x.to(self.device) for x in (noised, level, z))).float().cpu().clamp(-1, 1)
        blocks = F.interpolate(low, scale_factor=float(self.config.net.scale), mode="nearest")
        return torch.stack([blocks, enlarge(low, self.config.net.scale).clamp(-1, 1), ours, high])


def dissimilarity(made: Tensor, true: Tensor) -> Tensor:
    """1 - SSIM of the luma of pictures (B, 3, H, W) in [-1, 1] (Wang 2004), in windows of 7 x 7 pixels: a scalar."""
    with torch.autocast(made.device.type, enabled=False):  # variances are differences of squares
        return 1 - ssim_map(luma(made.clamp(-BEYOND, BEYOND)), luma(true)).mean()


def soften(x: Tensor) -> Tensor:
    """Pictures (B, 3, H, W) after one pass of the kernel (1, 2, 1) / 4 in both directions."""
    k = torch.tensor([1.0, 2.0, 1.0]) / 4
    kernel = (k[:, None] * k).expand(3, 1, 3, 3)
    with torch.autocast(x.device.type, enabled=False):  # a picture is data: bf16 would lose half of its grey levels
        return F.conv2d(F.pad(x, (1, 1, 1, 1), mode="replicate"), kernel, groups=3)


def crop(x: Tensor, corner: Tensor, side: int) -> Tensor:
    """(B, 3, side, side) of pictures (B, 3, H, W), from `corner` (B, 2), (y, x), on."""
    places = zip(x, corner.tolist(), strict=True)
    return torch.stack([row[:, top : top + side, left : left + side] for row, (top, left) in places])


def _wide(v: Tensor) -> Tensor:
    """(B,) -> (B, 1, 1, 1)"""
    return v[:, None, None, None]
