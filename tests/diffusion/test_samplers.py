"""Samplers against a distribution whose denoiser is known, and against their own orders of accuracy."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from oracle import MEANS, STD, WEIGHTS, mixture
from torch import Tensor

from t2i.diffusion.denoiser import NetDenoiser
from t2i.diffusion.guidance import classifier_free, dynamic_threshold
from t2i.diffusion.process import Flow
from t2i.diffusion.samplers import SAMPLERS, ancestral, euler
from t2i.diffusion.schedule import karras, logsnr, shifted, start_at
from t2i.rng import SeededNoise, noise

DETERMINISTIC = [k for k, s in SAMPLERS.items() if not s.stochastic]
SEEDS = tuple(range(64))


def start(sigma: float) -> Tensor:
    return sigma * noise(SEEDS, "toy", 0, (2,))


def levels(n: int) -> list[float]:
    """n steps in log sigma from 20 to .05, a smooth stretch without the jump to 0."""
    return [20 * (0.05 / 20) ** (i / n) for i in range(n + 1)]


@pytest.fixture(scope="module")
def truth() -> Tensor:
    """Where the trajectories really end: Heun's method with 1500 steps."""
    return SAMPLERS["heun"](mixture, start(20.0), levels(1500))


def rms(a: Tensor, b: Tensor) -> float:
    return float((a - b).square().mean().sqrt())


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_samplers_converge_at_their_order(name: str, truth: Tensor) -> None:
    """The slope of log error against log steps: at least the order less .3."""
    steps = {"euler": [40, 80, 160], "unipc": [24, 36, 54]}.get(name, [24, 48, 96])
    errors = [rms(SAMPLERS[name](mixture, start(20.0), levels(n)), truth) for n in steps]
    slope = math.log(errors[0] / errors[-1]) / math.log(steps[-1] / steps[0])
    assert slope > SAMPLERS[name].order - 0.3, (errors, slope)
    assert slope < SAMPLERS[name].order + 1.2, "a method cannot beat its order by that much: the oracle is wrong"


def test_eight_steps_of_dpmpp_2m_beat_eight_of_euler_threefold(truth: Tensor) -> None:
    sig = levels(8)
    e = {k: rms(SAMPLERS[k](mixture, start(20.0), sig), truth) for k in DETERMINISTIC}
    assert e["dpmpp_2m"] < e["euler"] / 3, e
    assert e["unipc"] < e["dpmpp_2m"], e


@pytest.mark.parametrize("name", SAMPLERS)
def test_samples_have_the_distribution_asked_for(name: str) -> None:
    """Shares and spread of the three modes in 4000 samples."""
    n = 4000
    x = 80 * torch.randn(n, 2, generator=torch.Generator().manual_seed(1))
    if name == "consistency":  # exact for consistency networks only; of a plain denoiser it is the mean
        x0 = SAMPLERS[name](mixture, x, [80.0, 0.0], None, quick_noise)
        torch.testing.assert_close(x0, mixture(x, torch.full((n,), 80.0)))
        return
    # discretisation narrows the modes of the ancestral sampler: 8% at 40 steps, 2% at 160
    steps = 160 if name == "ancestral" else 40
    x0 = SAMPLERS[name](mixture, x, karras(Flow(), steps, sigma_min=0.01, sigma_max=80.0), None, quick_noise)
    mode = torch.cdist(x0, MEANS).argmin(1)
    shares = torch.bincount(mode, minlength=3) / n
    assert (shares - WEIGHTS).abs().max() < 0.035, shares
    spread = (x0 - MEANS[mode]).square().mean().sqrt()
    assert float(spread) == pytest.approx(STD, rel=0.05)


def quick_noise(step: int, like: Tensor) -> Tensor:
    """Noise for thousands of toy samples at once, where the keyed source would take a while."""
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(step))


