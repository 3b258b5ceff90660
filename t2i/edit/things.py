"""Things that a text names, found in a picture by the judge: which is which, and the outline of each.

The judge's boxes say where the things are. In a box, the thing is what differs from a smooth surface that continues the
surroundings of all boxes.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cache

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.masks import bounds, grow
from t2i.edit.surface import smooth_fill
from t2i.edit.textmask import blur, otsu
from t2i.store.registry import resolve_judge
from t2i.world.captions.english import article
from t2i.world.judge import Judge
from t2i.world.reading import OWN, Detection
from t2i.world.vocabulary import COLOURS, index, things

SIDE = 128
"""Side of the picture in which outlines are found."""
MARGIN = 0.02
"""By how much a box is widened, as a share of the picture's side: the judge's boxes are a little tight."""
SHARE = 0.7
"""Of Otsu's threshold: parts of a thing that are nearly as light as the background belong to it."""


SPELLINGS = {word: key for key, (chinese, _) in COLOURS.items() for word in (key, chinese[0])} | {"gray": "grey"}
"""Colour words; of a Chinese one the first character, which is enough."""
NEGATION = re.compile(
    r"\b(?:no|non|not|never|neither|nor|none|nothing|cannot|without|except)\b|n['’]t\b|没有?|不是?|无|并非|除了",
    re.ASCII,
)
"""Words that turn a text into its opposite. In Chinese, more is taken for one than is: a refusal is better than a wrong
yes."""
COUNT = re.compile(
    r"(?<!\d)(?:[2-9]|[1-9]\d+)(?!\d)|[两二三四五六七八九十]"
    r"|\b(?:two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|several|many)\b",
    re.ASCII,
)
"""Numbers above one."""


@dataclass(frozen=True)
class Named:
    """A thing that a text names: its key, and the colour word before it, or None."""

    thing: str
    colour: str | None = None

    @property
    def name(self) -> str:
        """In words: "red cat"."""
        return " ".join(filter(None, [self.colour, things()[self.thing].en]))

    def fits(self, seen: Detection) -> bool:
        """Whether it is this thing, in this colour where one is named."""
        colour = things()[seen.thing].colour if seen.colour == OWN else seen.colour
        return seen.thing == self.thing and self.colour in (None, colour)


@dataclass(frozen=True)
class PlacedThing:
    """A thing in a picture. name: in words, with the colour that it was given; score: the judge's confidence in [0, 1];
    box: x, y, width and height in pixels."""

    thing: str
    name: str
    score: float
    box: tuple[int, int, int, int]


@dataclass(frozen=True)
class FoundThings:
    """mask (1, H, W) of 0 and 1, all 0 if what is named is not there; seen: all things in the picture; named: those of
    them that the text names, none unless all that it names is there; missing: what it names that is not there."""

    mask: Tensor
    seen: tuple[PlacedThing, ...]
    named: tuple[PlacedThing, ...] = ()
    missing: tuple[Named, ...] = ()

    @property
    def names(self) -> str:
        """What is seen, in words: "a red car and a dog"; "" if nothing is."""
        return _listed([article(thing.name) for thing in self.seen])

    @property
    def words(self) -> str:
        """What is seen and what is missing: "the picture shows a red car and a dog, but no blue car"."""
        if not self.seen:
            return "no thing is seen in the picture"
        shown = f"the picture shows {self.names}"
        missing = _listed([f"no {named.name}" for named in self.missing])
        return f"{shown}, but {missing}" if missing else shown


def _listed(words: Sequence[str]) -> str:
    """a, b and c."""
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def placed(thing: Detection, outline: Tensor) -> PlacedThing:
    """A thing with the box of its outline (1, H, W); with the judge's own box where the outline is empty."""
    height, width = outline.shape[1:]
    if bool(outline.any()):
        b = bounds(outline)
        box = b.left, b.top, b.right - b.left, b.bottom - b.top
    else:
        x, y = (max(0, round((c - s / 2) * n)) for c, s, n in ((thing.x, thing.w, width), (thing.y, thing.h, height)))
        box = x, y, max(1, min(round(thing.w * width), width - x)), max(1, min(round(thing.h * height), height - y))
    colour = "" if thing.colour == OWN else f"{thing.colour} "
    return PlacedThing(thing.thing, colour + things()[thing.thing].en, thing.score, box)


def shipped_judge() -> Judge:
    """The judge that comes with the models. Raises UnavailableError where it is not installed."""
    return Judge.load(resolve_judge())


def english_names(keys: Iterable[str]) -> list[str]:
    """The names of things in English, by their keys."""
    return [things()[key].en for key in keys]


