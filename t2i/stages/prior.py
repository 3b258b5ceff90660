"""The prior stage: text -> CLIP image embedding (Ramesh 2022, section 2.2)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.nets.prior import PriorCond
from t2i.stages.stage import Dials, OnStep, Stage
from t2i.text.cond import TextCond


def sample_prior(
    stage: Stage,
    text: TextCond,
    seeds: Sequence[int],
    dials: Dials,
    best_of: int = 1,
    on_step: OnStep | None = None,
    *,
    key: str = "",
) -> Tensor:
    """Unit image embeddings z_img (B, E) of B encoded prompts, one a seed.

    best_of: draw as many and keep the one of the largest dot product with the text embedding; the paper draws
    two. key: sets several draws for the same seeds apart.
    """
    keep = torch.ones(len(text), dtype=torch.bool, device=text.mask.device)
    cond = PriorCond(text.tokens, text.mask, text.pooled, keep)
    null = PriorCond(text.tokens, text.mask, text.pooled, ~keep)
    shape, draws = text.pooled.shape[1:], []
    for take in range(best_of):
        z = stage.run(stage.net, shape, cond, null, dials, seeds, on_step, key=f"{key}/{take}")
        draws.append(F.normalize(z, dim=-1))
    return pick_best(torch.stack(draws), text.pooled)


def pick_best(draws: Tensor, z_text: Tensor) -> Tensor:
    """(K, B, E) unit embeddings, (B, E) text embeddings -> (B, E): for each row the draw nearest to its
    text."""
    best = (draws * F.normalize(z_text, dim=-1)).sum(-1).argmax(0)
    return draws[best, torch.arange(len(best), device=best.device)]
