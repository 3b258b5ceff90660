"""What an upsampler minimises: crops of large pictures, drawn again from blurred and noised small ones."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.data.source import Source
from t2i.diffusion.loss import diffusion_loss
from t2i.diffusion.process import Flow
from t2i.nets.upsampler import Upsampler
from t2i.rng import generator
from t2i.text.encoder import TextEncoder
from t2i.train.recipe import Recipe, UpsamplerRecipe
from t2i.train.sheets import COLUMNS, SEED, averaged, upsampler_rows


class UpsamplerObjective:
    """An upsampler on random crops, its input blurred and noised (Saharia 2021, SR3; Ho 2021, cascades)."""

    sheet_steps: int | None = None
    """Of its sampler; None: as many as the recipe's."""

    def __init__(
        self,
        recipe: Recipe,
        config: UpsamplerRecipe,
        upsampler: Upsampler,
        source: Source,
        device: torch.device,
        name: str,
        encoder: TextEncoder | None = None,
    ):
        self.encoder = encoder
        self.recipe, self.config, self.source, self.device, self.name = recipe, config, source, device, name
        self.upsampler = upsampler
        self.module: nn.Module = upsampler

    def crops(self, step: int, g: torch.Generator) -> Tensor:
        """(B, 3, crop, crop) aligned to the low-resolution grid."""
        c, scale = self.config, self.upsampler.config.scale
        size = c.drawn or c.size
        pictures = self.source.batch(self.recipe.seed + 3, step, -(-c.schedule.batch // c.crops), size).pixels
        places = torch.randint((size - c.crop) // scale + 1, (len(pictures), c.crops, 2), generator=g) * scale
        rows = [
            picture[:, y : y + c.crop, x : x + c.crop]
            for picture, spots in zip(pictures, places.tolist(), strict=True)
            for y, x in spots
        ]
        return torch.stack(rows[: c.schedule.batch])

    def pairs(self, step: int, g: torch.Generator) -> tuple[Tensor, Tensor, Tensor]:
        """Crops (B, 3, crop, crop), what is given of them (B, 3, crop/scale, crop/scale), its level of noise (B,)."""
        c, high = self.config, self.crops(step, g)
        low = F.interpolate(high, scale_factor=1 / self.upsampler.config.scale, mode="area")
        low = blur(low, c.blur, g)
        level = torch.rand(len(low), generator=g) * c.noise * (torch.rand(len(low), generator=g) < 0.8)
        low = low + level.view(-1, 1, 1, 1) * torch.randn(low.shape, generator=g)
        return high.to(self.device), low.to(self.device), level.to(self.device)

    def captions(self, step: int) -> list[str]:
        """What the picture of each crop shows."""
        c = self.config
        n = -(-c.schedule.batch // c.crops)
        said = [self.source.captions(self.recipe.seed + 3, step * n + i, 0) for i in range(n)]
        return [text for text in said for _ in range(c.crops)][: c.schedule.batch]

    def loss(self, step: int) -> tuple[Tensor, dict[str, float]]:
        c, g = self.config, generator(self.recipe.seed, self.name, step)
        high, low, level = self.pairs(step, g)

        cond: tuple[Tensor, ...] = (low, level)
        if self.upsampler.config.pooled_dim:
            assert self.encoder is not None
            pooled = self.encoder.encode(self.captions(step), tight=True)[0].pooled
            keep = torch.rand(len(low), generator=g) >= c.drop_text
            cond = (low, level, pooled.to(self.device), keep.to(self.device))

        def net(x_t: Tensor, t: Tensor, cond: tuple[Tensor, ...]) -> Tensor:
            return self.upsampler(x_t, t, *cond)

        loss, extra = diffusion_loss(net, Flow(), c.objective, high, cond, generator=g)
        return loss.mean(), {"mse": float(extra["mse"].mean())}

    def sheet(self, average: dict[str, Tensor]) -> Tensor | None:
        """Four rows: the small picture, its bicubic enlargement, ours, the truth."""
        size = self.config.drawn or self.config.size
        high = self.source.batch(self.recipe.seed + SEED, 0, COLUMNS // 2, size).pixels.to(self.device)
        with torch.no_grad(), averaged(self.module, average):
            return upsampler_rows(self.upsampler, self.recipe, self.config, self.name, high, self.sheet_steps)


def blur(x: Tensor, chance: float, g: torch.Generator) -> Tensor:
    """Separable Gaussian blur of a share of the rows, of random width up to one pixel."""
    n = x.shape[0]
    sigma = torch.rand(n, generator=g) * (torch.rand(n, generator=g) < chance) + 1e-3
    axis = torch.arange(-2, 3).float()
    kernel = torch.exp(-axis.square() / (2 * sigma[:, None] ** 2))
    kernel = (kernel / kernel.sum(1, keepdim=True)).repeat_interleave(3, 0)  # (3n, 5)
    flat = F.pad(x.reshape(1, 3 * n, *x.shape[2:]), (2, 2, 2, 2), mode="replicate")
    flat = F.conv2d(flat, kernel[:, None, None, :], groups=3 * n)
    return F.conv2d(flat, kernel[:, None, :, None], groups=3 * n).reshape(x.shape)
