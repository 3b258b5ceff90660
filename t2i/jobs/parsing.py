"""The notations that settings are written in: seeds, numbers per stage, thresholds. Imports no torch."""

from __future__ import annotations

import math
import re
from typing import TYPE_CHECKING

from t2i.errors import UsageError, nearest
from t2i.prompts import MAX_SEED, seeds_from
from t2i.sampling import Threshold

if TYPE_CHECKING:
    from t2i.store.manifest import Manifest, StageEntry

MAX_COUNT = 100_000  # pictures of one prompt
MAX_SCALE = 64.0  # times that a picture is enlarged
MAX_SIDE = 32_000  # pixels of an enlarged picture's longer side


def check_count(n: int | None) -> None:
    """Raise UsageError unless -n is 1 to `MAX_COUNT`."""
    if n is not None and n < 1:
        raise UsageError(f"-n {n} asks for no picture.", "Write -n 1 or more.")
    if n is not None and n > MAX_COUNT:
        raise UsageError(f"-n {n} is more than {MAX_COUNT} pictures.", "Run it several times with other seeds.")


def parse_seeds(text: str | None, n: int | None) -> list[int] | None:
    """The seeds of `--seed` and `-n`: 7 with n=3 is 7, 8, 9; 1,2,9 and 7..14 stand for themselves; None is None.

    Raises UsageError.
    """
    if text is None:
        return None
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,19})(?:\.\.(\d{1,19}))?\s*", part, re.ASCII)
        if not found:
            raise UsageError(f"--seed {text!r} is not a seed.", "Write 7, or 1,2,3, or 7..14.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= 100_000 or last > MAX_SEED:
            raise UsageError(f"--seed {text!r} is not a range of seeds.", "Write 7..14; at most 100,000 seeds.")
        seeds += range(first, last + 1)
    if len(seeds) == 1:
        return list(seeds_from(seeds[0], n or 1, "--seed "))
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seed {text!r} names a seed twice.", "Name each once.")
    if n is not None and n != len(seeds):
        raise UsageError(f"--seed names {len(seeds)} seeds and -n asks for {n} pictures.", "Leave -n out.")
    return seeds


def per_stage(
    option: str,
    text: str | None,
    manifest: Manifest,
    low: float,
    high: float,
    *,
    whole: bool = False,
    kinds: tuple[str, ...] = ("prior", "base", "upsampler"),
    bare: tuple[str, ...] = ("base",),
) -> dict[str, float]:
    """`8` or `base=8,up=2` as {stage name: number}.

    A stage may be named by its kind or by the beginning of either; a number without a name is for the kinds
    `bare`, as far as the model has them. Raises
    UsageError for unknown stages, stages that are not of these `kinds`, and numbers outside [low, high].
    """
    out: dict[str, float] = {}
    if text is None:
        return out
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (whole and value != int(value)):
            number = "whole number" if whole else "number"
            named = ",".join(f"{e.name}=…" for e in [e for e in manifest.stages if e.kind in kinds][:2])
            bounds = f"Write a {number} from {low:g} to {high:g}" + (f", or {named}" if named else "")
            raise UsageError(f"--{option} {text!r} cannot be read.", bounds)
        said = name.strip()
        plain = [entry for entry in manifest.stages if entry.kind in bare and entry.kind in kinds]
        for entry in plain if plain and not said else _stages_named(option, said or bare[-1], manifest, kinds):
            out[entry.name] = value
    return out


def _stages_named(option: str, name: str, manifest: Manifest, kinds: tuple[str, ...]) -> list[StageEntry]:
    stages = [entry for entry in manifest.stages if entry.kind in kinds]
    for match in (
        [e for e in stages if e.name == name],
        [e for e in stages if e.kind == name],
        [e for e in stages if e.name.startswith(name) or e.kind.startswith(name)],
    ):
        if match:
            return match
    known = [entry.name for entry in stages]
    near = nearest(name, known, 1)
    every = f"It is for {', '.join(known)}."
    hint = f"Did you mean {near[0]}?" if near else every if known else "None of this model's stages takes it."
    there = any(name and name in (entry.name, entry.kind) for entry in manifest.stages)
    what = f"the stage {name!r} does not take it" if there else f"the model has no stage {name!r} that takes it"
    raise UsageError(f"--{option}: {what}.", hint)


def parse_thresholds(text: str | None) -> dict[str, Threshold]:
    """`0.995,1.5`, `static` or `none`, for the base; or `base=0.995,1.5,up=static`.

    The numbers are percentile and cap of dynamic thresholding (Imagen, section 2.3); without a cap there is none. ->
    {name as written, "" for the base: threshold}. Raises UsageError.
    """
    parts: dict[str, list[str]] = {}
    name = ""
    for part in text.split(",") if text is not None else ():
        stage, equals, value = part.rpartition("=")
        name = stage.strip() if equals else name
        parts.setdefault(name, []).append(value.strip())
    return {name: _threshold(text or "", values) for name, values in parts.items()}


def _threshold(text: str, words: list[str]) -> Threshold:
    if words == ["static"]:
        return "static"
    if words == ["none"]:
        return "none"
    try:
        percentile, cap = float(words[0]), float(words[1]) if words[1:] else math.inf
    except ValueError:
        percentile = cap = math.nan
    if not (0 < percentile <= 1 and cap >= 1 and len(words) <= 2):
        hint = "Write percentile,cap, as in 0.995,1.5, or static, or none."
        raise UsageError(f"--threshold {text!r} cannot be read.", hint)
    return percentile, cap


def thresholds(text: str | None, manifest: Manifest) -> dict[str, Threshold]:
    """`parse_thresholds` with the names of the model's stages. Raises UsageError for stages that draw no pixels."""
    kinds = ("base", "upsampler")
    return {
        entry.name: value
        for name, value in parse_thresholds(text).items()
        for entry in _stages_named("threshold", name or "base", manifest, kinds)
    }
