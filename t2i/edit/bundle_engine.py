"""A bundle as a `t2i.engine.Engine`: its pipeline, and the edits of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from t2i.engine import Batch, Samples, Upscaled

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.pipeline import Pipeline


@dataclass(frozen=True)
class BundleEngine:
    """A loaded bundle. pipeline: for what no other model offers: reranking, masks from text."""

    pipeline: Pipeline

    def sample(self, batch: Batch) -> Samples:
        """See `Engine`."""
        return self.pipeline.sample(batch.prompts, batch.seeds, batch.request, on_step=batch.on_step)

    def image_to_image(self, image: Tensor, batch: Batch, *, strength: float = 0.6) -> Samples:
        """See `Engine`. The model sees the square in the middle."""
        from t2i.edit.vary import image_to_image

        return image_to_image(
            self.pipeline, image, batch.prompts, batch.seeds, batch.request, strength=strength, on_step=batch.on_step
        )

    def inpaint(self, image: Tensor, mask: Tensor, batch: Batch, *, feather: int | None = None) -> Samples:
        """See `Engine`."""
        from t2i.edit.inpaint import inpaint

        prompts, seeds = _said(batch), batch.seeds
        images = inpaint(
            self.pipeline, image, mask, prompts, seeds, batch.request, feather=feather, on_step=batch.on_step
        )
        cut: list[str | None] = self.pipeline.encode(prompts)[1] if prompts else [None] * len(seeds)
        unknown = [self.pipeline.words.unknown(prompt) for prompt in batch.prompts]
        return Samples(images, {}, cut, unknown)

    def variations(self, image: Tensor, batch: Batch, *, strength: float = 1.0) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import variations

        return variations(
            self.pipeline, image, batch.seeds, batch.request,
            prompts=_said(batch), strength=strength, on_step=batch.on_step,
        )  # fmt: skip

    def blend(self, a: Tensor, b: Tensor, shares: Sequence[float], batch: Batch, *, strength: float = 0.0) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import blend

        return blend(self.pipeline, a, b, shares, batch.seeds, batch.request, strength=strength, on_step=batch.on_step)

    def text_diff(
        self, image: Tensor, source: str, target: str, thetas: Sequence[float], batch: Batch, *, strength: float = 0.0
    ) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import text_diff

        return text_diff(
            self.pipeline, image, source, target, thetas, batch.seeds, batch.request,
            strength=strength, on_step=batch.on_step,
        )  # fmt: skip

    def upscale(
        self, image: Tensor, size: tuple[int, int], batch: Batch, *, tile: int = 160, gate: bool = True
    ) -> Upscaled:
        """See `Engine`."""
        from t2i.edit.upscaling import upscale

        (prompt,), (seed,) = batch.prompts, batch.seeds
        return upscale(
            self.pipeline, image, size, seed, batch.request,
            prompt=prompt or None, tile=tile, gate=gate, on_step=batch.on_step,
        )  # fmt: skip

    def undrawn(self, prompt: str) -> Sequence[str]:
        """See `Engine`."""
        return self.pipeline.words.undrawn(prompt)

    def near(self, word: str) -> Sequence[str]:
        """See `Engine`."""
        return self.pipeline.words.near(word)


def _said(batch: Batch) -> Sequence[str] | None:
    """The prompts; None where they say nothing."""
    return batch.prompts if any(batch.prompts) else None
