"""Random masks for training: every kind of mask that users give, on things and beside them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from t2i.data.source import WorldSource
from t2i.train import masking
from t2i.train.masking import random_masks
from t2i.world import World, WorldConfig

SIZE = 32


def rng(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def disks(n: int) -> Tensor:
    """(n, 2, S, S): a thing at the left of each picture, and a second one at the right of every other."""
    axis = (torch.arange(SIZE) + 0.5) / SIZE
    things = torch.zeros(n, 2, SIZE, SIZE)
    for k, x in enumerate((0.3, 0.75)):
        disk = ((axis[None, :] - x).square() + (axis[:, None] - 0.5).square() < 0.03).float()
        things[:: k + 1, k] = disk
    return things


def only(monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    monkeypatch.setattr(masking, "SHARES", tuple(float(k == kind) for k in masking.KINDS))


def test_a_share_of_the_rows_is_masked_in_part() -> None:
    masks = random_masks(2000, 8, 0.15, rng())
    assert masks.shape == (2000, 1, 8, 8) and set(masks.unique().tolist()) == {0.0, 1.0}
    part = (masks.mean((1, 2, 3)) < 1).float().mean()
    assert 0.11 < part < 0.19
    assert bool((random_masks(50, 8, 0.0, rng()) == 1).all())


@pytest.mark.parametrize("kind", masking.KINDS)
def test_every_kind_masks_something_and_leaves_something(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, kind)
    for things in (None, disks(200), torch.zeros(200, 0, SIZE, SIZE)):
        share = random_masks(200, SIZE, 1.0, rng(), things).mean((1, 2, 3))
        assert float(share.min()) > 0 and float(share.max()) < 1
        assert float(share.std()) > 0.01


@pytest.mark.parametrize("kind", ["outline", "bounds"])
def test_outlines_cover_whole_things(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, kind)
    things = disks(100) > 0.5
    masks = random_masks(100, SIZE, 1.0, rng(), things.float())[:, 0] > 0.5
    covered = (masks[:, None] & things).sum((2, 3)) == things.sum((2, 3))
    own = (covered & (things.sum((2, 3)) > 0)).any(1)
    assert bool(own[0::2].all())  # a mask from another picture, too, is one of these two disks
    wide = masks.sum((1, 2)) / things[0, 0].sum()
    assert float(wide.min()) >= 1 and float(wide.max()) < 6


def test_an_outline_is_no_enlarged_copy(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "outline")
    things = disks(1)[:, :1]
    masks = {tuple(m.flatten().tolist()) for m in random_masks(1, SIZE, 1.0, rng(3), things).split(1)}
    for seed in range(20):
        masks.add(tuple(random_masks(1, SIZE, 1.0, rng(seed), things).flatten().tolist()))
    assert len(masks) > 10  # three widths would make three


def test_a_place_without_things_gets_the_outlines_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    only(monkeypatch, "outline")
    things = disks(40)
    things[20:] = 0
    masks = random_masks(40, SIZE, 1.0, rng(), things)
    middle = (things[0].amax(0) > 0.5)[None, None]
    assert bool(((masks * middle).sum((1, 2, 3)) > 10)[20:].all())


def test_the_same_generator_gives_the_same_masks() -> None:
    things = disks(30)
    assert torch.equal(random_masks(30, SIZE, 0.7, rng(5), things), random_masks(30, SIZE, 0.7, rng(5), things))
    assert not torch.equal(random_masks(30, SIZE, 0.7, rng(5), things), random_masks(30, SIZE, 0.7, rng(6), things))


def test_the_world_gives_the_masks_of_its_things_on_request() -> None:
    source = WorldSource(World(WorldConfig(vocabulary="shapes", empty=0.5), resolution=32))
    examples, plain = source.batch(0, 0, 16, SIZE, masks=True), source.batch(0, 0, 16, SIZE)
    assert plain.masks is None and torch.equal(plain.pixels, examples.pixels)
    assert examples.masks is not None and examples.masks.shape[0] == 16 and examples.masks.shape[2:] == (SIZE, SIZE)
    filled = examples.masks.amax((1, 2, 3)) > 0.5
    assert filled.tolist() == [bool(things) for things, _ in examples.loose]
    assert 0 < int(filled.sum()) < 16
