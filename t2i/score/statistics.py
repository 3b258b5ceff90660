"""Error bars, paired differences and verdicts: Student's t on one value a prompt.

Pictures of one prompt resemble one another, so that the prompt, not the picture, is what is counted: intervals over
pictures are far too narrow (scoring.md gives the measured coverage of either).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

LEVEL = 0.95
POWER = 0.80
MOST = 100_000  # prompts; where even these would not decide, no number is given
FEWEST = 5  # fewer prompts decide nothing: their deviation may be nought by chance

Verdict = Literal["pass", "regression", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided interval at LEVEL; infinite ends where one value says nothing about others."""

    mean: float
    low: float
    high: float
    n: int
    sd: float


@dataclass(frozen=True)
class Difference:
    """After minus before, over the prompts that both have, and what could have been seen.

    mdd: the smallest true difference found with a probability of POWER: (t_.975 + t_.80)·sd/√n, 2.80·sd/√n for
    many prompts. enough: how many prompts would decide about ``margin`` if nothing had changed, or, where there were
    so many, if the change stays as it is; None without a margin, and where no number in reach would.
    """

    change: Interval
    mdd: float
    margin: float
    verdict: Verdict
    p: float  # of no fall below -margin, one-sided
    enough: int | None


def incomplete_beta(a: float, b: float, x: float) -> float:
    """The regularised incomplete beta function I_x(a, b), by its continued fraction (Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the other side converges fast
        return 1 - incomplete_beta(b, a, 1 - x)
    tiny, front = 1e-300, math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b)
    front = math.exp(front + a * math.log(x) + b * math.log1p(-x)) / a
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    value = d
    for m in range(1, 400):
        even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m))
        odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))
        step = 1.0
        for term in (even, odd):
            d = 1 / _away(1 + term * d, tiny)
            c = _away(1 + term / c, tiny)
            step *= c * d
            value *= c * d
        if abs(step - 1) < 1e-14:
            break
    return front * value


def _away(x: float, tiny: float) -> float:
    return x if abs(x) > tiny else tiny


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) of Student's t with ``df`` degrees of freedom."""
    if math.isinf(t):
        return float(t > 0)
    tail = incomplete_beta(df / 2, 0.5, df / (df + t * t)) / 2
    return 1 - tail if t > 0 else tail


@lru_cache(maxsize=4096)
def t_quantile(p: float, df: int) -> float:
    """The t with P(T <= t) = p, by halving."""
    assert 0 < p < 1 and df >= 1
    if p < 0.5:
        return -t_quantile(1 - p, df)
    low, high = 0.0, 1.0
    while t_cdf(high, df) < p:
        high *= 2
    for _ in range(80):
        middle = (low + high) / 2
        low, high = (middle, high) if t_cdf(middle, df) < p else (low, middle)
    return (low + high) / 2


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean and t interval of one value a prompt."""
    n = len(values)
    assert n > 0
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n, math.inf)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, sd)


def share(values: Sequence[float]) -> Interval:
    """Mean and 95% interval of shares, the interval cut to [0, 1].

    Where all values are 0 or all are 1, t has no width; the end is then the exact one (Clopper and Pearson 1934) of
    n trials without a failure, or without a success: 0.025^(1/n) and its mirror.
    """
    m = interval(values)
    low, high, exact = max(0.0, m.low), min(1.0, m.high), 0.025 ** (1 / m.n)
    if set(values) == {1.0}:
        low = exact
    elif set(values) == {0.0}:
        high = 1 - exact
    return replace(m, low=low, high=high)


def difference(before: Sequence[float], after: Sequence[float], margin: float = 0.0, better: int = 1) -> Difference:
    """The paired difference of one metric, and whether it fell by more than ``margin`` (>= 0, in its units).

    better: 1 where more is better, -1 where less is; the verdict is about falling in that sense, the change is
    after - before as it is. regression: the interval lies beyond the margin; inconclusive: it straddles it, or
    there are fewer than FEWEST prompts; pass: it lies on this side.
    """
    assert len(before) == len(after) and margin >= 0 and better in (1, -1)
    change = interval([b - a for a, b in zip(before, after, strict=True)])
    n = change.n
    low, high = sorted((better * change.low, better * change.high))
    if n < FEWEST:
        return Difference(change, math.inf, margin, "inconclusive", 1.0, None)
    error = change.sd / math.sqrt(n)
    gain = better * change.mean + margin
    p = t_cdf(gain / error, n - 1) if error > 0 else float(gain >= 0)
    if high < -margin:
        verdict: Verdict = "regression"
    else:
        verdict = "pass" if low >= -margin else "inconclusive"
    mdd = detectable(change.sd, n)
    enough = None
    if margin > 0 and change.sd > 0:
        enough = math.ceil((detectable(change.sd, 1, n - 1) / margin) ** 2)
        if verdict == "inconclusive" and enough <= n:  # so many would tell no change from a fall; this one lies between
            off = abs(better * change.mean + margin)
            width = t_quantile((1 + LEVEL) / 2, n - 1) * change.sd
            enough = math.ceil((width / off) ** 2) if off * MOST**0.5 > width else None
    return Difference(change, mdd, margin, verdict, p, enough)


def detectable(sd: float, n: int, df: int | None = None) -> float:
    """The true difference that n prompts find with a probability of POWER, at LEVEL."""
    degrees = df or n - 1
    return (t_quantile((1 + LEVEL) / 2, degrees) + t_quantile(POWER, degrees)) * sd / math.sqrt(n)


def holm(ps: Sequence[float]) -> list[float]:
    """p-values adjusted for being many (Holm 1979), in the order given."""
    out, least = [0.0] * len(ps), 0.0
    for rank, i in enumerate(sorted(range(len(ps)), key=lambda i: ps[i])):
        least = max(least, min(1.0, (len(ps) - rank) * ps[i]))
        out[i] = least
    return out
