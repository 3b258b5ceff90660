"""The edit of `t2i inpaint`: a picture, what is repainted of it, and how."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.engine import OnStep
from t2i.errors import InputError
from t2i.jobs.find import Finder
from t2i.jobs.inputs import SourceImage
from t2i.jobs.job import Job, batch_of
from t2i.jobs.masks import mask_digest, write_mask
from t2i.jobs.reporter import Reporter, shorten
from t2i.jobs.settings import Settings

if TYPE_CHECKING:
    from PIL.Image import Image
    from torch import Tensor

    from t2i.engine import Engine, Samples
    from t2i.sampling import SampleRequest


@dataclass
class InpaintEdit:
    """What is repainted: `mask` and what is found for `text`, joined.

    mask: L, 255 = repaint, as large as the picture with its margins, or None. margins: pixels added (left, top, right,
    bottom). feather: pixels, or None for the engine's own. text: what --mask-text names; shape: "box" around it or
    "exact" outline; grow: by which share of the short side it is widened; threshold: least contrast, or None for
    Otsu's.
    """

    reporter: Reporter
    source: SourceImage
    mask: Image | None
    margins: tuple[int, int, int, int]
    feather: int | None
    text: str | None
    shape: str
    grow: float
    threshold: float | None
    _finder: Finder | None = field(default=None, init=False)
    _prepared: tuple[Tensor, Tensor] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        """Raises UsageError for a text that says what is not there: before anything is loaded."""
        if self.text is not None:
            self._finder = Finder(self.reporter, self.text, "--mask-text: ", ", look at it with --show-mask")

    @property
    def size(self) -> tuple[int, int]:
        """Width and height of the result."""
        left, top, right, bottom = self.margins
        return self.source.image.width + left + right, self.source.image.height + top + bottom

    @property
    def without(self) -> tuple[str, ...]:
        """The kinds of stage that do not run."""
        return ()

    def facts(self) -> dict[str, Any]:
        """What decides the picture, for its key and record."""
        facts: dict[str, Any] = {
            "picture": self.source.digest,
            "mask": None if self.mask is None else mask_digest(self.mask),
            "outpaint": list(self.margins),
            "feather": self.feather,
        }
        if self.text:
            facts |= {"text": self.text, "shape": self.shape, "grow": self.grow}
            facts |= {"threshold": self.threshold} if self.threshold else {}
        return facts

    def apply(self, settings: Settings) -> Settings:
        """The same settings with what this asks for, for keys and records."""
        return settings.adding({"inpaint": self.facts()})

    def draw(self, engine: Engine, jobs: list[Job], request: SampleRequest, on_step: OnStep) -> Samples:
        """The pictures of jobs with one prompt, "" for a removal. Raises InputError where `text` is not found."""
        canvas, mask = self.prepare(lambda: engine)
        return engine.inpaint(canvas, mask, batch_of(jobs, request, on_step), feather=self.feather)

    def prepare(self, engine: Callable[[], Engine]) -> tuple[Tensor, Tensor]:
        """The picture with its margins (3, H, W) in [-1, 1], and the mask (1, H, W), 1 = repaint.

        engine: called where a text has to be looked for by a model. The result is kept.
        """
        if self._prepared is None:
            self._prepared = self._prepare(engine)
        return self._prepared

    def _prepare(self, engine: Callable[[], Engine]) -> tuple[Tensor, Tensor]:
        import torch

        from t2i.edit.masks import extend
        from t2i.media.images import to_tensor

        image = self.source.tensor
        left, top, right, bottom = self.margins
        canvas, mask = extend(image, left, top, right, bottom)
        if self.mask is not None:
            white = to_tensor(self.mask.convert("RGB"))[:1]
            mask = torch.maximum(mask, (white > 0).float())
        if self._finder is not None:
            inside = (..., slice(top, top + image.shape[1]), slice(left, left + image.shape[2]))
            mask[inside] = torch.maximum(mask[inside], self.find(self._finder, engine))
        return canvas, mask

    def save_mask(
        self, picture: Path, engine: Callable[[], Engine], overwrite: bool = False, inputs: Sequence[Path] = ()
    ) -> None:
        """Save the mask beside a finished picture, as PICTURE.mask.png, and say so. overwrite, inputs: see
        `write_mask`; engine: see `prepare`."""
        _, mask = self.prepare(engine)
        path = write_mask(mask, picture.with_name(f"{picture.stem}.mask.png"), overwrite, inputs)
        self.reporter.note(f"mask: {path}, {float(mask.mean()):.0%} of the picture")

    def find(self, finder: Finder, engine: Callable[[], Engine]) -> Tensor:
        """Where the text is in the picture: (1, H, W). Raises InputError where it is nowhere, or everywhere."""
        options: dict[str, Any] = {"grow_by": self.grow, "threshold": self.threshold, "boxed": self.shape == "box"}
        found = finder.look(self.source.tensor, engine, **options)
        if not found.usable:
            hint = "Say it otherwise, try --mask-threshold, or give a --box."
            if finder.knows:
                hint = "Name a thing that is there, or give a --box or a --mask."
            raise InputError(f"{shorten(finder.text)!r} was not found in {self.source.path}: {found.words}.", hint)
        return found.mask
