"""What --guidance and --negative do: `python -m t2i.lab.guidance --model small`.

Guidance: prompts of the suite at several values for prior and base alike, from the same seeds. The judge says how many
are right; `distance` is the mean absolute difference to the pictures at guidance 1, of 255; `contrast` is the standard
deviation of the values, of 255. Negative: forty prompts that name a place or a second thing, with and without a
negative prompt of just that. The judge says where it is gone, and where the first thing is still there.

Prints two Markdown tables. --sheets DIR writes a contact sheet of each.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from t2i.lab.program import positive, reports_errors
from t2i.media.images import resize, save_image, to_pil
from t2i.media.sheet import contact_sheet
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest, by_stage
from t2i.score.statistics import Interval, share_interval
from t2i.score.suite import read_suite, shipped_suite
from t2i.score.task_scores import passes, subsample
from t2i.store.registry import resolve, resolve_judge
from t2i.world.captions.english import article
from t2i.world.judge import Judge
from t2i.world.reading import Reading

VALUES = (1.0, 3.0, 6.0)
THINGS = ("cat", "dog", "fox", "owl", "rabbit", "lion", "car", "house")
PLACES = {"snow": "in the snow", "beach": "on the beach", "forest": "in the forest"}
PAIRS = (
    ("dog", "soccer ball"), ("cat", "tree"), ("car", "house"), ("rabbit", "apple"), ("lion", "balloon"),
    ("fox", "chair"), ("dog", "cat"), ("horse", "duck"), ("owl", "umbrella"), ("robot", "car"),
    ("pig", "cake"), ("bear", "tent"),
    ("elephant", "star"), ("penguin", "crown"), ("cow", "rose"), ("boat", "fish"),
)  # fmt: skip
ACROSS = 8  # pictures in a row of a sheet


@dataclass(frozen=True)
class Case:
    """A prompt, what it is drawn without, and what should stay. place: whether the first is a place."""

    prompt: str
    negative: str
    thing: str
    place: bool

    def gone(self, reading: Reading) -> bool:
        if self.place:
            return reading.place != self.negative
        return key(self.negative) not in {found.thing for found in reading.objects}

    def kept(self, reading: Reading) -> bool:
        return key(self.thing) in {found.thing for found in reading.objects}


def key(word: str) -> str:
    """The judge's name of a thing."""
    return word.replace(" ", "_")


def named(thing: str) -> str:
    return f"{article(thing)} {thing}"


def cases() -> list[Case]:
    """24 prompts with a place, 16 with a second thing."""
    placed = [
        Case(f"{named(thing)} {where}", place, thing, True) for place, where in PLACES.items() for thing in THINGS
    ]
    return placed + [Case(f"{named(a)} and {named(b)}", b, a, False) for a, b in PAIRS]


Draw = Callable[[Sequence[str], Sequence[int], SampleRequest], Tensor]


def drawn(pipeline: Pipeline, batch: int) -> Draw:
    def draw(prompts: Sequence[str], seeds: Sequence[int], request: SampleRequest) -> Tensor:
        starts = range(0, len(prompts), batch)
        parts = [pipeline.sample(prompts[i : i + batch], seeds[i : i + batch], request).images for i in starts]
        sys.stderr.write(f"{len(prompts)} pictures\n")
        return torch.cat(parts)

    return draw


def guidance(pipeline: Pipeline, judge: Judge, draw: Draw, size: int, n: int) -> tuple[str, Tensor]:
    """The table, and a row of pictures (values, B, 3, S, S) for each value."""
    prompts = subsample(read_suite(shipped_suite()), n)
    texts, seeds = [prompt.text for prompt in prompts], range(len(prompts))
    stages = [entry.name for entry in pipeline.manifest.stages if entry.kind in ("prior", "base")]
    rows, lines = [], ["| guidance | right | 95% interval | distance | contrast |", "|---|---|---|---|---|"]
    for value in VALUES:
        request = SampleRequest(size=size, stages=by_stage(guidance=dict.fromkeys(stages, value)))
        rows.append(draw(texts, seeds, request))
        right = share_interval([
            float(passes(p, reading)) for p, reading in zip(prompts, judge.read(rows[-1]), strict=True)
        ])  # fmt: skip
        distance = 127.5 * float((rows[-1] - rows[0]).abs().mean())
        lines.append(f"| {value:g} | {shown(right)} | {distance:.1f} | {127.5 * float(rows[-1].std()):.1f} |")
    return "\n".join([*lines, "", f"{len(prompts)} prompts of the suite."]), torch.stack(rows)


