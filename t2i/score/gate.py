"""The gate: is the model worse than the baseline, prompt by prompt?

One metric leads and decides by its interval. The others are tested too, each against its own margin, and fail the
gate only when their p-values survive Holm's correction for being many. FD never gates: below ten thousand pictures it
measures their number more than their quality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from t2i.errors import UnavailableError, UsageError
from t2i.score.baseline import Score
from t2i.score.metrics import METRICS, PRIMARY, SHARES, better, check_names, columns
from t2i.score.statistics import LEVEL, Difference, Verdict, difference, holm
from t2i.world.reading import TASKS

DEFAULT_DROP = "5%"


@dataclass(frozen=True)
class Drop:
    """How far a metric may fall: a share of its baseline's mean, or an amount in its own units."""

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> Drop:
        """``2%`` or ``0.02``. Raises UsageError."""
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9 or (text.endswith("%") and value > 100):
            raise UsageError(f"--max-drop {text!r} cannot be read.", "Write 2% or an amount such as 0.02.")
        return cls(value / 100, True) if text.endswith("%") else cls(value, False)

    def of(self, mean: float) -> float:
        """The margin for a metric whose baseline has this mean."""
        return abs(mean) * self.value if self.relative else self.value


@dataclass(frozen=True)
class Check:
    """One column compared. p_holm: corrected for how many were tested; None for the one that leads."""

    column: str
    before: float
    after: float
    result: Difference
    verdict: Verdict
    leads: bool
    p_holm: float | None


@dataclass(frozen=True)
class Outcome:
    """All checks, the leading one first. fell: the columns that regressed, worst first."""

    checks: tuple[Check, ...]
    verdict: Verdict
    fell: tuple[str, ...]
    prompts: int

    def table(self) -> dict[str, Any]:
        """As JSON: infinite numbers are null."""
        rows = []
        for c in self.checks:
            row = {"metric": c.column, "before": c.before, "after": c.after, "verdict": c.verdict, "leads": c.leads}
            numbers = {**asdict(c.result.change), "mdd": c.result.mdd, "margin": c.result.margin, "p": c.result.p}
            row |= {"change": numbers.pop("mean"), **numbers, "p_holm": c.p_holm, "enough": c.result.enough}
            rows.append({k: None if isinstance(v, float) and abs(v) == float("inf") else v for k, v in row.items()})
        return {"verdict": self.verdict, "fell": list(self.fell), "prompts": self.prompts, "checks": rows}


def parse_margins(text: str | None) -> dict[str, float]:
    """``scene=0.05,clip=1`` -> margins in the metrics' own units. Raises UsageError."""
    out: dict[str, float] = {}
    for part in text.split(",") if text else ():
        name, _, number = part.partition("=")
        name = name.strip()
        try:
            value = float(number)
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9:
            raise UsageError(f"--margin {text!r} cannot be read.", "Write METRIC=AMOUNT, as in scene=0.05,clip=1")
        if name in out:
            raise UsageError(f"--margin names {name!r} twice.", "Say one margin for each metric.")
        check_names([name.split(":")[0]])
        if not better(name):
            raise UsageError(f"{name!r} has no margin: it is shown and gates nothing.", "Leave it out.")
        out[name] = value
    return out


def compare(
    before: Score, after: Score, drop: Drop, margins: Mapping[str, float] | None = None, primary: str | None = None
) -> Outcome:
    """Every column that both have, with a direction.

    Raises UnavailableError where ``primary`` is in neither, or a margin is of a column that is not compared.
    """
    was, is_now = columns(before.units), columns(after.units)
    both = [name for name in is_now if name in was and better(name)]
    tasks = any(":" in name for name in both)
    both = [name for name in both if not (tasks and name in TASKS)]  # a suite's tasks, or its checks: not both
    for name in margins or {}:
        if not any(name in (column, column.split(":")[0]) for column in both):
            what = f"--margin names {name!r}, which is not compared."
            raise UnavailableError(what, f"Compared are {', '.join(both)}.", "metric")
    leads = primary or next((name for name in PRIMARY if name in both), None)
    if leads is None or leads not in both:
        what = f"{leads!r} is not gated in both scores" if leads else f"none of {', '.join(PRIMARY)} is in both scores"
        hint = f"In both are {', '.join(both)}." if both else ""
        raise UnavailableError(f"{what}: nothing can lead the gate.", hint, "metric")
    both.remove(leads)
    lead = _check(leads, was[leads], is_now[leads], drop, margins or {})
    share = drop if drop.relative else Drop.parse(DEFAULT_DROP)
    rest = [_check(name, was[name], is_now[name], share, margins or {}) for name in both]
    checks = [Check(leads, *lead, lead[2].verdict, True, None)]
    for name, found, p in zip(both, rest, holm([r.p for _, _, r in rest]), strict=True):
        own: Verdict = "pass" if found[2].verdict == "pass" else "inconclusive"
        checks.append(Check(name, *found, "regression" if p < (1 - LEVEL) / 2 else own, False, p))
    fell = sorted((c for c in checks if c.verdict == "regression"), key=_how_far)
    verdict = "regression" if fell else checks[0].verdict
    return Outcome(tuple(checks), verdict, tuple(c.column for c in fell), checks[0].result.change.n)


def _check(
    name: str, was: Mapping[str, float], now: Mapping[str, float], drop: Drop, margins: Mapping[str, float]
) -> tuple[float, float, Difference]:
    units = sorted(set(was) & set(now))
    if not units:
        raise UnavailableError(f"no prompt has {name!r} in both scores.", "", "metric")
    a, b = [was[u] for u in units], [now[u] for u in units]
    mean = sum(a) / len(a)
    margin = margins.get(name, margins.get(name.split(":")[0], drop.of(mean)))
    if margin >= 1 and name.split(":")[0] in SHARES:
        raise UsageError(f"a margin of {margin:g} lets {name!r}, a share, fall to nothing.", "Write 5%, or 0.05.")
    return mean, sum(b) / len(b), difference(a, b, margin, better(name) or 1)


def _how_far(check: Check) -> float:
    """The fall in standard deviations, as a negative number; a fall without any deviation is the furthest."""
    sd = check.result.change.sd
    return METRICS[check.column.split(":")[0]].better * check.result.change.mean / sd if sd > 0 else float("-inf")
