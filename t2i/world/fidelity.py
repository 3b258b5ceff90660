"""Fidelity: how close a drawn thing comes to the best-fitting render of it.

A model of the built-in world should draw its things as the world renders them. The place, size and tilt of a thing are
free, so they are searched first: `best_render` composites the thing's sprite on the picture's own background so that
the squared error is least. `fidelity` then compares the picture with that render in the thing's box:

- SSIM of luma (Wang et al. 2004, eq. 13) with a flat window of 7 x 7 pixels,
- edge energy, the mean absolute difference of neighbouring pixels of luma, as a ratio to the render's. Below 1 the
  picture is blurred; above 1 it has detail that the render does not have, such as noise or a lattice.

A render compared with itself gives 1 and 1. The picture must show one thing in front of a plain background.

Shapes: S side of the picture, r side of the sprite, n poses. A pose is (x, y, scale, flip, angle), as in
`render.sprite_affine`.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.world.render import mip_level, sprite_affine
from t2i.world.sprites import LUMA, Atlas

COARSE = 64  # side at which the whole range of poses is searched
SCALES = tuple(0.28 * 1.1**k for k in range(14))  # .28 to .97 of the side
ANGLES = (-0.24, -0.12, 0.0, 0.12, 0.24)  # radians
REACH = 0.3  # largest distance of the thing's centre from the picture's, along x and y, as a share of the side
STARTS = 6  # coarse poses that are refined
BORDER = 1 / 10  # width of the border where the background is read first, as a share of the side
WINDOW = 7  # side of SSIM's window
RANGE = 2.0  # data range of luma in [-1, 1]
C1, C2 = (0.01 * RANGE) ** 2, (0.03 * RANGE) ** 2  # SSIM's constants


@dataclass(frozen=True)
class BestRender:
    """The render of a thing that fits a picture best.

    pixels: (3, S, S) in [-1, 1], the sprite on the picture's background. pose: (5,). box: rows and columns of the
    smallest rectangle that holds every pixel of the sprite. error: mean squared error over the whole picture.
    """

    pixels: Tensor
    pose: Tensor
    box: tuple[slice, slice]
    error: float


@dataclass(frozen=True)
class Fidelity:
    """ssim: at most 1. edges: edge energy as a ratio to the render's."""

    ssim: float
    edges: float


def fidelity(picture: Tensor, render: BestRender) -> Fidelity:
    """Compare a picture (3, S, S) in [-1, 1] with its best render, inside the thing's box."""
    drawn, wanted = luma(picture)[render.box], luma(render.pixels)[render.box]
    return Fidelity(box_ssim(drawn, wanted), edge_energy(drawn) / max(edge_energy(wanted), 1e-6))


def luma(pixels: Tensor) -> Tensor:
    """Rec. 601 luma (..., H, W) of pixels (..., 3, H, W), in the range of the pixels."""
    return (pixels * pixels.new_tensor(LUMA).view(3, 1, 1)).sum(-3)


def box_ssim(a: Tensor, b: Tensor) -> float:
    """SSIM of two lumas (H, W) in [-1, 1]: the mean over all windows of 7 x 7 pixels that lie inside."""
    return float(ssim_map(a.double(), b.double()).mean())


def ssim_map(x: Tensor, y: Tensor) -> Tensor:
    """SSIM (..., H - 6, W - 6) of lumas (..., H, W) in [-1, 1], one number for each window that lies inside."""
    moments = torch.stack([x, y, x * x, y * y, x * y])
    mu_x, mu_y, xx, yy, xy = F.avg_pool2d(moments.flatten(0, -3), WINDOW, stride=1).unflatten(0, moments.shape[:-2])
    var_x, var_y, cov = xx - mu_x**2, yy - mu_y**2, xy - mu_x * mu_y
    luminance = (2 * mu_x * mu_y + C1) / (mu_x**2 + mu_y**2 + C1)
    return luminance * (2 * cov + C2) / (var_x + var_y + C2)


