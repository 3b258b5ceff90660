"""Drawing primitives for the backgrounds.

A `Canvas` holds the pictures of all scenes of one place in a batch. Every mask is a function of the coordinates x (to
the right) and y (down), both shares of the side, with edges one pixel wide. A small picture is therefore the large one,
downsampled. Terms that depend on x or y alone are computed on one row or one column, which is nearly free.

Shape legend: b scenes, S canvas side. Masks are coverages in [0, 1], colours are RGB in [0, 1].
"""

from __future__ import annotations

from functools import lru_cache
from math import pi

import torch
from torch import Tensor

TAU = 2 * pi


@lru_cache(maxsize=512)
def palette(spec: str, device: torch.device) -> Tensor:
    """Hex colours, columns separated by spaces, rows by "|" -> (rows, columns, 3) in [0, 1]."""
    rows = [[[int(h[i : i + 2], 16) / 255 for i in (0, 2, 4)] for h in row.split()] for row in spec.split("|")]
    assert len({len(row) for row in rows}) == 1, spec
    return torch.tensor(rows, device=device)


@lru_cache(maxsize=512)
def const(values: tuple[float, ...], device: torch.device) -> Tensor:
    """A cached constant tensor."""
    return torch.tensor(values, device=device)


@lru_cache(maxsize=256)
def _table(n: int, salt: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """n fixed numbers in [0, 1), one in each interval of length 1/n, in random order; n odd multipliers."""
    g = torch.Generator().manual_seed(n * 1009 + salt)
    even = (torch.randperm(n, generator=g) + torch.rand(n, generator=g)) / n
    times = torch.randint(1, 40, (n,), generator=g) * 2.0 + 1
    return even.to(device), times.to(device)


def scatter(u: Tensor, n: int, salt: int) -> Tensor:
    """(b, 1, 1, 1) uniform -> (b, n) numbers in [0, 1), well spread and different in each scene.

    salt: another integer gives other numbers.
    """
    even, times = _table(n, salt, u.device)
    return torch.addcmul(even, u.view(-1, 1), times).frac_()


@lru_cache(maxsize=16)
def axes(size: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Pixel centres x (1, 1, 1, S) and y (1, 1, S, 1) in (0, 1)."""
    a = (torch.arange(size, device=device, dtype=torch.float32) + 0.5) / size
    return a.view(1, 1, 1, size), a.view(1, 1, size, 1)


def bump(d: Tensor) -> Tensor:
    """About exp(-d²), (1 - d²/8)⁸ where that is positive; faster than exp. Overwrites d."""
    return d.square_().mul_(-0.125).add_(1).clamp_(min=0).square_().square_().square_()


def hash_cells(cell: Tensor, u: Tensor, salt: float) -> Tensor:
    """A pseudo-random number in [0, 1) for each integer in `cell`, the same on every machine."""
    a = (cell * 0.1031 + (u * 16).floor() * 0.2371 + salt).remainder_(1)
    a = (a * (a + 33.33)).remainder_(1)
    return (a * (a + a) * 17.17).remainder_(1)


def gain(chance: Tensor) -> Tensor:
    """Factors (b, 3, 1, 1) that make a scene a little warmer or cooler, lighter or darker."""
    warm = (chance[:, 22:23] - 0.5) * const((0.06, 0.0, -0.06), chance.device)
    return (warm + 0.96 + 0.08 * chance[:, 23:24]).view(-1, 3, 1, 1)


def ridge(x: Tensor, u: Tensor, freq: float, rough: float = 1.0) -> Tensor:
    """The outline of soft hills, about [-1, 1]: x (1, 1, 1, S), u (b, 1, 1, 1) in [0, 1) -> (b, 1, 1, S).

    freq: hills across the canvas. rough: weight of the higher frequencies.
    """
    f = const((freq, freq * 2.3, freq * 5.1), x.device).view(1, 3, 1, 1)
    t = const((1.0, 7.0, 13.0), x.device).view(1, 3, 1, 1)
    w = const((0.62, 0.28 * rough, 0.1 * rough), x.device).view(1, 3, 1, 1)
    return (x * f + u * t).mul_(TAU).sin_().mul_(w).sum(1, keepdim=True)


def below(y: Tensor, h: Tensor, size: int, steep: bool = False) -> Tensor:
    """Coverage of the area under the line y = h(x), (b, 1, rows, S). steep: also smooth the flanks of a jagged line."""
    if not steep:
        return (y - h).mul_(size).add_(0.5).clamp_(0, 1)
    slope = torch.zeros_like(h)
    slope[..., 1:-1] = (h[..., 2:] - h[..., :-2]) * (size / 2)
    k = slope.square_().add_(1).rsqrt_().mul_(size)
    return torch.addcmul(0.5 - h * k, y, k).clamp_(0, 1)


class Canvas:
    """The pictures of b scenes of one place, and the tools to paint them.

    chance (b, CHANCE) uniform in [0, 1). colours: palettes of the place, see `palette`; chance 1 picks the row. The
    columns are `top` and `low` (sky above, sky at the horizon), `far` and `near` (ground at the horizon, ground at the
    lower edge), accents, and last the light on things. h (b, 1, 1, 1): height of the horizon, from chance 0.
    """

    def __init__(self, chance: Tensor, size: int, colours: str, horizon: tuple[float, float] = (1.0, 1.0)) -> None:
        self.chance, self.size, self.device = chance, size, chance.device
        self.b = chance.shape[0]
        self.x, self.y = axes(size, self.device)
        table = palette(colours, self.device)
        self.row = (self.u(1) * table.shape[0]).long().clamp_(max=table.shape[0] - 1).view(-1)
        picked = table[self.row]
        self.col = [c.view(-1, 3, 1, 1) for c in picked.unbind(1)]
        self.top, self.low, self.far, self.near, self.light = *self.col[:4], self.col[-1]
        self.h = self.u(0, *horizon)
        self.image = torch.empty(0, device=self.device)
        self.shade = self.low  # the colour of a plain background
        self.white = const((1.0, 1.0, 1.0), self.device).view(1, 3, 1, 1)

    # ---- Random numbers ------------------------------------------------------------------------------
    def u(self, i: int, lo: float = 0.0, hi: float = 1.0) -> Tensor:
        """Chance number i, mapped to [lo, hi): (b, 1, 1, 1)."""
        v = self.chance[:, i].view(-1, 1, 1, 1)
        return v if (lo, hi) == (0.0, 1.0) else v * (hi - lo) + lo

    def coin(self, i: int, share: float) -> Tensor:
        """1 with probability `share`, else 0: (b, 1, 1, 1)."""
        return (self.u(i) < share).float()

    def rows(self, lo: float, hi: float = 1.0) -> slice:
        """The pixel rows between two heights and one more on both sides. Painting only these saves time."""
        return slice(max(0, int(lo * self.size) - 1), min(self.size, int(hi * self.size) + 2))

    # ---- Masks ---------------------------------------------------------------------------------------
    def cover(self, d: Tensor) -> Tensor:
        """Signed distance (positive inside) -> coverage of the pixel. Overwrites d."""
        return d.mul_(self.size).add_(0.5).clamp_(0, 1)

    def below(self, h: Tensor, rows: slice = slice(None), steep: bool = False) -> Tensor:
        """Coverage of the area under the line y = h(x); see `below`."""
        return below(self.y[:, :, rows], h, self.size, steep)

    def disc(self, cx: Tensor, cy: Tensor, r: Tensor, squash: float = 1.0, rows: slice = slice(None)) -> Tensor:
        """A disc, or an ellipse of height r / squash."""
        d = (self.x - cx).square_() + (self.y[:, :, rows] - cy).mul_(squash).square_()
        return d.neg_().add_(r * r).mul_(self.size / 2 / r).add_(0.5).clamp_(0, 1)

    def glow(self, cx: Tensor, cy: Tensor, rx: Tensor | float, ry: Tensor | float, rows: slice = slice(None)) -> Tensor:
        """A Gaussian-like spot."""
        return bump((self.x - cx) / rx) * bump((self.y[:, :, rows] - cy) / ry)

    def splats(self, x: Tensor, y: Tensor, r: Tensor, weight: Tensor | None = None, rows: slice = slice(None),
               flat: float = 1.0, wide: float = 1.0) -> Tensor:  # fmt: skip
        """Sum of n round bumps with centres and radii (b, n): (b, 1, rows, S).

        A bump smaller than a pixel is widened to a pixel and dimmed accordingly.
        flat > 1 squashes the lower half of each bump (clouds); wide > 1 stretches it sideways.
        """
        px = 0.45 / self.size
        real = r.square() + px * px
        amp = r * r / real if weight is None else weight * (r * r / real)
        inv = real.rsqrt_().unsqueeze(-1)
        gx = bump((self.x.view(1, 1, -1) - x.unsqueeze(-1)).mul_(inv / wide))
        dy = (self.y[:, :, rows].view(1, 1, -1) - y.unsqueeze(-1)).mul_(inv)
        if flat != 1.0:
            dy = torch.maximum(dy * flat, -dy)
        gy = bump(dy).mul_(amp.unsqueeze(-1))
        return torch.bmm(gy.transpose(1, 2), gx).unsqueeze(1)

    def puffs(self, x: Tensor, y: Tensor, r: Tensor, weight: Tensor | None = None, rows: slice = slice(None),
              flat: float = 1.0, wide: float = 1.0, soft: float = 0.0) -> Tensor:  # fmt: skip
        """Splats that merge into one shape with a sharp edge: clouds, tree crowns. soft: extra width of the edge."""
        f = self.splats(x, y, r, weight, rows, flat, wide)
        k = 1 / (14.8 / self.size + soft)  # slope of the field, per side, at the edge of a bump of radius .05
        return f.sub_(0.34).mul_(k).add_(0.5).clamp_(0, 1)

    def boxes(self, x0: Tensor, x1: Tensor, y0: Tensor, y1: Tensor, rows: slice = slice(None)) -> Tensor:
        """Coverage of n axis-aligned boxes with edges (b, n): (b, 1, rows, S)."""
        x, y = self.x.view(1, 1, -1), self.y[:, :, rows].view(1, 1, -1)
        cx = self.cover(torch.minimum(x - x0.unsqueeze(-1), x1.unsqueeze(-1) - x))
        cy = self.cover(torch.minimum(y - y0.unsqueeze(-1), y1.unsqueeze(-1) - y))
        return torch.bmm(cy.transpose(1, 2), cx).clamp_(max=1).unsqueeze(1)

    def pills(self, x: Tensor, y: Tensor, hx: Tensor, hy: Tensor, r: Tensor, rows: slice = slice(None)) -> Tensor:
        """Union of n boxes with centres and half sides (b, n) and corners of radius r: (b, 1, rows, S)."""
        v = lambda t: t.view(t.shape[0], -1, 1, 1)  # noqa: E731
        dx = (self.x - v(x)).abs_().sub_(v(hx)).clamp_(min=0).square_()
        dy = (self.y[:, :, rows] - v(y)).abs_().sub_(v(hy)).clamp_(min=0).square_()
        d = (dx + dy).sqrt_().sub_(v(r)).amin(1, keepdim=True)
        return self.cover(d.neg_())

    # ---- Lines over x: (b, 1, 1, S) ------------------------------------------------------------------
    def ridge(self, i: int, base: Tensor | float, amp: Tensor | float, freq: float, rough: float = 1.0) -> Tensor:
        """Soft hills around the height `base`, shaped by chance number i."""
        return ridge(self.x, self.u(i), freq, rough).mul_(amp).add_(base)

    def crowns(self, i: int, n: int, base: Tensor, r: float, lift: float = 0.6) -> Tensor:
        """The upper outline of a row of n round trees or bushes of about radius r, standing on `base`."""
        at = (torch.arange(n, device=self.device) + scatter(self.u(i), n, 1)).div_(n - 1) - 0.5 / n
        rr = (scatter(self.u(i), n, 2) * 0.7 + 0.65).mul_(r).view(-1, n, 1, 1)
        d = (self.x - at.view(-1, n, 1, 1)).square_().neg_().add_(rr * rr).clamp_(min=0).sqrt_()
        return base - d.addcmul_((d > 0).float(), rr, value=lift).amax(1, keepdim=True)

    # ---- Painting ------------------------------------------------------------------------------------
    def fill(self, colour: Tensor) -> None:
        """Paint everything in a colour that broadcasts to (b, 3, S, S)."""
        self.image = colour.expand(self.b, 3, self.size, self.size).contiguous()

    def sky(self, top: Tensor | None = None, low: Tensor | None = None, end: Tensor | None = None) -> None:
        """A vertical gradient from `top` to `low`, which is reached at the height `end` (None: the horizon)."""
        t = (self.y / (self.h if end is None else end)).clamp_(0, 1)
        self.fill(torch.lerp(self.top if top is None else top, self.low if low is None else low, t))

    def paint(self, colour: Tensor, mask: Tensor, rows: slice = slice(None)) -> None:
        """Blend a colour over the picture where the mask is 1."""
        self.image[:, :, rows].lerp_(colour, mask)

    def deep(self) -> Tensor:
        """0 at the horizon, 1 at the lower edge: (b, 1, S, 1)."""
        return ((self.y - self.h) / (1 - self.h).clamp(min=0.02)).clamp_(0, 1)

    def soil(self, line: Tensor | None = None, bend: float = 0.7, rows: slice | None = None) -> None:
        """The ground under `line` (None: the horizon): colour `far` at the horizon, `near` at the lower edge."""
        rows = self.rows(0.36) if rows is None else rows
        shade = torch.lerp(self.far, self.near, self.deep().pow_(bend))
        self.paint(shade[:, :, rows], self.below(self.h if line is None else line, rows), rows)

    def mottle(self, i: int, amount: float, across: float, down: float, colour: Tensor | None = None) -> None:
        """Soft flat patches on the ground, larger towards the front."""
        rows = self.rows(0.44)
        t = self.deep()[:, :, rows]
        bent = (self.x * across + self.u(i) * 9).sin_().add_((self.x * across * 2.3).sin_(), alpha=0.5).mul_(0.9)
        m = (bent + ((t + 0.12).log() * down + self.u(i) * TAU)).sin_()
        self.paint(
            self.far if colour is None else colour,
            m.clamp_(min=0).mul_((t * 3).clamp_(max=1) * (0.5 * amount)),
            rows,
        )

    def clouds(self, i: int, colour: Tensor, lo: float, hi: float, share: float = 0.7, size: float = 0.075,
               alpha: float = 0.9, n: int = 4, soft: float = 0.2) -> None:  # fmt: skip
        """Up to n clouds between the heights lo and hi, each there with probability `share`."""
        rows = self.rows(0, min(1.0, hi + 0.2))
        q = self.u(i)
        there = (scatter(q, n, 5) < share).float()
        cx, cy = scatter(q, n, 3), scatter(q, n, 4) * (hi - lo) + lo
        big = (scatter(q, n, 6) * 0.7 + 0.6) * size
        dx = const((-1.75, -0.75, 0.45, 1.6), self.device)
        dy = const(
            (-0.3, -0.46, -0.52, -0.28), self.device
        )  # the four puffs of a cloud have their lower sides on one line
        k = const((0.66, 0.98, 1.18, 0.7), self.device)
        x = (cx.unsqueeze(-1) * 1.2 - 0.1 + big.unsqueeze(-1) * dx).flatten(1)
        y = (cy.unsqueeze(-1) + big.unsqueeze(-1) * dy).flatten(1)
        r = (big.unsqueeze(-1) * k).flatten(1)
        w = there.repeat_interleave(4, 1)
        self.paint(colour, self.puffs(x, y, r, w, rows, flat=2.6, soft=soft).mul_(alpha), rows)

    def firs(self, i: int, base: Tensor, n: float, tall: float, colour: Tensor, lo: float = 0.1,
             hi: float = 0.8, share: float = 1.0, tiers: float = 3.0) -> None:  # fmt: skip
        """A row of n firs on the line `base`, about `tall` high, each there with probability `share`."""
        rows = self.rows(lo, hi)
        u = self.x * n + self.u(i) * 31
        cell = u.floor()
        f = (u - cell - 0.5 - (hash_cells(cell, self.u(i), 0.3) - 0.5) * 0.16).abs_()
        height = (hash_cells(cell, self.u(i), 0.7) * 0.55 + 0.6) * tall
        if share < 1:
            height = height * (hash_cells(cell, self.u(i), 0.11) < share) + 1e-3
        v = torch.addcmul((base + 0.02) / height, self.y[:, :, rows], -1 / height)
        step = (v * tiers).frac_().mul_(-0.4).add_(1.0)
        w = step.mul_(1 - v).mul_(0.46)
        self.paint(colour, self.cover(w.sub_(f).mul_(1 / n)), rows)

    def stars(self, i: int, n: int, hi: float, colour: Tensor, size: float = 0.0042) -> None:
        """n stars above the height hi, fading towards it."""
        rows = self.rows(0, hi)
        x, y, k = scatter(self.u(i), n, 7), scatter(self.u(i), n, 8).mul_(hi), scatter(self.u(i), n, 9)
        m = self.splats(x, y, (k.square() * 1.3 + 0.6).mul_(size), None, rows).clamp_(max=1)
        self.paint(colour, m * (1.05 - self.y[:, :, rows] / hi).clamp_(0, 1).sqrt_(), rows)

    def sun(self, cx: Tensor, cy: Tensor, r: Tensor, colour: Tensor, halo: float = 0.5,
            there: Tensor | None = None, hi: float = 1.0) -> None:  # fmt: skip
        """A sun or moon of radius r with a halo. there: 1 in the scenes that have one (None: all)."""
        rows = self.rows(0, hi)
        g = self.glow(cx, cy, r * 3.2, r * 3.2, rows).mul_(halo)
        m = torch.maximum(g, self.disc(cx, cy, r, rows=rows))
        self.paint(colour, m if there is None else m.mul_(there), rows)
