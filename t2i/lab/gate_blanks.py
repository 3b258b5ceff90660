"""What the exact test of the gate does with blank pictures, by sums over the binomial distribution, without pictures.

n prompts have two pictures each, and each picture is blank with the same probability, on its own.
"""

from __future__ import annotations

import numpy as np

from t2i.score.gate import ALPHA, FLIPS_SHARE
from t2i.score.metric_table import METRICS, RARE
from t2i.score.statistics import POWER, rare_event_test

EACH = 2  # pictures of a prompt
MARGIN = float(METRICS["blank"].margin)
SHARES = np.linspace(0, 1, 1001)


def least_share(n: int) -> float:
    """The least share of blank pictures that four of five experiments find, where none was blank before and the weights
    are the same."""
    from scipy.special import bdtrc

    hit = 1 - (1 - SHARES) ** EACH  # the chance of a prompt
    return float(SHARES[np.argmax(bdtrc(_least_prompts(n, 0.0, len(RARE)) - 1, n, hit) >= POWER)])


def worst_alarm(n: int) -> tuple[float, float]:
    """The chance that fresh seeds of a model fail, at the share of blank pictures where it is largest; and this share.
    The weights are others, so that "changed" is not tested."""
    from scipy.special import bdtr, bdtrc

    counts = np.arange(EACH * n + 1)  # of blank pictures before
    least = np.array([_least_prompts(n, count / (EACH * n), len(RARE) - 1) for count in counts])
    chance = np.diff(bdtr(counts[:, None], EACH * n, SHARES), axis=0, prepend=0.0)  # (counts, shares)
    failed = np.where(least[:, None] > n, 0.0, bdtrc(least[:, None] - 1, n, 1 - (1 - SHARES) ** EACH))
    alarms = (chance * failed).sum(axis=0)
    return float(alarms.max()), float(SHARES[alarms.argmax()])


def _least_prompts(n: int, before: float, tests: int) -> int:
    """With how many prompts that have a blank picture the gate fails; n + 1 if not even with all of them. before: the
    share of blank pictures in the baseline. tests: exact tests that share the level."""
    level, rate = ALPHA * (1 - FLIPS_SHARE) / tests, before + MARGIN
    found = (k for k in range(1, n + 1) if rare_event_test([1.0] * k + [0.0] * (n - k), rate, EACH * n) < level)
    return next(found, n + 1)
