"""The thing of a user's pictures: where it is, which way it faces, and what is no thing."""

from __future__ import annotations

import torch
from torch import Tensor

from t2i.train.personal.cutouts import cut_out, facing

SIDE = 96
COLOURS = ((-0.6, 0.2, 0.9), (0.8, 0.7, -0.2), (-0.7, 0.3, -0.6), (0.9, 0.9, 0.9), (-0.9, -0.9, -0.7))


def picture(background: tuple[float, ...], x: int, mirrored: bool = False, thing: bool = True) -> tuple[Tensor, Tensor]:
    """A red flag on a pole before a background that grows lighter downwards, and its mask (S, S)."""
    mask = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    if thing:
        mask[30:70, x : x + 6] = True
        mask[30:48, x : x + 26] = True
    if mirrored:
        mask = mask.flip(-1)
    out = torch.tensor(background)[:, None, None] + torch.linspace(-0.1, 0.1, SIDE)[:, None].expand(3, SIDE, SIDE)
    return torch.where(mask, torch.tensor([0.9, -0.8, -0.6])[:, None, None], out).clamp(-1, 1), mask


def test_a_thing_is_cut_out_where_it_is() -> None:
    pictures, masks = zip(*(picture(colour, 30 + 4 * i) for i, colour in enumerate(COLOURS)), strict=True)
    found = cut_out(torch.stack(pictures))
    assert list(found) == list(range(len(COLOURS)))
    for i, mask in enumerate(masks):
        cut = found[i][3] > 0.5
        assert (cut & mask).sum() > 0.85 * (cut | mask).sum(), i
        assert torch.equal(found[i][:3], pictures[i])


def test_where_there_is_no_thing_nothing_is_cut_out() -> None:
    """Neither of a plain picture, nor of one whose middle is filled, nor of the one that has something of
    a colour that no other picture has."""
    pictures = [picture(colour, 34)[0] for colour in COLOURS]
    pictures[1] = picture(COLOURS[1], 34, thing=False)[0]
    pictures[2][:, 12:84, 12:84] = torch.tensor([0.9, -0.8, -0.6])[:, None, None]
    pictures[4] = torch.where(picture(COLOURS[4], 34)[1], 0.2, pictures[4])
    assert list(cut_out(torch.stack(pictures))) == [0, 3]


def test_one_picture_is_compared_with_nothing() -> None:
    assert list(cut_out(picture(COLOURS[0], 34)[0][None])) == [0]


def test_things_are_turned_to_face_one_way() -> None:
    mirrored = [False, True, True, False, True]
    pictures = [picture(colour, 34 + i, mirrored[i])[0] for i, colour in enumerate(COLOURS)]
    found = cut_out(torch.stack(pictures))
    ways = [away for away, _ in facing(list(found.values()))]
    assert ways in (mirrored, [not way for way in mirrored])


def test_one_that_is_unlike_the_others_is_told() -> None:
    found = [cut_out(picture(colour, 34)[0][None])[0] for colour in COLOURS]
    found[3][3] = 0
    found[3][3, 20:80, 20:80] = 1
    assert [alike for _, alike in facing(found)] == [True, True, True, False, True]
    assert facing(found[:1]) == [(False, True)]
    assert facing([]) == []
