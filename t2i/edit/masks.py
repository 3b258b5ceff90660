"""Geometry of masks (1, H, W) in [0, 1], 1 = repaint: boxes, larger canvases, dilation, rims, windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.errors import UsageError
from t2i.stages.upsampler import Box

CONTEXT = 1.6
"""Side of a window as a multiple of the mask's: in the training pictures a thing fills about that share."""

MAX_WINDOWS = 400  # squares that are painted for one mask


def box(height: int, width: int, x: int, y: int, w: int, h: int) -> Tensor:
    """The mask of a rectangle, in pixels. Raises UsageError if it lies outside of the picture."""
    mask = torch.zeros(1, height, width)
    mask[:, max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = 1
    if not bool(mask.any()):
        raise UsageError(f"the box {x},{y},{w},{h} lies outside of the picture, which is {width}x{height}.")
    return mask


def extend(image: Tensor, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> tuple[Tensor, Tensor]:
    """A larger canvas with `image` (3, H, W) on it, and the mask of the added part, which repeats the edge pixels."""
    canvas = F.pad(image[None], (left, right, top, bottom), mode="replicate")[0]
    mask = F.pad(torch.zeros(1, *image.shape[1:]), (left, right, top, bottom), value=1.0)
    return canvas, mask


def grow(mask: Tensor, pixels: int) -> Tensor:
    """The mask dilated by `pixels` on every side; eroded for a negative number."""
    if pixels == 0:
        return mask
    side, sign = 2 * abs(pixels) + 1, 1.0 if pixels > 0 else -1.0
    wide = F.max_pool2d(sign * mask[None], (side, 1), 1, (abs(pixels), 0))
    return sign * F.max_pool2d(wide, (1, side), 1, (0, abs(pixels)))[0]


def rim(mask: Tensor, width: int) -> Tensor:
    """1 on the mask's pixels at its border, falling to 0 within `width` pixels inside; 0 everywhere for width 0.

    The edge of the picture is no border.
    """
    from scipy.ndimage import distance_transform_edt  # slow to import: only where it is asked for

    if not width:
        return torch.zeros_like(mask)
    depth = torch.from_numpy(distance_transform_edt(mask[0].numpy() > 0.5)).to(mask)[None]
    return (mask > 0.5) * (1 - (depth - 1) / width).clamp(0, 1)


def bounds(mask: Tensor) -> Box:
    """The bounding box of a mask that is not empty."""
    rows, columns = mask[0].amax(1).nonzero().flatten(), mask[0].amax(0).nonzero().flatten()
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def central_square(image: Tensor) -> Box:
    """The largest square in the middle of a picture (..., H, W)."""
    height, width = image.shape[-2:]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    return Box(top, left, top + side, left + side)


def windows(mask: Tensor, least: int) -> list[Box]:
    """Squares that cover the mask and some context, in the order in which to paint them.

    One square if the mask fits; else a grid that overlaps by half, the squares with the most known pixels first.
    least: least side of a square, the model's own size, where the picture is large enough. Raises UsageError for more
    than `MAX_WINDOWS`: along the edge of a picture that is very narrow.
    """
    height, width = mask.shape[1:]
    short, b = min(height, width), bounds(mask)
    longest = max(b.bottom - b.top, b.right - b.left)
    side = min(short, max(least, round(CONTEXT * longest)))
    tops = _starts(b.top, b.bottom, side, height)
    lefts = _starts(b.left, b.right, side, width)
    count = len(tops) * len(lefts)
    if count > MAX_WINDOWS:
        what = f"the mask is so long, and the picture so narrow, that it takes {count} squares to paint."
        raise UsageError(what, f"At most {MAX_WINDOWS} are painted: mask less, or crop the picture.")
    waiting = [Box(t, x, t + side, x + side) for t in tops for x in lefts]
    unknown = (mask > 0.5).float()
    order: list[Box] = []
    while waiting:
        shares = {window: float(unknown[window.slices].mean()) for window in waiting}
        waiting = [window for window in waiting if shares[window]]
        if waiting:
            order.append(min(waiting, key=shares.__getitem__))
            waiting.remove(order[-1])
            unknown[order[-1].slices] = 0
    return order


def _starts(first: int, last: int, side: int, length: int) -> list[int]:
    """Starts of the squares of `side` that together cover [first, last) within [0, length)."""
    if last - first <= side:
        return [min(max((first + last - side) // 2, 0), length - side)]
    # half a square of context where there is as much
    first, last = max(first - side // 2, 0), min(last + side // 2, length)
    reach = last - first - side
    count = -(-reach // max(side // 2, 1)) + 1
    return [first + round(i * reach / (count - 1)) for i in range(count)]
