"""Measures `t2i vary` on pictures that the model draws itself, by the shipped judge.

    python -m t2i.lab.vary_measures

Text diffs from one thing to another, and from one colour of a thing to another, at theta .5: whether the judge sees the
target, and no longer the source. Variations: whether they still show the thing, and how far four of them are from one
another, beside four pictures of the prompt. Prints a Markdown table: measure, mean, 95% interval, number of pictures.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Sequence
from itertools import combinations
from random import Random

import torch
from torch import Tensor

from t2i.edit.vary import text_diff, variations
from t2i.engine import PromptBatch
from t2i.lab.edit_measures import PLACES, note, tell, tell_head
from t2i.lab.program import positive, reports_errors
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.store.registry import resolve, resolve_judge
from t2i.world.captions.english import article
from t2i.world.judge import Judge
from t2i.world.reading import Detection
from t2i.world.vocabulary import things

THETA = 0.5
THINGS = (
    "cat", "dog", "fox", "panda", "lion", "elephant", "horse", "cow", "pig", "rabbit", "owl", "duck", "bear",
    "penguin", "car", "bus", "house", "tree", "boat", "robot",
)  # fmt: skip
COLOURED = ("car", "bus", "umbrella", "balloon", "chair", "book", "heart", "star")
COLOURS = ("red", "blue", "green", "yellow", "purple", "pink")
LOW = SampleRequest(size=64)


def diffs(pipeline: Pipeline, judge: Judge, n: int) -> None:
    """Text diffs from a thing to another one."""
    target, left, kept = [], [], []
    for i in range(n):
        rng = Random(f"things/{i}")
        a, b = rng.sample(THINGS, 2)
        source, made = _moved(pipeline, i, words(a), words(b), rng.choice(PLACES))
        before, after = judge.read(torch.stack([source, made]))
        target.append(float(any(found.thing == b for found in after.objects)))
        left.append(float(any(found.thing == a for found in after.objects)))
        kept.append(float(before.place == after.place))
        note(f"  {i} {a} to {b}: {[found.thing for found in after.objects]}")
    tell("thing to thing: the target is there", target)
    tell("thing to thing: the source is left", left)
    tell("thing to thing: the place is the same", kept)


def recolourings(pipeline: Pipeline, judge: Judge, n: int) -> None:
    """Text diffs from a colour of a thing to another colour."""
    target = []
    for i in range(n):
        rng = Random(f"colours/{i}")
        thing, (a, b) = rng.choice(COLOURED), rng.sample(COLOURS, 2)
        _, made = _moved(pipeline, i, words(thing, a), words(thing, b), rng.choice(PLACES))
        (after,) = judge.read(made[None])
        target.append(float(any((found.thing, shown(found)) == (thing, b) for found in after.objects)))
        note(f"  {i} {a} {thing} to {b}: {[(found.thing, found.colour) for found in after.objects]}")
    tell("colour to colour: the thing is there in the new colour", target)


def varied(pipeline: Pipeline, judge: Judge, n: int) -> None:
    """Four variations of a picture, beside four pictures of its prompt."""
    kept, among, of_prompt = [], [], []
    for i in range(n):
        rng = Random(f"variations/{i}")
        thing = rng.choice(THINGS)
        prompt, seeds = f"{words(thing)} in the {rng.choice(PLACES)}", [4 * i + k for k in range(4)]
        drawn = pipeline.sample([prompt] * 4, seeds, LOW).images
        made = variations(pipeline, drawn[0], PromptBatch([""] * 4, [seed + 1000 for seed in seeds], LOW)).images
        kept += [float(any(found.thing == thing for found in reading.objects)) for reading in judge.read(made)]
        among.append(apart(made))
        of_prompt.append(apart(drawn))
        note(f"  {i} {prompt}: {among[-1]:.1f}, {of_prompt[-1]:.1f}")
    tell("variations: the thing is still there", kept)
    tell("variations: distance of two, of 255", among)
    tell("pictures of the prompt: distance of two, of 255", of_prompt)


def words(thing: str, colour: str = "") -> str:
    """ "a red car"."""
    return article(f"{colour} {things()[thing].en}".strip())


def shown(found: Detection) -> str:
    """The colour word of a thing, also where it is its own."""
    return things()[found.thing].colour if found.colour == "own" else found.colour


def apart(pictures: Tensor) -> float:
    """Mean absolute difference of two of the pictures (B, 3, S, S), of 255."""
    pairs = [(a - b).abs().mean() for a, b in combinations(pictures, 2)]
    return float(torch.stack(pairs).mean()) * 127.5


def _moved(pipeline: Pipeline, seed: int, source: str, target: str, place: str) -> tuple[Tensor, Tensor]:
    """A picture of `source`, and the same moved towards `target`; both (3, 64, 64)."""
    before = pipeline.sample([f"{source} in the {place}"], [seed], LOW).images[0]
    return before, text_diff(pipeline, before, source, target, [THETA], PromptBatch([""], [seed], LOW)).images[0]


TASKS: dict[str, Callable[[Pipeline, Judge, int], None]] = {"things": diffs, "colours": recolourings, "like": varied}


def build_parser() -> argparse.ArgumentParser:
    """The options of this program."""
    parser = argparse.ArgumentParser(prog="python -m t2i.lab.vary_measures", description=__doc__)
    parser.add_argument("what", choices=[*TASKS, "all"], nargs="?", default="all")
    parser.add_argument("--model", default="small")
    parser.add_argument("-n", type=positive, default=40, help="pictures of each measure")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = build_parser().parse_args(argv)
    pipeline, judge = Pipeline.load(resolve(args.model)), Judge.load(resolve_judge())
    tell_head()
    for name in TASKS if args.what == "all" else [args.what]:
        TASKS[name](pipeline, judge, args.n)
    return 0


if __name__ == "__main__":
    sys.exit(main())
