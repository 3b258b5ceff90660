"""The sprite set "shapes": twenty-eight things drawn by code.

Each is a short drawing in the unit square: a body in one saturated colour, which the renderer can recolour, with small
accents. `draw_shape` draws it four times larger, crops it to its bounding box, shades it and reduces it. The longer
side of the box then fills the picture, and the edges are smooth.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import lru_cache

import numpy as np

from t2i.world.pen import INK, WHITE, Pen, mix, ring

RED, ORANGE, YELLOW, GREEN = (226, 50, 48), (245, 132, 31), (250, 200, 40), (58, 168, 74)
TEAL, BLUE, SKY, PURPLE = (24, 166, 160), (44, 110, 220), (70, 160, 240), (136, 74, 200)
PINK, BROWN, CREAM, GREY = (240, 96, 156), (140, 90, 52), (255, 242, 220), (150, 156, 168)


def _circle(p: Pen) -> None:
    p.disc(0.5, 0.5, 0.48, RED)
    p.shine(0.34, 0.3, 0.1, 0.07, RED)


def _square(p: Pen) -> None:
    p.box(0.04, 0.04, 0.96, 0.96, BLUE, 0.07)
    p.box(0.13, 0.13, 0.42, 0.2, mix(BLUE, WHITE, 0.4), 0.035)


def _triangle(p: Pen) -> None:
    corners = [(0.5, 0.08), (0.95, 0.9), (0.05, 0.9)]
    p.poly(corners, GREEN)
    p.line([*corners, corners[0]], 0.07, GREEN)
    p.line([(0.47, 0.25), (0.33, 0.5)], 0.05, mix(GREEN, WHITE, 0.4))


def _star(p: Pen) -> None:
    corners = ring(10, (0.46, 0.22))
    p.poly(corners, YELLOW)
    p.line([*corners, corners[0]], 0.06, YELLOW)
    p.line([(0.45, 0.3), (0.39, 0.42)], 0.05, mix(YELLOW, WHITE, 0.6))


def _heart(p: Pen) -> None:
    t = np.linspace(0, 2 * math.pi, 160)
    x = 0.5 + 16 * np.sin(t) ** 3 / 34
    y = 0.46 - (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 34
    p.poly(list(zip(x.tolist(), y.tolist(), strict=True)), RED)
    p.shine(0.27, 0.27, 0.09, 0.06, RED)


def _diamond(p: Pen) -> None:
    p.poly([(0.2, 0.14), (0.8, 0.14), (0.98, 0.38), (0.5, 0.94), (0.02, 0.38)], SKY)
    p.poly([(0.2, 0.14), (0.36, 0.38), (0.02, 0.38)], mix(SKY, WHITE, 0.35))
    p.poly([(0.2, 0.14), (0.5, 0.14), (0.36, 0.38)], mix(SKY, WHITE, 0.6))
    p.poly([(0.5, 0.14), (0.64, 0.38), (0.36, 0.38)], mix(SKY, WHITE, 0.25))
    p.poly([(0.64, 0.38), (0.98, 0.38), (0.5, 0.94)], mix(SKY, INK, 0.22))
    p.poly([(0.36, 0.38), (0.02, 0.38), (0.5, 0.94)], mix(SKY, WHITE, 0.15))


def _crescent(p: Pen) -> None:
    p.disc(0.5, 0.5, 0.48, YELLOW)
    p.disc(0.7, 0.4, 0.4, None)
    p.disc(0.22, 0.6, 0.045, mix(YELLOW, BROWN, 0.3))
    p.disc(0.4, 0.82, 0.035, mix(YELLOW, BROWN, 0.3))


def _cross(p: Pen) -> None:
    p.box(0.34, 0.03, 0.66, 0.97, RED, 0.06)
    p.box(0.03, 0.34, 0.97, 0.66, RED, 0.06)
    p.line([(0.42, 0.13), (0.42, 0.3)], 0.05, mix(RED, WHITE, 0.45))


def _ring(p: Pen) -> None:
    p.disc(0.5, 0.5, 0.48, PURPLE)
    for degree in range(200, 250, 3):
        angle = math.radians(degree)
        p.disc(0.5 + 0.38 * math.cos(angle), 0.5 + 0.38 * math.sin(angle), 0.03, mix(PURPLE, WHITE, 0.5))
    p.disc(0.5, 0.5, 0.26, None)


def _hexagon(p: Pen) -> None:
    corners = ring(6, (0.46,), turn=0.0)
    p.poly(corners, TEAL)
    p.line([*corners, corners[0]], 0.06, TEAL)
    p.line([(0.3, 0.2), (0.18, 0.4)], 0.05, mix(TEAL, WHITE, 0.5))


def _arrow(p: Pen) -> None:
    p.box(0.03, 0.37, 0.6, 0.63, GREEN, 0.05)
    head = [(0.55, 0.12), (0.95, 0.5), (0.55, 0.88)]
    p.poly(head, GREEN)
    p.line([*head, head[0]], 0.06, GREEN)
    p.line([(0.12, 0.44), (0.5, 0.44)], 0.05, mix(GREEN, WHITE, 0.4))


def _house(p: Pen) -> None:
    p.box(0.7, 0.1, 0.82, 0.45, mix(RED, INK, 0.4))
    p.box(0.13, 0.45, 0.87, 0.97, mix(RED, CREAM, 0.78))
    p.poly([(0.5, 0.04), (0.98, 0.5), (0.02, 0.5)], RED)
    p.box(0.42, 0.64, 0.6, 0.97, mix(RED, INK, 0.35), 0.02)
    for x in (0.2, 0.67):
        p.box(x, 0.6, x + 0.14, 0.75, mix(SKY, WHITE, 0.35), 0.02)


def _tree(p: Pen) -> None:
    p.box(0.42, 0.6, 0.58, 0.98, BROWN, 0.03)
    for x, y, r in ((0.28, 0.5, 0.22), (0.72, 0.5, 0.22), (0.5, 0.28, 0.26), (0.5, 0.52, 0.24)):
        p.disc(x, y, r, GREEN)
    for x, y in ((0.4, 0.22), (0.25, 0.45), (0.62, 0.42)):
        p.oval(x, y, 0.07, 0.05, mix(GREEN, WHITE, 0.3))


def _fish(p: Pen) -> None:
    p.poly([(0.3, 0.5), (0.02, 0.24), (0.08, 0.5), (0.02, 0.76)], mix(ORANGE, RED, 0.3))
    p.poly([(0.42, 0.32), (0.54, 0.12), (0.72, 0.3)], mix(ORANGE, RED, 0.3))
    p.oval(0.59, 0.5, 0.39, 0.25, ORANGE)
    for x in (0.42, 0.56):
        p.line([(x, 0.34), (x - 0.04, 0.5), (x, 0.66)], 0.04, mix(ORANGE, WHITE, 0.6))
    p.eye(0.82, 0.44, 0.05)


def _boat(p: Pen) -> None:
    p.line([(0.5, 0.06), (0.5, 0.7)], 0.04, BROWN)
    p.poly([(0.54, 0.06), (0.9, 0.6), (0.54, 0.6)], WHITE)
    p.poly([(0.46, 0.16), (0.46, 0.6), (0.16, 0.6)], mix(RED, WHITE, 0.55))
    p.poly([(0.03, 0.66), (0.97, 0.66), (0.8, 0.95), (0.2, 0.95)], RED)
    p.line([(0.12, 0.74), (0.88, 0.74)], 0.04, WHITE)


def _sun(p: Pen) -> None:
    p.poly(ring(24, (0.49, 0.33)), ORANGE)
    p.disc(0.5, 0.5, 0.32, YELLOW)
    p.shine(0.4, 0.38, 0.07, 0.05, YELLOW)


def _cloud(p: Pen) -> None:
    p.box(0.04, 0.5, 0.96, 0.8, SKY, 0.15)
    for x, y, r in ((0.27, 0.52, 0.2), (0.52, 0.4, 0.25), (0.76, 0.54, 0.18)):
        p.disc(x, y, r, SKY)
    p.shine(0.45, 0.28, 0.1, 0.06, SKY)
    p.shine(0.22, 0.45, 0.06, 0.04, SKY)


def _flower(p: Pen) -> None:
    p.line([(0.5, 0.5), (0.5, 0.95)], 0.06, GREEN)
    p.oval(0.66, 0.83, 0.14, 0.06, GREEN)
    for x, y in ring(6, (0.22,)):
        p.disc(x, y - 0.14, 0.14, PINK)
        p.disc(x, y - 0.14, 0.06, mix(PINK, WHITE, 0.3))
    p.disc(0.5, 0.36, 0.13, YELLOW)


def _mushroom(p: Pen) -> None:
    p.box(0.35, 0.45, 0.65, 0.96, CREAM, 0.1)
    p.pie(0.5, 0.54, 0.47, 0.48, 180, 360, RED)
    p.box(0.03, 0.5, 0.97, 0.6, RED, 0.05)
    for x, y, r in ((0.5, 0.24, 0.09), (0.24, 0.4, 0.07), (0.76, 0.41, 0.07)):
        p.disc(x, y, r, WHITE)


def _car(p: Pen) -> None:
    p.poly([(0.2, 0.5), (0.32, 0.28), (0.68, 0.28), (0.84, 0.5)], RED)
    p.poly([(0.28, 0.49), (0.36, 0.34), (0.48, 0.34), (0.48, 0.49)], mix(SKY, WHITE, 0.5))
    p.poly([(0.53, 0.49), (0.53, 0.34), (0.65, 0.34), (0.75, 0.49)], mix(SKY, WHITE, 0.5))
    p.box(0.02, 0.48, 0.98, 0.73, RED, 0.09)
    p.oval(0.94, 0.57, 0.03, 0.04, YELLOW)
    for x in (0.25, 0.75):
        p.disc(x, 0.73, 0.12, INK)
        p.disc(x, 0.73, 0.055, GREY)


def _cat(p: Pen) -> None:
    for side in (-1, 1):
        ear = [(0.5 + side * 0.42, 0.06), (0.5 + side * 0.45, 0.5), (0.5 + side * 0.08, 0.26)]
        p.poly(ear, ORANGE)
        inner = [(0.5 + side * 0.36, 0.17), (0.5 + side * 0.38, 0.38), (0.5 + side * 0.18, 0.27)]
        p.poly(inner, mix(ORANGE, PINK, 0.6))
    p.oval(0.5, 0.58, 0.47, 0.37, ORANGE)
    p.line([(0.5, 0.26), (0.5, 0.36)], 0.05, mix(ORANGE, BROWN, 0.6))
    p.oval(0.5, 0.76, 0.2, 0.13, CREAM)
    for side in (-1, 1):
        p.eye(0.5 + side * 0.2, 0.53, 0.07)
        p.line([(0.5 + side * 0.28, 0.72), (0.5 + side * 0.42, 0.68)], 0.02, INK)
        p.line([(0.5, 0.76), (0.5 + side * 0.08, 0.8)], 0.025, INK)
    p.poly([(0.44, 0.67), (0.56, 0.67), (0.5, 0.75)], PINK)


def _bird(p: Pen) -> None:
    p.poly([(0.28, 0.5), (0.02, 0.42), (0.08, 0.62), (0.3, 0.72)], mix(BLUE, INK, 0.2))
    for x in (0.46, 0.58):
        p.line([(x, 0.8), (x, 0.95)], 0.03, ORANGE)
    p.oval(0.48, 0.58, 0.32, 0.25, BLUE)
    p.disc(0.68, 0.36, 0.2, BLUE)
    p.poly([(0.85, 0.3), (0.99, 0.4), (0.84, 0.46)], ORANGE)
    p.pie(0.42, 0.52, 0.25, 0.24, 0, 180, mix(BLUE, INK, 0.3))
    p.oval(0.62, 0.68, 0.12, 0.1, mix(BLUE, WHITE, 0.6))
    p.eye(0.73, 0.32, 0.05)


def _apple(p: Pen) -> None:
    p.line([(0.5, 0.3), (0.54, 0.08)], 0.05, BROWN)
    p.oval(0.33, 0.6, 0.28, 0.34, RED)
    p.oval(0.67, 0.6, 0.28, 0.34, RED)
    p.oval(0.5, 0.6, 0.2, 0.3, RED)
    p.poly([(0.55, 0.2), (0.66, 0.08), (0.84, 0.08), (0.72, 0.2)], GREEN)
    p.shine(0.22, 0.46, 0.06, 0.1, RED)


def _umbrella(p: Pen) -> None:
    p.line([(0.5, 0.5), (0.5, 0.86), (0.53, 0.92), (0.6, 0.94), (0.67, 0.92), (0.7, 0.85)], 0.05, BROWN)
    p.line([(0.5, 0.05), (0.5, 0.2)], 0.04, BROWN)
    p.pie(0.5, 0.54, 0.48, 0.45, 180, 360, PURPLE)
    p.pie(0.5, 0.54, 0.16, 0.45, 180, 360, mix(PURPLE, WHITE, 0.35))
    for x in (0.18, 0.5, 0.82):
        p.oval(x, 0.55, 0.16, 0.06, None)
    p.line([(0.5, 0.47), (0.5, 0.6)], 0.05, BROWN)


def _balloon(p: Pen) -> None:
    p.line([(0.5, 0.74), (0.46, 0.82), (0.53, 0.9), (0.49, 0.98)], 0.025, GREY)
    p.poly([(0.5, 0.68), (0.58, 0.79), (0.42, 0.79)], mix(RED, INK, 0.2))
    p.oval(0.5, 0.38, 0.31, 0.36, RED)
    p.shine(0.38, 0.22, 0.06, 0.09, RED)


def _rocket(p: Pen) -> None:
    p.poly([(0.4, 0.78), (0.5, 0.99), (0.6, 0.78)], YELLOW)
    for side in (-1, 1):
        p.poly([(0.5 + side * 0.14, 0.5), (0.5 + side * 0.33, 0.72), (0.5 + side * 0.3, 0.86), (0.5, 0.76)], RED)
    t = np.linspace(0, math.pi, 60)
    hull = [(0.5 - 0.21 * math.sin(a) ** 0.8, 0.02 + 0.78 * (1 - math.cos(a)) / 2) for a in t]
    p.poly([*hull, *[(1 - x, y) for x, y in reversed(hull)]], mix(RED, WHITE, 0.86))
    tip = [(x, y) for x, y in hull if y < 0.27]
    p.poly([*tip, *[(1 - x, y) for x, y in reversed(tip)]], RED)
    p.disc(0.5, 0.42, 0.1, RED)
    p.disc(0.5, 0.42, 0.065, SKY)
    p.box(0.47, 0.6, 0.53, 0.85, RED, 0.03)


def _snowman(p: Pen) -> None:
    snow = (236, 243, 252)
    for side in (-1, 1):
        p.line([(0.5 + side * 0.2, 0.58), (0.5 + side * 0.42, 0.46)], 0.03, BROWN)
    p.disc(0.5, 0.74, 0.25, snow)
    p.disc(0.5, 0.36, 0.18, snow)
    p.box(0.33, 0.47, 0.67, 0.55, RED, 0.04)
    p.box(0.56, 0.5, 0.65, 0.7, RED, 0.03)
    p.box(0.36, 0.02, 0.64, 0.2, RED, 0.03)
    p.box(0.27, 0.17, 0.73, 0.23, RED, 0.03)
    p.eye(0.43, 0.34, 0.03)
    p.eye(0.57, 0.34, 0.03)
    p.poly([(0.47, 0.38), (0.47, 0.43), (0.64, 0.43)], ORANGE)
    for y in (0.7, 0.82):
        p.disc(0.46, y, 0.028, INK)


def _key(p: Pen) -> None:
    p.disc(0.27, 0.5, 0.25, YELLOW)
    p.box(0.45, 0.43, 0.98, 0.57, YELLOW, 0.04)
    for x, y in ((0.7, 0.72), (0.85, 0.77)):
        p.box(x, 0.5, x + 0.1, y, YELLOW, 0.02)
    p.disc(0.22, 0.5, 0.1, None)
    p.line([(0.55, 0.47), (0.9, 0.47)], 0.03, mix(YELLOW, WHITE, 0.6))


_ALL: tuple[Callable[[Pen], None], ...] = (
    _circle, _square, _triangle, _star, _heart, _diamond, _crescent, _cross, _ring, _hexagon, _arrow,
    _house, _tree, _fish, _boat, _sun, _cloud, _flower, _mushroom, _car, _cat, _bird, _apple, _umbrella,
    _balloon, _rocket, _snowman, _key,
)  # fmt: skip
_DRAWINGS = {drawing.__name__[1:]: drawing for drawing in _ALL}

SHAPES: tuple[str, ...] = tuple(_DRAWINGS)
"""The names `draw_shape` knows."""


@lru_cache(maxsize=128)
def _drawn(name: str, size: int) -> bytes:
    pen = Pen(size)
    _DRAWINGS[name](pen)
    return pen.finish().tobytes()


def draw_shape(name: str, size: int = 128) -> np.ndarray:
    """The shape as (size, size, 4) uint8: RGBA, alpha not premultiplied.

    name: one of `SHAPES`; others raise KeyError. size: side in pixels, at least 8. The longer side of the figure fills
    the picture, the shorter one is centred.
    """
    assert size >= 8
    if name not in _DRAWINGS:
        raise KeyError(name)
    return np.frombuffer(_drawn(name, size), dtype=np.uint8).reshape(size, size, 4).copy()
