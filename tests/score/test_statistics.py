"""Intervals and verdicts: against mpmath, and by repeating an experiment whose answer is known."""

from __future__ import annotations

import math

import numpy as np
import pytest

from t2i.score.statistics import (
    FEWEST,
    detectable,
    difference,
    interval,
    rare_event_test,
    sign_flip_test,
    t_cdf,
    t_quantile,
)

RUNS, PROMPTS, SEEDS = 500, 100, 4


@pytest.mark.parametrize("df", [1, 2, 5, 30, 99, 2000])
def test_students_t_against_the_incomplete_beta_function(df: int) -> None:
    mpmath = pytest.importorskip("mpmath")

    def cdf(t: float) -> float:
        tail = float(mpmath.betainc(df / 2, 0.5, 0, df / (df + t * t), regularized=True)) / 2
        return 1 - tail if t > 0 else tail

    for t in (-30.0, -2.0, -0.1, 0.0, 0.7, 1.96, 8.0):
        assert t_cdf(t, df) == pytest.approx(cdf(t), rel=1e-9, abs=1e-14)
    for p in (0.025, 0.2, 0.5, 0.8, 0.975, 0.9995):
        assert cdf(t_quantile(p, df)) == pytest.approx(p, rel=1e-9)


def test_known_points() -> None:
    assert t_quantile(0.975, 4) == pytest.approx(2.776445, abs=1e-6)
    assert t_cdf(math.inf, 3) == 1 and t_cdf(-math.inf, 3) == 0
    assert t_cdf(1.0, 1) == pytest.approx(0.75, abs=1e-12)  # Cauchy: 1/2 + arctan(t)/π
    m = interval([0.0, 1.0, 1.0, 0.0, 1.0])
    assert m.mean == pytest.approx(0.6)
    assert m.high - m.mean == pytest.approx(2.776445 * math.sqrt(0.3 / 5), rel=1e-6)
    assert interval([0.5]).high == math.inf and interval([0.5]).within(0, 1).high == math.inf
    cut = interval([0.0, 0.0, 0.1]).within(0, 1)
    assert cut.low == 0 and cut.high == pytest.approx(1 / 30 + 4.302653 * 0.1 / 3, rel=1e-6)


def experiment(seed: int, fall: float) -> tuple[list[float], list[float], float]:
    """Two runs of 100 prompts with four fresh seeds each: easy and hard prompts, and noise of the seeds."""
    rng = np.random.default_rng(seed)
    prompt = rng.normal(0, 1.0, (PROMPTS, 1))
    before = (prompt + rng.normal(0, 1.0, (PROMPTS, SEEDS))).mean(1)
    after = (prompt + rng.normal(0, 1.0, (PROMPTS, SEEDS))).mean(1) - fall
    return list(before), list(after), math.sqrt(2 / SEEDS)


def test_equal_models_are_seldom_told_apart() -> None:
    """500 comparisons of a model with itself: 3 to 7% find a difference, and half of those a regression."""
    results = [difference(*experiment(seed, 0.0)[:2]) for seed in range(RUNS)]
    alarms = sum(r.change.low > 0 or r.change.high < 0 for r in results) / RUNS
    assert 0.03 <= alarms <= 0.07
    assert sum(r.verdict == "regression" for r in results) / RUNS < 0.05


def test_a_planted_least_difference_is_found_four_times_in_five() -> None:
    sd = experiment(0, 0.0)[2]
    fall = detectable(sd, PROMPTS)
    assert fall == pytest.approx(2.83 * sd / math.sqrt(PROMPTS), rel=0.01)
    found = [difference(*experiment(seed, fall)[:2]).verdict == "regression" for seed in range(RUNS)]
    assert 0.75 <= sum(found) / RUNS <= 0.85


def test_the_verdict_follows_the_interval_and_the_margin() -> None:
    before = [0.5] * 20
    fallen = [0.4 + 0.01 * (-1) ** i for i in range(20)]  # -0.1, half width about 0.005
    assert difference(before, fallen, 0.0).verdict == "regression"
    assert difference(before, fallen, 0.08).verdict == "regression"
    assert difference(before, fallen, 0.1).verdict == "inconclusive"
    assert difference(before, fallen, 0.12).verdict == "pass"
    assert difference(before, fallen, 0.0, better=-1).verdict == "pass"
    assert difference(fallen, before, 0.0, better=-1).verdict == "regression"
    same = difference(before, before, 0.0)
    assert same.verdict == "pass" and same.mdd == 0 and same.p == 1
    few = difference(before[: FEWEST - 1], fallen[: FEWEST - 1], 0.0)
    assert few.verdict == "inconclusive"


