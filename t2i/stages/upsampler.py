"""An upsampler stage: a picture -> the same, larger, by diffusion conditioned on it (Ho 2021, 2106.15282;
Saharia 2022, section 2.4)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor

from t2i.rng import noise
from t2i.stages.stage import Dials, OnStep, Stage


def sample_upsampler(
    stage: Stage,
    low: Tensor,
    seeds: Sequence[int],
    dials: Dials,
    level: float = 0.0,
    on_step: OnStep | None = None,
) -> Tensor:
    """(B, 3, h, w) -> (B, 3, h*scale, w*scale), both in [-1, 1]. level: noise-conditioning augmentation in
    [0, 1].

    It reads no text, so there is nothing to guide by: dials.guidance is not used.
    """
    scale = int(stage.config.scale)
    shape = (3, low.shape[2] * scale, low.shape[3] * scale)
    if level:
        low = low + level * noise(seeds, f"{stage.name}/augment", 0, low.shape[1:]).to(low.device)
    cond = (low, torch.full((low.shape[0],), level, device=low.device))

    def net(x_t: Tensor, t: Tensor, cond: tuple[Tensor, Tensor]) -> Tensor:
        out: Tensor = stage.net(x_t, t, *cond)
        return out

    return stage.run(net, shape, cond, cond, replace(dials, guidance=1.0), seeds, on_step).clamp(-1, 1)
