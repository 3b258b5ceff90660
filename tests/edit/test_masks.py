"""Masks are plain geometry: grown, feathered, cut into windows."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t2i.edit.inpaint import smooth_fill
from t2i.edit.masks import bounds, box, extend, feathered, grow, windows
from t2i.errors import UsageError


def spot(height: int = 40, width: int = 60) -> Tensor:
    return box(height, width, 20, 10, 9, 7)


def test_boxes() -> None:
    mask = spot()
    assert (mask.shape, float(mask.sum())) == ((1, 40, 60), 63)
    b = bounds(mask)
    assert (b.top, b.left, b.bottom, b.right) == (10, 20, 17, 29)
    assert float(box(10, 10, 8, 8, 50, 50).sum()) == 4
    with pytest.raises(UsageError, match="lies outside"):
        box(10, 10, 10, 0, 5, 5)


def test_growing_and_narrowing() -> None:
    assert float(grow(spot(), 3).sum()) == 15 * 13
    assert torch.equal(grow(grow(spot(), 3), -3), spot())
    assert torch.equal(grow(spot(), 0), spot())


@pytest.mark.parametrize("feather", [0, 1, 2, 5, 8])
def test_a_feather_is_one_inside_and_nothing_far_outside(feather: int) -> None:
    mask = spot()
    soft = feathered(mask, feather)
    assert bool((soft[mask > 0] == 1).all())
    assert bool((soft[grow(mask, feather) == 0] == 0).all())
    if feather >= 4:
        line = soft[0, 13, 29 : 29 + feather]
        assert bool((line[1:] <= line[:-1]).all())
        assert 0 < float(line[0]) < 1


def test_extending_keeps_what_was_there() -> None:
    image = torch.rand(3, 20, 30, generator=torch.Generator().manual_seed(0))
    canvas, mask = extend(image, left=5, bottom=7)
    assert canvas.shape == (3, 27, 35)
    assert torch.equal(canvas[:, :20, 5:], image)
    assert float(mask.sum()) == 27 * 35 - 20 * 30
    assert float(mask[:, :20, 5:].sum()) == 0


def covered(mask: Tensor, least: int) -> list[tuple[int, int]]:
    """(side, pixels that were unknown when its turn came) of each window; together they must hold the mask."""
    left, out = mask.clone(), []
    for w in windows(mask, least):
        assert w.bottom - w.top == w.right - w.left
        assert 0 <= w.top < w.bottom <= mask.shape[1]
        assert 0 <= w.left < w.right <= mask.shape[2]
        out.append((w.bottom - w.top, int(left[w.slices].sum())))
        left[w.slices] = 0
    assert float(left.sum()) == 0
    return out


def test_a_small_mask_has_one_window_with_room_around_it() -> None:
    assert covered(box(300, 500, 200, 100, 50, 80), 64) == [(128, 4000)]
    assert covered(box(300, 500, 490, 290, 5, 5), 64) == [(64, 25)]  # in a corner: moved inside
    assert covered(box(40, 30, 2, 2, 3, 3), 64) == [(30, 9)]  # a picture smaller than the model


def test_a_wide_mask_is_painted_from_what_is_known() -> None:
    _, mask = extend(torch.zeros(3, 64, 64), left=32, right=32)
    assert covered(mask, 64) == [(64, 2048), (64, 2048)]
    _, mask = extend(torch.zeros(3, 64, 64), right=192)
    turns = covered(mask, 64)
    assert len(turns) >= 6
    assert max(painted for _, painted in turns) <= 64 * 32  # never more than half of a window at once


def test_a_smooth_fill_continues_a_ramp() -> None:
    ramp = torch.linspace(-1, 1, 32).expand(1, 3, 32, 32).clone()
    mask = box(32, 32, 10, 10, 12, 12)[None]
    filled = smooth_fill(torch.where(mask > 0, 9.0, ramp), mask)
    assert torch.equal(filled[mask.expand_as(filled) == 0], ramp[mask.expand_as(ramp) == 0])
    assert float((filled - ramp).abs().max()) < 0.05
    nothing_known = smooth_fill(ramp, torch.ones(1, 1, 32, 32))
    assert bool(torch.isfinite(nothing_known).all())
