"""The variational autoencoder whose codes are DALL·E's image tokens (Ramesh 2021, arXiv 2102.12092, section 2.1 and
appendix A): convolutional encoder and decoder around a grid of latents, of one of four kinds.

gumbel    a distribution over K codes in each cell; relaxed by the Gumbel-softmax while training (Jang 2016, arXiv
          1611.01144; Maddison 2016, arXiv 1611.00712), the most probable code afterwards. The paper's.
vq        the nearest of K codes, by a straight-through estimator (VQ-VAE: van den Oord 2017, arXiv 1711.00937). Vectors
          and codes have one length: else few codes are ever nearest (Yu 2021, arXiv 2110.04627, section 3.2)
fsq       D numbers in each cell, each of them rounded to one of a few levels (Mentzer 2023, arXiv 2309.15505); a code
          is one choice of them all. No code is learned, so none is forgotten
gaussian  D continuous numbers in each cell (Kingma & Welling 2013, arXiv 1312.6114); it has no tokens

Shapes: B pictures, S pixels a side, G = S / factor cells a side, K codes, D numbers of a code.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets import laplace
from t2i.nets.config import Depth, Entries, NetConfig, Side, Width, Widths
from t2i.nets.layers import ChannelNorm, zero_init
from t2i.nets.linear import PointwiseConv
from t2i.rng import gumbel
from t2i.schema import Between, Length

Levels = Annotated[tuple[Annotated[int, Between(2, 256)], ...], Length(1, 16)]

COMMITMENT = 0.25
"""Weight of the distance that draws the encoder towards the codes (VQ-VAE, equation 3)."""


@dataclass(frozen=True)
class VAEConfig(NetConfig):
    """latent: one of the four kinds above. codes: K; dim: D. levels: of the D numbers of fsq; K is their
    product. patch: side in pixels of the squares that enter as channels; each entry of `channels` but the first halves
    the grid once more. blocks: on each grid. Raises InputError for levels that do not make K codes."""

    latent: Literal["gumbel", "vq", "fsq", "gaussian"] = "gumbel"
    codes: Entries = 512
    dim: Width = 64
    levels: Levels = (8, 8, 8)
    patch: Side = 2
    channels: Widths = (64, 128)
    blocks: Depth = 2

    def __post_init__(self) -> None:
        if self.latent == "fsq":
            made = math.prod(self.levels)
            hint = f"Write codes = {made} and dim = {len(self.levels)}."
            fits = (made, len(self.levels)) == (self.codes, self.dim)
            self.require(fits, f"{len(self.levels)} levels that make {made} codes are not dim and codes", hint)

    @property
    def factor(self) -> int:
        """Pixels a side of a cell."""
        return self.patch * 2 ** (len(self.channels) - 1)

    @property
    def tokens(self) -> int:
        """How many different tokens there are: K, or 0 for continuous latents."""
        return 0 if self.latent == "gaussian" else self.codes


@dataclass(frozen=True)
class Coded:
    """A batch that went through the bottleneck while training.

    z (B, D, G, G): what the decoder reads. cost: what the latents cost, a scalar: nats a picture of the KL divergence
    to the prior, for vq the two squared distances, for fsq 0. tokens (B, G*G): the codes chosen without
    noise; None if continuous.
    """

    z: Tensor
    cost: Tensor
    tokens: Tensor | None


class ConvBlock(nn.Module):
    """Twice norm, SiLU and 3x3 conv, residual; (B, C, H, W) -> the same; the identity when new."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1, self.norm2 = ChannelNorm(channels), ChannelNorm(channels)
        self.conv1 = nn.Conv2d(channels, channels, 3, padding=1)
        self.conv2 = zero_init(nn.Conv2d(channels, channels, 3, padding=1))

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = x + self.conv2(F.silu(self.norm2(self.conv1(F.silu(self.norm1(x))))))
        return out


