"""The crops that an upsampler learns from."""

from __future__ import annotations

from dataclasses import replace

import torch

from t2i.data.source import WorldSource
from t2i.nets.upsampler import Upsampler
from t2i.train.recipe import load_recipe
from t2i.train.upsampling import UpsamplerObjective
from t2i.world import World


def test_crops_come_from_pictures_of_the_size_drawn(micro: str) -> None:
    recipe = load_recipe(micro)
    source = WorldSource(World(recipe.world, resolution=32))
    config = replace(recipe.upsampler256, size=1024, drawn=64)
    objective = UpsamplerObjective(recipe, config, Upsampler(config.net), source, torch.device("cpu"), "upsampler1024")
    crops = objective.crops(0, torch.Generator().manual_seed(0))
    pictures = source.batch(recipe.seed + 3, 0, 2, 64).pixels
    assert crops.shape == (4, 3, 32, 32)
    for i, crop in enumerate(crops):
        spots = [(y, x) for y in range(0, 33, 4) for x in range(0, 33, 4)]
        assert any(torch.equal(crop, pictures[i // 2][:, y : y + 32, x : x + 32]) for y, x in spots)
