"""The upsampler: residual blocks on the pixel-unshuffled large picture; predicts x_0.

The output is a residual over the bicubic enlargement of the small picture. The level of its noise augmentation is an
input (cascaded diffusion: Ho 2021, arXiv 2106.15282; Imagen: Saharia 2022, arXiv 2205.11487, section 2.4). The pooled
text may join the time embedding (Imagen, section 2.5). There is no downsampling and no attention, so it trains on crops
and runs at any size that `unshuffle` divides.
Shapes: B batch; H, W pixels of the large picture; h = H/scale, w = W/scale of the small one; P width of pooled text.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.config import Depth, NetConfig, Scale, Width, WidthOrNone
from t2i.nets.layers import ChannelNorm, ResBlock, TimeMLP, keep_or, zero_init
from t2i.nets.linear import Linear
from t2i.schema import Between


@dataclass(frozen=True)
class UpsamplerConfig(NetConfig):
    """depth residual blocks of `width` channels, on maps of H/unshuffle x W/unshuffle.

    pooled_dim: P, or 0 to read no text. channels and norm are part of the file format only.
    Raises InputError for a size below 1, or an unshuffle that is no multiple of scale.
    """

    scale: Annotated[int, Between(1, 64)] = 4
    unshuffle: Annotated[int, Between(1, 64)] = 4
    width: Width = 64
    depth: Depth = 8
    channels: Literal[3] = 3
    emb_dim: Width = 128
    time_features: Width = 64
    time_scale: Scale = 1000.0
    norm: Literal["layer"] = "layer"
    pooled_dim: WidthOrNone = 0

    def __post_init__(self) -> None:
        if min(self.scale, self.unshuffle, self.width, self.depth) < 1 or self.unshuffle % self.scale:
            raise InputError(
                f"scale {self.scale}, unshuffle {self.unshuffle}, width {self.width}, depth {self.depth}",
                hint="All are at least 1, and unshuffle is a multiple of scale.",
            )
        self.require(self.time_features % 2 == 0, f"time_features is {self.time_features}", "It must be even.")

    @property
    def one_pass(self) -> bool:
        """Whether the network reads the small picture alone and x_t not at all."""
        return False

    @property
    def multiple(self) -> int:
        """Heights and widths of the small picture must be divisible by this."""
        return self.unshuffle // self.scale

    @property
    def reach(self) -> int:
        """Radius of the receptive field in small pixels: two convolutions a block, one at each end, two of bicubic."""
        return (2 * self.depth + 2) * self.unshuffle // self.scale + 2


class Upsampler(nn.Module):
    """forward(x_t, t, low, level) -> x0_hat; a new network returns the bicubic enlargement of low."""

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        c = self.config = config
        pixels = 3 * c.unshuffle**2
        self.time = TimeMLP(c.time_features, c.emb_dim, c.time_scale)
        self.level = TimeMLP(c.time_features, c.emb_dim, 1000.0)
        if c.pooled_dim:
            self.null_pooled = nn.Parameter(torch.zeros(c.pooled_dim))
            self.pooled_emb = nn.Sequential(nn.LayerNorm(c.pooled_dim), Linear(c.pooled_dim, c.emb_dim))
        self.conv_in = nn.Conv2d(2 * pixels, c.width, 3, padding=1)
        self.blocks = nn.ModuleList(ResBlock(c.width, c.width, c.emb_dim) for _ in range(c.depth))
        self.norm_out = ChannelNorm(c.width)
        self.conv_out = zero_init(nn.Conv2d(c.width, pixels, 3, padding=1))

    def forward(
        self,
        x_t: Tensor,
        t: Tensor,
        low: Tensor,
        level: Tensor | None = None,
        pooled: Tensor | None = None,
        keep: Tensor | None = None,
    ) -> Tensor:
        """x_t (B, 3, H, W), t (B,), low (B, 3, h, w) in [-1, 1] -> x0_hat (B, 3, H, W).

        level (B,) in [0, 1], None for 0. pooled (B, P); the learned null takes its place if it is None, and where keep
        (B,) bool is False. The output is not clipped: bicubic overshoots at edges, which the network may correct.
        """
        c = self.config
        assert x_t.shape[2] % c.unshuffle == 0 and x_t.shape[3] % c.unshuffle == 0, tuple(x_t.shape)
        assert (low.shape[2] * c.scale, low.shape[3] * c.scale) == tuple(x_t.shape[2:]), tuple(low.shape)
        emb = self.time(t) + self.level(torch.zeros_like(t) if level is None else level)
        if c.pooled_dim:
            null = self.null_pooled.expand(len(t), -1)
            text = null if pooled is None else keep_or(keep, pooled.to(null.dtype), null)
            emb = emb + self.pooled_emb(text)
        large = enlarge(low, c.scale)
        h = F.pixel_unshuffle(torch.cat([x_t, large.to(x_t.dtype)], dim=1), c.unshuffle)
        h = self.conv_in(h.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            h = block(h, emb)
        residual = self.conv_out(F.silu(self.norm_out(h)))
        return large + F.pixel_shuffle(residual, c.unshuffle)


def enlarge(low: Tensor, scale: int) -> Tensor:
    """Bicubic enlargement in fp32: (B, C, h, w) -> (B, C, h * scale, w * scale)."""
    low = low.float().contiguous()  # in channels_last, three channels take twice as long
    return F.interpolate(low, scale_factor=float(scale), mode="bicubic", align_corners=False)
