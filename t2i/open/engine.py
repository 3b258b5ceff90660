"""Pipelines of diffusers behind `t2i.engine.Engine`.

Each picture has a random generator of its own, made from (seed, stage): a list of them makes a picture independent of
its batch, one generator for all does not. The stages of a cascade are called one after the other.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.repaint import repaint
from t2i.engine import OnStep, Samples, Upscaled, of_all
from t2i.errors import UsageError
from t2i.media.images import lanczos, resize, to_pil
from t2i.open.loading import build, load_parts, pipeline_class, without_warnings
from t2i.open.pictures import fitted
from t2i.open.prompt_length import cut_of
from t2i.open.schedulers import with_sampler
from t2i.rng import generator
from t2i.sampling import SampleRequest, SamplingConfig, pair
from t2i.store.open_model import IF_SUPER, UNCLIP, OpenModel

STEP = 16  # pixels: sides of a picture that an upsampler takes are multiples of it
#: fixed arguments, where a pipeline takes them: cleaning needs two more libraries, and changes the prompt
PLAIN = {"clean_caption": False, "output_type": "np"}


class DiffusersEngine:
    """A loaded checkpoint. parts: stage -> its networks, tokenizers and schedulers by name."""

    def __init__(self, model: OpenModel, parts: Mapping[str, dict[str, Any]]) -> None:
        self.model, self.parts = model, parts
        self._pipelines: dict[tuple[str, str, str | None], Any] = {}

    @classmethod
    def load(cls, model: OpenModel, device: str = "cpu", dtype: str = "float32") -> DiffusersEngine:
        """Load the weights. Raises InputError (code ``bundle``), UnavailableError (code ``dependency``)."""
        shared: dict[tuple[str, ...], Any] = {}
        parts = {stage: load_parts(folder, dtype, shared) for stage, folder in model.folders.items()}
        for part in shared.values():
            if isinstance(part, torch.nn.Module):
                part.to(device)
        return cls(model, parts)

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`."""
        assert self.model.base is not None
        size = (request and request.size) or self.model.manifest.size
        at = pair(size if len(self.model.sizes) == 1 else self.model.sizes[0])
        return self._draw(self.model.base.cls, prompts, seeds, request, on_step, width=at[0], height=at[1])

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
        """See `Engine`. The model sees the middle of the picture, in the aspect ratio of the request's size."""
        assert self.model.base is not None and self.model.base.takes.init is not None
        size = (request and request.size) or self.model.manifest.size
        width, height = pair(size if len(self.model.sizes) == 1 else self.model.sizes[0])
        steps = self._sampling("base", request or SampleRequest()).steps or 0
        if int(steps * strength) < 1:
            raise UsageError(f"--strength {strength:g} of {steps} steps is no step at all.", "Write more of either.")
        start = [fitted(image, width, height)] * len(prompts)
        return self._draw(
            self.model.base.takes.init, prompts, seeds, request, on_step,
            image=start, strength=strength, width=width, height=height,
        )  # fmt: skip

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
        """See `Engine`. Squares of the base's own size go through it, and through upsamplers up to their own size."""
        assert prompts, "removing without a prompt is refused before loading"
        assert self.model.base is not None and self.model.base.takes.inpaint is not None
        side, name = self.model.sizes[0], self.model.base.takes.inpaint
        asked = request or SampleRequest()

        def paint(part: Tensor, wide: Tensor, number: int, count: int) -> Tensor:
            pictures = [fitted(picture, side, side) for picture in part]
            white = to_pil(F.adaptive_max_pool2d(wide, side).expand(3, -1, -1) * 2 - 1).convert("L")
            larger = next((size for size in self.model.sizes if size >= part.shape[-1]), self.model.sizes[-1])
            made = self._draw(
                name, prompts, seeds, replace(asked, size=larger, keep_stages=False),
                of_all(on_step, number, count), key=f"/window{number}" if number else "", image=pictures,
                mask_image=[white] * len(pictures), strength=1.0, width=side, height=side,
            )  # fmt: skip
            return resize(made.images, *part.shape[2:])

        images = repaint(image, mask, seeds, side, paint, feather)
        return Samples(images, {}, self._cut(prompts), [[] for _ in prompts])

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
        """See `Engine`. The picture goes through an upsampler as a whole, and all of its detail is kept."""
        large, factors = image.float()[None], list[int]()
        while large.shape[2] < size[0] or large.shape[3] < size[1]:
            name = self.model.upsampler_names[min(len(factors), len(self.model.upsamplers) - 1)]
            key = f"/pass{len(factors) + 1}" if factors else ""
            before = large.shape[-1]
            large = self._enlarge(name, large, [prompt or ""], [seed], request or SampleRequest(), on_step, key=key)
            factors.append(large.shape[-1] // before)
        picture = large[0] if tuple(large.shape[2:]) == size else lanczos(large[0], *size)
        return Upscaled(picture.clamp(-1, 1), tuple(factors), float(bool(factors)))

    def near(self, word: str) -> Sequence[str]:
        """See `Engine`. What words such a model was taught is not known."""
        return ()

    @torch.inference_mode()
    def _draw(
        self,
        name: str,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None,
        on_step: OnStep | None,
        *,
        key: str = "",
        **more: Any,
    ) -> Samples:
        """Run the cascade. name: class of the base's pipeline. key: gives several draws for the same seeds different
        noise. more: arguments of the base's pipeline; those that its class does not take are left out."""
        request = request or SampleRequest()
        if name == UNCLIP:
            more = self._unclip_steps(request)
        if self.model.prior is not None:
            more |= self._embed(prompts, seeds, request, on_step, key=key)
        images = self._call("base", name, prompts, seeds, request, on_step, key=key, **more)
        kept = {"base": images}
        until = max(pair(request.size or self.model.manifest.size))
        for stage, size in zip(self.model.upsampler_names, self.model.sizes[1:], strict=True):
            if size > until:
                break
            images = kept[stage] = self._enlarge(stage, images, prompts, seeds, request, on_step, key=key)
        cut = self._cut(prompts)
        return Samples(images, kept if request.keep_stages else {}, cut, [[] for _ in prompts])

    def _embed(
        self, prompts: Sequence[str], seeds: Sequence[int], request: SampleRequest, on_step: OnStep | None, *, key: str
    ) -> dict[str, Tensor]:
        """The image embeddings of prompts, by the prior, as arguments of the decoder."""
        assert self.model.prior is not None
        pipeline = self._pipeline("prior", self.model.prior.cls, None)
        arguments = self._arguments("prior", pipeline, prompts, seeds, request, on_step, key=key)
        made = pipeline(**arguments | {"output_type": "pt"})
        return {"image_embeds": made.image_embeds, "negative_image_embeds": made.negative_image_embeds}

    def _enlarge(
        self,
        stage: str,
        images: Tensor,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None,
        *,
        key: str = "",
    ) -> Tensor:
        """Run an upsampler on pictures (B, 3, h, w)."""
        folder = self.model.folders[stage]
        height, width = images.shape[2:]
        scale = folder.takes.scale
        # the networks halve a picture several times: the edge is repeated up to there, and cut off again
        padded = F.pad(images, (0, -width % STEP, 0, -height % STEP), mode="replicate")
        net = self.parts[stage]["unet"]
        # IF takes pictures in [-1, 1], the others in [0, 1]
        low = (padded if folder.cls == IF_SUPER else (padded + 1) / 2).to(net.device, net.dtype)
        larger = {"width": scale * low.shape[3], "height": scale * low.shape[2]}
        made = self._call(stage, folder.cls, prompts, seeds, request, on_step, key=key, image=low, **larger)
        return made[:, :, : height * scale, : width * scale]

    def _call(
        self,
        stage: str,
        name: str,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None,
        *,
        key: str = "",
        **more: Any,
    ) -> Tensor:
        """Call one pipeline: pictures (B, 3, H, W) in [-1, 1]."""
        sampler = request.of(stage).sampler if stage == "base" else None
        pipeline = self._pipeline(stage, name, sampler)
        arguments = self._arguments(stage, pipeline, prompts, seeds, request, on_step, key=key, **more)
        with without_warnings():
            images = pipeline(**arguments).images
        return torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1

    def _arguments(
        self,
        stage: str,
        pipeline: Any,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest,
        on_step: OnStep | None,
        *,
        key: str,
        **more: Any,
    ) -> dict[str, Any]:
        """The arguments of a pipeline's call, those that its class takes."""
        folder = self.model.folders[stage]
        takes, sampling = folder.takes, self._sampling(stage, request)
        negative = request.negative or takes.blank
        arguments = {
            **PLAIN,
            "prompt": list(prompts),
            "num_inference_steps": sampling.steps,
            takes.weight: sampling.guidance,
            "negative_prompt": [negative] * len(prompts) if negative is not None else None,
            "generator": [generator("noise", seed, stage + key, 0) for seed in seeds],
            "use_resolution_binning": folder.binned,
            **more,
        }
        if on_step is not None:
            arguments |= _callbacks(stage, pipeline, on_step)
        parameters = inspect.signature(type(pipeline).__call__).parameters
        return {name: value for name, value in arguments.items() if name in parameters and value is not None}

    def _unclip_steps(self, request: SampleRequest) -> dict[str, Any]:
        """unCLIP has its stages in one pipeline, and one generator a picture for all of them."""
        prior, base, up = (self._sampling(stage, request) for stage in ("prior", "base", "upsampler"))
        return {
            "prior_num_inference_steps": prior.steps,
            "decoder_num_inference_steps": base.steps,
            "super_res_num_inference_steps": up.steps,
            "prior_guidance_scale": prior.guidance,
            "decoder_guidance_scale": base.guidance,
        }

    def _sampling(self, stage: str, request: SampleRequest) -> SamplingConfig:
        return self.model.manifest.stage(stage).defaults.override(request.of(stage))

    def _pipeline(self, stage: str, name: str, sampler: str | None) -> Any:
        """The pipeline of this class over a stage's parts, built once."""
        key = stage, name, sampler
        if key not in self._pipelines:
            folder, parts = self.model.folders[stage], dict(self.parts[stage])
            if "scheduler" in parts:
                parts["scheduler"] = with_sampler(parts["scheduler"], sampler)
            self._pipelines[key] = build(pipeline_class(name), parts, folder.extras, folder.path)
        return self._pipelines[key]

    def _cut(self, prompts: Sequence[str]) -> list[str | None]:
        stage = "prior" if self.model.prior is not None else "base"
        folder = self.model.folders[stage]
        return cut_of(self.parts[stage], inspect.signature(pipeline_class(folder.cls).__call__).parameters, prompts)


def _callbacks(stage: str, pipeline: Any, on_step: OnStep) -> dict[str, Any]:
    """Both ways in which pipelines report their steps; each takes one of them, or none."""
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
