"""How well a model draws the things of the world: `python -m t2i.lab.fidelity --model small --sprites sprites/`.

Draws each thing on a plain blue background and compares it with the best-fitting render (`t2i.world.fidelity`): SSIM of
luma and edge energy in the thing's box. `--variety` also draws four seeds of each prompt and measures how much they
differ, beside four renders of the same caption. `--lora FILE` draws one thing by the word of a personal model.
docs/evaluation.md defines the numbers.

Prints a Markdown table; `--json FILE` writes the numbers.
"""

from __future__ import annotations

import argparse
import itertools
import json
import math
import statistics
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from torch import Tensor

from t2i.errors import UsageError
from t2i.files import write_bytes
from t2i.lab.evaluate.program import world_config
from t2i.lab.program import positive, reports_errors
from t2i.media.images import save_image, to_pil
from t2i.media.sheet import contact_sheet
from t2i.pipeline import Pipeline
from t2i.prompts import seeds_from
from t2i.sampling import SampleRequest
from t2i.store.bundle import read_bundle
from t2i.store.load_options import LoadOptions
from t2i.store.lora import read_lora
from t2i.store.registry import resolve
from t2i.world import Group, World
from t2i.world.captions.english import article
from t2i.world.fidelity import COARSE, BestRender, best_render, fidelity

THINGS = (
    "cat", "dog", "panda", "lion", "elephant", "frog", "owl", "penguin", "fox", "apple", "pizza", "cake", "sunflower",
    "tree", "car", "rocket", "house", "umbrella", "guitar", "robot",
)  # fmt: skip
SIZE = 256  # pixels a side, unless another is given
SHADE = "blue"
SEEDS = 4  # of the measure of variety


@dataclass(frozen=True)
class Row:
    """One thing: means over its pictures. variety: see `spread`; None where it was not measured."""

    thing: str
    ssim: float
    edges: float
    variety: float | None = None
    variety_of_renders: float | None = None


def measure(
    pipeline: Pipeline, world: World, thing: str, seeds: Sequence[int], size: int, variety: bool, word: str = ""
) -> tuple[Row, list[Tensor], list[BestRender]]:
    """Draw a thing with each seed at `size` pixels a side and measure it. word: what the model calls it; "": as the
    world does.

    Returns the row, the pictures, and the best render of each.
    """
    prompt = f"{article(word or world.things[thing].en)} on a {SHADE} background"
    pictures = list(pipeline.sample([prompt] * len(seeds), seeds, SampleRequest(size=size)).images)
    renders = [best_render(picture, world.atlas, thing, world.config.styles[0]) for picture in pictures]
    found = [fidelity(picture, render) for picture, render in zip(pictures, renders, strict=True)]
    row = Row(thing, statistics.fmean(f.ssim for f in found), statistics.fmean(f.edges for f in found))
    if variety:
        scenes = [world.layout.compose((Group(thing),), "plain", shade=SHADE, seed=seed) for seed in seeds]
        drawn = list(world.draw(scenes, size)[0])
        boxes = [best_render(picture, world.atlas, thing, world.config.styles[0]) for picture in drawn]
        row = replace(row, variety=spread(pictures, renders), variety_of_renders=spread(drawn, boxes))
    return row, pictures, renders


def spread(pictures: Sequence[Tensor], renders: Sequence[BestRender]) -> float:
    """Mean distance of pairs of pictures (3, S, S) in [-1, 1]: the root mean square difference of their pixels.

    The distance is taken in the smallest rectangle that holds the boxes of both things.
    """
    distances = []
    for (a, in_a), (b, in_b) in itertools.combinations(zip(pictures, renders, strict=True), 2):
        rows, columns = (slice(min(p.start, q.start), max(p.stop, q.stop)) for p, q in zip(in_a.box, in_b.box))
        distances.append(math.sqrt(float((a - b)[:, rows, columns].square().mean())))
    return statistics.fmean(distances)


