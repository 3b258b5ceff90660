"""Painters of rooms, streets, the sky, space, the sea floor and plain walls. Each paints the place of its name."""

from __future__ import annotations

from torch import Tensor

from t2i.world.places.kit import TAU, Canvas, const, hash_cells, scatter

# One row a mood, columns as in land.COLOURS.
COLOURS = {
    "underwater": "5ad2ea 1678b8 e4d8a4 a8b890 2fa56a f47a72 c8f0fa"
    "|4fc4f4 1450a8 d0d0b8 8aa0a8 2f8f8a f0a05a bfe4ff"
    "|74e4d8 0f7f92 ecdca8 b0ba88 3fa84a e86a9a ccf6ee",
    "space": "0a0820 1a1040 0a0820 0a0820 7a3fb8 2f6fd0 e8e4ff"
    "|060a1c 0c2040 060a1c 060a1c 1f8fa8 8f3f9c e4f0ff"
    "|120618 2a0f34 120618 120618 d0487f 4f3fc0 f4e4f4",
    "city": "5fb0ec e4f2fa a9b0ba 7c848f 7f97b8 4f6788 f6f9fd"
    "|f08a6a ffd9a0 9a8f9c 6a6272 a8748c 6a4a72 ffe6d4"
    "|14204c 5a4f8f 4a5070 2a2f48 2f3a68 1c2448 b4bce8"
    "|8fb6d4 f0f0e8 b4b4b2 86888c 9aa8b4 6a7c90 f8f8f6",
    "room": "f7dcc0 fbe8d4 c88f5c a86f42 9fd8f4 f4f0ea fff8ee"
    "|bcd9d2 d2e8e0 d2a878 b08654 a8dcf6 ffffff fafdf8"
    "|c9c4e6 dedaf2 b88a68 94684c b4e0f4 ffffff f8f6ff"
    "|f3c9c6 f9dedb d0a27e b07f5c a8dcf0 fffaf4 fff4f2",
    "sky": "2f8fea a8dcfa ffffff ffffff ffffff d8ecfb ffffff"
    "|5f9cf0 f4dcec ffffff ffffff fff4f8 e4dcf4 fff8fc"
    "|3fb0ee d4f4f8 ffffff ffffff ffffff d4eef6 ffffff",
    "road": "62b4f0 e4f3fa 6c727c 565b66 8cc05a f8f4e4 fafcfc"
    "|f0a878 ffe4bc 6e6a72 56525c c89a58 fff0d4 fff0e0"
    "|8cc0e8 f4f4ea 767a82 5e626c b4b46a ffffff fcfcf6",
    "stage": "3a1418 6a1f24 b8743f 8a4f2a b01f2c ffe8b8 fff4e4"
    "|1a1438 3a2468 8f6248 64402f 7a2a9c ffe4f4 f6ecff"
    "|101c38 1c3a68 9c7048 6c4a30 1f4fb0 fff8dc f0f4ff",
    "plain": "ffffff ffffff ffffff ffffff ffffff",
}


