"""Pictures of one thing as a user's photos would be, to train a personal model on:

    python -m t2i.lab.photos --thing teapot --sprites sprites/ -o photos/

Each shows the thing in another place of the built-in world, at another size, in front of the middle or beside it.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from random import Random

from t2i.errors import UsageError
from t2i.lab.program import reports_errors
from t2i.media.images import save_image, to_pil
from t2i.world import Group, Scene, World, WorldConfig

PLACES = ("snow", "beach", "forest", "city", "room", "night", "field", "desert", "road", "stage")
SCALE = (0.75, 1.1)  # a thing's size, in units of the world's own choice
SHIFT = 0.1  # most that it is moved sideways, as a share of the side
SIZE = 256


def scenes(world: World, thing: str, n: int, seed: int) -> list[Scene]:
    """n scenes of the thing, in the order of `PLACES`."""
    found = []
    for i in range(n):
        rng = Random(f"{seed}/{i}/photo")
        scene = world.layout.compose((Group(thing),), PLACES[i % len(PLACES)], seed=seed + i)
        scale, shift = rng.uniform(*SCALE), rng.uniform(-SHIFT, SHIFT)
        items = tuple(replace(item, x=item.x + shift, scale=item.scale * scale) for item in scene.items)
        found.append(replace(scene, items=items))
    return found


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m t2i.lab.photos", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--thing", required=True, metavar="KEY", help="key of a thing of the built-in world")
    parser.add_argument("--sprites", type=Path, required=True, metavar="DIR", help="the sprite library")
    parser.add_argument("-o", "--out", type=Path, required=True, metavar="DIR", help="where the pictures go")
    parser.add_argument("--n", type=int, default=10, help="how many (default 10)")
    parser.add_argument("--seed", type=int, default=100)
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if not 1 <= args.n <= 1000:
        raise UsageError("--n is from 1 to 1000.")
    args.out.mkdir(parents=True, exist_ok=True)
    world = World(WorldConfig(vocabulary="all", things=(args.thing,)), args.sprites, resolution=SIZE)
    for i, scene in enumerate(scenes(world, args.thing, args.n, args.seed)):
        save_image(to_pil(world.draw([scene], SIZE)[0][0]), args.out / f"{i:02}.png")
    print(args.out)
    return 0


if __name__ == "__main__":
    sys.exit(main())
