"""What all diffusion stages share: a network as a denoiser, its defaults, and the run down a schedule."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn

from t2i.diffusion import schedule
from t2i.diffusion.denoiser import Denoiser, Net, NetDenoiser, Prediction
from t2i.diffusion.guidance import classifier_free, dynamic_threshold, static_threshold
from t2i.diffusion.process import VP, Flow
from t2i.diffusion.samplers import SAMPLERS
from t2i.rng import NoiseSource, SeededNoise, noise
from t2i.sampling import SamplingConfig, given

#: on_step(stage, step 1..n, n, the estimate x0_hat (B, ...))
OnStep = Callable[[str, int, int, Tensor], None]


def of_all(on_step: OnStep | None, number: int, many: int) -> OnStep | None:
    """The steps of one of several runs counted among those of all, so that a stage never goes back."""
    if on_step is None:
        return None

    def told(stage: str, step: int, total: int, x0_hat: Tensor) -> None:
        on_step(stage, number * total + step, many * total, x0_hat)

    return told


@dataclass(frozen=True)
class Start:
    """Where a run begins, if not at the seeds' own noise.

    eps (B, *shape): unit noise in its place, for example of an inverted picture. x0 (B, *shape): a picture that the run
    starts from, noised to where the last `strength` in (0, 1] of the steps begin (SDEdit: Meng 2021, arXiv 2108.01073).
    """

    eps: Tensor | None = None
    x0: Tensor | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class InpaintCond:
    """What a run must keep: x0 (B, *shape) and a mask (B, 1, ...) of 0 and 1, 1 where it may paint."""

    x0: Tensor
    mask: Tensor

    def hold(self, denoiser: Denoiser) -> Denoiser:
        """The estimate, with what is known in the place of what was guessed of it (GLIDE, section 4)."""

        def held(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            return torch.lerp(self.x0, denoiser(x, sigma, cond), self.mask)

        return held


@dataclass
class Stage:
    """A named diffusion stage. prediction: what its network's output is; defaults: how it is sampled unless a request
    says otherwise, from the manifest."""

    name: str
    net: nn.Module
    process: Flow | VP
    prediction: Prediction
    defaults: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def config(self) -> Any:
        """The config of the network, of the kind that belongs to it."""
        return self.net.config

    @property
    def dtype(self) -> torch.dtype:
        """What the network computes in; the samplers around it always compute in float32."""
        return next(self.net.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """Where the network is."""
        return next(self.net.parameters()).device

    def sigmas(self, sampling: SamplingConfig) -> list[float]:
        """The noise levels of a run, decreasing, the last one 0. Raises UsageError for an unknown schedule."""
        return schedule.sigmas(given(sampling.schedule, "uniform_t"), self.process, given(sampling.steps, 8))

    def denoiser(self, net: Net, uncond: Any, sampling: SamplingConfig) -> Denoiser:
        """The network, of which `net` has the fixed inputs bound, guided and thresholded as `sampling` says."""
        dtype = self.dtype

        def typed(x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
            return net(x_t.to(dtype), t, cond)

        denoiser: Denoiser = NetDenoiser(typed, self.process, self.prediction)
        denoiser = classifier_free(denoiser, uncond, given(sampling.guidance, 1.0), sampling.interval)
        if sampling.threshold == "static":
            denoiser = static_threshold(denoiser)
        elif sampling.threshold and sampling.threshold != "none":
            percentile, cap = sampling.threshold
            denoiser = dynamic_threshold(denoiser, percentile * 100, cap)
        return denoiser

    def run(
        self,
        net: Net,
        shape: Sequence[int],
        cond: Any,
        uncond: Any,
        sampling: SamplingConfig,
        seeds: Sequence[int],
        on_step: OnStep | None = None,
        *,
        key: str = "",
        start: Start | None = None,
        known: InpaintCond | None = None,
        resamples: int = 0,
    ) -> Tensor:
        """From unit noise, or from `start`, to x_0 (B, *shape) float32; row i is a function of seeds[i] and cond[i].

        `net` is the network with its fixed inputs bound. `key` sets several draws of one stage apart. `known` is kept;
        with `resamples` by RePaint's sampler, which lets the rest agree with it.
        """
        name = self.name + key
        start = start or Start()
        eps = noise(seeds, name, 0, shape).to(self.device) if start.eps is None else start.eps.to(self.device)
        levels = self.sigmas(sampling)
        if start.x0 is None:
            x = self.process.start(eps, levels[0])
        else:
            levels = schedule.start_at(levels, start.strength)
            x = start.x0.to(self.device) + levels[0] * eps
        denoiser, source = self.denoiser(net, uncond, sampling), SeededNoise(tuple(seeds), name)

        def tell(step: int, n: int, x: Tensor, x0_hat: Tensor) -> None:
            if on_step:
                on_step(self.name, step, n, x0_hat)

        if known is not None:
            denoiser = known.hold(denoiser)
            if resamples:
                return repaint(denoiser, x, levels, cond, source, tell, known=known, resamples=resamples)
        return SAMPLERS[given(sampling.sampler, "euler")](denoiser, x, levels, cond, source, tell)


def repaint(
    denoiser: Denoiser,
    x: Tensor,
    levels: Sequence[float],
    cond: Any,
    source: NoiseSource,
    on_step: Callable[[int, int, Tensor, Tensor], None] | None = None,
    *,
    known: InpaintCond,
    resamples: int,
) -> Tensor:
    """RePaint (Lugmayr 2022, arXiv 2201.09865, algorithm 1): replacement, each step taken `resamples` times.

    What is known is noised to the level of the step and put into x; going back up a step and down again lets the rest
    agree with it. On x = x_t / alpha_t going up from b to a adds sqrt(a^2 - b^2) of noise, whatever the process.
    """
    n, draws = len(levels) - 1, 0
    for i, (a, b) in enumerate(pairwise(levels)):
        for take in range(resamples if b > 0 else 1):
            draws += 2
            x = torch.lerp(known.x0 + a * source(draws - 1, x), x, known.mask)
            x0 = denoiser(x, x.new_full((x.shape[0],), a), cond)
            up = b * math.sqrt(1 - (b / a) ** 2)
            down = math.sqrt(b**2 - up**2)
            fresh = source(draws, x)
            x = x0 + (down / a) * (x - x0) + up * fresh
            if take + 1 < (resamples if b > 0 else 1):
                draws += 1
                x = x + math.sqrt(a**2 - b**2) * source(draws, x)
        if on_step:
            on_step(i + 1, n, x, x0)
    return torch.lerp(known.x0, x, known.mask)
