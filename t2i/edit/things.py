"""Things that are asked for, found in a picture by the judge: which is which, and the outline of each.

The judge's boxes say where the things are. In a box, the thing is what is like nothing around the boxes, in colour and
place.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.masks import bounds, grow
from t2i.edit.naming import Asked, listed
from t2i.media.contrast import blur, otsu, strangeness
from t2i.store.registry import resolve_judge
from t2i.world.captions.english import article
from t2i.world.judge import Judge, decode
from t2i.world.reading import OWN, Detection
from t2i.world.vocabulary import things

NAMED = 0.2
"""Least probability of a thing that is asked for by name. The judge is strict: a dog without a face is nothing."""
SIDE = 128
"""Side of the picture in which outlines are found."""
MARGIN = 0.02
"""By how much a box is widened, as a share of the picture's side: the judge's boxes are a little tight."""
SHARE = 0.7
"""Of Otsu's threshold: parts of a thing that are nearly as light as the background belong to it."""


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
    """mask (1, H, W) of 0 and 1, all 0 if what is asked for is not there; seen: all things in the picture; place: its
    key; named: those of the things that are asked for, none unless all is there; lacks: what is not, in words, as
    "no blue car"."""

    mask: Tensor
    seen: tuple[PlacedThing, ...]
    place: str = ""
    named: tuple[PlacedThing, ...] = ()
    lacks: tuple[str, ...] = ()

    @property
    def names(self) -> str:
        """What is seen, in words: "a red car and a dog"; "" if nothing is."""
        return listed(article(thing.name) for thing in self.seen)

    @property
    def words(self) -> str:
        """What is seen and what is missing: "the picture shows a red car and a dog, but no blue car"."""
        if not self.seen:
            return "no thing is clearly seen in the picture"
        shown = f"the picture shows {self.names}"
        return f"{shown}, but {listed(self.lacks)}" if self.lacks else shown


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


@torch.inference_mode()
def things_mask(
    judge: Judge,
    image: Tensor,
    asked: Asked,
    *,
    grow_by: float = 0.0,
    threshold: float | None = None,
    boxed: bool = False,
) -> FoundThings:
    """Where the things that are asked for are in `image` (3, H, W); nowhere if one of them, or the place, is not seen.
    What is asked for is seen from a probability of `NAMED` on, other things from the judge's own threshold on.

    grow_by, threshold and boxed: as in `textmask.text_mask`. Other things that the judge sees are left out, also of a
    bounding box.
    """
    maps = judge.maps(image[None])
    (reading,), (unsure,) = decode(maps, judge.config), decode(maps, replace(judge.config, threshold=NAMED))
    more = (d for d in unsure.objects if d not in reading.objects and any(name.fits(d) for name in asked.named))
    objects, (height, width) = (*reading.objects, *more), image.shape[1:]
    wanted = [any(name.fits(thing) for name in asked.named) for thing in objects]
    mask, others = torch.zeros(1, height, width), torch.zeros(1, height, width)
    found = outlines(image, objects, threshold)
    seen = tuple(map(placed, objects, found))
    lacks = [*(name.lack(objects) for name in asked.named), asked.place.lack(reading) if asked.place else ""]
    if any(lacks):
        return FoundThings(mask, seen, reading.place, (), tuple(filter(None, lacks)))
    for outline, is_wanted in zip(found, wanted, strict=True):
        if not is_wanted:
            others = torch.maximum(others, outline)
        elif boxed and bool(outline.any()):
            mask[bounds(outline).slices] = 1
        else:
            mask = torch.maximum(mask, outline)
    named = tuple(thing for thing, is_wanted in zip(seen, wanted, strict=True) if is_wanted)
    mask = grow(mask, round(grow_by * min(height, width))) * (1 - others)
    return FoundThings(mask, seen, reading.place, named)


def outlines(image: Tensor, seen: Sequence[Detection], threshold: float | None = None) -> list[Tensor]:
    """The outline of each thing that is seen in `image` (3, H, W): (1, H, W) of 0 and 1."""
    from scipy.ndimage import binary_fill_holes  # slow to import: only where it is asked for

    if not seen:
        return []
    height, width = image.shape[1:]
    small = F.interpolate(image[None].float(), (SIDE, SIDE), mode="bilinear", antialias=True, align_corners=False)
    boxes = torch.stack([in_box(thing, SIDE, SIDE) <= 1 for thing in seen])
    contrast = blur(strangeness(small[0], boxes.any(0)))
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
