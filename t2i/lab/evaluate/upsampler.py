"""The upsamplers against Lanczos on held-out renders."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.errors import UsageError
from t2i.lab.evaluate.workbench import RENDERS, Workbench, mean_row
from t2i.media.images import lanczos
from t2i.score.pixel_metrics import psnr, ssim
from t2i.stages.upsampler import sample_upsampler
from t2i.world import World

SPRITE = 256  # pixels a side of the library's sprites


def upsampler(bench: Workbench) -> dict[str, Any]:
    """PSNR and SSIM of held-out renders, reduced by area and enlarged again: by each stage, and by Lanczos."""
    pipeline = bench.pipeline
    entries = pipeline.manifest.of_kind("upsampler")
    if not entries:
        raise UsageError(f"the model {pipeline.manifest.name!r} has no upsampler.", "Leave the part out.")
    low = pipeline.manifest.sizes[0]
    out: dict[str, Any] = {}
    for entry in entries:
        stage = pipeline.stages[entry.name]
        scale = int(stage.config.scale)
        high = low * scale
        n = min(bench.scenes, max(8, 64 * 256**2 // high**2))
        truth = _sharp_renders(bench, n, high)
        made, plain = [], []
        # without noise: these small pictures are true ones, where the default makes room to redraw what a base drew
        step = max(1, bench.batch * 256**2 // high**2)
        small = F.interpolate(truth, scale_factor=1 / scale, mode="area")
        for start in range(0, n, step):
            part = small[start : start + step].to(stage.device)
            seeds = [bench.seed + start + i for i in range(len(part))]
            made.append(sample_upsampler(stage, part, seeds, replace(stage.defaults, noise=0.0)).float().cpu())
            bench.say(f"{entry.name}: {min(start + step, n)} of {n} pictures")
        ours = torch.cat(made)
        plain = [lanczos(picture, high, high).clamp(-1, 1) for picture in small]
        theirs = torch.stack(plain)
        rows = {
            name: {"psnr": mean_row(psnr(x, truth)), "ssim": mean_row(ssim(x, truth)), **shift(x, truth)}
            for name, x in ((entry.name, ours), ("lanczos", theirs))
        }
        gain = {
            "psnr": mean_row(psnr(ours, truth) - psnr(theirs, truth)),
            "ssim": mean_row(ssim(ours, truth) - ssim(theirs, truth)),
        }
        out[entry.name] = {**rows, "gain": gain, "pictures": n, "from": low, "to": high}
        shown = [x[i] for i in range(min(4, n)) for x in (F.interpolate(small, size=(high, high)), theirs, ours, truth)]
        words = [[name] for _ in range(min(4, n)) for name in ("input", "Lanczos", entry.name, "render")]
        bench.sheet(f"upsampler-{high}", shown, words, 4, f"{pipeline.manifest.name} · {entry.name}")
        low = high
    return out


def shift(x: Tensor, truth: Tensor) -> dict[str, Any]:
    """The colour shift in levels of 255.

    "shift": how much lighter the set is on average, per channel (red, green, blue). "shift of a picture": the largest
    difference of a picture's channel means from the truth's.
    """
    difference = (x.double() - truth.double()).mean((2, 3)) * 127.5  # (B, 3), of 1/255
    return {
        "shift": [round(v, 4) for v in difference.mean(0).tolist()],
        "shift of a picture": mean_row(difference.abs().amax(1)),
    }


def _sharp_renders(bench: Workbench, n: int, size: int) -> Tensor:
    """n renders of `size` pixels in which no sprite is enlarged beyond its own pixels."""
    largest = SPRITE / size
    if largest >= 0.5:  # things of the usual size need no larger sprites, or hardly
        return bench.render(bench.held_out(n, 2 * bench.scenes), size)
    config = replace(
        bench.world.config, scale=(0.8 * largest, largest), groups=(1.0, 0.0, 0.0, 0.0), counts=(1.0, 0.0, 0.0, 0.0),
        size=0.0, position=0.0,
    )  # fmt: skip
    world = World(config, bench.sprites, resolution=SPRITE)
    scenes = [world.scene(RENDERS, i) for i in range(n)]
    return torch.cat([world.draw([scene], size)[0] for scene in scenes])
