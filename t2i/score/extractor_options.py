"""What may be said of an extractor on the command line. Imports no torch."""

from __future__ import annotations

from pathlib import Path

from t2i.errors import UnavailableError, UsageError


def check_extractor(name: str, weights: Path | None, sha256: str | None) -> None:
    """Raise UsageError for an unknown extractor and for options that it does not heed, UnavailableError (code
    `metric`) for one without its weights."""
    kind, _, arch = name.partition(":")
    if kind not in ("clip", "judge", "open_clip") or (kind == "open_clip" and not arch):
        raise UsageError(f"--extractor {name!r} is not known.", "Write clip, judge or open_clip:ARCH.")
    if weights is not None and kind != "open_clip":
        raise UsageError("--weights needs its network.", "Say --extractor open_clip:ARCH.")
    if sha256 is not None and weights is None:
        raise UsageError("--sha256 is about --weights.", "Give the weights, or leave it out.")
    if kind == "open_clip" and weights is None:
        what = f"{name} needs its weights, which are not shipped."
        raise UnavailableError(what, "Fetch them and say --weights FILE.", "metric")
