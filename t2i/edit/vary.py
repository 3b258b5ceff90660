"""Pictures from pictures: variations, blends, text diffs (DALL-E 2, section 3, arXiv 2204.06125), image to image.

A picture is taken apart into what it shows, its CLIP embedding z, and the noise x_T from which the base draws it
(DDIM inversion); each can be moved on its own and drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.inpaint import square_of
from t2i.edit.latents import inverted_noise, slerp
from t2i.errors import UsageError
from t2i.media.images import resize
from t2i.pipeline import Conditioning, Pipeline, Samples
from t2i.rng import noise
from t2i.sampling import SampleRequest
from t2i.stages.stage import OnStep, Start


def squares(pictures: Sequence[Tensor], size: int) -> Tensor:
    """The middles of pictures (3, H, W), each of its own size, as (B, 3, size, size)."""
    return torch.cat([resize(picture[square_of(picture).slices][None].float(), size, size) for picture in pictures])


def check_embeds(pipeline: Pipeline) -> None:
    """Raise UsageError for a model that has no image encoder, or whose base reads none of its embeddings: it cannot be
    shown a picture."""
    _ = pipeline.clip
    if not pipeline.base[1].config.cond_dim:
        name = pipeline.manifest.name
        raise UsageError(f"the base of {name!r} reads no image embedding.", "Use a model that has a prior, or --init.")


@torch.inference_mode()
def variations(
    pipeline: Pipeline,
    image: Tensor,
    seeds: Sequence[int],
    request: SampleRequest | None = None,
    *,
    prompts: Sequence[str] | None = None,
    strength: float = 1.0,
    on_step: OnStep | None = None,
) -> Samples:
    """Other pictures with the content of `image` (3, H, W), one a seed (section 3.1).

    prompts: also read by the base, beside the picture's embedding. strength in [0, 1]: how much of the noise is the
    seed's own; below 1 the rest is the picture's (DDIM inversion), which keeps the layout; at 0 the seed says nothing.
    """
    request = request or SampleRequest()
    check_embeds(pipeline)
    z = pipeline.embed(squares([image], pipeline.clip.config.image_size)).expand(len(seeds), -1)
    text, cut = pipeline.encode(prompts) if prompts else (None, [None] * len(seeds))
    negative, _ = pipeline.encode([request.negative] * len(seeds)) if request.negative else (None, None)
    start = _start(pipeline, image, seeds, strength)
    conditioning = Conditioning(text, z, negative)
    return pipeline.draw(conditioning, seeds, request, on_step, start=start, prompts=prompts or (), truncated=cut)


@torch.inference_mode()
def blend(
    pipeline: Pipeline,
    a: Tensor,
    b: Tensor,
    shares: Sequence[float],
    seeds: Sequence[int],
    request: SampleRequest | None = None,
    *,
    strength: float = 0.0,
    on_step: OnStep | None = None,
) -> Samples:
    """Pictures at these shares, in [0, 1], of the way from a to b (section 3.2), one a share and seed: both the
    embeddings and the noises turn on great circles.

    strength as in :func:`variations`: at 0 the noises are the pictures' own (DDIM inversion), so that the way leads
    about from a to b; at 1 all share the seed's.
    """
    request = request or SampleRequest()
    check_embeds(pipeline)
    z_a, z_b = (pipeline.embed(squares([x], pipeline.clip.config.image_size)) for x in (a, b))
    z = torch.cat([slerp(z_a, z_b, t) for t in shares])
    start = None
    if strength < 1:
        first, last = own_noise(pipeline, [a]), own_noise(pipeline, [b])
        own = torch.cat([slerp(first, last, t) for t in shares])
        start = Start(eps=slerp(own, fresh_noise(pipeline, seeds).to(own), strength))
    return pipeline.draw(Conditioning(z=z), seeds, request, on_step, start=start)


@torch.inference_mode()
def text_diff(
    pipeline: Pipeline,
    image: Tensor,
    source: str,
    target: str,
    thetas: Sequence[float],
    seeds: Sequence[int],
    request: SampleRequest | None = None,
    *,
    strength: float = 0.0,
    on_step: OnStep | None = None,
) -> Samples:
    """`image` moved from what `source` says towards what `target` says, one picture a theta and seed (section 3.3).

    z = slerp(z_image, norm(z_target - z_source), theta), the noise stays the picture's own, but for the share
    `strength` of the seed's. theta in [0, 1] is the share of the way; the paper uses .25 to .5.
    """
    request = request or SampleRequest()
    check_embeds(pipeline)
    z = pipeline.embed(squares([image], pipeline.clip.config.image_size))
    d = text_direction(pipeline, source, target)
    moved = torch.cat([slerp(z, d, theta) for theta in thetas])
    return pipeline.draw(Conditioning(z=moved), seeds, request, on_step, start=_start(pipeline, image, seeds, strength))


def text_direction(pipeline: Pipeline, source: str, target: str) -> Tensor:
    """norm(z_target - z_source), (1, E), of unit text embeddings. Raises UsageError for texts that mean the same."""
    text, _ = pipeline.encode([target, source])
    z_to, z_from = F.normalize(text.pooled, dim=-1).split(1)
    if float((z_to - z_from).norm()) < 1e-4:
        raise UsageError(f"{source!r} and {target!r} are the same to the model.", "Name two different things.")
    return F.normalize(z_to - z_from, dim=-1)


@torch.inference_mode()
def redraw(
    pipeline: Pipeline,
    image: Tensor,
    prompts: Sequence[str],
    seeds: Sequence[int],
    request: SampleRequest | None = None,
    *,
    strength: float = 0.6,
    on_step: OnStep | None = None,
) -> Samples:
    """`image` (3, H, W) drawn again as the prompts say, one picture a prompt and seed: image to image.

    SDEdit (Meng 2021, arXiv 2108.01073): the picture is noised to where the last `strength` in (0, 1] of the base's
    steps begin. A sketch wants .7 to .9, another style .4 to .6.
    """
    request = request or SampleRequest()
    conditioning, cut = pipeline.condition(prompts, seeds, request, on_step)
    x0 = squares([image], pipeline.manifest.sizes[0]).expand(len(seeds), -1, -1, -1)
    start = Start(x0=x0, strength=strength)
    return pipeline.draw(conditioning, seeds, request, on_step, start=start, prompts=prompts, truncated=cut)


def _start(pipeline: Pipeline, image: Tensor, seeds: Sequence[int], strength: float) -> Start | None:
    """The picture's own noise, turned towards each seed's by `strength`; None, the seeds' alone, at 1."""
    if strength >= 1:
        return None
    own = own_noise(pipeline, [image]).expand(len(seeds), -1, -1, -1)
    return Start(eps=slerp(own, fresh_noise(pipeline, seeds).to(own), strength))


def own_noise(pipeline: Pipeline, pictures: Sequence[Tensor]) -> Tensor:
    """The noise x_T (B, 3, S, S) of each picture, by DDIM inversion at its own embedding; none depends on another."""
    rows = []
    for picture in pictures:
        z = pipeline.embed(squares([picture], pipeline.clip.config.image_size))
        rows.append(inverted_noise(pipeline, squares([picture], pipeline.manifest.sizes[0]), Conditioning(z=z)))
    return torch.cat(rows)


def fresh_noise(pipeline: Pipeline, seeds: Sequence[int]) -> Tensor:
    """The noise (B, 3, S, S) that the base starts from for these seeds."""
    size = pipeline.manifest.sizes[0]
    return noise(seeds, pipeline.base[0].name, 0, (3, size, size))
