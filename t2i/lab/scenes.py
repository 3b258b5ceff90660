"""Shows the built-in world: `python -m t2i.lab.scenes -o sheet.png` draws a contact sheet of scenes with captions.

`--benchmark` measures instead how many scenes a second one thread makes.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Literal

import torch
from PIL import Image

from t2i.errors import UsageError
from t2i.files import atomic_file
from t2i.lab.program import positive, reports_errors
from t2i.media.fonts import find_font
from t2i.media.images import check_suffix, save_image, to_pil
from t2i.media.sheet import captioned, contact_sheet, in_rows, titled
from t2i.world import Scene, World, WorldConfig
from t2i.world.sprites import LIBRARY
from t2i.world.vocabulary import Lang

Vocabulary = Literal["shapes", "core", "all"]
NO_FONT = "No font here shows these captions: name one with --font, or install one (Debian: fonts-wqy-zenhei)."
LANGS: dict[str, tuple[Lang, ...]] = {"en": ("en",), "zh": ("zh",), "both": ("en", "zh")}
BATCH = 256  # scenes of one batch of the benchmark


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.scenes", description=__doc__)
    parser.add_argument("-o", "--out", type=Path, default=Path("scenes.png"), metavar="FILE", help="the sheet to write")
    parser.add_argument("--sprites", type=Path, metavar="FOLDER", help="the sprite library; without it, drawn shapes")
    parser.add_argument(
        "--vocabulary", choices=("shapes", "core", "all"), help="default: core with --sprites, else shapes"
    )
    parser.add_argument("--styles", metavar="A,B", help="sprite sets, by their folders (default fluent3d)")
    parser.add_argument("--size", type=positive, default=160, help="pixels a side of each picture (default 160)")
    parser.add_argument("--rows", type=positive, default=6)
    parser.add_argument("--columns", type=positive, default=8)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--side", choices=("train", "held-out", "any"), default="train", help="of the held-out rule")
    parser.add_argument("--lang", choices=tuple(LANGS), default="both")
    parser.add_argument("--captions", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--font", type=Path, metavar="FILE", help="a TrueType or OpenType font for the captions")
    parser.add_argument("--benchmark", action="store_true", help="print scenes a second at 64 px on one thread")
    return parser


def make_world(args: argparse.Namespace) -> World:
    """The world that the options ask for. Raises UsageError, InputError."""
    vocabulary: Vocabulary = args.vocabulary or ("core" if args.sprites else "shapes")
    if vocabulary != "shapes" and args.sprites is None:
        raise UsageError(f"the vocabulary {vocabulary!r} needs the sprite library.", LIBRARY)
    styles = tuple(args.styles.split(",")) if args.styles else WorldConfig.styles
    config = WorldConfig(vocabulary=vocabulary, styles=styles, side=args.side)
    return World(config, args.sprites, resolution=256 if args.size > 256 else 128)


def pictures_of(world: World, scenes: Sequence[Scene], size: int) -> list[Image.Image]:
    """The scenes as images, drawn in batches of about four megapixels."""
    step = max(1, 4_000_000 // size**2)
    out: list[Image.Image] = []
    for start in range(0, len(scenes), step):
        pixels, _ = world.draw(scenes[start : start + step], size)
        out += [to_pil(picture) for picture in pixels]
    return out


def write_sheet(args: argparse.Namespace) -> list[Path]:
    """Draw and save the sheet, and a file of captions beside it if no font shows them. Returns the files."""
    check_suffix(args.out)
    if not 16 <= args.size <= 1024 or args.rows < 1 or args.columns < 1:
        raise UsageError("the sheet needs a --size of 16 to 1024 and at least one row and column.")
    world = make_world(args)
    scenes = [world.scene(args.seed, i) for i in range(args.rows * args.columns)]
    captions = [[world.caption(scene, lang) for lang in LANGS[args.lang]] if args.captions else [] for scene in scenes]
    written = [args.out]
    title = f"{world.config.vocabulary} · {len(world.keys)} things · {len(world.places)} places · "
    title += f"{args.side} · seed {args.seed}"
    font = find_font(title + "".join("".join(texts) for texts in captions), args.font)
    shown: list[list[str]] = [list(texts) for texts in captions]
    if not font.complete:
        beside = args.out.with_suffix(".txt")
        text = "".join(f"{i}\t" + "\t".join(texts) + "\n" for i, texts in enumerate(captions))
        with atomic_file(beside) as file:
            file.write(text.encode())
        shown = [[str(i)] for i in range(len(captions))]
        sys.stderr.write(f"{NO_FONT} The captions are in {beside}, by number.\n")
        written.append(beside)
    pictures = zip(pictures_of(world, scenes, args.size), shown, strict=True)
    cells = [captioned(picture, texts, font) for picture, texts in pictures]
    sheet = contact_sheet(in_rows(cells, args.columns), gap=max(8, args.size // 10))
    save_image(titled(sheet, title, font), args.out)
    return written


def benchmark(world: World, seed: int, batches: int = 4, size: int = 64) -> dict[str, float]:
    """CPU time of layout, captions and drawing in microseconds per scene, and scenes per second.

    The CPU's clock leaves out what other programs on the machine take; the caller sets the threads to one.
    """
    world.batch(seed, range(BATCH), size)  # fills the caches
    spent = {"layout": 0.0, "captions": 0.0, "drawing": 0.0}
    for k in range(1, batches + 1):
        start = time.process_time()
        scenes = [world.scene(seed, i) for i in range(k * BATCH, (k + 1) * BATCH)]
        laid = time.process_time()
        for scene in scenes:
            world.caption(scene)
        said = time.process_time()
        world.draw(scenes, size)
        drawn = time.process_time()
        for name, seconds in zip(spent, (laid - start, said - laid, drawn - said), strict=True):
            spent[name] += seconds * 1e6 / (batches * BATCH)
    return {**spent, "scenes_per_second": 1e6 / sum(spent.values())}


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    if args.benchmark:
        torch.set_num_threads(1)
        for name, value in benchmark(make_world(args), args.seed).items():
            print(f"{name:>20} {value:10.0f}" + ("" if name.startswith("scenes") else " us a scene"))
    else:
        for path in write_sheet(args):
            print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