@pytest.mark.parametrize("name", SAMPLERS)
def test_metadata_is_true(name: str) -> None:
    calls = 0

    def d(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        nonlocal calls
        calls += 1
        assert sigma.shape == x.shape[:1] and x.dtype == sigma.dtype == torch.float32
        return mixture(x, sigma)

    for sig in (karras(Flow(), 6), karras(Flow(), 6)[:-1], [5.0, 0.0]):
        calls = 0
        used: list[int] = []

        def source(step: int, like: Tensor, used: list[int] = used) -> Tensor:
            used.append(step)
            return noise(SEEDS, "toy", step, like.shape[1:])

        SAMPLERS[name](d, start(sig[0]), sig, None, source)
        steps, extra = len(sig) - 1, SAMPLERS[name].evals_per_step - 1
        assert calls == steps + extra * (steps - (sig[-1] == 0))  # a step that ends at 0 takes one evaluation
        expected = [i + 1 for i in range(len(sig) - 1) if sig[i + 1] > 0] if SAMPLERS[name].stochastic else []
        assert used == expected


@pytest.mark.parametrize("name", SAMPLERS)
def test_one_step_to_zero_is_the_denoiser(name: str) -> None:
    x = start(3.0)
    out = SAMPLERS[name](mixture, x, [3.0, 0.0], None, SeededNoise(SEEDS, "toy"))
    torch.testing.assert_close(out, mixture(x, torch.full((64,), 3.0)))


@pytest.mark.parametrize("name", SAMPLERS)
def test_a_constant_denoiser_is_followed_exactly(name: str) -> None:
    goal = torch.tensor([[0.3, -0.7]]).expand(64, 2)
    out = SAMPLERS[name](lambda x, s, c: goal, start(80.0), karras(Flow(), 5), None, SeededNoise(SEEDS, "toy"))
    torch.testing.assert_close(out, goal)


@pytest.mark.parametrize("name", ["euler", "heun"])
def test_a_trajectory_can_be_cut_in_two(name: str) -> None:
    """One-step methods: stopping at a level and going on from there changes nothing."""
    s = shifted(Flow(), 12)
    whole = SAMPLERS[name](mixture, start(s[0]), s)
    half = SAMPLERS[name](mixture, start(s[0]), s[:6])
    torch.testing.assert_close(SAMPLERS[name](mixture, half, s[5:]), whole)


@pytest.mark.parametrize("name", DETERMINISTIC)
def test_a_partial_trajectory_keeps_more_of_the_picture(name: str) -> None:
    x0 = MEANS[torch.arange(64) % 3] + 0.1 * noise(SEEDS, "picture", 0, (2,))
    full = logsnr(Flow(), 16, sigma_max=20.0)
    moved = []
    for strength in (0.3, 0.6, 1.0):
        s = start_at(full, strength)
        moved.append(rms(SAMPLERS[name](mixture, x0 + start(s[0]), s), x0))
    assert moved[0] < moved[1] < moved[2]


@pytest.mark.parametrize("name", SAMPLERS)
def test_progress_is_told(name: str) -> None:
    told: list[tuple[int, int]] = []
    last: list[Tensor] = []

    def on_step(step: int, n: int, x: Tensor, x0_hat: Tensor) -> None:
        told.append((step, n))
        assert x.shape == x0_hat.shape == (64, 2)
        last[:] = [x]

    out = SAMPLERS[name](mixture, start(9.0), [9.0, 3.0, 1.0, 0.0], None, SeededNoise(SEEDS, "toy"), on_step)
    assert told == [(1, 3), (2, 3), (3, 3)] and torch.equal(last[0], out)


def test_ancestral_at_eta_zero_is_euler_and_needs_no_noise() -> None:
    s = karras(Flow(), 8)
    torch.testing.assert_close(ancestral(mixture, start(s[0]), s, eta=0.0), euler(mixture, start(s[0]), s))
    with pytest.raises(AssertionError):
        ancestral(mixture, start(s[0]), s)


@pytest.mark.parametrize("bad", [[1.0], [1.0, 2.0], [1.0, 1.0], [1.0, -1.0]])
def test_levels_that_do_not_fall_are_our_mistake(bad: list[float]) -> None:
    with pytest.raises(AssertionError):
        euler(mixture, start(1.0), bad)


class TinyNet(torch.nn.Module):
    """A small convolutional network with a condition, large enough for kernels to differ with the batch."""

    def __init__(self) -> None:
        super().__init__()
        w = torch.Generator().manual_seed(0)
        self.convs = torch.nn.ModuleList(torch.nn.Conv2d(a, b, 3, padding=1) for a, b in [(3, 24), (24, 24), (24, 3)])
        self.embed = torch.nn.Linear(9, 24)
        for p in self.parameters():
            p.data = torch.randn(p.shape, generator=w) / max(p[0].numel(), 1) ** 0.5

    def forward(self, x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        h = self.convs[0](x_t) + self.embed(torch.cat([cond, t[:, None]], dim=1))[:, :, None, None]
        h = torch.nn.functional.silu(torch.nn.functional.group_norm(h, 4))
        h = h + torch.nn.functional.silu(self.convs[1](h))
        return x_t + self.convs[2](h)


@pytest.mark.parametrize("name", SAMPLERS)
@torch.no_grad()
def test_a_picture_does_not_depend_on_its_batch(name: str) -> None:
    """Alone, among 8 or among 32: within 4/255 of the range, with guidance, threshold and noise."""
    d0 = NetDenoiser(TinyNet().eval(), Flow(), "x0")
    s = shifted(Flow(), 6)

    def sample(seeds: list[int]) -> Tensor:
        cond = noise(seeds, "cond", 0, (8,))
        d = dynamic_threshold(classifier_free(d0, torch.zeros(1, 8), 3.0, interval=(0.3, 20.0)))
        source = SeededNoise(tuple(seeds), "base")
        x = Flow().start(noise(seeds, "base", 0, (3, 16, 16)), s[0])
        return SAMPLERS[name](d, x, s, cond, source)

    alone = sample([42])[0]
    assert alone.std() > 0.05
    for n in (8, 32):
        seeds = [1000 + i for i in range(n)]
        seeds[n // 3] = 42
        batch = sample(seeds)
        assert (batch[n // 3] - alone).abs().max() < 4 / 255 * 2
        assert (batch[0] - alone).abs().max() > 0.1
