"""Samplers: pure functions that integrate dx/dsigma = (x - D(x, sigma)) / sigma down a list of sigmas.

Each takes `(denoiser, x, sigmas, cond, noise, on_step)`, with x (B, ...) at `sigmas[0]` and decreasing sigmas, and
returns x at `sigmas[-1]`, which is x0 if that is 0. A slice of the list is a partial trajectory: start later, from
`x0 + sigmas[0] * eps` for a given picture, or stop earlier.

x is x_t / alpha_t (see process.py), so each function is the published method for every process. The exponential
integrators of DPM-Solver++ and UniPC are exact in lambda = -log sigma. Coefficients are Python floats, tensors float32.
`noise(step, x)` gives fresh noise and `on_step(step, n, x, x0_hat)` reports progress, for steps 1 .. n.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from t2i.diffusion.denoiser import Denoiser
from t2i.rng import NoiseSource

OnStep = Callable[[int, int, Tensor, Tensor], None]
"""on_step(step 1..n, n, x after the step, x0_hat that the step used)"""


def _levels(sigmas: Sequence[float] | Tensor) -> list[float]:
    s = [float(v) for v in sigmas]
    assert len(s) >= 2 and s[-1] >= 0, "a trajectory needs two levels or more, none of them negative"
    assert all(a > b for a, b in pairwise(s)), "sigmas must decrease"
    return s


def _denoise(denoiser: Denoiser, x: Tensor, sigma: float, cond: Any) -> Tensor:
    return denoiser(x, x.new_full((x.shape[0],), sigma), cond).to(x.dtype)


def euler(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    cond: Any = None,
    noise: NoiseSource | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Euler's method, first order: DDIM with eta = 0 (Song 2020, arXiv 2010.02502, eq. 13)."""
    x, s = x.float(), _levels(sigmas)
    for i, (a, b) in enumerate(pairwise(s)):
        x0 = _denoise(denoiser, x, a, cond)
        x = x0 + (b / a) * (x - x0)
        if on_step:
            on_step(i + 1, len(s) - 1, x, x0)
    return x


