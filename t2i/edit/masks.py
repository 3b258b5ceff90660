"""Masks: (1, H, W) in [0, 1], 1 = repaint. Made from boxes and larger canvases, grown, feathered, cut into windows."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.errors import UsageError
from t2i.stages.upsampler import Box

CONTEXT = 1.6
"""How much more than the mask the model sees, side by side: a thing fills about that part of the pictures it knows."""


def box(height: int, width: int, x: int, y: int, w: int, h: int) -> Tensor:
    """The mask of a rectangle, in pixels. Raises UsageError where none of it lies in the picture."""
    mask = torch.zeros(1, height, width)
    mask[:, max(y, 0) : max(y + h, 0), max(x, 0) : max(x + w, 0)] = 1
    if not bool(mask.any()):
        raise UsageError(f"the box {x},{y},{w},{h} lies outside of the picture, which is {width}x{height}.")
    return mask


def extend(image: Tensor, left: int = 0, top: int = 0, right: int = 0, bottom: int = 0) -> tuple[Tensor, Tensor]:
    """A larger canvas with `image` (3, H, W) in it, and the mask of what was added, which repeats the edge."""
    canvas = F.pad(image[None], (left, right, top, bottom), mode="replicate")[0]
    mask = F.pad(torch.zeros(1, *image.shape[1:]), (left, right, top, bottom), value=1.0)
    return canvas, mask


def grow(mask: Tensor, pixels: int) -> Tensor:
    """The mask widened by so many pixels on every side; narrowed, for a negative number."""
    if pixels == 0:
        return mask
    side, sign = 2 * abs(pixels) + 1, 1.0 if pixels > 0 else -1.0
    wide = F.max_pool2d(sign * mask[None], (side, 1), 1, (abs(pixels), 0))
    return sign * F.max_pool2d(wide, (1, side), 1, (0, abs(pixels)))[0]


def feathered(mask: Tensor, feather: int) -> Tensor:
    """1 on the mask, falling to 0 within `feather` pixels outside of it, and exactly 0 farther away."""
    if feather < 2:
        return grow(mask, feather)
    radius = feather // 2
    soft = grow(mask, radius)[None]
    for kernel in ((2 * radius + 1, 1), (1, 2 * radius + 1)):
        padded = F.pad(soft, (kernel[1] // 2, kernel[1] // 2, kernel[0] // 2, kernel[0] // 2), mode="replicate")
        soft = F.avg_pool2d(padded, kernel, 1)
    # the sums of a pooling are not exact: where nothing was added, nothing may be left
    far = grow(mask, 2 * radius)
    return torch.where(mask > 0.5, 1.0, soft[0].clamp(0, 1) * (far > 0))


def bounds(mask: Tensor) -> Box:
    """The smallest part of the picture that holds the whole mask, which must not be empty."""
    rows, columns = mask[0].amax(1).nonzero().flatten(), mask[0].amax(0).nonzero().flatten()
    return Box(int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1)


def windows(mask: Tensor, least: int) -> list[Box]:
    """Squares that hold the whole mask and more around it, in the order in which to paint them.

    One, if it fits; else a row or a grid of them that overlap by half, those first of which most is known. `least`: the
    model's own size, below which a square is not cut where the picture is larger.
    """
    height, width = mask.shape[1:]
    short, b = min(height, width), bounds(mask)
    longest = max(b.bottom - b.top, b.right - b.left)
    side = min(short, max(least, round(CONTEXT * longest)))
    tops = _starts(b.top, b.bottom, side, height)
    lefts = _starts(b.left, b.right, side, width)
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
    """Where squares of `side` begin that together cover [first, last) of [0, length)."""
    if last - first <= side:
        return [min(max((first + last - side) // 2, 0), length - side)]
    # half a square of what lies around it, where there is as much: nothing is painted out of the blue
    first, last = max(first - side // 2, 0), min(last + side // 2, length)
    reach = last - first - side
    count = -(-reach // (side // 2)) + 1
    return [first + round(i * reach / (count - 1)) for i in range(count)]
