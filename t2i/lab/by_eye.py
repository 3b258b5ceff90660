"""Pictures for reading by eye: `python -m t2i.lab.by_eye --model small --out by-eye`.

Draws every prompt of a fixed list once and writes contact sheets of 20 numbered pictures. The sheets do not show the
prompts, so that a reader can be asked what each picture shows; `--labels` prints them. `prompts.txt` in the same folder
is the key: number, prompt.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from PIL import Image

from t2i.errors import InputError
from t2i.files import write_bytes
from t2i.lab.program import positive, reports_errors
from t2i.media.fonts import find_font
from t2i.media.images import save_image, to_pil
from t2i.media.sheet import captioned, contact_sheet, in_rows
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.store.registry import resolve

PROMPTS = Path(__file__).with_name("by_eye.txt")
PER_SHEET, COLUMNS = 20, 5
CELL = 300  # pixels a side at most, so that a sheet is less than 1600 pixels wide
GAP = 12


def read_prompts(path: Path) -> list[str]:
    """The lines of a text file that are not empty. Raises InputError."""
    try:
        text = path.read_text("utf-8")
    except (OSError, ValueError) as error:
        raise InputError(f"cannot read the prompts {path}", hint="name a text file with --prompts") from error
    return [line.strip() for line in text.splitlines() if line.strip()]


def draw(pipeline: Pipeline, prompts: Sequence[str], seed: int, batch: int) -> list[Image.Image]:
    """One picture of each prompt, all with the same seed, at the model's own size."""
    out: list[Image.Image] = []
    for start in range(0, len(prompts), batch):
        part = prompts[start : start + batch]
        out += [to_pil(pixels) for pixels in pipeline.sample(part, [seed] * len(part), SampleRequest()).images]
        sys.stderr.write(f"{len(out)} of {len(prompts)} drawn\n")
    return out


def sheets(pictures: Sequence[Image.Image], labels: Sequence[str]) -> list[Image.Image]:
    """Contact sheets of `PER_SHEET` pictures with their labels below them."""
    font = find_font("".join(labels))
    cells = []
    for picture, label in zip(pictures, labels, strict=True):
        small = picture.copy()
        small.thumbnail((CELL, CELL), Image.Resampling.LANCZOS)
        cells.append(captioned(small, [label], font))
    parts = [cells[start : start + PER_SHEET] for start in range(0, len(cells), PER_SHEET)]
    return [contact_sheet(in_rows(part, COLUMNS), gap=GAP) for part in parts]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.by_eye", description=__doc__)
    parser.add_argument("--model", default="small", help="name or folder of a model (default small)")
    parser.add_argument("--out", type=Path, required=True, metavar="DIR", help="where the sheets are written")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, metavar="FILE", help="a prompt a line")
    parser.add_argument("--labels", action="store_true", help="print the prompts below the pictures")
    parser.add_argument("--seed", type=int, default=0, help="of every picture (default 0)")
    parser.add_argument("--batch", type=positive, default=4, help="pictures drawn together (default 4)")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    prompts = read_prompts(args.prompts)
    key = [f"{number} {prompt}" for number, prompt in enumerate(prompts, 1)]
    pictures = draw(Pipeline.load(resolve(args.model)), prompts, args.seed, args.batch)
    labels = key if args.labels else [str(number) for number in range(1, len(prompts) + 1)]
    args.out.mkdir(parents=True, exist_ok=True)
    write_bytes(args.out / "prompts.txt", "".join(f"{line}\n" for line in key).encode())
    for number, sheet in enumerate(sheets(pictures, labels), 1):
        save_image(sheet, args.out / f"sheet-{number}.png")
        print(args.out / f"sheet-{number}.png")
    return 0


if __name__ == "__main__":
    sys.exit(main())
