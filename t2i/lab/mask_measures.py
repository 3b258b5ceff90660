"""Measures `t2i find` and `t2i inpaint --mask-text` on held-out scenes of the built-in world, whose masks are known.

    python -m t2i.lab.mask_measures --sprites sprites/

Of each picture with two or three things one is looked for, and one that is not there. Prints a Markdown table: measure,
mean, 95% interval over pictures, number of pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random

import torch
from torch import Tensor

from t2i.edit.masks import bounds
from t2i.edit.naming import asked_by
from t2i.edit.things import FoundThings, shipped_judge, things_mask
from t2i.lab.edit_measures import PLACES, SEED, iou, note, tell, tell_head
from t2i.lab.program import positive, reports_errors
from t2i.world import Scene, World, WorldConfig
from t2i.world.judge import Judge

SIZE = 256
LEAST = 0.005
"""Least share of the picture that is visible of a thing that is looked for: some are hidden by others."""


def world_of(sprites: Path, groups: tuple[float, float, float, float]) -> World:
    """Scenes like the shipped recipe's. groups: the probabilities of 1, 2, 3, 4 things."""
    config = WorldConfig(
        groups=groups, counts=(1, 0, 0, 0), places=PLACES, angle=0.03, jitter=0.02, scale=(0.54, 0.68), chance=0.9,
        colour=0.3, size=0, position=0, side="any",
    )  # fmt: skip
    return World(config, sprites=sprites, resolution=SIZE)


def measure(judge: Judge, world: World, n: int, label: str) -> None:
    """Print the measures of `n` scenes."""
    found_iou, box_iou, other_iou, refused = [], [], [], []
    for i in range(n):
        scene = world.scene(SEED, i)
        pixels, masks = world.draw([scene], SIZE, masks=True)
        assert masks is not None
        truths = [mask > 0.5 for mask in masks[0]]
        visible = [k for k, truth in enumerate(truths) if float(truth.float().mean()) > LEAST]
        if not visible:
            continue
        rng = Random(f"{SEED}/{i}/asked")
        k = rng.choice(visible)
        name = world.things[scene.groups[scene.items[k].group].thing].en
        found = find(judge, pixels[0], name)
        others = [truth for j, truth in enumerate(truths) if j != k]
        found_iou.append(iou(found.mask[0] > 0, truths[k]))
        box_iou.append(iou(filled_box(found.mask), filled_box(truths[k][None].float())))
        other_iou += [iou(found.mask[0] > 0, truth) for truth in others]
        absent = world.things[rng.choice(absent_things(world, scene))].en
        refused.append(float(not find(judge, pixels[0], absent).mask.any()))
        note(f"  {i} the {name}: {found_iou[-1]:.2f}; the {absent}; seen: {found.names}")
    tell(f"{label}: IoU of the named thing", found_iou)
    tell(f"{label}: IoU of its box", box_iou)
    if other_iou:
        tell(f"{label}: IoU with each other thing", other_iou)
    tell(f"{label}: an absent thing refused", refused)


def filled_box(mask: Tensor) -> Tensor:
    """The bounding box of a mask (1, H, W), filled: (H, W) of truth values; empty where the mask is."""
    filled = torch.zeros_like(mask[0], dtype=torch.bool)
    if bool(mask.any()):
        filled[bounds(mask).slices] = True
    return filled


def find(judge: Judge, image: Tensor, name: str) -> FoundThings:
    """What "the <name>" finds."""
    return things_mask(judge, image, asked_by(f"the {name}", judge.config))


def absent_things(world: World, scene: Scene) -> list[str]:
    """Keys of the things of the world that are not in the scene."""
    there = {group.thing for group in scene.groups}
    return [key for key in world.keys if key not in there]


def build_parser() -> argparse.ArgumentParser:
    """The options of this program."""
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.mask_measures", description=__doc__)
    parser.add_argument("--sprites", type=Path, required=True, help="the sprite library that the scenes are drawn from")
    parser.add_argument(
        "-n", type=positive, default=200, help="scenes of two and three things, and half as many of one"
    )
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = build_parser().parse_args(argv)
    judge = shipped_judge()
    tell_head()
    with torch.no_grad():
        measure(judge, world_of(args.sprites, (0, 0.6, 0.4, 0)), args.n, "two and three things")
        measure(judge, world_of(args.sprites, (1, 0, 0, 0)), max(1, args.n // 2), "one thing")
    return 0


if __name__ == "__main__":
    sys.exit(main())
