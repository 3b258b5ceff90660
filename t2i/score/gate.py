"""The gate: is the model worse than the baseline, prompt by prompt?

Every metric is tested against its own margin, in the direction that is worse, and all together
(`statistics.sign_flip_test`); faults that healthy pictures hardly ever have also by how rare they are
(`statistics.rare_event_test`). The pictures of the same prompt and seed are compared with each other. Changes that may
well be for the better, "sharper" and "changed", count only where the weights are the baseline's; with other weights
they are told. FD never gates: below 10,000 pictures it depends more on their number than on their quality.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, NamedTuple

from t2i.errors import UnavailableError, UsageError
from t2i.score.baseline import ScoredSet
from t2i.score.before_after import match_pictures
from t2i.score.metric_table import METRICS, PAIRED, PRIMARY, RARE, better, check_metric_names, is_share
from t2i.score.metrics import average_by_unit, columns
from t2i.score.statistics import FEWEST, Difference, Verdict, difference, rare_event_test, sign_flip_test
from t2i.score.thumbnails import OTHER, thumb_distances
from t2i.world.reading import TASKS

DEFAULT_DROP = "5%"
ALPHA = 0.05  # how often a model that is at its margins in all metrics may fail, at most
FLIPS_SHARE = 0.8  # of ALPHA, for the sign flips; the rest is for the exact tests of what is RARE
FEWEST_OF_TASK = 10  # prompts of a task, below which only the whole suite is tested

CheckVerdict = Literal["pass", "regression", "inconclusive", "shown"]
_Compared = tuple[float, float, Difference]  # mean before, mean after, the paired difference


@dataclass(frozen=True)
class MaxDrop:
    """How far a metric may fall: a share of its baseline's mean, or an amount in its own unit."""

    value: float
    relative: bool

    @classmethod
    def parse(cls, text: str) -> MaxDrop:
        """`2%` or `0.02`. Raises UsageError."""
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
class FallenPrompt:
    """A prompt that got worse in one column."""

    metric: str
    unit: str
    before: float
    after: float


@dataclass(frozen=True)
class GateCheck:
    """The comparison of one column.

    verdict: "regression" if it got worse by more than its margin, by `p`; "pass" if its interval lies on this side of
    the margin; "shown" if it does not gate these two scores; else "inconclusive". p: corrected for all columns that
    gate; None where it does not gate. leads: it decides between "pass" and "inconclusive". units: prompt -> value
    before and after.
    """

    column: str
    before: float
    after: float
    result: Difference
    verdict: CheckVerdict
    leads: bool
    p: float | None
    units: dict[str, tuple[float, float]] = field(repr=False)

    @property
    def loss(self) -> float:
        """By how many margins it got worse; negative where it got better."""
        return -better(self.column) * self.result.change.mean / max(self.result.margin, 1e-9)

    def fallen(self) -> list[FallenPrompt]:
        """The prompts that got worse, the furthest first."""
        sign = better(self.column)
        rows = [FallenPrompt(self.column, u, a, b) for u, (a, b) in self.units.items() if sign * (b - a) < 0]
        return sorted(rows, key=lambda row: (sign * (row.after - row.before), row.unit))

    def sentence(self) -> str:
        """What happened to the pictures: "pictures are blurrier: sharpness -72%"."""
        metric = METRICS[self.column.split(":")[0]]
        if (metric.margin or DEFAULT_DROP).endswith("%") and not is_share(self.column) and self.before:
            change = f"{100 * self.result.change.mean / abs(self.before):+.0f}%"
        else:
            change = f"{self.before:.2f} to {self.after:.2f}"
        return f"{metric.fell}: {self.column} {change}"


