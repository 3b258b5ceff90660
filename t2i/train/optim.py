"""Muon for matrices, AdamW for the rest, in one optimiser with one learning rate.

Muon (Jordan 2024): momentum, then the nearest semi-orthogonal matrix by Newton-Schulz iterations.
torch.optim.Muon takes two-dimensional parameters only; most of a U-Net is convolutions, which are matrices of
shape (out, in x kh x kw) here. The update is scaled to AdamW's usual root mean square (Liu et al. 2025,
2502.16982), so that the two halves share a learning rate.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

RMS = 0.2  # of an AdamW update, in units of the learning rate


def orthogonalise(matrices: Tensor, steps: int = 5) -> Tensor:
    """Each of a stack of matrices (N, m, n) with the SVD U S V^T, approximately as U V^T (Newton-Schulz, quintic)."""
    a, b, c = 3.4445, -4.7750, 2.0315
    x = matrices.bfloat16()
    if tall := x.shape[1] > x.shape[2]:
        x = x.mT
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    for _ in range(steps):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if tall else x).to(matrices.dtype)


class MuonAdamW(torch.optim.Optimizer):
    """Muon for matrices and convolutions, AdamW for everything else and for what `exclude` names.

    params: (name, parameter) pairs. exclude: parts of names. muon: False for AdamW alone.
    """

    def __init__(
        self, params: Iterable[tuple[str, nn.Parameter]], *, lr: float, muon: bool = True,
        betas: tuple[float, float] = (0.9, 0.95), momentum: float = 0.95, weight_decay: float = 0.01,
        exclude: tuple[str, ...] = ("embedding", "visual.conv1", "conv_in", "conv_out", "logit_", "null", "queries"),
    ):  # fmt: skip
        matrices: list[nn.Parameter] = []
        others: list[nn.Parameter] = []
        for name, p in params:
            is_matrix = muon and p.ndim >= 2 and min(p.shape[0], p[0].numel()) > 8
            (matrices if is_matrix and not any(word in name for word in exclude) else others).append(p)
        groups = [{"params": group, "muon": kind} for kind, group in ((True, matrices), (False, others)) if group]
        super().__init__(
            groups,
            {"lr": lr, "betas": betas, "momentum": momentum, "weight_decay": weight_decay, "muon": False},
        )

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            (self._muon if group["muon"] else self._adamw)(group)

    def _muon(self, group: dict) -> None:
        by_shape: dict[tuple[int, int], list[nn.Parameter]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is not None:
                by_shape[p.shape[0], p[0].numel()].append(p)
        for shape, params in by_shape.items():
            updates = []
            for p in params:
                assert p.grad is not None
                state = self.state[p]
                if not state:
                    state["momentum"] = torch.zeros_like(p)
                buffer = state["momentum"].lerp_(p.grad, 1 - group["momentum"])
                updates.append(torch.lerp(p.grad, buffer, group["momentum"]).reshape(shape))  # Nesterov
            scale = RMS * max(shape) ** 0.5
            for p, update in zip(params, orthogonalise(torch.stack(updates)), strict=True):
                p.mul_(1 - group["lr"] * group["weight_decay"])
                p.add_(update.reshape(p.shape), alpha=-group["lr"] * scale)

    def _adamw(self, group: dict) -> None:
        beta1, beta2 = group["betas"]
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.int64)
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            n = int(state["step"])
            state["mean"].lerp_(p.grad, 1 - beta1)
            state["square"].mul_(beta2).addcmul_(p.grad, p.grad, value=1 - beta2)
            root = (state["square"] / (1 - beta2**n)).sqrt_().add_(1e-8)
            if p.ndim >= 2:
                p.mul_(1 - group["lr"] * group["weight_decay"])
            p.addcdiv_(state["mean"], root, value=-group["lr"] / (1 - beta1**n))


class PowerEMA:
    """Power-law average of a module's weights (Karras et al. 2023, EDM2, eq. 118):
    w <- beta_t w + (1 - beta_t) theta,
    beta_t = (1 - 1/t)^(gamma + 1), gamma from the relative width sigma_rel."""

    def __init__(self, module: nn.Module, sigma_rel: float = 0.1):
        self.gamma = _gamma(sigma_rel)
        self.weights = {name: p.detach().clone() for name, p in module.state_dict().items()}

    @torch.no_grad()
    def update(self, module: nn.Module, step: int) -> None:
        """Call once after optimiser step number `step`, counted from 1."""
        share = 1 - (1 - 1 / step) ** (self.gamma + 1)
        for name, p in module.state_dict().items():
            if p.is_floating_point():
                self.weights[name].lerp_(p, share)
            else:
                self.weights[name].copy_(p)


def _gamma(sigma_rel: float) -> float:
    """gamma of sigma_rel^2 = (gamma + 1) / ((gamma + 2)^2 (gamma + 3)) (EDM2, eq. 126), by bisection."""
    low, high = 0.0, 1e4
    for _ in range(80):
        mid = (low + high) / 2
        if ((mid + 1) / ((mid + 2) ** 2 * (mid + 3))) ** 0.5 > sigma_rel:
            low = mid
        else:
            high = mid
    return low
