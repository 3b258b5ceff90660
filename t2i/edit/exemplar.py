"""Fill a hole with patches of its surroundings: Criminisi, Perez and Toyama 2004, "Region Filling and Object Removal by
Exemplar-Based Image Inpainting"."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.smooth_fill import smooth_fill

SIDE = 9  # of a patch, the paper's
REACH = SIDE // 2
PULL = 0.05
"""Weight of the smooth surface in the masked part of a patch: it decides between patches that fit equally well."""
LEVEL = 1.0
"""Cost of a patch from another height, beside squared errors: as the square of the distance, in sides of the picture.
Grounds, skies and horizons go on sideways."""
FLAT = 0.02
"""Least data term: a patch without an edge is filled in the order of its known pixels alone."""


def exemplar_fill(x0: Tensor, mask: Tensor) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1] whose masked part (mask (B, 1, S, S)) is patched from the rest of the picture.

    Horizons and textures go on, where `smooth_fill` blurs them. Where no patch of the picture is fully known, the
    result is that of `smooth_fill`. Meant for small pictures: each patch is compared with all known ones.
    """
    smooth = smooth_fill(x0, mask)
    if min(x0.shape[2:]) < SIDE:
        return smooth
    made: list[Tensor] = []
    for b, hole in enumerate(mask[:, 0] > 0.5):
        again = b > 0 and torch.equal(x0[b], x0[b - 1]) and torch.equal(mask[b], mask[b - 1])
        made.append(made[-1] if again else _fill(x0[b], smooth[b], hole))
    return torch.stack(made)


def _fill(picture: Tensor, smooth: Tensor, hole: Tensor) -> Tensor:
    """One picture (3, S, S), its smooth surface, and its hole (S, S)."""
    known_patches = F.unfold(hole[None, None].float(), SIDE)[0].amax(0) == 0
    if not bool(known_patches.any()):
        return smooth
    sources = F.unfold(picture[None], SIDE)[0].T[known_patches]  # (N, 3 · SIDE²)
    squares = sources.square()
    heights = torch.arange(known_patches.numel(), device=picture.device)[known_patches] // (picture.shape[2] - SIDE + 1)
    wide, surface = (F.pad(x[None], (REACH,) * 4, mode="replicate")[0] for x in (picture, smooth))
    known = F.pad((~hole)[None, None].float(), (REACH,) * 4)[0, 0]
    trust = known.clone()  # the paper's confidence C
    inside = slice(REACH, -REACH)
    while True:
        left = known[inside, inside] == 0
        if not bool(left.any()):
            return wide[:, inside, inside]
        row, column = _next(wide, known, trust, left)
        spot = (..., slice(row, row + SIDE), slice(column, column + SIDE))
        here, weight = known[spot], known[spot].expand(3, -1, -1)
        target = weight * wide[spot] + PULL * (1 - weight) * surface[spot]
        total = weight + PULL * (1 - weight)
        cost = squares @ total.flatten() - 2 * (sources @ target.flatten())  # squared error, less a constant
        cost += LEVEL * total.sum() * ((heights - row + REACH) / picture.shape[1]).square()
        patch = sources[int(cost.argmin())].view(3, SIDE, SIDE)
        wide[spot] = torch.lerp(patch, wide[spot], weight)
        trust[spot] = torch.where(here > 0, trust[spot], trust[spot].mean())
        known[spot] = 1.0


def _next(wide: Tensor, known: Tensor, trust: Tensor, left: Tensor) -> tuple[int, int]:
    """The masked pixel whose patch is filled next: the highest priority C · D on the border of the hole (equation 1).

    D, the data term, is the strongest edge among the known pixels of the patch, in any direction.
    """
    border = left & (F.max_pool2d((~left)[None, None].float(), 3, 1, 1)[0, 0] > 0)
    confidence = F.avg_pool2d(trust[None, None], SIDE, 1)[0, 0]
    grey, sure = wide.mean(0), 1 - F.max_pool2d(1 - known[None, None], 3, 1, 1)[0, 0]
    edges = torch.zeros_like(grey)
    edges[1:-1, 1:-1] = (grey[1:-1, 2:] - grey[1:-1, :-2]).abs() + (grey[2:, 1:-1] - grey[:-2, 1:-1]).abs()
    data = F.max_pool2d((edges * sure)[None, None], SIDE, 1)[0, 0]
    priority = torch.where(border, confidence * (data + FLAT), -1.0)
    row, column = divmod(int(priority.argmax()), left.shape[1])
    return row, column
