"""Upscaling of any picture: the bundle's upsampler on overlapping tiles, weighted by how well it does.

The network was trained on one kind of picture. On others its detail may be wrong, so its weight is measured on the
picture itself: the picture is reduced, enlarged again by the network and by Lanczos, and both are compared with the
original. The idea of using a picture at two scales is from Glasner 2009 and Shocher 2018 (arXiv 1712.06087). Where the
network is no better than Lanczos, as on flat colour, the result is that of Lanczos.

Shape legend: (h, w) small, (H, W) = (s h, s w) large.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.engine import OnStep, Upscaled
from t2i.media.images import lanczos, resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SampleRequest, SamplingConfig
from t2i.store.manifest import StageEntry

TILE = 160
"""Side of a tile in small pixels. The shipped network then takes 0.4 GB."""
WINDOW = 24
"""Side in small pixels of the neighbourhood over which the share is measured."""
PRIOR = 0.5
"""Weight of the whole picture in the measurement of a neighbourhood, where little detail says little."""


@torch.inference_mode()
def upscale(
    pipeline: Pipeline,
    image: Tensor,
    size: tuple[int, int],
    seed: int = 0,
    request: SampleRequest | None = None,
    *,
    prompt: str | None = None,
    tile: int = TILE,
    gate: bool = True,
    on_step: OnStep | None = None,
) -> Upscaled:
    """`image` (3, h, w) at `size` = (height, width), by any ratio.

    The network is applied until the size is reached, and Lanczos reduces the result to the exact size. Lanczos does
    everything if nothing is to be enlarged or the bundle has no upsampler.

    prompt: for an upsampler that reads text. tile: side of a tile in small pixels. gate: measure the share of the
    network; without, it is 1.
    """
    height, width = size
    large, factors, shares = image.float(), [], []
    conditioning = Conditioning(pipeline.encode([prompt])[0] if prompt else None)
    while large.shape[1] < height or large.shape[2] < width:
        entry = choose_upsampler(pipeline, max(large.shape[1:]))
        if entry is None:
            break
        factors.append(int(pipeline.stages[entry.name].config.scale))
        key = f"/pass{len(factors)}" if len(factors) > 1 else ""
        large, share = _once(
            pipeline, entry, large, seed, request or SampleRequest(), tile, gate, key, on_step, conditioning
        )
        shares.append(share)
    if tuple(large.shape[1:]) != size:
        large = lanczos(large, height, width)
    return Upscaled(large.clamp(-1, 1), tuple(factors), sum(shares) / len(shares) if shares else 0.0)


def choose_upsampler(pipeline: Pipeline, side: int) -> StageEntry | None:
    """The upsampler for a picture with this longer side: the last whose trained input is no larger, else the first.

    None if the bundle has no upsampler.
    """
    entries, sizes = pipeline.manifest.of_kind("upsampler"), pipeline.manifest.sizes
    fitting = [entry for entry, low in zip(entries, sizes, strict=False) if low <= side]
    return fitting[-1] if fitting else entries[0] if entries else None


def _once(
    pipeline: Pipeline,
    entry: StageEntry,
    low: Tensor,
    seed: int,
    request: SampleRequest,
    tile: int,
    gate: bool,
    key: str,
    on_step: OnStep | None,
    conditioning: Conditioning,
) -> tuple[Tensor, float]:
    """(3, h, w) -> (3, H, W) by one use of an upsampler, and the share of its detail that was kept."""
    stage = pipeline.stages[entry.name]
    device, scale = stage.device, int(stage.config.scale)
    # The default noise makes room to redraw what a base smudged; a picture that is given is to be kept.
    request = request.override(entry.name, SamplingConfig(noise=0.0).override(request.of(entry.name)))

    def enlarged(x: Tensor, key: str, tell: OnStep | None = None) -> tuple[Tensor, Tensor]:
        """The enlargement by Lanczos, and what the network adds to it."""
        plain = lanczos(x, x.shape[1] * scale, x.shape[2] * scale).clamp(-1, 1)
        made = pipeline.sample_upsampler(
            entry, x[None].to(device), conditioning, [seed], request, tell, tile=tile, key=key
        )
        return plain, made[0].float().cpu() - plain

    plain, detail = enlarged(low, key, on_step)
    h, w = low.shape[1] // scale, low.shape[2] // scale
    if not gate:
        return (plain + detail).clamp(-1, 1), 1.0
    if min(h, w) < 2:  # too small to be reduced
        return plain, 0.0
    truth = low[:, : h * scale, : w * scale]
    base, guess = enlarged(resize(truth[None], h, w)[0], key + "/measure")
    share = earned_share(truth - base, guess)
    share = share * fine_detail(truth)
    share = F.interpolate(share[None, None], size=plain.shape[1:], mode="bilinear", align_corners=False)[0]
    power = detail.square().sum(0)  # weight by detail: most of a picture has none
    kept = float((share[0] * power).sum() / power.sum().clamp_min(1e-8))
    return (plain + share * detail).clamp(-1, 1), min(kept, 1.0)


def earned_share(missing: Tensor, guess: Tensor, window: int = WINDOW) -> Tensor:
    """The factor on `guess` (3, h, w) that comes nearest to `missing`: (h, w) in [0, 1].

    Least squares in each neighbourhood, <guess, missing> / <guess, guess>, regularised by that of the whole picture.
    """
    maps = torch.stack([(guess * missing).sum(0), guess.square().sum(0)])
    near = _local_mean(maps, window) + PRIOR * maps.mean((1, 2), keepdim=True)
    return (near[0] / near[1].clamp_min(1e-8)).clamp(0, 1)


def fine_detail(picture: Tensor, window: int = WINDOW // 2) -> Tensor:
    """How much detail at the scale of a pixel a picture (3, h, w) has: (h, w) in [0, 1].

    Without such detail there is none to add at finer scales. (The share is measured at a coarser scale, where even a
    smooth gradient has some.) It is P² / (P² + 4²), where P is the power, in squared levels of 255, that is lost when
    the picture is halved; an amplitude of two levels gives a half.
    """
    height, width = picture.shape[1:]
    half = resize(picture[None], -(-height // 2), -(-width // 2))[0]
    lost = (picture - lanczos(half, height, width)).mul(127.5).square().mean(0)
    if min(height, width) > 8:  # the edges are cut off: there even a ramp has a corner
        inside = F.pad(torch.ones(height - 4, width - 4), (2, 2, 2, 2))
        lost = lost * inside
    power = _local_mean(lost[None], window)[0].square()
    return power / (power + 16)


def _local_mean(maps: Tensor, window: int) -> Tensor:
    """Local means of maps (C, h, w): two box filters, nearly a Gaussian."""
    height, width = maps.shape[1:]
    side = min(window, height, width) // 2 * 2 + 1
    for _ in range(2):
        maps = F.avg_pool2d(maps[None], side, 1, side // 2, count_include_pad=False)[0, :, :height, :width]
    return maps
