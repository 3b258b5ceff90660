"""Painters of snow, sand, sea, woods and weather. Each function paints the place of its name on a `Canvas`."""

from __future__ import annotations

from torch import Tensor

from t2i.world.places.kit import Canvas, const, scatter

# One row a mood. Columns: sky above, sky at the horizon, ground far, ground near, accents, light on things.
COLOURS = {
    "snow": "7db9f2 e4f2fd f2f8fe dbe9f8 b9d0ea 3f6f73 f4f9ff"
    "|b7c6d8 eaeff5 f3f6fa dde6f0 c2cfdf 55727c f0f4fa"
    "|7f7fc4 f9c9d6 eee6f7 c9cbec a9a8d8 3f4f7f efe6ff"
    "|4f8fdc bfe0fb ffffff d5e6fa a7c6ea 2f5f5f f8fbff",
    "beach": "38a9ee c9f0fb f8e0ac eecb86 1fa7c9 7fe3dc fffaf0"
    "|5cc3f5 e6f8fb fbe7bd f2d296 27bfc4 a0efe0 fffaf0"
    "|4f9be0 ffe3c4 f6d5a4 e6b97c 2d8fc0 86d3de fff0e0",
    "forest": "8fd0c8 e2f2c8 6fae4f 3f8238 2f6b3a 1f4f33 f0faea"
    "|a8dcea f0f6d2 86b958 4f8d3a 3c7a3f 275a38 f4faea"
    "|6fb0a8 cfe4b4 5f9a4a 356f36 27603c 17432f e8f5e4",
    "desert": "5fb6f0 fdeac8 f0bd76 dd9448 cf8148 5f9a57 fff4e0"
    "|f2a766 ffe0a8 eaa35c c97a3c b5643c 4f7d4c ffeacc"
    "|86c9ee f7eedb f5cd92 e3a862 d89a66 6aa65c fff6e6",
    "night": "0d1440 35508f 23416a 142a4c 1a2f5c fff4c8 a9b8ee"
    "|0a0f2e 3b3f86 2b3a6a 171f45 1d2450 fff8dc aeb0ee"
    "|0b1c3c 2a6688 1f4a5c 10303f 153a50 f4f8ff a4c0e4",
    "rain": "66778c b4c0ca 7f9a80 56755c 8496a2 b9c8d2 cfdae2"
    "|56687e a2b3c2 86977f 5d7060 77899a aebfcc c8d4e0"
    "|78848f c4cacc 8b9b84 667a64 949ea4 c4cdd2 d2dade",
    "sunset": "5a4a9c ffae6b 8a5a6e 4a3358 f4735f fff0a8 ffdcc0"
    "|e0587a ffc56e 8f5560 4f2f4c f08a58 fff4b4 ffd9b8"
    "|7f4fa8 ff9a8a 7a4f80 3f2c5c e8608c ffe3a0 ffd4cc",
}


def snow(p: Canvas) -> None:
    p.sky()
    p.clouds(2, p.top.lerp(p.white, 0.75), 0.05, 0.3, 0.5)
    p.paint(
        p.col[4].lerp(p.low, 0.45),
        p.below(p.ridge(3, p.h - 0.1, 0.09, 0.9), p.rows(0.28, 0.75)),
        p.rows(0.28, 0.75),
    )
    hill = p.ridge(4, p.h - 0.02, 0.035, 1.1)
    p.firs(5, hill + 0.02, 13.0, 0.17, p.col[5].lerp(p.low, 0.35), 0.2, 0.72, share=0.6)
    p.soil(hill)
    rows = p.rows(0.5)
    drift = p.ridge(6, p.h + 0.14, 0.05, 0.7)
    p.paint(
        p.far.lerp(p.near, 0.75),
        p.below(drift, rows).mul_((1.55 + (drift - p.y[:, :, rows]) * 5).clamp_(0, 1)),
        rows,
    )
    p.mottle(7, 0.6, 5.0, 3.0)


