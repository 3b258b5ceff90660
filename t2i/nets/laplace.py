"""The logit-Laplace distribution of pixels (DALL·E: Ramesh 2021, arXiv 2102.12092, appendix A.3).

A pixel lies in an interval, and the Laplace and Gaussian distributions that VAEs usually reconstruct with give
probability to the whole line. The logistic function of a Laplace variable lies in (0, 1) and has the density

    f(x | mu, b) = 1 / (2 b x (1 - x)) * exp(-|logit(x) - mu| / b)

Shapes: any; x, mu and log_b alike.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

EPS = 0.1
"""Pixels are mapped to (EPS, 1 - EPS), where the factor 1 / (x (1 - x)) stays small."""
LOG_B_LEAST = math.log(0.02)
"""The least log b: at mid grey one of 255 levels is 0.0125 in logit(x). A density that is sharper than the data's own
steps would reward nothing but flat colours being exactly flat."""


def squeeze(pixels: Tensor) -> Tensor:
    """phi of the paper: pixels in [-1, 1] -> x in [EPS, 1 - EPS]."""
    return (1 - 2 * EPS) * (pixels + 1) / 2 + EPS


def log_prob(x: Tensor, mu: Tensor, log_b: Tensor) -> Tensor:
    """ln f(x | mu, b), in nats, of x in (0, 1)."""
    return -(torch.logit(x) - mu).abs() * torch.exp(-log_b) - log_b - math.log(2) - torch.log(x * (1 - x))


def bounded(raw: Tensor) -> Tensor:
    """A network's output as log b, smoothly kept above `LOG_B_LEAST`: log(exp(raw) + exp(LOG_B_LEAST))."""
    return torch.logaddexp(raw, torch.full_like(raw, LOG_B_LEAST))


def median(mu: Tensor) -> Tensor:
    """The pixels in [-1, 1] that a picture is shown with: phi^-1(sigmoid(mu)), the distribution's median."""
    return ((torch.sigmoid(mu) - EPS) / (1 - 2 * EPS)).clamp(0, 1) * 2 - 1
