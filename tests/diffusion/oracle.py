"""A distribution whose best denoiser is known: a mixture of Gaussians in the plane (shape (B, 2))."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

MEANS = torch.tensor([[0.8, 0.3], [-0.6, 0.7], [0.1, -0.9]])
STD = 0.25
WEIGHTS = torch.tensor([0.5, 0.3, 0.2])


def mixture(x: Tensor, sigma: Tensor, cond: Any = None) -> Tensor:
    """E[x_0 | x_0 + sigma eps = x], exactly, in float64 inside."""
    x64, s2 = x.double(), sigma.double()[:, None] ** 2
    var = STD**2 + s2  # (B, 1)
    away = x64[:, None, :] - MEANS.double()  # (B, K, 2)
    logp = WEIGHTS.double().log() - away.square().sum(-1) / (2 * var)
    post = torch.softmax(logp, dim=1)[:, :, None]
    each = (STD**2 * x64[:, None, :] + s2[:, :, None] * MEANS.double()) / var[:, :, None]
    return (post * each).sum(1).to(x.dtype)


def draw(n: int, g: torch.Generator) -> Tensor:
    k = torch.multinomial(WEIGHTS, n, replacement=True, generator=g)
    return MEANS[k] + STD * torch.randn(n, 2, generator=g)