def negative(judge: Judge, draw: Draw, size: int) -> tuple[str, Tensor]:
    """The table, and the pictures (2, B, 3, S, S) without and with the negative prompt."""
    every = cases()
    seeds = range(len(every))
    without = draw([case.prompt for case in every], seeds, SampleRequest(size=size))
    with_ = torch.empty_like(without)
    for word in dict.fromkeys(case.negative for case in every):
        rows = [i for i, case in enumerate(every) if case.negative == word]
        request = SampleRequest(size=size, negative=word)
        with_[rows] = draw([every[i].prompt for i in rows], [seeds[i] for i in rows], request)
    lines = ["| what | --negative | gone | 95% interval | the other thing is there | 95% interval |", "|" + "---|" * 6]
    for name, pictures in (("no", without), ("yes", with_)):
        readings = judge.read(pictures)
        for what, place in (("places", True), ("things", False)):
            both = [(case, reading) for case, reading in zip(every, readings, strict=True) if case.place is place]
            gone, kept = (
                share_interval([float(f(case, reading)) for case, reading in both]) for f in (Case.gone, Case.kept)
            )
            lines.append(f"| {what} ({len(both)}) | {name} | {shown(gone)} | {shown(kept)} |")
    return "\n".join(lines), torch.stack([without, with_])


def shown(m: Interval) -> str:
    return f"{m.mean:.2f} | {m.low:.2f} to {m.high:.2f}"


def write_sheet(path: Path, rows: Tensor, left: Sequence[str]) -> None:
    """Some of the pictures (R, B, 3, S, S) at 160 pixels, each row under the one before it."""
    chosen = rows[:, :: max(1, rows.shape[1] // (2 * ACROSS))][:, : 2 * ACROSS]
    cells = [[to_pil(picture) for picture in resize(row, 160, 160)] for row in chosen]
    blocks = [row[start : start + ACROSS] for start in range(0, len(cells[0]), ACROSS) for row in cells]
    path.parent.mkdir(parents=True, exist_ok=True)
    save_image(contact_sheet(blocks, left=list(left) * (len(blocks) // len(left))), path)


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.guidance", description=__doc__)
    parser.add_argument("--model", default="small", help="name or folder of a model (default small)")
    parser.add_argument("--size", type=positive, default=64, help="of the pictures (default 64)")
    parser.add_argument(
        "--prompts", type=positive, default=48, metavar="N", help="of the suite, for guidance (default 48)"
    )
    parser.add_argument("--batch", type=positive, default=8, help="pictures drawn together (default 8)")
    parser.add_argument("--sheets", type=Path, metavar="DIR", help="where contact sheets are written")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    args = build_parser().parse_args(argv)
    pipeline, judge = Pipeline.load(resolve(args.model)), Judge.load(resolve_judge())
    draw = drawn(pipeline, args.batch)
    table, rows = negative(judge, draw, args.size)
    print(table, flush=True)
    if args.sheets:
        write_sheet(args.sheets / f"negative-{pipeline.manifest.name}.png", rows, ["without", "with"])
    table, rows = guidance(pipeline, judge, draw, args.size, args.prompts)
    print(f"\n{table}")
    if args.sheets:
        left = [f"guidance {value:g}" for value in VALUES]
        write_sheet(args.sheets / f"guidance-{pipeline.manifest.name}.png", rows, left)
    return 0


if __name__ == "__main__":
    sys.exit(main())
