"""Recipes: what is refused and with which message; the shipped ones are complete and within their parameter budget."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from t2i.errors import InputError, UsageError
from t2i.store.bundle_writing import write_bundle
from t2i.store.manifest import Manifest, StageEntry
from t2i.train.compatibility import bundle_entry, check_recipe
from t2i.train.objectives import STAGES, objective_of
from t2i.train.recipe import Recipe, Schedule
from t2i.train.recipes import load_recipe, recipe_names
from t2i.train.trainer import train

PARTS = {
    "unclip": ("clip", "prior", "base", "upsampler256"),
    "imagen": ("text", "base", "upsampler256"),
    "dalle": ("clip", "vae", "dalle", "upsampler256"),
    "gan": ("clip", "gan", "upsampler256"),
}


def build(recipe: Recipe, stage: str) -> nn.Module:
    return objective_of(recipe, stage).build(recipe, stage)


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("base.schedule.stpes", "3", "did you mean 'base.schedule.steps'"),
        ("base.stpes", "3", "did you mean 'base.steps'"),
        ("bass.size", "3", "did you mean 'base'"),
        ("base.net.patch", "3", "patch is 3"),
        ("clip.net.embed_dimm", "3", "did you mean 'clip.net.embed_dim'"),
        ("base.schedule.lr", "fast", "base.schedule.lr is 'fast', not a number"),
        ("base.schedule.steps", "1.5", "base.schedule.steps is 1.5, not a whole number"),
        ("base.schedule.muon", "1", "base.schedule.muon is 1, not true or false"),
        ("base.schedule.precision", "fp8", "not one of 'auto', 'fp32', 'bf16'"),
        ("base.schedule.batch", "0", "batch is 0"),
        ("base.size.x", "3", "not a table"),
        ("world", "3", "world is not a table"),
    ],
)
def test_a_bad_key_or_value_is_named(key: str, value: str, words: str) -> None:
    with pytest.raises(UsageError) as error:
        load_recipe("tiny", {key: value})
    assert words in error.value.message and error.value.code == "config"


def test_an_unknown_recipe_names_the_nearest() -> None:
    with pytest.raises(UsageError, match="tiny") as error:
        load_recipe("tinny")
    assert error.value.code == "config"
    with pytest.raises(UsageError):
        load_recipe("no/such/file.toml")


def test_a_broken_file_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "broken.toml"
    path.write_text("seed = = 3")
    with pytest.raises(UsageError, match="cannot be used"):
        load_recipe(str(path))
    path.unlink()
    path.mkdir()
    with pytest.raises(UsageError):
        load_recipe(str(path))


def test_overrides_take_effect() -> None:
    changes = {"seed": "7", "base.lr": "1e-4", "base.schedule.warmup": "5", "clip.net.patch": "4"}
    recipe = load_recipe("tiny", changes | {"world.places": '["snow"]', "name": "mine"})
    assert (recipe.seed, recipe.stages["base"].schedule.lr, recipe.stages["base"].schedule.warmup) == (7, 1e-4, 5)
    assert (recipe.stages["clip"].net.patch, recipe.world.places, recipe.name) == (4, ("snow",), "mine")
    plain = load_recipe("tiny")
    assert (
        plain.seed == 1
        and plain.stages["base"].schedule.batch == recipe.stages["base"].schedule.batch
        and plain.name == "tiny"
    )


@pytest.mark.parametrize("name", recipe_names())
def test_a_shipped_recipe_is_whole(name: str) -> None:
    recipe = load_recipe(name)
    stages = tuple(stage for stage in STAGES if recipe.has(stage))
    check_recipe(recipe, stages, None)
    assert stages[: len(PARTS[recipe.family])] == PARTS[recipe.family]
    assert isinstance(recipe.stages["upsampler1024"].schedule, Schedule)


@pytest.mark.parametrize(
    ("name", "millions"),
    [
        ("first", 28),
        ("small", 29),
        ("tiny", 6),
        ("imagen-tiny", 4),
        ("imagen-small", 8.6),
        ("dalle-tiny", 4),
        ("dalle-small", 7),
        ("gan-tiny", 4),
    ],
)
def test_a_shipped_recipe_stays_within_its_budget(name: str, millions: float) -> None:
    recipe = load_recipe(name)
    own = [stage for stage in PARTS[recipe.family] if stage not in recipe.share]
    with torch.device("meta"):
        assert sum(p.numel() for stage in own for p in build(recipe, stage).parameters()) <= millions * 1_000_000


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("base.size", "30", "base.size is not a multiple of 4"),
        ("clip.net.image_size", "30", "clip.net.image_size"),
        ("upsampler256.crop", "62", "upsampler256.crop"),
        ("upsampler256.size", "256", "ends at 32 pixels"),
        ("prior.net.embed_dim", "96", "the width of the image embedding"),
    ],
)
def test_sizes_that_do_not_fit_are_refused_before_training(key: str, value: str, words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words):
        train("all", "tiny", [f"{key}={value}"], out=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_stage_that_does_not_fit_the_model_is_refused_before_training(micro: str, tmp_path: Path) -> None:
    recipe = load_recipe(micro)
    entry, config = bundle_entry(recipe, "clip")
    assert isinstance(entry, StageEntry)
    weights = {"w": torch.zeros(2)}
    write_bundle(tmp_path, Manifest("unclip", "micro", (entry,), ()), {"clip": (config, weights)}, "{}", "# micro\n")
    with pytest.raises(InputError, match="embedding") as error:
        train("base", micro, ["base.net.cond_dim=24"], out=tmp_path)
    assert error.value.code == "mismatch" and not (tmp_path / ".train").exists()


def test_a_stage_of_no_steps_is_left_out_or_refused(micro: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="0 steps"):
        train("upsampler1024", micro, out=tmp_path / "m")
    with pytest.raises(UsageError, match="upsampler256"):
        train("upsampler265", micro, out=tmp_path / "m")
    plan = train("all", micro, ["upsampler1024.steps=2", "upsampler1024.size=256"], out=tmp_path / "m", dry_run=True)
    assert isinstance(plan, dict)
    assert [row["stage"] for row in plan["stages"]] == [*PARTS["unclip"], "upsampler1024"]
    assert all(row["parameters"] > 0 and row["seconds"] >= 0 for row in plan["stages"])
    assert not (tmp_path / "m").exists()


def test_new_weights_are_a_function_of_the_seed_and_the_stage() -> None:
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    a, b = (build(load_recipe("tiny"), "prior").state_dict() for _ in range(2))
    assert torch.equal(before, torch.random.get_rng_state())
    assert all(torch.equal(a[key], b[key]) for key in a)
    other = build(load_recipe("tiny", {"seed": "2"}), "prior").state_dict()
    assert not all(torch.equal(a[key], other[key]) for key in a)


def test_the_command_that_a_card_shows_says_where_training_started() -> None:
    from t2i.train.card import command_line

    said = command_line("clip", "first", ["clip.steps=9"], "scenes", Path("a/sprites"), 2, None, Path("weights/small"))
    assert said == "t2i train clip --recipe first --sprites sprites --set clip.steps=9 --seed 2 --start small"


def test_a_recipe_gives_the_sampling_of_each_kind_of_stage() -> None:
    plain = load_recipe("tiny").sample
    assert (plain.base.sampler, plain.prior.best_of, plain.upsampler.noise) == ("dpmpp_2m", 2, 0.0)
    sample = load_recipe("tiny", {"sample.base.steps": "3", "sample.upsampler.threshold": "static"}).sample
    assert sample.base == replace(plain.base, steps=3)  # the rest stays
    assert sample.upsampler.threshold == "static"
    with pytest.raises(UsageError, match=r"did you mean 'sample.base.steps'"):
        load_recipe("tiny", {"sample.base.step": "3"})


def test_the_steps_of_one_stage_win_over_those_of_all(micro: str, tmp_path: Path) -> None:
    plan = train("all", micro, ["base.steps=7"], out=tmp_path / "m", steps=2, dry_run=True)
    assert plan is not None
    assert {row["stage"]: row["steps"] for row in plan["stages"]} == {
        "clip": 2, "prior": 2, "base": 7, "upsampler256": 2,
    }  # fmt: skip