@dataclass(frozen=True)
class GateResult:
    """All checks, the leading one first. fell: the columns that regressed, in the order of `_told_first`. told:
    sentences about what moved beyond its margin and does not gate. prompts: units compared. pairs: pictures with a
    partner before."""

    checks: tuple[GateCheck, ...]
    verdict: Verdict
    fell: tuple[str, ...]
    told: tuple[str, ...]
    prompts: int
    pairs: int

    def sentences(self) -> list[str]:
        """What happened to the pictures, in the order of `fell`."""
        by_column = {c.column: c for c in self.checks}
        return [by_column[column].sentence() for column in self.fell]

    def fallen(self, most: int) -> list[FallenPrompt]:
        """The prompts that got worse most, in the columns that regressed, in the order of `fell`, which share the
        room for `most` rows; of the leading column where none regressed."""
        by_column = {c.column: c.fallen() for c in self.checks}
        names = self.fell[:most] or (self.checks[0].column,)
        return [row for i, name in enumerate(names) for row in by_column[name][: len(range(i, most, len(names)))]]

    def to_json(self) -> dict[str, Any]:
        """Infinite numbers become null."""
        rows = []
        for c in self.checks:
            row = {"metric": c.column, "before": c.before, "after": c.after, "verdict": c.verdict, "leads": c.leads}
            numbers = {**asdict(c.result.change), "mdd": c.result.mdd, "margin": c.result.margin, "p": c.p}
            row |= {"change": numbers.pop("mean"), **numbers, "enough": c.result.enough}
            rows.append({k: None if isinstance(v, float) and abs(v) == float("inf") else v for k, v in row.items()})
        return {
            "verdict": self.verdict,
            "fell": list(self.fell),
            "says": self.sentences(),
            "told": list(self.told),
            "prompts": self.prompts,
            "pairs": self.pairs,
            "checks": rows,
        }


def parse_margins(text: str | None) -> dict[str, float]:
    """`scene=0.05,clip=1` -> margins in the metrics' own units. Raises UsageError."""
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
        out[name] = value
    return out


def run_gate(
    before: ScoredSet,
    after: ScoredSet,
    drop: MaxDrop,
    margins: Mapping[str, float] | None = None,
    primary: str | None = None,
) -> GateResult:
    """Compare every column that both scores have.

    drop: the margin of the leading metric, and, if it is relative, of all others without one of their own; else these
    have DEFAULT_DROP. margins: for single columns. primary: the column that leads. Raises UnavailableError if
    `primary` is not in both, or a margin is of a column that is not compared; UsageError for a margin that lets a
    share fall to 0.
    """
    same = bool(before.models) and before.models == after.models
    return gate_columns(compared_columns(before, after), same, drop, margins or {}, primary)


def gate_columns(
    scores: ComparedColumns, same: bool, drop: MaxDrop, margins: Mapping[str, float], primary: str | None
) -> GateResult:
    """`run_gate` of two scores that are put side by side already. same: both are of the same weights."""
    was, now = scores.was, scores.now
    both = [name for name in now if name in was]
    if any(":" in name for name in both):  # a suite's tasks gate, or the judge's single checks: not both
        both = [name for name in both if name not in TASKS]
    for name in margins:
        if not any(name in (column, column.split(":")[0]) for column in both):
            what = f"--margin names {name!r}, which is not compared."
            raise UnavailableError(what, f"Compared are {', '.join(both)}.", "metric")
    leads = primary or next((name for name in PRIMARY if name in both), both[0] if both else None)
    if leads is None or leads not in both:
        what = f"{leads!r} is not gated in both scores" if leads else "the two scores have no metric in common"
        raise UnavailableError(f"{what}.", f"In both are {', '.join(both)}." if both else "", "metric")
    both.sort(key=lambda name: name != leads)
    others_drop = drop if drop.relative else MaxDrop.parse(DEFAULT_DROP)
    units = sorted({unit for values in was.values() for unit in values})
    found = {
        name: _compare(name, was[name], now[name], drop if name == leads else others_drop, margins) for name in both
    }
    tested = [name for name in both if (same or name not in PAIRED) and _is_enough(name, found[name][2])]
    p_of = _p_values(scores, {name: found[name] for name in tested})
    checks = []
    for name, compared in found.items():
        verdict: CheckVerdict = "pass" if compared[2].verdict == "pass" else "inconclusive"
        if not same and name in PAIRED:
            verdict = "shown"
        elif p_of.get(name, 1.0) < ALPHA:
            verdict = "regression"
        values = {unit: (was[name][unit], now[name][unit]) for unit in units if unit in was[name] and unit in now[name]}
        checks.append(GateCheck(name, *compared, verdict, name == leads, p_of.get(name), values))
    fell = sorted((c for c in checks if c.verdict == "regression"), key=_told_first)
    told = [c.sentence() for c in checks if c.verdict == "shown" and c.result.verdict == "regression"]
    verdict = "regression" if fell else "pass" if checks[0].verdict == "pass" else "inconclusive"
    prompts = found[leads][2].change.n
    return GateResult(tuple(checks), verdict, tuple(c.column for c in fell), tuple(told), prompts, scores.pairs)


