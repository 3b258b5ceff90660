"""Masks are plain geometry: grown, rimmed, cut into windows; and surfaces continue what is around them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t2i.edit.masks import bounds, box, extend, grow, rim, windows
from t2i.edit.smooth_fill import match_surroundings, smooth_fill
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


@pytest.mark.parametrize("width", [0, 1, 2, 5])
def test_a_rim_lies_inside_and_falls_to_nothing(width: int) -> None:
    mask = spot()
    weight = rim(mask, width)
    assert bool((weight[mask == 0] == 0).all())
    line = weight[0, 13, 20:25].tolist()  # from the left border to the middle; the mask is 7 pixels high
    assert line == pytest.approx([max(0.0, 1 - depth / width) if width else 0.0 for depth in (0, 1, 2, 3, 3)])


def test_the_edge_of_the_picture_is_no_border() -> None:
    mask = box(10, 10, 0, 0, 4, 10)
    assert rim(mask, 2)[0, :, :4].tolist() == [[0.0, 0.0, 0.5, 1.0]] * 10


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


@pytest.mark.parametrize("side", [31, 32, 45])
def test_a_step_at_the_border_is_taken_away(side: int) -> None:
    """A picture painted in other colours, each off by a constant, agrees with its surroundings again."""
    ramp = torch.linspace(-0.5, 0.5, side).expand(1, 3, side, side).clone()
    mask = box(side, side, 10, 10, 12, 12)
    made = ramp + torch.tensor([0.3, -0.2, 0.1]).view(1, 3, 1, 1)
    fitted = match_surroundings(ramp, torch.where(mask > 0, made, ramp), mask, 2)
    assert float((fitted - ramp)[:, :, 10:22, 10:22].abs().max()) < 0.02
    assert torch.equal(match_surroundings(ramp, made, mask, 0), made)


def test_what_was_painted_up_to_the_border_keeps_its_colour() -> None:
    """A dark thing that ends at the border is no wrong colour: only the sky around it is fitted."""
    sky, mask = torch.full((1, 3, 64, 64), 0.4), box(64, 64, 16, 16, 32, 32)
    made = sky + 0.2
    made[..., 30:48, 24:40] = -0.8  # down to the lower border
    fitted = match_surroundings(sky, made, mask, 1)
    assert float((fitted[..., 18:24, 18:46] - 0.4).abs().max()) < 0.05
    # the thing moves about as far as the sky, -.2; by a membrane through its own step it would move by more than 1
    assert float((fitted[..., 34:44, 28:36] - made[..., 34:44, 28:36] + 0.2).abs().max()) < 0.15
