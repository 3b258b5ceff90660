"""A mask from words: DiffEdit (Couairon 2022, arXiv 2210.11427).

The picture is noised half way. The base denoises it given the text, and given other texts. The thing is where the
estimates differ.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.masks import bounds, grow
from t2i.media.contrast import blur, otsu
from t2i.media.images import resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.rng import noise
from t2i.stages.base import bound_net, typed_cond

REFERENCES = ("a dog", "a tree", "a ball", "a car", "a fish")
"""Texts to compare with. With them the shipped model finds things twice as well as with "no text", which the paper
uses: its estimate without text is blurred everywhere."""
KEPT = 3  # references used, those least similar to the text
DRAWS = 4  # noises averaged over
T = 0.5
"""Time in [0, 1] up to which the picture is noised (figure 9 of the paper)."""


@torch.inference_mode()
def text_mask(
    pipeline: Pipeline,
    image: Tensor,
    what: str,
    *,
    seed: int = 0,
    grow_by: float = 0.0,
    threshold: float | None = None,
    boxed: bool = False,
) -> Tensor:
    """The mask of `what` in `image` (3, H, W): (1, H, W) of 0 and 1, all 0 if it is not found.

    boxed: fill the bounding box, to make room for a thing of another outline. grow_by: dilate the mask by this share of
    the picture's shorter side. threshold: least contrast in (0, 1), as a share of the strongest; None: Otsu's method.
    """
    contrast = text_contrast(pipeline, image, what, seed)
    level = otsu(contrast) if threshold is None else threshold * float(torch.quantile(contrast, 0.98))
    height, width = image.shape[1:]
    large = F.interpolate(contrast[None, None], size=(height, width), mode="bicubic", align_corners=False)[0]
    mask = (large > level).float()
    if boxed and bool(mask.any()):
        mask[bounds(mask).slices] = 1
    return grow(mask, round(grow_by * min(height, width)))


@torch.inference_mode()
def text_contrast(pipeline: Pipeline, image: Tensor, what: str, seed: int = 0) -> Tensor:
    """How much the base's estimate of `image` depends on the text `what`: (S, S) at the base's size, >= 0."""
    entry, stage = pipeline.base
    size = pipeline.manifest.sizes[0]
    small = resize(image[None].float(), size, size).to(stage.device)
    prompts = [what, *references(pipeline, what)]
    conds = [typed_cond(stage, pipeline.guided_cond(each)) for each in conditionings(pipeline, small, prompts)]
    net, plain = bound_net(stage), stage.defaults.unguided
    rows = [(stage.denoiser(net, cond.uncond, plain), cond.cond) for cond in conds]
    t = stage.process.training_time(torch.tensor(T))
    sigma = stage.process.sigma(t.float())
    total = torch.zeros(3, size, size, device=stage.device)
    for draw in range(DRAWS):
        eps = noise([seed], f"{entry.name}/mask", draw, (3, size, size)).to(stage.device)
        x, level = small + sigma * eps, sigma.expand(1).to(stage.device)
        sought, *others = (denoiser(x, level, cond)[0] for denoiser, cond in rows)
        total += sought - torch.stack(others).mean(0)
    return blur((total / DRAWS).abs().mean(0)).cpu()


def conditionings(pipeline: Pipeline, image: Tensor, prompts: Sequence[str]) -> list[Conditioning]:
    """The conditioning for each prompt.

    A base that reads an image embedding gets that of `image` (1, 3, S, S), moved by the difference of the text
    embeddings of this prompt and the first. The prior is not used: it would draw another background for each prompt.
    """
    texts = [pipeline.encode([prompt])[0] for prompt in prompts]
    if not pipeline.base[1].config.cond_dim:
        return [Conditioning(text) for text in texts]
    z_image, z_texts = pipeline.embed(image), [F.normalize(text.pooled, dim=-1) for text in texts]
    moved = [F.normalize(z_image + (z - z_texts[0]), dim=-1) for z in z_texts]
    return [Conditioning(text, z) for text, z in zip(texts, moved, strict=True)]


def references(pipeline: Pipeline, what: str) -> list[str]:
    """The `KEPT` references least similar to `what`."""
    text, _ = pipeline.encode([what, *REFERENCES])
    z = F.normalize(text.pooled, dim=-1)
    order = (z[1:] @ z[0]).argsort()
    return [REFERENCES[int(i)] for i in order[:KEPT]]
