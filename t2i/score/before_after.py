"""The same prompts and seeds before and after a change: are these still the same pictures?

Decoded pixels are compared, never files. Three tiers: pictures are exact on the same machine, build and batch; another
batch size or number of threads changes them by at most a few levels (close); anything else is another picture (far).
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import Any, Literal, Protocol, TypeVar

from t2i.errors import UsageError
from t2i.media.images import load_image, to_tensor
from t2i.score.picture_files import PictureFile

Tier = Literal["exact", "close", "far"]
TIERS: tuple[Tier, ...] = ("exact", "close", "far")
CLOSE_LEVELS, CLOSE_PSNR = 4, 50.0  # of 255, and dB: the limits of "close"


@dataclass(frozen=True)
class PicturePair:
    """A picture before and after. levels: the largest difference of a channel, of 255. psnr: in dB, infinite for equal
    pixels. ssim: at most 1. Pictures of different sizes are far and have no numbers."""

    before: Path
    after: Path
    name: str
    prompt: str | None
    seed: int | None
    tier: Tier
    levels: int | None = None
    psnr: float | None = None
    ssim: float | None = None

    def is_beyond(self, tier: Tier) -> bool:
        """Whether the pair is less alike than `tier` allows."""
        return TIERS.index(self.tier) > TIERS.index(tier)

    def to_json(self) -> dict[str, Any]:
        """An infinite psnr becomes null."""
        finite = self.psnr if self.psnr is not None and math.isfinite(self.psnr) else None
        names = {"before": str(self.before), "after": str(self.after), "prompt": self.prompt, "seed": self.seed}
        return {**names, "tier": self.tier, "levels": self.levels, "psnr": finite, "ssim": self.ssim}


def parse_tier(text: str) -> Tier:
    """Raises UsageError."""
    for tier in TIERS:
        if text == tier:
            return tier
    raise UsageError(f"--tier {text!r} is not known.", f"Choose one of {', '.join(TIERS)}.")


class _Picture(Protocol):
    """What pictures are matched by: a `PictureFile`, or a `PictureRow` of a score."""

    @property
    def name(self) -> str: ...
    @property
    def prompt(self) -> str | None: ...
    @property
    def seed(self) -> int | None: ...


P = TypeVar("P", bound=_Picture)


def match_pictures(before: Sequence[P], after: Sequence[P]) -> tuple[list[tuple[P, P]], list[P]]:
    """Pairs of pictures, and the pictures of `before` without a partner.

    Pairs have the same prompt and seed if that names one picture on each side, else the same file name, else the same
    file name with another ending, if that names one picture on each side.
    """
    by_seed: dict[tuple[str | None, int | None], list[P]] = defaultdict(list)
    count: dict[tuple[str | None, int | None], int] = defaultdict(int)
    by_name = {p.name: p for p in after}
    had, have = (Counter(_stem(p) for p in side) for side in (before, after))
    by_stem = {_stem(p): p for p in after if had[_stem(p)] == have[_stem(p)] == 1}
    for p in after:
        by_seed[p.prompt, p.seed].append(p)
    for p in before:
        count[p.prompt, p.seed] += 1
    pairs, alone = [], []
    for p in before:
        found = by_seed[p.prompt, p.seed] if p.prompt and p.seed is not None else []
        partner = found[0] if len(found) == 1 == count[p.prompt, p.seed] else by_name.get(p.name)
        partner = partner or by_stem.get(_stem(p))
        if partner is None:
            alone.append(p)
        else:
            pairs.append((p, partner))
    return pairs, alone


def _stem(picture: _Picture) -> PurePath:
    return PurePath(picture.name).with_suffix("")


def compare_pair(before: PictureFile, after: PictureFile) -> PicturePair:
    """Raises InputError for a picture that cannot be read."""
    from t2i.score.pixel_metrics import WINDOW, psnr, ssim

    a, b = load_image(before.path), load_image(after.path)
    names = (before.path, after.path, after.name, after.prompt, after.seed)
    if a.size != b.size:
        return PicturePair(*names, "far")
    if a.tobytes() == b.tobytes():
        return PicturePair(*names, "exact", 0, math.inf, 1.0)
    x, y = to_tensor(a)[None], to_tensor(b)[None]
    levels, db = round(float((x - y).abs().max()) * 127.5), float(psnr(x, y))
    similarity = float(ssim(x, y)) if min(a.size) >= WINDOW else None
    tier: Tier = "close" if levels <= CLOSE_LEVELS and db >= CLOSE_PSNR else "far"
    return PicturePair(*names, tier, levels, db, similarity)


def worst_first(pairs: Sequence[PicturePair]) -> list[PicturePair]:
    """By tier, the least alike first; within a tier other sizes first, then by PSNR."""
    return sorted(pairs, key=lambda p: (-TIERS.index(p.tier), -1.0 if p.psnr is None else p.psnr, p.name))
