"""Embeddings as the prior makes them, for the base to learn from.

A base that has only seen the embeddings of pictures draws the prior's small errors as they are: things come apart.
Here it is given, in the place of some embeddings, what the prior makes of the text and of what noise has left of the
true one, and still has to draw the true picture; it learns to read such an embedding together with the text. (SDEdit,
Meng 2021, arXiv 2108.01073, is the same way back from the middle of the noise.)
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.diffusion.process import Flow
from t2i.nets.prior import PriorCond
from t2i.text.cond import TextCond

LEVELS = (0.4, 0.95)
"""Between these flow times the way back begins. Above them the prior would choose another of the pictures that the
text allows, and the base would learn to leave the embedding unread."""
STEPS = 3


@torch.no_grad()
def imagined(prior: nn.Module, z: Tensor, text: TextCond, share: float, g: torch.Generator) -> Tensor:
    """Unit embeddings (B, E), of which a `share`, chosen at random, is the prior's: noised, and brought back by a few
    Euler steps of its flow."""
    n, scale = len(z), z.shape[-1] ** 0.5
    chosen = (torch.rand(n, 1, generator=g) < share).to(z.device)
    low, high = LEVELS
    t = (low + (high - low) * torch.rand(n, 1, generator=g)).to(z.device)
    eps = torch.randn(z.shape, generator=g).to(z.device)
    process, cond = Flow(), PriorCond(text.tokens, text.mask, text.pooled)
    z_t, ahead = process.alpha_t(t) * z * scale + process.sigma_t(t) * eps, t / STEPS
    for i in range(STEPS):
        now = t - i * ahead
        z_t = z_t - ahead / now * (z_t - prior(z_t, now[:, 0], cond).float())
    return torch.where(chosen, F.normalize(z_t, dim=-1), z)
