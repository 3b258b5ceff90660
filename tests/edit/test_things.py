"""Things to outlines."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from t2i.edit.naming import NamedThing, asked_by
from t2i.edit.things import FoundThings, outlines, placed, shipped_judge, things_mask
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.store.registry import resolve
from t2i.world.judge import decode
from t2i.world.reading import OWN, Detection


def test_a_colour_may_be_a_thing_s_own() -> None:
    seen = Detection("tree", 0.5, 0.5, 0.9, OWN, 0.2, 0.2)
    assert NamedThing("tree", "green").fits(seen)
    assert NamedThing("tree").fits(seen)
    assert not NamedThing("tree", "blue").fits(seen)


def two_squares() -> tuple[Tensor, list[Detection]]:
    """A blue ramp with a red square on the left and a yellow one, with a blue hole, on the right."""
    image = torch.linspace(-0.4, 0.1, 128).expand(3, 128, 128) + torch.tensor([-0.4, 0.0, 0.6]).view(3, 1, 1)
    image = image.clone()
    image[:, 40:80, 20:50] = torch.tensor([0.9, -0.8, -0.8]).view(3, 1, 1)
    hole = image[:, 56:64, 86:94].clone()
    image[:, 44:76, 74:106] = torch.tensor([0.9, 0.8, -0.8]).view(3, 1, 1)
    image[:, 56:64, 86:94] = hole
    left = Detection("car", 35 / 128, 60 / 128, 0.9, "red", 30 / 128, 40 / 128)
    right = Detection("dog", 90 / 128, 60 / 128, 0.9, "yellow", 32 / 128, 32 / 128)
    return image, [left, right]


def test_outlines_are_those_of_the_things() -> None:
    image, seen = two_squares()
    for size in (128, 200):
        large = torch.nn.functional.interpolate(image[None], (size, size), mode="nearest")[0]
        left, right = (outline[0] > 0 for outline in outlines(large, seen))
        for found, (top, bottom, start, end) in ((left, (40, 80, 20, 50)), (right, (44, 76, 74, 106))):
            truth = torch.zeros(128, 128)
            truth[top:bottom, start:end] = 1  # the hole is filled
            truth = torch.nn.functional.interpolate(truth[None, None], (size, size), mode="nearest")[0, 0] > 0
            assert float((found & truth).sum() / (found | truth).sum()) > 0.85
        assert not bool((left & right).any())
    assert outlines(image, []) == []


def test_what_is_seen_is_said() -> None:
    image, seen = two_squares()
    found = tuple(map(placed, seen, outlines(image, seen)))
    assert FoundThings(torch.zeros(1, 2, 2), found).names == "a red car and a yellow dog"
    lacks = tuple(NamedThing(*named).lack(seen) for named in (("car", "blue"), ("cat",), ("dog", None, True)))
    words = "the picture shows a red car and a yellow dog, but no blue car, no cat and only one dog"
    assert FoundThings(torch.zeros(1, 2, 2), found, "snow", (), lacks).words == words
    assert FoundThings(torch.zeros(1, 2, 2), ()).names == ""


def test_a_plain_picture_holds_no_thing() -> None:
    judge = shipped_judge()
    found = things_mask(judge, torch.zeros(3, 40, 56), asked_by("the dog", judge.config))
    assert found.mask.shape == (1, 40, 56)
    assert not bool(found.mask.any())


def test_what_is_named_may_be_less_clear_than_what_is_not() -> None:
    judge = shipped_judge()
    (cat,) = Pipeline.load(resolve("small")).sample(["a cat in the snow"], [7], SampleRequest(size=64)).images
    judge.config = replace(judge.config, threshold=0.999)
    assert not judge.read(cat[None])[0].objects
    found = things_mask(judge, cat, asked_by("the cat", judge.config))
    assert bool(found.mask.any()) and [thing.name for thing in found.seen] == [thing.name for thing in found.named]
    (low,) = decode(judge.maps(cat[None]), replace(judge.config, threshold=0.2))
    assert found.named[0].score == low.objects[0].score > 0.2
    assert not bool(things_mask(judge, cat, asked_by("the house", judge.config)).mask.any())


def test_all_that_is_named_must_be_there() -> None:
    """A picture by the shipped model: the mask of two things, one of which is not there, is empty."""
    judge = shipped_judge()
    (cat,) = Pipeline.load(resolve("small")).sample(["a cat in the snow"], [7], SampleRequest(size=64)).images
    assert bool(things_mask(judge, cat, asked_by("the cat", judge.config)).mask.any())
    for text in ("the cat and the house", "猫和房子"):
        found = things_mask(judge, cat, asked_by(text, judge.config))
        assert not bool(found.mask.any())
        assert "cat" in found.names
