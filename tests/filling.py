"""Random weights for networks of the tests."""

from __future__ import annotations

import torch
from torch import nn

from t2i.nets.vae import VAEConfig

VAE_CONFIG = VAEConfig(codes=20, dim=8, patch=2, channels=(8, 16), blocks=1)


def fill(net: nn.Module, seed: int) -> nn.Module:
    """Random weights everywhere, also where a new network holds zeros, so that every input has a say."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(net.named_parameters()):
        if p.ndim >= 2:
            gain = 3.0 if "embedding" in name else p[0].numel() ** -0.5
            p.data = gain * torch.randn(p.shape, generator=g)
        elif p.ndim == 1:
            p.data = p.data + 0.1 * torch.randn(p.shape, generator=g)
    return net
