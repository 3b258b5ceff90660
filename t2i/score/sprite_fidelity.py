"""Fidelity of scored pictures: how close the things of the built-in world come to their sprites (`t2i.world.fidelity`).

It needs the sprite library, and pictures of which the suite says that they show one thing, in its own colours, in front
of a plain background. All others are left out.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import torch

from t2i.media.images import load_image, to_tensor
from t2i.score.extractors import center_square
from t2i.score.suite import SuitePrompt
from t2i.world.fidelity import COARSE, best_render, fidelity
from t2i.world.sprites import load_atlas
from t2i.world.vocabulary import is_shape, things

if TYPE_CHECKING:
    from t2i.score.metrics import PictureScore

STYLE = "fluent3d"  # the sprite set that the shipped models are trained on
SIZE = 256  # pixels a side at which pictures are compared; smaller ones are compared as they are


def lone_things(suite: Sequence[SuitePrompt]) -> dict[str, str]:
    """Prompt -> key of its thing, for the prompts whose pictures have a fidelity."""
    table, out = things(), {}
    for prompt in suite:
        asked = prompt.expectation
        if asked.place != "plain" or len(asked.objects) != 1:
            continue
        wanted = asked.objects[0]
        if wanted.colour is None and wanted.count in (None, 1) and not is_shape(table[wanted.thing]):
            out[prompt.text] = wanted.thing
    return out


def add_fidelity(rows: Sequence[PictureScore], asked: Mapping[str, str], sprites: Path) -> int:
    """Give each row whose prompt is in `asked` (see `lone_things`) its value "fidelity".

    Returns how many rows that were. Raises InputError for a library without a sprite that is needed.
    """
    chosen = [(row, asked[text]) for row in rows if (text := row.picture.prompt or "") in asked]
    if not chosen:
        return 0
    atlas = load_atlas(things(), sorted({key for _, key in chosen}), (STYLE,), sprites, SIZE)
    for row, key in chosen:
        image = load_image(row.picture.path)
        side = max(COARSE, min(SIZE, *image.size))
        with torch.inference_mode():
            picture = to_tensor(center_square(image, side))
            row.values["fidelity"] = fidelity(picture, best_render(picture, atlas, key, STYLE)).ssim
    return len(chosen)
