"""The library in two calls: ``t2i.load("small").sample("a cat in the snow", n=4)`` gives four PIL images.

Each method gives the pixels that the command of the same name writes; only the command's files carry a record.
Pictures that go in are PIL images of any mode, or paths; pictures that come out are upright RGB images.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from os import PathLike
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from typing import TypeAlias

    from PIL.Image import Image
    from torch import Tensor

    from t2i.pipeline import Pipeline
    from t2i.sampling import SampleRequest

    Picture: TypeAlias = Image | str | PathLike[str]


@dataclass(frozen=True)
class Model:
    """A loaded model. ``pipeline`` is the engine below, which works on tensors."""

    pipeline: Pipeline

    def sample(
        self, prompt: str | Sequence[str], n: int = 1, seed: int | None = None, *, batch: int = 8, **settings: Any
    ) -> list[Image]:
        """Draw ``n`` pictures of each prompt; picture i of a prompt has seed ``seed + i`` (random when None).

        ``settings``: size, negative, prior, steps, guidance, sampler, threshold, sr_noise, best_of; the last six also
        for each stage, as in steps={"base": 8}.  ``batch`` pictures are drawn together, fewer
        where memory does not suffice; that moves a value by a level of 255 at most.  Returns the pictures of the
        first prompt first.  Raises UsageError for a prompt, a number or a setting that makes no sense,
        UnavailableError (code ``memory``).
        """
        from t2i.batching import in_batches
        from t2i.media.images import to_pil
        from t2i.prompts import check_prompt

        if not isinstance(prompt, Sequence):
            raise _usage(f"a prompt is text, or a list of texts; this is {type(prompt).__name__}.")
        texts = [check_prompt(text) for text in ([prompt] if isinstance(prompt, str) else prompt)]
        seeds, request = _seeds(n, seed), _request(self.pipeline, settings)
        jobs = [(text, s) for text in texts for s in seeds]
        _check_batch(batch)

        def draw(some: list[tuple[str, int]]) -> list[Image]:
            samples = self.pipeline.sample([text for text, _ in some], [s for _, s in some], request)
            return [to_pil(pixels) for pixels in samples.images]

        return in_batches(draw, jobs, batch)

    def inpaint(
        self,
        image: Picture,
        prompt: str,
        mask: Picture,
        n: int = 1,
        seed: int | None = None,
        *,
        feather: int | None = None,
        batch: int = 8,
        **settings: Any,
    ) -> list[Image]:
        """Repaint the part of ``image`` where ``mask``, a picture of the same size, is white: ``n`` pictures.

        Outside the mask the values are those of ``image``; in a rim of ``feather`` pixels inside it, colours are fitted
        to them.  ``batch`` and ``settings`` as in :meth:`sample`.  Raises UsageError for a mask of another size, or one
        that is empty or full, UnavailableError (code ``memory``).
        """
        from t2i.batching import in_batches
        from t2i.edit.inpaint import inpaint
        from t2i.media.images import to_pil
        from t2i.prompts import check_prompt

        text, seeds, request = check_prompt(prompt), _seeds(n, seed), _request(self.pipeline, settings)
        pixels, white = _pixels(image), _pixels(mask).mean(dim=0, keepdim=True)
        if pixels.shape[1:] != white.shape[1:]:
            raise _usage("the mask and the picture differ in size.", "Draw the mask on the picture itself.")
        hard = (white > 0).float()
        if not 0 < float(hard.mean()) < 1:
            raise _usage("the mask is all white or all black.", "White is repainted, black is kept.")
        _check_batch(batch)

        def draw(some: list[int]) -> list[Image]:
            prompts = [text] * len(some)
            made = inpaint(self.pipeline, pixels, hard, prompts, some, request, feather=feather)
            return [to_pil(picture) for picture in made]

        return in_batches(draw, seeds, batch)

    def upscale(
        self, image: Picture, scale: float | None = None, to: int | None = None, seed: int = 0, **settings: Any
    ) -> Image:
        """``image`` enlarged ``scale`` times, 1 to 64, or until its longer side has ``to`` pixels.

        Raises UsageError unless one of the two is given and makes the picture larger, InputError (code ``image``) for
        more than 64 megapixels.
        """
        from t2i.edit.upscaling import upscale
        from t2i.jobs.upscale import enlarged_size
        from t2i.media.images import to_pil
        from t2i.prompts import seeds_from

        pixels = _pixels(image)
        height, width = pixels.shape[1:]
        if (scale is None) == (to is None):
            raise _usage("upscale takes scale or to.", "Write upscale(picture, scale=4) or upscale(picture, to=1024).")
        if to is not None and to < max(height, width):
            raise _usage(f"to={to} would make the picture smaller.", "Its longer side has to grow.")
        factors = [int(self.pipeline.stages[e.name].config.scale) for e in self.pipeline.manifest.of_kind("upsampler")]
        wide, high = enlarged_size(width, height, to, scale, factors)
        (seed,) = seeds_from(seed, 1, "seed=")
        request = _request(self.pipeline, settings)
        return to_pil(upscale(self.pipeline, pixels, (high, wide), seed, request).image)

    def score(self, pictures: Sequence[Picture], prompt: str | Sequence[str]) -> list[float]:
        """How well each picture fits its prompt: the cosine, -1 to 1, of their embeddings by this model's own CLIP.

        ``prompt`` is one for all or one for each.  A picture is looked at in its middle square.  A model that drew
        a picture is not its best judge: `t2i score` takes others.  Raises UsageError when the numbers differ.
        """
        import torch
        import torch.nn.functional as F

        from t2i.media.images import to_tensor
        from t2i.prompts import check_prompt
        from t2i.score.extractors import center_square

        texts = [prompt] * len(pictures) if isinstance(prompt, str) else list(prompt)
        if len(texts) != len(pictures):
            raise _usage(
                f"there are {len(pictures)} pictures and {len(texts)} prompts.", "Give one prompt, or one each."
            )
        if not texts:
            return []
        clip = self.pipeline.clip
        device, side = clip.text_projection.device, clip.config.image_size
        with torch.inference_mode():
            pooled = self.pipeline.encode([check_prompt(text) for text in texts])[0].pooled
            seen = [clip.encode_image(to_tensor(center_square(_rgb(p), side))[None].to(device)) for p in pictures]
            cosines = (F.normalize(torch.cat(seen), dim=-1) * F.normalize(pooled, dim=-1)).sum(dim=-1)
        return [float(cosine) for cosine in cosines]


def load(model: str = "small", device: str = "cpu", dtype: str = "float32") -> Model:
    """Load a model by its name or from its folder. Raises UnavailableError (no such model), InputError
    (damaged)."""
    from t2i.pipeline import Pipeline
    from t2i.store.registry import resolve

    return Model(Pipeline.load(resolve(model), device=device, dtype=dtype))


def _seeds(n: int, seed: int | None) -> list[int]:
    from t2i.prompts import random_seed, seeds_from

    if n < 1:
        raise _usage(f"n={n} asks for no picture.")
    return list(seeds_from(random_seed() if seed is None else seed, n, "seed="))


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise _usage(f"batch={batch} draws nothing.")


def _request(pipeline: Pipeline, settings: dict[str, Any]) -> SampleRequest:
    """The request of keyword arguments: fields of `SampleRequest`, and stage options as {"base": 8} or one value."""
    from collections.abc import Mapping
    from dataclasses import fields

    from t2i.errors import nearest
    from t2i.jobs.stage_options import STAGE_OPTIONS
    from t2i.sampling import SampleRequest, by_stage

    #: name -> the field of SamplingConfig, and the kinds of stage that a bare value is for
    options = {name: (option.field, option.bare) for name, option in STAGE_OPTIONS.items()} | {
        "best_of": ("best_of", ("prior",))
    }
    whole = [f.name for f in fields(SampleRequest) if f.name not in ("keep_stages", "stages")]
    known = [*whole, *options]
    tables: dict[str, Mapping[str, Any]] = {}
    for name, value in settings.items():
        if name not in known:
            near = nearest(name, known, 1) or known
            raise _usage(f"there is no setting {name!r}.", f"Did you mean {', '.join(near)}?")
        if name in options and value is not None:
            field, kinds = options[name]
            stages = [entry.name for entry in pipeline.manifest.stages if entry.kind in kinds]
            tables[field] = value if isinstance(value, Mapping) else dict.fromkeys(stages, value)
    return SampleRequest(**{k: v for k, v in settings.items() if k in whole}, stages=by_stage(**tables))


def _rgb(picture: Any) -> Image:
    from PIL import Image as Pillow

    from t2i.media.images import load_image

    if not isinstance(picture, Pillow.Image):
        return load_image(picture)
    if "A" not in picture.getbands() and "transparency" not in picture.info:
        return picture.convert("RGB")
    # as from a file: white shows through, the colour hidden under transparent parts never does
    rgba = picture.convert("RGBA")
    white = Pillow.new("RGBA", rgba.size, "white")
    white.alpha_composite(rgba)
    return white.convert("RGB")


def _pixels(picture: Any) -> Tensor:
    """(3, H, W) in [-1, 1]."""
    from t2i.media.images import to_tensor

    return to_tensor(_rgb(picture))


def _usage(message: str, hint: str = "") -> Exception:
    from t2i.errors import UsageError

    return UsageError(message, hint)
