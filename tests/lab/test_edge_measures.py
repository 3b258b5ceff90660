"""The measure of an edge: a line along the border of a mask counts, grain and what is far from it do not."""

from __future__ import annotations

import torch
from torch import Tensor

from t2i.edit.masks import box, extend, rim
from t2i.lab.edge_measures import border_step, free_box

SIDE = 128
MASK = box(SIDE, SIDE, 32, 40, 60, 50)


def ramp() -> Tensor:
    """A slow gradient with grain: (3, 128, 128)."""
    grain = 0.02 * torch.randn(1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    axis = torch.linspace(-0.6, 0.6, SIDE)
    return (axis[None, :] + axis[:, None] / 2 + grain).expand(3, -1, -1).clone()


def test_a_step_is_found_also_where_it_is_blended() -> None:
    pale, blended = ramp() + 0.1 * MASK, ramp() + 0.1 * MASK * (1 - rim(MASK, 4))
    assert border_step(ramp(), MASK) < 1.4
    assert 1.4 < border_step(blended, MASK) < border_step(pale, MASK)
    assert border_step(pale, MASK) > 5


def test_a_step_elsewhere_is_none_of_it_and_margins_are_measured() -> None:
    picture = ramp()
    picture[:, :, 60:] += 0.2  # in the middle of the mask, and across its borders above and below
    assert border_step(picture, MASK) < 2
    canvas, mask = extend(ramp(), left=40, right=40)
    assert border_step(canvas, mask) > border_step(ramp(), MASK)  # a margin that repeats the edge has no slope
    assert border_step(canvas + 0.2 * mask, mask) > 5


def test_a_free_box_avoids_what_is_there() -> None:
    taken = box(256, 256, 0, 100, 200, 156)
    assert float((free_box(taken) * taken).sum()) < 0.2 * 104 * 104
