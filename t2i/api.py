"""The library in two calls: `t2i.load("small").sample("a cat in the snow", n=4)` gives four PIL images.

A model is what `--model` takes: a bundle of ours, by name or folder, or a checkpoint in diffusers' layout.
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

    from t2i.engine import Engine
    from t2i.pipeline import Pipeline
    from t2i.sampling import SampleRequest
    from t2i.store.manifest import Manifest
    from t2i.store.models import StoredModel

    Picture: TypeAlias = Image | str | PathLike[str]


@dataclass(frozen=True)
class Model:
    """A loaded model. `engine` is what works on tensors, `stored` says what the model can do."""

    stored: StoredModel
    engine: Engine

    @property
    def pipeline(self) -> Pipeline:
        """The stages of a bundle. Raises UsageError for a model that is not ours."""
        from t2i.edit.bundle_engine import BundleEngine

        if not isinstance(self.engine, BundleEngine):
            raise _usage(f"{self.stored.manifest.name} has no stages of ours.", "Its networks are in model.engine.")
        return self.engine.pipeline

    def sample(
        self, prompt: str | Sequence[str], n: int = 1, seed: int | None = None, *, batch: int = 8, **settings: Any
    ) -> list[Image]:
        """Draw `n` pictures of each prompt; picture i of a prompt has seed `seed + i` (random when None).

        `settings`: size, negative, prior, steps, guidance, sampler, threshold, sr_noise, temperature, top_k, top_p,
        best_of; from steps on also for each stage, as in steps={"base": 8}.  A model that is not ours takes those that
        the command takes for it, and size=(width, height).  `batch` pictures are drawn together, fewer where memory
        does not suffice; that moves a value by a level of 255 at most.  Returns the pictures of the first prompt first.
        Raises UsageError for a prompt, a number or a setting that makes no sense, UnavailableError (code `memory`).
        """
        from t2i.batching import in_batches
        from t2i.engine import PromptBatch
        from t2i.media.images import to_pil
        from t2i.prompts import check_prompt

        if not isinstance(prompt, Sequence):
            raise _usage(f"a prompt is text, or a list of texts; this is {type(prompt).__name__}.")
        texts = [check_prompt(text) for text in ([prompt] if isinstance(prompt, str) else prompt)]
        seeds, request = _seeds(n, seed), self._request("t2i sample", settings)
        jobs = [(text, s) for text in texts for s in seeds]
        _check_batch(batch)

        def draw(some: list[tuple[str, int]]) -> list[Image]:
            samples = self.engine.sample(PromptBatch([text for text, _ in some], [s for _, s in some], request))
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
        """Repaint the part of `image` where `mask`, a picture of the same size, is white: `n` pictures.

        Outside the mask the values are those of `image`; in a rim of `feather` pixels inside it, what is painted
        passes into them.  `batch` and `settings` as in `sample`.  Raises UsageError for a mask of another
        size, or one that is empty or full, UnavailableError (code `memory`).
        """
        from t2i.batching import in_batches
        from t2i.engine import PromptBatch
        from t2i.media.images import to_pil
        from t2i.prompts import check_prompt

        text, seeds, request = check_prompt(prompt), _seeds(n, seed), self._request("t2i inpaint", settings)
        pixels, white = _pixels(image), _pixels(mask).mean(dim=0, keepdim=True)
        if pixels.shape[1:] != white.shape[1:]:
            raise _usage("the mask and the picture differ in size.", "Draw the mask on the picture itself.")
        hard = (white > 0).float()
        if not 0 < float(hard.mean()) < 1:
            raise _usage("the mask is all white or all black.", "White is repainted, black is kept.")
        _check_batch(batch)

        def draw(some: list[int]) -> list[Image]:
            made = self.engine.inpaint(pixels, hard, PromptBatch([text] * len(some), some, request), feather=feather)
            return [to_pil(picture) for picture in made.images]

        return in_batches(draw, seeds, batch)

    def upscale(
        self,
        image: Picture,
        scale: float | None = None,
        to: int | None = None,
        seed: int = 0,
        *,
        prompt: str | None = None,
        **settings: Any,
    ) -> Image:
        """`image` enlarged `scale` times, 1 to 64, or until its longer side has `to` pixels.  `prompt`: what it
        shows, for upsamplers that read.

        Raises UsageError unless one of the two is given and makes the picture larger, InputError (code `image`) for
        more than 64 megapixels.
        """
        from t2i.engine import PromptBatch
        from t2i.jobs.upscale import enlarged_size
        from t2i.media.images import to_pil
        from t2i.prompts import check_prompt, seeds_from

        pixels = _pixels(image)
        height, width = pixels.shape[1:]
        if (scale is None) == (to is None):
            raise _usage("upscale takes scale or to.", "Write upscale(picture, scale=4) or upscale(picture, to=1024).")
        if to is not None and to < max(height, width):
            raise _usage(f"to={to} would make the picture smaller.", "Its longer side has to grow.")
        request = self._request("t2i upscale", settings)
        text = "" if prompt is None else check_prompt(prompt)
        widths = [self.stored.configs[entry.name]["widths"] for entry in self.stored.manifest.of_kind("upsampler")]
        factors = [table["size"] // table["low"] for table in widths]
        wide, high = enlarged_size(width, height, to, scale, factors)
        (seed,) = seeds_from(seed, 1, "seed=")
        return to_pil(self.engine.upscale(pixels, (high, wide), PromptBatch([text], [seed], request)).image)

    def score(self, pictures: Sequence[Picture], prompt: str | Sequence[str]) -> list[float]:
        """How well each picture fits its prompt: the cosine, -1 to 1, of their embeddings by this model's own CLIP.

        `prompt` is one for all or one for each.  A picture is looked at in its middle square.  A model that drew
        a picture is not its best judge: `t2i score` takes others.  Raises UsageError when the numbers differ, and for a
        model that is not ours.
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

    def _request(self, command: str, settings: dict[str, Any]) -> SampleRequest:
        """The request of keyword arguments. Raises UsageError for what the model does not take, as the command does."""
        from t2i.sampling import pair
        from t2i.store.bundle import Bundle

        request = _request(self.stored.manifest, settings)
        if isinstance(self.stored, Bundle):  # the pipeline checks the rest
            return request
        self.stored.check_can(command)
        given = {name: str(value) for name, value in settings.items() if value is not None}
        for name, option in (("prior", "--prior"), ("best_of", "--prior-best-of")):
            if given.pop(name, None):
                self.stored.check_can(option)
        if request.size is not None:
            width, height = pair(request.size)
            self.stored.read_size(str(width) if width == height else f"{width}x{height}")
        self.stored.check_options(given)
        return request


