"""Linear layers that draw fast on a CPU.

torch multiplies float32 matrices on a CPU by MKL, which on AMD processors reaches half the rate of oneDNN, torch's
other library there, and takes the same route for small 1x1 convolutions (docs/decisions.md, 2026-11-29). So outside of
training these layers call oneDNN themselves. Both compute the same sums, in another order.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 1_000_000  # multiply-adds, below which the longer way to oneDNN costs more than it gains


def by_onednn() -> bool:
    """Whether products may be computed by oneDNN: in inference mode alone. Its operator has no gradient, and a training
    shall not depend on which one is faster."""
    if torch.compiler.is_compiling():  # which takes its own kernels, and cannot ask what follows
        return False
    return torch.is_inference_mode_enabled() and torch.backends.mkldnn.is_available()


def product(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    """`F.linear`: x (..., C), weight (D, C), bias (D,) -> (..., D)."""
    plain = x.dtype == weight.dtype == torch.float32 and x.device.type == "cpu"
    if not (by_onednn() and plain and x.numel() * weight.shape[0] >= LEAST) or torch.is_autocast_enabled("cpu"):
        return F.linear(x, weight, bias)
    out: Tensor = torch.ops.mkldnn._linear_pointwise.default(x, weight, bias, "none", [], "")
    return out


class Linear(nn.Linear):
    """`nn.Linear` by `product`."""

    def forward(self, input: Tensor) -> Tensor:
        return product(input, self.weight, self.bias)


class PointwiseConv(nn.Conv2d):
    """A 1x1 convolution, (B, C, H, W) -> (B, D, H, W): in channels_last memory a product of the map's positions."""

    def __init__(self, c_in: int, c_out: int) -> None:
        super().__init__(c_in, c_out, 1)

    def forward(self, input: Tensor) -> Tensor:
        if not by_onednn():
            return super().forward(input)
        return product(input.permute(0, 2, 3, 1), self.weight[:, :, 0, 0], self.bias).permute(0, 3, 1, 2)
