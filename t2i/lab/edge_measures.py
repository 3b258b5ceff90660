"""Measures how much the border of what was painted shows, on held-out scenes of the built-in world.

    python -m t2i.lab.edge_measures inpaint --sprites sprites/ --sheet edges.png     removals, replacements, additions
    python -m t2i.lab.edge_measures outpaint --sprites sprites/ --sheet margins.png  half its width added on both sides

*Step* is the mean absolute step of luma from a pixel to the next one along the worst line within 6 pixels of the border
of the mask, over that along the lines 12 to 24 pixels away. Steps are meaned over 9 pixels along the border first,
because an eye sees a line and not the grain. The untouched picture shows what chance makes of it, and things that end
at the border.

Prints a Markdown table: measure, mean, 95% interval over pictures, number of pictures. Of outpaintings also how often
the judge sees the picture's thing again in a margin.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.edit.inpaint import inpaint
from t2i.edit.masks import bounds, box, extend, grow
from t2i.engine import PromptBatch
from t2i.lab.edit_measures import SEED, grey, note, single_objects, tell, tell_head
from t2i.lab.program import positive, reports_errors
from t2i.media.images import save_image, to_pil
from t2i.media.sheet import contact_sheet
from t2i.pipeline import Pipeline
from t2i.store.registry import resolve, resolve_judge
from t2i.world import World
from t2i.world.captions.phrases import EMPTY
from t2i.world.judge import Judge

SIZE = 256
RUN = 9  # pixels along the border over which steps are meaned
CLOSE, AWAY = range(-6, 7), (*range(-24, -11), *range(12, 25))  # lines, by their distance from the border in pixels
NEW = ("a house", "a dog", "a tree", "a penguin", "a car", "a mushroom", "a bear", "a boat")
COLUMNS = 8  # pictures in a row of the sheet


@dataclass(frozen=True)
class EditCase:
    """A picture (3, H, W), the mask (1, H, W) of what is painted, and the prompt, None for a removal."""

    kind: str
    thing: str
    picture: Tensor
    mask: Tensor
    prompt: str | None


def border_step(picture: Tensor, mask: Tensor) -> float:
    """The step across the border of the mask (1, H, W) over that elsewhere, of a picture (3, H, W) in [-1, 1]."""
    lines: dict[int, list[Tensor]] = {at: [] for at in (*CLOSE, *AWAY)}
    for image, inside in ((picture, mask[0]), (picture.transpose(1, 2), mask[0].T)):
        y = 255 * grey(image)
        along = F.pad(y, (0, 0, RUN // 2, RUN // 2), mode="replicate")
        steps = F.avg_pool2d(along[..., 1:] - along[..., :-1], (RUN, 1), 1)[0, 0].abs()
        rows, columns = ((inside[:, 1:] > 0.5) != (inside[:, :-1] > 0.5)).nonzero(as_tuple=True)
        outwards = 1 - 2 * inside[rows, columns + 1].long()  # 1 where the mask is on the left of the border
        for at, found in lines.items():
            there = columns + at * outwards
            kept = (there >= 0) & (there < steps.shape[1])
            found.append(steps[rows[kept], there[kept]])
    worst = max(float(torch.cat(lines[at]).mean()) for at in CLOSE)
    return worst / float(torch.cat([step for at in AWAY for step in lines[at]]).mean())


def inpaint_cases(world: World, n: int) -> list[EditCase]:
    """Removals, replacements and additions in turn, each of another scene."""
    cases = []
    for i in range(n):
        scene = world.scene(SEED, i)
        pixels, masks = world.draw([scene], SIZE, masks=True)
        assert masks is not None
        thing, new = scene.groups[0].thing, NEW[i // 3 % len(NEW)]
        hole = torch.zeros(1, SIZE, SIZE)
        hole[bounds((masks[0, :1] > 0.5).float()).slices] = 1
        hole = grow(hole, 4)
        if i % 3 == 2:
            hole = free_box(hole)
        prompt = None if i % 3 == 0 else f"{new} in the {scene.place}"
        cases.append(EditCase(("removal", "replacement", "addition")[i % 3], thing, pixels[0], hole, prompt))
    return cases


def free_box(taken: Tensor) -> Tensor:
    """A box of 104 pixels, of a few the one that covers least of what is taken, and is lowest."""
    boxes = [box(SIZE, SIZE, x, y, 104, 104) for y in (144, 112, 60, 8) for x in (8, 80, 144)]
    return min(boxes, key=lambda mask: float((mask * taken).sum()))


def outpaint_cases(world: World, n: int) -> list[EditCase]:
    """Pictures with half their width to be added on both sides, in turn with the place as prompt and without one."""
    cases = []
    for i in range(n):
        scene = world.scene(SEED, i)
        canvas, mask = extend(world.draw([scene], SIZE)[0][0], left=SIZE // 2, right=SIZE // 2)
        kind, prompt = ("no prompt", None) if i % 2 else ("the place as prompt", f"an empty {EMPTY[scene.place][0][0]}")
        cases.append(EditCase(kind, scene.groups[0].thing, canvas, mask, prompt))
    return cases


def copies(judge: Judge, case: EditCase, made: Tensor) -> int:
    """In how many margins of an outpainting the judge sees the picture's thing again."""
    parts = (made[:, :, :SIZE], made[:, :, -SIZE:])
    half = 0.5  # of each part, the outer one is new: on the left of the first, on the right of the second
    readings = judge.read(torch.stack(parts))
    return sum(
        any(found.thing == case.thing and (found.x < half) == first for found in reading.objects)
        for reading, first in zip(readings, (True, False), strict=True)
    )


