"""The registry of objectives, their random streams, and what a training says of its precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from t2i.cli import train as command
from t2i.diffusion.loss import DenoisingObjective, Levels
from t2i.rng import digest, generator
from t2i.store.manifest import KINDS
from t2i.train.log import read_log
from t2i.train.objectives import DESIGNS, OBJECTIVES, STAGES, objective_of
from t2i.train.objectives.base import BaseRecipe, base_loss
from t2i.train.precision import pick_precision
from t2i.train.recipe import Recipe, Schedule
from t2i.train.recipes import load_recipe, recipe_names
from t2i.train.state import read_facts
from t2i.train.streams import OFFSETS, examples_seed, first_weights, noise
from t2i.train.trainer import train


def test_a_base_stops_where_its_training_did() -> None:
    entry, _ = objective_of(load_recipe("small"), "base").bundle_entry(load_recipe("small"), "base")
    assert entry.defaults.t_end == 0.12
    entry, _ = objective_of(load_recipe("tiny"), "base").bundle_entry(load_recipe("tiny"), "base")
    assert entry.defaults.t_end is None


def test_every_stage_has_an_objective_and_is_offered() -> None:
    assert ("all", *STAGES) == command.STAGES
    for name in recipe_names():
        recipe = load_recipe(name)
        assert tuple(recipe.stages) == tuple(STAGES)
        for stage in STAGES:
            kind = objective_of(recipe, stage)
            assert OBJECTIVES[recipe.stages[stage].trained_by] is kind and kind.examples in OFFSETS
            tables = (STAGES[stage], *DESIGNS.get(stage, {}).values())
            assert not kind.__abstractmethods__ and type(recipe.stages[stage]) in map(type, tables)
            entry, config = kind.bundle_entry(recipe, stage)
            assert entry.name == stage and entry.kind in KINDS and "widths" in config


def test_the_table_decides_the_objective() -> None:
    recipe = load_recipe("first", {"clip.locked": "true"})
    kinds = {stage: recipe.stages[stage].trained_by for stage in STAGES}
    assert kinds["clip"] == "clip_locked" and kinds["upsampler256"] == "sr_unet"
    assert kinds["upsampler1024"] == "upsampler"


def test_streams_are_what_they_always_were() -> None:
    """Fixed for ever: weights that were trained by a command can be trained by it again."""
    offsets = {"clip": 0, "base": 1, "prior": 2, "upsampler": 3, "tokenizer": 4, "text": 5, "clip_locked": 6}
    offsets |= {"distill_reader": 7, "sheets": 9, "vae": 10, "dalle": 11, "gan": 12, "lora": 13, "student": 14}
    assert offsets == OFFSETS
    assert examples_seed(10, "base") == 11
    assert torch.equal(torch.rand(3, generator=noise(2, "prior", 5)), torch.rand(3, generator=generator(2, "prior", 5)))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(digest(3, "init", "base") % 2**63)
        wanted = nn.Linear(4, 4)
    before = torch.random.get_rng_state()
    assert torch.equal(first_weights(3, "base", lambda: nn.Linear(4, 4)).weight, wanted.weight)
    assert torch.equal(torch.random.get_rng_state(), before)


def test_a_recipe_is_written_as_its_file_has_it() -> None:
    table = load_recipe("tiny").to_dict()
    assert list(table) == ["name", "seed", "world", "tokenizer", *STAGES, "sample", "share"]
    recipe = Recipe(stages=dict(STAGES)).with_stage("base", size=16).with_steps("base", 3)
    assert recipe.stages["base"].schedule.steps == 3 and recipe.to_dict()["base"]["size"] == 16


def test_a_precision_chosen_by_a_timing_says_so(micro: str, tmp_path: Path) -> None:
    assert pick_precision(Schedule(precision="bf16"), torch.device("cpu")).facts == {"precision": "bf16"}
    events: list[dict[str, Any]] = []
    changes = ["clip.precision=auto", "clip.steps=1"]
    train("clip", micro, changes, out=tmp_path / "auto", report=events.append)
    start = next(e for e in events if e["event"] == "start")
    facts = read_facts(tmp_path / "auto/.train/clip")
    assert start["precision_by"] == facts["precision_by"] == "timing" and start["precision"] == facts["precision"]
    chosen, *steps = read_log(tmp_path / "auto/.train/clip/log.jsonl")
    assert chosen["event"] == "precision" and chosen["precision"] == facts["precision"]
    assert chosen["fp32_ms"] > 0 and chosen["bf16_ms"] > 0
    assert [record["event"] for record in steps] == ["step"]
    train("clip", micro, [changes[0], "clip.steps=2"], out=tmp_path / "auto", resume=True)
    again = [record["event"] for record in read_log(tmp_path / "auto/.train/clip/log.jsonl")]
    assert again == ["precision", "step", "step"]  # chosen once
    train("clip", micro, ["clip.steps=1"], out=tmp_path / "fixed")
    assert "precision_by" not in read_facts(tmp_path / "fixed/.train/clip")


def test_the_pixels_of_things_weigh_what_the_recipe_says() -> None:
    """A picture that is 1 on a thing and 0 elsewhere, against a network that says 0."""
    things = torch.zeros(1, 2, 8, 8)
    things[0, 0, :2, :4] = 1  # 8 of 64 pixels; the second place is empty
    x0 = things.amax(1, keepdim=True).expand(1, 3, 8, 8)
    levels = Levels(low=0.9)

    def loss(weight: float) -> float:
        recipe = BaseRecipe(objective=DenoisingObjective(judge="x0", levels=levels), masked=0.0, thing_weight=weight)
        g = torch.Generator().manual_seed(0)
        net: Any = lambda x, t, cond: torch.zeros_like(x0)  # noqa: E731
        return float(base_loss(net, recipe, x0, None, None, g, z_noise=0.0, things=things)[0])

    assert loss(1.0) == pytest.approx(8 / 64)
    assert loss(3.0) == pytest.approx(3 * 8 / (3 * 8 + 56))
