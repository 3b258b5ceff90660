"""Any picture, larger: the bundle's upsampler on overlapping tiles, and never more of it than it has earned.

The network learned one world. On another picture its detail may be wrong, so its share is measured on the picture
itself: the picture is made smaller, enlarged again by the network and by Lanczos, and compared with what it was (the
same picture at two scales: Glasner 2009; zero-shot super-resolution, Shocher 2018, arXiv 1712.06087). Where the network
brought nothing there, Lanczos is what remains; on flat colour that is everywhere.

Shapes: h w the small side, H W = s h, s w the large one.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.media.images import lanczos, resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SampleRequest
from t2i.stages.stage import OnStep
from t2i.store.manifest import StageEntry

TILE = 160
"""Small pixels a side that the network sees at once: 0.4 GB for the shipped one."""
WINDOW = 24
"""Side of the neighbourhood, in pixels of the picture given, over which the network's share is measured."""
PRIOR = 0.5
"""Weight of the whole picture's share against a neighbourhood's: few pixels of little detail say little."""

SHARP = 2.0
"""What the share of a sharp upsampler is multiplied with. One that draws what may be there instead of the mean of it is
as far from the mean as the truth is, and earns half of what it should keep even where it is never wrong (Blau and
Michaeli 2018, arXiv 1711.06077, theorem 2)."""


@dataclass(frozen=True)
class Upscaled:
    """image (3, H, W) in [-1, 1]; factors: by how much the network enlarged, once for each use; share: how much of its
    detail was kept, 1 all, 0 none (then the picture is Lanczos')."""

    image: Tensor
    factors: tuple[int, ...]
    share: float


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
    """`image` (3, h, w) at `size` = (height, width), of any ratio to it.

    The network is used as often as it takes to reach the size, and what is too much is taken back by Lanczos; where
    nothing is to be enlarged, or the bundle has no upsampler, Lanczos does it all. prompt: what is to be seen, for an
    upsampler that reads text. gate: whether the network's share
    is measured; without, it is 1.
    """
    height, width = size
    large, factors, shares = image.float(), [], []
    conditioning = Conditioning(pipeline.encode([prompt])[0] if prompt else None)
    while large.shape[1] < height or large.shape[2] < width:
        entry = choose(pipeline, max(large.shape[1:]))
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


def choose(pipeline: Pipeline, side: int) -> StageEntry | None:
    """The upsampler for a picture of this longer side: the last whose own input is no larger, or the first; where there
    are sharp ones, one of these."""
    entries, sizes = pipeline.manifest.of_kind("upsampler"), pipeline.manifest.sizes
    if sharp := [entry for entry in entries if entry.instead_of]:
        return sharp[-1]
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
    """(3, h, w) -> (3, H, W) by one use of one upsampler, and the share of its detail that was kept."""
    stage = pipeline.stages[entry.name]
    device, scale = stage.device, int(stage.config.scale)

    def enlarged(x: Tensor, key: str, tell: OnStep | None = None) -> tuple[Tensor, Tensor]:
        """Lanczos' enlargement and what the network adds to it."""
        plain = lanczos(x, x.shape[1] * scale, x.shape[2] * scale).clamp(-1, 1)
        made = pipeline.sample_upsampler(
            entry, x[None].to(device), conditioning, [seed], request, tell, tile=tile, key=key
        )
        return plain, made[0].float().cpu() - plain

    plain, detail = enlarged(low, key, on_step)
    h, w = low.shape[1] // scale, low.shape[2] // scale
    if not gate:
        return (plain + detail).clamp(-1, 1), 1.0
    if min(h, w) < 2:  # too small to be made smaller
        return plain, 0.0
    truth = low[:, : h * scale, : w * scale]
    base, guess = enlarged(resize(truth[None], h, w)[0], key + "/measure")
    share = earned_share(truth - base, guess)
    if entry.instead_of:
        share = (SHARP * share).clamp(max=1)
    share = share * detailed(truth)
    share = F.interpolate(share[None, None], size=plain.shape[1:], mode="bilinear", align_corners=False)[0]
    power = detail.square().sum(0)  # of the detail, not of the area: most of a picture has none
    kept = float((share[0] * power).sum() / power.sum().clamp_min(1e-8))
    return (plain + share * detail).clamp(-1, 1), min(kept, 1.0)


def earned_share(missing: Tensor, guess: Tensor, window: int = WINDOW) -> Tensor:
    """How much of `guess` (3, h, w) brings a picture nearest to the truth, when `missing` is what it lacks: (h, w) in
    [0, 1].

    Least squares in each neighbourhood, <guess, missing> / <guess, guess>, drawn towards that of the whole picture.
    """
    maps = torch.stack([(guess * missing).sum(0), guess.square().sum(0)])
    near = _around(maps, window) + PRIOR * maps.mean((1, 2), keepdim=True)
    return (near[0] / near[1].clamp_min(1e-8)).clamp(0, 1)


def detailed(picture: Tensor, window: int = WINDOW // 2) -> Tensor:
    """Whether a picture (3, h, w) has detail of the size of its pixels, for it to have any below: (h, w) in [0, 1].

    P^2 / (P^2 + 4^2) of the power P, in squared levels of 255, that is lost when it is halved: two levels make a half.
    The measurement of the share is at a coarser scale, where also a smooth gradient bends.
    """
    height, width = picture.shape[1:]
    half = resize(picture[None], -(-height // 2), -(-width // 2))[0]
    lost = (picture - lanczos(half, height, width)).mul(127.5).square().mean(0)
    if min(height, width) > 8:  # at its edges every picture is cut off, and a ramp has a corner
        inside = F.pad(torch.ones(height - 4, width - 4), (2, 2, 2, 2))
        lost = lost * inside
    power = _around(lost[None], window)[0].square()
    return power / (power + 16)


def _around(maps: Tensor, window: int) -> Tensor:
    """Means of maps (C, h, w) over a neighbourhood of each pixel: twice a box, which is nearly a bell."""
    height, width = maps.shape[1:]
    side = min(window, height, width) // 2 * 2 + 1
    for _ in range(2):
        maps = F.avg_pool2d(maps[None], side, 1, side // 2, count_include_pad=False)[0, :, :height, :width]
    return maps
