"""A patch discriminator for adversarial training of an upsampler (Isola 2017, arXiv 1611.07004, section 3.2.2).

It judges each patch of a large picture, true or generated, given the enlarged small picture. Used in training only.
Shapes: B batch; H, W pixels of the large picture.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

DETAIL = 8.0
"""Factor of the detail x - large, which is about this much smaller than the picture, so that both have one scale."""


class PatchCritic(nn.Module):
    """forward(x, large) -> logits (B, 1, H/4, W/4), one for each patch of 22 pixels; above 0 means true."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        wide, wider = 2 * width, 4 * width
        # The first and the last layer have no norm (Radford 2015, arXiv 1511.06434): a norm would remove the contrast.
        self.layers = nn.Sequential(
            nn.Conv2d(2 * 3, width, 4, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Conv2d(width, wide, 4, stride=2, padding=1),
            nn.GroupNorm(8, wide),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wide, wider, 3, padding=1),
            nn.GroupNorm(8, wider),
            nn.LeakyReLU(0.2),
            nn.Conv2d(wider, 1, 1),
        )

    def forward(self, x: Tensor, large: Tensor) -> Tensor:
        """x (B, 3, H, W): the picture to judge; large (B, 3, H, W): the enlarged small picture; about [-1, 1]."""
        pair = torch.cat([DETAIL * (x - large), large], dim=1).contiguous(memory_format=torch.channels_last)
        out: Tensor = self.layers(pair)
        return out


def hinge(true: Tensor, made: Tensor) -> Tensor:
    """The critic's hinge loss, from its logits of true and generated pictures (Lim & Ye 2017, arXiv 1705.02894)."""
    return F.relu(1 - true).mean() + F.relu(1 + made).mean()
