"""A super-resolution U-Net that knows what the picture shows: one pass from the small picture to the large one.

Shapes: B batch, h w the small picture, E width of the image embedding z = (head, cells), s scale.
Level i works on a grid of h/2^i; pixel shuffle makes the large picture from the first grid.

The small picture comes with Gaussian noise of a known level (conditioning augmentation: Ho 2021, 2106.15282, section
4; Imagen, 2205.11487, section 2.4). At sampling, a level above 0 lets the network redraw what the base smudged. CLIP's
image embedding says what to redraw: as a vector by AdaGN, and, where the embedding has cells (ClipConfig.cell_dim), as
a map. In a model without image embeddings the text's vector takes its place. The network predicts x_0 and has no noise
of its own to remove: one pass is a whole run.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.config import Depths, NetConfig, Width, Widths
from t2i.nets.layers import ChannelNorm, ResBlock, TimeMLP, keep_or, zero_init
from t2i.nets.linear import Linear, PointwiseConv
from t2i.nets.upsampler import enlarge
from t2i.schema import Between


@dataclass(frozen=True)
class SRUNetConfig(NetConfig):
    """channels, down, up: width and number of residual blocks of each level. reads: what says what the picture shows,
    CLIP's embedding of an image or the pooled vector of a text; cond_dim: its width, of which the last
    z_cells * z_grid^2 numbers are laid out as a map (0: it is a vector alone)."""

    scale: Annotated[int, Between(2, 64)] = 4
    channels: Widths = (48, 96, 192)
    down: Depths = (1, 2, 3)
    up: Depths = (2, 3, 2)
    emb_dim: Width = 384
    reads: Literal["image", "text"] = "image"
    cond_dim: Width = 512
    z_grid: Annotated[int, Between(0, 256)] = 8
    z_cells: Annotated[int, Between(0, 1024)] = 4
    z_channels: Width = 64
    time_features: Width = 64

    def __post_init__(self) -> None:
        if not len(self.channels) == len(self.down) == len(self.up) > 0:
            raise InputError("channels, down and up differ in length", hint="Give one of each for every level.")
        if self.scale < 2 or min(*self.channels, *self.down, *self.up, self.emb_dim) < 1:
            raise InputError("a size of the upsampler is too small", hint="scale is at least 2, all others at least 1.")
        if self.head_dim < 1:
            raise InputError("cond_dim is no more than z_cells times the cells of z_grid", hint="Widen cond_dim.")
        self.require(self.z_grid > 0 or not self.z_cells, "z_grid is 0 and there are z_cells", "Give the grid a side.")
        self.require(self.time_features % 2 == 0, f"time_features is {self.time_features}", "It must be even.")

    @property
    def head_dim(self) -> int:
        """How many numbers of the embedding come before those of its cells."""
        return self.cond_dim - self.z_cells * self.z_grid**2

    @property
    def image_dim(self) -> int:
        """Width of the image embedding that it reads; 0: none."""
        return self.cond_dim if self.reads == "image" else 0

    @property
    def pooled_dim(self) -> int:
        """Width of the text's vector that it reads; 0: none."""
        return self.cond_dim if self.reads == "text" else 0

    @property
    def one_pass(self) -> bool:
        """Whether the network reads the small picture alone and x_t not at all."""
        return True

    @property
    def reach(self) -> int:
        """Radius in small pixels within which nearly all of the receptive field lies.

        The blocks of the default config reach 73 pixels. Of the trained network, what is farther than 32 changed no
        pixel by more than .2 of 255 (docs/decisions.md, 2026-11-28).
        """
        return 32

    @property
    def multiple(self) -> int:
        """Heights and widths of the small picture must be divisible by this."""
        return int(2 ** (len(self.channels) - 1))


