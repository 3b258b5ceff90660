"""Seconds per stage, measured at the steps that the pipeline reports."""

from __future__ import annotations

import time
from typing import Any

from t2i.engine import OnStep


class StageTimer:
    """Seconds per stage of one batch. The first stage's include the text encoder's; each stage begins where the one
    before it ended."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Count the time since the last lap as that of `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now

    def watch(self, on_step: OnStep) -> OnStep:
        """`on_step`, which also takes the time."""

        def timed(stage: str, step: int, total: int, x0_hat: Any) -> None:
            self.lap(stage)
            on_step(stage, step, total, x0_hat)

        return timed

    def table(self, pictures: int) -> dict[str, Any]:
        """For `--json`: batch, the number of pictures drawn together; seconds of each stage, divided by it."""
        share = {name: round(seconds / pictures, 6) for name, seconds in self.seconds.items()}
        return {"batch": pictures, "seconds": share}
