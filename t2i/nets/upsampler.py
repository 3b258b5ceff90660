"""The upsampler: residual convolutions on the pixel-unshuffled grid of the large picture.

Shapes: B batch, H W pixels of the large picture, h w = H/scale W/scale of the small one, r unshuffle.
No downsampling and no attention, so it trains on crops and runs on any size divisible by r. Predicts x_0 as a
residual over the bicubic enlargement; the augmentation level of the small picture is an input (cascaded
diffusion, Ho et al. 2021, 2106.15282; Imagen, section 2.4, 2205.11487). The text's one vector may join the time
embedding (Imagen, section 2.5).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.layers import NORMS, NetConfig, ResBlock, TimeMLP, check_choice, keep_or, make_norm, zero_init


@dataclass(frozen=True)
class UpsamplerConfig(NetConfig):
    """depth residual blocks (two 3x3 convs each) of width channels on the grid H/unshuffle. pooled_dim: width of the
    text's one vector, 0: it reads no text."""

    scale: int = 4
    unshuffle: int = 4
    width: int = 64
    depth: int = 8
    channels: int = 3
    emb_dim: int = 128
    time_features: int = 64
    time_scale: float = 1000.0
    norm: str = "layer"
    pooled_dim: int = 0

    def __post_init__(self) -> None:
        check_choice("norm", self.norm, NORMS)
        if min(self.scale, self.unshuffle, self.width, self.depth) < 1 or self.unshuffle % self.scale:
            raise InputError(
                f"scale {self.scale}, unshuffle {self.unshuffle}, width {self.width}, depth {self.depth}",
                hint="All are at least 1, and unshuffle is a multiple of scale.",
            )


class Upsampler(nn.Module):
    """forward(x_t, t, low, level) -> x0_hat; a new network returns the bicubic enlargement of low."""

    def __init__(self, config: UpsamplerConfig) -> None:
        super().__init__()
        c = self.config = config
        pixels = c.channels * c.unshuffle**2
        self.time = TimeMLP(c.time_features, c.emb_dim, c.time_scale)
        self.level = TimeMLP(c.time_features, c.emb_dim, 1000.0)
        if c.pooled_dim:
            self.null_pooled = nn.Parameter(torch.zeros(c.pooled_dim))
            self.pooled_emb = nn.Sequential(nn.LayerNorm(c.pooled_dim), nn.Linear(c.pooled_dim, c.emb_dim))
        self.conv_in = nn.Conv2d(2 * pixels, c.width, 3, padding=1)
        self.blocks = nn.ModuleList(ResBlock(c.width, c.width, c.emb_dim, c.norm) for _ in range(c.depth))
        self.norm_out = make_norm(c.norm, c.width)
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
        """x_t (B, 3, H, W), t (B,), low (B, 3, h, w) in [-1, 1], level (B,) in [0, 1], None for 0,
        pooled (B, pooled_dim), keep (B,) bool: False takes the learned null instead, as does pooled None
        -> (B, 3, H, W).

        The output is not clipped: bicubic overshoots at edges, and the network may take it back.
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
    """Bicubic enlargement (B, C, h, w) -> (B, C, h*scale, w*scale), in fp32."""
    return F.interpolate(low.float(), scale_factor=float(scale), mode="bicubic", align_corners=False)
