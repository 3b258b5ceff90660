"""Everything that one run of `t2i score` found, in the words and table rows that all its outputs share."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from t2i.score.baseline import ScoredSet
from t2i.score.before_after import TIERS, PicturePair, Tier
from t2i.score.gate import FallenPrompt, GateResult
from t2i.score.metric_table import bounds, is_counted
from t2i.score.metrics import PictureScore, columns
from t2i.score.set_distances import SetDistances
from t2i.score.statistics import FEWEST, Interval, Verdict, interval, share_interval

if TYPE_CHECKING:
    from t2i.score.features import ExtractionTime

MAX_FALLEN = 20  # prompts that --json names
MAX_NAMED = 3  # pictures that a warning names
FLAWS = {"duplicate": (0.1, "repeat another"), "blank": (0.0, "show nothing")}
"""Metric -> the share of pictures above which it is warned of, and what they do."""
GATE_HEAD = ("metric", "before", "after", "change", "95% interval", "margin", "detectable", "verdict")
MEANS_HEAD = ("metric", "mean", "95% interval", "prompts")


@dataclass
class Report:
    """The result of a run.

    checks: `task_scores.check_scores` of the suite. before, gate: the baseline and the comparison with it. distances,
    set_verdict: the comparison with another set, and whether its KID passes --alpha. pairs, tier: pictures before and
    after, worst first, and the tier that all must reach. notes: what could not be measured, as sentences.
    """

    score: ScoredSet
    rows: Sequence[PictureScore]
    time: ExtractionTime
    before: ScoredSet | None = None
    gate: GateResult | None = None
    distances: SetDistances | None = None
    set_verdict: Verdict | None = None
    pairs: Sequence[PicturePair] = ()
    tier: Tier = "far"
    warnings: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    checks: dict[str, Interval] = field(default_factory=dict)

    @property
    def verdict(self) -> Verdict | None:
        """The worst verdict of all gates; None if there was no gate."""
        order: tuple[Verdict, ...] = ("pass", "inconclusive", "regression")
        verdicts = [v for v in (self.gate and self.gate.verdict, self.set_verdict, self.pair_verdict) if v]
        return max(verdicts, key=order.index) if verdicts else None

    @property
    def pair_verdict(self) -> Verdict | None:
        if not self.pairs or self.tier == "far":
            return None
        return "regression" if any(p.is_beyond(self.tier) for p in self.pairs) else "pass"

    @property
    def _unit(self) -> str:
        """What a unit is called; a picture without a prompt is one of its own."""
        return "prompt" if any(row.picture.prompt for row in self.rows) else "picture"

    def headline(self) -> str:
        """The verdict in one line."""
        units, compared = len(self.score.units), self.gate.prompts if self.gate else None
        some = compared not in (None, units)
        pictures = count(self.score.pictures, "picture")
        if self._unit == "prompt":
            pictures += f", {f'{compared} of ' if some else ''}{count(units, 'prompt')}"
        elif some:
            pictures += f", {compared} compared"
        if self.pairs:
            pictures += f", {count(len(self.pairs), 'pair')}"
        if self.verdict is None:
            return pictures
        fell = list(self.gate.fell) if self.gate else []
        fell += ["KID"] if self.set_verdict == "regression" else []
        fell += ["same pictures"] if self.pair_verdict == "regression" else []
        return f"{self.verdict}{': ' + ', '.join(fell) if fell else ''} ({pictures})"

    def intervals(self) -> dict[str, Interval]:
        """Column -> mean over units with its interval."""
        return {
            name: share_interval(list(values.values()))
            if is_counted(name)
            else interval(list(values.values())).within(*bounds(name))
            for name, values in columns(self.score.units).items()
        }

    def mean_rows(self) -> list[tuple[str, str, str, str]]:
        """The rows of the table of means, under MEANS_HEAD."""
        return [(name, number(m.mean), interval_text(m), str(m.n)) for name, m in self.intervals().items()]

    def gate_rows(self) -> list[tuple[str, ...]]:
        """The rows of the gate's table, under GATE_HEAD. The leading metric has a star."""
        out: list[tuple[str, ...]] = []
        for c in self.gate.checks if self.gate else ():
            change = c.result.change
            name = c.column + (" *" if c.leads else "")
            means = (number(c.before), number(c.after), number(change.mean), interval_text(change))
            out.append((name, *means, number(c.result.margin), number(c.result.mdd), c.verdict))
        return out

    def remarks(self) -> list[str]:
        """What happened to the pictures, what moved and does not gate, the power of the gate, and how many prompts
        would decide."""
        if not self.gate:
            return []
        said = [f"{sentence[0].upper()}{sentence[1:]}." for sentence in self.gate.sentences()]
        said += [f"Not gated, because the weights are others or not known: {sentence}." for sentence in self.gate.told]
        return said + self._power()

    def _power(self) -> list[str]:
        assert self.gate is not None
        lead = self.gate.checks[0]
        r = lead.result
        if r.change.n < FEWEST:
            return [
                f"{lead.column} leads, over {count(r.change.n, self._unit)}.",
                f"Fewer than five {self._unit}s decide nothing.",
            ]
        out = [
            f"{lead.column} leads, over {count(r.change.n, self._unit)}. "
            f"The least difference found four times in five: {number(r.mdd)}; margin {number(r.margin)}."
        ]
        if lead.verdict == "inconclusive" and r.enough:
            out.append(f"About {r.enough} {self._unit}s would decide about this margin.")
        return out

    def fallen(self, most: int) -> list[FallenPrompt]:
        """`GateResult.fallen`; empty without a gate."""
        return self.gate.fallen(most) if self.gate else []

    def tier_counts(self) -> str:
        """How many pairs are exact, close and far, as a sentence."""
        counts = Counter(p.tier for p in self.pairs)
        return "Before and after: " + ", ".join(f"{counts[t]} {t}" for t in TIERS) + "."

    def label_counts(self) -> dict[str, int]:
        """Label -> number of pictures for which it is the likeliest."""
        return dict(Counter(row.label[0] for row in self.rows if row.label).most_common())

    def to_json(self) -> dict[str, Any]:
        """The whole report without the rows of the pictures."""
        metrics = {
            name: {"mean": m.mean, "low": finite(m.low), "high": finite(m.high), "prompts": m.n}
            for name, m in self.intervals().items()
        }
        t = self.time
        return {
            "verdict": self.verdict,
            "recipe": self.score.recipe.to_json(),
            "metrics": metrics,
            "gate": self.gate.to_json() if self.gate else None,
            "fell": [asdict(row) for row in self.fallen(MAX_FALLEN)],
            "set": self.distances.to_json() if self.distances else None,
            "pairs": [p.to_json() for p in self.pairs],
            "labels": self.label_counts(),
            "warnings": self.warnings,
            **{name: flawed(self.rows, name) for name in FLAWS},
            "notes": self.notes,
            "time": {
                "seconds": t.total,
                "networks": t.networks,
                "share": t.share,
                "pictures": t.pictures,
                "remembered": t.cached,
            },
        }


