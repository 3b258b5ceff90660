"""The places of the built-in world: backgrounds, the strip of ground in front of the feet, the weather.

A place is drawn from its palette and from `CHANCE` uniform numbers per scene. It looks the same at 64 and at 1024
pixels and in every batch. The scenes of one place in a batch are drawn together.

Shape legend: B scenes, S canvas side, P places.
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
"""Number of uniform numbers per scene that steer how its place looks."""

GREY = (0.94, 0.94, 0.95)
"""RGB of a plain background without a colour."""


@dataclass(frozen=True, slots=True)
class Place:
    """How a place is drawn and what the layout has to know of it."""

    draw: Callable[[Canvas], None]
    colours: str  # palettes, see `kit.palette`; one row a mood
    ground: bool  # whether things stand on a ground
    haze: float  # how much far things fade into the colour of the horizon, [0, 1]
    shadow: float  # strength of the contact shadow, [0, 1]
    horizon: tuple[float, float]  # range of the height where the ground begins, shares of the canvas from the top


PLACES: dict[str, Place] = {
    "snow": Place(land.snow, land.COLOURS["snow"], True, 0.3, 0.35, (0.5, 0.66)),
    "beach": Place(land.beach, land.COLOURS["beach"], True, 0.15, 0.45, (0.54, 0.65)),
    "forest": Place(land.forest, land.COLOURS["forest"], True, 0.3, 0.5, (0.5, 0.64)),
    "desert": Place(land.desert, land.COLOURS["desert"], True, 0.25, 0.5, (0.5, 0.64)),
    "night": Place(land.night, land.COLOURS["night"], True, 0.3, 0.5, (0.52, 0.68)),
    "rain": Place(land.rain, land.COLOURS["rain"], True, 0.4, 0.35, (0.52, 0.64)),
    "underwater": Place(built.underwater, built.COLOURS["underwater"], True, 0.45, 0.3, (0.68, 0.76)),
    "space": Place(built.space, built.COLOURS["space"], False, 0.1, 0.0, (1.0, 1.0)),
    "city": Place(built.city, built.COLOURS["city"], True, 0.25, 0.5, (0.56, 0.68)),
    "room": Place(built.room, built.COLOURS["room"], True, 0.0, 0.5, (0.62, 0.7)),
    "sunset": Place(land.sunset, land.COLOURS["sunset"], True, 0.3, 0.5, (0.62, 0.74)),
    "mountains": Place(green.mountains, green.COLOURS["mountains"], True, 0.3, 0.5, (0.55, 0.66)),
    "field": Place(green.field, green.COLOURS["field"], True, 0.2, 0.5, (0.48, 0.6)),
    "river": Place(green.river, green.COLOURS["river"], True, 0.2, 0.45, (0.46, 0.58)),
    "sky": Place(built.sky, built.COLOURS["sky"], False, 0.25, 0.0, (1.0, 1.0)),
    "autumn": Place(green.autumn, green.COLOURS["autumn"], True, 0.25, 0.5, (0.52, 0.64)),
    "jungle": Place(green.jungle, green.COLOURS["jungle"], True, 0.3, 0.5, (0.54, 0.66)),
    "road": Place(built.road, built.COLOURS["road"], True, 0.2, 0.5, (0.46, 0.56)),
    "stage": Place(built.stage, built.COLOURS["stage"], True, 0.0, 0.5, (0.62, 0.72)),
    "volcano": Place(green.volcano, green.COLOURS["volcano"], True, 0.3, 0.5, (0.56, 0.68)),
    "garden": Place(green.garden, green.COLOURS["garden"], True, 0.1, 0.5, (0.5, 0.6)),
    "plain": Place(built.plain, built.COLOURS["plain"], False, 0.0, 0.35, (1.0, 1.0)),
}


@dataclass(slots=True)
class Backdrop:
    """The backgrounds of B scenes and the light in them."""

    image: Tensor  # (B, 3, S, S) in [0, 1]
    horizon: Tensor  # (B,) share of the height where ground and sky meet; 1 without a ground
    light: Tensor  # (B, 3) factor for the colours of the things
    haze: Tensor  # (B, 3) colour that far things fade into
    haze_amount: Tensor  # (B,) in [0, 1]
    shadow: Tensor  # (B,) strength of the contact shadow, [0, 1]


@dataclass(slots=True)
class _Facts:
    """Colours and numbers of the places of a batch, looked up before anything is painted."""

    far: Tensor  # (B, 3, 1, 1) ground at the horizon
    near: Tensor  # (B, 3, 1, 1) ground at the lower edge
    low: Tensor  # (B, 3) sky at the horizon
    light: Tensor  # (B, 3) light on the things
    numbers: Tensor  # (B, 4): haze, shadow, lowest and highest horizon

    def horizon(self, chance: Tensor) -> Tensor:
        lo, hi = self.numbers[:, 2], self.numbers[:, 3]
        return lo + (hi - lo) * chance[:, 0]


@lru_cache(maxsize=4)
def _table(device: torch.device) -> tuple[dict[str, int], Tensor, Tensor, Tensor]:
    """Row of each key in the tensors that follow; palettes (P, 4 moods, 4 colours: low, far, near, light; 3); number of
    moods (P,); numbers (P, 4) as in `_Facts`."""
    colours, count, numbers = [], [], []
    for place in PLACES.values():
        rows = palette(place.colours, device)
        picked = torch.stack((rows[:, 1], rows[:, 2], rows[:, 3], rows[:, -1]), 1)
        count.append(len(picked))
        colours.append(torch.cat((picked, picked[:1].expand(4 - len(picked), -1, -1))))
        numbers.append((place.haze, place.shadow, *place.horizon))
    at = {key: i for i, key in enumerate(PLACES)}
    return at, torch.stack(colours), torch.tensor(count, device=device), torch.tensor(numbers, device=device)


def _facts(keys: Sequence[str], chance: Tensor) -> _Facts:
    at, colours, count, numbers = _table(chance.device)
    rows = torch.tensor([at[key] for key in keys], device=chance.device)
    n = count[rows]
    mood = torch.minimum((chance[:, 1] * n).long(), n - 1)
    low, far, near, light = colours[rows, mood].unbind(1)
    return _Facts(far.view(-1, 3, 1, 1), near.view(-1, 3, 1, 1), low, light, numbers[rows])


def _groups(keys: Sequence[str]) -> dict[str, list[int]]:
    """The positions of each key."""
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

    keys: B keys of PLACES.
    shades: B RGB colours in [0, 1], used by the place `plain` (None: light grey).
    chance: (B, CHANCE), uniform in [0, 1).
    """
    device = torch.device(device)
    b = len(keys)
    assert len(shades) == b and chance.shape == (b, CHANCE), (b, len(shades), chance.shape)
    chance = chance.to(device=device, dtype=torch.float32)
    facts = _facts(keys, chance)
    image = torch.empty(b, 3, size, size, device=device)
    haze = facts.low
    for key, members in _groups(keys).items():
        place = PLACES[key]
        at = torch.tensor(members, device=device)
        canvas = Canvas(chance[at], size, place.colours, place.horizon)
        if key == "plain":
            rgb = torch.tensor([shades[i] or GREY for i in members], device=device, dtype=torch.float32)
            canvas.shade = rgb.view(-1, 3, 1, 1)
            haze[at] = rgb
            place.draw(canvas)
        else:
            place.draw(canvas)
            canvas.image.mul_(gain(canvas.chance))
        image.index_copy_(0, at, canvas.image.clamp_(0, 1))
    horizon = facts.horizon(chance)
    return Backdrop(image, horizon, facts.light, haze, facts.numbers[:, 0], facts.numbers[:, 1])


def foreground(keys: Sequence[str], chance: Tensor, base_y: Tensor, size: int, device: torch.device | str) -> Tensor:
    """The strip of ground in front of feet at height base_y (B,): RGBA with premultiplied alpha, (B, 4, S, S).

    It reaches `over.STRIP` above and below base_y. It is empty where the ground is hard or there is none.
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
    """Rain, snow, bubbles and the like in front of everything: RGBA with premultiplied alpha, (B, 4, S, S)."""
    device = torch.device(device)
    chance = chance.to(device=device, dtype=torch.float32)
    out = torch.zeros(len(keys), 4, size, size, device=device)
    for key, members in _groups(keys).items():
        if key in WEATHER:
            at = torch.tensor(members, device=device)
            canvas = Canvas(chance[at], size, PLACES[key].colours, PLACES[key].horizon)
            out.index_copy_(0, at, WEATHER[key](canvas))
    return out
