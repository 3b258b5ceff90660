"""Smooth surfaces that continue the surroundings of a mask: solutions of Laplace's equation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

SWEEPS = 20  # Jacobi iterations at each scale


def border_error(picture: Tensor, made: Tensor, mask: Tensor) -> Tensor:
    """By how much `made` (B, 3, S, S) misses `picture` around the mask (1, S, S), continued smoothly into it.

    Added to `made`, it removes a step at the border: the membrane of Poisson image editing (Perez 2003, section 2).
    """
    return smooth_fill(picture - made, mask.expand(len(made), -1, -1, -1))


def smooth_fill(x0: Tensor, mask: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) whose masked part (mask (B, 1, S, S)) is a smooth surface between its edges.

    A solution of Laplace's equation, computed from coarse to fine.
    """
    size, known = x0.shape[-1], 1 - mask
    if size > 4 and size % 2:
        larger = (F.pad(x, (0, 1, 0, 1), mode="replicate") for x in (x0, mask))
        return smooth_fill(*larger)[..., :-1, :-1]
    if size > 4:
        weight = F.avg_pool2d(known, 2)
        coarse = F.avg_pool2d(x0 * known, 2) / weight.clamp_min(1e-6)
        below = smooth_fill(coarse, (weight == 0).to(x0))
        filled = F.interpolate(below, scale_factor=2.0, mode="bilinear", align_corners=False)
    else:
        total, weight = (x0 * known).sum((2, 3), keepdim=True), known.sum((2, 3), keepdim=True)
        filled = (total / weight.clamp_min(1e-6)).expand_as(x0)
    filled = torch.lerp(x0, filled, mask)
    for _ in range(SWEEPS):
        around = F.avg_pool2d(F.pad(filled, (1, 1, 1, 1), mode="replicate"), 3, 1)
        filled = torch.lerp(x0, around, mask)
    return filled
