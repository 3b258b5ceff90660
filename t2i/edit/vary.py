"""Pictures from pictures: variations, blends, text diffs (DALL-E 2, arXiv 2204.06125, section 3), image to image.

A picture is represented by its CLIP embedding z, which says what it shows, and by the noise x_T from which the base
draws it (DDIM inversion), which holds the rest. Either can be changed before the picture is drawn again.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.latents import inverted_noise, slerp
from t2i.edit.masks import central_square
from t2i.edit.places import in_place
from t2i.engine import PromptBatch, Samples
from t2i.errors import UsageError
from t2i.media.images import resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.rng import noise
from t2i.stages.stage import Start


def central_squares(pictures: Sequence[Tensor], size: int) -> Tensor:
    """The central squares of pictures (3, H, W), each of its own size: (B, 3, size, size)."""
    cropped = [picture[central_square(picture).slices][None].float() for picture in pictures]
    return torch.cat([resize(square, size, size) for square in cropped])


def embedding(pipeline: Pipeline, picture: Tensor) -> Tensor:
    """The image embedding (1, E) of the square in the middle of a picture (3, H, W)."""
    return pipeline.embed(central_squares([picture], pipeline.clip.config.image_size))


def check_embeds(pipeline: Pipeline) -> None:
    """Raise UsageError for a model without an image encoder, or whose base does not read image embeddings."""
    _ = pipeline.clip
    if not pipeline.base[1].config.cond_dim:
        name = pipeline.manifest.name
        raise UsageError(f"the base of {name!r} reads no image embedding.", "Use a model that has a prior, or --init.")


@torch.inference_mode()
def variations(pipeline: Pipeline, image: Tensor, batch: PromptBatch, *, strength: float = 1.0) -> Samples:
    """Variations of `image` (3, H, W), one per seed (section 3.1).

    Prompts are texts for the base, beside the embedding of the picture.
    strength: in [0, 1]. At 1 the noise is the seed's. Below, it is interpolated with the picture's own noise (DDIM
        inversion), which keeps the layout. At 0 the seed has no effect.
    """
    request, seeds = replace(batch.request, quality=True), batch.seeds
    prompts = batch.prompts if batch.has_text else ()
    check_embeds(pipeline)
    z = embedding(pipeline, image).expand(len(seeds), -1)
    text, cut = pipeline.encode(prompts) if prompts else (None, [None] * len(seeds))
    negative, _ = pipeline.encode([request.negative] * len(seeds)) if request.negative else (None, None)
    start = _start(pipeline, image, seeds, strength)
    conditioning = Conditioning(text, z, negative)
    return pipeline.draw(conditioning, seeds, request, batch.on_step, start=start, prompts=prompts, truncated=cut)


@torch.inference_mode()
def blend(
    pipeline: Pipeline, a: Tensor, b: Tensor, shares: Sequence[float], batch: PromptBatch, *, strength: float = 0.0
) -> Samples:
    """Interpolations of two pictures (section 3.2), one per share and seed. Embeddings and noises are slerped.

    shares: in [0, 1], 0 is `a` and 1 is `b`. strength: as in `variations`. At 0 the noises are the pictures' own,
    so that the ends are about `a` and `b`; at 1 they are the seed's.
    """
    request = replace(batch.request, quality=True)
    check_embeds(pipeline)
    z_a, z_b = (embedding(pipeline, x) for x in (a, b))
    z = torch.cat([slerp(z_a, z_b, t) for t in shares])
    start = None
    if strength < 1:
        first, last = own_noise(pipeline, [a]), own_noise(pipeline, [b])
        own = torch.cat([slerp(first, last, t) for t in shares])
        start = Start(eps=slerp(own, fresh_noise(pipeline, batch.seeds).to(own), strength))
    return pipeline.draw(Conditioning(z=z), batch.seeds, request, batch.on_step, start=start)


@torch.inference_mode()
def text_diff(
    pipeline: Pipeline, image: Tensor, source: str, target: str, thetas: Sequence[float], batch: PromptBatch, *,
    strength: float = 0.0,
) -> Samples:  # fmt: skip
    """`image` changed from the text `source` towards the text `target`, one picture per theta and seed (section 3.3).

    z = slerp(z_image, norm(z_target - z_source), theta). theta in [0, 1]; the paper uses .25 to .5. strength: as in
    `variations`.
    """
    request = replace(batch.request, quality=True)
    check_embeds(pipeline)
    z = embedding(pipeline, image)
    d = text_direction(pipeline, source, target)
    moved = torch.cat([slerp(z, d, theta) for theta in thetas])
    start = _start(pipeline, image, batch.seeds, strength)
    return pipeline.draw(Conditioning(z=moved), batch.seeds, request, batch.on_step, start=start)


def text_direction(pipeline: Pipeline, source: str, target: str) -> Tensor:
    """norm(z_target - z_source), (1, E), of unit text embeddings. Raises UsageError for texts that mean the same."""
    text, _ = pipeline.encode([target, source])
    z_to, z_from = F.normalize(text.pooled, dim=-1).split(1)
    if float((z_to - z_from).norm()) < 1e-4:
        raise UsageError(f"{source!r} and {target!r} are the same to the model.", "Name two different things.")
    return F.normalize(z_to - z_from, dim=-1)


@torch.inference_mode()
def image_to_image(pipeline: Pipeline, image: Tensor, batch: PromptBatch, *, strength: float = 0.6) -> Samples:
    """SDEdit (Meng 2021, arXiv 2108.01073): `image` (3, H, W) noised and denoised, one picture per prompt and seed.

    strength: in (0, 1], the share of the base's steps that are taken. .7 to .9 suits a sketch, .4 to .6 a change of
    style. A prompt that says no place is read with the picture's, where a prior would choose one.
    """
    prompts, seeds, on_step = batch.prompts, batch.seeds, batch.on_step
    request = replace(batch.request, quality=True)
    said = prompts
    if pipeline.prior is not None:
        z = embedding(pipeline, image)[0]
        said = [in_place(pipeline, text, z) for text in prompts]
    conditioning, cut = pipeline.condition(said, seeds, request, on_step)
    x0 = central_squares([image], pipeline.manifest.sizes[0]).expand(len(seeds), -1, -1, -1)
    start = Start(x0=x0, strength=strength)
    return pipeline.draw(conditioning, seeds, request, on_step, start=start, prompts=prompts, truncated=cut)


def _start(pipeline: Pipeline, image: Tensor, seeds: Sequence[int], strength: float) -> Start | None:
    """The picture's own noise, slerped towards each seed's by `strength`; None, the seeds' alone, at 1."""
    if strength >= 1:
        return None
    own = own_noise(pipeline, [image]).expand(len(seeds), -1, -1, -1)
    return Start(eps=slerp(own, fresh_noise(pipeline, seeds).to(own), strength))


def own_noise(pipeline: Pipeline, pictures: Sequence[Tensor]) -> Tensor:
    """The noise x_T (B, 3, S, S) of each picture by DDIM inversion, given its own embedding."""
    rows = []
    for picture in pictures:
        square = central_squares([picture], pipeline.manifest.sizes[0])
        rows.append(inverted_noise(pipeline, square, Conditioning(z=embedding(pipeline, picture))))
    return torch.cat(rows)


def fresh_noise(pipeline: Pipeline, seeds: Sequence[int]) -> Tensor:
    """The noise (B, 3, S, S) that the base starts from for these seeds."""
    size = pipeline.manifest.sizes[0]
    return noise(seeds, pipeline.base[0].name, 0, (3, size, size))