def underwater(p: Canvas) -> None:
    p.fill(p.top.lerp(p.low, (p.y / 0.85).clamp_(0, 1).pow_(0.75)))
    rows = p.rows(0, 0.8)
    ray = (p.x - p.u(2, 0.2, 0.8)) / (p.y[:, :, rows] + 0.5)
    ray = (ray * 11 + p.u(3) * TAU).sin_().add_((ray * 27).sin_(), alpha=0.5).sub_(0.35).clamp_(0, 0.8)
    p.paint(p.top.lerp(p.white, 0.6), ray.mul_((0.62 - 0.85 * p.y[:, :, rows]).clamp_(min=0)), rows)
    rows = p.rows(0.45, 0.95)
    p.paint(p.low * 0.82, p.below(p.ridge(4, p.h - 0.1, 0.08, 1.2), rows).mul_(0.6), rows)
    sand = p.ridge(5, p.h, 0.025, 0.9)
    p.soil(sand, rows=p.rows(0.6))
    p.mottle(6, 0.5, 6.0, 4.0, p.near * 0.92)
    n = 5  # corals, then weeds that sway
    side = scatter(p.u(7), n, 3)
    x = side * 0.26 + (const((0.0, 1.0, 0.0, 1.0, 1.0), p.device) * 0.74)
    y = p.h.view(-1, 1) + 0.05 + 0.12 * scatter(p.u(8), n, 2)
    p.paint(
        p.col[5].lerp(p.low, 0.15),
        p.puffs(x, y, 0.02 + 0.025 * scatter(p.u(9), n, 1), None, rows, wide=1.1),
        rows,
    )
    x = scatter(p.u(10), n, 5) * 0.24 + const((0.01, 0.75, 0.03, 0.78, 0.0), p.device)
    tall = scatter(p.u(11), n, 6) * 0.25 + 0.2
    foot = p.h.view(-1, 1) + 0.08 + 0.1 * scatter(p.u(12), n, 7)
    v = lambda t: t.view(p.b, n, 1, 1)  # noqa: E731
    rows = p.rows(0.2, 0.98)
    s = (v(foot) - p.y[:, :, rows]) / v(tall)
    sway = (s * 7 + v(x) * 40).sin_().mul_(0.018) + v(x)
    half = (1 - s).clamp_(min=0).sqrt_().mul_(0.013).sub_((s < 0).float())
    d = half - (p.x - sway).abs_()
    p.paint(p.col[4], p.cover(d.amax(1, keepdim=True)), rows)


def space(p: Canvas) -> None:
    p.fill(p.top.lerp(p.low, p.y))
    for k in (0, 1):
        n = 5
        x, y = scatter(p.u(2 + k), n, 1), scatter(p.u(4 + k), n, 2)
        cloud = p.splats(x, y, 0.12 + 0.14 * scatter(p.u(6 + k), n, 3), None, wide=1.25)
        p.paint(p.col[4 + k], cloud.mul_(0.33).clamp_(max=0.6))
    p.stars(8, 90, 1.3, p.white, 0.004)
    side = p.coin(9, 0.5) * 2 - 1
    cx, cy, r = 0.5 + side * p.u(10, 0.26, 0.4), p.u(11, 0.14, 0.3), p.u(12, 0.08, 0.15)
    rows = p.rows(0, 0.62)
    y = p.y[:, :, rows]
    hue = const((1.0, 0.62, 0.4, 0.5, 0.75, 1.0, 0.95, 0.8, 0.5, 0.75, 0.55, 0.95), p.device).view(4, 3)
    base = hue[(p.u(13) * 4).long().clamp_(max=3).view(-1)].view(-1, 3, 1, 1)
    ring = p.coin(14, 0.55)
    rx, ry = (p.x - cx) + (y - cy) * 0.35, (y - cy) - (p.x - cx) * 0.35
    e = (rx.square() + (ry * 4).square()).sqrt_() / r
    band = p.cover((1.75 - e).mul(e - 1.3).mul_(r * 0.8)).mul_(ring).mul_(0.85)
    front = p.cover(ry.clone())
    p.paint(base.lerp(p.white, 0.5), band, rows)
    ball = p.disc(cx, cy, r, rows=rows)
    p.paint(base, ball, rows)
    stripe = (ry * (16 / r) * 0.55).sin_().mul_(0.5).clamp_(min=0)
    p.paint(base * 0.8, stripe.mul_(ball), rows)
    dark = ((p.x - cx + r * 0.35).square_() + (y - cy + r * 0.35).square_()).div_(r * r).sub_(0.55).clamp_(0, 1)
    p.paint(p.top, dark.mul_(ball).mul_(0.75), rows)
    p.paint(base.lerp(p.white, 0.5), band.mul_(front), rows)