def beach(p: Canvas) -> None:
    sea, shore = p.h - p.u(7, 0.1, 0.16), p.h
    p.sky(end=sea)
    p.sun(
        p.u(2, 0.15, 0.85),
        p.u(3, 0.1, 0.25),
        p.u(4, 0.05, 0.075),
        const((1.0, 0.96, 0.72), p.device).view(1, 3, 1, 1),
        there=p.coin(5, 0.5),
        hi=0.6,
    )
    p.clouds(6, p.white, 0.12, 0.34, 0.5, 0.055)
    rows = p.rows(0.4, 0.75)
    t = ((p.y - sea) / (shore - sea)).clamp_(0, 1)
    p.paint(p.col[4].lerp(p.col[5], t)[:, :, rows], p.below(sea, rows), rows)
    glint = ((p.y[:, :, rows] - sea) * 260).sin_().mul((p.x * 23 + p.u(8) * 9).sin_()).clamp_(min=0).mul_(0.25)
    p.paint(p.low, glint.mul_(p.below(sea, rows)), rows)
    edge = p.ridge(8, shore, 0.018, 1.0)
    p.paint(p.white, p.below(edge - 0.016, rows).mul_(0.9), rows)
    p.soil(edge, rows=p.rows(0.45))
    wet = p.y[:, :, p.rows(0.45, 0.8)] - edge
    p.paint(
        p.near * 0.86,
        (1 - wet / 0.045).clamp_(0, 1).mul_((wet * p.size).clamp_(0, 1)).mul_(0.8),
        p.rows(0.45, 0.8),
    )
    p.mottle(9, 0.55, 5.0, 4.0, p.near * 0.95)
    palm(p, 10)


def palm(p: Canvas, i: int) -> None:
    """A palm tree at the left or the right edge, in three pictures of four."""
    rows = p.rows(0.02, 0.72)
    side = p.coin(i + 1, 0.5) * 2 - 1
    X = (p.x - 0.5) * side - p.u(i + 2, 0.33, 0.43)  # the trunk's foot, mirrored
    there = p.coin(i, 0.75)
    foot, head = p.h + 0.04, p.u(i + 3, 0.16, 0.24)
    t = ((foot - p.y) / (foot - head)).clamp(0, 1)  # 0 foot, 1 head
    lean = t.square() * -0.07
    y = p.y[:, :, rows]
    trunk = p.cover((0.017 - 0.006 * t[:, :, rows]) - (X - lean[:, :, rows]).abs_())
    trunk.mul_(p.cover(foot - y)).mul_(p.cover(y - head)).mul_(there)
    p.paint(const((0.55, 0.38, 0.24), p.device).view(1, 3, 1, 1), trunk, rows)
    dx = X + 0.07
    dy = (y - head) - dx.square() * 3.2  # the fronds droop
    r = (dx.square() + dy.square()).sqrt_().add_(1e-4)
    spoke = (dx / r).clamp_(-1, 1).acos_().mul_(3.5).cos_().abs_()
    leaf = p.cover(spoke.mul_(0.13).add_(0.055).sub_(r).mul_(0.7)).mul_(there)
    p.paint(const((0.16, 0.55, 0.32), p.device).view(1, 3, 1, 1), leaf, rows)


def forest(p: Canvas) -> None:
    p.sky()
    p.sun(p.u(2, 0.2, 0.8), p.u(3, 0.15, 0.35), p.u(4, 0.1, 0.16), p.low, 0.6, hi=0.8)
    base = p.ridge(5, p.h, 0.015, 1.3)
    p.firs(6, base, 11.0, 0.34, p.col[4].lerp(p.low, 0.55), 0.1, 0.7)
    p.firs(7, base + 0.01, 8.0, 0.42, p.col[4].lerp(p.low, 0.15), 0.1, 0.7)
    p.soil(base)
    p.mottle(8, 0.5, 6.0, 4.0, p.low.lerp(p.far, 0.6))
    frame(p, 9, p.col[5])


