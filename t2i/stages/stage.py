"""What all diffusion stages share: a network as a denoiser, its defaults, and the run down a schedule."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from t2i.diffusion.denoiser import Denoiser, Net, NetDenoiser, Prediction
from t2i.diffusion.guidance import classifier_free, dynamic_threshold
from t2i.diffusion.process import VP, Flow
from t2i.diffusion.samplers import SAMPLERS
from t2i.diffusion.schedule import sigmas
from t2i.errors import UsageError, nearest
from t2i.rng import SeededNoise, noise

#: on_step(stage, step 1..n, n, the estimate x0_hat (B, ...))
OnStep = Callable[[str, int, int, Tensor], None]


@dataclass(frozen=True)
class Dials:
    """How a stage is sampled. guidance 1 is none; interval: the sigmas (lo, hi] that are guided; threshold:
    (percentile in (0, 1], cap) of dynamic thresholding, or None."""

    steps: int = 8
    guidance: float = 1.0
    sampler: str = "euler"
    schedule: str = "uniform_t"
    interval: tuple[float, float] | None = None
    threshold: tuple[float, float] | None = None

    def changed(self, **values: Any) -> Dials:
        """The same with the values that are not None. Raises UsageError for a sampler that does not exist."""
        new = replace(self, **{k: v for k, v in values.items() if v is not None})
        if new.sampler not in SAMPLERS:
            near = ", ".join(nearest(new.sampler, list(SAMPLERS)) or SAMPLERS)
            raise UsageError(f"there is no sampler {new.sampler!r}.", f"Did you mean {near}?")
        return new


@dataclass
class Stage:
    """A named diffusion stage. dials: its defaults, from the manifest; prediction: what its network says."""

    name: str
    net: nn.Module
    process: Flow | VP
    prediction: Prediction
    dials: Dials

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

    def run(
        self,
        net: Net,
        shape: Sequence[int],
        cond: Any,
        uncond: Any,
        dials: Dials,
        seeds: Sequence[int],
        on_step: OnStep | None = None,
        *,
        key: str = "",
    ) -> Tensor:
        """From unit noise to x_0 (B, *shape) float32 by `dials`; row i is a function of seeds[i] and cond[i].

        `net` is the network with its fixed inputs bound. `key` sets several draws of one stage apart.
        """
        name = self.name + key
        eps = noise(seeds, name, 0, shape).to(self.device)
        dtype = self.dtype

        def typed(x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
            return net(x_t.to(dtype), t, cond)

        denoiser: Denoiser = NetDenoiser(typed, self.process, self.prediction)
        denoiser = classifier_free(denoiser, uncond, dials.guidance, dials.interval)
        if dials.threshold:
            percentile, cap = dials.threshold
            denoiser = dynamic_threshold(denoiser, percentile * 100, cap)
        levels = sigmas(dials.schedule, self.process, dials.steps)

        def tell(step: int, n: int, x: Tensor, x0_hat: Tensor) -> None:
            if on_step:
                on_step(self.name, step, n, x0_hat)

        start = self.process.start(eps, levels[0])
        return SAMPLERS[dials.sampler](denoiser, start, levels, cond, SeededNoise(tuple(seeds), name), tell)