def city(p: Canvas) -> None:
    p.sky()
    dark = (p.light.mean(1, keepdim=True) < 0.85).float()
    p.stars(2, 30, 0.4 * 1.0, p.light * dark + p.top * (1 - dark))
    p.clouds(3, p.white.lerp(p.low, 0.3 + 0.6 * dark), 0.05, 0.2, 0.5, 0.06)
    rows = p.rows(0.06, 0.7)
    y = p.y[:, :, rows]
    lamp = const((1.0, 0.87, 0.5), p.device).view(1, 3, 1, 1)
    for k, n in enumerate((9.0, 6.0)):
        u = p.x * n + p.u(4 + k) * 17
        cell = u.floor()
        f = (u - cell - 0.5).abs_()
        tall = hash_cells(cell, p.u(6 + k), 0.3) * 0.24 + 0.1 + 0.08 * (1 - k)
        slim = hash_cells(cell, p.u(6 + k), 0.6) * 0.1 + 0.4
        top = p.h - tall
        body = p.below(top, rows).mul_(p.cover((slim - f) / n))
        wall = p.col[4 + k].lerp(p.low, 0.35 * (1 - k))
        p.paint(wall, body, rows)
        wx, wy = u * 4, (y - p.h) * (n * 4.2)
        cx, cy = wx.floor(), wy.floor()
        px = p.cover((0.3 - (wx - cx - 0.5).abs_()) / (4 * n))
        py = p.cover((0.28 - (wy - cy - 0.5).abs_()) / (4.2 * n))
        lit = (hash_cells(cx, p.u(8), 0.2) * 7.13 + hash_cells(cy, p.u(9), 0.9) * 5.71).frac_()
        lit = lit.sub_(0.35 + 0.15 * dark).mul_(-1e4).clamp_(0, 1)
        inside = p.cover((slim - 0.06 - f) / n).mul_(px)
        win = (py * inside).mul_(p.below(top + 0.014, rows))
        p.paint(wall.lerp(p.low, 0.35) * (1 - 0.15 * dark), win * 0.8, rows)
        p.paint(lamp, win.mul_(lit), rows)
    p.soil(rows=p.rows(0.5))
    rows = p.rows(0.5)  # kerb and a street along the houses
    y = p.y[:, :, rows] - p.h
    p.paint(p.far.lerp(p.white, 0.35), p.cover(intersect(y, 0.05 - y)).expand(-1, -1, -1, p.size), rows)
    mark = p.cover((0.25 - ((p.x + p.u(10)) * 5).frac_().sub_(0.5).abs_()) / 5)
    p.paint(p.far.lerp(p.white, 0.6), p.cover(intersect(y - 0.21, 0.228 - y)).mul(mark), rows)


def intersect(a: Tensor, b: Tensor) -> Tensor:
    """The smaller of two signed distances: the intersection of two shapes."""
    return a.minimum(b)