def heun(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    cond: Any = None,
    noise: NoiseSource | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Heun's method, second order, two evaluations a step, one if it ends at 0 (Karras 2022, algorithm 1)."""
    x, s = x.float(), _levels(sigmas)
    for i, (a, b) in enumerate(pairwise(s)):
        x0 = _denoise(denoiser, x, a, cond)
        slope = (x - x0) / a
        x_next = x + (b - a) * slope
        if b > 0:
            x0 = _denoise(denoiser, x_next, b, cond)
            x_next = x + (b - a) * 0.5 * (slope + (x_next - x0) / b)
        x = x_next
        if on_step:
            on_step(i + 1, len(s) - 1, x, x0)
    return x


def dpmpp_2m(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    cond: Any = None,
    noise: NoiseSource | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """DPM-Solver++(2M), midpoint, second order (Lu 2022, arXiv 2211.01095, algorithm 2).

    The first step is of first order, as it has no past; so is a step that ends at 0, where lambda is infinite.
    """
    x, s = x.float(), _levels(sigmas)
    past: Tensor | None = None
    for i, (a, b) in enumerate(pairwise(s)):
        x0 = _denoise(denoiser, x, a, cond)
        d = x0
        if past is not None and b > 0:
            r = math.log(s[i - 1] / a) / math.log(a / b)
            d = x0 + (x0 - past) / (2 * r)
        x = d + (b / a) * (x - d)
        past = x0
        if on_step:
            on_step(i + 1, len(s) - 1, x, x0)
    return x


def unipc(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    cond: Any = None,
    noise: NoiseSource | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """UniPC-2 with data prediction and B(h) = e^h - 1 (Zhao 2023, arXiv 2302.04867); one evaluation a step.

    The evaluation at a predicted point also corrects that point, which makes the method third order. The corrected
    point is not evaluated again.
    """
    x, s = x.float(), _levels(sigmas)
    x_last, m_past, m_last = x, x, x  # the last corrected x, and the evaluations before it; unused at i = 0
    for i, (a, b) in enumerate(pairwise(s)):
        m = _denoise(denoiser, x, a, cond)
        if i:
            x = _correct(s, i, x_last, m, m_last, m_past)
        m_past, m_last, x_last = m_last, m, x
        d = m
        if i and b > 0:
            r = math.log(s[i - 1] / a) / math.log(a / b)
            d = m + (m - m_past) / (2 * r)
        x = d + (b / a) * (x - d)
        if on_step:
            on_step(i + 1, len(s) - 1, x, m)
    return x


def _correct(s: list[float], i: int, x: Tensor, m_t: Tensor, m0: Tensor, m1: Tensor) -> Tensor:
    """UniC: repeats the step from x at s[i-1] to s[i], with the evaluation m_t at s[i].

    m0, m1: the evaluations at s[i-1] and s[i-2]. m1 is not used for i = 1.
    """
    hh = math.log(s[i] / s[i - 1])  # -h
    e = math.expm1(hh)
    x_t = (s[i] / s[i - 1]) * x - e * m0
    if i == 1:
        return x_t - e * 0.5 * (m_t - m0)
    phi_2 = e / hh - 1
    b1, b2 = phi_2 / e, 2 * (phi_2 / hh - 0.5) / e
    r = math.log(s[i - 1] / s[i - 2]) / -hh  # (lambda_{i-2} - lambda_{i-1}) / h, negative
    rho = (b1 - b2) / (1 - r)
    return x_t - e * (rho / r * (m1 - m0) + (b1 - rho) * (m_t - m0))


def ancestral(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    cond: Any = None,
    noise: NoiseSource | None = None,
    on_step: OnStep | None = None,
    *,
    eta: float = 1.0,
) -> Tensor:
    """DDPM's posterior step at eta = 1 (Ho 2020, eq. 7), DDIM at eta = 0 (Song 2020, eq. 16); order 1.

    An infinite `eta` replaces all of the noise: multistep consistency sampling (Song 2023, arXiv 2303.01469,
    algorithm 1), for networks tuned to few steps.
    """
    assert noise is not None or eta == 0, "a stochastic sampler needs a noise source"
    x, s = x.float(), _levels(sigmas)
    for i, (a, b) in enumerate(pairwise(s)):
        x0 = _denoise(denoiser, x, a, cond)
        x = _ancestral_step(x, x0, a, b, eta, noise, i + 1)
        if on_step:
            on_step(i + 1, len(s) - 1, x, x0)
    return x


def _ancestral_step(
    x: Tensor, x0: Tensor, a: float, b: float, eta: float, noise: NoiseSource | None, draw: int
) -> Tensor:
    """x at sigma = a, with the estimate x0 -> x at sigma = b < a; `draw` numbers the fresh noise."""
    up = b if math.isinf(eta) else min(b, eta * b * math.sqrt(1 - (b / a) ** 2))
    down = math.sqrt(b**2 - up**2)
    x = x0 + (down / a) * (x - x0)
    return x + up * noise(draw, x) if up > 0 and noise is not None else x


def consistency(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    cond: Any = None,
    noise: NoiseSource | None = None,
    on_step: OnStep | None = None,
) -> Tensor:
    """Multistep consistency sampling: `ancestral` with an infinite eta."""
    return ancestral(denoiser, x, sigmas, cond, noise, on_step, eta=math.inf)


def repaint(
    denoiser: Denoiser,
    x: Tensor,
    sigmas: Sequence[float] | Tensor,
    cond: Any,
    noise: NoiseSource,
    on_step: OnStep | None,
    x0: Tensor,
    mask: Tensor,
    resamples: int,
) -> Tensor:
    """RePaint (Lugmayr 2022, arXiv 2201.09865, algorithm 1): inpainting with any denoiser, by ancestral steps.

    x0 (B, ...): the known picture. mask (B, 1, ...): 1 where to paint, 0 where x0 is kept. Before each step the known
    part of x is replaced by x0 noised to the step's sigma. Each step is taken `resamples` times: the noise is added
    back (from sigma b up to a it is sqrt(a^2 - b^2) of it, whatever the process) and the step repeated, so that the
    painted part comes to agree with the known one. Not in `SAMPLERS`, since it needs a picture and a mask.
    """
    x, s, draws = x.float(), _levels(sigmas), 0
    for i, (a, b) in enumerate(pairwise(s)):
        takes = resamples if b > 0 else 1
        for take in range(takes):
            draws += 2
            x = torch.lerp(x0 + a * noise(draws - 1, x), x, mask)
            x0_hat = _denoise(denoiser, x, a, cond)
            x = _ancestral_step(x, x0_hat, a, b, 1.0, noise, draws)
            if take + 1 < takes:
                draws += 1
                x = x + math.sqrt(a**2 - b**2) * noise(draws, x)
        if on_step:
            on_step(i + 1, len(s) - 1, x, x0_hat)
    return torch.lerp(x0, x, mask)


@dataclass(frozen=True)
class Sampler:
    """A sampler's function, its order of accuracy, and its evaluations per step (one fewer for a step to 0).

    stochastic: it needs a noise source. Calling a Sampler calls the function.
    """

    fn: Callable[..., Tensor]
    order: int
    evals_per_step: int = 1
    stochastic: bool = False

    def __call__(self, *args: Any, **kwargs: Any) -> Tensor:
        return self.fn(*args, **kwargs)


SAMPLERS: dict[str, Sampler] = {
    "euler": Sampler(euler, order=1),
    "heun": Sampler(heun, order=2, evals_per_step=2),
    "dpmpp_2m": Sampler(dpmpp_2m, order=2),
    "unipc": Sampler(unipc, order=3),
    "ancestral": Sampler(ancestral, order=1, stochastic=True),
    "consistency": Sampler(consistency, order=1, stochastic=True),
}