def load(
    model: str = "small",
    device: str = "cpu",
    dtype: str = "float32",
    *,
    lora: str | Sequence[str] = (),
    quantize: str = "",
    memory: str = "auto",
    compile: bool = False,
) -> Model:
    """Load a model by its name or from its folder.

    The other arguments are those of the command line, as in lora=["style.safetensors:0.8"].  Raises UnavailableError
    (no such model), InputError (damaged), UsageError for what the model does not take.
    """
    from t2i.jobs.engine import load_engine
    from t2i.store.load_options import LoadOptions
    from t2i.store.lora import read_lora
    from t2i.store.models import find_model

    loras = tuple(map(read_lora, [lora] if isinstance(lora, str) else lora))
    options = LoadOptions(dtype, loras, quantize, memory, compile).check()
    stored = find_model(model)
    stored.check_load(options)
    return Model(stored, load_engine(stored, device, options))


def _seeds(n: int, seed: int | None) -> list[int]:
    from t2i.prompts import random_seed, seeds_from

    if n < 1:
        raise _usage(f"n={n} asks for no picture.")
    return list(seeds_from(random_seed() if seed is None else seed, n, "seed="))


def _check_batch(batch: int) -> None:
    if batch < 1:
        raise _usage(f"batch={batch} draws nothing.")


def _request(manifest: Manifest, settings: dict[str, Any]) -> SampleRequest:
    """The request of keyword arguments: fields of `SampleRequest`, and stage options as {"base": 8} or one value."""
    from collections.abc import Mapping
    from dataclasses import fields

    from t2i.errors import nearest
    from t2i.jobs.stage_options import STAGE_OPTIONS
    from t2i.sampling import SampleRequest, by_stage

    options = {name: (option.field, option.bare) for name, option in STAGE_OPTIONS.items()} | {
        "best_of": ("best_of", ("prior",))
    }
    """name -> the field of SamplingConfig, and the kinds of stage that a bare value is for."""
    whole = [f.name for f in fields(SampleRequest) if f.name not in ("keep_stages", "stages")]
    known = [*whole, *options]
    tables: dict[str, Mapping[str, Any]] = {}
    for name, value in settings.items():
        if name not in known:
            near = nearest(name, known, 1) or known
            raise _usage(f"there is no setting {name!r}.", f"Did you mean {', '.join(near)}?")
        if name in options and value is not None:
            field, kinds = options[name]
            stages = [entry.name for entry in manifest.stages if entry.kind in kinds]
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
