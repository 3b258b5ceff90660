"""Embeddings and noise as points that can be moved: spherical interpolation, and DDIM inversion.

Shapes: B rows, E embedding width; pictures (B, 3, S, S) at the base's size.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from t2i.diffusion.denoiser import Denoiser
from t2i.media.images import resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SamplingConfig
from t2i.stages.base import bound_net, typed_cond

INVERSION_STEPS = 24
NEAREST_SIGMA = 0.02
"""Where an inversion begins: at sigma 0 the ordinary differential equation has no slope yet."""


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """The point at share t of the way from a to b on the great circle (Shoemake 1985); a at 0, b at 1, exactly.

    a and b of any equal shape, each row flattened is one vector. Directions turn at an even pace; lengths that differ
    are interpolated too (geometrically), so that noise keeps the norm of noise and a unit vector stays one. Opposite
    vectors have no one path: a small step aside chooses it.
    """
    assert a.shape == b.shape and a.ndim >= 2, (tuple(a.shape), tuple(b.shape))
    if t == 0:
        return a.clone()
    if t == 1:
        return b.clone()
    u, v = a.flatten(1).double(), b.flatten(1).double()
    norm_a, norm_b = u.norm(dim=1, keepdim=True), v.norm(dim=1, keepdim=True)
    u, v = u / norm_a, v / norm_b
    cos = (u * v).sum(1, keepdim=True)
    across = v - cos * u  # the part of v that is at right angles to u
    length = across.norm(dim=1, keepdim=True)
    aside = torch.roll(u, 1, dims=1) - (torch.roll(u, 1, dims=1) * u).sum(1, keepdim=True) * u
    opposite = (length < 1e-9) & (cos < 0)
    across = torch.where(opposite, aside / aside.norm(dim=1, keepdim=True), across / length.clamp_min(1e-30))
    angle = torch.atan2(length, cos)
    turned = torch.cos(t * angle) * u + torch.sin(t * angle) * across
    return (turned * norm_a ** (1 - t) * norm_b**t).reshape(a.shape).to(a.dtype)


def invert(denoiser: Denoiser, x0: Tensor, levels: list[float]) -> Tensor:
    """x0 (B, ...) taken up the levels (a sampler's, decreasing, the last one 0): x at levels[0], float32.

    DDIM run backwards (Song 2020, arXiv 2010.02502, section 4.3), each step of second order (Heun), because the error
    of Euler's is what makes an inverted picture come back blurred.
    """
    up = [NEAREST_SIGMA, *[s for s in reversed(levels) if s > NEAREST_SIGMA * 1.01]]
    x = x0.float()
    for a, b in pairwise(up):
        slope = (x - _at(denoiser, x, a)) / a
        guess = x + (b - a) * slope
        x = x + (b - a) * 0.5 * (slope + (guess - _at(denoiser, guess, b)) / b)
    return x


def _at(denoiser: Denoiser, x: Tensor, sigma: float) -> Tensor:
    return denoiser(x, x.new_full((len(x),), sigma), None)


@torch.inference_mode()
def inverted_noise(
    pipeline: Pipeline, pictures: Tensor, conditioning: Conditioning, steps: int = INVERSION_STEPS
) -> Tensor:
    """The unit noise eps (B, 3, S, S) from which the base draws about these pictures (B, 3, H, H), given their
    conditioning.

    Without guidance, which cannot be undone. Rescaled to the norm of noise: what the network does not explain stays in
    it, and a sampler that starts from too little noise draws flat pictures.
    """
    entry, stage = pipeline.base
    size = pipeline.manifest.sizes[0]
    cond = typed_cond(stage, pipeline.conds(conditioning)[0])
    sampling = SamplingConfig(steps=steps, schedule=entry.defaults.schedule)
    inner = stage.denoiser(bound_net(stage), cond, sampling)
    levels = stage.sigmas(sampling)
    # from the network's highest level the rest is nearly noise alone
    x = invert(lambda x, sigma, _: inner(x, sigma, cond), resize(pictures, size, size).to(stage.device), levels)
    eps = x / float(stage.process.start(torch.ones(()), levels[0]))
    return eps / eps.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
