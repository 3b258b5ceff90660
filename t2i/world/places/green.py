"""Painters of meadows, woods and mountains. Each function paints the place of its name on a `Canvas`."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from t2i.world.places.kit import TAU, Canvas, const, scatter

# One row a mood, columns as in land.COLOURS.
COLOURS = {
    "mountains": "4d9fea d3ebfa 86b866 5a9548 6f86ae fbfdff fafcff"
    "|8fb6de eef2f2 93b477 66934f 8090aa fdfdff f8fafc"
    "|5f7fd0 fbd8d0 8aa872 5c8450 7a72a8 ffeef0 fff0ee",
    "field": "56b4f4 dff3fb b4d85a 76b53c 94c64e 4f9440 fdfdf4"
    "|7cc6f2 f4f7e0 e8cd5c cfa63c d8bc58 7a9a48 fffaea"
    "|66bdf0 e8f6f2 93d068 55a844 7cc05a 3f8a4c fafdf4",
    "river": "66bdf2 e2f4fa 9fd46c 5fa648 4aa8e0 bfe9fa f8fdf8"
    "|8fcbe8 f6f4dc b2cf6a 76a648 4fb4d2 cdf0f2 fffaf0"
    "|5aa6e8 d6ecfc 86c878 4a9656 3d93d8 a6dcf8 f4faff",
    "autumn": "9fc8e4 fbeccc e0a04a b8702e e2702c c23f2c fff0dc"
    "|c8d4dc faf0dc d89a50 a8642f ea9a30 b8442c fff0e0"
    "|f0b98a ffe8c0 d88f46 a35f30 d85a30 f2b03c ffe8cc",
    "jungle": "4fb89a d4f2b0 4f9a3c 23622f 1f7a44 0f4a34 e4f6dc"
    "|6fc8b0 ecf6b8 5aa046 286a34 2a8a4a 13523a eaf6dc"
    "|3c9c8c b0e4a4 3f8c40 1b5630 18703f 0b4030 dcf2d8",
    "garden": "7ccaf4 e6f6fa a2da70 66b84c 4a9c4a 2f7c40 fcfdf6"
    "|a2d8f2 faf4e6 acd874 74b850 58a450 3a8444 fdfaf2"
    "|6cb6f0 d8eefc 8fd07a 52a850 3f944c 267040 f8fcf8",
    "volcano": "3a1c2f c9502f 4f3034 2a191f 3c2530 ff8a2a ffc8a8"
    "|55262c e8793a 5a3834 301e20 4a2c30 ffa23a ffd0ac"
    "|2a1a38 a8405a 463040 241a26 38253a ff6f3a f8bcb0",
}


def mountains(p: Canvas) -> None:
    p.sky()
    p.clouds(2, p.col[5], 0.06, 0.28, 0.45, 0.06)
    rows = p.rows(0.04, 0.72)
    y = p.y[:, :, rows]
    zig = (p.x * 17 + p.u(3) * 7).sin_() * 0.6 + (p.x * 41 + p.u(4) * 7).sin_() * 0.4
    for k in range(4):
        back = k < 2
        cx = p.u(5 + k, 0.05, 0.45) + (0.45 if k % 2 else 0.05)
        top = p.u(9 + k, 0.1, 0.2) + (0.04 if back else 0.14)
        slope = p.u(13 + k % 2, 1.0, 1.35)
        dx = p.x - cx
        tent = top + dx.abs() * slope + 0.012 * (zig - 0.3)
        m = p.below(tent, rows, steep=True)
        rock = p.col[4].lerp(p.low, 0.45 if back else 0.1)
        face = (dx + 0.03 * zig).add(y - top, alpha=-0.22)
        shade = p.cover(face)
        cap = p.cover((top + 0.1 + 0.035 * zig) - y + dx.abs() * 0.35)
        p.paint(rock, m, rows)
        p.paint(rock * 0.84, shade * m, rows)
        p.paint(p.col[5].lerp(p.low, 0.15), cap.mul_(m), rows)
        p.paint(rock.lerp(p.col[5], 0.55), cap.mul_(shade), rows)
    hill = p.ridge(17, p.h, 0.025, 1.0)
    p.firs(18, hill + 0.01, 19.0, 0.09, p.near * 0.72, 0.4, 0.72, share=0.75)
    p.soil(hill)
    p.mottle(19, 0.4, 5.0, 3.0, p.far.lerp(p.low, 0.2))


def field(p: Canvas) -> None:
    p.sky()
    p.sun(
        p.u(2, 0.1, 0.9),
        p.u(3, 0.1, 0.22),
        p.u(4, 0.05, 0.075),
        const((1.0, 0.97, 0.75), p.device).view(1, 3, 1, 1),
        0.5,
        p.coin(5, 0.6),
        0.6,
    )
    p.clouds(6, p.white, 0.1, 0.32, 0.75)
    rows = p.rows(0.32, 0.74)
    p.paint(p.col[5].lerp(p.low, 0.5), p.below(p.ridge(7, p.h - 0.05, 0.035, 0.9), rows), rows)
    line = p.ridge(8, p.h, 0.012, 0.6)
    p.paint(p.col[5], p.below(p.crowns(9, 11, line, 0.026), rows, steep=True), rows)
    p.soil(line)
    rows = p.rows(0.47)  # furrows meet in a point above the horizon
    y = (p.y - p.h + 0.06).clamp_(min=0.02)[:, :, rows]
    t = p.deep()[:, :, rows]
    furrow = ((p.x - p.u(10, 0.2, 0.8)) / y).mul_(7.0).sin_().mul_(1.6).clamp_(-1, 1).mul_(0.5).add_(0.5)
    p.paint(p.near * 0.9, furrow.mul_(((t - 0.06) * 2.5).clamp_(0, 0.5)).mul_(p.below(line, rows)), rows)


def river(p: Canvas) -> None:
    p.sky()
    p.clouds(2, p.white, 0.08, 0.3, 0.6)
    rows = p.rows(0.28, 0.72)
    p.paint(p.near.lerp(p.low, 0.6), p.below(p.ridge(3, p.h - 0.07, 0.05, 0.9), rows), rows)
    line = p.ridge(4, p.h - 0.01, 0.012, 0.8)
    p.paint(p.near.lerp(p.low, 0.2) * 0.9, p.below(p.crowns(5, 9, line, 0.04), rows, steep=True), rows)
    p.soil(line)
    p.mottle(6, 0.4, 6.0, 4.0, p.far.lerp(p.low, 0.15))
    rows = p.rows(0.44)
    t = p.deep()
    bend, half = course(p.u, t)
    d = half[:, :, rows] - (p.x - bend[:, :, rows]).abs_()
    on = p.below(p.h + 0.008, rows)
    p.paint(p.near * 0.8, p.cover(d + 0.008 + 0.012 * t[:, :, rows]).mul_(on), rows)
    water = p.cover(d.clone()).mul_(on)
    p.paint(p.col[4].lerp(p.col[5], 0.75 * (1 - t))[:, :, rows], water, rows)
    shine = ((p.y[:, :, rows] * 42) + (p.x * 9 + p.u(11) * 9).sin_()).sin_().sub_(0.75).mul_(5).clamp_(0, 0.6)
    p.paint(p.col[5], shine.mul_((d * 18).clamp_(0, 1)), rows)


def course(u: Callable[..., Tensor], t: Tensor) -> tuple[Tensor, Tensor]:
    """Middle and half width of the river at depth t (0 horizon, 1 lower edge). u: as `Canvas.u`."""
    bend = (t.sqrt() * 6.5 + u(7) * TAU).sin_() * (0.05 + 0.16 * t) + u(8, 0.35, 0.65)
    return bend + (u(9) - 0.5) * 0.5 * t, 0.015 + 0.17 * t * u(10, 0.8, 1.2)


def autumn(p: Canvas) -> None:
    p.sky()
    n = 9
    rows = p.rows(0.05, 0.8)
    hill = p.ridge(2, p.h, 0.015, 1.0)
    for k, shade in enumerate((p.col[5].lerp(p.low, 0.5), p.col[4].lerp(p.low, 0.12), p.col[5].lerp(p.col[4], 0.2))):
        x = (scatter(p.u(3 + k), n, k) + const(tuple(float(j) for j in range(n)), p.device)) / n
        tall = scatter(p.u(6 + k), n, 3)
        r = 0.05 + 0.03 * tall
        there = (scatter(p.u(9 + k), n, 5) < (1.0, 0.75, 0.5)[k]).float()
        y = p.h.view(-1, 1) - 0.07 - 0.09 * tall - (0.06, 0.0, -0.03)[k]
        r = r * there + 1e-3
        trunk = p.boxes(x - 0.09 * r, x + 0.09 * r, y, p.h.view(-1, 1).expand_as(y) + 0.02, rows)
        p.paint(const((0.42, 0.27, 0.2), p.device).view(1, 3, 1, 1).lerp(p.low, 0.25), trunk, rows)
        p.paint(shade, p.puffs(x, y, r * 1.1, None, rows, wide=1.1), rows)
    p.soil(hill)
    leaves(p, 12)


def leaves(p: Canvas, i: int) -> None:
    """Fallen leaves, larger towards the front."""
    rows = p.rows(0.5)
    n, h = 60, p.h.view(-1, 1)
    for k in (0, 1):
        t = scatter(p.u(i), n, 3 + k).square() * 0.96 + 0.03
        x, y = scatter(p.u(i + 1), n, k), h + t * (1 - h)
        m = p.puffs(x, y, 0.004 + 0.013 * t, None, rows, wide=1.5)
        p.paint(p.col[4 + k], m.mul_(0.8), rows)


def jungle(p: Canvas) -> None:
    p.sky()
    p.sun(p.u(2, 0.3, 0.7), p.u(3, 0.2, 0.4), p.u(4, 0.1, 0.2), p.low, 0.7, hi=0.85)
    rows = p.rows(0.05, 0.85)
    for k, f in enumerate((0.6, 0.25)):
        line = p.ridge(5 + k, p.h - 0.2 + 0.12 * k, 0.08, 1.3)
        scallop = (p.x * (9 + 4 * k) * TAU / 2 + p.u(7) * 9).sin_().abs_()
        p.paint(p.col[4].lerp(p.low, f), p.below(line - 0.035 * scallop, rows, steep=True), rows)
    p.soil(p.ridge(8, p.h, 0.02, 1.2))
    p.mottle(9, 0.45, 6.0, 4.0, p.far.lerp(p.low, 0.3))
    fronds(p, 10)


def fronds(p: Canvas, i: int) -> None:
    """Hanging lianas, and large leaves that reach into the picture from its edges."""
    rows = p.rows(0, 0.5)
    top = 0.05 + 0.1 * ((p.x - 0.5).abs_() * 2).square_() + 0.035 * (p.x * 29 + p.u(i) * 9).sin_().abs_()
    p.paint(p.col[5], 1 - p.below(top, rows, steep=True), rows)
    n = 5
    x = scatter(p.u(i + 1), n, 2)
    length = scatter(p.u(i + 2), n, 3) * 0.22 + 0.1
    p.paint(p.col[5], p.boxes(x - 0.005, x + 0.005, length * 0 - 0.1, length, rows), rows)
    d = (p.x - 0.5).abs_().neg_().add_(0.5)  # distance to the nearer edge
    side = (p.x > 0.5).float()
    for k, (up, long, down) in enumerate(((0.16, 0.24, 0.3), (0.3, 0.2, 0.22), (0.06, 0.3, 0.2), (0.2, 0.26, 0.1))):
        rows = p.rows(0.3, 0.98)
        foot = 0.74 + 0.06 * (k % 2) + 0.12 * (p.u(i + 3) * side + p.u(i + 4) * (1 - side))
        s = d / (long * (0.8 + 0.4 * p.u(i + 5 + k)))
        mid = foot - up * 2.2 * s + (up + down) * s.square()
        half = (s * (1 - s)).clamp_(min=0).mul_(0.2 - 0.2 * s).add_(0.006)
        half = half / (1 + ((2 * (up + down) * s - 2.2 * up) * 3).square()).sqrt_().mul_(0.55).clamp_(max=1)
        m = p.cover((half - (p.y[:, :, rows] - mid).abs_()).mul_(0.7)).mul_(p.cover((1 - s) * long))
        p.paint(p.col[5].lerp(p.col[4], 0.25 * k), m, rows)


def garden(p: Canvas) -> None:
    p.sky()
    p.clouds(2, p.white, 0.06, 0.2, 0.5, 0.06)
    rows = p.rows(0.2, 0.72)
    p.paint(p.col[5].lerp(p.low, 0.3), p.below(p.crowns(3, 6, p.h - 0.08, 0.085), rows, steep=True), rows)
    hedge = p.h - p.u(4, 0.1, 0.15) - 0.008 * (p.x * 50 + p.u(5) * 9).sin_().abs_()
    p.paint(p.col[4], p.below(hedge, rows), rows)
    p.paint(p.col[5], p.below(p.h - 0.035, rows).mul_(0.6), rows)
    p.soil()
    rows = p.rows(0.48)  # mown stripes
    y = (p.y - p.h + 0.12)[:, :, rows].clamp_(min=0.05)
    stripe = ((p.x - 0.5) / y).mul_(5.0).add_(p.u(6) * TAU).sin_().mul_(3).clamp_(-1, 1).mul_(0.14).add_(0.14)
    p.paint(p.near * 0.9, stripe.mul_(p.below(p.h, rows)), rows)
    hues = const((0.95, 0.3, 0.42, 1.0, 0.82, 0.25, 1.0, 1.0, 1.0, 0.75, 0.45, 0.9), p.device).view(4, 1, 3, 1, 1)
    n, h = 14, p.h.view(-1, 1)
    for k in range(4):  # beds along the hedge and at the near corners
        x, t = scatter(p.u(7 + k), n, k), scatter(p.u(11 + k), n, k + 4)
        bed = const((1.0,) * 9 + (0.0,) * (n - 9), p.device)
        edge = (x - 0.5).abs().mul(2)
        y = bed * (h - 0.02 + 0.045 * t) + (1 - bed) * (0.99 - 0.13 * t * edge)
        r = bed * 0.011 + (1 - bed) * 0.02
        p.paint(hues[k], p.puffs(x, y, r, None, p.rows(0.45)), p.rows(0.45))


def volcano(p: Canvas) -> None:
    p.sky()
    cx, top = p.u(2, 0.32, 0.68), p.u(3, 0.2, 0.3)
    fire = p.col[5]
    rows = p.rows(0, 0.8)
    p.paint(fire, p.glow(cx, top, 0.2, 0.17, rows).mul_(0.75), rows)
    n = 7
    k = const(tuple(j / (n - 1) for j in range(n)), p.device)
    x = cx.view(-1, 1) + (p.u(4).view(-1, 1) - 0.5) * 0.5 * k + 0.05 * (scatter(p.u(5), n, 2) - 0.5)
    y = top.view(-1, 1) * (1 - 1.15 * k) - 0.01
    smoke = p.puffs(x, y, 0.045 + 0.05 * k.expand_as(x), None, rows, soft=0.6)
    p.paint(p.col[4].lerp(p.low, 0.25), smoke.mul_(0.9), rows)
    dx = p.x - cx
    wide = 0.05 + 0.0 * dx
    run = (dx.abs() - wide).clamp_(min=0)
    cone = top + run * 1.15 - run.square() * 0.55 + 0.006 * (p.x * 60).sin_()
    y = p.y[:, :, rows]
    m = p.below(cone, rows, steep=True)
    p.paint(p.col[4], m, rows)
    p.paint(p.col[4] * 0.7, p.cover((dx + 0.02 * (y * 30).sin_()).sub_((y - top) * 0.1)).mul_(m).mul_(0.8), rows)
    for k2 in range(3):  # lava runs down the cone
        bend = cx + (k2 - 1) * (0.025 + 0.42 * (p.y - top)) * p.u(6 + k2, 0.6, 1.0)
        bend = bend + 0.014 * (p.y * 24 + p.u(9 + k2) * TAU).sin_()
        end = top + p.u(12 + k2, 0.12, 0.34)
        half = 0.018 * ((end - p.y) / (end - top)).clamp_(0, 1) + 0.004
        lava = p.cover(half[:, :, rows] - (p.x - bend[:, :, rows]).abs_()).mul_(p.cover(end - y)).mul_(m)
        p.paint(fire, lava, rows)
    p.paint(
        const((1.0, 0.85, 0.4), p.device).view(1, 3, 1, 1),
        p.disc(cx, top + 0.004, 0.052 + 0 * cx, 4.5, rows),
        rows,
    )
    p.soil(p.ridge(15, p.h, 0.02, 1.3))
    rows = p.rows(0.54)  # glowing cracks
    t = p.deep()[:, :, rows]
    crack = (p.x * 7 + (p.y[:, :, rows] * 22 + p.u(16) * 9).sin_() * 0.8).add_((t + 0.15).log().mul_(4)).sin_().abs_()
    crack = (0.2 - crack).mul_(4.5).clamp_(0, 0.9).mul_((t * 5).clamp_(0, 1))
    p.paint(fire, crack, rows)
