"""What all diffusion stages share: the network as a denoiser, the stage's defaults, and the sampling loop."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from t2i.diffusion import schedule
from t2i.diffusion.denoiser import Denoiser, Net, NetDenoiser, Prediction
from t2i.diffusion.guidance import classifier_free, dynamic_threshold, static_threshold, unguided
from t2i.diffusion.process import VP, Flow
from t2i.diffusion.samplers import SAMPLERS, repaint
from t2i.engine import OnStep
from t2i.rng import SeededNoise, noise
from t2i.sampling import SamplingConfig, given


@dataclass(frozen=True)
class GuidedCond:
    """The conditions of guidance, all of one structure, see `classifier_free`.

    cond: that of B pictures. uncond: the learned null, of batch B or 1. negative: what the pictures should not show, of
    batch B or 1; None: nothing is named.
    """

    cond: Any
    uncond: Any
    negative: Any = None


@dataclass(frozen=True)
class Start:
    """Where sampling starts, if not at the seeds' own noise.

    eps (B, *shape): unit noise that replaces the seeds', for example from DDIM inversion.
    x0 (B, *shape): a picture to start from, noised to the level at which the last `strength` in (0, 1] of the steps
    begin (SDEdit: Meng 2021, arXiv 2108.01073).
    """

    eps: Tensor | None = None
    x0: Tensor | None = None
    strength: float = 1.0


@dataclass(frozen=True)
class InpaintCond:
    """Inpainting: keep x0 (B, *shape) where mask (B, 1, ...) is 0, paint where it is 1."""

    x0: Tensor
    mask: Tensor

    def hold(self, denoiser: Denoiser) -> Denoiser:
        """The denoiser with the known part of its estimate replaced by x0 (GLIDE: Nichol 2021, section 4)."""

        def held(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
            return torch.lerp(self.x0, denoiser(x, sigma, cond), self.mask)

        return held


@dataclass
class Stage:
    """A diffusion stage.

    name: the stage's name in the manifest; it also separates the noise of the stages. prediction: what the network's
    output means. defaults: how the stage is sampled unless a request says otherwise, from the manifest.
    """

    name: str
    net: nn.Module
    process: Flow | VP
    prediction: Prediction
    defaults: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def config(self) -> Any:
        """The network's config, for example a `UNetConfig`."""
        return self.net.config

    @property
    def dtype(self) -> torch.dtype:
        """The network's number format. Samplers always compute in float32."""
        return next(self.net.parameters()).dtype

    @property
    def device(self) -> torch.device:
        """The network's device."""
        return next(self.net.parameters()).device

    def sigmas(self, sampling: SamplingConfig) -> list[float]:
        """steps + 1 noise levels, decreasing, the last one 0. Raises UsageError for an unknown schedule, or for a
        `t_end` where sampling cannot stop."""
        levels = schedule.sigmas(given(sampling.schedule, "uniform_t"), self.process, given(sampling.steps, 8))
        return schedule.stop_at(levels, self.process, given(sampling.t_end, 0.0))

    def denoiser(self, net: Net, uncond: Any, sampling: SamplingConfig, negative: Any = None) -> Denoiser:
        """`net` as a denoiser with guidance and thresholding.

        net: the stage's network with its fixed inputs bound. uncond, negative: as in `classifier_free`.

        A student's estimate of a condition c is D(uncond) + w (D(c) - D(uncond)) with w = `sampling.distilled`, and
        D(uncond) without one. So guidance of weight g by the teacher is that of weight g / w by the student, with the
        same conditions.
        """
        dtype, own = self.dtype, given(sampling.distilled, 1.0)

        def typed(x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
            return net(x_t.to(dtype), t, cond)

        denoiser: Denoiser = NetDenoiser(typed, self.process, self.prediction)
        scale = given(sampling.guidance, own) / own
        denoiser = classifier_free(denoiser, uncond, scale, sampling.interval, negative=negative)
        if sampling.threshold == "static":
            denoiser = static_threshold(denoiser)
        elif sampling.threshold and sampling.threshold != "none":
            percentile, cap = sampling.threshold
            denoiser = dynamic_threshold(denoiser, percentile, cap)
        return denoiser

    def plain(self, net: Net, without: Callable[[Any], Any]) -> Net:
        """`net`, as of `denoiser`, without a student's guidance: see `t2i.diffusion.guidance.unguided`."""
        return unguided(net, given(self.defaults.distilled, 1.0), without)

    def run(
        self,
        net: Net,
        shape: Sequence[int],
        cond: GuidedCond,
        sampling: SamplingConfig,
        seeds: Sequence[int],
        on_step: OnStep | None = None,
        *,
        key: str = "",
        start: Start | None = None,
        known: InpaintCond | None = None,
        resamples: int = 0,
    ) -> Tensor:
        """Sample x_0 (B, *shape), float32. Row i depends on seeds[i] and row i of the conditions alone.

        net: the stage's network with its fixed inputs bound. key: gives several draws of one stage different noise.
        start: where to start, if not at noise. known: what to keep; with `resamples` > 0 by RePaint, whatever the
        sampler, else by replacing the estimate.
        """
        name = self.name + key
        start = start or Start()
        eps = noise(seeds, name, 0, shape).to(self.device) if start.eps is None else start.eps.to(self.device)
        sigmas = self.sigmas(sampling)
        if start.x0 is None:
            x = self.process.start(eps, sigmas[0])
        else:
            sigmas = schedule.start_at(sigmas, start.strength)
            x = start.x0.to(self.device) + sigmas[0] * eps
        denoiser, source = self.denoiser(net, cond.uncond, sampling, cond.negative), SeededNoise(tuple(seeds), name)

        def tell(step: int, n: int, x: Tensor, x0_hat: Tensor) -> None:
            if on_step:
                on_step(self.name, step, n, x0_hat)

        if known is not None:
            denoiser = known.hold(denoiser)
            if resamples:
                return repaint(denoiser, x, sigmas, cond.cond, source, tell, known.x0, known.mask, resamples)
        return SAMPLERS[given(sampling.sampler, "euler")](denoiser, x, sigmas, cond.cond, source, tell)
