"""A pipeline of diffusers behind `t2i.engine.Engine`.

Each picture has a random generator of its own, made from (seed, stage): a list of them makes a picture independent of
its batch, one generator for all does not.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from functools import cached_property
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.repaint import repaint
from t2i.engine import OnStep, Samples, Upscaled, of_all
from t2i.media.images import resize, to_pil
from t2i.open.loading import build, load_parts, pipeline_class
from t2i.open.pictures import fitted
from t2i.open.prompt_length import cut_of
from t2i.rng import generator
from t2i.sampling import SampleRequest, pair
from t2i.store.open_model import OpenModel


class DiffusersEngine:
    """A loaded checkpoint. parts: its networks, tokenizers and schedulers by name."""

    def __init__(self, model: OpenModel, parts: dict[str, Any], device: str) -> None:
        self.model, self.parts, self.device = model, parts, device

    @classmethod
    def load(cls, model: OpenModel, device: str = "cpu", dtype: str = "float32") -> DiffusersEngine:
        """Load the weights. Raises InputError (code ``bundle``), UnavailableError (code ``dependency``)."""
        parts = load_parts(model.folder, dtype)
        for part in parts.values():
            if isinstance(part, torch.nn.Module):
                part.to(device)
        return cls(model, parts, device)

    @cached_property
    def drawing(self) -> Any:
        """The pipeline that draws from prompts."""
        return self._pipeline(self.model.folder.cls)

    def sample(
        self,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None = None,
        on_step: OnStep | None = None,
    ) -> Samples:
        """See `Engine`."""
        width, height = pair((request and request.size) or self.model.manifest.size)
        return self._run(self.drawing, prompts, seeds, request, on_step, width=width, height=height)

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
        width, height = pair((request and request.size) or self.model.manifest.size)
        start = [fitted(image, width, height)] * len(prompts)
        return self._run(self._from_picture, prompts, seeds, request, on_step, image=start, strength=strength)

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
        """See `Engine`. Squares of the model's own size go through it."""
        assert prompts, "removing without a prompt is refused before loading"
        side = self.model.manifest.size

        def paint(part: Tensor, wide: Tensor, number: int, count: int) -> Tensor:
            pictures = [fitted(picture, side, side) for picture in part]
            white = to_pil(F.adaptive_max_pool2d(wide, side).expand(3, -1, -1) * 2 - 1).convert("L")
            made = self._run(
                self._repainting, prompts, seeds, request, of_all(on_step, number, count),
                key=f"/window{number}" if number else "", image=pictures, mask_image=[white] * len(pictures),
                strength=1.0, width=side, height=side,
            )  # fmt: skip
            return resize(made.images, *part.shape[2:])

        images = repaint(image, mask, seeds, side, paint, feather)
        parameters = inspect.signature(type(self._repainting).__call__).parameters
        return Samples(images, {}, cut_of(self.parts, parameters, prompts), [[] for _ in prompts])

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
        raise AssertionError("a model that enlarges nothing is refused before loading")

    def near(self, word: str) -> Sequence[str]:
        """See `Engine`. What words such a model was taught is not known."""
        return ()

    @cached_property
    def _from_picture(self) -> Any:
        return self._pipeline(str(self.model.folder.takes.init))

    @cached_property
    def _repainting(self) -> Any:
        return self._pipeline(str(self.model.folder.takes.inpaint))

    def _pipeline(self, name: str) -> Any:
        return build(pipeline_class(name), self.parts, self.model.folder.extras, self.model.path)

    @torch.inference_mode()
    def _run(
        self,
        pipeline: Any,
        prompts: Sequence[str],
        seeds: Sequence[int],
        request: SampleRequest | None,
        on_step: OnStep | None,
        *,
        key: str = "",
        **more: Any,
    ) -> Samples:
        """Call a pipeline. key: gives several draws for the same seeds different noise. more: arguments of this kind of
        pipeline; those that its class does not take are left out."""
        request, takes = request or SampleRequest(), self.model.folder.takes
        sampling = self.model.manifest.stage("base").defaults.override(request.of("base"))
        parameters = inspect.signature(type(pipeline).__call__).parameters
        arguments: dict[str, Any] = {
            "prompt": list(prompts),
            "num_inference_steps": sampling.steps,
            "generator": [generator("noise", seed, "base" + key, 0) for seed in seeds],
            "output_type": "np",
            **{name: value for name, value in more.items() if name in parameters},
        }
        if takes.guidance is not None:
            arguments[takes.weight] = sampling.guidance
        negative = request.negative or takes.blank
        if negative is not None:
            arguments["negative_prompt"] = [negative] * len(prompts)
        if "use_resolution_binning" in parameters and not self.model.binned:
            arguments["use_resolution_binning"] = False
        if "clean_caption" in parameters:  # it needs two more libraries, and changes the prompt
            arguments["clean_caption"] = False
        arguments |= _callback(parameters, on_step)
        images = pipeline(**arguments).images
        pixels = torch.from_numpy(images).permute(0, 3, 1, 2) * 2 - 1
        return Samples(pixels, {}, cut_of(self.parts, parameters, prompts), [[] for _ in prompts])


def _callback(parameters: Any, on_step: OnStep | None) -> dict[str, Any]:
    """The arguments by which a pipeline reports its steps."""
    if on_step is None:
        return {}

    def told(pipeline: Any, step: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        on_step("base", step + 1, max(step + 1, len(pipeline.scheduler.timesteps)), tensors.get("latents"))
        return {}

    return {"callback_on_step_end": told} if "callback_on_step_end" in parameters else {}
