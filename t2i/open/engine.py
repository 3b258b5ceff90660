"""Pipelines of diffusers behind `t2i.engine.Engine`.

Each picture has a random generator of its own, made from (seed, stage): a list of them makes a picture independent of
its batch, one generator for all does not. The stages of a cascade are called one after the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.latents import slerp
from t2i.edit.repaint import repaint
from t2i.engine import PromptBatch, Samples, Upscaled, of_all
from t2i.errors import UsageError
from t2i.media.images import lanczos, resize, to_pil
from t2i.open.loading import without_warnings
from t2i.open.order import Order
from t2i.open.pictures import fitted
from t2i.open.prompt_length import cut_of
from t2i.open.stage_pipelines import StagePipelines
from t2i.sampling import SampleRequest, SamplingConfig, pair
from t2i.store.load_options import LoadOptions
from t2i.store.open_model import IF_SUPER, UNCLIP, OpenModel

PLAIN = {"clean_caption": False, "output_type": "np"}
"""Fixed arguments, where a pipeline takes them: cleaning needs two more libraries, and changes the prompt."""
SAME = 1e-4
"""Distance of the unit embeddings of two texts, below which they say the same."""


class DiffusersEngine:
    """A loaded checkpoint."""

    def __init__(self, model: OpenModel, pipelines: StagePipelines) -> None:
        self.model, self.pipelines = model, pipelines

    @classmethod
    def load(cls, model: OpenModel, device: str = "cpu", options: LoadOptions | None = None) -> DiffusersEngine:
        """Load the weights. Raises InputError (code `bundle`), UnavailableError (code `dependency`)."""
        return cls(model, StagePipelines.load(model, device, options or LoadOptions()))

    def sample(self, batch: PromptBatch) -> Samples:
        """See `Engine`."""
        assert self.model.base is not None
        width, height = self._base_size(batch.request)
        return self._draw(Order(batch), self.model.base.cls, width=width, height=height)

    def image_to_image(self, image: Tensor, batch: PromptBatch, *, strength: float = 0.6) -> Samples:
        """See `Engine`. The model sees the middle of the picture, in the aspect ratio of the request's size."""
        assert self.model.base is not None and self.model.base.takes.init is not None
        width, height = self._base_size(batch.request)
        steps = self._sampling("base", batch.request).steps or 0
        if int(steps * strength) < 1:
            raise UsageError(f"--strength {strength:g} of {steps} steps is no step at all.", "Write more of either.")
        start = [fitted(image, width, height)] * len(batch.prompts)
        name = self.model.base.takes.init
        return self._draw(Order(batch), name, image=start, strength=strength, width=width, height=height)

    def inpaint(self, image: Tensor, mask: Tensor, batch: PromptBatch, *, feather: int | None = None) -> Samples:
        """See `Engine`. Squares of the base's own size go through it, and through upsamplers up to their own size."""
        assert batch.has_text, "removing without a prompt is refused before loading"
        assert self.model.base is not None and self.model.base.takes.inpaint is not None
        side, name = self.model.sizes[0], self.model.base.takes.inpaint

        def paint(part: Tensor, wide: Tensor, number: int, count: int) -> Tensor:
            pictures = [fitted(picture, side, side) for picture in part]
            white = to_pil(F.adaptive_max_pool2d(wide, side).expand(3, -1, -1) * 2 - 1).convert("L")
            larger = next((size for size in self.model.sizes if size >= part.shape[-1]), self.model.sizes[-1])
            request = replace(batch.request, size=larger, keep_stages=False)
            window = replace(batch, request=request, on_step=of_all(batch.on_step, number, count))
            order = Order(window, f"/window{number}" if number else "")
            masks = [white] * len(pictures)
            made = self._draw(order, name, image=pictures, mask_image=masks, strength=1.0, width=side, height=side)
            return resize(made.images, *part.shape[2:])

        images = repaint(image, mask, batch.seeds, side, paint, feather)
        return Samples(images, {}, self._cut(batch.prompts), [[] for _ in batch.prompts])

    def variations(self, image: Tensor, batch: PromptBatch, *, strength: float = 1.0) -> Samples:
        """See `Engine`. Without prompts, and all noise is the seed's."""
        assert not batch.has_text and strength == 1, "refused before loading"
        return self._draw_embedded(Order(batch), self._see(image).expand(len(batch.seeds), -1))

    def blend(
        self, a: Tensor, b: Tensor, shares: Sequence[float], batch: PromptBatch, *, strength: float = 0.0
    ) -> Samples:
        """See `Engine`. All noise is the seed's, so frames of one seed share it."""
        assert strength == 0, "refused before loading"
        first, last = self._see(a), self._see(b)
        return self._draw_embedded(Order(batch), torch.cat([slerp(first, last, share) for share in shares]))

    def text_diff(
        self, image: Tensor, source: str, target: str, thetas: Sequence[float], batch: PromptBatch, *,
        strength: float = 0.0,
    ) -> Samples:  # fmt: skip
        """See `Engine`. All noise is the seed's, so frames of one seed share it. Raises UsageError for texts that mean
        the same."""
        assert strength == 0, "refused before loading"
        z, (last, first) = self._see(image), self._read([target, source]).split(1)
        away = last - first
        if float(away.norm()) < SAME:
            raise UsageError(f"{source!r} and {target!r} are the same to the model.", "Name two different things.")
        away *= z.norm() / away.norm()  # these embeddings are not of unit length
        return self._draw_embedded(Order(batch), torch.cat([slerp(z, away, theta) for theta in thetas]))

    def upscale(
        self, image: Tensor, size: tuple[int, int], batch: PromptBatch, *, tile: int = 160, gate: bool = True
    ) -> Upscaled:
        """See `Engine`. The picture goes through an upsampler as a whole, and all of its detail is kept."""
        large, factors = image.float()[None], list[int]()
        while large.shape[2] < size[0] or large.shape[3] < size[1]:
            name = self.model.upsampler_names[min(len(factors), len(self.model.upsamplers) - 1)]
            key = f"/pass{len(factors) + 1}" if factors else ""
            before = large.shape[-1]
            large = self._enlarge(Order(batch, key), name, large)
            factors.append(large.shape[-1] // before)
        picture = large[0] if tuple(large.shape[2:]) == size else lanczos(large[0], *size)
        return Upscaled(picture.clamp(-1, 1), tuple(factors), float(bool(factors)))

    def undrawn(self, prompt: str) -> Sequence[str]:
        """See `Engine`. What words such a model was taught is not known."""
        return ()

    def near(self, word: str) -> Sequence[str]:
        """See `undrawn`."""
        return ()

    def _base_size(self, request: SampleRequest) -> tuple[int, int]:
        """Width and height of what the base draws."""
        size = request.size or self.model.manifest.size
        return pair(size if len(self.model.sizes) == 1 else self.model.sizes[0])

    @torch.inference_mode()
    def _draw(self, order: Order, name: str, **more: Any) -> Samples:
        """Run the cascade. name: class of the base's pipeline. more: its arguments; those that it does not take are
        left out."""
        request = order.batch.request
        if self.model.has_stages_inside:
            more |= self._inner_steps(request)
        if self.model.prior is not None and "image_embeds" not in more:
            more |= self._embed(order)
        images = self._call(order, "base", name, **more)
        kept = {"base": images}
        until = max(pair(request.size or self.model.manifest.size))
        for stage, size in zip(self.model.upsampler_names, self.model.sizes[1:], strict=True):
            if size > until:
                break
            images = kept[stage] = self._enlarge(order, stage, images)
        cut = self._cut(order.batch.prompts)
        return Samples(images, kept if request.keep_stages else {}, cut, [[] for _ in order.batch.prompts])

    def _draw_embedded(self, order: Order, embeds: Tensor) -> Samples:
        """Pictures from image embeddings (B, E)."""
        assert self.model.base is not None
        width, height = self._base_size(order.batch.request)
        if self.model.prior is None:
            return self._draw(order, self.model.base.cls, image_embeddings=embeds)
        none = self.pipelines.get("prior", self.model.prior.cls).get_zero_embed(len(embeds))
        return self._draw(
            order, self.model.base.cls, image_embeds=embeds, negative_image_embeds=none, width=width, height=height
        )

    @torch.inference_mode()
    def _see(self, image: Tensor) -> Tensor:
        """The embedding (1, E) of the square in the middle of `image` (3, H, W)."""
        parts = self.pipelines.parts["prior" if self.model.prior is not None else "base"]
        encoder = parts["image_encoder"]
        read = parts.get("image_processor") or parts["feature_extractor"]
        side = min(image.shape[1:])
        pixels = read(fitted(image, side, side), return_tensors="pt").pixel_values
        return encoder(pixels.to(encoder.device, encoder.dtype)).image_embeds

    @torch.inference_mode()
    def _read(self, texts: Sequence[str]) -> Tensor:
        """The unit embeddings (B, E) of texts, in the space of those of pictures."""
        parts = self.pipelines.parts["prior" if self.model.prior is not None else "base"]
        tokenizer, encoder = parts["tokenizer"], parts["text_encoder"]
        ids = tokenizer(list(texts), padding="max_length", truncation=True, return_tensors="pt").input_ids
        return F.normalize(encoder(ids.to(encoder.device)).text_embeds.float(), dim=-1)

    def _embed(self, order: Order) -> dict[str, Tensor]:
        """The image embeddings of prompts, by the prior, as arguments of the decoder."""
        assert self.model.prior is not None
        pipeline = self.pipelines.get("prior", self.model.prior.cls)
        made = pipeline(**self._arguments(order, "prior", pipeline) | {"output_type": "pt"})
        return {"image_embeds": made.image_embeds, "negative_image_embeds": made.negative_image_embeds}

    def _enlarge(self, order: Order, stage: str, images: Tensor) -> Tensor:
        """Run an upsampler on pictures (B, 3, h, w)."""
        folder = self.model.folders[stage]
        height, width = images.shape[2:]
        scale, multiple = folder.takes.scale, folder.takes.multiple
        # the networks halve a picture several times: the edge is repeated up to there, and cut off again
        padded = F.pad(images, (0, -width % multiple, 0, -height % multiple), mode="replicate")
        net = self.pipelines.parts[stage]["unet"]
        # IF takes pictures in [-1, 1], the others in [0, 1]
        low = (padded if folder.cls == IF_SUPER else (padded + 1) / 2).to(net.device, net.dtype)
        larger = {"width": scale * low.shape[3], "height": scale * low.shape[2]}
        made = self._call(order, stage, folder.cls, image=low, **larger)
        return made[:, :, : height * scale, : width * scale]

    def _call(self, order: Order, stage: str, name: str, **more: Any) -> Tensor:
        """Call one pipeline: pictures (B, 3, H, W) in [-1, 1]."""
        sampler = order.batch.request.of(stage).sampler if stage == "base" else None
        pipeline = self.pipelines.get(stage, name, sampler)
        with without_warnings():
            images = pipeline(**self._arguments(order, stage, pipeline, **more)).images
        return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1

    def _arguments(self, order: Order, stage: str, pipeline: Any, **more: Any) -> dict[str, Any]:
        """The arguments of a pipeline's call, those that its class takes."""
        folder = self.model.folders[stage]
        takes, sampling = folder.takes, self._sampling(stage, order.batch.request)
        negative = order.batch.request.negative or takes.blank
        arguments = {
            **PLAIN,
            "prompt": list(order.batch.prompts),
            "num_inference_steps": sampling.steps,
            takes.weight: sampling.guidance,
            "negative_prompt": [negative] * len(order.batch.prompts) if negative is not None else None,
            "generator": order.generators(stage),
            "use_resolution_binning": folder.binned,
            **order.callbacks(stage, pipeline),
            **more,
        }
        parameters = inspect.signature(type(pipeline).__call__).parameters
        return {name: value for name, value in arguments.items() if name in parameters and value is not None}

    def _inner_steps(self, request: SampleRequest) -> dict[str, Any]:
        """unCLIP has its stages in one pipeline, and one generator a picture for all of them."""
        base, up = (self._sampling(stage, request) for stage in ("base", "upsampler"))
        prior = self._sampling("prior", request) if self.model.main.cls == UNCLIP else SamplingConfig()
        return {
            "prior_num_inference_steps": prior.steps,
            "decoder_num_inference_steps": base.steps,
            "super_res_num_inference_steps": up.steps,
            "prior_guidance_scale": prior.guidance,
            "decoder_guidance_scale": base.guidance,
        }

    def _sampling(self, stage: str, request: SampleRequest) -> SamplingConfig:
        return self.model.manifest.stage(stage).defaults.override(request.of(stage))

    def _cut(self, prompts: Sequence[str]) -> list[str | None]:
        stage = "prior" if self.model.prior is not None else "base"
        return cut_of(self.pipelines.parts[stage], self.pipelines.parameters(stage), prompts)
