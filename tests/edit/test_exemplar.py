"""Holes patched from their surroundings: stripes and a horizon go on, and nothing outside changes."""

from __future__ import annotations

import torch
from torch import Tensor

from t2i.edit.exemplar import exemplar_fill
from t2i.edit.masks import box
from t2i.edit.smooth_fill import smooth_fill

SIDE = 40


def landscape() -> Tensor:
    """Blue above, stripes of two greens below a sharp horizon: (1, 3, 40, 40)."""
    picture = torch.tensor([-0.2, 0.3, 0.9]).view(1, 3, 1, 1).repeat(1, 1, SIDE, SIDE)
    stripes = torch.where(torch.arange(SIDE) % 8 < 4, 0.2, 0.6)
    picture[:, :, 22:] = torch.tensor([-0.5, 1.0, -0.5]).view(1, 3, 1, 1) * stripes
    return picture


def test_a_horizon_and_stripes_go_on() -> None:
    truth, mask = landscape(), box(SIDE, SIDE, 12, 14, 16, 16)[None]
    filled = exemplar_fill(torch.where(mask > 0, 9.0, truth), mask)
    outside = (mask == 0).expand_as(truth)
    assert torch.equal(filled[outside], truth[outside])
    error, smooth = ((made - truth)[~outside].abs().mean() for made in (filled, smooth_fill(truth, mask)))
    assert float(error) < 0.05 < float(smooth)


def test_what_is_in_the_hole_says_nothing_and_rows_are_independent() -> None:
    truth, mask = landscape(), box(SIDE, SIDE, 3, 20, 9, 12)[None]
    one, other = torch.where(mask > 0, -1.0, truth), torch.where(mask > 0, 1.0, truth)
    both = exemplar_fill(torch.cat([one, other]), mask.expand(2, -1, -1, -1))
    assert torch.equal(both[0], both[1])
    assert torch.equal(both[:1], exemplar_fill(one, mask))


def test_without_a_whole_patch_it_is_the_smooth_surface() -> None:
    truth, mask = landscape(), torch.ones(1, 1, SIDE, SIDE)
    mask[..., :4] = 0
    assert torch.equal(exemplar_fill(truth, mask), smooth_fill(truth, mask))
    small = torch.rand(1, 3, 6, 6, generator=torch.Generator().manual_seed(0))
    hole = box(6, 6, 2, 2, 2, 2)[None]
    assert torch.equal(exemplar_fill(small, hole), smooth_fill(small, hole))
