"""Everything that one run of `t2i score` found, in the words and rows that all its reports share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from t2i.score.baseline import Score
from t2i.score.gate import Outcome
from t2i.score.metrics import SHARES, Row, better, columns
from t2i.score.pairs import Pair, Tier
from t2i.score.sets import Distances
from t2i.score.statistics import FEWEST, Interval, Verdict, interval, share

if TYPE_CHECKING:
    from t2i.score.measure import Clock

MOST_FALLEN = 20  # prompts that --json names


@dataclass
class Report:
    """score: what was measured; before: the baseline; outcome: their comparison; pairs: worst first, with the tier
    that they may not pass; set_verdict: of KID against --alpha."""

    score: Score
    rows: Sequence[Row]
    clock: Clock
    before: Score | None = None
    outcome: Outcome | None = None
    distances: Distances | None = None
    set_verdict: Verdict | None = None
    pairs: Sequence[Pair] = ()
    tier: Tier = "far"
    warnings: list[str] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict | None:
        """Of everything that was gated: the worst."""
        order: tuple[Verdict, ...] = ("pass", "inconclusive", "regression")
        found = [v for v in (self.outcome and self.outcome.verdict, self.set_verdict, self.pair_verdict) if v]
        return max(found, key=order.index) if found else None

    @property
    def pair_verdict(self) -> Verdict | None:
        order = ("exact", "close", "far")
        if not self.pairs or self.tier == "far":
            return None
        return "regression" if any(order.index(p.tier) > order.index(self.tier) for p in self.pairs) else "pass"

    def headline(self) -> str:
        """The verdict in one line."""
        units, compared = len(self.score.units), self.outcome.prompts if self.outcome else None
        of = f"{compared} of " if compared not in (None, units) else ""
        pictures = f"{count(self.score.pictures, 'picture')}, {of}{count(units, 'prompt')}"
        if self.pairs:
            pictures += f", {count(len(self.pairs), 'pair')}"
        if self.verdict is None:
            return pictures
        fell = list(self.outcome.fell) if self.outcome else []
        fell += ["KID"] if self.set_verdict == "regression" else []
        fell += ["same pictures"] if self.pair_verdict == "regression" else []
        return f"{self.verdict}{': ' + ', '.join(fell) if fell else ''} ({pictures})"

    def intervals(self) -> dict[str, Interval]:
        """Column -> mean over units with its interval, which lies in [0, 1] for shares."""
        out = {}
        for name, values in columns(self.score.units).items():
            of = share if name.split(":")[0] in SHARES else interval
            out[name] = of(list(values.values()))
        return out

    def means(self) -> list[tuple[str, str, str, str]]:
        """Rows of the table: metric, mean, interval, prompts."""
        return [(name, number(m.mean), span(m), str(m.n)) for name, m in self.intervals().items()]

    def checks(self) -> list[tuple[str, ...]]:
        """Rows of the gate's table."""
        out: list[tuple[str, ...]] = []
        for c in self.outcome.checks if self.outcome else ():
            ch = c.result.change
            name = c.column + (" *" if c.leads else "")
            cells = (number(c.before), number(c.after), number(ch.mean), span(ch), number(c.result.margin))
            out.append((name, *cells, number(c.result.mdd), c.verdict))
        return out

    def remarks(self) -> list[str]:
        """What the gate could have seen, and what would decide it."""
        if not self.outcome:
            return []
        lead = self.outcome.checks[0]
        r = lead.result
        out = [
            f"{lead.column} leads, over {count(r.change.n, 'prompt')}. The least difference found four times in five: "
            f"{number(r.mdd)}; margin {number(r.margin)}."
        ]
        if r.change.n < FEWEST:
            out = [
                f"{lead.column} leads, over {count(r.change.n, 'prompt')}.",
                "Fewer than five prompts decide nothing.",
            ]
        elif lead.verdict == "inconclusive" and r.enough:
            out.append(f"About {r.enough} prompts would decide about this margin.")
        return out

    def worst(self, most: int) -> list[tuple[str, str, float, float]]:
        """(column, unit, before, after) of the leading metric where it fell, furthest first."""
        if not self.outcome or not self.before:
            return []
        name = self.outcome.checks[0].column
        was, now = columns(self.before.units)[name], columns(self.score.units)[name]
        sign = better(name) or 1
        rows = [(name, u, was[u], now[u]) for u in now if u in was and sign * (now[u] - was[u]) < 0]
        return sorted(rows, key=lambda row: (sign * (row[3] - row[2]), row[1]))[:most]

    def tiers(self) -> str:
        """How many pairs are exact, close and far."""
        counts = Counter(p.tier for p in self.pairs)
        return "Before and after: " + ", ".join(f"{counts[t]} {t}" for t in ("exact", "close", "far")) + "."

    def labels(self) -> dict[str, int]:
        """Label -> pictures it is the likeliest of."""
        return dict(Counter(row.label[0] for row in self.rows if row.label).most_common())

    def table(self) -> dict[str, Any]:
        """The whole as JSON, without the rows."""
        intervals = {
            name: {"mean": m.mean, "low": finite(m.low), "high": finite(m.high), "prompts": m.n}
            for name, m in self.intervals().items()
        }
        c = self.clock
        return {
            "verdict": self.verdict,
            "recipe": self.score.recipe.table(),
            "metrics": intervals,
            "gate": self.outcome.table() if self.outcome else None,
            "fell": [{"metric": m, "unit": u, "before": a, "after": b} for m, u, a, b in self.worst(MOST_FALLEN)],
            "set": self.distances.table() if self.distances else None,
            "pairs": [p.table() for p in self.pairs],
            "labels": self.labels(),
            "warnings": self.warnings,
            "time": {
                "seconds": c.total,
                "networks": c.networks,
                "share": c.share,
                "pictures": c.pictures,
                "remembered": c.remembered,
            },
        }


def collapse(rows: Sequence[Row]) -> list[str]:
    """Sentences about a set that a broken generator made: pictures repeated, blank, or all alike."""
    out = []
    n = len(rows)
    for name, most, what in (("duplicate", 0.1, "repeat another"), ("blank", 0.0, "show nothing")):
        found = sum(row.values.get(name, 0.0) > 0 for row in rows)
        if found > most * n:
            out.append(f"{found} of {n} pictures {what}")
    return out


def count(n: int, what: str) -> str:
    """One picture, two pictures."""
    return f"{n} {what}{'s' * (n != 1)}"


def number(x: float) -> str:
    """Three figures, or as many as a whole number has; a dash for what so few prompts cannot say."""
    if not math.isfinite(x):
        return "–"
    return f"{x + 0.0:.3f}".replace("-0.000", "0.000") if abs(x) < 100 else f"{x:.1f}"


def span(m: Interval) -> str:
    """An interval in words; a dash where it has no ends."""
    return f"{number(m.low)} to {number(m.high)}" if math.isfinite(m.low) else "–"


def finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