def room(p: Canvas) -> None:
    p.sky()
    d = p.device
    one = lambda t: t.view(-1, 1)  # noqa: E731
    rows = p.rows(0, 0.75)
    stripes = p.cover((0.25 - (p.x * p.u(2, 7, 12)).frac().sub_(0.5).abs_()) / 9).mul_(p.coin(3, 0.4) * 0.35)
    p.paint(p.low.lerp(p.white, 0.3), stripes.expand(-1, -1, p.size, -1)[:, :, rows], rows)
    side = one(p.coin(4, 0.5)) * 2 - 1
    cx, cy = 0.5 + side * one(p.u(5, 0.24, 0.3)), one(p.u(6, 0.24, 0.3))
    w, hh = one(p.u(7, 0.11, 0.15)), one(p.u(8, 0.12, 0.16))
    p.paint(p.top * 0.86, p.boxes(cx - w - 0.008, cx + w + 0.032, cy - hh, cy + hh + 0.035, rows) * 0.5, rows)
    p.paint(p.col[5], p.boxes(cx - w - 0.022, cx + w + 0.022, cy - hh - 0.022, cy + hh + 0.022, rows), rows)
    pane = p.boxes(cx - w, cx + w, cy - hh, cy + hh, rows)
    p.paint(p.col[4].lerp(p.white, p.y[:, :, rows] * 1.1), pane, rows)
    hill = p.ridge(9, cy.view(-1, 1, 1, 1) + 0.07, 0.03, 1.6)
    p.paint(const((0.56, 0.78, 0.45), d).view(1, 3, 1, 1), p.below(hill, rows).mul_(pane), rows)
    bars = p.boxes(const((0.0,), d) + cx - 0.006, cx + 0.006, cy - hh, cy + hh, rows)
    bars += p.boxes(cx - w, cx + w, cy - 0.006, cy + 0.006, rows)
    sill = p.boxes(cx - w - 0.04, cx + w + 0.04, cy + hh + 0.018, cy + hh + 0.038, rows)
    p.paint(p.col[5], bars.add_(sill).clamp_(max=1), rows)
    px, py, s = 0.5 - side * one(p.u(10, 0.22, 0.32)), one(p.u(11, 0.22, 0.3)), one(p.u(12, 0.07, 0.1))
    p.paint(p.top * 0.86, p.boxes(px - s, px + s + 0.03, py - s, py + s + 0.03, rows) * 0.5, rows)
    p.paint(p.near * 0.9, p.boxes(px - s - 0.018, px + s + 0.018, py - s - 0.018, py + s + 0.018, rows), rows)
    art = p.boxes(px - s, px + s, py - s, py + s, rows)
    p.paint(p.col[5], art, rows)
    hue = const((0.92, 0.5, 0.42, 0.35, 0.6, 0.75, 0.95, 0.75, 0.35, 0.45, 0.7, 0.55), d).view(4, 3)
    pick = hue[(p.u(13) * 4).long().clamp_(max=3).view(-1)].view(-1, 3, 1, 1)
    v = lambda t: t.view(-1, 1, 1, 1)  # noqa: E731
    p.paint(pick, p.disc(v(px), v(py), v(s) * 0.55, rows=rows).mul_(art), rows)
    p.soil(rows=p.rows(0.6))
    rows = p.rows(0.6)
    t = p.deep()[:, :, rows]
    k = (t + 0.22).log() * 4.2 + 20  # frac keeps the sign: stay positive
    board = p.cover((0.46 - (k.frac() - 0.5).abs_()) * (t + 0.22) / 4.2)
    on = p.below(p.h, rows)
    p.paint(p.near * 0.82, (1 - board).mul_(on).mul_(0.6).expand(-1, -1, -1, p.size), rows)
    seam = ((p.x - 0.5) / (t + 0.9) * 3.2 + hash_cells(k.floor(), p.u(14), 0.4) * 5 + 20).frac_().sub_(0.5).abs_()
    p.paint(p.near * 0.82, p.cover((seam - 0.485) * (t + 0.9) / 3.2).mul_(0.5).mul_(on), rows)
    skirt = p.cover(intersect(p.y - p.h + 0.03, p.h - p.y))[:, :, rows]
    p.paint(p.col[5], skirt.expand(-1, -1, -1, p.size), rows)
    rug = p.disc(p.u(15, 0.4, 0.6), p.h + 0.2, p.u(16, 0.3, 0.38), 3.2, rows).mul_(p.coin(17, 0.5))
    p.paint(pick.lerp(p.white, 0.45), rug * 0.85, rows)


def sky(p: Canvas) -> None:
    p.fill(p.top.lerp(p.low, p.y.pow(0.9)))
    p.sun(
        p.u(2, 0.12, 0.88),
        p.u(3, 0.1, 0.25),
        p.u(4, 0.05, 0.08),
        const((1.0, 0.95, 0.68), p.device).view(1, 3, 1, 1),
        0.5,
        p.coin(5, 0.5),
    )
    p.clouds(6, p.col[5], 0.3, 0.6, 0.5, 0.07, 0.7, n=3)
    p.clouds(7, p.col[4], 0.05, 0.4, 0.7, 0.085, 0.95, n=3)
    for k in (0, 1):
        n = 8
        x = (const(tuple(j / (n - 1) for j in range(n)), p.device) + 0.1 * scatter(p.u(8 + k), n, 1)).contiguous()
        y = 0.93 + 0.08 * k + 0.1 * (scatter(p.u(10 + k), n, 2) - 0.6)
        m = p.puffs(x, y, 0.085 + 0.06 * scatter(p.u(12 + k), n, 3), None, p.rows(0.5), soft=0.3)
        p.paint(p.col[5 - k], m, p.rows(0.5))


