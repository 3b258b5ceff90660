"""DDIM inversion, from pictures to the noise that draws them, and spherical interpolation of noise and embeddings.

Shape legend: B rows, S side of the base's pictures.
"""

from __future__ import annotations

from dataclasses import replace
from itertools import pairwise

import torch
from torch import Tensor

from t2i.diffusion.denoiser import Denoiser
from t2i.media.images import resize
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import given
from t2i.stages.base import bound_net, typed_cond

INVERSION_STEPS = 24
NEAREST_SIGMA = 0.02
"""Sigma at which an inversion begins; at 0 the slope of the ODE is not defined."""
FIXED_POINT_STEPS = 8
"""To find the x there. With none, pictures of a base that stops at t = .12 come back 8.1 of 255 off, with 8, 3.1."""


def slerp(a: Tensor, b: Tensor, t: float) -> Tensor:
    """Spherical interpolation (Shoemake 1985): a at t = 0, b at t = 1, both exactly.

    a, b: equal shapes (B, ...); each row is one vector. The direction moves along the great circle at constant speed.
    The norm is interpolated geometrically: noise keeps the norm of noise, unit vectors stay unit vectors. For opposite
    vectors the great circle is not unique; a fixed one is chosen.
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
    across = v - cos * u  # the part of v orthogonal to u
    length = across.norm(dim=1, keepdim=True)
    aside = torch.roll(u, 1, dims=1) - (torch.roll(u, 1, dims=1) * u).sum(1, keepdim=True) * u
    opposite = (length < 1e-9) & (cos < 0)
    across = torch.where(opposite, aside / aside.norm(dim=1, keepdim=True), across / length.clamp_min(1e-30))
    angle = torch.atan2(length, cos)
    turned = torch.cos(t * angle) * u + torch.sin(t * angle) * across
    return (turned * norm_a ** (1 - t) * norm_b**t).reshape(a.shape).to(a.dtype)


def invert(denoiser: Denoiser, x0: Tensor, sigmas: list[float], lowest: float = NEAREST_SIGMA) -> Tensor:
    """DDIM inversion (Song 2020, arXiv 2010.02502, section 4.3): x0 (B, ...) -> x at sigmas[0], float32.

    sigmas: those of a sampler, decreasing to 0. lowest: the sigma at which the inversion begins, with the x whose
    estimate is x0, found by fixed-point iteration. Steps are Heun's, of second order: with Euler steps an inverted
    picture comes back blurred.
    """
    up = [lowest, *[s for s in reversed(sigmas) if s > lowest * 1.01]]
    x = x0.float()
    for _ in range(FIXED_POINT_STEPS):
        x = x + x0 - _at(denoiser, x, lowest)
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
    """The noise eps (B, 3, S, S), mean square 1, from which the base draws about these pictures (B, 3, H, H).

    The inversion uses the conditioning without guidance, which cannot be inverted. The result is rescaled to the norm
    of noise: a sampler that starts from less draws flat pictures.
    """
    _, stage = pipeline.base
    size = pipeline.manifest.sizes[0]
    cond = typed_cond(stage, pipeline.guided_cond(conditioning))
    defaults = stage.defaults if conditioning.text is not None else stage.defaults.without_text
    t_end = given(defaults.t_end, 0.0)
    sampling = replace(defaults.unguided, steps=steps, schedule=defaults.schedule, t_end=t_end)
    inner = stage.denoiser(bound_net(stage), cond.uncond, sampling)
    sigmas, lowest = stage.sigmas(sampling), max(NEAREST_SIGMA, float(stage.process.sigma(torch.tensor(t_end))))
    x0 = resize(pictures, size, size).to(stage.device)
    x = invert(lambda x, sigma, _: inner(x, sigma, cond.cond), x0, sigmas, lowest)
    eps = x / float(stage.process.start(torch.ones(()), sigmas[0]))
    return eps / eps.square().mean(dim=(1, 2, 3), keepdim=True).sqrt()