def mean_of_rows(rows: Sequence[Row]) -> Row:
    """The means over the things."""

    def mean(values: Sequence[float | None]) -> float | None:
        known = [value for value in values if value is not None]
        return statistics.fmean(known) if known else None

    return Row(
        "mean",
        statistics.fmean(row.ssim for row in rows),
        statistics.fmean(row.edges for row in rows),
        mean([row.variety for row in rows]),
        mean([row.variety_of_renders for row in rows]),
    )


def table(rows: Sequence[Row]) -> str:
    """The rows as a Markdown table, with their means."""
    with_variety = rows[0].variety is not None
    more = " variety | of renders | ratio |" if with_variety else ""
    lines = ["| thing | SSIM | edge energy |" + more, "|---|---|---|" + "---|" * more.count("|")]
    for row in [*rows, mean_of_rows(rows)]:
        line = f"| {row.thing} | {row.ssim:.3f} | {row.edges:.2f} |"
        if row.variety is not None and row.variety_of_renders is not None:
            ratio = row.variety / max(row.variety_of_renders, 1e-6)
            line += f" {row.variety:.3f} | {row.variety_of_renders:.3f} | {ratio:.2f} |"
        lines.append(line)
    return "\n".join(lines) + "\n"


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m t2i.lab.fidelity", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default="small", help="name or folder of a model (default small)")
    parser.add_argument("--sprites", type=Path, required=True, metavar="DIR", help="the sprite library")
    parser.add_argument("--recipe", default="first", help="whose world renders the captions (default first)")
    parser.add_argument("--things", default=",".join(THINGS), metavar="A,B", help="keys (default: 20 things)")
    parser.add_argument("--lora", metavar="FILE[:SCALE]", help="a personal model of the one thing in --things")
    parser.add_argument("--size", type=positive, default=SIZE, help=f"pixels a side of the pictures (default {SIZE})")
    parser.add_argument("--n", type=positive, default=1, help="pictures a thing (default 1)")
    parser.add_argument("--seed", type=int, default=0, help="of the first picture of each thing (default 0)")
    parser.add_argument(
        "--variety", action="store_true", help=f"measure variety too, on at least {SEEDS} pictures a thing"
    )
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the numbers of every thing")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="write the pictures above their best renders")
    return parser


def with_personal(model: str, lora: str) -> tuple[Pipeline, str]:
    """A model with a personal model, and its word. Raises UsageError, InputError."""
    bundle, found = read_bundle(resolve(model)), read_lora(lora)
    bundle.check_load(LoadOptions(loras=(found,)))
    assert found.personal is not None, "a bundle takes no other LoRA"
    return Pipeline.load(bundle.path, loras=[found]), found.personal.token


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.n < 1:
        raise UsageError("--n is at least 1.")
    if args.size < COARSE:
        raise UsageError(f"--size is at least {COARSE}.")
    seeds = seeds_from(args.seed, max(args.n, SEEDS) if args.variety else args.n, "--seed ")
    keys = tuple(key for key in args.things.split(",") if key)
    if not keys:
        raise UsageError("--things names no thing.")
    world = World(replace(world_config(args.recipe), things=keys), args.sprites, resolution=args.size)
    if args.lora and len(keys) > 1:
        raise UsageError("--lora is of one thing.", "Name its key: --things teapot")
    pipeline, word = with_personal(args.model, args.lora) if args.lora else (Pipeline.load(resolve(args.model)), "")
    rows, cells = [], []
    began = time.monotonic()
    for thing in keys:
        row, pictures, renders = measure(pipeline, world, thing, seeds, args.size, args.variety, word)
        rows.append(row)
        cells.append((to_pil(pictures[0]), to_pil(renders[0].pixels)))
        sys.stderr.write(f"{thing}: SSIM {row.ssim:.3f}, edge energy {row.edges:.2f}\n")
    sys.stderr.write(f"{time.monotonic() - began:.0f} s\n")
    print(table(rows), end="")
    if args.json:
        write_bytes(args.json, (json.dumps([asdict(row) for row in rows], indent=1) + "\n").encode())
    if args.sheet:
        half = math.ceil(len(cells) / 2)
        parts = (cells[:half], cells[half:])
        save_image(contact_sheet([[pair[i] for pair in part] for part in parts for i in (0, 1)]), args.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
