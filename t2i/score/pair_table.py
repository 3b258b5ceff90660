"""Each picture beside the one of the same prompt and seed before: what fell, and how far."""

from __future__ import annotations

from dataclasses import dataclass

from t2i.score.baseline import ScoredSet
from t2i.score.before_after import match_pictures
from t2i.score.gate import GateResult
from t2i.score.metric_table import better
from t2i.score.metrics import PictureRow
from t2i.score.thumbnails import OTHER, thumb_distances


@dataclass(frozen=True)
class PairChange:
    """A picture before and after. losses: by how many margins each column got worse, negative where it got better.
    worst: the column that lost most."""

    before: PictureRow
    after: PictureRow
    values: dict[str, tuple[float, float]]
    losses: dict[str, float]
    worst: str

    @property
    def loss(self) -> float:
        return self.losses[self.worst]


def pair_changes(before: ScoredSet, after: ScoredSet, gate: GateResult) -> tuple[list[str], list[PairChange]]:
    """The columns, and the pairs with the furthest fall first. Columns are those that the gate compared and that moved
    in some picture."""
    pairs, _ = match_pictures(before.rows, after.rows)
    if not pairs:
        return [], []
    margins = {c.column: max(c.result.margin, 1e-9) for c in gate.checks if ":" not in c.column}
    out = []
    for (a, b), distance in zip(pairs, thumb_distances(pairs), strict=True):
        values = {
            name: (a.metrics[name], b.metrics[name]) for name in margins if name in a.metrics and name in b.metrics
        }
        if "changed" in margins:
            values["changed"] = (0.0, float(distance > OTHER))
        losses = {name: better(name) * (was - now) / margins[name] for name, (was, now) in values.items()}
        out.append(PairChange(a, b, values, losses, max(losses, key=lambda name: losses[name])))
    names = [name for name in margins if any(len(set(change.values.get(name, ()))) > 1 for change in out)]
    return names, sorted(out, key=lambda change: (-change.loss, change.after.name))