def frame(p: Canvas, i: int, colour: Tensor) -> None:
    """Large dark firs at both edges of the picture."""
    rows = p.rows(0.0, 0.86)
    u = (p.x - 0.5).abs_()
    side = (p.x > 0.5).float()
    foot = p.h + 0.1 + 0.1 * (p.u(i) * (1 - side) + p.u(i + 1) * side)
    top = 0.02 + 0.2 * (p.u(i + 1) * (1 - side) + p.u(i + 2) * side)
    v = (foot - p.y[:, :, rows]) / (foot - top)
    w = (v * 4).frac_().mul_(-0.4).add_(1.0).mul_(1 - v).mul_(0.2)
    p.paint(colour, p.cover(w.sub_(0.53 - u)).mul_(p.cover(foot - p.y[:, :, rows])), rows)


def desert(p: Canvas) -> None:
    p.sky()
    p.sun(
        p.u(2, 0.12, 0.88),
        p.u(3, 0.1, 0.28),
        p.u(4, 0.055, 0.09),
        const((1.0, 0.95, 0.7), p.device).view(1, 3, 1, 1),
        hi=0.7,
    )
    rows = p.rows(0.25, 0.75)
    mesa = p.ridge(5, 0.0, 1.0, 0.8, 0.6)
    mesa = p.h - 0.14 * ((mesa - 0.25) * 9).clamp_(0, 1) - 0.008 * (p.x * 40 + p.u(5) * 50).sin_()
    p.paint(p.col[4].lerp(p.low, 0.3), p.below(mesa, rows, steep=True).mul_(p.coin(6, 0.7)), rows)
    p.soil(p.ridge(7, p.h, 0.03, 0.8, 0.5))
    for k, (d, f) in enumerate(((0.1, 0.75), (0.24, 0.6))):
        rows = p.rows(0.42 + d, 1)
        dune = p.ridge(8 + k, p.h + d, 0.05, f, 0.3)
        m = p.below(dune, rows).mul_((1 + (dune - p.y[:, :, rows]) * 4).clamp_(0, 1)).mul_(0.75)
        p.paint(p.far.lerp(p.near, 0.9 - 0.25 * k) * (0.93 + 0.09 * k), m, rows)
    cactus(p, 10)


def cactus(p: Canvas, i: int) -> None:
    """Two cacti at the sides, one nearer than the other."""
    d, one = p.device, p.coin(i, 0.5).view(-1, 1)
    rows = p.rows(0.25, 0.85)
    big, foot = p.u(i + 1, 0.8, 1.15).view(-1, 1), (p.h + 0.06).view(-1, 1)
    x0 = (one * 2 - 1) * p.u(i + 2, 0.34, 0.42).view(-1, 1) + 0.5
    x1 = 0.5 - (one * 2 - 1) * p.u(i + 3, 0.25, 0.42).view(-1, 1)
    for x, k in ((x0, big), (x1, big * 0.55)):
        px = x + k * const((0.0, -0.055, -0.08, 0.055, 0.08), d)
        py = foot - k * const((0.12, 0.08, 0.12, 0.12, 0.16), d)
        hx = k * const((0.002, 0.025, 0.0, 0.025, 0.0), d)
        hy = k * const((0.12, 0.0, 0.04, 0.0, 0.04), d)
        r = k * const((0.024, 0.014, 0.015, 0.014, 0.015), d)
        p.paint(p.col[5].lerp(p.low, 0.12), p.pills(px, py, hx, hy, r, rows), rows)


