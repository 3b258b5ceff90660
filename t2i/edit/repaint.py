"""Paint the squares around a mask one after the other and paste them back, whatever paints them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from t2i.edit.masks import windows
from t2i.edit.smooth_fill import match_surroundings

FEATHER = 40  # side of a square over the width of the rim

Paint = Callable[[Tensor, Tensor, int, int], Tensor]
"""(squares (B, 3, S, S), mask (1, S, S) of 0 and 1, number of the square, of how many) -> the squares, painted."""


def repaint(
    image: Tensor, mask: Tensor, seeds: Sequence[int], least: int, paint: Paint, feather: int | None = None
) -> Tensor:
    """`image` (3, H, W) repainted where `mask` (1, H, W) is above 0.5: (B, 3, H, W), one picture per seed.

    least: side of the squares that the model was made for. feather: width in pixels of the rim, inside the mask, in
    which what is painted passes into its surroundings (None: 1/40 of the square; 0: it is pasted as it is). Outside the
    mask the result equals `image`. The mask must be neither empty nor full.
    """
    assert image.shape[1:] == mask.shape[1:], (tuple(image.shape), tuple(mask.shape))
    hard = (mask > 0.5).float()
    assert 0 < float(hard.mean()) < 1, "the mask is empty or full"
    done = image.float().expand(len(seeds), -1, -1, -1).clone()
    left = hard.clone()
    squares = list(windows(hard, least))
    for number, window in enumerate(squares):
        here, part = left[window.slices], done[window.slices]
        made = paint(part, here, number, len(squares))
        width = feather if feather is not None else max(1, here.shape[-1] // FEATHER)
        made = match_surroundings(part, made, here, width)
        done[window.slices] = torch.where(here > 0, made, part)
        left[window.slices] = 0
    return done.clamp(-1, 1)
