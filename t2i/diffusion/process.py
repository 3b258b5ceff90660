"""Noise processes: x_t = alpha_t x_0 + sigma_t eps, with a time t that grows with the noise.

A noise level is given by one of two numbers. `t` is the process' own time; networks are conditioned on it. The
noise-to-signal ratio `sigma = sigma_t / alpha_t` is the variable of the samplers: they work on x = x_t / alpha_t =
x_0 + sigma eps, which makes all processes alike (Karras 2022, arXiv 2206.00364, table 1).

Shapes: times and ratios are tensors of any shape, usually (B,), and results have the same shape; x_0, eps (B, ...).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Annotated, Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor

from t2i.errors import UsageError
from t2i.schema import Between, build

Time = Annotated[float, Between(1e-6, 0.999999)]


def expand(v: Tensor, like: Tensor) -> Tensor:
    """(B,) -> (B, 1, ...) with as many dimensions as `like`, on its device and in its dtype."""
    return v.to(like.device, like.dtype).reshape(-1, *[1] * (like.ndim - 1))


@runtime_checkable
class Process(Protocol):
    """What samplers, denoisers and losses ask of a noise process."""

    kind: ClassVar[str]

    @property
    def t_range(self) -> tuple[float, float]:
        """The lowest and the highest time that schedules use; sigma is finite on it."""

    def alpha_t(self, t: Tensor) -> Tensor: ...
    def sigma_t(self, t: Tensor) -> Tensor: ...

    def sigma(self, t: Tensor) -> Tensor:
        """The ratio sigma_t / alpha_t."""

    def t(self, sigma: Tensor) -> Tensor:
        """The inverse of `sigma`, clamped to times a network knows."""

    def alpha_at(self, sigma: Tensor) -> Tensor:
        """alpha_t as a function of the ratio; exact where going through t would round."""

    def training_time(self, u: Tensor) -> Tensor:
        """A time for training, from u in [0, 1]: 0 is no noise, 1 the most."""

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        """x_t (B, ...) of x0 (B, ...), t (B,) and eps (B, ...)."""

    def start(self, eps: Tensor, sigma: float) -> Tensor:
        """The start of a full trajectory, as x = x_t / alpha_t, from unit noise."""


@dataclass(frozen=True)
class Flow:
    """Rectified flow: alpha_t = 1 - t, sigma_t = t, sigma = t / (1 - t) (Liu 2022, arXiv 2209.03003).

    `t_max` keeps the ratio finite (999 at .999). `t_min` is the last level above 0 of geometric schedules.
    """

    kind: ClassVar[str] = "flow"
    t_min: Time = 0.002
    t_max: Time = 0.999

    @property
    def t_range(self) -> tuple[float, float]:
        return self.t_min, self.t_max

    def alpha_t(self, t: Tensor) -> Tensor:
        return 1 - t

    def sigma_t(self, t: Tensor) -> Tensor:
        return t

    def sigma(self, t: Tensor) -> Tensor:
        t = t.clamp(0, self.t_max)
        return t / (1 - t)

    def t(self, sigma: Tensor) -> Tensor:
        return (sigma / (1 + sigma)).clamp(max=self.t_max)

    def alpha_at(self, sigma: Tensor) -> Tensor:
        return 1 / (1 + sigma)

    def training_time(self, u: Tensor) -> Tensor:
        return u.clamp(0, self.t_max)

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return _mix(self, x0, t, eps)

    def start(self, eps: Tensor, sigma: float) -> Tensor:
        return sigma * eps


@dataclass(frozen=True)
class VP:
    """Variance-preserving process: alpha_t^2 + sigma_t^2 = 1.

    `T = 0`: continuous time, t in [0, t_max]. `t_min` is the last level above 0 of geometric schedules.
    `cosine`: alpha_t = cos(pi/2 (t + s)/(1 + s)), s = .008 (Nichol 2021, arXiv 2102.09672, eq. 17).
    `linear`: the limit of DDPM's betas (Song 2021, arXiv 2011.13456, eq. 33).

    `T > 0`: a table of T betas as in DDPM (Ho 2020, arXiv 2006.11239); t is in [0, T - 1], and log sigma is
    interpolated between two entries. `beta_start` and `beta_end` are those of a table of 1000. Raises UsageError
    (code `config`) for an unknown schedule.
    """

    kind: ClassVar[str] = "vp"
    schedule: Literal["cosine", "linear", "scaled_linear"] = "cosine"
    T: Annotated[int, Between(0, 100_000)] = 0
    beta_start: Annotated[float, Between(1e-8, 0.999)] = 1e-4
    beta_end: Annotated[float, Between(1e-8, 0.999)] = 2e-2
    t_min: Time = 0.001
    t_max: Time = 0.999

    def __post_init__(self) -> None:
        if self.schedule not in ("cosine", "linear", "scaled_linear"):
            raise UsageError(
                f"There is no noise schedule called {self.schedule!r}.",
                "Use cosine, linear or scaled_linear.",
                "config",
            )
        if self.T == 1:
            raise UsageError("A table of noise levels has at least 2 entries.", "Set T to 0 or more than 1.", "config")
        if self.schedule == "scaled_linear" and not self.T:
            raise UsageError("The scaled_linear schedule is a table.", "Set T (1000 for open checkpoints).", "config")

    @property
    def t_range(self) -> tuple[float, float]:
        return (0.0, self.T - 1.0) if self.T else (self.t_min, self.t_max)

    def alpha_t(self, t: Tensor) -> Tensor:
        return self.alpha_at(self.sigma(t))

    def sigma_t(self, t: Tensor) -> Tensor:
        s = self.sigma(t)
        return s * self.alpha_at(s)

    def sigma(self, t: Tensor) -> Tensor:
        u = _f64(t).clamp(0, self.t_range[1])
        if self.T:
            log_s = _table(self).to(u.device)
            i = u.floor().long().clamp(max=self.T - 2)
            s = torch.lerp(log_s[i], log_s[i + 1], u - i).exp()
        elif self.schedule == "cosine":
            s = torch.tan((u + 0.008) / 1.008 * (math.pi / 2))
        else:
            b0, b1 = 1000 * self.beta_start, 1000 * self.beta_end
            s = torch.expm1(u * b0 + u**2 * (b1 - b0) / 2).sqrt()
        return s.to(t.device, t.dtype if t.is_floating_point() else torch.float32)

    def t(self, sigma: Tensor) -> Tensor:
        s = _f64(sigma)
        if self.T:
            log_s = _table(self).to(s.device)
            v = s.log().clamp(log_s[0], log_s[-1])
            i = (torch.searchsorted(log_s, v, right=True) - 1).clamp(0, self.T - 2)
            t = i + (v - log_s[i]) / (log_s[i + 1] - log_s[i])
            # A float32 sigma is exact to about 1e-4 of a step; an entry of the table must map to its own integer.
            t = torch.where((t - t.round()).abs() < 1e-3, t.round(), t)
        elif self.schedule == "cosine":
            t = torch.atan(s) * (1.008 / (math.pi / 2)) - 0.008
        else:
            b0, d = 1000 * self.beta_start, 1000 * (self.beta_end - self.beta_start)
            c = torch.log1p(s**2)
            t = 2 * c / (b0 + (b0**2 + 2 * d * c).sqrt())
        return t.clamp(0, self.t_range[1]).to(sigma.device, sigma.dtype)

    def alpha_at(self, sigma: Tensor) -> Tensor:
        return (1 + sigma**2).rsqrt()

    def training_time(self, u: Tensor) -> Tensor:
        if self.T:
            return (u * self.T).floor().clamp(0, self.T - 1)
        return u.clamp(0, self.t_max)

    def add_noise(self, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
        return _mix(self, x0, t, eps)

    def start(self, eps: Tensor, sigma: float) -> Tensor:
        # The process ends at x_T ~ N(0, I), so x = eps / alpha_T, not sigma * eps.
        return eps * math.sqrt(1 + sigma**2)


def _f64(v: Tensor) -> Tensor:
    # Apple's GPUs have no float64. These are B numbers, so moving them to the CPU costs nothing.
    return v.to("cpu" if v.device.type == "mps" else v.device, torch.float64)


def _mix(process: Process, x0: Tensor, t: Tensor, eps: Tensor) -> Tensor:
    return expand(process.alpha_t(t), x0) * x0 + expand(process.sigma_t(t), x0) * eps


@lru_cache(maxsize=16)
def _table(p: VP) -> Tensor:
    """log(sigma_t / alpha_t) of the T entries, (T,) float64, increasing."""
    if p.schedule == "cosine":
        bar = torch.cos((torch.arange(p.T + 1, dtype=torch.float64) / p.T + 0.008) / 1.008 * (math.pi / 2)) ** 2
        betas = (1 - bar[1:] / bar[:-1]).clamp(max=0.999)
    elif p.schedule == "linear":
        betas = torch.linspace(p.beta_start, p.beta_end, p.T, dtype=torch.float64)
    else:
        betas = torch.linspace(p.beta_start**0.5, p.beta_end**0.5, p.T, dtype=torch.float64) ** 2
    log_bar = torch.log1p(-betas).cumsum(0)
    return 0.5 * (torch.log(-torch.expm1(log_bar)) - log_bar)


PROCESSES: dict[str, type[Flow | VP]] = {"flow": Flow, "vp": VP}
"""The kinds of process that a manifest or a recipe can name."""


def from_config(config: Mapping[str, Any]) -> Flow | VP:
    """The process of a table {"kind": "flow" | "vp", ...fields}. Raises UsageError (code `config`)."""
    fields = dict(config)
    kind = fields.pop("kind", None)
    if kind not in PROCESSES:
        raise UsageError(f"There is no noise process called {kind!r}.", f"Use {' or '.join(PROCESSES)}.", "config")
    try:
        process: Flow | VP = build(PROCESSES[kind], fields, "process")
    except ValueError as error:
        what = f"The settings of the {kind} process cannot be used: {error}."
        raise UsageError(what, "Look at the process in the stage's config.json.", "config") from error
    return process
