"""Smudges for the training of the judge: `python -m t2i.lab.smudges --sprites DIR --out smudges.npz`.

A generator that is not good enough draws things that nobody would name. The judge has to see some of them, with the
answer "nothing". Renders are drawn again by the base of a model in few steps, from the render with much noise in it
(SDEdit), so that place and pose of most things stay known, and from an image embedding that is more or less wrong
(`WAYS`). Two thirds of them go through the upsampler to 256 pixels too. `smears.clarity` then measures what is left of
each thing.

The file holds pixels (N, 3, 64, 64) uint8, clarity (N, K) float16 by item, and the truth of each picture as JSON. It is
written every 20 batches.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from random import Random

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.errors import InputError
from t2i.files import write_bytes
from t2i.lab.judge_loss import Mark, Truth
from t2i.lab.judge_world import judge_world, truth_of
from t2i.lab.program import positive, reports_errors
from t2i.lab.smears import clarity
from t2i.pipeline import Conditioning, Pipeline
from t2i.rng import generator
from t2i.sampling import SampleRequest, SamplingConfig
from t2i.stages.stage import Start
from t2i.store.registry import resolve
from t2i.world import Scene, World
from t2i.world.judge import SIZE, to_input

SEED = 78
ITEMS = 4  # most items of a scene
WAYS = ("own", "noise", "noise", "mix", "mix", "prior", "prior", "prior")
"""What the base draws: the render's embedding, that with noise, that of two kinds of thing half-way, or, in part, the
prior's."""
NOISE = (0.2, 1.0)  # range of the length of the noise that is added to the unit embedding
SHARE = (0.2, 0.6)  # range of the share of the other kind
PRIORS = (0.3, 1.0)  # range of the share of the prior's embedding
STRENGTH = (0.5, 1.0)  # range of the share of the base's steps that are run
STEPS = (1, 2, 2, 3, 4, 8)


@dataclass(frozen=True)
class Smudges:
    """pixels (N, 3, 64, 64) uint8; clarity (N, K), K the most items, 0 where there is none; N truths."""

    pixels: Tensor
    clarity: Tensor
    truths: list[Truth]

    def save(self, path: Path) -> None:
        """Write an .npz file."""
        store = io.BytesIO()
        np.savez(
            store, pixels=self.pixels.numpy(), clarity=self.clarity.half().numpy(),
            truths=json.dumps([asdict(truth) for truth in self.truths]),
        )  # fmt: skip
        write_bytes(path, store.getvalue())

    @classmethod
    def load(cls, paths: Sequence[Path]) -> Smudges:
        """Read files, one after the other. Raises InputError."""
        parts = []
        for path in paths:
            try:
                with np.load(path) as file:
                    truths = [
                        Truth(tuple(Mark(**mark) for mark in row["marks"]), row["place"], row["shade"])
                        for row in json.loads(str(file["truths"]))
                    ]
                    parts.append(
                        cls(torch.from_numpy(file["pixels"]), torch.from_numpy(file["clarity"]).float(), truths)
                    )
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise InputError(f"no smudges can be read from {path}", f"{type(error).__name__}: {error}") from error
        return join(parts)


