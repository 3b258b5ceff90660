"""Spherical interpolation and inversion against closed forms."""

from __future__ import annotations

import math
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from t2i.diffusion.process import Flow
from t2i.diffusion.samplers import euler
from t2i.diffusion.schedule import uniform_t
from t2i.edit.latents import invert, inverted_noise, slerp
from t2i.pipeline import Conditioning, Pipeline


def unit(*shape: int, seed: int = 0) -> Tensor:
    return F.normalize(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), dim=-1)


@pytest.mark.parametrize("t", [0.0, 0.1, 0.5, 0.9, 1.0])
def test_unit_vectors_stay_unit_and_turn_evenly(t: float) -> None:
    a, b = unit(5, 256), unit(5, 256, seed=1)
    made = slerp(a, b, t)
    assert torch.allclose(made.norm(dim=1), torch.ones(5), atol=1e-6)
    whole = torch.acos((a * b).sum(1))
    assert torch.allclose(torch.acos((made * a).sum(1).clamp(-1, 1)), t * whole, atol=2e-3)


def test_the_ends_are_exact() -> None:
    a, b = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(2)).split(1)
    assert torch.equal(slerp(a, b, 0.0), a)
    assert torch.equal(slerp(a, b, 1.0), b)


def test_the_midpoint_at_cosine_seven_tenths_has_norm_one() -> None:
    # a slerp that forgets the angle makes it 1.3 times too long
    a, b = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.7, math.sqrt(1 - 0.49)]])
    assert float(slerp(a, b, 0.5).norm()) == pytest.approx(1.0, abs=1e-6)
    assert torch.allclose(slerp(a, b, 0.5), F.normalize(a + b, dim=1), atol=1e-6)


def test_noise_keeps_the_norm_of_noise() -> None:
    a, b = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(3)).split(1)
    for t in (0.25, 0.5, 0.75):
        assert float(slerp(a, b, t).std()) == pytest.approx(1.0, abs=0.02)


def test_vectors_that_are_equal_or_opposite() -> None:
    a = unit(1, 16)
    assert torch.allclose(slerp(a, a, 0.3), a, atol=1e-6)
    half = slerp(a, -a, 0.5)
    assert float(half.norm()) == pytest.approx(1.0, abs=1e-6)
    assert abs(float((half * a).sum())) < 1e-5


def test_inversion_finds_the_noise_of_a_gaussian() -> None:
    # data N(0, s^2): D(x, sigma) = s^2 / (s^2 + sigma^2) x, and x_sigma = x_0 sqrt(s^2 + sigma^2) / s exactly
    s = 0.5

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        v = sigma.view(-1, 1)
        return s**2 / (s**2 + v**2) * x

    x0 = s * torch.randn(4, 10, generator=torch.Generator().manual_seed(4))
    levels = uniform_t(Flow(), 32)
    x = invert(denoiser, x0, levels)
    exact = x0 * math.sqrt(s**2 + levels[0] ** 2) / s
    assert float((x / exact - 1).abs().max()) < 0.02
    again = euler(denoiser, x, uniform_t(Flow(), 400))
    assert float((again - x0).abs().max()) < 0.03


def test_an_inversion_that_begins_high_starts_where_the_estimate_is_the_picture() -> None:
    asked: list[tuple[float, Tensor]] = []

    def denoiser(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        asked.append((float(sigma[0]), x))
        return 0.7 * x

    x0 = torch.randn(4, 10, generator=torch.Generator().manual_seed(4))
    invert(denoiser, x0, [1.0, 0.5, 0.25, 0.125, 0.0], lowest=0.25)
    assert min(sigma for sigma, _ in asked) == 0.25
    found = next(x for (sigma, x), (later, _) in pairwise(asked) if sigma == 0.25 and later > 0.25)
    assert float((0.7 * found - x0).abs().max()) < 0.01


def test_inverted_noise_has_the_norm_of_noise(tiny: Path) -> None:
    pipeline = Pipeline.load(tiny)
    picture = torch.linspace(-1, 1, 16).expand(1, 3, 16, 16)
    made = inverted_noise(pipeline, picture, Conditioning(z=pipeline.embed(picture)), steps=4)
    assert made.shape == (1, 3, 16, 16)
    assert float(made.square().mean()) == pytest.approx(1.0, abs=1e-4)
