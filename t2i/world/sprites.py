"""The sprite atlas: pictures of the things, from a sprite library or drawn by code.

Every sprite is cropped to its tight bounding box, centred on a square with a margin, premultiplied by its alpha, and
kept at every power of two from 16 to the atlas' resolution (mipmaps).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from t2i.errors import InputError
from t2i.world.graph import Thing
from t2i.world.shapes import draw_shape
from t2i.world.vocabulary import COLOURS

MARGIN = 1 / 32  # empty border on each side, so that bilinear sampling gives a soft edge
LUMA = (0.299, 0.587, 0.114)  # Rec. 601
SHAPES_STYLE = "shapes"
SHOWN = 0.2  # least share of pixels of the natural colour for the colour word to fit the sprite

LIBRARY = "Build it once: python -m t2i.lab.sprites --out sprites/ (docs/training.md). Then write --sprites sprites/."
"""The hint where the sprite library is missing."""


@dataclass(frozen=True)
class Atlas:
    """N sprites as tensors.

    levels: resolution r -> (N, 4, r, r) uint8, RGB premultiplied by alpha.
    index: (style, thing key) -> row.
    aspect: (N, 2) width and height of the tight bounding box as shares of its longer side.
    tone: (N,) mean luma, in [0, 1], of the pixels that recolouring changes; it becomes the new colour itself.
    grey: (N,) whether the sprite is mostly grey; recolouring then changes its grey pixels too.
    fits: N flags: whether the sprite shows its thing's natural colour word. Sprite sets differ: a whale is blue in
        three of the four and grey in one.
    """

    levels: dict[int, Tensor]
    index: dict[tuple[str, str], int]
    aspect: Tensor
    tone: Tensor
    grey: Tensor
    fits: tuple[bool, ...]

    def to(self, device: torch.device | str) -> Atlas:
        levels = {r: t.to(device) for r, t in self.levels.items()}
        return Atlas(levels, self.index, self.aspect.to(device), self.tone.to(device), self.grey.to(device), self.fits)


def _tight(rgba: np.ndarray, resolution: int) -> tuple[Image.Image, tuple[float, float]]:
    rows, columns = np.where((rgba[..., 3] > 8).any(1))[0], np.where((rgba[..., 3] > 8).any(0))[0]
    if len(rows) == 0:
        raise ValueError("the picture is empty")
    top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
    height, width = bottom - top, right - left
    side = max(height, width)
    inner = round(resolution * (1 - 2 * MARGIN))
    crop = Image.fromarray(rgba[top:bottom, left:right], "RGBA").convert("RGBa")  # premultiplied
    fit = (max(1, round(inner * width / side)), max(1, round(inner * height / side)))
    square = Image.new("RGBa", (resolution, resolution))
    square.paste(crop.resize(fit, Image.Resampling.LANCZOS), ((resolution - fit[0]) // 2, (resolution - fit[1]) // 2))
    return square, (width / side, height / side)


def load_atlas(
    things: Mapping[str, Thing], keys: Sequence[str], styles: Sequence[str], folder: Path | None, resolution: int = 128
) -> Atlas:
    """Pack the sprites of `keys` in every style. A key that is repeated has one sprite.

    A style is the name of a folder under `folder` holding `<sprite>.webp`, or "shapes" for the drawn ones.
    Raises InputError when a file is missing or cannot be read.
    """
    index: dict[tuple[str, str], int] = {}
    pictures: list[Image.Image] = []
    aspects: list[tuple[float, float]] = []
    for style in styles:
        for key in dict.fromkeys(keys):
            sprite = things[key].sprite
            if sprite.startswith("shape:"):
                rgba = draw_shape(sprite.removeprefix("shape:"), resolution)
            else:
                rgba = _read_sprite(folder, style, sprite)
            square, aspect = _tight(rgba, resolution)
            index[style, key] = len(pictures)
            pictures.append(square)
            aspects.append(aspect)
    levels = {}
    side = resolution
    while side >= 16:
        stack = np.stack([np.asarray(p.resize((side, side), Image.Resampling.BOX)) for p in pictures])
        levels[side] = torch.from_numpy(stack).permute(0, 3, 1, 2).contiguous()
        side //= 2
    fits = _fits(levels[min(32, resolution)], [things[key].colour for _, key in index])
    tones = _tones(levels[min(64, resolution)])
    return Atlas(levels, index, torch.tensor(aspects, dtype=torch.float32), *tones, fits)


def _read_sprite(folder: Path | None, style: str, sprite: str) -> np.ndarray:
    if folder is None:
        raise InputError(f"the style {style!r} needs the sprite library.", LIBRARY)
    path = folder / style / f"{sprite}.webp"
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("RGBA"))
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the sprite {path}.", LIBRARY) from error


def _tones(level: Tensor) -> tuple[Tensor, Tensor]:
    """(N, 4, r, r) uint8 -> Atlas.tone and Atlas.grey."""
    rgb, alpha = level[:, :3].float() / 255, level[:, 3].float() / 255
    chroma = rgb.amax(1) - rgb.amin(1)
    weight = alpha * (chroma / rgb.amax(1).clamp_min(1e-3) > 0.3)
    luma = (rgb * rgb.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1)
    mean_chromatic = (luma * weight).sum((1, 2)) / weight.sum((1, 2)).clamp_min(1e-3)
    mean_all = (luma * alpha).sum((1, 2)) / alpha.sum((1, 2)).clamp_min(1e-3)
    grey = weight.sum((1, 2)) < 0.4 * alpha.sum((1, 2))
    return torch.where(grey, mean_all, mean_chromatic).clamp(0.08, 0.95), grey


def _fits(level: Tensor, words: Sequence[str]) -> tuple[bool, ...]:
    """(N, 4, r, r) uint8 and each sprite's colour word, or "" -> Atlas.fits.

    A pixel takes the nearest colour word in CIELAB with halved lightness, so that a shaded red stays red. On the four
    sprite sets, a word that fits covers a third of the sprite or more, and one that does not less than a fifth.
    """
    names = torch.tensor([rgb for _, rgb in COLOURS.values()]).float() / 255
    alpha = level[:, 3:].float() / 255
    rgb = (level[:, :3].float() / 255 / alpha.clamp_min(1 / 255)).clamp(0, 1).flatten(2).transpose(1, 2)
    nearest = torch.cdist(_lab(rgb), _lab(names)[None].expand(len(rgb), -1, -1)).argmin(-1)  # (N, r²)
    solid = alpha.flatten(1) > 0.5
    order = list(COLOURS)
    target = torch.tensor([order.index(word) if word else -1 for word in words])
    share = ((nearest == target[:, None]) & solid).sum(1) / solid.sum(1).clamp_min(1)
    return tuple((share >= SHOWN).tolist())


def _lab(rgb: Tensor) -> Tensor:
    """sRGB (..., 3) in [0, 1] -> CIELAB under D65 with halved lightness (..., 3)."""
    linear = torch.where(rgb > 0.04045, ((rgb + 0.055) / 1.055) ** 2.4, rgb / 12.92)
    to_xyz = rgb.new_tensor([[0.4124, 0.3576, 0.1805], [0.2126, 0.7152, 0.0722], [0.0193, 0.1192, 0.9505]])
    xyz = linear @ to_xyz.T / rgb.new_tensor([0.9505, 1.0, 1.089])
    f = torch.where(xyz > 0.008856, xyz ** (1 / 3), 7.787 * xyz + 16 / 116)
    x, y, z = f.unbind(-1)
    return torch.stack([58 * y - 8, 500 * (x - y), 200 * (y - z)], dim=-1)
