"""The prior stage: text -> CLIP image embedding (Ramesh 2022, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.diffusion.guidance import map_cond
from t2i.engine import OnStep
from t2i.nets.prior import PriorCond, ResidualPrior
from t2i.rng import noise
from t2i.sampling import SamplingConfig, given
from t2i.stages.stage import GuidedCond, Stage, Start
from t2i.text.cond import TextCond


def sample_prior(
    stage: Stage,
    text: TextCond,
    seeds: Sequence[int],
    sampling: SamplingConfig,
    on_step: OnStep | None = None,
    *,
    key: str = "",
    near: Tensor | None = None,
    negative: TextCond | None = None,
) -> Tensor:
    """Unit image embeddings (B, E) for B encoded prompts, one a seed.

    `sampling.best_of` candidates are drawn for each, and the one with the largest dot product with the text embedding
    is kept (the paper draws two). near (B, E): embeddings to compare with instead. key: gives several draws for the
    same seeds different noise. negative: B encoded prompts of what the pictures should not show.
    """
    best_of = given(sampling.best_of, 1)
    shape = text.pooled.shape[1:]
    cond = GuidedCond(
        repeated_cond(stage, text, best_of),
        repeated_cond(stage, text.select([0]), 1, keep=False),  # the null has no text
        None if negative is None else repeated_cond(stage, negative, best_of),
    )
    eps = torch.cat([noise(seeds, f"{stage.name}{key}/{take}", 0, shape) for take in range(best_of)])
    z = stage.run(stage.net, shape, cond, sampling, [*seeds] * best_of, on_step, key=key, start=Start(eps=eps))
    draws = F.normalize(z, dim=-1).unflatten(0, (best_of, len(text)))
    return pick_best(draws, text.pooled if near is None else near)


def repeated_cond(stage: Stage, text: TextCond, n: int, keep: bool = True) -> PriorCond:
    """The condition of n draws for each of B texts, (n * B) rows. Each text is read once for all steps and draws, where
    it does not matter to the network when. keep: as of `prior_cond`."""
    cond = prior_cond(text, keep)
    if isinstance(stage.net, ResidualPrior):
        cond = replace(cond, read=stage.net.read(cond))
    rows: PriorCond = map_cond(lambda x: x.repeat(n, *[1] * (x.ndim - 1)), cond)
    return rows


def prior_cond(text: TextCond, keep: bool = True) -> PriorCond:
    """The condition of B texts; with keep=False the learned null in its shape."""
    return PriorCond(text.tokens, text.mask, text.pooled, torch.full_like(text.mask[:, 0], keep))


def pick_best(draws: Tensor, near: Tensor) -> Tensor:
    """For each row the nearest of K candidates: draws (K, B, E) of unit norm, near (B, E) of any norm -> (B, E)."""
    best = (draws * F.normalize(near, dim=-1)).sum(-1).argmax(0)
    return draws[best, torch.arange(len(best), device=best.device)]
