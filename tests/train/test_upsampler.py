"""The crops that an upsampler is trained on."""

from __future__ import annotations

from pathlib import Path

import torch

from t2i.train.encoders import Encoders
from t2i.train.objectives.upsampler import UpsamplerObjective
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run


def test_crops_come_from_pictures_of_the_size_drawn(micro: str) -> None:
    recipe = load_recipe(micro).with_stage("upsampler256", size=1024, drawn=64)
    objective = UpsamplerObjective(Run(recipe, Path("nowhere"), Pictures(recipe)), "upsampler256", Encoders())
    crops = objective.crops(0, torch.Generator().manual_seed(0))
    pictures = objective.source.batch(recipe.seed + 3, 0, 2, 64).pixels
    assert crops.shape == (4, 3, 32, 32)
    for i, crop in enumerate(crops):
        spots = [(y, x) for y in range(0, 33, 4) for x in range(0, 33, 4)]
        assert any(torch.equal(crop, pictures[i // 2][:, y : y + 32, x : x + 32]) for y, x in spots)