def sheet(cases: Sequence[EditCase], made: Sequence[Tensor]) -> list[list[Tensor]]:
    """Rows of pictures: with the mask in grey, and below them painted."""
    shown = [torch.lerp(case.picture, torch.zeros(3, 1, 1), 0.7 * case.mask) for case in cases]
    starts = range(0, len(cases), COLUMNS)
    return [list(row[start : start + COLUMNS]) for start in starts for row in (shown, made)]


def build_parser() -> argparse.ArgumentParser:
    """The options of this program."""
    parser = argparse.ArgumentParser(
        prog="python -m t2i.lab.edge_measures", description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    parser.add_argument("what", choices=("inpaint", "outpaint"))
    parser.add_argument("--sprites", type=Path, required=True, help="the sprite library that the scenes are drawn from")
    parser.add_argument("--model", default="small")
    parser.add_argument("--sheet", type=Path, metavar="FILE", help="also write a contact sheet")
    parser.add_argument("-n", type=positive, help="pictures [default: inpaint 24, outpaint 10]")
    return parser


@reports_errors
def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print."""
    args = build_parser().parse_args(argv)
    pipeline, judge = Pipeline.load(resolve(args.model)), Judge.load(resolve_judge())
    world, inner = single_objects(args.sprites), args.what == "inpaint"
    cases = inpaint_cases(world, args.n or 24) if inner else outpaint_cases(world, args.n or 10)
    made = []
    for i, case in enumerate(cases):
        made.append(inpaint(pipeline, case.picture, case.mask, PromptBatch([case.prompt or ""], [i]))[0])
        before, after = (border_step(picture, case.mask) for picture in (case.picture, made[-1]))
        note(f"  {i} {case.kind} {case.thing}, {case.prompt}: {after:.2f}, untouched {before:.2f}")
    tell_head()
    for kind in dict.fromkeys(case.kind for case in cases):
        both = [(case, picture) for case, picture in zip(cases, made, strict=True) if case.kind == kind]
        tell(f"{kind}: step at the border", [border_step(picture, case.mask) for case, picture in both])
        if inner:
            tell(f"{kind}: the same, untouched", [border_step(case.picture, case.mask) for case, _ in both])
        else:
            tell(f"{kind}: margins with the thing again, of two", [copies(judge, *pair) / 2 for pair in both])
    if args.sheet:
        rows = [[to_pil(F.avg_pool2d(picture, 2)) for picture in row] for row in sheet(cases, made)]
        save_image(contact_sheet(rows), args.sheet)
    return 0


if __name__ == "__main__":
    sys.exit(main())
