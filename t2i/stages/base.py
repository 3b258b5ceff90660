"""The base stage: image embedding and text tokens -> the smallest picture (Ramesh 2022, section 2.1; Saharia 2022)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import torch
from torch import Tensor

from t2i.diffusion.denoiser import Net
from t2i.diffusion.guidance import map_cond
from t2i.engine import OnStep
from t2i.nets.conditioner import UNetCond
from t2i.sampling import SamplingConfig
from t2i.stages.stage import GuidedCond, InpaintCond, Stage, Start
from t2i.text.cond import TextCond

C = TypeVar("C", UNetCond, GuidedCond)

RESAMPLES = 5
"""RePaint's repetitions of each step, for a base without mask channels: figure 3 of the paper flattens there."""
RESAMPLES_SEEN = 3
"""The same for a base that sees the known part. With one, the painted part differs from its surroundings in light and
colour; with three the two agree (measured on the shipped base)."""


def base_cond(
    text: TextCond | None,
    z: Tensor | None,
    keep: bool = True,
    *,
    keep_text: bool | None = None,
    keep_z: bool | None = None,
) -> UNetCond:
    """The condition of B pictures; with keep=False the learned null in the same shape.

    z: image embeddings (B, E). keep_text and keep_z choose for the text and the embedding apart.
    """
    keep_text, keep_z = (keep if k is None else k for k in (keep_text, keep_z))
    tokens_keep = None if text is None else torch.full_like(text.mask[:, 0], keep_text)
    z_keep = None if z is None else torch.full_like(z[:, 0], keep_z, dtype=torch.bool)
    if text is None:
        return UNetCond(z=z, z_keep=z_keep)
    return UNetCond(z=z, z_keep=z_keep, tokens=text.tokens, mask=text.mask, tokens_keep=tokens_keep)


def guided_cond(
    text: TextCond | None, z: Tensor | None, negative: TextCond | None = None, z_negative: Tensor | None = None
) -> GuidedCond:
    """The conditions of a base for B texts and image embeddings z (B, E), as far as each is given.

    With a text and an embedding z, z is in all of them: z is the prior's guess, and guiding away from "no z" would
    amplify its errors. Guiding away from "no text" adds what the guess has missed.
    """
    like_text, like_z = (text if text is not None else negative), (z if z is not None else z_negative)
    same_z = z is not None and like_text is not None
    cond = base_cond(like_text, like_z, keep_text=text is not None, keep_z=z is not None)
    uncond = base_cond(like_text, like_z, keep_text=False, keep_z=same_z)
    if negative is None and z_negative is None:
        return GuidedCond(cond, uncond)
    away_z = like_z if same_z or z_negative is None else z_negative
    keep_text, keep_z = negative is not None, same_z or z_negative is not None
    away = base_cond(negative if negative is not None else like_text, away_z, keep_text=keep_text, keep_z=keep_z)
    return GuidedCond(cond, uncond, away)


def reads_masks(stage: Stage) -> bool:
    """Whether the base sees the known part: its inputs are noisy RGB, mask, known RGB (GLIDE, section 4)."""
    return int(stage.config.in_channels) > 3


def bound_net(stage: Stage, known: InpaintCond | None = None, changed: Net | None = None) -> Net:
    """The base as net(x_t, t, cond), with its mask channels filled in if it has them. changed: called in place of its
    network, as that network with a personal model's changes."""
    called: Net = stage.net if changed is None else changed
    extra = int(stage.config.in_channels) - 3

    def net(x_t: Tensor, t: Tensor, cond: UNetCond) -> Tensor:
        if extra and known is None:
            blank = x_t.new_zeros(x_t.shape[0], extra, *x_t.shape[2:])
            blank[:, 0] = 1  # mask 1: paint everything; the known picture stays 0
            x_t = torch.cat([x_t, blank], dim=1)
        elif extra and known is not None:
            shown = torch.cat([known.mask, known.x0 * (1 - known.mask)], dim=1).to(x_t)
            # guidance repeats the batch
            x_t = torch.cat([x_t, shown.repeat(x_t.shape[0] // shown.shape[0], 1, 1, 1)], dim=1)
        return called(x_t, t, cond)

    return net


def typed_cond(stage: Stage, cond: C) -> C:
    """A condition, or those of guidance, in the network's number format."""
    typed: C = map_cond(lambda v: v.to(stage.dtype) if v.is_floating_point() else v, cond)
    return typed


def sample_base(
    stage: Stage,
    size: int,
    cond: GuidedCond,
    seeds: Sequence[int],
    sampling: SamplingConfig,
    on_step: OnStep | None = None,
    *,
    key: str = "",
    start: Start | None = None,
    known: InpaintCond | None = None,
) -> Tensor:
    """Pictures (B, 3, size, size) in [-1, 1], one a seed.

    key, start: as in `Stage.run`. known: what to keep, by RePaint, whatever `sampling.sampler` says.
    """
    resamples = 0 if known is None else RESAMPLES_SEEN if reads_masks(stage) else RESAMPLES
    made = stage.run(
        bound_net(stage, known), (3, size, size), typed_cond(stage, cond), sampling, seeds, on_step,
        key=key, start=start, known=known, resamples=resamples,
    )  # fmt: skip
    return made.clamp(-1, 1)
