from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from random import Random

import pytest
import torch

from t2i.errors import UsageError
from t2i.lab.judge_batches import Batches, as_seen, mirrored
from t2i.lab.judge_loss import loss, targets
from t2i.lab.judge_measure import measure
from t2i.lab.judge_train import grown, judge_config, main, train
from t2i.lab.judge_world import judge_world, truth_of
from t2i.lab.smears import SMEARED, SMUDGED, WAYS, clarity, smear
from t2i.lab.smudges import Smudges, changed, compare, join, redraw
from t2i.pipeline import Pipeline
from t2i.world import Group, World, WorldConfig
from t2i.world.judge import Judge, JudgeNet
from t2i.world.reading import OWN


@pytest.fixture(scope="module")
def world() -> World:
    return World(WorldConfig(vocabulary="shapes", places=("plain", "snow")))


def test_marks_follow_the_items(world: World) -> None:
    for index in range(40):
        scene = world.scene(3, index)
        truth = truth_of(scene, world)
        assert len(truth.marks) == len(scene.items)
        for mark, item in zip(truth.marks, scene.items, strict=True):
            assert mark.thing == scene.groups[item.group].thing
            assert max(mark.w, mark.h) == pytest.approx(item.scale, rel=1e-5)
            natural = world.things[mark.thing].colour
            fits = world.atlas.fits[world.atlas.index[scene.style, mark.thing]]
            assert mark.colour == (scene.groups[item.group].colour or (natural if fits else "") or OWN)


def test_a_drawing_of_another_colour_is_not_called_by_the_word(world: World) -> None:
    key = world.keys[0]
    scene = world.layout.compose((Group(key),), "snow")
    other = copy.copy(world)
    other.things = {**world.things, key: replace(world.things[key], colour="blue")}
    for fits, word in ((True, "blue"), (False, OWN)):
        other.atlas = replace(world.atlas, fits=tuple(fits for _ in world.atlas.fits))
        assert truth_of(scene, other).marks[0].colour == word


def test_training_is_repeatable_and_lowers_the_loss(world: World) -> None:
    lines: list[str] = []
    config = judge_config(world)
    nets = [
        train(Batches(world, 1, 8), config, steps=3, minutes=5, rate=1e-3, bf16=False, say=lines.append)
        for _ in range(2)
    ]
    for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert lines[-1].startswith("trained on 24 pictures")


def test_the_measurement_of_an_untrained_judge_is_poor(world: World) -> None:
    net = train(Batches(world, 1, 8), judge_config(world), steps=1, minutes=5, bf16=False)
    numbers = measure(Judge(net), world, seed=5, n=32)
    assert numbers["n"] == 32 and numbers["exact"] < 0.2
    assert {"single", "object", "count", "background", "swapped"} <= set(numbers)


