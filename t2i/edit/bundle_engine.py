"""A bundle as a `t2i.engine.Engine`: its pipeline, and the edits of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from t2i.engine import PromptBatch, Samples, Upscaled

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.pipeline import Pipeline


@dataclass(frozen=True)
class BundleEngine:
    """A loaded bundle. pipeline: for what no other model offers: reranking, masks from text."""

    pipeline: Pipeline

    def sample(self, batch: PromptBatch) -> Samples:
        """See `Engine`."""
        return self.pipeline.sample(batch.prompts, batch.seeds, batch.request, on_step=batch.on_step)

    def image_to_image(self, image: Tensor, batch: PromptBatch, *, strength: float = 0.6) -> Samples:
        """See `Engine`. The model sees the square in the middle."""
        from t2i.edit.vary import image_to_image

        return image_to_image(self.pipeline, image, batch, strength=strength)

    def inpaint(self, image: Tensor, mask: Tensor, batch: PromptBatch, *, feather: int | None = None) -> Samples:
        """See `Engine`."""
        from t2i.edit.inpaint import inpaint

        images = inpaint(self.pipeline, image, mask, batch, feather=feather)
        cut: list[str | None] = self.pipeline.encode(batch.prompts)[1] if batch.has_text else [None] * len(images)
        return Samples(images, {}, cut, [self.pipeline.words.unknown(prompt) for prompt in batch.prompts])

    def variations(self, image: Tensor, batch: PromptBatch, *, strength: float = 1.0) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import variations

        return variations(self.pipeline, image, batch, strength=strength)

    def blend(
        self, a: Tensor, b: Tensor, shares: Sequence[float], batch: PromptBatch, *, strength: float = 0.0
    ) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import blend

        return blend(self.pipeline, a, b, shares, batch, strength=strength)

    def text_diff(
        self, image: Tensor, source: str, target: str, thetas: Sequence[float], batch: PromptBatch, *,
        strength: float = 0.0,
    ) -> Samples:  # fmt: skip
        """See `Engine`."""
        from t2i.edit.vary import text_diff

        return text_diff(self.pipeline, image, source, target, thetas, batch, strength=strength)

    def upscale(
        self, image: Tensor, size: tuple[int, int], batch: PromptBatch, *, tile: int = 160, gate: bool = True
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