def flawed(rows: Sequence[PictureScore], name: str) -> list[str]:
    """The names of the pictures that have the fault ``name``, one of `FLAWS`."""
    return [row.picture.name for row in rows if row.values.get(name, 0.0) > 0]


def collapse_warnings(rows: Sequence[PictureScore]) -> list[str]:
    """Sentences about a set from a collapsed generator: repeated or blank pictures. The first `MAX_NAMED` are named."""
    out = []
    for name, (most, what) in FLAWS.items():
        found = flawed(rows, name)
        if len(found) > most * len(rows):
            shown = ", ".join(found[:MAX_NAMED])
            more = f" and {len(found) - MAX_NAMED} more" if len(found) > MAX_NAMED else ""
            out.append(f"{len(found)} of {len(rows)} pictures {what}: {shown}{more}")
    return out


def count(n: int, noun: str) -> str:
    """ "1 picture", "2 pictures"."""
    return f"{n} {noun}{'s' * (n != 1)}"


def number(x: float) -> str:
    """Three decimals below 100, else one; a dash for infinities and NaN."""
    if not math.isfinite(x):
        return "–"
    return f"{x + 0.0:.3f}".replace("-0.000", "0.000") if abs(x) < 100 else f"{x:.1f}"


def interval_text(m: Interval) -> str:
    """ "0.1 to 0.2"; a dash for an infinite interval."""
    return f"{number(m.low)} to {number(m.high)}" if math.isfinite(m.low) else "–"


def finite(x: float) -> float | None:
    return x if math.isfinite(x) else None