def compare(drawn: Tensor, scenes: Sequence[Scene], world: World) -> Smudges:
    """Pictures (B, 3, S, S) in [-1, 1] of scenes, measured against their renders."""
    drawn = to_input(drawn)
    renders, masks = world.draw(scenes, SIZE, masks=True)
    assert masks is not None
    found = clarity(drawn, renders, masks)
    pixels = ((drawn + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    return Smudges(pixels, F.pad(found, (0, ITEMS - found.shape[1])), [truth_of(scene, world) for scene in scenes])


@torch.inference_mode()
def redraw(pipeline: Pipeline, world: World, first: int, n: int, seed: int = SEED) -> Smudges:
    """Scenes (seed, first ... first + n - 1) of the world drawn again, all in the same way, which is one of `WAYS`."""
    rng, noise = Random(f"{seed}/{first}"), generator(seed, "smudges", first)
    scenes, seeds = [world.scene(seed, first + i) for i in range(n)], [first + i for i in range(n)]
    small, large = pipeline.manifest.sizes[0], pipeline.manifest.sizes[min(1, len(pipeline.manifest.sizes) - 1)]
    renders = world.draw(scenes, small)[0]
    z = pipeline.embed(renders)
    away = F.normalize(torch.randn(z.shape, generator=noise), dim=-1)
    way = rng.choice(WAYS)
    read = rng.random() < 0.5 or way == "prior"
    text = pipeline.encode([world.caption(scene, form="dense") for scene in scenes])[0] if read else None
    start = Start(x0=renders, strength=rng.uniform(*STRENGTH))
    if way == "noise":
        z = F.normalize(z + rng.uniform(*NOISE) * away, dim=-1)
    elif way == "mix":
        other = pipeline.embed(world.draw([changed(scene, world, rng) for scene in scenes], small)[0])
        z = F.normalize(torch.lerp(z, other, rng.uniform(*SHARE)), dim=-1)
    elif way == "prior" and pipeline.prior is not None and text is not None:
        share = rng.uniform(*PRIORS)
        config = SamplingConfig(steps=rng.choice((2, 3, 5)), best_of=1, guidance=rng.choice((1.0, 1.5)))
        drawn = pipeline.sample_prior(text, seeds, SampleRequest(stages={pipeline.prior[0].name: config}), near=z)
        assert drawn is not None
        z = F.normalize(torch.lerp(z, drawn, share), dim=-1)
        text = None if rng.random() < 0.7 else text
    steps, guidance, z_guidance = rng.choice(STEPS), rng.choice((1.0, 1.5, 3.0)), rng.choice((1.0, 1.5))
    config = SamplingConfig(steps=steps, guidance=guidance, z_guidance=z_guidance)
    request = SampleRequest(size=rng.choice((small, large, large)), stages={pipeline.base[0].name: config})
    return compare(pipeline.draw(Conditioning(text, z), seeds, request, start=start).images, scenes, world)


def changed(scene: Scene, world: World, rng: Random) -> Scene:
    """The scene with another kind of thing in the place of one of its kinds."""
    if not scene.groups:
        return scene
    at = rng.randrange(len(scene.groups))
    there = {group.thing for group in scene.groups}
    thing = rng.choice([key for key in world.keys if key not in there])
    groups = (replace(group, thing=thing) if k == at else group for k, group in enumerate(scene.groups))
    return replace(scene, groups=tuple(groups))


def join(parts: Sequence[Smudges]) -> Smudges:
    """Several sets as one."""
    return Smudges(
        torch.cat([part.pixels for part in parts]), torch.cat([part.clarity for part in parts]),
        [truth for part in parts for truth in part.truths],
    )  # fmt: skip


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m t2i.lab.smudges", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="small", help="name or folder of the generator (default small)")
    parser.add_argument("--sprites", type=Path, required=True, metavar="DIR", help="the sprite library")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the .npz to write")
    parser.add_argument("--vocabulary", choices=("core", "all"), default="core", help="things (default core)")
    parser.add_argument("--seed", type=int, default=SEED, help=f"of the scenes and the noise (default {SEED})")
    parser.add_argument("--n", type=positive, default=6000, help="pictures (default 6000)")
    parser.add_argument("--batch", type=positive, default=16)
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    world = judge_world(args.vocabulary, sprites=args.sprites)
    pipeline = Pipeline.load(resolve(args.model))
    parts: list[Smudges] = []
    began = time.monotonic()
    for first in range(0, args.n, args.batch):
        n = min(args.batch, args.n - first)
        parts.append(redraw(pipeline, world, first, n, args.seed))
        if first + n == args.n or len(parts) % 20 == 0:
            join(parts).save(args.out)
            sys.stderr.write(f"{first + n} of {args.n}, {time.monotonic() - began:.0f} s\n")
            sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
