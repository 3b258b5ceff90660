"""Where the seconds go: per stage, from the steps that the engine reports."""

from __future__ import annotations

import time
from typing import Any

from t2i.jobs.reporter import OnStep


class StageTimer:
    """Seconds per stage of one batch. The first stage's include the encoding of the text; each further stage
    begins where the one before ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """What has passed since the last lap belongs to ``name``."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def watch(self, on_step: OnStep) -> OnStep:
        """``on_step``, timed."""

        def timed(stage: str, step: int, total: int, x0_hat: Any) -> None:
            self.lap(stage)
            on_step(stage, step, total, x0_hat)

        return timed

    def table(self, pictures: int) -> dict[str, Any]:
        """What ``--json`` says: seconds a picture of each stage, and how many pictures were drawn together."""
        share = {name: round(seconds / pictures, 6) for name, seconds in self.seconds.items()}
        return {"batch": pictures, "seconds": share}
