"""A mask from words: where two texts lead the base to different pictures (DiffEdit: Couairon 2022, arXiv 2210.11427).

The picture is noised half way. The base then guesses what was there, once told what is looked for and once told other
things in its place; where the guesses differ is where the thing is.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.masks import bounds, grow
from t2i.media.images import resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.rng import noise
from t2i.sampling import SamplingConfig
from t2i.stages.base import bound_net, typed_cond

REFERENCES = ("a dog", "a tree", "a ball", "a car", "a fish")
"""What the text is compared with, the three that mean least the same. Against "no text", as in the paper, the shipped
model finds things half as well: its guess without a text is blurred everywhere."""
KEPT = 3
DRAWS = 4
T = 0.5
"""How far into noise: the share of the process' time, as in the paper's figure 9."""


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
    """Where `what` is in `image` (3, H, W): (1, H, W) of 0 and 1, all 0 where nothing stands out.

    boxed: the rectangle around it, in which something of another outline finds room. grow_by: widen the mask by this
    share of the picture's shorter side. threshold in (0, 1): the least contrast, as a share of the strongest; None:
    between the two groups that the contrasts fall into (Otsu 1979).
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
    """How much it matters at each place of `image` whether `what` is looked for: (S, S) at the base's size, >= 0."""
    entry, stage = pipeline.base
    size = pipeline.manifest.sizes[0]
    small = resize(image[None].float(), size, size).to(stage.device)
    prompts = [what, *references(pipeline, what)]
    rows = [
        typed_cond(stage, pipeline.conds(conditioning)[0]) for conditioning in conditionings(pipeline, small, prompts)
    ]
    denoiser = stage.denoiser(bound_net(stage), None, SamplingConfig())
    t = stage.process.time(torch.tensor(T))
    sigma = stage.process.sigma(t.float())
    total = torch.zeros(3, size, size, device=stage.device)
    for draw in range(DRAWS):
        eps = noise([seed], f"{entry.name}/mask", draw, (3, size, size)).to(stage.device)
        x, level = small + sigma * eps, sigma.expand(1).to(stage.device)
        sought, *others = (denoiser(x, level, cond)[0] for cond in rows)
        total += sought - torch.stack(others).mean(0)
    return smooth((total / DRAWS).abs().mean(0)).cpu()


def conditionings(pipeline: Pipeline, image: Tensor, prompts: Sequence[str]) -> list[Conditioning]:
    """What the base is told: each prompt's text and, where it reads an image embedding, that of `image` (1, 3, S, S),
    led from what the first prompt means to what this one means. A prior would fill in a place of its own for each
    prompt, and the guesses would differ in the background too."""
    texts = [pipeline.encode([prompt])[0] for prompt in prompts]
    if not pipeline.base[1].config.cond_dim:
        return [Conditioning(text) for text in texts]
    picture, words = pipeline.embed(image), [F.normalize(text.pooled, dim=-1) for text in texts]
    return [
        Conditioning(text, F.normalize(picture + (z - words[0]), dim=-1)) for text, z in zip(texts, words, strict=True)
    ]


def references(pipeline: Pipeline, what: str) -> list[str]:
    """The references that mean least the same as `what`."""
    text, _ = pipeline.encode([what, *REFERENCES])
    z = F.normalize(text.pooled, dim=-1)
    order = (z[1:] @ z[0]).argsort()
    return [REFERENCES[int(i)] for i in order[:KEPT]]


def smooth(x: Tensor) -> Tensor:
    """(S, S) blurred by a Gaussian of one pixel."""
    axis = torch.arange(-3.0, 4.0, device=x.device)
    kernel = torch.exp(-axis.square() / 2)
    kernel = kernel / kernel.sum()
    padded = F.pad(x[None, None], (3, 3, 3, 3), mode="replicate")
    return F.conv2d(F.conv2d(padded, kernel.view(1, 1, 1, -1)), kernel.view(1, 1, -1, 1))[0, 0]


def otsu(values: Tensor, steps: int = 256) -> float:
    """The threshold that parts the values into the two groups whose means are farthest apart for their sizes.

    Otsu 1979, "A threshold selection method from gray-level histograms", equation 12.
    """
    ordered = values.flatten().double().sort().values
    n = len(ordered)
    below = torch.linspace(0.02, 0.98, steps).mul(n).long().clamp(1, n - 1)
    sums = ordered.cumsum(0)
    first = sums[below - 1] / below
    second = (sums[-1] - sums[below - 1]) / (n - below)
    between = below * (n - below) * (second - first).square()
    return float(ordered[below[between.argmax()] - 1])
