"""What a training has learned so far, in pictures: drawn with the averaged weights by the real stages."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.diffusion.process import Flow
from t2i.nets.unet import UNet
from t2i.nets.upsampler import Upsampler, enlarge
from t2i.sampling import SamplingConfig
from t2i.stages.base import guided, sample_base
from t2i.stages.stage import Stage
from t2i.stages.upsampler import sample_upsampler
from t2i.text.cond import TextCond
from t2i.train.recipe import Recipe, UpsamplerRecipe

COLUMNS = 8
SEED = 9  # added to the run's seed: scenes that no batch of the training holds
WINDOW = 256  # of a large picture, its middle is shown


@contextmanager
def averaged(module: nn.Module, average: dict[str, Tensor]) -> Iterator[None]:
    """The module with other weights for a while; its own come back to the bit."""
    own = {name: t.detach().clone() for name, t in module.state_dict().items()}
    module.load_state_dict(average)
    try:
        yield
    finally:
        module.load_state_dict(own)


def draw_base(base: UNet, recipe: Recipe, size: int, z: Tensor | None, text: TextCond | None) -> Tensor:
    """(B, 3, size, size) in [-1, 1] from embeddings z (B, E) and/or texts, as the bundle samples."""
    sampling = recipe.sample.base if text is not None else recipe.sample.base.without_text
    stage = Stage("sheet", base, Flow(), recipe.base.objective.prediction)
    rows = len(z) if z is not None else len(text or ())
    cond, uncond = guided(text, z)
    return sample_base(stage, size, cond, uncond, range(rows), sampling)


def upsampler_rows(
    net: Upsampler, recipe: Recipe, config: UpsamplerRecipe, name: str, high: Tensor, steps: int | None = None
) -> Tensor:
    """(4, C, 3, S, S): the small picture, its bicubic enlargement, ours, the truth, `high` (C, 3, S', S')."""
    scale = net.config.scale
    side = min(high.shape[-1], WINDOW)
    top = (high.shape[-1] - side) // 2 // scale * scale
    high = high[:, :, top : top + side, top : top + side]
    low = F.interpolate(high, scale_factor=1 / scale, mode="area")
    sampling = SamplingConfig(steps=steps or recipe.sample.upsampler.steps)
    stage = Stage(name, net, Flow(), config.objective.prediction)
    ours = sample_upsampler(stage, low, range(len(low)), sampling)
    blocks = F.interpolate(low, scale_factor=float(scale), mode="nearest")
    return torch.stack([blocks, enlarge(low, scale).clamp(-1, 1), ours, high])
