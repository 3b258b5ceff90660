"""The README of a stored judge: what it is, its accuracy, and the command that trained it."""

from __future__ import annotations

from collections.abc import Mapping

from t2i.world.judge import SIZE, Judge

COLUMNS = (
    "single", "object", "count", "count_many", "colour", "background", "position", "binding", "exact",
    "swapped",
)  # fmt: skip

_CARD = """# The judge of the built-in world

A CenterNet-like detector of {params:,} parameters (fp16) that reads pictures at {side} px: {things} kinds of
object, {colours} colours, {places} backgrounds, {shades} shades of the plain one. It was trained on pictures
of the built-in world only and shares no weights with any generator.

    from t2i.world.judge import Judge
    from t2i.world.reading import check
    readings = Judge.load("weights/judge").read(pixels)  # (B, 3, H, W) in [-1, 1]
    check(readings[0], expectation)                      # {{"object": True, "count": False, ...}}

## Measured

Accuracy of the stored file in percent (number of renders in brackets). A perfect generator would score this
much, so it is the ceiling of every score by this judge.

- *single*: the object, in scenes with one object
- *count_many*: the exact count, in scenes with several objects
- *exact*: the kinds and counts of all objects of the picture
- *swapped*: an object is found that is not there (less is better)
- *damaged*: renders with blur, noise, JPEG-like blocks and colour jitter
- *held-out*: scenes with a combination that no generator is trained on. The judge is trained on all
  combinations, so that it favours none.

{table}

A person does not name a thing that is blurred beyond recognition, and neither should a judge. It was trained with
smeared things, and with what a generator made of renders; where too little was left, the answer was "nothing". Share of
lone objects that are still found after a Gaussian blur, in percent, by its standard deviation in pixels of 256:

| blur | {radii} |
|{rules}
| found | {found} |

Median error of a lone object's centre: {centre:.1f} % of the canvas side. Threshold {threshold}.

## Made by

    {command}

{how} It was trained on renders of the Fluent Emoji 3D sprites (MIT, (c) Microsoft), unless the command names
others.
"""


def card(
    judge: Judge, report: Mapping[str, Mapping[str, float]], blurred: Mapping[str, float], command: str, how: str
) -> str:
    """The README as Markdown. report: name of a set of renders -> the result of `judge_train.measure`. blurred: the
    result of `judge_train.missed`."""
    rows = [f"| renders | {' | '.join(COLUMNS)} |", "|---" * (len(COLUMNS) + 1) + "|"]
    for name, numbers in report.items():
        cells = " | ".join(f"{100 * numbers[key]:.1f}" if key in numbers else "" for key in COLUMNS)
        rows.append(f"| {name} ({numbers['n']:.0f}) | {cells} |")
    config = judge.config
    return _CARD.format(
        params=sum(p.numel() for p in judge.net.parameters()),
        side=SIZE,
        things=len(config.things),
        colours=len(config.colours),
        places=len(config.places),
        shades=len(config.shades),
        table="\n".join(rows),
        centre=100 * next(iter(report.values()))["centre"],
        threshold=config.threshold,
        radii=" | ".join(blurred),
        rules="---|" * (len(blurred) + 1),
        found=" | ".join(f"{100 * share:.1f}" for share in blurred.values()),
        command=command,
        how=how,
    )
