"""An upsampler stage: a picture -> a larger one, by diffusion conditioned on it (Ho 2021, arXiv 2106.15282; Saharia
2022, section 2.4)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from t2i.rng import noise
from t2i.sampling import SamplingConfig, given
from t2i.stages.stage import InpaintCond, OnStep, Stage


def sample_upsampler(
    stage: Stage,
    low: Tensor,
    seeds: Sequence[int],
    sampling: SamplingConfig,
    on_step: OnStep | None = None,
    *,
    tile: int = 0,
    known: InpaintCond | None = None,
    key: str = "",
    pooled: Tensor | None = None,
    negative: Tensor | None = None,
) -> Tensor:
    """(B, 3, h, w) -> (B, 3, h*scale, w*scale), both in [-1, 1].

    `sampling.noise` is the level of noise conditioning augmentation: the input is noised by it, and the network is
    told.
    pooled, negative (B, E): text vectors for a network that reads text, and those that guidance leads away from (None:
    no text). Without text there is no guidance.
    tile: run the network on overlapping tiles of at most this many small pixels a side, 0 for the whole picture at
    once. The noise is that of the whole picture.
    key, known: as in `Stage.run`; the estimate of the known part is replaced.
    """
    scale = int(stage.config.scale)
    shape = (3, low.shape[2] * scale, low.shape[3] * scale)
    level = given(sampling.noise, 0.0)
    if level:
        low = low + level * noise(seeds, f"{stage.name}{key}/augment", 0, low.shape[1:]).to(low.device)
    cond: tuple[Tensor, ...] = (low, torch.full((low.shape[0],), level, device=low.device))
    uncond = cond
    if reads_text(stage) and pooled is not None:
        keep = torch.ones(len(low), dtype=torch.bool, device=low.device)
        away = pooled if negative is None else negative
        cond, uncond = (*cond, pooled, keep), (*cond, away, keep if negative is not None else ~keep)
    else:
        sampling = replace(sampling, guidance=1.0)

    def whole(x_t: Tensor, t: Tensor, cond: tuple[Tensor, ...]) -> Tensor:
        out: Tensor = stage.net(x_t, t, *cond)
        return out

    def tiled(x_t: Tensor, t: Tensor, cond: tuple[Tensor, ...]) -> Tensor:
        small, *rest = cond
        out = torch.empty_like(x_t)
        for core, halo in tiles(small.shape[2], small.shape[3], tile, reach(stage)):
            part = whole(x_t[halo.times(scale).slices], t, (small[halo.slices], *rest))
            out[core.times(scale).slices] = part[core.within(halo).times(scale).slices].to(out.dtype)
        return out

    net = tiled if tile and max(low.shape[2:]) > tile else whole
    return stage.run(net, shape, cond, uncond, sampling, seeds, on_step, key=key, known=known).clamp(-1, 1)


def reads_text(stage: Stage) -> bool:
    """Whether the upsampler reads the pooled text vector (Saharia 2022, section 2.5)."""
    return bool(getattr(stage.config, "pooled_dim", 0))


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


def reach(stage: Stage) -> int:
    """Radius of the receptive field in small pixels: two convolutions a block, one at each end, two of bicubic."""
    config = stage.config
    return int((2 * config.depth + 2) * config.unshuffle // config.scale + 2)


def tiles(height: int, width: int, tile: int, margin: int) -> Iterator[tuple[Box, Box]]:
    """(core, halo) boxes: the cores tile (height, width), each halo is its core and `margin` pixels around it.

    With the margin of `reach` a core is computed from all that the network would see in the whole picture, so there
    are no seams.
    """
    step = max(tile - 2 * margin, tile // 4, 1)
    for top in range(0, height, step):
        for left in range(0, width, step):
            bottom, right = min(top + step, height), min(left + step, width)
            around = Box(
                max(top - margin, 0), max(left - margin, 0), min(bottom + margin, height), min(right + margin, width)
            )
            yield Box(top, left, bottom, right), around
