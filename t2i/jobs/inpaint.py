"""From the checked inputs of `t2i inpaint` to pictures: the mask is found, once, and the engine called."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from t2i.errors import InputError
from t2i.jobs.inputs import SourceImage
from t2i.jobs.job import Job
from t2i.jobs.output_paths import make_folder
from t2i.jobs.reporter import OnStep, Reporter, shorten

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from t2i.pipeline import Pipeline, Samples
    from t2i.sampling import SampleRequest

MOST = 0.9
"""The largest share of a picture that `--mask-text` may take: what is everywhere is not found."""


@dataclass
class Inpainting:
    """How the jobs of `t2i inpaint` become pictures. mask: L, as large as the picture with its margins, or None;
    beside: where the mask that was used is saved, or None."""

    reporter: Reporter
    source: SourceImage
    mask: Image | None
    margins: tuple[int, int, int, int]
    feather: int | None
    text: str | None
    shape: str
    grow: float
    threshold: float | None
    beside: Path | None
    found: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def __call__(self, pipeline: Pipeline, jobs: list[Job], settings: SampleRequest, on_step: OnStep) -> Samples:
        """The pictures of jobs with one prompt. Raises InputError where `--mask-text` finds nothing."""
        from t2i.edit.inpaint import inpaint
        from t2i.pipeline import Samples

        if self.found is None:
            self.found = self.prepare(pipeline)
        canvas, mask = self.found
        prompts, seeds = [job.prompt for job in jobs], [job.seed for job in jobs]
        words = prompts if prompts[0] else None
        images = inpaint(pipeline, canvas, mask, words, seeds, settings, feather=self.feather, on_step=on_step)
        cut: list[str | None] = [None] * len(jobs)
        if words:
            cut = pipeline.encode(words)[1]
        return Samples(images, {}, cut, [pipeline.words.unknown(prompt) for prompt in prompts])

    def prepare(self, pipeline: Pipeline) -> tuple[Tensor, Tensor]:
        """The picture with its margins (3, H, W), and what is to be painted of it (1, H, W)."""
        import torch

        from t2i.edit.masks import extend
        from t2i.media.images import save_image, to_pil, to_tensor

        image = to_tensor(self.source.image)
        left, top, right, bottom = self.margins
        canvas, mask = extend(image, left, top, right, bottom)
        if self.mask is not None:
            white = to_tensor(self.mask.convert("RGB"))[:1]
            mask = torch.maximum(mask, (white > 0).float())
        if self.text is not None:
            inside = (..., slice(top, top + image.shape[1]), slice(left, left + image.shape[2]))
            mask[inside] = torch.maximum(mask[inside], self.look(pipeline, image))
        if self.beside is not None:
            make_folder(self.beside.parent)
            save_image(to_pil(mask.expand(3, -1, -1) * 2 - 1), self.beside)
            self.reporter.note(f"mask: {self.beside}, {float(mask.mean()):.0%} of the picture")
        return canvas, mask

    def look(self, pipeline: Pipeline, image: Tensor) -> Tensor:
        """Where the text is in the picture."""
        from t2i.edit.textmask import text_mask

        assert self.text is not None
        for word in pipeline.words.unknown(self.text):
            self.reporter.warn(f"--mask-text: the model has never read {shorten(word)!r}")
        boxed = self.shape == "box"
        mask = text_mask(pipeline, image, self.text, grow_by=self.grow, threshold=self.threshold, boxed=boxed)
        share = float(mask.mean())
        if not 0 < share < MOST:
            what = "nothing stands out" if not share else "it seems to be everywhere"
            hint = "Say it otherwise, try --mask-threshold, or give a --box."
            raise InputError(f"{shorten(self.text)!r} was not found in {self.source.path}: {what}.", hint)
        return mask
