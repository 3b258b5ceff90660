"""The two networks of a generative adversarial network (Goodfellow 2014, arXiv 1406.2661): a generator that makes a
picture of noise and a text's vector in one pass, and a discriminator that scores how real a picture is for a text.

Shapes: B pictures, S pixels a side, Z numbers of noise, E width of what is read of a text, C channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.config import NetConfig, Side, Width, Widths
from t2i.nets.layers import ChannelNorm, ResBlock
from t2i.nets.linear import Linear, PointwiseConv

FIRST_GRID = 4
"""Cells a side where the generator starts and where the discriminator ends."""


@dataclass(frozen=True)
class GeneratorConfig(NetConfig):
    """noise: Z; embed_dim, token_dim: widths of the two vectors that stand for a text, E together. channels: of each
    grid, from 4 x 4 on, each twice as fine as the one before it. patch: side in pixels of a cell of the last grid. emb:
    width of the vector that noise and text become."""

    noise: Width = 64
    embed_dim: Width = 128
    token_dim: Width = 128
    channels: Widths = (160, 128, 96)
    patch: Side = 2
    emb: Width = 128

    @property
    def text_dim(self) -> int:
        """Width of what is read of a text, E: see `t2i.stages.gan.text_vector`."""
        return self.embed_dim + self.token_dim

    @property
    def size(self) -> int:
        """Side in pixels of its pictures, S."""
        return FIRST_GRID * 2 ** (len(self.channels) - 1) * self.patch


@dataclass(frozen=True)
class DiscriminatorConfig(NetConfig):
    """design: how the score of a picture and a text is made of the last grid's features.

    projection  one score: a linear one, plus the product of the mean features and the text (Miyato & Koyama 2018, arXiv
                1802.05637)
    concat      one score, by a convolution over the features with the text beside each of them (DF-GAN: Tao 2020, arXiv
                2008.05865)
    patch       a projection in each cell of the last grid: a score for each part of the picture (PatchGAN: Isola 2016,
                arXiv 1611.07004)

    channels: of each grid, from the finest, whose cells are `patch` pixels wide, to the last.
    """

    design: Literal["projection", "concat", "patch"] = "projection"
    text_dim: Width = 256
    channels: Widths = (96, 128, 160)
    patch: Side = 2

    @property
    def factor(self) -> int:
        """Pixels a side of a cell of the last grid."""
        return self.patch * 2 ** (len(self.channels) - 1)


class Generator(nn.Module):
    """forward(noise (B, Z), text (B, E)) -> pictures (B, 3, S, S) in [-1, 1]. Noise and text, as one vector, scale and
    shift the norms of every block."""

    def __init__(self, config: GeneratorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.emb = nn.Sequential(Linear(c.noise + c.text_dim, c.emb), nn.SiLU(), Linear(c.emb, c.emb))
        self.first = Linear(c.emb, c.channels[0] * FIRST_GRID**2)
        before = (c.channels[0], *c.channels)
        self.blocks = nn.ModuleList(ResBlock(a, b, c.emb) for a, b in zip(before, c.channels, strict=False))
        self.norm_out = ChannelNorm(c.channels[-1])
        self.conv_out = nn.Conv2d(c.channels[-1], 3 * c.patch**2, 3, padding=1)

    def forward(self, noise: Tensor, text: Tensor) -> Tensor:
        emb = self.emb(torch.cat([noise, scaled(text)], dim=1))
        x = self.first(F.silu(emb)).unflatten(1, (-1, FIRST_GRID, FIRST_GRID))
        x = x.contiguous(memory_format=torch.channels_last)
        for i, block in enumerate(self.blocks):
            x = block(F.interpolate(x, scale_factor=2.0) if i else x, emb)
        return F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(x))), self.config.patch).float().tanh()


class Discriminator(nn.Module):
    """features(pixels) once, then score(features, text) for each text; without norms, which a gradient penalty would
    act on (Gulrajani 2017, arXiv 1704.00028, section 4)."""

    def __init__(self, config: DiscriminatorConfig) -> None:
        super().__init__()
        c = self.config = config
        last = c.channels[-1]
        self.conv_in = nn.Conv2d(3 * c.patch**2, c.channels[0], 3, padding=1)
        self.blocks = nn.ModuleList(PlainBlock(a, b) for a, b in zip(c.channels, c.channels[1:], strict=False))
        self.last = nn.Conv2d(last, last, 3, padding=1)
        if c.design == "concat":
            self.text = Linear(c.text_dim, last)
            self.mix = nn.Conv2d(2 * last, last, 3, padding=1)
        else:
            self.text = Linear(c.text_dim, last, bias=False)
        self.logit = Linear(last, 1)

    def features(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) -> (B, C, G, G), the last grid."""
        x = F.pixel_unshuffle(pixels, self.config.patch).contiguous(memory_format=torch.channels_last)
        x = self.conv_in(x)
        for block in self.blocks:
            x = F.avg_pool2d(block(x), 2)
        return leaky(self.last(leaky(x)))

    def score(self, features: Tensor, text: Tensor) -> Tensor:
        """features (B, C, G, G), text (B, E) -> scores (B, N), high for a real picture of the text; N is 1 but for
        design `patch`, which scores each of the G * G cells."""
        read = self.text(scaled(text))
        if self.config.design == "concat":
            beside = read[:, :, None, None].expand(-1, -1, *features.shape[2:])
            features = leaky(self.mix(torch.cat([features, beside], dim=1)))
            return self.logit(features.mean((2, 3))).float()
        rows = features.flatten(2).transpose(1, 2) if self.config.design == "patch" else features.mean((2, 3))[:, None]
        product = (rows * read[:, None]).sum(-1) * read.shape[-1] ** -0.5
        return (self.logit(rows)[..., 0] + product).float()

    def forward(self, pixels: Tensor, text: Tensor) -> Tensor:
        """Scores (B, N) of pictures (B, 3, S, S) for texts (B, E)."""
        return self.score(self.features(pixels), text)


class PlainBlock(nn.Module):
    """Twice leaky ReLU and 3x3 convolution, with a skip and without norms; (B, C_in, H, W) -> (B, C_out, H, W)."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__()
        self.conv1, self.conv2 = nn.Conv2d(c_in, c_out, 3, padding=1), nn.Conv2d(c_out, c_out, 3, padding=1)
        self.skip = PointwiseConv(c_in, c_out) if c_in != c_out else nn.Identity()

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = (self.skip(x) + self.conv2(leaky(self.conv1(leaky(x))))) * 0.5**0.5
        return out


def leaky(x: Tensor) -> Tensor:
    """Leaky ReLU of slope 0.2, as in DCGAN."""
    return F.leaky_relu(x, 0.2)


def scaled(text: Tensor) -> Tensor:
    """A text's vector (B, E) at unit variance a coordinate."""
    return F.normalize(text, dim=-1) * text.shape[-1] ** 0.5
