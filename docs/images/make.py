"""Makes the pictures of README.md and docs/editing.md with the commands shown there: python docs/images/make.py"""

from __future__ import annotations

import os
import sys
import tempfile
from pathlib import Path

from PIL import Image, ImageDraw

from t2i.cli.app import run
from t2i.media.sheet import contact_sheet

HERE = Path(__file__).resolve().parent
PROMPTS = HERE / "gallery.txt"
COLUMNS = 6
SIDE, GAP = 128, 3


def t2i(*args: str) -> None:
    """One command; its faults end the run."""
    sys.stderr.write("t2i " + " ".join(args) + "\n")
    if run([*args, "--quiet"]):
        sys.exit(1)


def sheet(name: str, *rows: list[str]) -> None:
    """Picture files in rows, at one height."""
    images = [[Image.open(path).convert("RGB") for path in row] for row in rows]
    scaled = [
        [i.resize((round(i.width * SIDE / i.height), SIDE), Image.Resampling.LANCZOS) for i in row] for row in images
    ]
    contact_sheet(scaled, gap=GAP).save(HERE / f"{name}.png", optimize=True)
    sys.stderr.write(f"{name}.png\n")


def sketch() -> None:
    """A house as a child draws it."""
    image = Image.new("RGB", (256, 256), (150, 205, 250))
    draw = ImageDraw.Draw(image)
    draw.rectangle((0, 170, 256, 256), fill=(110, 190, 90))
    draw.rectangle((70, 105, 186, 205), fill=(240, 220, 180))
    draw.polygon([(55, 108), (128, 45), (201, 108)], fill=(200, 60, 50))
    draw.rectangle((112, 150, 145, 205), fill=(120, 70, 40))
    image.save("sketch.png")


def main() -> None:
    with tempfile.TemporaryDirectory() as place:
        os.chdir(place)
        t2i("sample", "-f", str(PROMPTS), "--seed", "1", "-o", "gallery/{index:02}.png")
        shown = sorted(map(str, Path("gallery").glob("*.png")))
        sheet("gallery", *[shown[i : i + COLUMNS] for i in range(0, len(shown), COLUMNS)])
        t2i("sample", "a dog in the garden", "--seed", "7", "-o", "dog.png")
        t2i("sample", "a cat in the snow", "--seed", "7", "-o", "cat.png")
        t2i("inpaint", "dog.png", "a cat", "--mask-text", "the dog", "--show-mask", "--seed", "1", "-o", "a.png")
        t2i("inpaint", "dog.png", "a house", "--mask-text", "the dog", "--seed", "1", "-o", "b.png")
        t2i("inpaint", "dog.png", "--mask-text", "the dog", "--seed", "1", "-o", "c.png")
        sheet("editing/inpaint", ["dog.png", "a.mask.png", "a.png", "b.png", "c.png"])
        t2i(
            "inpaint",
            "cat.png",
            "the snow",
            "--outpaint",
            "left=50%,right=50%",
            "--seed",
            "1",
            "-o",
            "wide.png",
        )
        sheet("editing/outpaint", ["cat.png", "wide.png"])
        t2i("vary", "cat.png", "-n", "3", "--seed", "1", "-o", "like.png")
        t2i("vary", "cat.png", "-n", "3", "--seed", "1", "--strength", "0.3", "-o", "near.png")
        sheet(
            "editing/like",
            ["cat.png", "like.png", "like-2.png", "like-3.png"],
            ["cat.png", "near.png", "near-2.png", "near-3.png"],
        )
        t2i("vary", "cat.png", "--to", "dog.png", "--frames", "7", "--seed", "1", "-o", "blend{n}.png")
        sheet("editing/blend", [f"blend{i}.png" for i in range(7)])
        t2i(
            "vary",
            "cat.png",
            "--from-text",
            "a cat",
            "--to-text",
            "a house",
            "--theta",
            "0..0.6",
            "--seed",
            "1",
            "-o",
            "diff{n}.png",
        )
        sheet("editing/text-diff", ["cat.png", *[f"diff{i}.png" for i in range(5)]])
        sketch()
        for strength in ("0.4", "0.6", "0.8"):
            t2i(
                "sample",
                "a house",
                "--init",
                "sketch.png",
                "--strength",
                strength,
                "--seed",
                "1",
                "-o",
                f"init{strength}.png",
            )
        sheet("editing/init", ["sketch.png", "init0.4.png", "init0.6.png", "init0.8.png"])
        t2i("sample", "a bear wearing a crown", "--seed", "1,2,3", "-o", "one.png")
        t2i("sample", "a bear wearing a crown", "--seed", "1,2,3", "--rerank", "4", "-o", "best.png")
        sheet("editing/rerank", ["one.png", "one-2.png", "one-3.png"], ["best.png", "best-2.png", "best-3.png"])
        t2i("sample", "a house in the snow", "--seed", "7", "--size", "64", "-o", "small.png")
        t2i("upscale", "small.png", "--to", "256", "-o", "big")
        Image.open("small.png").resize((256, 256), Image.Resampling.NEAREST).save("part.png")
        Image.open("small.png").resize((256, 256), Image.Resampling.LANCZOS).save("plain.png")
        sheet("editing/upscale", ["part.png", "plain.png", "big/small.png"])


if __name__ == "__main__":
    main()
