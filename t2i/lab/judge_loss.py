"""Training of the judge: targets on its grid, the loss, and the augmentation of its training pictures.

Shape legend: B pictures, G = 16 grid side, N marks in the whole batch.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.world.judge import GRID, Maps
from t2i.world.judge_config import JudgeConfig


@dataclass(frozen=True, slots=True)
class Mark:
    """One object of a training picture. Names are from the judge's config; centre and size are shares of the canvas
    side. taught: False for a thing that is too clear to be nothing and not clear enough to be one: its cells teach
    neither."""

    thing: str
    colour: str
    x: float
    y: float
    w: float
    h: float
    taught: bool = True


@dataclass(frozen=True)
class Truth:
    """One training picture: its objects, its background, and the shade of a plain background."""

    marks: tuple[Mark, ...]
    place: str
    shade: str | None


@dataclass(frozen=True)
class Targets:
    centre: Tensor  # (B, G, G) in [0, 1], 1 at each object's cell
    known: Tensor  # (B, G, G): 1 where `centre` is to be learned, 0 around things that teach nothing
    weight: Tensor  # (B, G, G): how much a cell teaches the choice of thing, colour and box
    thing: Tensor  # (B, G, G) int64
    colour: Tensor  # (B, G, G) int64
    box: Tensor  # (B, 4, G, G): as Maps.box
    place: Tensor  # (B,) int64
    shade: Tensor  # (B,) int64, -100 where the background is not plain


def targets(truths: Sequence[Truth], config: JudgeConfig) -> Targets:
    """Gaussians at the centres (CenterNet, Zhou et al. 2019, 1904.07850, section 3); overlaps belong to the nearer
    object."""
    thing_at = {name: i for i, name in enumerate(config.things)}
    colour_at = {name: i for i, name in enumerate(config.colours)}
    b = len(truths)
    centre, weight, known = torch.zeros(b, GRID, GRID), torch.zeros(b, GRID, GRID), torch.ones(b, GRID, GRID)
    thing, colour = torch.zeros(b, GRID, GRID, dtype=torch.long), torch.zeros(b, GRID, GRID, dtype=torch.long)
    box = torch.full((b, 4, GRID, GRID), 0.5)
    cells = torch.arange(GRID, dtype=torch.float32)
    for i, truth in enumerate(truths):
        for mark in truth.marks:
            column = min(max(int(mark.x * GRID), 0), GRID - 1)
            row = min(max(int(mark.y * GRID), 0), GRID - 1)
            sigma = 0.5 + 0.06 * GRID * max(mark.w, mark.h)
            far2 = (cells - column).square()[None, :] + (cells - row).square()[:, None]
            bump = torch.exp(-far2 / (2 * sigma * sigma))
            if not mark.taught:
                known[i] *= bump < 0.1
                continue
            mine = bump > torch.maximum(centre[i], torch.tensor(0.3))
            centre[i] = torch.maximum(centre[i], bump)
            weight[i][mine] = bump[mine] ** 2
            thing[i][mine] = thing_at[mark.thing]
            colour[i][mine] = colour_at[mark.colour]
            box[i, 0][mine], box[i, 1][mine] = min(mark.w, 1.0), min(mark.h, 1.0)
            dx = (mark.x * GRID - cells).clamp(0, 1)
            dy = (mark.y * GRID - cells).clamp(0, 1)
            box[i, 2][mine] = dx[None, :].expand(GRID, GRID)[mine]
            box[i, 3][mine] = dy[:, None].expand(GRID, GRID)[mine]
    place = torch.tensor([config.places.index(t.place) for t in truths])
    shade = torch.tensor([-100 if t.shade is None else config.shades.index(t.shade) for t in truths])
    return Targets(centre, known, weight, thing, colour, box, place, shade)


def focal(logits: Tensor, target: Tensor, known: Tensor | None = None) -> Tensor:
    """Focal loss per object (CenterNet, eq. 1, alpha 2, beta 4): logits and Gaussian targets (B, G, G) -> scalar.

    known (B, G, G): weights of the cells that hold no centre."""
    p = logits.sigmoid()
    positive = target >= 0.999
    hit = (1 - p).square() * F.logsigmoid(logits) * positive
    miss = (1 - target) ** 4 * p.square() * F.logsigmoid(-logits) * ~positive
    if known is not None:
        miss = miss * known
    return -(hit + miss).sum() / positive.sum().clamp_min(1)


def loss(maps: Maps, t: Targets) -> tuple[Tensor, dict[str, float]]:
    """The sum of the losses of all heads, and each of them by name."""
    w = t.weight / t.weight.sum().clamp_min(1e-6)
    parts = {
        "centre": focal(maps.centre, t.centre, t.known),
        "thing": (F.cross_entropy(maps.thing, t.thing, reduction="none", label_smoothing=0.02) * w).sum(),
        "colour": (F.cross_entropy(maps.colour, t.colour, reduction="none") * w).sum(),
        "box": 2.0 * ((maps.box - t.box).abs().mean(1) * w).sum(),
        "place": F.cross_entropy(maps.place, t.place, label_smoothing=0.02),
    }
    plain = t.shade >= 0
    if bool(plain.any()):
        parts["shade"] = 0.5 * F.cross_entropy(maps.shade[plain], t.shade[plain])
    return torch.stack([*parts.values()]).sum(), {name: float(part.detach()) for name, part in parts.items()}


def _dct() -> Tensor:
    k, n = torch.arange(8.0)[:, None], torch.arange(8.0)[None]
    basis = torch.cos(math.pi * (2 * n + 1) * k / 16) * math.sqrt(2 / 8)
    basis[0] /= math.sqrt(2)
    return basis


def _jpeg_like(x: Tensor, strength: Tensor) -> Tensor:
    """Quantise the DCT of 8x8 blocks, high frequencies more coarsely: JPEG without its colour transform."""
    n, c, h, w = x.shape
    basis = _dct()
    blocks = x.view(n, c, h // 8, 8, w // 8, 8).transpose(3, 4)
    coefficients = basis @ blocks @ basis.T
    ramp = torch.arange(8.0) / 7
    step = strength.view(-1, 1, 1, 1, 1, 1) * (0.25 + ramp[:, None] + ramp[None])
    coefficients = torch.round(coefficients / step) * step
    return (basis.T @ coefficients @ basis).transpose(3, 4).reshape(n, c, h, w)


def damage(pixels: Tensor, rng: torch.Generator, soft: float = 0.3) -> Tensor:
    """Random blur, JPEG-like blocks, noise and colour jitter: (B, 3, 64, 64) in [-1, 1] -> the same.

    soft: the share of pictures that are blurred, by an amount that hides nothing.

    Generated pictures are slightly soft, noisy and off in colour, and a judge trained on clean renders only would
    penalise that. The jitter is too small to turn one colour word into another.
    """
    b, _, side, _ = pixels.shape

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return low + (high - low) * torch.rand(shape, generator=rng)

    def some(share: float) -> Tensor:
        return (torch.rand(b, generator=rng) < share).nonzero()[:, 0]

    x = pixels.clone()
    blurred = some(soft)
    if len(blurred):
        small = int(torch.randint(34, 57, (1,), generator=rng))
        reduced = F.interpolate(x[blurred], (small, small), mode="bilinear", antialias=True)
        x[blurred] = F.interpolate(reduced, (side, side), mode="bilinear")
    blocky = some(0.2)
    if len(blocky):
        x[blocky] = _jpeg_like(x[blocky], uniform(0.05, 0.4, len(blocky)))
    gain, shift = uniform(0.88, 1.12, b, 3, 1, 1), uniform(-0.07, 0.07, b, 3, 1, 1)
    contrast = uniform(0.85, 1.1, b, 1, 1, 1)
    x = x * (0.5 + 0.5 * gain) * contrast + shift
    noise = uniform(0.0, 0.1, b, 1, 1, 1) * (torch.rand(b, 1, 1, 1, generator=rng) < 0.5)
    x = x + noise * torch.randn(x.shape, generator=rng)
    clean = some(0.2)  # or clean pictures would be the odd ones
    x[clean] = pixels[clean]
    return x.clamp_(-1, 1)