def test_p_agrees_with_the_verdict() -> None:
    for seed in range(40):
        before, after, _ = experiment(seed, 0.2)
        r = difference(before, after, 0.05)
        assert (r.verdict == "regression") == (r.p < 0.025)


def test_enough_prompts_would_decide() -> None:
    before, after, _ = experiment(3, 0.0)
    r = difference(before, after, 0.1)
    assert r.enough is not None
    assert detectable(r.change.sd, r.enough, PROMPTS - 1) <= 0.1 < detectable(r.change.sd, r.enough - 2, PROMPTS - 1)


def flips(seed: int, metrics: int = 12, prompts: int = 8, fall: float = 0.0) -> list[float]:
    """p-values of metrics that share half of their variance; the first falls by ``fall`` standard deviations."""
    rng = np.random.default_rng(seed)
    x = rng.standard_t(3, (metrics, prompts)) + rng.standard_t(3, prompts)
    x[0] -= fall * x[0].std()
    return sign_flip_test(x.tolist(), [0.0] * metrics)


def test_flips_of_an_unchanged_model_fail_it_in_one_of_twenty() -> None:
    """Twelve correlated metrics of long tails, eight prompts: the rate of any false alarm is the level."""
    assert 0.03 <= sum(min(flips(seed)) < 0.05 for seed in range(RUNS)) / RUNS <= 0.07


def test_flips_find_what_fell_and_name_it() -> None:
    found = [flips(seed, fall=4.0) for seed in range(100)]
    assert sum(ps[0] < 0.05 for ps in found) >= 95
    assert sum(min(ps[1:]) < 0.05 for ps in found) <= 8


def test_flips_of_one_metric_are_counted_by_hand() -> None:
    """Three prompts have eight flips: all of -1, -2, -3 fell, and no other flip is as low."""
    assert sign_flip_test([[-1.0, -2.0, -3.0]], [0.0]) == [1 / 8]
    assert sign_flip_test([[-1.0, -2.0, -3.0]], [3.0]) == [1.0]
    assert sign_flip_test([[-3.0, 1.0, -3.0]], [0.0]) == [2 / 8]
    assert sign_flip_test([[-1.0, None, -3.0]], [0.0]) == [1 / 4]  # a prompt without a value has no flip
    assert sign_flip_test([[0.0] * 8, [0.0] * 8], [0.1, 0.0]) == [1.0, 1.0]
    assert sign_flip_test([], []) == []


def test_prompts_with_the_same_pictures_have_nothing_to_flip() -> None:
    """Five of eight prompts fell, the others are as they were: one flip of 2^5 is as low. The margin is one of the mean
    over all eight, so that four that fell by two margins each fell by just the margin."""
    assert sign_flip_test([[-9.0] * 5 + [0.0] * 3], [1.0]) == [1 / 32]
    assert sign_flip_test([[-2.0] * 4 + [0.0] * 4], [1.0]) == [1.0]
    # a prompt in which another metric moved has moved
    assert sign_flip_test([[-9.0] * 5 + [0.0] * 3, [0.0] * 7 + [1.0]], [0.0, 0.0])[0] == 2 / 64


def test_what_never_happens_by_chance() -> None:
    """Eight prompts of two pictures, each hit with a probability of .002: of a prompt, .004."""
    assert rare_event_test([0.0] * 8, 0.002, 16) == 1.0
    assert rare_event_test([0.5] + [0.0] * 7, 0.002, 16) == pytest.approx(1 - 0.996**8)
    two = 1 - 0.996**8 - 8 * 0.004 * 0.996**7
    assert rare_event_test([0.5, 1.0] + [0.0] * 6, 0.002, 16) == pytest.approx(two)


def test_what_would_decide_is_more_than_what_did_not() -> None:
    """Of prompts enough to tell no change from a fall, a change beside the margin asks for more."""
    found = [difference([0.0] * 8, [x - fall for x in SPREAD], 0.5) for fall in (0.3, 0.45, 0.5)]
    assert {r.verdict for r in found} == {"inconclusive"}
    few, many, none = (r.enough for r in found)
    assert none is None and few is not None and many is not None and 8 < few < many


SPREAD = [-0.3, 0.3] * 4
