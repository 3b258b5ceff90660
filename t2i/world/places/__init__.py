"""The places of the built-in world: batched backgrounds, the strip in front of the feet, the weather.

Everything is drawn from coordinates and from `CHANCE` uniform numbers per scene, so that a scene looks the
same at 64 and at 1024 pixels and in every batch. Scenes of one place are drawn together.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from t2i.world.places import built, green, land
from t2i.world.places.kit import Canvas, gain, palette
from t2i.world.places.over import STRIPS, WEATHER, strip

CHANCE = 24
"""Uniform numbers per scene that steer the variety of its place."""

GREY = (0.94, 0.94, 0.95)
"""The plain background when no colour is asked for."""


@dataclass(frozen=True, slots=True)
class PlaceInfo:
    """What the layout and the renderer know about a place."""

    key: str
    ground: bool  # things stand on a ground
    tint: tuple[float, float, float]  # the usual light on things there; the backdrop's `light` is the exact one
    haze: float  # how much far things fade
    shadow: float  # strength of the contact shadow
    draw: Callable[[Canvas], None]
    colours: str
    horizon: tuple[float, float]  # where the ground may begin


@dataclass(slots=True)
class Backdrop:
    image: Tensor  # (B, 3, S, S) in [0, 1]
    horizon: Tensor  # (B,) share of the height where the ground meets the sky; 1 without a ground
    light: Tensor  # (B, 3) what the colours of things standing there are multiplied with
    haze: Tensor  # (B, 3) the colour towards which far things fade
    haze_amount: Tensor  # (B,)
    shadow: Tensor  # (B,) contact shadow, 0 to 1


def _info(key: str, ground: bool, haze: float, shadow: float, lo: float, hi: float) -> PlaceInfo:
    room = next(m for m in (land, green, built) if key in m.COLOURS)
    colours: str = room.COLOURS[key]
    h = colours.split("|")[0].split()[-1]
    tint = (int(h[:2], 16) / 255, int(h[2:4], 16) / 255, int(h[4:], 16) / 255)
    return PlaceInfo(key, ground, tint, haze, shadow, getattr(room, key), colours, (lo, hi))


PLACES: dict[str, PlaceInfo] = {
    row[0]: _info(*row)
    for row in (
        ("snow", True, 0.3, 0.35, 0.5, 0.66),
        ("beach", True, 0.15, 0.45, 0.54, 0.65),
        ("forest", True, 0.3, 0.5, 0.5, 0.64),
        ("desert", True, 0.25, 0.5, 0.5, 0.64),
        ("night", True, 0.3, 0.5, 0.52, 0.68),
        ("rain", True, 0.4, 0.35, 0.52, 0.64),
        ("underwater", True, 0.45, 0.3, 0.68, 0.76),
        ("space", False, 0.1, 0.0, 1.0, 1.0),
        ("city", True, 0.25, 0.5, 0.56, 0.68),
        ("room", True, 0.0, 0.5, 0.62, 0.7),
        ("sunset", True, 0.3, 0.5, 0.62, 0.74),
        ("mountains", True, 0.3, 0.5, 0.55, 0.66),
        ("field", True, 0.2, 0.5, 0.48, 0.6),
        ("river", True, 0.2, 0.45, 0.46, 0.58),
        ("sky", False, 0.25, 0.0, 1.0, 1.0),
        ("autumn", True, 0.25, 0.5, 0.52, 0.64),
        ("jungle", True, 0.3, 0.5, 0.54, 0.66),
        ("road", True, 0.2, 0.5, 0.46, 0.56),
        ("stage", True, 0.0, 0.5, 0.62, 0.72),
        ("volcano", True, 0.3, 0.5, 0.56, 0.68),
        ("garden", True, 0.1, 0.5, 0.5, 0.6),
        ("plain", False, 0.0, 0.35, 1.0, 1.0),
    )
}


@dataclass(slots=True)
class _Facts:
    """What holds for each scene of a batch before anything is painted, looked up in one table."""

    far: Tensor  # (B, 3, 1, 1) colours of the ground
    near: Tensor
    low: Tensor  # (B, 3) the sky at the horizon
    light: Tensor  # (B, 3)
    numbers: Tensor  # (B, 4): haze, shadow, lowest and highest horizon

    def horizon(self, chance: Tensor) -> Tensor:
        lo, hi = self.numbers[:, 2], self.numbers[:, 3]
        return lo + (hi - lo) * chance[:, 0]


@lru_cache(maxsize=4)
def _table(device: torch.device) -> tuple[dict[str, int], Tensor, Tensor, Tensor]:
    """Row of each key; its palettes (P, 4, 4, 3): low, far, near, light; how many they are; its numbers."""
    colours, count, numbers = [], [], []
    for info in PLACES.values():
        rows = palette(info.colours, device)
        picked = torch.stack((rows[:, 1], rows[:, 2], rows[:, 3], rows[:, -1]), 1)
        count.append(len(picked))
        colours.append(torch.cat((picked, picked[:1].expand(4 - len(picked), -1, -1))))
        numbers.append((info.haze, info.shadow, *info.horizon))
    at = {key: i for i, key in enumerate(PLACES)}
    return at, torch.stack(colours), torch.tensor(count, device=device), torch.tensor(numbers, device=device)


def _facts(keys: Sequence[str], chance: Tensor) -> _Facts:
    at, colours, count, numbers = _table(chance.device)
    place = torch.tensor([at[key] for key in keys], device=chance.device)
    n = count[place]
    row = torch.minimum((chance[:, 1] * n).long(), n - 1)
    low, far, near, light = colours[place, row].unbind(1)
    return _Facts(far.view(-1, 3, 1, 1), near.view(-1, 3, 1, 1), low, light, numbers[place])


def _groups(keys: Sequence[str]) -> dict[str, list[int]]:
    found: dict[str, list[int]] = {}
    for at, key in enumerate(keys):
        found.setdefault(key, []).append(at)
    return found


def draw_places(
    keys: Sequence[str],
    shades: Sequence[tuple[float, float, float] | None],
    chance: Tensor,
    size: int,
    device: torch.device | str,
) -> Backdrop:
    """The backgrounds of B scenes.

    keys: B keys of PLACES. shades: the RGB colour in [0, 1] of each `plain` one (None: light grey).
    chance: (B, CHANCE) uniform in [0, 1). A wrong length is our own mistake.
    """
    device = torch.device(device)
    b = len(keys)
    assert len(shades) == b and chance.shape == (b, CHANCE), (b, len(shades), chance.shape)
    chance = chance.to(device=device, dtype=torch.float32)
    facts = _facts(keys, chance)
    image = torch.empty(b, 3, size, size, device=device)
    haze = facts.low
    for key, members in _groups(keys).items():
        info = PLACES[key]
        at = torch.tensor(members, device=device)
        pad = Canvas(chance[at], size, info.colours, info.horizon)
        if key == "plain":
            rgb = torch.tensor([shades[i] or GREY for i in members], device=device, dtype=torch.float32)
            pad.shade = rgb.view(-1, 3, 1, 1)
            haze[at] = rgb
            info.draw(pad)
        else:
            info.draw(pad)
            pad.image.mul_(gain(pad.c))
        image.index_copy_(0, at, pad.image.clamp_(0, 1))
    horizon = facts.horizon(chance)
    return Backdrop(image, horizon, facts.light, haze, facts.numbers[:, 0], facts.numbers[:, 1])


def foreground(keys: Sequence[str], chance: Tensor, base_y: Tensor, size: int, device: torch.device | str) -> Tensor:
    """What stands in front of feet at height base_y (B,): premultiplied RGBA, (B, 4, S, S).

    A strip that reaches STRIP above and below base_y; nothing where the ground is hard or there is none.
    """
    device = torch.device(device)
    chance = chance.to(device=device, dtype=torch.float32)
    base = base_y.to(device=device, dtype=torch.float32)
    facts = _facts(keys, chance)
    horizon = facts.horizon(chance)
    out = torch.zeros(len(keys), 4, size, size, device=device)
    for kind, members in _groups([STRIPS.get(key, "") for key in keys]).items():
        if kind:
            at = torch.tensor(members, device=device)
            where = base[at].view(-1, 1, 1, 1), horizon[at].view(-1, 1, 1, 1)
            out.index_copy_(0, at, strip(kind, chance[at], *where, facts.far[at], facts.near[at], size))
    return out


def weather(keys: Sequence[str], chance: Tensor, size: int, device: torch.device | str) -> Tensor:
    """What falls, rises or drifts before everything: premultiplied RGBA, (B, 4, S, S)."""
    device = torch.device(device)
    chance = chance.to(device=device, dtype=torch.float32)
    out = torch.zeros(len(keys), 4, size, size, device=device)
    for key, members in _groups(keys).items():
        if key in WEATHER:
            at = torch.tensor(members, device=device)
            info = PLACES[key]
            out.index_copy_(0, at, WEATHER[key](Canvas(chance[at], size, info.colours, info.horizon)))
    return out
