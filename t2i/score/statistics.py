"""Means with confidence intervals, paired differences and verdicts, by Student's t.

The unit of the statistics is the prompt, not the picture: pictures of one prompt resemble one another, so intervals
over pictures would be far too narrow. Each function takes one value per prompt.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.95
POWER = 0.80
FLIPS = 1 << 12  # of `sign_flip_test`, at most
MOST = 100_000  # the largest number of prompts that `Difference.enough` suggests
FEWEST = 5  # with fewer prompts the verdict is "inconclusive": their standard deviation may be 0 by chance

Verdict = Literal["pass", "regression", "inconclusive"]


@dataclass(frozen=True)
class Interval:
    """A mean with its two-sided 95% interval, which is infinite for a single value.

    n: number of values. sd: their standard deviation (n - 1 in the denominator), infinite for n = 1.
    """

    mean: float
    low: float
    high: float
    n: int
    sd: float

    def within(self, least: float, most: float) -> Interval:
        """The interval of a mean that cannot lie outside [least, most]; an infinite one stays as it is."""
        if not math.isfinite(self.low):
            return self
        return replace(self, low=max(self.low, least), high=min(self.high, most))


@dataclass(frozen=True)
class Difference:
    """A paired difference (after minus before) over the prompts that both sides have, and its power.

    mdd: minimum detectable difference, the smallest true difference found with probability POWER:
    (t_.975 + t_.80)·sd/√n, about 2.80·sd/√n. p: one-sided p-value of "it did not fall by more than the margin".
    enough: how many prompts would decide about this margin; None without a margin, or where more than MOST would be
    needed. It assumes no true change; where even that many prompts are already there, it assumes the change seen.
    """

    change: Interval
    mdd: float
    margin: float
    verdict: Verdict
    p: float
    enough: int | None


def t_cdf(t: float, df: int) -> float:
    """P(T <= t) of Student's t distribution with `df` degrees of freedom."""
    from scipy.special import stdtr  # 0.3 s to import: only where a statistic is asked for

    return float(stdtr(df, t))


def t_quantile(p: float, df: int) -> float:
    """The t with P(T <= t) = p, 0 < p < 1."""
    from scipy.special import stdtrit

    assert 0 < p < 1 and df >= 1
    return float(stdtrit(df, p))


def interval(values: Sequence[float], level: float = LEVEL) -> Interval:
    """Mean and t interval of one value per prompt (at least one value)."""
    n = len(values)
    assert n > 0
    mean = math.fsum(values) / n
    if n < 2:
        return Interval(mean, -math.inf, math.inf, n, math.inf)
    sd = math.sqrt(math.fsum((v - mean) ** 2 for v in values) / (n - 1))
    half = t_quantile((1 + level) / 2, n - 1) * sd / math.sqrt(n)
    return Interval(mean, mean - half, mean + half, n, sd)


def share_interval(values: Sequence[float]) -> Interval:
    """Mean and 95% interval of shares in [0, 1]; the interval is clipped to [0, 1].

    Where all values are 0, or all are 1, the t interval has no width. Its open end is then the exact binomial bound of
    n trials (Clopper and Pearson 1934): 1 - 0.025^(1/n), or 0.025^(1/n).
    """
    m = interval(values)
    low, high, exact = max(0.0, m.low), min(1.0, m.high), 0.025 ** (1 / m.n)
    if set(values) == {1.0}:
        low = exact
    elif set(values) == {0.0}:
        high = 1 - exact
    return replace(m, low=low, high=high)


