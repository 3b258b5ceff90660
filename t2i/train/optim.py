"""Muon for matrices, AdamW for the rest, in one optimiser with one learning rate.

Muon (Jordan 2024): momentum, then the nearest semi-orthogonal matrix by Newton-Schulz iterations.
torch.optim.Muon takes two-dimensional parameters only; most of a U-Net is convolutions, which are matrices of
shape (out, in x kh x kw) here. The update is scaled to AdamW's usual root mean square (Liu et al. 2025,
2502.16982), so that the two halves share a learning rate.

All parameters of a kind take a step together (torch's foreach kernels): a GPU is then given tens of kernels a step and
not thousands, and a CPU computes the same numbers as one by one.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import torch
from torch import Tensor, nn

from t2i.train.sharding import local

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
        by_shape: dict[tuple[int, int], list[Tensor]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is not None:
                by_shape[p.shape[0], p[0].numel()].append(p)
        for shape, params in by_shape.items():
            for p in params:
                if not self.state[p]:
                    self.state[p]["momentum"] = torch.zeros_like(p)
            grads = [p.grad for p in params if p.grad is not None]
            buffers = [self.state[p]["momentum"] for p in params]
            torch._foreach_lerp_(buffers, grads, 1 - group["momentum"])
            updates = torch._foreach_lerp(grads, buffers, group["momentum"])  # Nesterov
            stack = orthogonalise(torch.stack([update.reshape(shape) for update in updates]))
            torch._foreach_mul_(params, 1 - group["lr"] * group["weight_decay"])
            scale = RMS * max(shape) ** 0.5
            steps = [update.reshape(p.shape) for update, p in zip(stack, params, strict=True)]
            torch._foreach_add_(params, steps, alpha=-group["lr"] * scale)

    def _adamw(self, group: dict) -> None:
        beta1, beta2 = group["betas"]
        by_age: dict[int, list[Tensor]] = defaultdict(list)
        for p in group["params"]:
            if p.grad is None:
                continue
            state = self.state[p]
            if not state:
                state["step"] = torch.zeros((), dtype=torch.int64)
                state["mean"], state["square"] = torch.zeros_like(p), torch.zeros_like(p)
            state["step"] += 1
            by_age[int(state["step"])].append(p)
        for n, aged in by_age.items():
            params, grads = [local(p) for p in aged], [local(p.grad) for p in aged if p.grad is not None]
            means, squares = ([local(self.state[p][key]) for p in aged] for key in ("mean", "square"))
            torch._foreach_lerp_(means, grads, 1 - beta1)
            torch._foreach_mul_(squares, beta2)
            torch._foreach_addcmul_(squares, grads, grads, value=1 - beta2)
            roots = torch._foreach_div(squares, 1 - beta2**n)
            torch._foreach_sqrt_(roots)
            torch._foreach_add_(roots, 1e-8)
            if decayed := [p for p in params if p.ndim >= 2]:
                torch._foreach_mul_(decayed, 1 - group["lr"] * group["weight_decay"])
            torch._foreach_addcdiv_(params, means, roots, value=-group["lr"] / (1 - beta1**n))


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
        now = module.state_dict()
        real = [name for name, p in now.items() if p.is_floating_point()]
        averages, present = ([local(weights[name]) for name in real] for weights in (self.weights, now))
        torch._foreach_lerp_(averages, present, share)
        for name in now.keys() - set(real):
            self.weights[name].copy_(now[name])


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
