"""What `t2i score` is asked to do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from t2i.jobs.shard import Shard
from t2i.score.before_after import Tier
from t2i.score.gate import DEFAULT_DROP, MaxDrop
from t2i.store.load_options import LoadOptions


@dataclass(frozen=True)
class DrawOptions:
    """How the pictures of a suite are drawn: n of each prompt, picture i with seed `seed` + i.

    settings: as a user writes them, name -> text. folder: None for scores/SUITE-MODEL. loading: of the
    weights. shard: the share that `run.draw_shard` draws.
    """

    n: int = 4
    seed: int = 0
    model: str = "small"
    settings: dict[str, str] = field(default_factory=dict)
    folder: Path | None = None
    loading: LoadOptions = field(default_factory=LoadOptions)
    shard: Shard | None = None


@dataclass(frozen=True)
class GateOptions:
    """The comparison with a baseline, or without one with the pictures of --before. See `gate.run_gate`. update:
    replace the baseline by this score afterwards."""

    baseline: Path | None = None
    drop: MaxDrop = field(default_factory=lambda: MaxDrop.parse(DEFAULT_DROP))
    margins: dict[str, float] = field(default_factory=dict)
    primary: str | None = None
    update: bool = False


@dataclass(frozen=True)
class ScoreRequest:
    """What to score, and what to compare it with.

    places: files and folders of pictures; empty: those of the suite are drawn. suite: its name or file; limit: about so
    many of its prompts. prompts: a JSONL file with the prompts of the pictures. labels: of a zero-shot classification.
    metrics: only these. extractor: "clip", "clip:NAME", "judge" or "open_clip:ARCH" with its weights (a file) and their
    sha256. preference: the folder of a preference model. sprites: the sprite library, for fidelity. fresh: do not use
    the cache of features. against, alpha: compare as sets, and fail when KID's p-value is below alpha. before, tier:
    compare pixel by pixel, and fail when a pair is less alike.
    """

    places: Sequence[Path] = ()
    suite: str | None = None
    limit: int | None = None
    draw: DrawOptions = DrawOptions()
    prompts: Path | None = None
    labels: Sequence[str] = ()
    metrics: Sequence[str] = ()
    extractor: str = "clip"
    weights: Path | None = None
    sha256: str | None = None
    preference: Path | None = None
    sprites: Path | None = None
    gate: GateOptions = GateOptions()
    save_baseline: Path | None = None
    against: Path | None = None
    alpha: float | None = None
    save_stats: Path | None = None
    before: Path | None = None
    tier: Tier = "far"
    fresh: bool = False
    batch: int = 32
    device: str = "auto"