class VAE(nn.Module):
    """encode(pixels) -> h, bottleneck(h) -> z while training, tokens(pixels) afterwards, decode(z) -> mu, log_b."""

    def __init__(self, config: VAEConfig) -> None:
        super().__init__()
        c = self.config = config
        first, last = c.channels[0], c.channels[-1]
        outputs = {"gumbel": c.codes, "vq": c.dim, "fsq": c.dim, "gaussian": 2 * c.dim}[c.latent]
        down: list[nn.Module] = [nn.PixelUnshuffle(c.patch)]
        up: list[nn.Module] = [nn.Conv2d(c.dim, last, 3, padding=1)]
        for i, width in enumerate(c.channels):
            before = c.channels[i - 1] if i else 3 * c.patch**2
            down.append(nn.Conv2d(before, width, 3, 2 if i else 1, 1))
            down += [ConvBlock(width) for _ in range(c.blocks)]
        for i, width in reversed(list(enumerate(c.channels))):
            up += [ConvBlock(width) for _ in range(c.blocks)]
            if i:
                up += [nn.Upsample(scale_factor=2.0, mode="nearest"), nn.Conv2d(width, c.channels[i - 1], 3, padding=1)]
        self.encoder, self.decoder = nn.Sequential(*down), nn.Sequential(*up)
        self.norm_latent, self.conv_out_latent = ChannelNorm(last), PointwiseConv(last, outputs)
        self.norm_out, self.conv_out = ChannelNorm(first), zero_init(PointwiseConv(first, 6 * c.patch**2))
        if c.tokens and c.latent != "fsq":
            self.codes_embedding = nn.Parameter(torch.empty(c.codes, c.dim).normal_(std=1.0))

    def encode(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in [-1, 1] -> h (B, K or D or 2D, G, G): logits of the codes, a vector to be replaced by
        the nearest code, or mean and log variance."""
        assert pixels.shape[2] % self.config.factor == 0 == pixels.shape[3] % self.config.factor, tuple(pixels.shape)
        h = self.encoder(pixels.contiguous(memory_format=torch.channels_last))
        out: Tensor = self.conv_out_latent(F.silu(self.norm_latent(h)))
        return out

    def bottleneck(self, h: Tensor, tau: float, g: torch.Generator, part: tuple[int, int] = (0, 1)) -> Coded:
        """h -> what the decoder reads while training. tau: temperature of the relaxation, gumbel only. part: h is part
        number `part[0]` of the `part[1]` of a batch, for all of which the noise is drawn."""
        index, of = part
        mine = slice(index * len(h), (index + 1) * len(h))
        if self.config.latent == "gaussian":
            mean, log_var = h.float().chunk(2, dim=1)
            log_var = log_var.clamp(-20, 20)
            eps = torch.randn(of * len(h), *mean.shape[1:], generator=g)[mine].to(mean)
            kl = 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum((1, 2, 3)).mean()
            return Coded(mean + (0.5 * log_var).exp() * eps, kl, None)
        h = h.permute(0, 2, 3, 1).float()  # (B, G, G, ·)
        picks = self.nearest(h)
        if self.config.latent == "vq":
            h, codes = on_sphere(h), F.embedding(picks, self.codes)
            cost = F.mse_loss(codes, h.detach()) + COMMITMENT * F.mse_loss(h, codes.detach())
            z = h + (codes - h).detach()
        elif self.config.latent == "fsq":
            h, codes = h.sigmoid() * 2 - 1, F.embedding(picks, self.codes)
            z, cost = h + (codes - h).detach(), h.new_zeros(())
        else:
            soft = F.softmax((h + gumbel((of * len(h), *h.shape[1:]), g)[mine].to(h)) / tau, dim=-1)
            z, cost = soft @ self.codes, kl_to_uniform(h)
        return Coded(z.permute(0, 3, 1, 2), cost, picks.flatten(1))

    @property
    def codes(self) -> Tensor:
        """The codes (K, D) as the decoder reads them."""
        if self.config.latent == "fsq":
            return level_grid(self.config.levels).to(self.conv_out.weight)
        return on_sphere(self.codes_embedding) if self.config.latent == "vq" else self.codes_embedding

    def nearest(self, h: Tensor) -> Tensor:
        """The tokens (...) of h (..., K or D): the codes with the largest logits, or those nearest to the vectors."""
        if self.config.latent == "fsq":
            return level_tokens(h, self.config.levels)
        return (h @ self.codes.T if self.config.latent == "vq" else h).argmax(-1)

    def tokens(self, pixels: Tensor) -> Tensor:
        """Pixels (B, 3, S, S) in [-1, 1] -> the tokens (B, G*G) int64, in raster order. Not for continuous latents."""
        assert self.config.tokens, "continuous latents have no tokens"
        return self.nearest(self.encode(pixels).permute(0, 2, 3, 1).float()).flatten(1)

    def embed(self, tokens: Tensor) -> Tensor:
        """Tokens (B, G*G) -> their codes z (B, D, G, G)."""
        side = round(tokens.shape[1] ** 0.5)
        return F.embedding(tokens, self.codes).unflatten(1, (side, side)).permute(0, 3, 1, 2)

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """z (B, D, G, G) -> mu and log b of `t2i.nets.laplace`, each (B, 3, S, S), float32."""
        h = self.decoder(z.contiguous(memory_format=torch.channels_last))
        out = F.pixel_shuffle(self.conv_out(F.silu(self.norm_out(h))), self.config.patch).float()
        mu, raw = out.chunk(2, dim=1)
        return mu, laplace.bounded(raw)

    def pictures(self, tokens: Tensor) -> Tensor:
        """Tokens (B, G*G) -> pixels (B, 3, S, S) in [-1, 1]."""
        return laplace.median(self.decode(self.embed(tokens))[0])

    def reconstruct(self, pixels: Tensor) -> Tensor:
        """Pixels -> what is left of them without noise: by their tokens, or by the means of continuous latents."""
        if self.config.tokens:
            return self.pictures(self.tokens(pixels))
        return laplace.median(self.decode(self.encode(pixels).chunk(2, dim=1)[0])[0])


def level_grid(levels: Sequence[int]) -> Tensor:
    """All codes (K, D) of fsq: its levels are evenly spaced from -1 to 1; the last number changes fastest."""
    axes = [torch.linspace(-1, 1, n) for n in levels]
    return torch.cartesian_prod(*axes).reshape(-1, len(levels))


def level_tokens(h: Tensor, levels: Sequence[int]) -> Tensor:
    """The number (...) of the code of fsq that is nearest to 2 sigmoid(h) - 1, of h (..., D)."""
    token = torch.zeros(h.shape[:-1], dtype=torch.int64, device=h.device)
    for i, n in enumerate(levels):
        token = token * n + (h[..., i].sigmoid() * (n - 1)).round().long()
    return token


def on_sphere(vectors: Tensor) -> Tensor:
    """Vectors (..., D) scaled to the length sqrt(D): the mean square of their numbers is 1."""
    return F.normalize(vectors, dim=-1) * vectors.shape[-1] ** 0.5


def kl_to_uniform(logits: Tensor) -> Tensor:
    """KL(q | uniform) = sum_k q_k ln(K q_k), summed over the cells and averaged over the pictures, in nats; logits
    (B, G, G, K)."""
    log_q = F.log_softmax(logits, dim=-1)
    kl = (log_q.exp() * log_q).sum(-1) + math.log(logits.shape[-1])
    return kl.sum((1, 2)).mean()
