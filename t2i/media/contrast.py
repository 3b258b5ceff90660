"""What stands out in a picture: how unlike its surroundings a part is, and from what contrast on it counts."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

AROUND = 12
"""Width in pixels of the surroundings, a ring around a hole."""
ACROSS, UP = 0.6, 1.8
"""What a shift by the picture's side counts, beside colours in [-1, 1]. Places change more from top to bottom."""


def strangeness(image: Tensor, hole: Tensor) -> Tensor:
    """(S, S): how far each pixel of `hole` (S, S), bool, is from the nearest one around it in colour and place; 0
    outside of the hole, 1 all over it where it leaves no surroundings. image (3, S, S) in [-1, 1]."""
    side = image.shape[-1]
    around = (F.max_pool2d(hole.to(image)[None, None], 2 * AROUND + 1, 1, AROUND)[0, 0] > 0) & ~hole
    out = hole.to(image)
    if bool(around.any()):
        at = torch.arange(side) / side
        place = torch.stack([(at * UP)[:, None].expand(side, side), (at * ACROSS)[None].expand(side, side)])
        pixels = torch.cat([image, place.to(image)]).permute(1, 2, 0)  # (S, S, 5)
        out[hole] = torch.cdist(pixels[hole], pixels[around]).amin(1)
    return out


def blur(x: Tensor) -> Tensor:
    """(S, S) blurred by a Gaussian with a standard deviation of one pixel."""
    axis = torch.arange(-3.0, 4.0, device=x.device)
    kernel = torch.exp(-axis.square() / 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(x[None, None], (3, 3, 3, 3), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def otsu(values: Tensor, steps: int = 256) -> float:
    """The threshold that maximises the variance between the two classes it makes.

    Otsu 1979, "A threshold selection method from gray-level histograms", equation 12. steps: thresholds tried.
    """
    ordered = values.flatten().double().sort().values
    n = len(ordered)
    below = torch.linspace(0.02, 0.98, steps).mul(n).long().clamp(1, n - 1)
    sums = ordered.cumsum(0)
    first = sums[below - 1] / below
    second = (sums[-1] - sums[below - 1]) / (n - below)
    between = below * (n - below) * (second - first).square()
    return float(ordered[below[between.argmax()] - 1])
