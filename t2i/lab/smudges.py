"""Smudges for the training of the judge: `python -m t2i.lab.smudges --sprites DIR --out smudges.npz`.

A generator that is not good enough draws things that nobody would name. The judge has to see some of them, with the
answer "nothing". Renders are drawn again by the base of a model, from their own image embedding with noise in it, and
from the render with much noise in it (SDEdit), so that place and pose of every thing stay known. Half of them go
through the upsampler to 256 pixels too. `smears.clarity` then measures what is left of each thing.

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
from dataclasses import asdict, dataclass
from pathlib import Path

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

SEED = 77
ITEMS = 4  # most items of a scene
NOISE = 0.8  # largest length of the noise that is added to the unit embedding
STRENGTH = (0.4, 1.0)  # range of the share of the base's steps that are run
STEPS = (2, 4, 8)


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
    """Scenes (seed, first ... first + n - 1) of the world drawn again."""
    rng = generator(seed, "smudges", first)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand(1, generator=rng))

    scenes, seeds = [world.scene(seed, first + i) for i in range(n)], [first + i for i in range(n)]
    renders = world.draw(scenes, SIZE)[0]
    z = pipeline.embed(renders)
    away = F.normalize(torch.randn(z.shape, generator=rng), dim=-1) * uniform(0.0, NOISE)
    z = F.normalize(z + away, dim=-1)
    text = pipeline.encode([world.caption(scene) for scene in scenes])[0] if uniform(0, 1) < 0.5 else None
    steps = SamplingConfig(steps=STEPS[int(uniform(0, len(STEPS)))])
    size = pipeline.manifest.sizes[int(uniform(0, 2))]
    request = SampleRequest(size=size, stages={pipeline.base[0].name: steps})
    start = Start(x0=renders, strength=uniform(*STRENGTH))
    return compare(pipeline.draw(Conditioning(text, z), seeds, request, start=start).images, scenes, world)


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
    parser.add_argument("--n", type=positive, default=6000, help="pictures (default 6000)")
    parser.add_argument("--batch", type=positive, default=16)
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    world = judge_world("all", sprites=args.sprites)
    pipeline = Pipeline.load(resolve(args.model))
    parts: list[Smudges] = []
    began = time.monotonic()
    for first in range(0, args.n, args.batch):
        n = min(args.batch, args.n - first)
        parts.append(redraw(pipeline, world, first, n))
        if first + n == args.n or len(parts) % 20 == 0:
            join(parts).save(args.out)
            sys.stderr.write(f"{first + n} of {args.n}, {time.monotonic() - began:.0f} s\n")
            sys.stderr.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