def test_the_command_writes_a_judge_with_its_card(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    argv = [
        "--out",
        str(tmp_path / "judge"),
        "--vocabulary",
        "shapes",
        "--steps",
        "2",
        "--batch",
        "8",
        "--measure",
        "16",
    ]
    assert main(argv) == 0
    out = json.loads(capsys.readouterr().out)
    assert set(out["blurred"]) == {"0", "1.5", "3", "6", "10", "14"}
    assert set(out["renders"]) == {
        "train",
        "train, damaged",
        "held-out",
        "held-out, damaged",
    }
    assert Judge.load(tmp_path / "judge").config.folded
    assert "--vocabulary shapes" in (tmp_path / "judge" / "README.md").read_text()


def test_an_empty_place_teaches_and_measures(world: World) -> None:
    bare = World(replace(world.config, empty=1.0), resolution=32)
    scenes = [bare.scene(0, i) for i in range(4)]
    config = judge_config(bare)
    truths = [truth_of(scene, bare) for scene in scenes]
    assert all(not truth.marks for truth in truths)
    assert float(targets(truths, config).centre.max()) == 0
    net = JudgeNet(config)
    total, _ = loss(net(bare.draw(scenes, 64)[0]), targets(truths, config))
    assert torch.isfinite(total)
    scores = measure(Judge(net.eval()), bare, seed=0, n=4)
    assert "object" not in scores and 0 <= scores["background"] <= 1


# What nobody would name --------------------------------------------------------------------------------------------


def test_a_render_is_clear_and_loses_clarity_with_blur(world: World) -> None:
    scenes = [world.scene(4, i) for i in range(16)]
    renders, masks = world.draw(scenes, 64, masks=True)
    assert masks is not None
    there = torch.tensor([[k < len(scene.items) for k in range(masks.shape[1])] for scene in scenes])
    rng = torch.Generator().manual_seed(0)
    levels = [clarity(WAYS[0](renders, strength, rng), renders, masks)[there].mean() for strength in (0.0, 0.3, 1.0)]
    assert torch.allclose(clarity(renders, renders, masks)[there], torch.tensor(1.0), atol=1e-4)
    assert levels[0] > SMEARED[1] and levels[0] > levels[1] > levels[2] and levels[2] < SMEARED[0]


def test_smears_are_repeatable_and_leave_the_other_things_alone(world: World) -> None:
    scene = world.layout.compose((Group(world.keys[0]), Group(world.keys[1])), "snow")
    renders, masks = world.draw([scene] * 24, 64, masks=True)
    assert masks is not None
    a, b = (smear(renders, masks, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(a, b)
    found = clarity(a, renders, masks)
    assert bool(((found.amin(1) < 0.3) & (found.amax(1) > 0.9)).any()), "one of two things was smeared"


def test_what_is_not_clear_is_not_there_and_what_is_in_between_teaches_nothing(world: World) -> None:
    scene = world.layout.compose((Group(world.keys[0], 3),), "snow")
    truth = truth_of(scene, world)
    seen = as_seen(truth, torch.tensor([0.9, 0.1, 0.05]), SMEARED)
    assert [mark.taught for mark in seen.marks] == [True, False]
    t = targets([seen], judge_config(world))
    assert int((t.centre >= 0.999).sum()) == 1, "one object"
    row, column = int(seen.marks[1].y * 16), int(seen.marks[1].x * 16)
    assert float(t.known[0, row, column]) == 0 and float(t.known.mean()) > 0.3
    assert mirrored(truth).marks[0].x == pytest.approx(1 - truth.marks[0].x)


def test_smudges_are_stored_and_mixed_in(world: World, tmp_path: Path) -> None:
    scenes = [world.scene(6, i) for i in range(8)]
    renders, _ = world.draw(scenes, 64)
    grey = renders.mean((2, 3), keepdim=True).expand_as(renders)
    mixed = torch.cat([renders[:4], grey[4:]])
    compare(mixed, scenes, world).save(tmp_path / "s.npz")
    stored = Smudges.load([tmp_path / "s.npz", tmp_path / "s.npz"])
    assert len(stored.truths) == 16 and stored.truths[0] == truth_of(scenes[0], world)
    assert bool((stored.clarity[:4, 0] > 0.95).all()) and bool((stored.clarity[4:8].abs() < 0.05).all())
    pixels, truths = Batches(world, 1, 16, stored, shares=(0.25, 0.5))(0, torch.Generator().manual_seed(0))
    assert pixels.shape == (16, 3, 64, 64) and len(truths) == 16
    assert any(not truth.marks for truth in truths[8:]) and any(truth.marks for truth in truths[8:])


def test_what_a_base_draws_of_renders_is_repeatable_and_hides_most_things(tiny: Path, world: World) -> None:
    pipeline = Pipeline.load(tiny)
    several = [redraw(pipeline, world, first, 4, seed=1) for first in (0, 4, 8, 12)]
    again = redraw(pipeline, world, 4, 4, seed=1)
    assert torch.equal(several[1].pixels, again.pixels) and torch.equal(several[1].clarity, again.clarity)
    found = join(several)
    there = torch.tensor([[k < len(truth.marks) for k in range(found.clarity.shape[1])] for truth in found.truths])
    assert found.pixels.shape == (16, 3, 64, 64) and [len(t.marks) for t in found.truths] == there.sum(1).tolist()
    assert float(found.clarity[there].mean()) < SMUDGED[1], "a base of random weights draws nothing"


def test_half_way_to_another_kind_only_the_kind_differs(world: World) -> None:
    scene = world.layout.compose((Group(world.keys[0], colour="red"), Group(world.keys[1])), "snow")
    other = changed(scene, world, Random(0))
    assert [a.thing == b.thing for a, b in zip(scene.groups, other.groups, strict=True)].count(False) == 1
    assert replace(other, groups=scene.groups) == scene and len({group.thing for group in other.groups}) == 2
    assert changed(replace(scene, groups=(), items=()), world, Random(0)).groups == ()


def test_a_small_thing_has_to_be_clearer(world: World) -> None:
    scene = world.layout.compose((Group(world.keys[0]),), "snow", seed=3)
    small = replace(scene, items=tuple(replace(item, scale=0.2) for item in scene.items))
    renders, masks = world.draw([scene, small], 64, masks=True)
    assert masks is not None
    lost = torch.lerp(renders, renders.mean((2, 3), keepdim=True), 0.5)  # half of the contrast
    found = clarity(lost, renders, masks)[:, 0]
    assert float(found[0]) == pytest.approx(0.5, abs=0.02) and float(found[1]) < 0.4
    assert torch.allclose(clarity(renders, renders, masks)[:, 0], torch.ones(2), atol=1e-3)


def test_a_judge_that_learns_more_things_keeps_the_old_ones(world: World) -> None:
    few = replace(judge_config(world), things=judge_config(world).things[2:5])
    net = JudgeNet(few).eval()
    more = grown(net, judge_config(world)).eval()
    x = world.draw([world.scene(7, i) for i in range(4)], 64)[0]
    with torch.no_grad():
        ours, theirs = more(x), net(x)
    for name in ("centre", "colour", "box", "place", "shade"):
        assert torch.allclose(getattr(ours, name), getattr(theirs, name), atol=1e-5), name
    assert torch.allclose(ours.thing[:, 2:5], theirs.thing, atol=1e-5)
    with pytest.raises(UsageError):
        grown(more, few)


def test_core_things_are_drawn_three_times_as_often(monkeypatch: pytest.MonkeyPatch) -> None:
    from t2i.lab import judge_world as module

    seen = []
    monkeypatch.setattr(module, "World", lambda config, sprites: seen.append(config))
    judge_world("all")
    keys = seen[0].things
    assert keys.count("cat") == 3 and keys.count("wolf") == 1 and len(set(keys)) == 378
