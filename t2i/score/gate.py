"""The gate: is the model worse than the baseline, prompt by prompt?

One metric leads and decides by its interval. The others are tested too, each against its own margin, and fail the gate
only if their p-values stay significant after Holm's correction for multiple tests. FD never gates: below 10,000
pictures it depends more on their number than on their quality.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from t2i.errors import UnavailableError, UsageError
from t2i.score.baseline import ScoredSet
from t2i.score.metrics import PRIMARY, better, check_metric_names, columns, is_share
from t2i.score.statistics import LEVEL, Difference, Verdict, difference, holm
from t2i.world.reading import TASKS

DEFAULT_DROP = "5%"


@dataclass(frozen=True)
class MaxDrop:
    """How far a metric may fall: a share of its baseline's mean, or an amount in its own unit."""

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> MaxDrop:
        """``2%`` or ``0.02``. Raises UsageError."""
        try:
            value = float(text.removesuffix("%"))
        except ValueError:
            value = -1.0
        if not 0 <= value < 1e9 or (text.endswith("%") and value > 100):
            raise UsageError(f"--max-drop {text!r} cannot be read.", "Write 2% or an amount such as 0.02.")
        return cls(value / 100, True) if text.endswith("%") else cls(value, False)

    def margin(self, mean: float) -> float:
        """The margin of a metric whose baseline has this mean."""
        return abs(mean) * self.value if self.relative else self.value


@dataclass(frozen=True)
class GateCheck:
    """The comparison of one column. leads: it decides by its interval. p_holm: the corrected p-value of the others."""

    column: str
    before: float
    after: float
    result: Difference
    verdict: Verdict
    leads: bool
    p_holm: float | None


@dataclass(frozen=True)
class GateResult:
    """All checks, the leading one first. fell: the columns that regressed, worst first. prompts: units compared."""

    checks: tuple[GateCheck, ...]
    verdict: Verdict
    fell: tuple[str, ...]
    prompts: int

    def to_json(self) -> dict[str, Any]:
        """Infinite numbers become null."""
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
        check_metric_names([name.split(":")[0]])
        if not better(name):
            raise UsageError(f"{name!r} has no margin: it is shown and gates nothing.", "Leave it out.")
        out[name] = value
    return out


def run_gate(
    before: ScoredSet,
    after: ScoredSet,
    drop: MaxDrop,
    margins: Mapping[str, float] | None = None,
    primary: str | None = None,
) -> GateResult:
    """Compare every column that both scores have and that has a direction.

    drop: the margin of the leading metric, and of all others if it is relative; else they have DEFAULT_DROP. margins:
    for single columns. primary: the column that leads. Raises UnavailableError if ``primary`` is not in both, or a
    margin is of a column that is not compared; UsageError for a margin that lets a share fall to 0.
    """
    was, now = columns(before.units), columns(after.units)
    margins = margins or {}
    both = [name for name in now if name in was and better(name)]
    by_task = any(":" in name for name in both)
    both = [
        name for name in both if not (by_task and name in TASKS)
    ]  # a suite's tasks, or the judge's checks: not both
    for name in margins:
        if not any(name in (column, column.split(":")[0]) for column in both):
            what = f"--margin names {name!r}, which is not compared."
            raise UnavailableError(what, f"Compared are {', '.join(both)}.", "metric")
    leads = primary or next((name for name in PRIMARY if name in both), None)
    if leads is None or leads not in both:
        what = f"{leads!r} is not gated in both scores" if leads else f"none of {', '.join(PRIMARY)} is in both scores"
        hint = f"In both are {', '.join(both)}." if both else ""
        raise UnavailableError(f"{what}: nothing can lead the gate.", hint, "metric")
    both.remove(leads)
    lead = _compare(leads, was[leads], now[leads], drop, margins)
    others_drop = drop if drop.relative else MaxDrop.parse(DEFAULT_DROP)
    rest = [_compare(name, was[name], now[name], others_drop, margins) for name in both]
    checks = [GateCheck(leads, *lead, lead[2].verdict, True, None)]
    for name, compared, p in zip(both, rest, holm([r.p for _, _, r in rest]), strict=True):
        own: Verdict = "pass" if compared[2].verdict == "pass" else "inconclusive"
        checks.append(GateCheck(name, *compared, "regression" if p < (1 - LEVEL) / 2 else own, False, p))
    fell = sorted((c for c in checks if c.verdict == "regression"), key=_effect_size)
    verdict = "regression" if fell else checks[0].verdict
    return GateResult(tuple(checks), verdict, tuple(c.column for c in fell), checks[0].result.change.n)


def _compare(
    name: str, was: Mapping[str, float], now: Mapping[str, float], drop: MaxDrop, margins: Mapping[str, float]
) -> tuple[float, float, Difference]:
    """Mean before, mean after, and the paired difference over the units that both have."""
    units = sorted(set(was) & set(now))
    if not units:
        raise UnavailableError(f"no prompt has {name!r} in both scores.", "", "metric")
    a, b = [was[u] for u in units], [now[u] for u in units]
    mean = sum(a) / len(a)
    margin = margins.get(name, margins.get(name.split(":")[0], drop.margin(mean)))
    if margin >= 1 and is_share(name):
        raise UsageError(f"a margin of {margin:g} lets {name!r}, a share, fall to nothing.", "Write 5%, or 0.05.")
    return mean, sum(b) / len(b), difference(a, b, margin, better(name) or 1)


def _effect_size(check: GateCheck) -> float:
    """The change in standard deviations, negative for a fall; a fall without any deviation comes first."""
    sd = check.result.change.sd
    return better(check.column) * check.result.change.mean / sd if sd > 0 else float("-inf")
