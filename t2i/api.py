"""The library in two calls: ``t2i.load("small").sample("a cat in the snow", n=4)`` gives four PIL images."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.pipeline import Pipeline


@dataclass(frozen=True)
class Model:
    """A loaded model. ``pipeline`` is the engine below, which works on tensors."""

    pipeline: Pipeline

    def sample(self, prompt: str | list[str], n: int = 1, seed: int | None = None, **settings: Any) -> list[Image]:
        """Draw ``n`` pictures of each prompt; picture i of a prompt has seed ``seed + i`` (random when None).

        ``settings`` are the fields of :class:`t2i.pipeline.SampleSettings`: size, steps, guidance, sampler,
        negative, threshold; steps and guidance as {"base": 8}.  Returns upright RGB images, those of the
        first prompt first.  Raises UsageError for a prompt, a number or a setting that makes no sense.
        """
        from dataclasses import fields

        from t2i.errors import UsageError, nearest
        from t2i.images import to_pil
        from t2i.pipeline import SampleSettings
        from t2i.prompts import check_prompt, random_seed

        if n < 1:
            raise UsageError(f"n={n} asks for no picture.")
        if seed is not None and (not isinstance(seed, int) or seed < 0):
            raise UsageError(f"seed={seed!r} is not a seed.", "A seed is a whole number from 0 on.")
        known = [f.name for f in fields(SampleSettings) if f.name != "keep_stages"]
        for name in settings:
            if name not in known:
                near = nearest(name, known, 1) or known
                raise UsageError(f"there is no setting {name!r}.", f"Did you mean {', '.join(near)}?")
        texts = [check_prompt(text) for text in ([prompt] if isinstance(prompt, str) else prompt)]
        first = random_seed() if seed is None else seed
        prompts = [text for text in texts for _ in range(n)]
        seeds = [first + i for _ in texts for i in range(n)]
        samples = self.pipeline.sample(prompts, seeds, SampleSettings(**settings))
        return [to_pil(pixels) for pixels in samples.images]


def load(model: str = "small", device: str = "cpu", dtype: str = "float32") -> Model:
    """Load a model by its name or from its folder. Raises UnavailableError (no such model), InputError
    (damaged)."""
    from t2i.pipeline import Pipeline
    from t2i.store.registry import resolve

    return Model(Pipeline.load(resolve(model), device=device, dtype=dtype))
