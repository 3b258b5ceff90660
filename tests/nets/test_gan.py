"""Generator and discriminator: shapes, what they read, and the three designs of the score."""

from __future__ import annotations

from typing import Literal

import pytest
import torch
from filling import fill

from t2i.nets.gan import Discriminator, DiscriminatorConfig, Generator, GeneratorConfig
from t2i.rng import generator

SMALL = GeneratorConfig(noise=8, embed_dim=4, token_dim=2, channels=(16, 12, 8), patch=2, emb=16)
Design = Literal["projection", "concat", "patch"]


def numbers(*shape: int, key: str = "x") -> torch.Tensor:
    return torch.randn(shape, generator=generator(key))


def test_a_picture_is_a_function_of_its_own_noise_and_text() -> None:
    net, noise, text = fill(Generator(SMALL), 1), numbers(3, 8), numbers(3, 6, key="text")
    with torch.no_grad():
        made = net(noise, text)
        assert made.shape == (3, 3, 32, 32) and SMALL.size == 32 and float(made.abs().max()) <= 1
        torch.testing.assert_close(net(noise[1:2], text[1:2]), made[1:2], atol=1e-5, rtol=0)
        for other in (net(noise.roll(1, 0), text), net(noise, text.roll(1, 0))):
            assert float((other - made).abs().mean()) > 1e-3
        torch.testing.assert_close(net(noise, 7 * text), made)  # only the direction of a text's vector counts


@pytest.mark.parametrize(("design", "scores"), [("projection", 1), ("concat", 1), ("patch", 16)])
def test_a_score_reads_picture_and_text(design: Design, scores: int) -> None:
    config = DiscriminatorConfig(design, text_dim=6, channels=(8, 12, 16), patch=2)
    net, pixels, text = fill(Discriminator(config), 2), numbers(2, 3, 32, 32), numbers(2, 6, key="text")
    assert config.factor == 8
    with torch.no_grad():
        found = net(pixels, text)
        assert found.shape == (2, scores) and found.dtype == torch.float32
        assert not torch.allclose(net(pixels, text.roll(1, 0)), found)
        assert not torch.allclose(net(pixels.roll(1, 0), text), found)
        torch.testing.assert_close(net.score(net.features(pixels), text), found)


def test_a_projection_is_a_linear_score_and_a_product() -> None:
    """Equation 3 of Miyato & Koyama 2018."""
    net = fill(Discriminator(DiscriminatorConfig(text_dim=6, channels=(8, 12), patch=2)), 3)
    features, text = numbers(2, 12, 4, 4), numbers(2, 6, key="text")
    unit = text / text.norm(dim=1, keepdim=True) * 6**0.5
    mean = features.mean((2, 3))
    wanted = net.logit(mean)[:, 0] + ((unit @ net.text.weight.T) * mean).sum(1) / 12**0.5
    torch.testing.assert_close(net.score(features, text)[:, 0], wanted)
