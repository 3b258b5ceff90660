"""Makes the pictures of README.md and docs/editing.md, with the commands that are shown there."""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from PIL import Image, ImageDraw

from t2i.cli.app import run
from t2i.media.sheet import contact_sheet

HERE = Path(__file__).resolve().parent
PROMPTS = HERE / "gallery.txt"
Rows = list[list[str]]
COLUMNS = 6
SIDE, GAP = 128, 3


def t2i(*args: str) -> None:
    """One command; its faults end the run."""
    sys.stderr.write("t2i " + " ".join(args) + "\n")
    if run([*args, "--quiet"]):
        sys.exit(1)


def sheet(rows: Rows) -> Image.Image:
    """Picture files in rows, at one height."""
    images = [[Image.open(path).convert("RGB") for path in row] for row in rows]
    scaled = [
        [i.resize((round(i.width * SIDE / i.height), SIDE), Image.Resampling.LANCZOS) for i in row] for row in images
    ]
    return contact_sheet(scaled, gap=GAP)


def sketch() -> None:
    """A house as a child draws it."""
    image = Image.new("RGB", (256, 256), (150, 205, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 170, 256, 256), fill=(110, 190, 90))
    draw.rectangle((70, 105, 186, 205), fill=(240, 220, 180))
    draw.polygon([(55, 108), (128, 45), (201, 108)], fill=(200, 60, 50))
    draw.rectangle((112, 150, 145, 205), fill=(120, 70, 40))
    image.save("sketch.png")


def pictures(*names: str) -> None:
    """The pictures that others are made from, unless they are there: dog.png and cat.png."""
    prompts = {"dog": "a dog in the garden", "cat": "a cat in the snow"}
    for name in names:
        if not Path(f"{name}.png").exists():
            t2i("sample", prompts[name], "--seed", "7", "-o", f"{name}.png")


def gallery() -> Rows:
    t2i("sample", "-f", str(PROMPTS), "--seed", "1", "-o", "gallery/{index:02}.png")
    shown = sorted(map(str, Path("gallery").glob("*.png")))
    return [shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)]


def inpaint() -> Rows:
    pictures("dog")
    t2i("inpaint", "dog.png", "a cat", "--mask-text", "the dog", "--show-mask", "--seed", "1", "-o", "a.png")
    t2i("inpaint", "dog.png", "a house", "--mask-text", "the dog", "--seed", "1", "-o", "b.png")
    t2i("inpaint", "dog.png", "--mask-text", "the dog", "--seed", "1", "-o", "c.png")
    return [["dog.png", "a.mask.png", "a.png", "b.png", "c.png"]]


def outpaint() -> Rows:
    pictures("cat")
    t2i("inpaint", "cat.png", "the snow", "--outpaint", "left=50%,right=50%", "--seed", "1", "-o", "wide.png")
    return [["cat.png", "wide.png"]]


def like() -> Rows:
    pictures("cat")
    t2i("vary", "cat.png", "-n", "3", "--seed", "1", "-o", "like.png")
    t2i("vary", "cat.png", "-n", "3", "--seed", "1", "--strength", "0.3", "-o", "near.png")
    return [["cat.png", f"{name}.png", f"{name}-2.png", f"{name}-3.png"] for name in ("like", "near")]


def blend() -> Rows:
    pictures("cat", "dog")
    t2i("vary", "cat.png", "--to", "dog.png", "--frames", "7", "--seed", "1", "-o", "blend{n}.png")
    return [[f"blend{i}.png" for i in range(7)]]


def text_diff() -> Rows:
    pictures("cat")
    texts = ["--from-text", "a cat", "--to-text", "a house"]
    t2i("vary", "cat.png", *texts, "--theta", "0..0.6", "--seed", "1", "-o", "diff{n}.png")
    return [["cat.png", *[f"diff{i}.png" for i in range(5)]]]


def init() -> Rows:
    sketch()
    strengths = ("0.4", "0.6", "0.8")
    for strength in strengths:
        start = ["--init", "sketch.png", "--strength", strength]
        t2i("sample", "a house", *start, "--seed", "1", "-o", f"init{strength}.png")
    return [["sketch.png", *[f"init{strength}.png" for strength in strengths]]]


def rerank() -> Rows:
    t2i("sample", "a bear wearing a crown", "--seed", "1,2,3", "-o", "one.png")
    t2i("sample", "a bear wearing a crown", "--seed", "1,2,3", "--rerank", "4", "-o", "best.png")
    return [[f"{name}.png", f"{name}-2.png", f"{name}-3.png"] for name in ("one", "best")]


def upscale() -> Rows:
    t2i("sample", "a house in the snow", "--seed", "7", "--size", "64", "-o", "small.png")
    t2i("upscale", "small.png", "--to", "256", "-o", "big")
    Image.open("small.png").resize((256, 256), Image.Resampling.NEAREST).save("part.png")
    Image.open("small.png").resize((256, 256), Image.Resampling.LANCZOS).save("plain.png")
    return [["part.png", "plain.png", "big/small.png"]]


MAKERS: dict[str, Callable[[], Rows]] = {
    "gallery": gallery,
    "editing/inpaint": inpaint,
    "editing/outpaint": outpaint,
    "editing/like": like,
    "editing/blend": blend,
    "editing/text-diff": text_diff,
    "editing/init": init,
    "editing/rerank": rerank,
    "editing/upscale": upscale,
}
"""Picture, below this folder -> what draws its parts in the current folder."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pictures", nargs="*", metavar="PICTURE", help=f"{', '.join(MAKERS)}; all if none is named")
    parser.add_argument("--out", type=Path, default=HERE, metavar="FOLDER", help="where they go; the default is here")
    asked = parser.parse_args()
    for name in asked.pictures:
        if name not in MAKERS:
            parser.error(f"there is no picture {name!r}; there are {', '.join(MAKERS)}")
    out = asked.out.resolve()
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        for name in asked.pictures or MAKERS:
            path = out / f"{name}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            sheet(MAKERS[name]()).save(path, optimize=True)
            sys.stderr.write(f"{path}\n")


if __name__ == "__main__":
    main()
