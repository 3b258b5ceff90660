"""PSNR and SSIM of picture pairs.

x and y are float tensors (B, C, H, W). Their pixels are in [-1, 1], a data range of 2, unless `data_range` says
otherwise.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0
WINDOW, SIGMA = 11, 1.5
K1, K2 = 0.01, 0.03


def psnr(x: Tensor, y: Tensor, data_range: float = RANGE) -> Tensor:
    """Peak signal-to-noise ratio in dB of each pair, 10 log10(L² / MSE): (B,). Infinite for equal pictures."""
    assert x.shape == y.shape and x.ndim == 4, (tuple(x.shape), tuple(y.shape))
    mse = (x.double() - y.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(data_range**2 / mse)


def ssim(x: Tensor, y: Tensor, data_range: float = RANGE) -> Tensor:
    """Structural similarity of each pair, at least 11 pixels a side: (B,), at most 1.

    Wang et al. 2004 (IEEE TIP 13(4), eq. 13): means, variances and covariance in an 11×11 Gaussian window of sigma 1.5,
    C1 = (0.01 L)², C2 = (0.03 L)² for a data range L. The map is averaged over the windows that lie inside the picture
    and over the channels. The means are those of the pixels as given, so that a picture in [-1, 1] and the same picture
    in [0, 1] have different values.
    """
    assert x.shape == y.shape and x.ndim == 4 and min(x.shape[2:]) >= WINDOW, (tuple(x.shape), tuple(y.shape))
    c1, c2 = (K1 * data_range) ** 2, (K2 * data_range) ** 2
    a, b = x.double(), y.double()
    mu_a, mu_b, a2, b2, ab = _gaussian_mean(torch.cat([a, b, a * a, b * b, a * b], dim=1)).chunk(5, dim=1)
    var_a, var_b, cov = a2 - mu_a**2, b2 - mu_b**2, ab - mu_a * mu_b
    luminance = (2 * mu_a * mu_b + c1) / (mu_a**2 + mu_b**2 + c1)
    contrast_structure = (2 * cov + c2) / (var_a + var_b + c2)
    return (luminance * contrast_structure).mean((1, 2, 3))


def _gaussian_mean(x: Tensor) -> Tensor:
    """The weighted mean around every pixel that has a whole window: (B, C, H, W) -> (B, C, H-10, W-10)."""
    offset = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    g = torch.exp(-offset.square() / (2 * SIGMA**2))
    g = (g / g.sum()).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, g, groups=x.shape[1]), g.transpose(2, 3), groups=x.shape[1])
