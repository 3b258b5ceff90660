"""The losses of adversarial training against their closed forms."""

from __future__ import annotations

import math

import pytest
import torch

from t2i.rng import generator
from t2i.train.adversarial import Kind, discriminator_loss, generator_loss, gradient_penalty, spread


@pytest.mark.parametrize(
    ("kind", "discriminator", "of_generator"),
    [
        ("nonsaturating", math.log1p(math.exp(-2)) + math.log1p(math.exp(0.5)), math.log1p(math.exp(-0.5))),
        ("hinge", 0 + 1.5, -0.5),
        ("relativistic", math.log1p(math.exp(-1.5)), math.log1p(math.exp(1.5))),
    ],
)
def test_losses_at_two_scores(kind: Kind, discriminator: float, of_generator: float) -> None:
    real, made = torch.tensor([[2.0]]), torch.tensor([[0.5]])
    assert float(discriminator_loss(kind, real, made)) == pytest.approx(discriminator)
    assert float(generator_loss(kind, real, made)) == pytest.approx(of_generator)


@pytest.mark.parametrize("kind", ["nonsaturating", "hinge", "relativistic"])
def test_the_two_pull_a_made_picture_apart(kind: Kind) -> None:
    real = torch.zeros(3, 1)
    made = torch.zeros(3, 1, requires_grad=True)
    (down,) = torch.autograd.grad(discriminator_loss(kind, real, made), made)
    (up,) = torch.autograd.grad(generator_loss(kind, real, made), made)
    assert bool((down > 0).all()) and bool((up < 0).all())  # to be minimised: one lowers the score, the other raises it


def test_the_penalty_of_a_linear_score_is_half_its_squared_slope() -> None:
    slope = torch.randn(3, 4, 4, generator=generator("slope")).requires_grad_()
    pixels = torch.randn(5, 3, 4, 4, generator=generator("pixels")).requires_grad_()
    found = gradient_penalty((pixels * slope).sum((1, 2, 3))[:, None], pixels)
    assert found.item() == pytest.approx(slope.square().sum().item() / 2, rel=1e-5)
    (by,) = torch.autograd.grad(found, slope)  # and it can be learned from
    torch.testing.assert_close(by, slope.detach())


def test_the_spread_of_equal_pictures_is_nothing() -> None:
    real = torch.randn(16, 3, 4, 4, generator=generator("real"))
    assert spread(real, real) == pytest.approx(1) and spread(real / 2, real) == pytest.approx(0.5)
    assert spread(real[:1].expand(16, -1, -1, -1), real) == 0
