"""Cuts the thing out of the user's pictures, so that it can be pasted into other places (copy-paste augmentation:
Ghiasi 2020, arXiv 2012.07177).

The thing is the largest part in the middle of a picture that is like nothing near its border and has colours that the
other pictures have too. Where there is no such part, the picture gives no cutout.
Shapes: N pictures of S pixels a side; things are found at SIDE.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.media.contrast import ACROSS, blur, otsu, strangeness

SIDE = 128
BORDER = 0.1  # width of what is taken for background on each side of a picture, as a share of its side
SHARE = 0.7  # of Otsu's threshold: parts that are nearly as light as the background belong to the thing
LEAST, MOST = 0.01, 0.5  # share of the picture that a thing covers
LIKE = 0.45  # largest distance of a thing's pixel to the nearest of another picture's thing, colours in [-1, 1]
ROUNDS = 2  # in which parts are compared; those of the second are cleaner
COLOURS = 256  # pixels of each thing that are compared with
ODD = 2.5
SAME = 0.02  # mean squared difference up to which cutouts are alike, whatever the others
GRID = 24  # side at which cutouts are compared to turn them


def cut_out(pictures: Tensor) -> dict[int, Tensor]:
    """The things of pictures (N, 3, S, S) in [-1, 1], by the pictures where one is found: (4, S, S), colours and
    opacity in [0, 1], at its place in the picture."""
    small = F.interpolate(pictures, (SIDE, SIDE), mode="area")
    parts = {i: part for i, picture in enumerate(small) if (part := _part(picture)) is not None}
    for _ in range(ROUNDS if len(parts) > 1 else 0):
        colours = {i: _colours(small[i], part) for i, part in parts.items()}
        shared = {i: _in_common(small[i], part, [colours[j] for j in parts if j != i]) for i, part in parts.items()}
        parts = {i: part for i, part in shared.items() if part is not None}
        if len(parts) < 2:
            break
    found = {}
    for i, part in parts.items():
        soft = F.interpolate(blur(part.float())[None, None], pictures.shape[-2:], mode="bicubic")[0]
        found[i] = torch.cat([pictures[i], (2 * soft - 0.5).clamp(0, 1)])
    return found


def _part(picture: Tensor) -> Tensor | None:
    """The largest part (SIDE, SIDE), bool, in the middle of a picture (3, SIDE, SIDE) that is unlike its border."""
    edge = round(BORDER * SIDE)
    middle = torch.zeros(SIDE, SIDE, dtype=torch.bool)
    middle[edge:-edge, edge:-edge] = True
    contrast = blur(strangeness(picture, middle))
    least = ACROSS * (0.5 - BORDER)  # that of the middle of one even colour, by its place alone
    return _largest((contrast > max(least, SHARE * otsu(contrast[middle]))) & middle)


def _largest(mask: Tensor) -> Tensor | None:
    """The largest connected part of a mask (SIDE, SIDE), bool; None where it is too small or too large for a thing, or
    goes on beyond the middle of the picture."""
    from scipy.ndimage import label  # slow to import

    if not bool(mask.any()):
        return None
    labels = torch.from_numpy(label(mask.numpy())[0]).long()
    sizes = labels.flatten().bincount()
    sizes[0] = 0
    part = labels == sizes.argmax()
    edge = round(BORDER * SIDE) + 1
    whole = int(part.sum())
    inside = int(part[edge:-edge, edge:-edge].sum())
    return part if LEAST * part.numel() <= whole <= MOST * part.numel() and inside == whole else None


def _colours(picture: Tensor, part: Tensor) -> Tensor:
    """About COLOURS of the part's colours, (n, 3)."""
    pixels = picture[:, part].T
    return pixels[:: max(1, len(pixels) // COLOURS)]


def _in_common(picture: Tensor, part: Tensor, others: Sequence[Tensor]) -> Tensor | None:
    """What of a part has colours that at least half of the others have, colours (n, 3) each."""
    pixels = picture[:, part].T
    far = torch.stack([torch.cdist(pixels, other).amin(1) for other in others]).median(0).values
    common = part.clone()
    common[part] = far < LIKE
    return _largest(common)


def facing(cutouts: Sequence[Tensor]) -> list[tuple[bool, bool]]:
    """For each of the cutouts (4, S, S), whether it has to be mirrored so that all face one way, and whether it is
    like the others at all: at most ODD times as far from them as half of them are, or SAME.

    The way of each is that in which it is most like one of them, the one which they are like most."""
    if not cutouts:
        return []
    boxes = torch.stack([_in_box(cutout) for cutout in cutouts])
    both = torch.stack([boxes, boxes.flip(-1)])
    apart = (both[:, :, None] - boxes).square().mean((3, 4, 5))  # (2, N, N): of i, or i mirrored, and j
    near, ways = apart.min(0)
    others = ~torch.eye(len(boxes), dtype=torch.bool)
    far = [float(near[others[:, j], j].median()) if len(boxes) > 1 else 0.0 for j in range(len(boxes))]
    model = far.index(min(far))
    alike = near[:, model] <= max(SAME, ODD * far[model])
    return list(zip(ways[:, model].bool().tolist(), alike.tolist(), strict=True))


def _in_box(cutout: Tensor) -> Tensor:
    """What is in the box of a cutout, (4, GRID, GRID): colours times opacity, and opacity."""
    rows, columns = (torch.nonzero(cutout[3].amax(axis) > 0.5)[:, 0] for axis in (1, 0))
    box = cutout[:, rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    box = torch.cat([box[:3] * box[3:], box[3:]])
    return F.interpolate(box[None], (GRID, GRID), mode="area")[0]
