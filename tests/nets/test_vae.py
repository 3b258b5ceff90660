"""The VAE of image tokens and the distribution of its pixels."""

from __future__ import annotations

import math

import pytest
import torch
import torch.nn.functional as F

from t2i.errors import InputError
from t2i.nets import laplace
from t2i.nets.vae import COMMITMENT, VAE, VAEConfig, kl_to_uniform, level_grid, on_sphere
from t2i.rng import generator

SMALL = {"codes": 12, "dim": 6, "patch": 2, "channels": (8, 16), "blocks": 1}


def build(latent: str) -> VAE:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return VAE(VAEConfig.from_dict({**SMALL, "latent": latent, "channels": [8, 16]}))


@pytest.mark.parametrize(("mu", "log_b"), [(0.0, 0.0), (1.3, -1.0), (-2.0, -0.3), (0.4, math.log(0.1))])
def test_the_logit_laplace_density_integrates_to_1(mu: float, log_b: float) -> None:
    edges = torch.linspace(1e-7, 1 - 1e-7, 2_000_001, dtype=torch.float64)
    x = (edges[1:] + edges[:-1]) / 2
    density = laplace.log_prob(x, torch.full_like(x, mu), torch.full_like(x, log_b)).exp()
    # what is left out at both ends, from the Laplace distribution of logit(x)
    tails = sum(0.5 * math.exp(-(abs(math.log(1e-7)) + sign * mu) / math.exp(log_b)) for sign in (1, -1))
    assert float((density * edges.diff()).sum()) + tails == pytest.approx(1, abs=2e-4)


def test_the_median_is_where_half_of_the_probability_is_and_undoes_the_map_of_pixels() -> None:
    pixels = torch.linspace(-1, 1, 11)
    x = laplace.squeeze(pixels)
    assert float(x[0]) == pytest.approx(0.1) and float(x[-1]) == pytest.approx(0.9)
    torch.testing.assert_close(laplace.median(torch.logit(x)), pixels, atol=1e-5, rtol=0)
    mu, log_b = torch.tensor(0.7, dtype=torch.float64), torch.tensor(-0.5, dtype=torch.float64)
    grid = torch.linspace(1e-6, float(torch.sigmoid(mu)), 1_000_001, dtype=torch.float64)
    below = torch.trapezoid(laplace.log_prob(grid, mu, log_b).exp(), grid)
    assert float(below) == pytest.approx(0.5, abs=1e-3)


def test_no_density_is_sharper_than_the_grey_levels() -> None:
    assert float(laplace.bounded(torch.tensor(-50.0))) == pytest.approx(laplace.LOG_B_LEAST)
    assert float(laplace.bounded(torch.tensor(3.0))) == pytest.approx(3, abs=1e-2)


def test_kl_to_uniform() -> None:
    assert float(kl_to_uniform(torch.zeros(2, 3, 3, 8))) == pytest.approx(0, abs=1e-5)
    sure = 1e4 * F.one_hot(torch.zeros(2, 3, 3, dtype=torch.int64), 8).float()
    assert float(kl_to_uniform(sure)) == pytest.approx(9 * math.log(8), rel=1e-5)  # nats of a picture of nine cells
    p = torch.tensor([0.5, 0.25, 0.25])
    entropy = -float((p * p.log()).sum())
    assert float(kl_to_uniform(p.log().view(1, 1, 1, 3))) == pytest.approx(math.log(3) - entropy, abs=1e-5)


def test_the_relaxation_becomes_a_draw_from_the_codes_as_the_temperature_falls() -> None:
    vae = build("gumbel")
    p = torch.tensor([0.6, 0.3, 0.1])
    logits = torch.full((1, 12, 40, 40), -1e9)
    logits[0, :3] = p.log().view(3, 1, 1)
    z = vae.bottleneck(logits, 1e-3, generator("test")).z.permute(0, 2, 3, 1).reshape(-1, 6)
    distances = torch.cdist(z, vae.codes_embedding)
    assert float(distances.detach().amin(1).median()) < 1e-4  # each cell is one code
    shares = distances.argmin(1).bincount(minlength=12)[:3] / 1600
    torch.testing.assert_close(shares, p, atol=0.05, rtol=0)
    warm = vae.bottleneck(logits, 100.0, generator("test")).z
    mean = vae.codes_embedding.mean(0)  # at a high temperature every code that is possible has the same weight
    assert not torch.allclose(warm[0, :, 0, 0], mean, atol=1e-2)
    torch.testing.assert_close(warm[0, :, 0, 0], vae.codes_embedding[:3].mean(0), atol=0.1, rtol=0)


