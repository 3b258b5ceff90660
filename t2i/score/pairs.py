"""The same prompt and seed, before and after a change: are these still the same pictures?

Decoded pixels are compared, never files. The tiers follow what was measured: a picture is equal on the same machine,
build and batch; another batch or number of threads moves it by at most a few levels; anything more is another picture.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from t2i.errors import InputError, UsageError
from t2i.media.images import load_image, to_tensor
from t2i.score.listing import Picture

Tier = Literal["exact", "close", "far"]
TIERS: tuple[Tier, ...] = ("exact", "close", "far")
MAX_LEVELS, LEAST_PSNR = 4, 50.0


@dataclass(frozen=True)
class Pair:
    """levels: the largest difference of a channel, of 255; psnr in dB, inf for equal pixels; ssim at most 1. Two
    pictures of different sizes have no numbers and are far."""

    before: Path
    after: Path
    name: str
    prompt: str | None
    seed: int | None
    tier: Tier
    levels: int | None = None
    psnr: float | None = None
    ssim: float | None = None

    def table(self) -> dict[str, Any]:
        """As JSON: an infinite psnr is null beside the tier exact."""
        finite = self.psnr if self.psnr is not None and math.isfinite(self.psnr) else None
        names = {"before": str(self.before), "after": str(self.after), "prompt": self.prompt, "seed": self.seed}
        return {**names, "tier": self.tier, "levels": self.levels, "psnr": finite, "ssim": self.ssim}


def parse_tier(text: str) -> Tier:
    """Raises UsageError."""
    for tier in TIERS:
        if text == tier:
            return tier
    raise UsageError(f"--tier {text!r} is not known.", f"Choose one of {', '.join(TIERS)}.")


def match(before: Sequence[Picture], after: Sequence[Picture]) -> tuple[list[tuple[Picture, Picture]], list[Picture]]:
    """Pairs by (prompt, seed) where that names one picture on each side, else by file name; and what of ``before``
    found no partner. Raises InputError where nothing does."""
    by_say: dict[tuple[str | None, int | None], list[Picture]] = defaultdict(list)
    count: dict[tuple[str | None, int | None], int] = defaultdict(int)
    by_name = {p.name: p for p in after}
    for p in after:
        by_say[p.prompt, p.seed].append(p)
    for p in before:
        count[p.prompt, p.seed] += 1
    pairs, alone = [], []
    for p in before:
        found = by_say[p.prompt, p.seed] if p.prompt and p.seed is not None else []
        partner = found[0] if len(found) == 1 == count[p.prompt, p.seed] else by_name.get(p.name)
        if partner is None:
            alone.append(p)
        else:
            pairs.append((p, partner))
    if not pairs:
        raise InputError("no picture before has one after: neither prompt and seed nor file names agree.")
    return pairs, alone


def compare(before: Picture, after: Picture) -> Pair:
    """The numbers of one pair. Raises InputError for a picture that cannot be read."""
    from t2i.score.fidelity import WINDOW, psnr, ssim

    a, b = load_image(before.path), load_image(after.path)
    names = (before.path, after.path, after.name, after.prompt, after.seed)
    if a.size != b.size:
        return Pair(*names, "far")
    if a.tobytes() == b.tobytes():
        return Pair(*names, "exact", 0, math.inf, 1.0)
    x, y = to_tensor(a)[None], to_tensor(b)[None]
    levels, db = round(float((x - y).abs().max()) * 127.5), float(psnr(x, y))
    alike = float(ssim(x, y)) if min(a.size) >= WINDOW else None
    tier: Tier = "close" if levels <= MAX_LEVELS and db >= LEAST_PSNR else "far"
    return Pair(*names, tier, levels, db, alike)


def worst_first(pairs: Sequence[Pair]) -> list[Pair]:
    """The least alike first: other sizes, then by PSNR."""
    return sorted(pairs, key=lambda p: (-TIERS.index(p.tier), -1.0 if p.psnr is None else p.psnr, p.name))
