"""Guidance and thresholding: functions Denoiser -> Denoiser, the same for every stage.

The innermost acts first: `dynamic_threshold(classifier_free(net, uncond, 7.0))` thresholds the guided estimate, as
Imagen does (Saharia 2022, arXiv 2205.11487). Shapes: x (B, ...), sigma (B,).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import reduce
from typing import Any

import torch
from torch import Tensor

from t2i.diffusion.denoiser import Denoiser, Net
from t2i.diffusion.process import expand


def map_cond(fn: Callable[..., Tensor], *conds: Any) -> Any:
    """`fn` applied to the matching tensors of conditions of one structure.

    A condition is a tensor, or a dict, dataclass, tuple or list of conditions. Anything else in it (None, a size, a
    flag) must be equal in all of them, and is kept. Raises ValueError where they differ.
    """
    a = conds[0]
    if any(type(c) is not type(a) for c in conds) and not all(isinstance(c, Tensor) for c in conds):
        raise ValueError(f"conditions differ in kind: {', '.join(type(c).__name__ for c in conds)}")
    if isinstance(a, Tensor):
        return fn(*conds)
    if isinstance(a, Mapping):
        if any(c.keys() != a.keys() for c in conds):
            raise ValueError(f"conditions differ in their keys: {' / '.join(str(sorted(c)) for c in conds)}")
        return {k: map_cond(fn, *(c[k] for c in conds)) for k in a}
    if dataclasses.is_dataclass(a) and not isinstance(a, type):
        names = [f.name for f in dataclasses.fields(a)]
        return dataclasses.replace(a, **{k: map_cond(fn, *(getattr(c, k) for c in conds)) for k in names})
    if isinstance(a, (tuple, list)):
        if any(len(c) != len(a) for c in conds):
            raise ValueError("conditions differ in length")
        return type(a)(map_cond(fn, *cs) for cs in zip(*conds, strict=True))
    if any(c != a for c in conds):
        raise ValueError(f"conditions differ in a setting: {conds}")
    return a


def cat_cond(a: Any, b: Any) -> Any:
    """Conditions of batches B1 and B2 -> one of batch B1 + B2."""
    return map_cond(lambda u, v: torch.cat([u, v]), a, b)


def expand_cond(cond: Any, n: int) -> Any:
    """A condition of batch 1, repeated to batch n; one of batch n is returned unchanged."""
    return map_cond(lambda u: u.expand(n, *u.shape[1:]) if u.shape[0] == 1 else u, cond)


def classifier_free(
    denoiser: Denoiser,
    uncond: Any,
    scale: float,
    interval: tuple[float, float] | None = None,
    *,
    negative: Any | None = None,
) -> Denoiser:
    """x0_hat = D(uncond) + scale (D(cond) - D(uncond)) (Ho 2022, arXiv 2207.12598; Saharia 2022, eq. 2).

    x0_hat is linear in eps, so this equals the papers' guidance of eps. scale 1 is no guidance, with one pass; scale 0
    is unconditional. `uncond`: of the condition's structure and batch B or 1. `interval` = (lo, hi): guide only
    where lo < sigma <= hi, and save the other passes elsewhere (Kynkäänniemi 2024, arXiv 2404.07724).

    `negative`: a condition like `uncond`, of what is not to be drawn. x0_hat = D(uncond) + scale (D(cond) -
    D(negative)), with three passes: negation by composition (Liu 2022, arXiv 2206.01714, section 4.2), with one weight
    for both. What `cond` and `negative` share cancels. In D(negative) + scale (D(cond) - D(negative)), as other
    tools have it, it stays: snow cannot be taken out of "a cat in the snow".

    All of a step's passes are one call of the denoiser, of two or three times B rows.
    """
    lo, hi = interval or (-1.0, float("inf"))
    if scale == 1.0 and negative is None:
        return denoiser

    def guided(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        inside = (sigma > lo) & (sigma <= hi)
        if not bool(inside.any()):
            return denoiser(x, sigma, cond)
        conds = [cond, *(expand_cond(c, x.shape[0]) for c in (uncond, negative) if c is not None)]
        n = len(conds)
        parts = denoiser(torch.cat([x] * n), torch.cat([sigma] * n), reduce(cat_cond, conds)).chunk(n)
        x0_cond, x0_uncond, x0_away = parts[0], parts[1], parts[-1]
        return torch.where(expand(inside, x).bool(), x0_uncond + scale * (x0_cond - x0_away), x0_cond)

    return guided


def unguided(net: Net, weight: float, without: Callable[[Any], Any]) -> Net:
    """`net`, whose output for a condition c has guidance of `weight` in it, as it is without guidance: for training.

    A guided output is D_w(c) = D(u) + w (D(c) - D(u)), so that D(c) = D(u) + (D_w(c) - D(u)) / w. That is linear in
    x0_hat, so it holds for the output of any prediction. Trained on pictures with this, a network learns the guided
    output itself, and its guidance takes one evaluation (compare Tang 2025, arXiv 2502.12154). Gradients pass through
    D_w(c) alone. without: from c to u, what guidance leads away from. weight 1 returns `net`.
    """
    if weight == 1.0:
        return net

    def estimate(x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
        made = net(x_t, t, cond)  # before what has no gradients: an autocast may keep the weights that it cast then
        with torch.no_grad():
            uncond = net(x_t, t, without(cond))
        return uncond + (made - uncond) / weight

    return estimate


def percentile_abs(x: Tensor, percentile: float) -> Tensor:
    """The `percentile`, in (0, 1], of |x| in each row, (B, ...) -> (B,), linear between ranks as in numpy.

    torch.quantile refuses more than 16M numbers; six RGB pictures of 1024 x 1024 have more.
    """
    v = x.flatten(1).abs()
    rank = (v.shape[1] - 1) * percentile
    k = int(rank)
    low = v.kthvalue(k + 1, dim=1).values
    if rank == k:
        return low
    return torch.lerp(low, v.kthvalue(k + 2, dim=1).values, rank - k)


def dynamic_threshold(denoiser: Denoiser, percentile: float = 0.995, cap: float = float("inf")) -> Denoiser:
    """Dynamic thresholding (Saharia 2022, section 2.3): keeps pixels in [-1, 1] and prevents saturation.

    For each picture, s is the `percentile` of |x0_hat|, but at least 1; x0_hat = clip(x0_hat, -s, s) / s. `cap`
    limits s from above, as in DeepFloyd IF: outliers beyond it are clipped and do not darken the picture further.
    """
    assert 0 < percentile <= 1 and cap >= 1, (percentile, cap)

    def thresholded(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        x0_hat = denoiser(x, sigma, cond)
        s = expand(percentile_abs(x0_hat, percentile).clamp(1.0, cap), x0_hat)
        return x0_hat.clamp(-s, s) / s

    return thresholded


def static_threshold(denoiser: Denoiser, limit: float = 1.0) -> Denoiser:
    """Static thresholding: x0_hat clipped to [-limit, limit] (Saharia 2022, section 2.3)."""
    return lambda x, sigma, cond: denoiser(x, sigma, cond).clamp(-limit, limit)