@torch.inference_mode()
def things_mask(
    judge: Judge,
    image: Tensor,
    named: Sequence[Named],
    *,
    grow_by: float = 0.0,
    threshold: float | None = None,
    boxed: bool = False,
) -> FoundThings:
    """Where the named things are in `image` (3, H, W); nowhere if one of them is not seen.

    grow_by, threshold and boxed: as in `textmask.text_mask`. Other things that the judge sees are left out, also of a
    bounding box.
    """
    (reading,) = judge.read(image[None].float())
    objects, (height, width) = reading.objects, image.shape[1:]
    wanted = [any(name.fits(thing) for name in named) for thing in objects]
    mask, others = torch.zeros(1, height, width), torch.zeros(1, height, width)
    found = outlines(image, objects, threshold)
    seen = tuple(map(placed, objects, found))
    if missing := tuple(name for name in named if not any(map(name.fits, objects))):
        return FoundThings(mask, seen, (), missing)
    for outline, is_wanted in zip(found, wanted, strict=True):
        if not is_wanted:
            others = torch.maximum(others, outline)
        elif boxed and bool(outline.any()):
            mask[bounds(outline).slices] = 1
        else:
            mask = torch.maximum(mask, outline)
    asked = tuple(thing for thing, is_wanted in zip(seen, wanted, strict=True) if is_wanted)
    return FoundThings(grow(mask, round(grow_by * min(height, width))) * (1 - others), seen, asked)


def outlines(image: Tensor, seen: Sequence[Detection], threshold: float | None = None) -> list[Tensor]:
    """The outline of each thing that is seen in `image` (3, H, W): (1, H, W) of 0 and 1."""
    from scipy.ndimage import binary_fill_holes  # slow to import: only where it is asked for

    if not seen:
        return []
    height, width = image.shape[1:]
    small = F.interpolate(image[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    boxes = torch.stack([in_box(thing, SIDE, SIDE) <= 1 for thing in seen])
    surface = smooth_fill(small, boxes.any(0).to(small)[None, None])
    contrast = blur((small - surface).abs().amax(1)[0])
    large = F.interpolate(contrast[None, None], (height, width), mode="bicubic", align_corners=False)[0, 0]
    # Where boxes overlap, a pixel belongs to the thing in whose box it lies deepest.
    depth = torch.stack([in_box(thing, height, width) for thing in seen])
    owner = depth.argmin(0)
    found = []
    for k, box in enumerate(boxes):
        inside = contrast[box]
        level = SHARE * otsu(inside) if threshold is None else threshold * float(torch.quantile(inside, 0.98))
        own = (depth[k] <= 1) & (owner == k)
        filled = torch.from_numpy(binary_fill_holes(((large > level) & own).numpy()))
        found.append((filled & own).float()[None])
    return found


def in_box(thing: Detection, height: int, width: int) -> Tensor:
    """(H, W): 0 in the middle of the thing's box, 1 at the border of the box with its margin, more outside."""
    y, x = ((torch.arange(n) + 0.5) / n for n in (height, width))
    across, down = (x - thing.x).abs() / (thing.w / 2 + MARGIN), (y - thing.y).abs() / (thing.h / 2 + MARGIN)
    return torch.maximum(across[None, :], down[:, None])


def named_things(text: str, known: Iterable[str]) -> list[Named]:
    """The things among `known` (keys) that a text names: the first of each part that "and" or a comma separates.

    "the red car and the dog in the snow" names a car, if it is red, and a dog. An empty list: nothing is named.
    """
    keys = set(known)
    parts = re.split(r",|，|、|\band\b|和|与", text.lower())
    return list(dict.fromkeys(name for part in parts if (name := first_named(part, keys))))


def first_named(text: str, known: set[str]) -> Named | None:
    """The first thing that a text names, with the colour word before it. "orange" before another thing is a colour."""
    words, colour = re.findall(r"[a-z][a-z'-]*|[\u3400-\u9fff]", text), None
    for i, word in enumerate(words):
        key = name_at(words, i, known)
        if key is not None and not (word in SPELLINGS and name_at(words, i + 1, known)):
            return Named(key, colour)
        colour = SPELLINGS.get(word, colour)
    return None


def name_at(words: Sequence[str], i: int, known: set[str]) -> str | None:
    """The key of the thing whose name, the longest that fits, begins at word i; Chinese words are single characters."""
    english, chinese = index("en"), index("zh")
    for end in range(len(words), i, -1):
        key = english.get(" ".join(words[i:end])) or chinese.get("".join(words[i:end]))
        if key in known:
            return key
    return None


def negation(text: str) -> str | None:
    """The first word by which a text says what is not there, "no" of "no cat"; None without one."""
    return _first(NEGATION, text)


def number(text: str) -> str | None:
    """The first number above one in a text, "two" of "two cats"; None without one."""
    return _first(COUNT, text)


def _first(pattern: re.Pattern[str], text: str) -> str | None:
    """The first match outside of the names of things: 三明治 is a sandwich, and no number."""
    found = pattern.search(_every_name().sub(" ", text.lower()))
    return found[0] if found else None


@cache
def _every_name() -> re.Pattern[str]:
    """Any name of a thing, in either language; the longest that fits."""
    names = sorted({*index("en", "all"), *index("zh", "all")}, key=len, reverse=True)
    return re.compile("|".join(rf"\b{re.escape(n)}\b" if n.isascii() else re.escape(n) for n in names), re.ASCII)
