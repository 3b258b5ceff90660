"""How near a picture is to the one it should be, pixel by pixel: PSNR and SSIM.

Shape legend: B pictures, S height and W width. Pixels are float32 in [-1, 1], so their range L is 2.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

RANGE = 2.0
WINDOW, SIGMA = 11, 1.5
C1, C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2


def psnr(x: Tensor, y: Tensor) -> Tensor:
    """10 log10(L² / mse) in dB of each pair of pictures (B, 3, S, W); inf where they are equal. -> (B,)"""
    assert x.shape == y.shape and x.ndim == 4, (tuple(x.shape), tuple(y.shape))
    mse = (x.double() - y.double()).square().mean((1, 2, 3))
    return 10 * torch.log10(RANGE**2 / mse)


def ssim(x: Tensor, y: Tensor) -> Tensor:
    """Structural similarity of each pair of pictures (B, 3, S, W), at least 11 pixels a side. -> (B,), at most 1.

    Wang et al. 2004 (IEEE TIP 13(4), eq. 13): means, variances and covariance in an 11×11 Gaussian window of
    sigma 1.5, C1 = (0.01 L)², C2 = (0.03 L)². The map is averaged over the windows that lie inside the picture
    and over the three channels.
    """
    assert x.shape == y.shape and x.ndim == 4 and min(x.shape[2:]) >= WINDOW, (tuple(x.shape), tuple(y.shape))
    a, b = x.double(), y.double()
    parts = _blur(torch.cat([a, b, a * a, b * b, a * b], dim=1)).chunk(5, dim=1)
    mu_a, mu_b = parts[0], parts[1]
    var_a, var_b, cov = parts[2] - mu_a**2, parts[3] - mu_b**2, parts[4] - mu_a * mu_b
    light = (2 * mu_a * mu_b + C1) / (mu_a**2 + mu_b**2 + C1)
    structure = (2 * cov + C2) / (var_a + var_b + C2)
    return (light * structure).mean((1, 2, 3))


def _blur(x: Tensor) -> Tensor:
    """The Gaussian mean around every pixel that has the whole window: (B, C, S, W) -> (B, C, S-10, W-10)."""
    axis = torch.arange(WINDOW, dtype=x.dtype, device=x.device) - WINDOW // 2
    g = torch.exp(-axis.square() / (2 * SIGMA**2))
    g = (g / g.sum()).expand(x.shape[1], 1, 1, WINDOW)
    return F.conv2d(F.conv2d(x, g, groups=x.shape[1]), g.transpose(2, 3), groups=x.shape[1])