def test_straight_through_codes() -> None:
    vae = build("vq")
    h = torch.randn(2, 6, 4, 4, generator=generator("h")).requires_grad_()
    coded = vae.bottleneck(h, 1.0, generator("g"))
    vectors = on_sphere(h.permute(0, 2, 3, 1)).reshape(-1, 6)
    torch.testing.assert_close(vae.codes.square().sum(1), torch.full((12,), 6.0))
    wanted = torch.cdist(vectors, vae.codes).argmin(1)
    assert coded.tokens is not None and torch.equal(coded.tokens.flatten(), wanted)
    torch.testing.assert_close(coded.z.permute(0, 2, 3, 1).reshape(-1, 6), vae.codes[wanted])
    assert float(coded.cost.detach()) == pytest.approx(
        float(F.mse_loss(vae.codes[wanted], vectors).detach()) * (1 + COMMITMENT), rel=1e-5
    )
    weights = torch.randn(coded.z.shape, generator=generator("w"))
    (through,) = torch.autograd.grad((weights * coded.z).sum(), h, retain_graph=True)
    (direct,) = torch.autograd.grad((weights.permute(0, 2, 3, 1).reshape(-1, 6) * vectors).sum(), h)
    torch.testing.assert_close(through, direct)  # as if the nearest code were the vector itself


def test_rounded_codes() -> None:
    """Four levels of the first number, three of the second: 12 codes, each of which is its own nearest."""
    vae = VAE(VAEConfig(latent="fsq", codes=12, dim=2, levels=(4, 3), patch=2, channels=(8, 16), blocks=1))
    assert vae.codes.tolist()[:4] == [[-1, -1], [-1, 0], [-1, 1], [pytest.approx(-1 / 3), -1]]
    inner = torch.logit((vae.codes * 0.99 + 1) / 2)
    assert vae.nearest(inner).tolist() == list(range(12))
    h = torch.randn(2, 2, 4, 4, generator=generator("h")).requires_grad_()
    coded = vae.bottleneck(h, 1.0, generator("g"))
    squashed = (h.sigmoid() * 2 - 1).permute(0, 2, 3, 1).reshape(-1, 2)
    wanted = torch.cdist(squashed, level_grid((4, 3))).argmin(1)
    assert coded.tokens is not None and float(coded.cost) == 0
    steps = torch.tensor([2 / 3, 1.0])  # between two levels of a number, which has its own steps: nearest in each
    assert bool(((vae.codes[coded.tokens.flatten()] - squashed).abs() <= steps / 2 + 1e-6).all())
    assert float((coded.tokens.flatten() == wanted).float().mean()) == 1
    torch.testing.assert_close(vae.embed(coded.tokens), coded.z)
    weights = torch.randn(coded.z.shape, generator=generator("w"))
    (through,) = torch.autograd.grad((weights * coded.z).sum(), h)
    (direct,) = torch.autograd.grad((weights * (h.sigmoid() * 2 - 1)).sum(), h)
    torch.testing.assert_close(through, direct)  # as if nothing were rounded
    with pytest.raises(InputError, match="levels"):
        VAEConfig(latent="fsq", codes=16, dim=2, levels=(4, 3))


def test_the_gaussian_divergence() -> None:
    vae = build("gaussian")
    moments = torch.randn(3, 12, 4, 4, generator=generator("m"))
    mean, log_var = moments.chunk(2, dim=1)
    unit, ours = torch.distributions.Normal(0, 1), torch.distributions.Normal(mean, (0.5 * log_var).exp())
    wanted = torch.distributions.kl_divergence(ours, unit).sum((1, 2, 3)).mean()
    coded = vae.bottleneck(moments, 1.0, generator("g"))
    torch.testing.assert_close(coded.cost, wanted, rtol=1e-4, atol=1e-4)
    assert coded.tokens is None and vae.config.tokens == 0
    sure = vae.bottleneck(torch.cat([mean, torch.full_like(mean, -20.0)], 1), 1.0, generator("g")).z
    torch.testing.assert_close(sure, mean, atol=1e-3, rtol=0)


@pytest.mark.parametrize("latent", ["gumbel", "vq", "gaussian"])
def test_shapes_and_what_is_left_of_a_picture(latent: str) -> None:
    vae = build(latent).eval()
    pixels = torch.rand(2, 3, 16, 16, generator=generator("p")) * 2 - 1
    coded = vae.bottleneck(vae.encode(pixels), 0.5, generator("g"))
    mu, log_b = vae.decode(coded.z)
    assert coded.z.shape == (2, 6, 4, 4) and mu.shape == log_b.shape == pixels.shape
    assert float(mu.detach().abs().max()) == 0  # a new decoder says grey
    left = vae.reconstruct(pixels)
    assert left.shape == pixels.shape and vae.config.factor == 4
    if vae.config.tokens:
        tokens = vae.tokens(pixels)
        assert tokens.shape == (2, 16) and int(tokens.max()) < 12
        assert torch.equal(vae.pictures(tokens), left)
        assert torch.equal(vae.tokens(pixels[:1]), tokens[:1])  # a picture's tokens are its own
