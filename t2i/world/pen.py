"""A pen for drawings in the unit square, and the shading that makes a flat drawing look solid."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter

Colour = tuple[int, int, int]
Point = tuple[float, float]

SUPERSAMPLE = 4
INK: Colour = (44, 44, 56)
WHITE: Colour = (250, 250, 252)


def mix(colour: Colour, other: Colour, share: float) -> Colour:
    """The mix (1 - share) * colour + share * other."""
    r, g, b = (round(p + (q - p) * share) for p, q in zip(colour, other, strict=True))
    return (r, g, b)


def ring(n: int, radii: Sequence[float], turn: float = -0.25) -> list[Point]:
    """`n` corners around the centre. Their radii cycle through `radii`; the first is `turn` of a full circle from x."""
    out = []
    for i in range(n):
        angle, r = 2 * math.pi * (i / n + turn), radii[i % len(radii)]
        out.append((0.5 + r * math.cos(angle), 0.5 + r * math.sin(angle)))
    return out


class Pen:
    """Draws in the unit square at `size` pixels. Later marks cover earlier ones; the colour None erases."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.side = side = SUPERSAMPLE * size
        self.image = Image.new("RGBA", (side, side), (0, 0, 0, 0))
        self._draw = ImageDraw.Draw(self.image)

    def _fill(self, colour: Colour | None) -> tuple[int, int, int, int]:
        return (0, 0, 0, 0) if colour is None else (*colour, 255)

    def oval(self, x: float, y: float, rx: float, ry: float, colour: Colour | None) -> None:
        s = self.side
        self._draw.ellipse([(x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s], fill=self._fill(colour))

    def disc(self, x: float, y: float, r: float, colour: Colour | None) -> None:
        self.oval(x, y, r, r, colour)

    def poly(self, points: Sequence[Point], colour: Colour | None) -> None:
        self._draw.polygon([(x * self.side, y * self.side) for x, y in points], fill=self._fill(colour))

    def box(self, x0: float, y0: float, x1: float, y1: float, colour: Colour | None, r: float = 0.0) -> None:
        s = self.side
        self._draw.rounded_rectangle([x0 * s, y0 * s, x1 * s, y1 * s], r * s, fill=self._fill(colour))

    def line(self, points: Sequence[Point], width: float, colour: Colour | None) -> None:
        """A stroke with round ends and joints."""
        s = self.side
        for a, b in itertools.pairwise(points):
            self._draw.line([(a[0] * s, a[1] * s), (b[0] * s, b[1] * s)], self._fill(colour), round(width * s))
        for x, y in points:
            self.disc(x, y, width / 2, colour)

    def pie(self, x: float, y: float, rx: float, ry: float, a: float, b: float, colour: Colour) -> None:
        s = self.side
        box = [(x - rx) * s, (y - ry) * s, (x + rx) * s, (y + ry) * s]
        self._draw.pieslice(box, a, b, fill=self._fill(colour))

    def shine(self, x: float, y: float, rx: float, ry: float, colour: Colour) -> None:
        self.oval(x, y, rx, ry, mix(colour, WHITE, 0.5))

    def eye(self, x: float, y: float, r: float) -> None:
        self.disc(x, y, r, INK)
        self.disc(x - r * 0.3, y - r * 0.35, r * 0.36, WHITE)

    def finish(self) -> Image.Image:
        """The drawing cropped to its bounding box, shaded and scaled to fill (size, size), RGBA."""
        size, box = self.size, self.image.getbbox()
        assert box is not None, "nothing was drawn"
        figure = shade(self.image.crop(box))
        k = size / max(figure.size)
        w, h = (max(1, round(side * k)) for side in figure.size)
        # Pillow premultiplies RGBA by alpha before it filters: no dark fringe.
        figure = figure.resize((w, h), Image.Resampling.BOX if k <= 0.5 else Image.Resampling.LANCZOS)
        out = Image.new("RGBA", (size, size), (0, 0, 0, 0))
        out.paste(figure, ((size - w) // 2, (size - h) // 2))
        return out


def shade(image: Image.Image) -> Image.Image:
    """The drawing with a darker rim and light from the top left."""
    w, h = image.size
    alpha = image.getchannel("A")
    # The blur needs an empty border: a side that touches the edge would get no rim.
    margin = max(w, h) // 10
    wide = Image.new("L", (w + 2 * margin, h + 2 * margin), 0)
    wide.paste(alpha, (margin, margin))
    inner = wide.filter(ImageFilter.GaussianBlur(max(w, h) * 0.022)).crop((margin, margin, margin + w, margin + h))
    rim = 1 - np.asarray(ImageChops.multiply(inner, alpha), dtype=np.float32)[..., None] / 255
    yy, xx = np.mgrid[0 : 1 : h * 1j, 0 : 1 : w * 1j].astype(np.float32)
    light = (1.06 - 0.14 * (0.35 * xx + 0.65 * yy))[..., None]
    rgba = np.asarray(image, dtype=np.float32)
    rgb = rgba[..., :3] * light * (1 - 0.5 * np.clip(rim, 0, 0.6))
    out = np.concatenate([np.clip(rgb, 0, 255), rgba[..., 3:]], axis=-1)
    return Image.fromarray(np.round(out).astype(np.uint8), "RGBA")
