"""What each metric is, which way is worse, and how far it may get worse."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from t2i.errors import UsageError, nearest
from t2i.world.reading import TASKS


@dataclass(frozen=True)
class Metric:
    """better: 1 if more is better, -1 if less is. fell: what a change for the worse means for the pictures. needs: a
    key of NEEDS, or "" for a metric that every picture has. margin: how far it may get worse, a share of the baseline's
    mean (10%) or an amount (0.5); "" for that of `--max-drop`. version: raised when its arithmetic changes. least,
    most: the bounds of its values.
    """

    what: str
    better: int
    fell: str
    needs: str = ""
    margin: str = ""
    version: int = 1
    least: float = 0.0
    most: float = math.inf


METRICS: dict[str, Metric] = {
    "scene": Metric(
        "share of pictures that do what the task of their prompt asks, by the judge",
        1,
        "fewer pictures show what was asked",
        "suite",
        most=1,
    ),
    "clip": Metric(
        "100 x cosine of picture and prompt in the extractor's space",
        1,
        "pictures fit their prompts less",
        "prompt",
        least=-100,
        most=100,
    ),
    "preference": Metric(
        "exp(logit_scale) x cosine of picture and prompt, by the model of --preference",
        1,
        "pictures would be preferred less",
        "preference",
        "0.2",
        least=-math.inf,
    ),
    **{
        name: Metric(
            f"share of pictures whose {name} is as asked, by the judge",
            1,
            f"fewer pictures have the {name} asked for",
            "suite",
            most=1,
        )
        for name in TASKS
    },
    "fidelity": Metric(
        "SSIM of a thing and the render that fits it best, in the thing's box",
        1,
        "things are less like those of the sprite library",
        "sprites",
        least=-1,
        most=1,
    ),
    "variety": Metric(
        "mean of 1 - cosine between the pictures of a prompt",
        1,
        "pictures of a prompt are more alike",
        "several",
        "20%",
        most=2,
    ),
    "duplicate": Metric(
        "share of pictures that repeat another", -1, "more pictures repeat another", "", "0.02", most=1
    ),
    "blank": Metric("share of pictures that show nothing", -1, "more pictures show nothing", "", "0.02", most=1),
    "clipped": Metric(
        "share of pixels that are pure white or black", -1, "more pixels are pure white or black", "", "0.02", most=1
    ),
    "contrast": Metric("standard deviation of luma, of 255", 1, "pictures have less contrast", "", "10%", most=127.5),
    "saturation": Metric(
        "mean of the largest minus the smallest channel, of 255", 1, "colours are paler", "", "10%", most=255
    ),
    "sharpness": Metric("standard deviation of the Laplacian of luma, of 255", 1, "pictures are blurrier", "", "10%"),
    "noise": Metric("standard deviation of noise in flat parts, of 255", -1, "pictures are noisier", "", "0.5"),
    "lattice": Metric("strength of a pattern of 8 pixels, of 255", -1, "pictures show a lattice or blocks", "", "0.5"),
    "sharper": Metric(
        "sharpness again, as a change that the same weights do not make", -1, "pictures are sharper", "pair", "10%"
    ),
    "changed": Metric(
        "share of pictures that are another one than for the same prompt and seed before",
        -1,
        "pictures are not those of before",
        "pair",
        "0.002",
        most=1,
    ),
}
PAIRED = ("sharper", "changed")  # measured between two scores, and gated only where the weights are the same
NEEDS = {
    "suite": "no picture's prompt is in a suite that says what to see",
    "prompt": "no prompt is known, or the extractor reads no text",
    "preference": "it needs the folder of a preference model, and prompts",
    "several": "no prompt has two pictures",
    "sprites": "it needs the sprite library, and pictures of one thing in its own colours on a plain background",
    "pair": "it is measured between two scores",
}
HINTS = {
    "suite": "Give the suite with --suite.",
    "prompt": "Give the prompts with --prompts FILE.jsonl, or choose --extractor clip.",
    "preference": "Name the model with --preference FOLDER, and the prompts with --prompts FILE.jsonl.",
    "several": "Draw more pictures of each prompt.",
    "sprites": "Build the library, see docs/training.md, and name its folder: --sprites DIR",
    "pair": "Compare with --baseline or --before.",
}
PIXEL_METRICS = ("blank", "clipped", "contrast", "saturation", "sharpness", "noise", "lattice")
RARE = ("duplicate", "blank", "changed")  # faults that hardly any picture of a healthy model has
COUNTED = frozenset({"scene", *TASKS, "duplicate", "blank", "changed"})  # 0 or 1 per picture
PRIMARY = ("scene", "clip", "sharpness", "duplicate")
"""The first of these that was measured leads the gate, unless the user names another."""


def check_metric_names(names: Sequence[str]) -> None:
    """Raise UsageError for an unknown metric."""
    for name in names:
        if name not in METRICS:
            near = nearest(name, list(METRICS), 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(METRICS)}."
            raise UsageError(f"there is no metric {name!r}.", hint)


def better(column: str) -> int:
    """`Metric.better` of a column: 1 or -1."""
    return METRICS[column.split(":")[0]].better


def bounds(column: str) -> tuple[float, float]:
    """The least and the largest value that a column can have."""
    metric = METRICS[column.split(":")[0]]
    return metric.least, metric.most


def is_share(column: str) -> bool:
    """Whether the values of a column are shares in [0, 1]."""
    return bounds(column) == (0, 1)


def is_counted(column: str) -> bool:
    """Whether a column is a share of pictures, each of which counts as 0 or 1."""
    return column.split(":")[0] in COUNTED
