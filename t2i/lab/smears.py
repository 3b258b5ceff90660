"""Things that nobody would name: how clear a thing is, and ways to smear one.

The judge is to call "nothing" what a person would not recognise. Most pictures it learns from are renders, all of them
clear, so some are smeared on purpose. `clarity` measures what is left of each thing, whatever happened to it, and
decides what it teaches (`judge_loss.Mark.taught`).

Shapes: B pictures, K items a picture, S side. Pixels are in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

WINDOW = 5  # side of the window whose mean is taken off, in pixels
SMALL = 1 / 3  # share of the canvas side, below which a thing has to be clearer to be named
SMEARED = (0.07, 0.2)
"""A smeared thing of less clarity than the first is nothing, one of more than the second a thing; between the two,
people disagree. Chosen by looking at 212 of them."""
SMUDGED = (0.2, 0.4)
"""The same for what a generator made of a thing: its wrong shapes keep more of the covariance than blur and noise do.
Chosen on 252 things that were named by eye (docs/decisions.md)."""


def clarity(pictures: Tensor, renders: Tensor, masks: Tensor, reach: int = 2) -> Tensor:
    """What is left of each thing: (B, K), 1 as in the render, 0 nothing.

    pictures, renders (B, 3, S, S); masks (B, K, S, S) in [0, 1] of the items. Both pictures lose their mean over a
    window around each pixel; then the covariance of what remains, over the thing and two pixels around it, is divided
    by the render's variance, or by the product of both standard deviations where that is more. So blur, noise and a
    wrong shape all count. Of all shifts by at most `reach` pixels the best counts, because a thing that moved a
    little is as clear as before. Less is enough to hide what a small thing is: where the side of a square of the mask's
    area is below `SMALL`, the share is raised to the power of `SMALL` over that side.
    """
    side, area = pictures.shape[-1], F.max_pool2d(masks, 5, 1, 2)

    def detail(x: Tensor) -> Tensor:
        return x - F.avg_pool2d(x, WINDOW, 1, WINDOW // 2, count_include_pad=False)

    def total(x: Tensor) -> Tensor:
        return torch.einsum("bchw,bkhw->bk", x, area)

    wanted = detail(renders)
    variance = total(wanted.square())
    wide = F.pad(detail(pictures), (reach,) * 4, mode="replicate")
    best = torch.full_like(variance, -1.0)
    for down in range(2 * reach + 1):
        for across in range(2 * reach + 1):
            seen = wide[:, :, down : down + side, across : across + side]
            norm = torch.maximum(variance, (variance * total(seen.square())).sqrt()).clamp_min(1e-6)
            best = torch.maximum(best, total(seen * wanted) / norm)
    small = SMALL * side / masks.sum((2, 3)).sqrt().clamp_min(1e-6)
    return best.clamp_min(0) ** small.clamp(1, 100)


def smear(pixels: Tensor, masks: Tensor, rng: torch.Generator) -> Tensor:
    """Each picture (B, 3, S, S) smeared in one of the ways of `WAYS`, as a whole or, more often, one of its things.

    masks (B, K, S, S) in [0, 1] of the items. The strength is the same for all pictures smeared in one way, and
    ranges from one that hardly shows to one that leaves nothing.
    """
    out = pixels.clone()
    way = torch.randint(0, len(WAYS), (len(pixels),), generator=rng)
    for number, apply in enumerate(WAYS):
        rows = (way == number).nonzero()[:, 0]
        if len(rows):
            strength = float(torch.rand(1, generator=rng))
            out[rows] = apply(pixels[rows], strength, rng)
    whole = torch.rand(len(pixels), 1, generator=rng) < 0.4
    chosen = torch.rand(masks.shape[:2], generator=rng) < 0.6
    chosen[:, 0] |= ~chosen.any(1)
    part = (masks * (chosen | whole)[:, :, None, None]).amax(1, keepdim=True)
    part = blur(F.max_pool2d(part, 5, 1, 2), 1.5)
    part = torch.where(whole[:, :, None, None], 1.0, part)
    return torch.lerp(pixels, out, part)


def blur(x: Tensor, sigma: float) -> Tensor:
    """A Gaussian blur of pictures (B, C, S, S). sigma: standard deviation in pixels."""
    reach = max(1, round(2.5 * sigma))
    line = torch.exp(-0.5 * (torch.arange(-reach, reach + 1) / sigma).square())
    kernel = (line / line.sum()).repeat(x.shape[1], 1, 1, 1)
    x = F.pad(x, (reach, reach, reach, reach), mode="replicate")
    x = F.conv2d(x, kernel, groups=x.shape[1])
    return F.conv2d(x, kernel.transpose(2, 3), groups=x.shape[1])


def _low_pass(x: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    return blur(x, 0.7 + 4.3 * strength)


def _noisy(x: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Noise that was smoothed afterwards: what an early checkpoint makes of it."""
    noise = torch.randn(x.shape, generator=rng)
    return blur(x + (0.3 + 1.7 * strength) * noise, 0.7 + 1.3 * strength)


def _moved(x: Tensor, by: Tensor, mode: str) -> Tensor:
    """x with every pixel taken from elsewhere; by (B, 2, S, S) in pixels."""
    side = x.shape[-1]
    axis = (torch.arange(side) + 0.5) * 2 / side - 1
    y, across = torch.meshgrid(axis, axis, indexing="ij")
    grid = torch.stack([across, y], -1) + by.movedim(1, -1) * 2 / side
    return F.grid_sample(x, grid, mode=mode, padding_mode="reflection", align_corners=False)


def _warp(x: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """An elastic deformation."""
    cells = 5 + int(5 * float(torch.rand(1, generator=rng)))
    field = torch.randn(len(x), 2, cells, cells, generator=rng) * (1 + 6 * strength)
    return _moved(x, F.interpolate(field, x.shape[-2:], mode="bicubic"), "bilinear")


def _shuffle(x: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """Pixels that changed places with others near by, smoothed a little."""
    by = torch.randn(len(x), 2, *x.shape[-2:], generator=rng) * (1 + 5 * strength)
    return blur(_moved(x, by, "nearest"), 0.8)


def _ghosts(x: Tensor, strength: float, rng: torch.Generator) -> Tensor:
    """The mean of four shifted copies, as if the network had not decided between them."""
    copies = []
    for _ in range(4):
        shift = (torch.randn(len(x), 2, 1, 1, generator=rng) * (1 + 5 * strength)).expand(-1, -1, *x.shape[-2:])
        copies.append(_moved(x, shift, "bilinear"))
    return torch.stack(copies).mean(0)


WAYS: tuple[Callable[[Tensor, float, torch.Generator], Tensor], ...] = (_low_pass, _noisy, _warp, _shuffle, _ghosts)
