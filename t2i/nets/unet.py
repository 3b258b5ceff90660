"""The U-Net of the base stage, one network for both papers; `UNetConfig` says what it is conditioned on.

U-Net and AdaGN: Dhariwal & Nichol 2021 (arXiv 2105.05233). The layout is Imagen's Efficient U-Net, with the stride
before a level's blocks and upsampling after them (Saharia 2022, arXiv 2205.11487, section 2.5 and appendix B). Input
channels for a mask and the masked picture: GLIDE (Nichol 2021, arXiv 2112.10741).

Shapes: B batch; H, W pixels; p patch; level i works on maps of H/(p 2^i) x W/(p 2^i); E embedding of time and
conditions; T context tokens of width C.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.conditioner import Conditioner, UNetCond
from t2i.nets.layers import ChannelNorm, CrossAttention, ResBlock, SelfAttention, zero_init
from t2i.nets.linear import Linear, PointwiseConv
from t2i.nets.unet_config import UNetConfig


def modulate(h: Tensor, scale_shift: Tensor) -> Tensor:
    """(B, C, H, W) scaled and shifted by (B, 2C): the last step of AdaGN."""
    scale, shift = scale_shift[:, :, None, None].chunk(2, dim=1)
    return h * (1 + scale) + shift


class Block(nn.Module):
    """ResBlock, then self- and cross-attention where the level has them; (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, c_in: int, c_out: int, config: UNetConfig, attention: bool) -> None:
        super().__init__()
        self.res = ResBlock(c_in, c_out, config.emb_dim)
        cross = attention and config.has_context
        self.attn = SelfAttention(c_out, config.head_dim) if attention else None
        self.cross = CrossAttention(c_out, config.context_dim, config.head_dim) if cross else None

    def forward(self, x: Tensor, emb: Tensor, context: Tensor | None, mask: Tensor | None) -> Tensor:
        """emb (B, E), context (B, T, C), mask (B, T) bool."""
        h: Tensor = self.res(x, emb)
        if self.attn is not None:
            h = self.attn(h)
        if self.cross is not None:
            h = self.cross(h, context, mask)
        return h


class Upsample(nn.Module):
    """3x3 conv, then nearest-neighbour enlargement by 2; (B, C_in, H, W) -> (B, C_out, 2H, 2W)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(c_in, c_out, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return F.interpolate(self.conv(x), scale_factor=2.0, mode="nearest")


class UNet(nn.Module):
    """forward(x (B, in_channels, H, W), t (B,), cond) -> (B, 3, H, W); config.multiple divides H and W.

    What the output means (x0, eps, v) is the caller's choice. A new network returns zeros: its last conv is zero.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        c = self.config = config
        width, levels, p2 = c.channels, len(c.channels), c.patch**2
        self.cond = Conditioner(c)
        self.conv_in = nn.Conv2d(c.in_channels * p2, width[0], 3, padding=1)
        # Both ends of the network read the time: a level without blocks has no other way to know it, and at t = 1 its
        # skip passes nothing but noise.
        self.ada_in = zero_init(Linear(c.emb_dim, 2 * width[0]))
        self.ada_out = zero_init(Linear(c.emb_dim, 2 * width[0]))
        if c.has_map:
            self.map_in = nn.ModuleList(zero_init(PointwiseConv(c.z_channels, w)) for w in width[1:])
        self.down, self.up, self.mid = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.downsample, self.upsample = nn.ModuleList(), nn.ModuleList()
        for i in range(levels):
            attention, w = i in c.attention, width[i]
            self.down.append(nn.ModuleList(Block(w, w, c, attention) for _ in range(c.blocks[i])))
            self.up.append(nn.ModuleList(Block(2 * w, w, c, attention) for _ in range(c.blocks[i])))
            if i:
                self.downsample.append(nn.Conv2d(width[i - 1], w, 3, 2, 1))
                self.upsample.append(Upsample(w, width[i - 1]))
        for i in range(c.mid_blocks):
            self.mid.append(Block(width[-1], width[-1], c, attention=i == 0 and levels - 1 in c.attention))
        self.norm_out = ChannelNorm(width[0])
        self.conv_out = zero_init(nn.Conv2d(width[0], 3 * p2, 3, padding=1))

    def forward(self, x: Tensor, t: Tensor, cond: UNetCond) -> Tensor:
        c = self.config
        assert x.shape[2] % c.multiple == 0 == x.shape[3] % c.multiple, (tuple(x.shape), c.multiple)
        emb, context, mask, z_map = self.cond(t, cond)
        x = F.pixel_unshuffle(x, c.patch).contiguous(memory_format=torch.channels_last)
        h: Tensor = modulate(self.conv_in(x), self.ada_in(emb))
        skips: list[Tensor] = []
        for i, level in enumerate(self.down):
            if i:
                h = self.downsample[i - 1](h)
                if z_map is not None:
                    here = F.interpolate(z_map, size=h.shape[2:], mode="bilinear", align_corners=False)
                    h = h + self.map_in[i - 1](here)
            for block in level:  # type: ignore[attr-defined]
                h = block(h, emb, context, mask)
                skips.append(h)
            if not c.blocks[i]:
                skips.append(h)
        for block in self.mid:
            h = block(h, emb, context, mask)
        for i in reversed(range(len(self.up))):
            for block in self.up[i]:  # type: ignore[attr-defined]
                h = block(self.join(h, skips.pop()), emb, context, mask)
            if not c.blocks[i]:
                h = h + skips.pop() * c.skip_scale
            if i:
                h = self.upsample[i - 1](h)
        out: Tensor = self.conv_out(F.silu(modulate(self.norm_out(h), self.ada_out(emb))))
        return F.pixel_shuffle(out, c.patch)

    @torch.no_grad()
    def make_identity(self, blocks: Sequence[int]) -> None:
        """Make each block beyond the first `blocks[i]` of a level the identity. A network that has only those first
        blocks, with the same weights, then computes the same.

        A new block of the downward path is the identity as it is. One of the upward path passes on what comes from
        below; the first one of a level that had none adds the skip to it, as such a level does.
        """
        for i, (up, had) in enumerate(zip(self.up, blocks, strict=True)):
            c = self.config.channels[i]
            for j in range(had, self.config.blocks[i]):
                res: Any = up[j].res  # type: ignore[index]
                res.skip.weight.zero_()
                res.skip.bias.zero_()
                res.skip.weight[:, :c, 0, 0] = torch.eye(c)
                if j == 0:
                    res.skip.weight[:, c:, 0, 0] = torch.eye(c)

    def join(self, h: Tensor, skip: Tensor) -> Tensor:
        """The skip connection: (B, C1, H, W), (B, C2, H, W) -> (B, C1+C2, H, W), the skip scaled."""
        if self.config.skip_scale != 1.0:
            skip = skip * self.config.skip_scale
        return torch.cat([h, skip], dim=1)
