"""Smooth surfaces that continue the surroundings of a mask: solutions of Laplace's equation."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.masks import rim

SWEEPS = 20  # Jacobi iterations at each scale
RING = 3  # width in pixels of the strip along the border, inside the mask, where the step is measured
EDGE = 0.5
"""A step of more than this, of a range of 2, is the outline of something that was painted up to the border."""


def match_surroundings(picture: Tensor, made: Tensor, mask: Tensor, feather: int) -> Tensor:
    """What was painted, `made` (B, 3, S, S), fitted to the surroundings of the mask (1, S, S) in `picture`.

    The step at the border is measured against a smooth surface that continues the surroundings. Continued into the mask
    it is taken away: the membrane of Poisson image editing (Perez 2003, section 2), without steps that are outlines.
    Within `feather` pixels of the border, what was painted then passes into the smooth surface. 0: nothing is fitted.
    """
    if not feather:
        return made
    hole = mask.expand(len(made), 1, -1, -1)
    surface = smooth_fill(picture, hole)
    # the mean of the painted neighbours, so that grain is no step
    near = F.avg_pool2d(made * hole, 3, 1, 1) / F.avg_pool2d(hole, 3, 1, 1).clamp_min(1e-6)
    step = surface - near
    trusted = (rim(mask, RING) > 0) & (step.abs().amax(1, keepdim=True) < EDGE)
    # where all is outline, smooth_fill continues 0
    fitted = made + smooth_fill(step * trusted, 1 - trusted.to(step))
    return torch.lerp(fitted, surface, rim(mask, feather))


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
