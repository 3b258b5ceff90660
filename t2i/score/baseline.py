"""A score as a file: what was measured, how, on which prompts, and the history of earlier baselines.

A baseline is an ordinary score that later ones are compared with. It is never overwritten unless the user asks for
that.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t2i import __version__
from t2i.errors import InputError
from t2i.files import explain_os_error, read_bytes, write_bytes
from t2i.jsonl import strict_json
from t2i.schema import build
from t2i.score.metric_table import METRICS, bounds
from t2i.score.metrics import PictureRow, UnitScore, columns
from t2i.score.recipe import ScoreRecipe, read_recipe
from t2i.score.statistics import interval
from t2i.score.thumbnails import decode_thumb

SCHEMA = 2
MAX_HISTORY = 200
ROUNDING = 1e-3  # by which a cosine may leave [-1, 1]
MAX_VALUE = 1e9  # of a metric; the sums of squares of larger ones may leave the range of a float


@dataclass(frozen=True)
class ScoredSet:
    """The score of a set of pictures.

    rows: the pictures, so that later ones of the same prompt and seed are compared with them. models: digests of the
    weights that they name. seeds: of the pictures, where known. history: earlier baselines of the same file, oldest
    first, each {"date", "pictures", "models", "means"}.
    """

    recipe: ScoreRecipe
    units: tuple[UnitScore, ...]
    models: tuple[str, ...] = ()
    date: str = ""
    history: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    seeds: tuple[int, ...] = ()
    rows: tuple[PictureRow, ...] = ()

    @property
    def pictures(self) -> int:
        return sum(u.pictures for u in self.units)

    def means(self) -> dict[str, float]:
        """Column -> mean over its units."""
        return {name: interval(list(values.values())).mean for name, values in columns(self.units).items()}

    def history_entry(self) -> dict[str, Any]:
        return {"date": self.date, "pictures": self.pictures, "models": list(self.models), "means": self.means()}

    def to_json(self) -> dict[str, Any]:
        units = [{"unit": u.unit, "task": u.task, "pictures": u.pictures, "metrics": u.metrics} for u in self.units]
        return {
            "schema": SCHEMA,
            "tool": f"t2i {__version__}",
            "date": self.date,
            "recipe": self.recipe.to_json(),
            "models": list(self.models),
            "pictures": self.pictures,
            "seeds": list(self.seeds),
            "means": self.means(),
            "units": units,
            "rows": [asdict(row) for row in self.rows],
            "history": list(self.history),
        }


def current_date() -> str:
    """The time in UTC, ISO 8601, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save_baseline(path: Path, score: ScoredSet, replaces: ScoredSet | None = None) -> None:
    """Write a baseline. replaces: the one that it overwrites, which is added to the history.

    Raises InputError (code `output`) if the file exists and nothing is replaced.
    """
    if replaces is None and path.exists():
        what = f"{path} is there already; a baseline is not written over by chance."
        raise InputError(what, "Say --baseline FILE --update-baseline, or name another file.", "output")
    table = score.to_json()
    if replaces is not None:
        table["history"] = [*replaces.history, replaces.history_entry()][-MAX_HISTORY:]
    write_bytes(path, (json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def load_baseline(path: Path) -> ScoredSet:
    """Read a baseline. Raises InputError if it is not one, naming the key that is wrong."""
    try:
        raw = strict_json(read_bytes(path))
    except OSError as error:
        what = f"cannot read the baseline {path}: {explain_os_error(error)}."
        raise InputError(what, "Make one with --save-baseline.") from error
    except ValueError as error:
        what = f"the baseline {path} cannot be used as JSON: {error}."
        raise InputError(what, "Make it again with --save-baseline.") from error
    try:
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            raise ValueError(f"it does not say schema {SCHEMA}")
        recipe = read_recipe(raw.get("recipe"), str(path))
        table: _BaselineTable = build(_BaselineTable, raw)
        _check_units(table.units, table.pictures)
        _check_rows(table.rows, table.units)
    except ValueError as error:
        raise InputError(f"{path} is not a baseline: {error}.", "Make one with --save-baseline.") from error
    units = tuple(UnitScore(u.unit, u.metrics, u.pictures, u.task) for u in table.units)
    history = tuple(asdict(entry) for entry in table.history)
    return ScoredSet(recipe, units, table.models, table.date, history, table.seeds, table.rows)


@dataclass(frozen=True)
class _UnitTable:
    unit: str
    task: str
    pictures: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class _HistoryEntry:
    date: str
    pictures: int
    models: tuple[str, ...]
    means: dict[str, float]


@dataclass(frozen=True)
class _BaselineTable:
    """The schema of the file, against which its keys and types are checked."""

    schema: int
    tool: str
    date: str
    recipe: Any
    models: tuple[str, ...]
    pictures: int
    seeds: tuple[int, ...]
    means: dict[str, float]
    units: tuple[_UnitTable, ...]
    rows: tuple[PictureRow, ...]
    history: tuple[_HistoryEntry, ...]


def _check_units(units: Sequence[_UnitTable], pictures: int) -> None:
    """Raise ValueError for a repeated unit, numbers that no metric can have, or counts that do not add up."""
    if not units:
        raise ValueError("it holds no prompt")
    names = set()
    for u in units:
        if u.unit in names:
            raise ValueError(f"it holds {u.unit[:60]!r} twice")
        if not u.metrics:
            raise ValueError(f"it holds no metric of {u.unit[:60]!r}")
        _check_metrics(u.metrics, u.unit)
        if u.pictures < 1:
            raise ValueError(f"it has no picture of {u.unit[:60]!r}")
        names.add(u.unit)
    if pictures != sum(u.pictures for u in units):
        raise ValueError(f"it says {pictures} pictures, and its prompts have {sum(u.pictures for u in units)}")


def _check_rows(rows: Sequence[PictureRow], units: Sequence[_UnitTable]) -> None:
    """Raise ValueError for a row without a unit, numbers that no metric can have, or a thumbnail that is no picture."""
    known = {u.unit for u in units}
    for row in rows:
        if row.unit not in known:
            raise ValueError(f"a row is of {row.unit[:60]!r}, which it does not hold")
        _check_metrics(row.metrics, row.name)
        decode_thumb(row.thumb)


def _check_metrics(metrics: Mapping[str, float], where: str) -> None:
    for name, value in metrics.items():
        if name.split(":")[0] not in METRICS:
            raise ValueError(f"{name[:60]!r} of {where[:60]!r} is no metric")
        least, most = bounds(name)
        if not least - ROUNDING <= value <= most + ROUNDING:
            raise ValueError(f"{name} of {where[:60]!r} is not a number from {least:g} to {most:g}")
    if wild := [name for name, value in metrics.items() if abs(value) > MAX_VALUE]:
        raise ValueError(f"{wild[0]} of {where[:60]!r} is too large a number")


def missing_units(before: ScoredSet, after: ScoredSet) -> list[str]:
    """The units of `before` that `after` does not have."""
    there = {u.unit for u in after.units}
    return [u.unit for u in before.units if u.unit not in there]


def _hint_for_lost(lost: set[str], before: ScoredSet, after: ScoredSet) -> str:
    """What to do about units that were not scored: often they are there, and only their prompts are not known."""
    unknown = sum(row.prompt is None for row in after.rows)
    by_name = any(row.prompt is None for row in before.rows if row.unit in lost)
    if unknown and by_name:
        return (
            "Pictures without prompts go by their file names: name them alike, or give both sides --prompts FILE.jsonl."
        )
    if unknown:
        return (
            f"{unknown} of the {len(after.rows)} pictures name no prompt: say which with --prompts FILE.jsonl, "
            '{"file_name": …, "prompt": …} a line.'
        )
    if by_name:
        return "The baseline's pictures named no prompt: make it again, with --prompts FILE.jsonl."
    return "Score the same prompts, or make a new baseline."


def comparison_notes(before: ScoredSet, after: ScoredSet, where: str) -> list[str]:
    """In sentences, how two comparable scores differ in their prompts, metrics, numbers of pictures and seeds.

    where: names the file of `before`. Raises InputError unless every prompt of the baseline was scored: otherwise a
    model that draws only the easy prompts would pass.
    """
    lost = missing_units(before, after)
    if lost:
        shown = ", ".join(repr(unit[:60]) for unit in lost[:3])
        what = f"{len(lost)} of the {len(before.units)} prompts of {where} were not scored: {shown}"
        raise InputError(what + ("…" if len(lost) > 3 else "."), _hint_for_lost(set(lost), before, after))
    notes = []
    new = missing_units(after, before)
    if new:
        notes.append(f"not in the baseline and not compared: {len(new)} of {len(after.units)} prompts")
    had, have = ({name for u in score.units for name in u.metrics} for score in (before, after))
    for names, which in ((had - have, "the baseline"), (have - had, "this score")):
        if names:
            notes.append(f"only {which} has {', '.join(sorted(names))}: not compared")
    was, now = ({(u.unit, name) for u in score.units for name in u.metrics} for score in (before, after))
    known = {u.unit for u in before.units}
    for name in sorted(had & have):
        alone = {unit for unit, metric in was ^ now if metric == name and unit in known}
        if alone:
            notes.append(f"only one side has {name} of {len(alone)} of {len(known)} prompts: {min(alone)[:60]!r}")
    counts = {u.unit: u.pictures for u in before.units}
    other = [u for u in after.units if counts.get(u.unit, u.pictures) != u.pictures]
    if other:
        u = other[0]
        notes.append(
            f"another number of pictures than in the baseline: {len(other)} of {len(after.units)} prompts; "
            f"{u.unit[:60]!r} has {u.pictures}, and had {counts[u.unit]}"
        )
    if before.seeds and after.seeds and before.seeds != after.seeds:
        notes.append("the seeds are not the baseline's: what chance draws is part of the difference")
    return notes
