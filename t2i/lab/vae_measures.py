"""Measures what a VAE of image tokens keeps of pictures that it was not trained on.

    python -m t2i.lab.vae_measures my-dalle --recipe dalle-tiny --sheet vae.png

Pictures are drawn from the recipe's world, of a stream that no training reads. Prints a Markdown table: PSNR and SSIM
of the reconstructions by tokens, with 95% intervals over pictures; the share of codes that occur in any picture, and
their perplexity exp(H), the number of equally frequent codes with the same entropy H.
"""

from __future__ import annotations

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from t2i.errors import UsageError
from t2i.lab.edit_measures import tell, tell_head
from t2i.lab.program import positive, reports_errors
from t2i.media.images import save_image, to_pil
from t2i.media.sheet import contact_sheet
from t2i.nets.vae import VAE
from t2i.score.pixel_metrics import psnr, ssim
from t2i.stages.loading import load_net
from t2i.store.bundle import read_bundle
from t2i.store.registry import resolve
from t2i.train.recipes import load_recipe
from t2i.world import World

SEED = 6000  # of the pictures
BATCH = 64
SHOWN = 8  # pictures on the sheet


@dataclass(frozen=True)
class Reconstruction:
    """psnr, ssim: of each picture. use, perplexity: of the codebook, None for continuous latents. shown: pictures and
    their reconstructions, (2, 8, 3, S, S)."""

    psnr: list[float]
    ssim: list[float]
    use: float | None
    perplexity: float | None
    shown: Tensor


@torch.inference_mode()
def measure(vae: VAE, world: World, size: int, pictures: int) -> Reconstruction:
    """The measures of so many pictures, `size` pixels a side."""
    decibels, likeness, shown = list[float](), list[float](), list[Tensor]()
    counts = torch.zeros(max(1, vae.config.tokens))
    for first in range(0, pictures, BATCH):
        pixels = world.batch(SEED, range(first, min(first + BATCH, pictures)), size).pixels
        left = vae.reconstruct(pixels)
        decibels += psnr(left, pixels).tolist()
        likeness += ssim(left, pixels).tolist()
        if vae.config.tokens:
            counts += vae.tokens(pixels).flatten().bincount(minlength=len(counts))
        if not shown:
            shown = [pixels[:SHOWN], left[:SHOWN]]
    if not vae.config.tokens:
        return Reconstruction(decibels, likeness, None, None, torch.stack(shown))
    p = counts / counts.sum()
    perplexity = math.exp(-float(torch.xlogy(p, p).sum()))
    return Reconstruction(decibels, likeness, float((counts > 0).float().mean()), perplexity, torch.stack(shown))


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.vae_measures", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("model", help="a bundle with a VAE, by name or folder")
    parser.add_argument("--recipe", default="dalle-tiny", help="whose world the pictures are drawn from")
    parser.add_argument("--sprites", type=Path, help="the sprite library, for a world that needs it")
    parser.add_argument("--pictures", type=positive, default=1024)
    parser.add_argument("--sheet", type=Path, help="write pictures and their reconstructions here")
    args = parser.parse_args(argv)
    bundle = read_bundle(resolve(args.model))
    entries = bundle.manifest.of_kind("vae")
    if not entries or args.pictures < 1:
        raise UsageError(f"the model {bundle.manifest.name!r} has no vae, or there are no pictures to measure.")
    vae = load_net(bundle, entries[0]).eval()
    assert isinstance(vae, VAE)
    world = World(load_recipe(args.recipe).world, args.sprites)
    found = measure(vae, world, bundle.configs[entries[0].name]["widths"]["size"], args.pictures)
    tell_head()
    tell("PSNR, dB", found.psnr)
    tell("SSIM", found.ssim)
    for name, value in (("share of codes in use", found.use), ("perplexity of the codes", found.perplexity)):
        if value is not None:
            sys.stdout.write(f"| {name} | {value:.3g} | | {args.pictures} |\n")
    if args.sheet:
        save_image(contact_sheet([[to_pil(picture) for picture in row] for row in found.shown]), args.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
