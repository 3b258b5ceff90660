"""Inpainting at any size: squares around the mask go through the model, and the results are pasted back.

A base with channels for it reads the known pixels beside the noisy ones (GLIDE, arXiv 2112.10741, section 4). At every
step the known part is also replaced, and steps are repeated (RePaint, Lugmayr 2022, arXiv 2201.09865).
"""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.exemplar import exemplar_fill
from t2i.edit.latents import slerp
from t2i.edit.places import in_place, without_things
from t2i.edit.repaint import repaint
from t2i.edit.upscaling import upscale
from t2i.engine import PromptBatch, of_all
from t2i.media.images import resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SamplingConfig
from t2i.stages.stage import InpaintCond, Start

REMOVAL = 0.6
"""Share of the base's steps that a removal takes, starting from patches of the surroundings."""
CANDIDATES = 32  # embeddings that the prior draws for inpainting
SURROUNDINGS = 0.2
"""How far the chosen embedding is turned towards that of the surroundings: at .3 the thing begins to fade."""


@torch.inference_mode()
def inpaint(
    pipeline: Pipeline, image: Tensor, mask: Tensor, batch: PromptBatch, *, feather: int | None = None
) -> Tensor:
    """`image` (3, H, W) repainted where `mask` (1, H, W) is above 0.5: (B, 3, H, W), one picture per prompt and seed.

    Without prompts what is there is removed: as the prompt "an empty beach" does, where CLIP sees a beach in the
    surroundings. In a place that the model does not know the base starts from a picture patched from the surroundings,
    and from its embedding. With prompts, of CANDIDATES embeddings of the prior the one nearest to that picture's is
    taken, and turned towards it: the text leaves place, light and weather open, the surroundings do not. A prompt that
    says no place is read with the one that CLIP sees.

    feather: width in pixels of the rim, inside the mask, in which what is painted passes into the surroundings, to
    which its colours are fitted (None: 1/40 of the square that goes through the model; 0: it is pasted as it is).
    Outside the mask the result equals `image`. The mask must be neither empty nor full.
    """
    request = replace(batch.request, quality=True)

    def paint(part: Tensor, here: Tensor, number: int, count: int) -> Tensor:
        window = replace(batch, request=request, on_step=of_all(batch.on_step, number, count))
        return _paint(pipeline, part, here, window, number)

    return repaint(image, mask, batch.seeds, pipeline.manifest.sizes[0], paint, feather)


def _paint(pipeline: Pipeline, part: Tensor, mask: Tensor, batch: PromptBatch, number: int) -> Tensor:
    """Paint one window: squares (B, 3, S, S) with a mask (1, S, S) of 0 and 1 -> the same squares, painted.

    They go through the base and as many upsamplers as S needs. number: index of the window; it keys the noise.
    """
    prompts = batch.prompts if batch.has_text else None
    seeds, request, on_step = batch.seeds, batch.request, batch.on_step
    side, low, key = part.shape[-1], pipeline.manifest.sizes[0], f"/window{number}" if number else ""
    device = pipeline.base[1].device
    part = part.to(device)
    known, start = _known(part, mask, low), None
    patched = exemplar_fill(known.x0, known.mask)
    z = pipeline.embed(patched) if pipeline.base[1].config.cond_dim else None
    if prompts is None and z is not None:
        empty = [without_things(pipeline, row) for row in z]
        prompts = [text for text in empty if text is not None]
        prompts = prompts if len(prompts) == len(empty) else None
    if prompts is None:
        conditioning, start = Conditioning(z=z), Start(x0=patched, strength=REMOVAL)
    else:
        several = request
        if z is not None and pipeline.prior is not None:
            prior = pipeline.prior[0].name
            several = request.override(prior, SamplingConfig(best_of=CANDIDATES).override(request.of(prior)))
        said = prompts if z is None else [in_place(pipeline, text, near) for text, near in zip(prompts, z, strict=True)]
        conditioning = pipeline.condition(said, seeds, several, on_step, key=key, near=z)[0]
        if conditioning.z is not None and z is not None:
            conditioning = replace(conditioning, z=slerp(conditioning.z, z, SURROUNDINGS))
    images = pipeline.sample_base(conditioning, seeds, request, on_step, key=key, start=start, known=known)
    for entry in pipeline.manifest.of_kind("upsampler"):
        if images.shape[-1] >= side:
            break
        images = pipeline.sample_upsampler(entry, images, conditioning, seeds, request, on_step, key=key)
    images = images.float().cpu()
    if images.shape[-1] >= side:
        return resize(images, side, side)
    return torch.stack([upscale(pipeline, x, (side, side), seed).image for x, seed in zip(images, seeds, strict=True)])


def _known(part: Tensor, mask: Tensor, size: int) -> InpaintCond:
    """The known pixels and the mask at `size`. A cell is masked if any of its pixels is."""
    side = part.shape[-1]
    m = mask.to(part).expand(len(part), -1, -1, -1)
    if size <= side:
        m = F.adaptive_max_pool2d(m, size)
    else:
        m = F.interpolate(m, size=(size, size), mode="nearest")
    return InpaintCond(resize(part, size, size), m)