def edge_energy(y: Tensor) -> float:
    """Mean absolute difference of neighbours in luma (H, W), over rows and over columns."""
    return float((y.diff(dim=0).abs().mean() + y.diff(dim=1).abs().mean()) / 2)


# ---- The search --------------------------------------------------------------------------------------


def best_render(picture: Tensor, atlas: Atlas, thing: str, style: str) -> BestRender:
    """The render of `thing` that fits a picture (3, S, S) in [-1, 1] with the least squared error.

    All poses of a grid (`SCALES`, `ANGLES`, both flips, every position) are tried at `COARSE` pixels a side; the best
    `STARTS` are refined there, and the best of them at full size.
    """
    size = picture.shape[-1]
    assert picture.shape == (3, size, size) and size >= COARSE, tuple(picture.shape)
    levels = {side: level[atlas.index[style, thing]].float() / 255 for side, level in atlas.levels.items()}
    target = (picture + 1) / 2
    small = F.interpolate(target[None], (COARSE, COARSE), mode="area")[0]
    sprite = levels[mip_level(atlas, 0.6, COARSE)]
    backdrop = quadratic_background(small, _border(COARSE))
    poses = [_refine(sprite, pose, small, backdrop) for pose in _coarse_poses(sprite, small, backdrop)]
    pose = min(poses, key=lambda pose: _error(sprite, pose, small, backdrop))

    sprite = levels[mip_level(atlas, float(pose[2]), size)]
    for _ in range(2):
        # Everything outside of the thing is background: a better fit than from the border alone.
        alpha = F.max_pool2d(_place(sprite, pose[None], size)[:, 3:], 5, stride=1, padding=2)[0, 0]
        backdrop = quadratic_background(target, alpha == 0)
        pose = _refine(sprite, pose, target, backdrop)
    drawn = _place(sprite, pose[None], size)[0]
    pixels = backdrop * (1 - drawn[3]) + drawn[:3]
    box = _box(drawn[3] > 1 / 255)
    return BestRender(pixels * 2 - 1, pose, box, float((pixels - target).square().mean()))


def quadratic_background(pixels: Tensor, clear: Tensor) -> Tensor:
    """A background (3, S, S): each channel a quadratic in x and y, fitted by least squares to the pixels (3, S, S).

    clear (S, S): where the background is seen. The worst fifth of these pixels is left out of a second fit. The world's
    plain place is such a quadratic.
    """
    size = pixels.shape[-1]
    axis = (torch.arange(size, dtype=torch.float64) + 0.5) / size - 0.5
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    terms = torch.stack([torch.ones_like(x), x, y, x * x, x * y, y * y]).flatten(1)  # (6, S²)
    values = pixels.double().flatten(1)
    weight = clear.flatten().double()
    for _ in range(2):
        normal = (terms * weight) @ terms.T + 1e-9 * torch.eye(6, dtype=torch.float64)
        fitted = torch.linalg.solve(normal, (terms * weight) @ values.T).T @ terms
        error = (fitted - values).square().sum(0)
        limit = error[clear.flatten()].quantile(0.8) if clear.any() else error.new_zeros(())
        weight = (clear.flatten() & (error <= limit)).double()
    return fitted.float().view_as(pixels)


def _border(size: int) -> Tensor:
    """(S, S) bool: the pixels within `BORDER` of an edge."""
    width = math.ceil(size * BORDER)
    border = torch.ones(size, size, dtype=torch.bool)
    border[width:-width, width:-width] = False
    return border


def _place(sprite: Tensor, poses: Tensor, size: int) -> Tensor:
    """The sprite (4, r, r) in each pose, premultiplied: (n, 4, S, S)."""
    grid = F.affine_grid(sprite_affine(poses), [len(poses), 4, size, size], align_corners=False)
    return F.grid_sample(sprite.expand(len(poses), -1, -1, -1), grid, align_corners=False)