def difference(before: Sequence[float], after: Sequence[float], margin: float = 0.0, better: int = 1) -> Difference:
    """The paired difference of one metric, and whether it fell by more than `margin` (>= 0, in its own unit).

    better: 1 if more is better, -1 if less is; `Difference.change` is after - before in either case.
    Verdict: "regression" if the whole interval lies beyond the margin, "pass" if it lies on this side,
    "inconclusive" if it straddles the margin or there are fewer than FEWEST prompts.
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
        if verdict == "inconclusive" and enough <= n:
            # n would tell no change from a fall, but the change seen lies close to the margin and needs more prompts
            distance = abs(better * change.mean + margin)
            width = t_quantile((1 + LEVEL) / 2, n - 1) * change.sd
            enough = math.ceil((width / distance) ** 2) if distance * MOST**0.5 > width else None
    return Difference(change, mdd, margin, verdict, p, enough)


def detectable(sd: float, n: int, df: int | None = None) -> float:
    """Minimum detectable difference of n prompts at level LEVEL and power POWER. df: n - 1 unless given."""
    degrees = df or n - 1
    return (t_quantile((1 + LEVEL) / 2, degrees) + t_quantile(POWER, degrees)) * sd / math.sqrt(n)


def sign_flip_test(gains: Sequence[Sequence[float | None]], margins: Sequence[float]) -> list[float]:
    """For each metric, the p-value of "it did not get worse by more than its margin", corrected for all metrics.

    gains: [metric][prompt], how much better a metric got (None: not measured for this prompt). margins: >= 0.

    Before and after of an unchanged model may be exchanged in each prompt, which flips the sign of its differences in
    all metrics at once; so the flips give the joint distribution of the statistics, with no assumption about their
    shape, and the largest statistic over the metrics gives p-values that hold for the family (Westfall and Young 1993,
    the single-step maxT procedure). At a true change of exactly the margin this asks that the differences be symmetric.
    A metric that is clearly on the good side of its margin, T > sqrt(2 log log n), is left out of the
    largest, so that one that improved does not hide one that fell (Hansen 2005, A Test for Superior Predictive
    Ability, eq. 9). All 2^n flips are taken up to FLIPS, else FLIPS random ones, the same in every run.

    Prompts in which nothing at all moved, because their pictures are the same, have nothing to flip. They are left out,
    and the margin of the mean is that of the sum for the others: n/k of it for the k of n prompts that moved.

    The statistic is Student's t with a part of the margin added to the standard deviation,
    T = √n·(mean + margin) / sqrt(sd² + (margin/4)²): a metric that is nearly constant does not make a large t of a tiny
    change.
    """
    if not (m := len(gains)):
        return []
    x = np.array([[np.nan if v is None else v for v in row] for row in gains], np.float64).reshape(m, -1)
    there = ~np.isnan(x)
    prompts, moved = there.sum(axis=1), (there & (x != 0)).any(axis=0)
    x, there = x[:, moved], there[:, moved]
    n, counts = x.shape[1], np.maximum(there.sum(axis=1), 1)
    if not n:
        return [1.0] * m
    margin = (np.asarray(margins, np.float64) * prompts / counts)[:, None]
    x = np.where(there, x + margin, 0.0)
    squares, floor = (x**2).sum(axis=1), np.maximum((margin[:, 0] / 4) ** 2, 1e-18)

    def worst(signs: NDArray[np.float64]) -> NDArray[np.float64]:
        """-T of every flip and metric: (flips, n) -> (flips, m)."""
        mean = signs @ x.T / counts
        variance = np.maximum(squares - counts * mean**2, 0.0) / np.maximum(counts - 1, 1)
        t: NDArray[np.float64] = -mean * np.sqrt(counts / (variance + floor))
        return t

    if 2**n <= FLIPS:
        bits = (np.arange(2**n)[:, None] >> np.arange(n)) & 1
        signs = 1.0 - 2.0 * bits.astype(np.float64)  # the first is the identity
    else:
        signs = 2.0 * np.random.default_rng(0).integers(0, 2, (FLIPS, n)).astype(np.float64) - 1.0
        signs[0] = 1.0
    found = worst(signs[:1])[0]
    good = math.sqrt(2 * math.log(max(1.0, math.log(max(n, 2)))))
    if not (near := found > -good).any():
        return [1.0] * m
    largest = worst(signs)[:, near].max(axis=1)
    slack = 1e-9 * np.maximum(1.0, np.abs(found))  # equal sums that were added in another order
    return [float((largest >= value).mean()) for value in found - slack]


def rare_event_test(shares: Sequence[float], rate: float, pictures: int) -> float:
    """The p-value of "a picture is hit with a probability of at most `rate`", by the exact binomial test.

    shares: of each prompt's pictures that were hit. pictures: of all prompts. The trials are the prompts, because
    the pictures of one are alike; one of k pictures is hit with a probability of at most k·rate.
    """
    from scipy.special import bdtrc

    n, hit = len(shares), sum(share > 0 for share in shares)
    return float(bdtrc(hit - 1, n, min(1.0, rate * pictures / n))) if hit else 1.0
