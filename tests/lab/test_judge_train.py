from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from t2i.lab.judge_loss import loss, targets
from t2i.lab.judge_train import judge_config, main, measure, train, truth_of
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
        train(world, config, steps=3, minutes=5, batch=8, rate=1e-3, bf16=False, say=lines.append) for _ in range(2)
    ]
    for a, b in zip(nets[0].state_dict().values(), nets[1].state_dict().values(), strict=True):
        assert torch.equal(a, b)
    assert lines[-1].startswith("trained on 24 pictures")


def test_the_measurement_of_an_untrained_judge_is_poor(world: World) -> None:
    net = train(world, judge_config(world), steps=1, minutes=5, batch=8, bf16=False)
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
    assert set(json.loads(capsys.readouterr().out)) == {
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
