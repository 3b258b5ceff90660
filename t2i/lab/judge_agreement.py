"""Whether the judge agrees with readings by eye: `python -m t2i.lab.judge_agreement tests/by_eye`.

The folder holds `readings.jsonl`, a line for each prompt: "prompt", "expect" (as in a suite), and for each set of
pictures what each reading by eye said: 1 if the picture shows all that the prompt asks for, else 0 ("a cat or a dog" is
0). Each set SET is a sheet `SET.png` of ten by ten pictures as the judge reads them, 64 pixels a side.

Prints, for each set and reading, the share of pictures on which judge and reader agree, and how much more often the
judge says that a picture is right (the bias); beside them, how far two readers agree.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from t2i.jsonl import read_jsonl
from t2i.lab.program import reports_errors
from t2i.media.images import load_image, to_tensor
from t2i.schema import build
from t2i.store.registry import resolve_judge
from t2i.world.judge import SIZE, Judge
from t2i.world.reading import Expectation, check

COLUMNS = 10  # pictures side by side on a sheet


@dataclass(frozen=True)
class Agreement:
    """Judge and one reader over the pictures of a set, as shares: where both say the same, where each says right."""

    agree: float
    judge: float
    reader: float

    @property
    def bias(self) -> float:
        """How much more often the judge says right."""
        return self.judge - self.reader


def agreement(judge: Sequence[bool], reader: Sequence[bool]) -> Agreement:
    """Compare the verdicts on the same pictures."""
    n = len(judge)
    return Agreement(sum(a == b for a, b in zip(judge, reader, strict=True)) / n, sum(judge) / n, sum(reader) / n)


def readers_of(folder: Path) -> tuple[list[Expectation], dict[str, list[list[bool]]]]:
    """What each prompt asks for; set -> reader -> verdicts. Raises InputError."""
    path = folder / "readings.jsonl"
    rows = [row for _, row in read_jsonl(path, f"the readings {path}")]
    expectations = [build(Expectation, row["expect"]) for row in rows]
    sets = [name for name in rows[0] if name not in ("prompt", "expect")]
    return expectations, {
        name: [[bool(row[name][k]) for row in rows] for k in range(len(rows[0][name]))] for name in sets
    }


def verdicts(judge: Judge, sheet: Path, expectations: Sequence[Expectation]) -> list[bool]:
    """Whether the judge finds all that was asked for, for each picture of a sheet. Raises InputError."""
    pixels = to_tensor(load_image(sheet))
    cells = pixels.unfold(1, SIZE, SIZE).unfold(2, SIZE, SIZE)  # (3, rows, columns, S, S)
    pictures = cells.permute(1, 2, 0, 3, 4).reshape(-1, 3, SIZE, SIZE)[: len(expectations)]
    readings = judge.read(pictures)
    return [all(check(r, asked).values()) for r, asked in zip(readings, expectations, strict=True)]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m t2i.lab.judge_agreement", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("folder", type=Path, help="readings and sheets")
    parser.add_argument("--judge", type=Path, metavar="DIR", help="a stored judge (default: the shipped one)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    torch.set_num_threads(1)
    judge = Judge.load(args.judge or resolve_judge())
    expectations, sets = readers_of(args.folder)
    rows = []
    for name, readers in sets.items():
        said = verdicts(judge, args.folder / f"{name}.png", expectations)
        between = agreement(readers[0], readers[-1]).agree
        for number, reader in enumerate(readers, 1):
            found = agreement(said, reader)
            rows.append((name, number, found.agree, found.judge, found.reader, found.bias, between))
    head = ("pictures", "reading", "agreement", "right by the judge", "right by eye", "bias", "two readings agree")
    if args.json:
        print(json.dumps([dict(zip(head, row, strict=True)) for row in rows], indent=1))
        return 0
    print("| " + " | ".join(head) + " |\n" + "|---" * len(head) + "|")
    for row in rows:
        print("| " + " | ".join(f"{cell:.2f}" if isinstance(cell, float) else str(cell) for cell in row) + " |")
    return 0


if __name__ == "__main__":
    sys.exit(main())
