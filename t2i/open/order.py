"""What one call of a cascade is to draw, as arguments of diffusers' pipelines."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch

from t2i.engine import PromptBatch
from t2i.rng import generator


@dataclass(frozen=True)
class Order:
    """A batch of one call. key: gives several draws for the same seeds different noise."""

    batch: PromptBatch
    key: str = ""

    def generators(self, stage: str) -> list[torch.Generator]:
        """A generator for each picture, for its noise in a stage."""
        return [generator("noise", seed, stage + self.key, 0) for seed in self.batch.seeds]

    def callbacks(self, stage: str, pipeline: Any) -> dict[str, Any]:
        """Both ways in which pipelines report their steps; each takes one of them, or none."""
        if (on_step := self.batch.on_step) is None:
            return {}
        count = 0

        def tell(latents: Any) -> None:
            nonlocal count
            count += 1
            total = getattr(pipeline, "_num_timesteps", 0) or len(pipeline.scheduler.timesteps)
            on_step(stage, count, max(count, total), latents)

        def newer(pipeline: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            tell(tensors.get("latents"))
            return {}

        def older(step: int, t: Any, latents: Any) -> None:
            tell(latents)

        return {"callback_on_step_end": newer, "callback": older}
