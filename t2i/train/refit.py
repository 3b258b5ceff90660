"""Where a base has drawn the things of a scene: each thing of the scene's render, shifted and scaled to fit.

A base asked for a scene draws its things a little off. An upsampler that is shown the drawn picture beside the render
would learn to move them, which it cannot foresee. Beside the render with its things moved to where the base drew them,
it learns to redraw a smeared thing in its place.

Shapes: B pictures, K things, S side of a picture, n moves. A move is (x, y, factor): a shift as a share of the side,
and a factor of the size about the thing's centre.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

COARSE, FACTORS = 1 / 32, (0.92, 1.0, 1.09)  # steps of the first search, which goes `reach` far
FINE, FINE_FACTORS = (-1 / 64, -1 / 128, 0.0, 1 / 128, 1 / 64), (0.96, 1.0, 1.04)  # around the best of the first
SEEN = 1 / 512  # share of the picture below which a thing is too small to be searched for
SHIFT_COST, FACTOR_COST = 0.4, 0.02  # added to the error for shift² and log(factor)²: of equal fits the nearest wins


def fit_things(drawn: Tensor, render: Tensor, masks: Tensor, boxes: Tensor, reach: Sequence[float]) -> Tensor:
    """The moves (B, K, 3) of the things of renders (B, 3, S, S) that best match drawn pictures (B, 3, S, S).

    masks (B, K, S, S), boxes (B, K, 3): as in `Examples`. reach: of each picture, how far a thing is searched for along
    x and y, as a share of the side. A thing that is hardly seen stays.
    """
    moves = torch.tensor([0.0, 0.0, 1.0]).repeat(*boxes.shape[:2], 1)
    seen = masks.mean((2, 3)) >= SEEN
    for b, k in seen.nonzero().tolist():
        moves[b, k] = fit_thing(drawn[b], render[b], masks[b, k], boxes[b, k, :2], reach[b])
    return moves


def fit_thing(drawn: Tensor, render: Tensor, mask: Tensor, centre: Tensor, reach: float) -> Tensor:
    """The move (3,) of one thing with the least squared error inside its own moved mask.

    drawn, render (3, S, S); mask (S, S); centre (2,), (x, y) as shares of the side.
    """
    layers = torch.cat([render, mask[None]])
    steps = round(reach / COARSE)
    shifts = torch.arange(-steps, steps + 1) * COARSE
    best = _best(layers, drawn, centre, torch.cartesian_prod(shifts, shifts, torch.tensor(FACTORS)))
    x, y = (best[i] + torch.tensor(FINE) for i in (0, 1))
    return _best(layers, drawn, centre, torch.cartesian_prod(x, y, best[2] * torch.tensor(FINE_FACTORS)))


def _best(layers: Tensor, drawn: Tensor, centre: Tensor, moves: Tensor) -> Tensor:
    """The one of the moves (n, 3) that costs least. layers (4, S, S): the render, and the mask of the thing."""
    shift, factor = moves[:, :2], moves[:, 2:]
    middle = 2 * centre - 1  # from shares of the side to [-1, 1]
    affine = torch.zeros(len(moves), 2, 3)  # from the moved picture back to the render
    affine[:, 0, 0] = affine[:, 1, 1] = 1 / factor[:, 0]
    affine[:, :, 2] = middle - (middle + 2 * shift) / factor
    grid = F.affine_grid(affine, [len(moves), *layers.shape], align_corners=False)
    moved = F.grid_sample(layers.expand(len(moves), -1, -1, -1), grid, padding_mode="border", align_corners=False)
    inside = moved[:, 3:]
    error = ((moved[:, :3] - drawn).square() * inside).sum((1, 2, 3)) / (3 * inside.sum((1, 2, 3))).clamp(min=1)
    cost = error + SHIFT_COST * shift.square().sum(1) + FACTOR_COST * factor[:, 0].log().square()
    return moves[cost.argmin()]