def _coarse_poses(sprite: Tensor, target: Tensor, backdrop: Tensor) -> list[Tensor]:
    """The `STARTS` poses of the grid with the least squared error, each with its own scale, flip and angle.

    With the mean colour m of the background, a sprite (c, a) changes the picture by k = c - a m. The squared error of
    all positions follows from one correlation with the picture's difference d to its background:
    |d - k|² = |d|² - 2 <d, k> + |k|².
    """
    size = target.shape[-1]
    grid = itertools.product(SCALES, (1.0, -1.0), ANGLES)
    poses = torch.tensor([(0.5, 0.5, scale, flip, angle) for scale, flip, angle in grid])
    drawn = _place(sprite, poses, size)
    change = drawn[:, :3] - drawn[:, 3:] * backdrop.mean((1, 2)).view(3, 1, 1)
    padded = (2 * size, 2 * size)  # no wrap-around
    spectrum = torch.fft.rfft2(target - backdrop, s=padded) * torch.fft.rfft2(change, s=padded).conj()
    overlap = torch.fft.irfft2(spectrum.sum(1), s=padded)  # (n, 2S, 2S), by shift in pixels
    reach = int(REACH * size)
    overlap = overlap.roll((reach, reach), (1, 2))[:, : 2 * reach + 1, : 2 * reach + 1]
    best, shift = (2 * overlap).flatten(1).max(1)
    gain = best - change.square().sum((1, 2, 3))
    chosen = gain.topk(STARTS).indices
    found = poses[chosen]
    found[:, 0] += (shift[chosen] % (2 * reach + 1) - reach) / size
    found[:, 1] += (shift[chosen] // (2 * reach + 1) - reach) / size
    return list(found)


def _error(sprite: Tensor, pose: Tensor, target: Tensor, backdrop: Tensor) -> float:
    return float(_residuals(sprite, pose[None], target, backdrop).square().sum())


def _residuals(sprite: Tensor, poses: Tensor, target: Tensor, backdrop: Tensor) -> Tensor:
    """Render minus target for each pose: (n, 3 S²)."""
    drawn = _place(sprite, poses, target.shape[-1])
    return (backdrop * (1 - drawn[:, 3:]) + drawn[:, :3] - target).flatten(1)


def _refine(sprite: Tensor, pose: Tensor, target: Tensor, backdrop: Tensor, steps: int = 12) -> Tensor:
    """The pose (5,) at a local minimum of the squared error, by the Levenberg-Marquardt method. The flip is kept.

    The derivatives are central differences over half a pixel.
    """
    free = torch.tensor([0, 1, 2, 4])  # all but the flip
    half = 0.5 / target.shape[-1]
    nudges = torch.zeros(4, 5)
    nudges[torch.arange(4), free] = torch.tensor([half, half, 2 * half, 2 * half / float(pose[2])])
    damping, least = 1e-3, _error(sprite, pose, target, backdrop)
    for _ in range(steps):
        around = _residuals(sprite, torch.cat([pose[None], pose + nudges, pose - nudges]), target, backdrop)
        jacobian = (around[1:5] - around[5:]) / 2  # per nudge
        normal = jacobian @ jacobian.T
        slope = jacobian @ around[0]
        while damping < 1e3:
            step = torch.linalg.solve(normal + damping * normal.diagonal().clamp_min(1e-9).diag(), -slope)
            trial = pose + step @ nudges
            trial[2] = trial[2].clamp(SCALES[0] / 1.1, SCALES[-1] * 1.1)
            error = _error(sprite, trial, target, backdrop)
            if error < least:
                break
            damping *= 10
        else:
            return pose
        moved = float(step.abs().max())
        pose, least, damping = trial, error, max(damping / 10, 1e-6)
        if moved < 0.01:
            break
    return pose


def _box(mask: Tensor) -> tuple[slice, slice]:
    """Rows and columns of the smallest rectangle, at least `WINDOW` a side, that holds all of the mask (S, S)."""
    spans = []
    for axis in (1, 0):
        inside = mask.any(axis).nonzero()[:, 0].tolist() or [0]
        first = min(inside[0], len(mask) - WINDOW)
        spans.append(slice(first, max(inside[-1] + 1, first + WINDOW)))
    return spans[0], spans[1]
