"""An upsampler stage: a picture -> a larger one, by diffusion conditioned on it (Ho 2021, arXiv 2106.15282; Saharia
2022, section 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.diffusion.denoiser import Net
from t2i.engine import OnStep
from t2i.rng import noise
from t2i.sampling import SamplingConfig, given
from t2i.stages.stage import GuidedCond, Stage


def sample_upsampler(
    stage: Stage,
    low: Tensor,
    seeds: Sequence[int],
    sampling: SamplingConfig,
    on_step: OnStep | None = None,
    *,
    tile: int = 0,
    key: str = "",
    pooled: Tensor | None = None,
    negative: Tensor | None = None,
    z: Tensor | None = None,
) -> Tensor:
    """(B, 3, h, w) -> (B, 3, h*scale, w*scale), both in [-1, 1].

    `sampling.noise` is the level of noise conditioning augmentation: the input is noised by it, and the network is
    told.
    pooled, negative (B, E): text vectors for a network that reads text, and those of what the picture should not show.
    Without text there is no guidance.
    z (B, E): image embeddings for a network that reads them (`SRUNet`); None: its null.
    tile: run the network on overlapping tiles of at most this many small pixels a side, 0 for the whole picture at
    once. The noise is that of the whole picture.
    key: as in `Stage.run`.
    """
    scale, (height, width) = int(stage.config.scale), low.shape[2:]
    low = F.pad(low, (0, -width % stage.config.multiple, 0, -height % stage.config.multiple), mode="replicate")
    shape = (3, low.shape[2] * scale, low.shape[3] * scale)
    level = given(sampling.noise, 0.0)
    if level:
        low = low + level * noise(seeds, f"{stage.name}{key}/augment", 0, low.shape[1:]).to(low.device)
    if not (reads_text(stage) and pooled is not None):
        sampling = replace(sampling, guidance=1.0)
    cond = upsampler_cond(stage, low, level, pooled, negative, z)
    net = tiled_net(stage, tile) if tile and max(low.shape[2:]) > tile else partial(net_on, stage)
    made = stage.run(net, shape, cond, sampling, seeds, on_step, key=key)
    return made[:, :, : height * scale, : width * scale].clamp(-1, 1)


def upsampler_cond(
    stage: Stage, low: Tensor, level: float, pooled: Tensor | None, negative: Tensor | None, z: Tensor | None
) -> GuidedCond:
    """The conditions of an upsampler for the noised input low (B, 3, h, w), each a tuple of the network's arguments.

    pooled, negative, z: as of `sample_upsampler`; what the network does not read is left out.
    """
    cond: tuple[Tensor, ...] = (low, torch.full((low.shape[0],), level, device=low.device))
    keep = torch.ones(len(low), dtype=torch.bool, device=low.device)
    if reads_text(stage) and pooled is not None:
        away = None if negative is None else (*cond, negative, keep)
        return GuidedCond((*cond, pooled, keep), (*cond, pooled, ~keep), away)
    if reads_image(stage) and z is not None:
        return GuidedCond((*cond, z, keep), cond)
    return GuidedCond(cond, cond)


def net_on(stage: Stage, x_t: Tensor, t: Tensor, cond: tuple[Tensor, ...], box: Box | None = None) -> Tensor:
    """The network's output on the part `box` of the small picture; None: on all of it. cond: its arguments, the small
    picture first."""
    small, *rest = cond
    box = box or Box(0, 0, *small.shape[2:])
    inputs = (small[box.slices], *rest)
    if stage.config.one_pass:
        corner = torch.tensor([[box.top, box.left]] * len(small))
        out: Tensor = stage.net(*inputs, corner=corner, whole=tuple(small.shape[2:]))
    else:
        out = stage.net(x_t[box.times(int(stage.config.scale)).slices], t, *inputs)
    return out


def tiled_net(stage: Stage, tile: int) -> Net:
    """The network as `net_on`, computed on overlapping tiles of at most `tile` small pixels a side."""
    scale = int(stage.config.scale)

    def net(x_t: Tensor, t: Tensor, cond: tuple[Tensor, ...]) -> Tensor:
        out, small = torch.empty_like(x_t), cond[0]
        for core, halo in tiles(small.shape[2], small.shape[3], tile, stage.config.reach, stage.config.multiple):
            made = net_on(stage, x_t, t, cond, halo)
            out[core.times(scale).slices] = made[core.within(halo).times(scale).slices].to(out.dtype)
        return out

    return net


def reads_text(stage: Stage) -> bool:
    """Whether the upsampler reads the pooled text vector (Saharia 2022, section 2.5)."""
    return bool(getattr(stage.config, "pooled_dim", 0))


def reads_image(stage: Stage) -> bool:
    """Whether the upsampler reads the image embedding."""
    return bool(getattr(stage.config, "image_dim", 0))


@dataclass(frozen=True)
class Box:
    """A rectangle in pixels; bottom and right are exclusive."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def slices(self) -> tuple[Any, ...]:
        """Index of this part of a tensor (..., H, W)."""
        return (..., slice(self.top, self.bottom), slice(self.left, self.right))

    def times(self, scale: int) -> Box:
        """The same part of the picture enlarged `scale` times."""
        return Box(self.top * scale, self.left * scale, self.bottom * scale, self.right * scale)

    def within(self, other: Box) -> Box:
        """This box in the coordinates of another."""
        return Box(self.top - other.top, self.left - other.left, self.bottom - other.top, self.right - other.left)


def tiles(height: int, width: int, tile: int, margin: int, multiple: int = 1) -> Iterator[tuple[Box, Box]]:
    """(core, halo) boxes: the cores tile (height, width), each halo is its core and `margin` pixels around it.

    With the margin of a network's `reach` a core is computed from all that the network would see in the whole picture,
    so there are no seams. Boxes begin at multiples of `multiple`, where the network's coarser grids begin.
    """
    margin = -(-margin // multiple) * multiple
    step = max((tile - 2 * margin) // multiple, tile // 4 // multiple, 1) * multiple
    for top in range(0, height, step):
        for left in range(0, width, step):
            bottom, right = min(top + step, height), min(left + step, width)
            around = Box(
                max(top - margin, 0), max(left - margin, 0), min(bottom + margin, height), min(right + margin, width)
            )
            yield Box(top, left, bottom, right), around
