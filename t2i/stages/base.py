"""The base stage: image embedding and text tokens -> the smallest picture (Ramesh 2022, section 2.1; Saharia
2022)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from t2i.diffusion.guidance import map_cond
from t2i.nets.unet import UNetCond
from t2i.stages.stage import Dials, OnStep, Stage
from t2i.text.cond import TextCond


def base_cond(text: TextCond | None, z: Tensor | None, keep: bool = True) -> UNetCond:
    """The condition of B pictures, or with keep=False the learned null in the same shape."""
    tokens_keep = None if text is None else torch.full_like(text.mask[:, 0], keep)
    z_keep = None if z is None else torch.full_like(z[:, 0], keep, dtype=torch.bool)
    if text is None:
        return UNetCond(z=z, z_keep=z_keep)
    return UNetCond(z=z, z_keep=z_keep, tokens=text.tokens, mask=text.mask, tokens_keep=tokens_keep)


def sample_base(
    stage: Stage,
    size: int,
    cond: UNetCond,
    uncond: UNetCond,
    seeds: Sequence[int],
    dials: Dials,
    on_step: OnStep | None = None,
) -> Tensor:
    """Pictures (B, 3, size, size) in [-1, 1], one a seed. A base with mask channels is told to paint
    everything."""
    extra = int(stage.config.in_channels) - 3

    def typed(v: Tensor) -> Tensor:
        return v.to(stage.dtype) if v.is_floating_point() else v

    def net(x_t: Tensor, t: Tensor, cond: UNetCond) -> Tensor:
        if extra:
            blank = x_t.new_zeros(x_t.shape[0], extra, *x_t.shape[2:])
            blank[:, 0] = 1  # the mask: repaint all; the known picture behind it is empty
            x_t = torch.cat([x_t, blank], dim=1)
        out: Tensor = stage.net(x_t, t, cond)
        return out

    cond, uncond = map_cond(typed, cond), map_cond(typed, uncond)
    return stage.run(net, (3, size, size), cond, uncond, dials, seeds, on_step).clamp(-1, 1)
