"""Random masks for training a base to inpaint, of the kinds that `t2i inpaint` is given (GLIDE, section 3.3).

Shapes: B pictures, K things in a picture, S pixels a side. A mask is (1, S, S) of 0 and 1; 1 = repaint.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

KINDS = ("box", "boxes", "ellipse", "blob", "strip", "outline", "bounds")
SHARES = (0.14, 0.10, 0.08, 0.12, 0.16, 0.22, 0.18)
"""How often each kind is drawn. Removing or replacing a thing (`outline`, `bounds`) and outpainting (`strip`) are the
most common."""

OWN = 0.6
"""How often an outline is that of a thing in the picture itself. The others come from another picture of the batch: a
model that has only seen holes where things are would put a thing into every hole."""

WIDEN = 0.08
"""The most by which an outline is widened, as a share of the side: masks drawn by hand or found by text are loose."""


def random_masks(n: int, size: int, share: float, g: torch.Generator, things: Tensor | None = None) -> Tensor:
    """Masks (n, 1, S, S): all ones (paint everything), but for a random `share` of the rows, which repaint a part.

    things (n, K, S, S) in [0, 1]: the pixels that each thing covers, zeros beyond a picture's last thing. Without
    things, blobs stand in for outlines and boxes for their bounds.
    """
    masks = torch.ones(n, 1, size, size)
    chosen = (torch.rand(n, generator=g) < share).nonzero().flatten().tolist()
    if not chosen:
        return masks
    there: list[list[int]] = [[] for _ in range(n)]
    if things is not None and things.shape[1]:
        # too small a thing leaves no hole to learn from
        for row, k in (things.amax((2, 3)) > 0.5).nonzero().tolist():
            there[row].append(k)
    peopled = [row for row in range(n) if there[row]]
    kinds = torch.multinomial(torch.tensor(SHARES), len(chosen), replacement=True, generator=g).tolist()
    for row, kind in zip(chosen, (KINDS[k] for k in kinds), strict=True):
        if kind in ("outline", "bounds") and peopled:
            assert things is not None
            mask = _thing(row, kind, things, there, peopled, g)
        else:
            mask = _SHAPES[{"outline": "blob", "bounds": "box"}.get(kind, kind)](size, g)
        masks[row] = mask
    return masks


def thing_weights(things: Tensor | None, weight: float) -> Tensor | None:
    """Weights (B, 1, S, S) of pixels in a loss: `weight` for those of things, 1 for others; None where all are equal.

    things (B, K, S, S) in [0, 1]: as of `random_masks`.
    """
    if weight == 1 or things is None or not things.shape[1]:
        return None
    return 1 + (weight - 1) * things.amax(1, keepdim=True)


def _thing(
    row: int, kind: str, things: Tensor, there: list[list[int]], peopled: list[int], g: torch.Generator
) -> Tensor:
    """A mask of one thing's outline or bounds, or of all things', widened at random. there: row -> its things.
    peopled: the rows that have things."""
    u = torch.rand(4, generator=g).tolist()
    others = [other for other in peopled if other != row] or peopled
    source = row if there[row] and (u[0] < OWN or others == [row]) else others[int(u[1] * len(others))]
    ks = there[source]
    if u[2] < 0.75:  # one thing of it, else all of them
        ks = [ks[int(u[2] / 0.75 * len(ks))]]
    owned = things[source, ks].float().cpu().amax(0) > 0.5
    size = owned.shape[-1]
    widen = round(u[3] * WIDEN * size)
    if kind == "bounds":
        rows, columns = owned.any(1).nonzero().flatten(), owned.any(0).nonzero().flatten()
        top, bottom = max(int(rows[0]) - widen, 0), int(rows[-1]) + 1 + widen
        left, right = max(int(columns[0]) - widen, 0), int(columns[-1]) + 1 + widen
        mask = torch.zeros(1, size, size)
        mask[:, top:bottom, left:right] = 1
        return mask
    side = 2 * (widen + 1) + 1
    wide = F.max_pool2d(owned.float()[None, None], side, 1, side // 2)
    # The edge is moved in and out by smooth noise over a softened outline, never off the thing itself.
    soft = F.avg_pool2d(wide, 5, 1, 2, count_include_pad=False)[0]
    rough = soft + 2 * soft * (1 - soft) * _smooth_noise(size, 8, g)
    return torch.maximum((rough > 0.5).float(), owned.float()[None])


def _smooth_noise(size: int, cells: int, g: torch.Generator) -> Tensor:
    """(1, S, S) in about [-1, 1], with `cells` bumps along each side."""
    coarse = torch.rand(1, 1, cells, cells, generator=g) * 2 - 1
    return F.interpolate(coarse, size=(size, size), mode="bicubic", align_corners=False)[0]


def _axis(size: int) -> Tensor:
    return (torch.arange(size) + 0.5) / size


def _box(size: int, g: torch.Generator, least: float = 0.12, most: float = 0.45) -> Tensor:
    u = torch.rand(4, generator=g)
    axis = _axis(size)
    dx = (axis - 0.1 - 0.8 * u[0]).abs() / (least + (most - least) * u[2])
    dy = (axis - 0.1 - 0.8 * u[1]).abs() / (least + (most - least) * u[3])
    return (torch.maximum(dx[None, :], dy[:, None]) <= 1).float()[None]


def _boxes(size: int, g: torch.Generator) -> Tensor:
    """Two to four smaller boxes."""
    count = int(torch.randint(2, 5, (1,), generator=g))
    return torch.stack([_box(size, g, 0.06, 0.2) for _ in range(count)]).amax(0)


def _ellipse(size: int, g: torch.Generator) -> Tensor:
    u = torch.rand(4, generator=g)
    axis = _axis(size)
    dx, dy = (axis - 0.15 - 0.7 * u[0]) / (0.12 + 0.33 * u[2]), (axis - 0.15 - 0.7 * u[1]) / (0.12 + 0.33 * u[3])
    return (dx[None, :].square() + dy[:, None].square() <= 1).float()[None]


def _blob(size: int, g: torch.Generator) -> Tensor:
    """An ellipse with a wavy outline, like a brush stroke."""
    u = torch.rand(4, generator=g)
    axis = _axis(size)
    dx, dy = (axis - 0.2 - 0.6 * u[0]) / (0.16 + 0.24 * u[2]), (axis - 0.2 - 0.6 * u[1]) / (0.16 + 0.24 * u[3])
    far2 = dx[None, :].square() + dy[:, None].square()
    mask = (far2[None] + 0.8 * _smooth_noise(size, 6, g) <= 1).float()
    return mask if bool(mask.any()) else _ellipse(size, g)


def _strip(size: int, g: torch.Generator) -> Tensor:
    """A strip along one side, along two that face each other, or along all four."""
    u = torch.rand(5, generator=g)
    mask = torch.zeros(1, size, size)
    depths = [max(1, round(float(size * (0.12 + 0.5 * x)))) for x in u[1:]]
    if u[0] < 0.6:
        sides = [int(u[0] / 0.6 * 4)]
    elif u[0] < 0.85:
        sides, depths = ([0, 1] if u[0] < 0.725 else [2, 3]), [max(1, d // 2) for d in depths]
    else:
        sides, depths = [0, 1, 2, 3], [max(1, d // 2) for d in depths]
    for side in sides:
        depth = depths[side]
        strips = (mask[:, :, :depth], mask[:, :, size - depth :], mask[:, :depth], mask[:, size - depth :])
        strips[side].fill_(1)
    return mask


_SHAPES = {"box": _box, "boxes": _boxes, "ellipse": _ellipse, "blob": _blob, "strip": _strip}
