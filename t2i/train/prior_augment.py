"""Training embeddings redrawn by the prior, so that the base learns to draw from a prior's embeddings.

A base that has only seen the embeddings of pictures copies the small errors of the prior's into its pictures. Here a
share of the training embeddings is noised to a middle time and denoised again by the prior, given the text (SDEdit:
Meng 2021, arXiv 2108.01073), and the base still has to draw the true picture.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.diffusion.process import Flow
from t2i.nets.prior import PriorCond
from t2i.text.cond import TextCond
from t2i.train.part import WHOLE, Part

TIMES = (0.4, 0.95)
"""The flow times to which embeddings are noised. Above them the prior would choose another of the pictures that the
text allows, and the base would learn to ignore the embedding."""
STEPS = 3  # Euler steps back to t = 0


@torch.no_grad()
def augment(
    prior: Callable[..., Tensor], z: Tensor, text: TextCond, share: float, g: torch.Generator, part: Part = WHOLE
) -> Tensor:
    """Unit embeddings z (B, E), `part` of a batch, a random `share` of them redrawn by the prior."""
    n, scale = len(z) * part.of, z.shape[-1] ** 0.5
    chosen = part.rows(torch.rand(n, 1, generator=g) < share).to(z.device)
    low, high = TIMES
    t = part.rows(low + (high - low) * torch.rand(n, 1, generator=g)).to(z.device)
    eps = part.rows(torch.randn(n, z.shape[-1], generator=g)).to(z.device)
    process, cond = Flow(), PriorCond(text.tokens, text.mask, text.pooled)
    z_t, ahead = process.alpha_t(t) * z * scale + process.sigma_t(t) * eps, t / STEPS
    for i in range(STEPS):
        now = t - i * ahead
        z_t = z_t - ahead / now * (z_t - prior(z_t, now[:, 0], cond).float())
    return torch.where(chosen, F.normalize(z_t, dim=-1), z)
