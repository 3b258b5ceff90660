"""Layers in front of the things: the strip of ground before their feet, and the weather."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from t2i.world.places.green import course
from t2i.world.places.kit import TAU, Canvas, axes, below, const, gain, hash_cells, ridge, scatter

STRIPS = {
    "snow": "drift", "beach": "drift", "desert": "drift", "underwater": "drift", "sunset": "drift",
    "volcano": "drift", "rain": "blades", "forest": "blades", "field": "blades", "night": "blades",
    "mountains": "blades", "river": "banks", "jungle": "blades", "garden": "blades", "autumn": "leaves",
}  # fmt: skip
"""Kind of strip by place, for places with soft ground. Feet do not sink into stone or wood."""

STRIP = 0.03
"""How far the strip reaches above and below the feet at most, as a share of the canvas."""


def strip(kind: str, chance: Tensor, base: Tensor, horizon: Tensor, far: Tensor, near: Tensor, size: int) -> Tensor:
    """One strip: premultiplied RGBA (b, 4, S, S), opaque under a ragged upper edge near `base`, fading out below.

    kind: "drift" (snow, sand), "blades" (grass), "leaves" or "banks" (of a river). chance (b, CHANCE); base, horizon
    (b, 1, 1, 1), heights of the feet and of the horizon; far, near (b, 3, 1, 1), colours of the ground.
    """
    x, y = axes(size, chance.device)

    def u(i: int, lo: float = 0.0, hi: float = 1.0) -> Tensor:
        return chance[:, i].view(-1, 1, 1, 1) * (hi - lo) + lo

    swell = ridge(x, u(20), 1.7)
    if kind == "drift":
        upper = base - 0.006 + 0.008 * swell
    else:
        n = 17.0 if kind == "leaves" else 34.0
        place = x * n + u(21) * 13
        cell = place.floor()
        tip, f = hash_cells(cell, u(21), 0.35), place.sub_(cell).sub_(0.5)
        if kind == "leaves":
            lump = (1 - (f * 2.1).square_()).clamp_(min=0).sqrt_()
            upper = base + 0.004 + 0.003 * swell - lump * 0.016 * tip
        else:
            blade = 1 - (f - 0.3 * (tip - 0.5)).abs_().mul_(2.4).clamp_(max=1)
            upper = base + 0.002 + 0.004 * swell - blade * (0.01 + 0.014 * tip)
    alpha = below(y, upper, size, steep=kind != "drift").mul_((1 - (y - base) / STRIP).clamp_(0, 1))
    t = ((base - horizon) / (1 - horizon)).clamp_(0, 1)
    if kind == "banks":  # leave the river itself free
        bend, half = course(u, t)
        alpha.mul_((x - bend).abs_().sub_(half + 0.02).mul_(size).add_(0.5).clamp_(0, 1))
    colour = torch.lerp(far, near, t.pow_(0.7)).mul_(gain(chance)).clamp_(0, 1)
    return torch.cat((colour, torch.ones_like(colour[:, :1])), 1) * alpha


def _over(p: Canvas, colour: Tensor, alpha: Tensor) -> Tensor:
    """Premultiplied RGBA (b, 4, S, S) of a colour with a mask."""
    out = torch.empty(p.b, 4, p.size, p.size, device=p.device)
    out[:, 3:] = alpha
    torch.mul(colour, out[:, 3:], out=out[:, :3])
    return out


def _flakes(p: Canvas) -> Tensor:
    n = 46
    x, y, k = scatter(p.u(18), n, 11), scatter(p.u(19), n, 12), scatter(p.u(20), n, 13)
    m = p.splats(x, y, k.square() * 0.011 + 0.005).clamp_(max=1).mul_(0.9 * p.coin(21, 0.6))
    return _over(p, const((1.0, 1.0, 1.0), p.device).view(1, 3, 1, 1), m)


def _rain(p: Canvas) -> Tensor:
    slant = p.u(17, -0.25, 0.25)
    total = None
    for k, n in enumerate((26.0, 15.0)):
        u = (p.x + slant * p.y).mul_(n)
        cell = u.floor()
        f = u.sub_(cell).sub_(0.5).abs_()
        shift = (cell * 0.6180339 + (cell * cell + 7) * 0.0754877 + p.u(18 + k) * 7).remainder_(1)
        v = shift.add_(p.y * (3.0 - k)).frac_()
        long = v.mul_(2.5).sub_(1.5).clamp_(min=0)  # a drop is the end of its lane and fades upwards
        width = 0.0024 + 0.0008 * k
        m = p.cover((f / n).neg_().add_(width)).mul_(long)
        m = m.mul_(min(1.0, 0.55 + 0.25 * k))
        total = m if total is None else torch.maximum(total, m)
    assert total is not None
    return _over(p, const((0.86, 0.92, 1.0), p.device).view(1, 3, 1, 1), total)


def _bubbles(p: Canvas) -> Tensor:
    n = 12
    x, y, k = scatter(p.u(18), n, 11), scatter(p.u(19), n, 12), scatter(p.u(20), n, 13)
    r = k.square() * 0.018 + 0.007
    f = p.splats(x, y, r)
    ring = (1 - (f - 0.42).abs_().mul_(3.2)).clamp_(min=0).mul_(0.55)
    shine = p.splats(x - 0.3 * r, y - 0.3 * r, r * 0.3).clamp_(max=1)
    ray = (p.x - p.u(2, 0.2, 0.8)) / (p.y + 0.5)
    ray = (ray * 11 + p.u(3) * TAU).sin_().sub_(0.45).clamp_(min=0).mul_((0.4 - 0.55 * p.y).clamp_(min=0))
    m = torch.maximum(ring.add_(shine).clamp_(max=0.95), ray)
    return _over(p, const((0.92, 1.0, 1.0), p.device).view(1, 3, 1, 1), m)


def _leaves(p: Canvas) -> Tensor:
    n = 9
    x, y, k = scatter(p.u(18), n, 11), scatter(p.u(19), n, 12) * 0.9, scatter(p.u(20), n, 13)
    m = p.puffs(x, y, k * 0.008 + 0.011, None, wide=1.4).mul_(p.coin(21, 0.5))
    return _over(p, (p.col[4].lerp(p.col[5], p.x)).expand(-1, -1, p.size, -1).contiguous(), m)


def _embers(p: Canvas) -> Tensor:
    n = 18
    x, y, k = scatter(p.u(18), n, 11), scatter(p.u(19), n, 12) * 0.8, scatter(p.u(20), n, 13)
    m = p.splats(x, y, k * 0.006 + 0.004).clamp_(max=1).mul_(p.coin(21, 0.6))
    return _over(p, const((1.0, 0.7, 0.3), p.device).view(1, 3, 1, 1), m)


WEATHER: dict[str, Callable[[Canvas], Tensor]] = {
    "snow": _flakes,
    "rain": _rain,
    "underwater": _bubbles,
    "autumn": _leaves,
    "volcano": _embers,
}
"""Painter of the weather by place: (b, 4, S, S), premultiplied RGBA."""
