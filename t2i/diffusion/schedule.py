"""Sampling schedules: the n + 1 decreasing noise-to-signal ratios sigma of n steps; the last one is 0.

A schedule is a function (process, n, keyword settings) -> list, registered in `SCHEDULES`. Lists hold Python floats:
a slice is a partial trajectory, and samplers compute their coefficients in float64.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch

from t2i.diffusion.process import VP, Flow, Process
from t2i.errors import UsageError


def _ends(process: Process, sigma_min: float | None, sigma_max: float | None) -> tuple[float, float]:
    lo, hi = process.sigma(torch.tensor(process.t_range, dtype=torch.float64)).tolist()
    lo, hi = (lo if sigma_min is None else sigma_min), (hi if sigma_max is None else sigma_max)
    if not 0 < lo < hi:
        raise UsageError(
            f"A schedule cannot run from sigma {hi:g} down to {lo:g}.", "sigma_min < sigma_max, both above 0."
        )
    return lo, hi


def karras(
    process: Process,
    n: int,
    *,
    sigma_min: float | None = None,
    sigma_max: float | None = None,
    rho: float = 7.0,
) -> list[float]:
    """sigma^(1/rho) in equal steps (Karras 2022, arXiv 2206.00364, eq. 5); the process' ends by default."""
    lo, hi = _ends(process, sigma_min, sigma_max)
    a, b = hi ** (1 / rho), lo ** (1 / rho)
    return [(a + i / max(n - 1, 1) * (b - a)) ** rho for i in range(n)] + [0.0]


def logsnr(process: Process, n: int, *, sigma_min: float | None = None, sigma_max: float | None = None) -> list[float]:
    """log sigma in equal steps, which is the log SNR (Lu 2022, arXiv 2206.00927)."""
    lo, hi = _ends(process, sigma_min, sigma_max)
    return [hi * math.exp(i / max(n - 1, 1) * math.log(lo / hi)) for i in range(n)] + [0.0]


def uniform_t(process: Process, n: int) -> list[float]:
    """The process' own time in equal steps from its end to 0."""
    t = process.t_range[1] * (1 - torch.arange(n, dtype=torch.float64) / n)
    return [*process.sigma(t).tolist(), 0.0]


def shifted(process: Process, n: int, *, shift: float = 1.0) -> list[float]:
    """Flow time in equal steps, then t' = s t / (1 + (s - 1) t) (Esser 2024, arXiv 2403.03206, eq. 23).

    s > 1 moves steps to high noise, which larger pictures need. Flow time is t = sigma / (1 + sigma), so this works for
    any process. The first t' is the process' highest level, so that no step is lost to the clamp at t_max.
    """
    if shift <= 0:
        raise UsageError(f"A shift of {shift:g} makes no sense.", "Use a number above 0; 1 is no shift.")
    top = float(process.sigma(torch.tensor(process.t_range[1], dtype=torch.float64))) / shift
    t = [top / (1 + top) * (1 - i / n) for i in range(n)]
    return [shift * v / (1 - v) for v in t] + [0.0]


def _steps(process: Process) -> int:
    if isinstance(process, VP) and process.T:
        return process.T
    raise UsageError(
        "The leading, trailing and linspace schedules belong to a table of noise levels.",
        "Use karras, logsnr, uniform_t or shifted.",
        "config",
    )


def leading(process: Process, n: int, *, offset: int = 0, multistep: bool = False) -> list[float]:
    """Timesteps k * (T // n) + offset, k = n-1 .. 0 (named as in Lin 2023, arXiv 2305.08891, table 2).

    `multistep`: the spacing of diffusers' multistep solvers, of n + 1 timesteps without the lowest.
    """
    T, m = _steps(process), n + multistep
    return _table_levels(process, [k * (T // m) + offset for k in range(m)][::-1][:n])


def linspace(process: Process, n: int, *, multistep: bool = False) -> list[float]:
    """n rounded timesteps from T - 1 to 0, both ends kept (of n + 1 without the lowest if `multistep`)."""
    T, m = _steps(process), n + multistep
    return _table_levels(process, [round(k * (T - 1) / max(m - 1, 1)) for k in range(m)][::-1][:n])


def trailing(process: Process, n: int) -> list[float]:
    """Timesteps T - k * T / n - 1 rounded, k = 0 .. n-1; always starts at the noisiest level."""
    T = _steps(process)
    return _table_levels(process, [round(T - k * T / n) - 1 for k in range(n)])


def _table_levels(process: Process, t: Sequence[int]) -> list[float]:
    if len(set(t)) < len(t) or t[0] >= _steps(process):
        raise UsageError(f"{len(t)} steps do not fit into the {_steps(process)} of this model.", "Use fewer steps.")
    return [*process.sigma(torch.tensor(t, dtype=torch.float64)).tolist(), 0.0]


Schedule = Callable[..., list[float]]

SCHEDULES: dict[str, Schedule] = {
    "karras": karras,
    "logsnr": logsnr,
    "uniform_t": uniform_t,
    "shifted": shifted,
    "leading": leading,
    "linspace": linspace,
    "trailing": trailing,
}
"""The schedules that a stage's manifest or a user can name."""


def sigmas(name: str, process: Flow | VP, n: int, **settings: Any) -> list[float]:
    """The schedule called `name` for `n` >= 1 steps. Raises UsageError for an unknown name or setting."""
    if name not in SCHEDULES:
        raise UsageError(f"There is no schedule called {name!r}.", f"Use {', '.join(SCHEDULES)}.")
    if n < 1:
        raise UsageError(f"{n} steps are too few.", "Use 1 or more.")
    known = SCHEDULES[name].__kwdefaults__ or {}
    unknown = sorted(set(settings) - set(known))
    if unknown:
        raise UsageError(f"The schedule {name} has no setting {unknown[0]!r}.", f"It has {', '.join(known) or 'none'}.")
    return SCHEDULES[name](process, n, **settings)


def start_at(levels: Sequence[float], strength: float) -> list[float]:
    """The last ceil(strength * n) of n steps, for `strength` in (0, 1] (SDEdit: Meng 2021, arXiv 2108.01073).

    Raises UsageError for another strength.
    """
    if not 0 < strength <= 1:
        raise UsageError(f"A strength of {strength:g} makes no sense.", "Use a number above 0 and at most 1.")
    n = len(levels) - 1
    return list(levels)[n - math.ceil(strength * n - 1e-9) :]


def stop_at(levels: Sequence[float], process: Process, t_end: float) -> list[float]:
    """The levels, moved up so that the lowest above 0 is at time `t_end` of the process; the number of steps stays.

    Times are moved in proportion to their distance from the first, which stays. Levels that are high enough already are
    returned unchanged. Truncated conditioning (Ho 2021, arXiv 2106.15282, section 4.1), except that the last step still
    leads to sigma 0: to the estimate x0_hat. Raises UsageError for a time outside of [0, t of the first level).
    """
    times: list[float] = process.t(torch.tensor(levels[:-1], dtype=torch.float64)).tolist()
    top, lowest = times[0], times[-1]
    if not 0 <= t_end < top:
        raise UsageError(f"Sampling cannot stop at t = {t_end:g}.", f"Use 0 or more, and less than {top:g}.", "config")
    if lowest >= t_end or len(times) == 1:
        return list(levels)
    moved = [top - (top - t) * (top - t_end) / (top - lowest) for t in times]
    return [*process.sigma(torch.tensor(moved, dtype=torch.float64)).tolist(), 0.0]
