"""Where a base drew the things of a scene, against discs with a pattern that are drawn by formula wherever asked."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from t2i.data.source import WorldSource
from t2i.train.redrawn import moves_to
from t2i.train.refit import fit_thing, fit_things
from t2i.world import World, WorldConfig

SIDE, RADIUS = 64, 0.22
CENTRE = torch.tensor([0.45, 0.55])


def disc(x: float = 0.0, y: float = 0.0, factor: float = 1.0) -> tuple[Tensor, Tensor]:
    """Pixels (3, S, S) and mask (S, S) of a disc with waves on it, moved from CENTRE."""
    axis = (torch.arange(SIDE) + 0.5) / SIDE
    right, down = axis[None, :] - CENTRE[0] - x, axis[:, None] - CENTRE[1] - y
    mask = torch.sigmoid((RADIUS * factor - (right**2 + down**2).sqrt()) * SIDE)
    waves = [torch.cos(math.tau * (a * right + b * down) / (0.3 * factor)) for a, b in ((1, 0), (0, 1), (0.7, 0.7))]
    return torch.lerp(torch.full((3, SIDE, SIDE), -0.4), torch.stack(waves), mask), mask


@pytest.mark.parametrize(
    ("x", "y", "factor"), [(0, 0, 1), (3, -2, 1), (-4.5, 6.5, 1.06), (7.6, 1.3, 0.95), (0, -8, 1.1)]
)
def test_a_moved_thing_is_found_to_half_a_pixel(x: float, y: float, factor: float) -> None:
    drawn, _ = disc(x / SIDE, y / SIDE, factor)
    render, mask = disc()
    found = fit_thing(drawn, render, mask, CENTRE, 1 / 8)
    assert abs(found[0] * SIDE - x) <= 0.5 and abs(found[1] * SIDE - y) <= 0.5
    assert found[2] == pytest.approx(factor, abs=0.03)


def test_nothing_is_searched_beyond_the_reach() -> None:
    drawn, _ = disc(7 / SIDE)
    render, mask = disc()
    assert float(fit_thing(drawn, render, mask, CENTRE, 1 / 16)[0]) * SIDE <= 5


def test_of_equal_fits_the_nearest_wins_and_what_is_hardly_seen_stays() -> None:
    flat, (render, mask) = torch.full((3, SIDE, SIDE), 0.3), disc()
    assert fit_thing(flat, flat, mask, CENTRE, 1 / 8).tolist() == [0, 0, 1]
    masks = torch.zeros(1, 2, SIDE, SIDE)
    masks[0, 0], masks[0, 1, :2, :2] = mask, 1
    boxes = torch.tensor([[[*CENTRE.tolist(), 2 * RADIUS], [0.02, 0.02, 0.03]]])
    moves = fit_things(disc(4 / SIDE)[0][None], render[None], masks, boxes, [1 / 8])
    assert moves[0, 0].tolist() == [4 / SIDE, 0, 1] and moves[0, 1].tolist() == [0, 0, 1]


def test_a_scene_that_was_drawn_with_its_thing_moved_is_the_scene_moved_back() -> None:
    world = World(WorldConfig(vocabulary="shapes", groups=(1, 0, 0, 0), counts=(1, 0, 0, 0)), resolution=64)
    source = WorldSource(world).plain
    assert source is not None
    first = source.batch(1, 0, 6, SIDE, masks=True)
    assert first.boxes is not None and first.boxes.shape == (6, 1, 3)
    moves = torch.tensor([[[4 / SIDE, -3 / SIDE, 1.0]]]).repeat(6, 1, 1)
    drawn = source.batch(1, 0, 6, SIDE, moves=moves).pixels
    assert float((drawn - first.pixels).square().mean()) > 0.005
    found = moves_to(drawn, first, free=True)
    assert found is not None and float((found[..., :2] - moves[..., :2]).abs().max()) <= 0.5 / SIDE + 1e-6
    again = source.batch(1, 0, 6, SIDE, masks=True, moves=found)
    assert float((drawn - again.pixels).square().mean()) < 0.002
    assert again.boxes is not None
    torch.testing.assert_close(again.boxes[..., :2], first.boxes[..., :2] + found[..., :2])