def night(p: Canvas) -> None:
    p.sky()
    p.stars(2, 60, 0.62, p.col[5])
    mx, my, r = p.u(3, 0.12, 0.88), p.u(4, 0.1, 0.26), p.u(5, 0.055, 0.09)
    rows = p.rows(0, 0.7)
    p.paint(p.col[5], p.glow(mx, my, r * 2.6, r * 2.6, rows).mul_(0.35), rows)
    moon = p.disc(mx, my, r, rows=rows)
    bite = p.disc(mx + r * 0.5, my - r * 0.2, r * 0.9, rows=rows).mul_(p.coin(6, 0.5))
    p.paint(p.col[5], moon.mul_(1 - bite), rows)
    rows = p.rows(0.35, 0.85)
    p.paint(p.col[4].lerp(p.low, 0.4), p.below(p.ridge(7, p.h - 0.08, 0.06, 0.9), rows), rows)
    hill = p.ridge(8, p.h - 0.01, 0.03, 1.2)
    p.firs(9, hill + 0.01, 15.0, 0.12, p.col[4] * 0.8, 0.3, 0.75, share=0.5)
    p.soil(hill)
    p.mottle(10, 0.4, 5.0, 3.0, p.far * 1.2)


def rain(p: Canvas) -> None:
    p.sky()
    p.clouds(2, p.top * 0.82, -0.02, 0.16, 0.95, 0.13, 0.8, n=5)
    p.clouds(3, p.top.lerp(p.low, 0.5), -0.04, 0.1, 0.9, 0.11, 0.7, n=4)
    rows = p.rows(0.3, 0.8)
    p.paint(p.col[4].lerp(p.low, 0.25), p.below(p.ridge(4, p.h - 0.07, 0.05, 1.1), rows), rows)
    p.paint(p.far.lerp(p.col[4], 0.55), p.below(p.crowns(5, 10, p.h, 0.05), rows, steep=True), rows)
    p.soil()
    rows = p.rows(0.5)
    n = 7
    x, y = scatter(p.u(6), n, 1), scatter(p.u(6), n, 2)
    y = p.h.view(-1, 1) + (0.06 + 0.92 * y) * (1 - p.h.view(-1, 1))
    puddle = p.puffs(x, y, 0.02 + (y - p.h.view(-1, 1)) * 0.11, None, rows, wide=3.2)
    p.paint(p.col[5], puddle.mul_(0.85), rows)


def sunset(p: Canvas) -> None:
    sea = p.h - 0.13
    t = p.y / sea
    mid = p.col[4]
    up = p.top.lerp(mid, (t * 1.6).clamp_(0, 1))
    p.fill(up.lerp(p.low, (t * 2 - 0.9).clamp_(0, 1)))
    cx, r = p.u(2, 0.25, 0.75), p.u(3, 0.1, 0.15)
    p.sun(cx, sea - r * p.u(4, 0.1, 0.7), r, p.col[5], 0.7)
    rows = p.rows(0.05, 0.55)
    for k in (5, 6):
        n = 4
        x, y = scatter(p.u(k), n, 1), scatter(p.u(k), n, 2) * 0.3 + 0.08
        band = p.puffs(x, y, scatter(p.u(k), n, 3) * 0.02 + 0.022, None, rows, wide=6.0, soft=0.5)
        p.paint(p.low if k == 5 else mid.lerp(p.top, 0.35), band.mul_(0.65), rows)
    rows = p.rows(0.46, 0.78)
    s = ((p.y - sea) / 0.13).clamp_(0, 1)
    p.paint(p.low.lerp(p.top * 0.8, s.sqrt())[:, :, rows], p.below(sea, rows), rows)
    path = ((p.x - cx) / (r * (0.8 + s[:, :, rows]))).square_().neg_().exp_()
    path.mul_(((p.y[:, :, rows] - sea) * 300 + (p.x * 31).sin_()).sin_().mul_(0.35).add_(0.5)).mul_(p.below(sea, rows))
    p.paint(p.col[5], path, rows)
    p.soil(p.ridge(7, p.h, 0.025, 0.8))
    p.mottle(8, 0.35, 5.0, 3.0, p.far.lerp(p.low, 0.35))