def _p_values(scores: ComparedColumns, found: Mapping[str, _Compared]) -> dict[str, float]:
    """Column -> the p-value of "it did not get worse by more than its margin", corrected for all columns.

    found: mean before, mean after and difference of each column. The sign flips of all columns share a part of the
    level, the exact tests of what is RARE the rest, in equal parts (Bonferroni's correction with weights). In an exact
    test a picture may have the fault as often as before, and by the margin more often.
    """
    was, now = scores.was, scores.now
    units = sorted({unit for values in was.values() for unit in values})
    flipped = [name for name in found if name != "changed"]
    gains = [[_gain(name, was[name], now[name], unit) for unit in units] for name in flipped]
    p_of = dict.fromkeys(found, 1.0)
    for name, p in zip(flipped, sign_flip_test(gains, [found[name][2].margin for name in flipped]), strict=True):
        p_of[name] = min(1.0, p / FLIPS_SHARE)
    rare = [name for name in found if name in RARE]
    for name in rare:
        pictures = scores.pairs if name == "changed" else scores.pictures
        rate = found[name][0] + found[name][2].margin
        p = rare_event_test(list(now[name].values()), rate, pictures)
        p_of[name] = min(p_of[name], len(rare) * p / (1 - FLIPS_SHARE))
    return p_of


class ComparedColumns(NamedTuple):
    """Two scores side by side: column -> unit -> value of both. pairs: of pictures. pictures: of the second score."""

    was: dict[str, dict[str, float]]
    now: dict[str, dict[str, float]]
    pairs: int
    pictures: int


def compared_columns(before: ScoredSet, after: ScoredSet) -> ComparedColumns:
    """The columns of two scores.

    A unit that has pictures of the same prompt and seed on both sides is compared by these pictures alone; any other by
    the means of its pictures. "changed" is there for units with pairs.
    """
    pairs, _ = match_pictures(before.rows, after.rows)
    pairs = [(a, b) for a, b in pairs if a.unit == b.unit]
    paired = {a.unit for a, _ in pairs}
    sides = [
        [*average_by_unit(rows), *(u for u in score.units if u.unit not in paired)]
        for score, rows in ((before, [a for a, _ in pairs]), (after, [b for _, b in pairs]))
    ]
    was, now = map(columns, sides)
    for values in (was, now):
        if "sharpness" in values:
            values["sharper"] = values["sharpness"]
    if pairs:
        changed: dict[str, list[float]] = defaultdict(list)
        for (a, _), distance in zip(pairs, thumb_distances(pairs), strict=True):
            changed[a.unit].append(float(distance > OTHER))
        was["changed"] = dict.fromkeys(changed, 0.0)
        now["changed"] = {unit: sum(values) / len(values) for unit, values in changed.items()}
    return ComparedColumns(was, now, len(pairs), sum(unit.pictures for unit in sides[1]))


def _told_first(check: GateCheck) -> tuple[int, float, int]:
    """The order in which findings are told: how pictures look, which is often the cause; then what they show; then
    that they changed. Among these the furthest fall, in margins; equal ones in the order of METRICS, since less
    contrast is less sharpness, too."""
    name = check.column.split(":")[0]
    kind = 2 if name in PAIRED else 0 if METRICS[name].needs in ("", "several") else 1
    return kind, -round(check.loss, 1), list(METRICS).index(name)


def _is_enough(name: str, result: Difference) -> bool:
    """Whether a column has the prompts that a verdict needs; tasks, which are tested beside the whole, need more."""
    return result.change.n >= (FEWEST_OF_TASK if ":" in name else FEWEST)


def _gain(name: str, was: Mapping[str, float], now: Mapping[str, float], unit: str) -> float | None:
    """How much better a unit got; None if one side does not have it."""
    return better(name) * (now[unit] - was[unit]) if unit in was and unit in now else None


def _compare(
    name: str, was: Mapping[str, float], now: Mapping[str, float], drop: MaxDrop, margins: Mapping[str, float]
) -> _Compared:
    """Mean before, mean after, and the paired difference over the units that both have."""
    units = sorted(set(was) & set(now))
    if not units:
        raise UnavailableError(f"no prompt has {name!r} in both scores.", "", "metric")
    a, b = [was[u] for u in units], [now[u] for u in units]
    mean = sum(a) / len(a)
    metric = name.split(":")[0]
    own = METRICS[metric].margin
    margin = (MaxDrop.parse(own) if own else drop).margin(mean)
    margin = margins.get(name, margins.get(metric, margin))
    if margin >= 1 and is_share(name):
        raise UsageError(f"a margin of {margin:g} lets {name!r}, a share, fall to nothing.", "Write 5%, or 0.05.")
    return mean, sum(b) / len(b), difference(a, b, margin, better(name))
