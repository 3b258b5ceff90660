"""Paint the squares around a mask one after the other and paste them back, whatever paints them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from t2i.edit.masks import feathered, grow, windows

#: (squares (B, 3, S, S), mask (1, S, S) of 0 and 1, number of the square, of how many) -> the squares, painted
Paint = Callable[[Tensor, Tensor, int, int], Tensor]


def repaint(
    image: Tensor, mask: Tensor, seeds: Sequence[int], least: int, paint: Paint, feather: int | None = None
) -> Tensor:
    """`image` (3, H, W) repainted where `mask` (1, H, W) is above 0.5: (B, 3, H, W), one picture per seed.

    least: side of the squares that the model was made for. feather: width in pixels of the blend outside of the mask
    (None: 1/32 of the square). Farther away the result equals `image`. The mask must be neither empty nor full.
    """
    assert image.shape[1:] == mask.shape[1:], (tuple(image.shape), tuple(mask.shape))
    hard = (mask > 0.5).float()
    assert 0 < float(hard.mean()) < 1, "the mask is empty or full"
    done = image.float().expand(len(seeds), -1, -1, -1).clone()
    left = hard.clone()
    squares = list(windows(hard, least))
    for number, window in enumerate(squares):
        here = left[window.slices]
        width = feather if feather is not None else (window.bottom - window.top) // 32
        wide = grow(here, width)  # the feather is painted too, to have something to blend with
        wide = wide if float(wide.mean()) < 1 else here
        made = paint(done[window.slices], wide, number, len(squares))
        soft = feathered(here, width)
        # blend over what an earlier window painted, but over original pixels only near the mask
        soft = torch.minimum(soft, feathered(hard, width)[window.slices])
        done[window.slices] = torch.where(soft > 0, torch.lerp(done[window.slices], made, soft), done[window.slices])
        left[window.slices] = 0
    return done.clamp(-1, 1)
