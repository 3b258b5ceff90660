"""Losses of a generator and a discriminator that learn from each other (Goodfellow 2014, arXiv 1406.2661).

Scores are high for what is taken to be real; (B, N), as in `t2i/nets/gan.py`.
"""

from __future__ import annotations

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor

Kind = Literal["nonsaturating", "hinge", "relativistic"]
"""nonsaturating: the cross-entropy of real against made; the generator maximises the log-odds of its own (Goodfellow
2014, section 3). hinge: scores beyond 1 on the right side cost nothing (Lim & Ye 2017, arXiv 1705.02894). relativistic:
the cross-entropy of the difference between a real picture and a made one (Jolicoeur-Martineau 2018, arXiv 1807.00734;
Huang 2025, arXiv 2501.05441)."""


def discriminator_loss(kind: Kind, real: Tensor, made: Tensor) -> Tensor:
    """What the discriminator minimises, a scalar."""
    if kind == "hinge":
        return (F.relu(1 - real) + F.relu(1 + made)).mean()
    if kind == "relativistic":
        return F.softplus(made - real).mean()
    return (F.softplus(-real) + F.softplus(made)).mean()


def generator_loss(kind: Kind, real: Tensor, made: Tensor) -> Tensor:
    """What the generator minimises, a scalar; only relativistic scores read `real`."""
    if kind == "hinge":
        return -made.mean()
    if kind == "relativistic":
        return F.softplus(real - made).mean()
    return F.softplus(-made).mean()


def gradient_penalty(scores: Tensor, pixels: Tensor) -> Tensor:
    """Half the mean squared norm of the scores' gradient by the pixels (B, 3, S, S), a scalar: R1 at real pictures, R2
    at made ones (Mescheder 2018, arXiv 1801.04406, equations 9 and 10, without gamma)."""
    (slope,) = torch.autograd.grad(scores.mean(1).sum(), pixels, create_graph=True)
    return slope.square().flatten(1).sum(1).mean() / 2


def spread(made: Tensor, real: Tensor) -> float:
    """How much made pictures differ from one another, as a share of how much real ones do; 0 if all are one picture.

    (B, 3, S, S) both; the standard deviation over the batch, its mean over all values."""
    return float(made.std(0).mean() / real.std(0).mean().clamp_min(1e-6))