def road(p: Canvas) -> None:
    p.sky()
    p.clouds(2, p.white.lerp(p.low, 0.2), 0.06, 0.28, 0.6)
    rows = p.rows(0.3, 0.7)
    grass = p.col[4]
    p.paint(grass.lerp(p.low, 0.55) * 0.95, p.below(p.ridge(3, p.h - 0.06, 0.04, 1.0), rows), rows)
    rows = p.rows(0.44)
    t = p.deep()[:, :, rows]
    on = p.below(p.h, rows)
    p.paint(grass.lerp(p.low, 0.25).lerp(grass * 0.9, t), on.expand(-1, -1, -1, p.size), rows)
    bend = 0.5 + (p.u(4) - 0.5) * 0.35 * (1 - t).square() + (p.u(5) - 0.5) * 0.12 * t
    half = 0.012 + 0.46 * t
    dx = (p.x - bend).abs_()
    d = half - dx
    p.paint(p.far.lerp(p.near, t), p.cover(d.clone()).mul_(on), rows)
    line = p.cover(intersect(d - 0.06 * half, 0.11 * half - d)).mul_(0.9).mul_(on).mul_((t * 12).clamp_(0, 1))
    p.paint(p.col[5], line, rows)
    z = 1.5 / (t + 0.08) + p.u(6)
    dash = p.cover((0.26 - (z.frac() - 0.5).abs_()) * (t + 0.08).square() / 1.5)
    mid = p.cover(0.03 * half - dx).mul_(dash).mul_(on).mul_((t * 12).clamp_(0, 1))
    p.paint(p.col[5], mid, rows)


def stage(p: Canvas) -> None:
    p.sky()
    folds = (p.x * p.u(2, 60, 90) + p.u(3) * TAU).sin_()
    cloth = p.col[4] * (1 + 0.22 * folds)
    p.paint(cloth * 0.62, (p.y < 2).float().mul(p.u(4, 0.5, 0.9)))
    p.soil(rows=p.rows(0.58))
    rows = p.rows(0.58)
    t = p.deep()[:, :, rows]
    seam = ((p.x - 0.5) / (t + 0.8) * 9 + 50).frac_().sub_(0.5).abs_()
    p.paint(p.near * 0.75, p.cover((seam - 0.47) * (t + 0.8) / 9).mul_(p.below(p.h, rows)).mul_(0.7), rows)
    beam = p.col[5]
    for k in range(3):
        x0, x1 = 0.5 + (k - 1) * 0.42, 0.5 + (k - 1) * (0.2 * p.u(5 + k))
        s = ((p.y + 0.05) / (p.h + 0.2)).clamp_(max=1.3)
        mid = x0 + (x1 - x0) * s
        half = 0.02 + 0.17 * s
        edge = ((half - (p.x - mid).abs_()) / (half * 0.5)).clamp_(0, 1)
        strong = (0.75 if k == 1 else 0.45) * p.coin(8 + k, 0.8 if k != 1 else 1.1)
        p.paint(beam, edge.mul_((1 - 0.75 * s).clamp_(min=0) * 0.55 * strong))
        pool = p.glow(x1, p.h + 0.17, 0.24, 0.085, rows).mul_(0.75 * strong)
        p.paint(beam, pool.mul_(p.below(p.h, rows)), rows)
    side = (p.x - 0.5).abs_()
    swag = p.u(11, 0.36, 0.4) + 0.05 * (p.y * 2.4 - 0.6).square_() + 0.012 * (p.y * 7).sin_()
    p.paint(cloth, p.cover(side - swag).mul_(p.cover(p.h + 0.14 - p.y)))
    rows = p.rows(0, 0.3)
    hang = 0.085 + 0.05 * (p.x * TAU * 2 + p.u(12) * 0).sin_().abs_()
    valance = 1 - p.below(hang, rows, steep=True)
    p.paint(cloth * 1.12, valance, rows)
    trim = p.below(hang - 0.016, rows, steep=True).mul_(valance)
    p.paint(const((0.96, 0.78, 0.36), p.device).view(1, 3, 1, 1), trim, rows)


def plain(p: Canvas) -> None:
    r2 = (p.x - 0.5).square_() + (p.y - p.u(2, 0.35, 0.5)).square_()
    lit = p.u(3, 0.08, 0.2) * 1.0
    dark = 1 - lit * r2.sub_(0.12).mul_(0.75)
    tone = dark + (p.y - 0.5) * (p.u(4) - 0.6) * 0.1
    gain = tone.mul_(p.u(5, 0.96, 1.03))
    white = (gain - 1).clamp(0, 1) * 1.5
    p.image = (p.shade * gain.clamp(max=1)).lerp_(p.white, white).contiguous()