class SRUNet(nn.Module):
    """forward(low, level, z, keep) -> x0_hat (B, 3, s h, s w); a new network returns the bicubic enlargement of low."""

    def __init__(self, config: SRUNetConfig) -> None:
        super().__init__()
        c = self.config = config
        emb, width = c.emb_dim, c.channels
        self.level = TimeMLP(c.time_features, emb, 1000.0)
        self.null_z = nn.Parameter(torch.zeros(c.cond_dim))
        self.z_emb = nn.Sequential(Linear(c.head_dim, emb), nn.SiLU(), Linear(emb, emb))
        if c.z_cells:
            self.z_map = nn.Conv2d(c.z_cells, c.z_channels, 3, padding=1)
            self.map_in = nn.ModuleList(PointwiseConv(c.z_channels, w) for w in width[1:])
        self.conv_in = nn.Conv2d(3, width[0], 3, padding=1)
        self.down, self.up = (
            nn.ModuleList(nn.ModuleList(ResBlock(w, w, emb) for _ in range(n)) for w, n in zip(width, counts))
            for counts in (c.down, c.up)
        )
        self.downsample = nn.ModuleList(PointwiseConv(4 * a, b) for a, b in pairwise(width))
        self.upsample = nn.ModuleList(PointwiseConv(b, 4 * a) for a, b in pairwise(width))
        self.norm_out = ChannelNorm(width[0])
        self.conv_out = zero_init(nn.Conv2d(width[0], 3 * c.scale**2, 3, padding=1))

    def forward(
        self,
        low: Tensor,
        level: Tensor,
        z: Tensor | None = None,
        keep: Tensor | None = None,
        corner: Tensor | None = None,
        whole: tuple[int, int] | None = None,
    ) -> Tensor:
        """low (B, 3, h, w) in [-1, 1] with noise of `level` (B,) in [0, 1] added; z (B, cond_dim), an image
        embedding of unit norm or a text's vector of any; keep (B,) bool: False takes the learned null, as does z None.

        corner (B, 2), whole (h, w): low is a crop that begins there, (y, x) in small pixels divisible by
        config.multiple, of a picture of this size; without, low is the whole picture. The output is not clipped.
        """
        c = self.config
        assert low.shape[2] % c.multiple == 0 == low.shape[3] % c.multiple, (tuple(low.shape), c.multiple)
        null = self.null_z.expand(len(low), -1)
        if z is not None and c.reads == "text":
            z = F.normalize(z.float(), dim=-1)
        z = null if z is None else keep_or(keep, z.to(null.dtype) * c.cond_dim**0.5, null)
        emb = self.level(level) + self.z_emb(z[:, : c.head_dim])
        cells = self.z_map(z[:, c.head_dim :].unflatten(1, (c.z_cells, c.z_grid, c.z_grid))) if c.z_cells else None
        h = self.conv_in(low.to(null.dtype).contiguous(memory_format=torch.channels_last))
        skips: list[Tensor] = []
        for i, blocks in enumerate(self.down):
            if i:
                h = self.downsample[i - 1](F.pixel_unshuffle(h, 2))
                if cells is not None:
                    h = h + self.map_in[i - 1](lay_out(cells, h.shape[2:], 2**i, corner, whole))
            for block in blocks:  # type: ignore[attr-defined]
                h = block(h, emb)
            skips.append(h)
        for i in reversed(range(len(self.up))):
            if i < len(self.up) - 1:
                h = F.pixel_shuffle(self.upsample[i](h), 2) + skips[i]
            for block in self.up[i]:  # type: ignore[attr-defined]
                h = block(h, emb)
        detail = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))).float(), c.scale)
        # the more noise there is in the small picture, the less of it shall pass by the network
        share = 0.25 / (0.25 + level.float() ** 2)
        return detail + share.view(-1, 1, 1, 1) * enlarge(low, c.scale)


def lay_out(
    cells: Tensor, size: tuple[int, ...], stride: int, corner: Tensor | None, whole: tuple[int, int] | None
) -> Tensor:
    """A map (B, C, G, G) of a whole picture on a grid of `stride` small pixels, (B, C, *size); of a crop its part."""
    if corner is None or whole is None:
        return F.interpolate(cells, size=tuple(size), mode="bilinear", align_corners=False)
    grid = F.interpolate(cells, size=(whole[0] // stride, whole[1] // stride), mode="bilinear", align_corners=False)
    top, left = (corner.to(grid.device) // stride).unbind(1)
    rows = (top[:, None] + torch.arange(size[0], device=grid.device))[:, None, :, None]
    columns = (left[:, None] + torch.arange(size[1], device=grid.device))[:, None, None, :]
    batch, channels = (torch.arange(n, device=grid.device) for n in grid.shape[:2])
    return grid[batch[:, None, None, None], channels[:, None, None], rows, columns]
