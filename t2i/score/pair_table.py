"""Each picture beside the one of the same prompt and seed before: what fell, and how far."""

from __future__ import annotations

from dataclasses import dataclass

from t2i.score.baseline import ScoredSet
from t2i.score.before_after import match_pictures
from t2i.score.gate import GateResult
from t2i.score.metric_table import PAIRED, better
from t2i.score.metrics import PictureRow
from t2i.score.thumbnails import OTHER, thumb_distances


@dataclass(frozen=True)
class PairChange:
    """A picture before and after. losses: by how many margins each column got worse, negative where it got better.
    worst: the column that lost most, of those that regressed; where none did, of those that gate."""

    before: PictureRow
    after: PictureRow
    values: dict[str, tuple[float, float]]
    losses: dict[str, float]
    worst: str

    @property
    def loss(self) -> float:
        return self.losses[self.worst]


@dataclass(frozen=True)
class PairTable:
    """All pairs, in the order of the column `by`, what fell most first.

    columns: those that moved in some picture; the ones that regressed come first, in the order in which the gate tells
    them. by: the first that regressed; None for `PairChange.loss`.
    """

    columns: list[str]
    by: str | None
    rows: list[PairChange]


def pair_changes(before: ScoredSet, after: ScoredSet, gate: GateResult) -> PairTable | None:
    """None without pictures of the same prompt and seed."""
    pairs, _ = match_pictures(before.rows, after.rows)
    if not pairs:
        return None
    checks = {c.column: c for c in gate.checks if ":" not in c.column}
    fell = [name for name in dict.fromkeys(column.split(":")[0] for column in gate.fell) if name in checks]
    names = [*fell, *(name for name in checks if name not in fell and name != "sharper")]
    margins = {name: max(checks[name].result.margin, 1e-9) for name in names}
    rows = []
    for (a, b), distance in zip(pairs, thumb_distances(pairs), strict=True):
        was, now = ({**row.metrics, "sharper": row.metrics.get("sharpness", 0.0)} for row in (a, b))
        was["changed"], now["changed"] = 0.0, float(distance > OTHER)
        values = {name: (was[name], now[name]) for name in names if name in was and name in now}
        if not values:
            continue
        losses = {name: better(name) * (x - y) / margins[name] for name, (x, y) in values.items()}
        regressed = [n for n in losses if n in fell]
        ranked = regressed or [n for n in losses if checks[n].verdict != "shown"] or [*losses]
        ranked = [n for n in ranked if n not in PAIRED] or ranked  # of pictures that changed, say what got worse
        rows.append(PairChange(a, b, values, losses, max(ranked, key=lambda name: losses[name])))
    moved = [name for name in names if any(len(set(row.values.get(name, ()))) > 1 for row in rows)]
    by = next((name for name in fell if name in moved), None)
    rows.sort(key=lambda row: (-(row.losses.get(by, -1e9) if by else row.loss), row.after.name))
    return PairTable(moved, by, rows)
