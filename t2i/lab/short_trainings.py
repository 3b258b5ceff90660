"""Short trainings of this package, and what measures the pictures that are drawn with them: see `compare_papers`."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.lab.evaluate.program import world_config
from t2i.lab.evaluate.scenes import LANGS, full_caption
from t2i.lab.evaluate.workbench import RENDERS, mean_row
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest, SamplingConfig, Threshold
from t2i.score.distances import frechet
from t2i.score.extractors import ClipExtractor
from t2i.store.bundle import read_bundle
from t2i.store.manifest import MANIFEST
from t2i.train.trainer import train
from t2i.world import World

BATCH = 50
SIDE = 32
"""Pixels a side of what the judge's CLIP sees."""

Point = dict[str, Any]


# Training ---------------------------------------------------------------------------------------------------------


def trained(folder: Path, recipe: str, stages: Sequence[str], *sets: str, seed: int = 1) -> Path:
    """The bundle in `folder`; of `stages`, those that it lacks are trained."""
    for stage in stages:
        there = read_bundle(folder).manifest.stages if (folder / MANIFEST).is_file() else ()
        if all(entry.name != stage for entry in there):
            sys.stderr.write(f"training {stage} of {folder.name}\n")
            train(stage, recipe, sets, out=folder, seed=seed, overwrite=True)
    return folder


def beside(source: Path, folder: Path) -> Path:
    """A copy of a bundle, without the checkpoints of its training."""
    if not (folder / MANIFEST).is_file():
        shutil.copytree(source, folder, ignore=shutil.ignore_patterns(".train"))
    return folder


def notes(folder: Path) -> dict[str, Any]:
    """Parameters, steps, batch and minutes of training of each stage of a bundle."""
    done = read_bundle(folder).manifest.notes["training"]
    keys = ("parameters", "steps", "batch")
    return {s: {**{k: d[k] for k in keys}, "minutes": round(d["seconds"] / 60, 1)} for s, d in done.items()}


# Measuring --------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class AlignmentJudge:
    """What pictures are compared with.

    captions: n held-out ones. own: embeddings (n, D) of their renders. others: of n other renders. crops: of crops
    (4n, D) of the other renders at 128 pixels.
    """

    clip: ClipExtractor
    captions: list[str]
    own: Tensor
    others: Tensor
    crops: Tensor

    @classmethod
    def build(cls, work: Path, n: int) -> AlignmentJudge:
        sets = ("clip.denoise=0", "clip.contrast=1", "clip.regression=0", "clip.steps=1200")
        clip = ClipExtractor(trained(work / "judge", "tiny", ["clip"], *sets, seed=77))
        config = replace(world_config("tiny"), side="held-out", say_place=1.0, say_style=0.0)
        world = World(config, None, resolution=128)
        scenes = [world.scene(RENDERS, i) for i in range(2 * n)]

        def render(first: int, size: int) -> Tensor:
            return torch.cat([world.draw(scenes[i : i + BATCH], size)[0] for i in range(first, first + n, BATCH)])

        captions = [full_caption(scene, LANGS[i % 2]) for i, scene in enumerate(scenes[:n])]
        own, others = (embed(clip, render(first, SIDE)) for first in (0, n))
        return cls(clip, captions, own, others, embed(clip, crops(render(n, 128))))

    def score(self, z: Tensor) -> Point:
        """FD and alignment of the embeddings of one picture of each caption."""
        alignment = 100 * (z * self.clip.texts(self.captions)).sum(-1)
        return {"FD": round(1000 * frechet(z, self.others), 2), "alignment": mean_row(alignment)}

    def whole(self, images: Tensor) -> Point:
        """`score` of pictures (n, 3, S, S) in [-1, 1], one of each caption."""
        return self.score(embed(self.clip, F.interpolate(images, (SIDE, SIDE), mode="area")))


def embed(clip: ClipExtractor, images: Tensor) -> Tensor:
    """(B, 3, SIDE, SIDE) in [-1, 1] -> unit embeddings (B, D)."""
    return torch.cat([clip.features(part) for part in images.split(256)])


def crops(images: Tensor) -> Tensor:
    """(B, 3, 128, 128) -> (4B, 3, SIDE, SIDE): four crops around the middle, where the things are."""
    return torch.cat([images[..., y : y + SIDE, x : x + SIDE] for y in (32, 64) for x in (32, 64)])


def draw(pipeline: Pipeline, judge: AlignmentJudge, request: SampleRequest) -> Tensor:
    """One picture of each caption (n, 3, S, S), picture i of seed i."""
    made, texts = [], judge.captions
    for start in range(0, len(texts), BATCH):
        part = texts[start : start + BATCH]
        made.append(pipeline.sample(part, range(start, start + len(part)), request).images.float().cpu())
    return torch.cat(made)


def curve(
    folder: Path, judge: AlignmentJudge, name: str, guidances: Sequence[float], threshold: Threshold | None = None
) -> list[Point]:
    """One point per strength of guidance."""
    pipeline, points = Pipeline.load(folder), []
    for g in guidances:
        request = SampleRequest(size=SIDE, stages={"base": SamplingConfig(guidance=g, threshold=threshold)})
        images = draw(pipeline, judge, request)
        clipped = float((images.abs() >= 0.998).float().mean())
        points.append({"curve": name, "guidance": g, **judge.whole(images), "clipped": round(clipped, 4)})
        sys.stderr.write(f"{points[-1]}\n")
    return points
