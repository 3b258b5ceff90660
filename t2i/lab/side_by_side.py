"""Several models, the same prompts: `python -m t2i.lab.side_by_side --models small,imagen-small --out three.png`.

One picture of each prompt and model, all with one seed, on one sheet: a row a prompt, by its number, a column a model.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from pathlib import Path

from t2i.lab.by_eye import draw, read_prompts
from t2i.lab.program import positive, reports_errors
from t2i.media.images import save_image
from t2i.media.sheet import contact_sheet
from t2i.pipeline import Pipeline
from t2i.store.registry import resolve

PROMPTS = Path("docs/papers/three.txt")
CELL = 160


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """The exit code."""
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.side_by_side", description=(__doc__ or "").split("\n")[0])
    parser.add_argument("--models", default="small,imagen-small,dalle-small", help="names or folders, with commas")
    parser.add_argument("--prompts", type=Path, default=PROMPTS, metavar="FILE", help="a prompt a line")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the sheet")
    parser.add_argument("--seed", type=int, default=0, help="of every picture (default 0)")
    parser.add_argument("--batch", type=positive, default=4, help="pictures drawn together (default 4)")
    args = parser.parse_args(argv)
    prompts, folders = read_prompts(args.prompts), [resolve(name) for name in args.models.split(",")]
    columns = [draw(Pipeline.load(folder), prompts, args.seed, args.batch) for folder in folders]
    rows = list(zip(*columns, strict=True))
    numbers = [str(number) for number in range(1, len(prompts) + 1)]
    save_image(contact_sheet(rows, left=numbers, top=[f.name for f in folders], cell=(CELL, CELL)), args.out)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
