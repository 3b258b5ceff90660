"""A bundle as a `t2i.engine.Engine`: its pipeline, and the edits of this package."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from t2i.engine import Samples, Upscaled

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.engine import OnStep
    from t2i.pipeline import Pipeline
    from t2i.sampling import SampleRequest


@dataclass(frozen=True)
class BundleEngine:
    """A loaded bundle. pipeline: for what no other model offers: reranking, masks from text."""

    pipeline: Pipeline

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`."""
        return self.pipeline.sample(prompts, seeds, request, on_step=on_step)

    def image_to_image(
        self,
        image: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        strength: float = 0.6,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`. The model sees the square in the middle."""
        from t2i.edit.vary import image_to_image

        return image_to_image(self.pipeline, image, prompts, seeds, request, strength=strength, on_step=on_step)

    def inpaint(
        self,
        image: Tensor,
        mask: Tensor,
        prompts: Sequence[str] | None,
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        feather: int | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`."""
        from t2i.edit.inpaint import inpaint

        images = inpaint(self.pipeline, image, mask, prompts, seeds, request, feather=feather, on_step=on_step)
        cut: list[str | None] = self.pipeline.encode(prompts)[1] if prompts else [None] * len(seeds)
        unknown = [self.pipeline.words.unknown(prompt) for prompt in prompts or [""] * len(seeds)]
        return Samples(images, {}, cut, unknown)

    def variations(
        self,
        image: Tensor,
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        prompts: Sequence[str] | None = None,
        strength: float = 1.0,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import variations

        return variations(self.pipeline, image, seeds, request, prompts=prompts, strength=strength, on_step=on_step)

    def blend(
        self,
        a: Tensor,
        b: Tensor,
        shares: Sequence[float],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        strength: float = 0.0,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import blend

        return blend(self.pipeline, a, b, shares, seeds, request, strength=strength, on_step=on_step)

    def text_diff(
        self,
        image: Tensor,
        source: str,
        target: str,
        thetas: Sequence[float],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        *,
        strength: float = 0.0,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`."""
        from t2i.edit.vary import text_diff

        return text_diff(
            self.pipeline, image, source, target, thetas, seeds, request, strength=strength, on_step=on_step
        )

    def upscale(
        self,
        image: Tensor,
        size: tuple[int, int],
        seed: int = 0,
        request: SampleRequest | None = None,
        *,
        prompt: str | None = None,
        tile: int = 160,
        gate: bool = True,
        on_step: OnStep | None = None,
    ) -> Upscaled:
        """See `Engine`."""
        from t2i.edit.upscaling import upscale

        return upscale(self.pipeline, image, size, seed, request, prompt=prompt, tile=tile, gate=gate, on_step=on_step)

    def undrawn(self, prompt: str) -> Sequence[str]:
        """See `Engine`."""
        return self.pipeline.words.undrawn(prompt)

    def near(self, word: str) -> Sequence[str]:
        """See `Engine`."""
        return self.pipeline.words.near(word)
