"""A score as a file: what was measured, how, and on which prompts; and what earlier baselines said.

A baseline is an ordinary score that somebody decided to compare with. Writing over one is a separate, explicit act.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t2i import __version__
from t2i.errors import InputError
from t2i.files import explain_os_error, write_bytes
from t2i.schema import build
from t2i.score.metrics import SHARES, Unit, columns
from t2i.score.recipe import Recipe, read_recipe
from t2i.score.statistics import interval
from t2i.store.tensors import strict_json

SCHEMA = 1
MOST_HISTORY = 200


@dataclass(frozen=True)
class Score:
    """One scored set. models: the digests of the weights that its pictures name; history: earlier baselines of the
    same file, oldest first, each {"date", "pictures", "means"}; seeds: of its pictures, where they are known."""

    recipe: Recipe
    units: tuple[Unit, ...]
    models: tuple[str, ...] = ()
    date: str = ""
    history: tuple[dict[str, Any], ...] = field(default=(), compare=False)
    seeds: tuple[int, ...] = ()

    @property
    def pictures(self) -> int:
        return sum(u.pictures for u in self.units)

    def means(self) -> dict[str, float]:
        """Column -> mean over its units."""
        return {name: interval(list(values.values())).mean for name, values in columns(self.units).items()}

    def entry(self) -> dict[str, Any]:
        """This score as an entry of a history."""
        return {"date": self.date, "pictures": self.pictures, "models": list(self.models), "means": self.means()}

    def table(self) -> dict[str, Any]:
        """As JSON."""
        units = [{"unit": u.unit, "task": u.task, "pictures": u.pictures, "metrics": u.metrics} for u in self.units]
        return {
            "schema": SCHEMA,
            "tool": f"t2i {__version__}",
            "date": self.date,
            "recipe": self.recipe.table(),
            "models": list(self.models),
            "pictures": self.pictures,
            "seeds": list(self.seeds),
            "means": self.means(),
            "units": units,
            "history": list(self.history),
        }


def now() -> str:
    """The time, as a score keeps it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def save(path: Path, score: Score, before: Score | None = None) -> None:
    """Write a baseline; ``before`` is the one that it replaces, whose history is carried on.

    Raises InputError (code ``output``) where there is a file and nothing is replaced.
    """
    if before is None and path.exists():
        what = f"{path} is there already; a baseline is not written over by chance."
        raise InputError(what, "Say --baseline FILE --update-baseline, or name another file.", "output")
    table = score.table()
    if before is not None:
        table["history"] = [*before.history, before.entry()][-MOST_HISTORY:]
    write_bytes(path, (json.dumps(table, indent=1, ensure_ascii=False, allow_nan=False) + "\n").encode())


def load(path: Path) -> Score:
    """Read a baseline. Raises InputError where it is none."""
    try:
        raw = strict_json(path.read_text("utf-8"))
    except OSError as error:
        what = f"cannot read the baseline {path}: {explain_os_error(error)}."
        raise InputError(what, "Make one with --save-baseline.") from error
    except ValueError as error:
        raise InputError(f"the baseline {path} is not JSON.", "Make it again with --save-baseline.") from error
    try:
        if not isinstance(raw, dict) or raw.get("schema") != SCHEMA:
            raise ValueError(f"it does not say schema {SCHEMA}")
        recipe = read_recipe(raw.get("recipe"), str(path))
        table: _Table = build(_Table, raw)
        _check_units(table.units, table.pictures)
    except ValueError as error:
        raise InputError(f"{path} is not a baseline: {error}.", "Make one with --save-baseline.") from error
    units = tuple(Unit(u.unit, u.metrics, u.pictures, u.task) for u in table.units)
    history = tuple(asdict(entry) for entry in table.history)
    return Score(recipe, units, table.models, table.date, history, table.seeds)


@dataclass(frozen=True)
class _Unit:
    unit: str
    task: str
    pictures: int
    metrics: dict[str, float]


@dataclass(frozen=True)
class _Entry:
    date: str
    pictures: int
    models: tuple[str, ...]
    means: dict[str, float]


@dataclass(frozen=True)
class _Table:
    """The file, so that what somebody wrote by hand is named by its key."""

    schema: int
    tool: str
    date: str
    recipe: Any
    models: tuple[str, ...]
    pictures: int
    seeds: tuple[int, ...]
    means: dict[str, float]
    units: tuple[_Unit, ...]
    history: tuple[_Entry, ...]


def _check_units(units: Sequence[_Unit], pictures: int) -> None:
    if not units:
        raise ValueError("it holds no prompt")
    there = set()
    for u in units:
        if u.unit in there:
            raise ValueError(f"it holds {u.unit[:60]!r} twice")
        if not u.metrics:
            raise ValueError(f"it holds no metric of {u.unit[:60]!r}")
        if odd := [name for name, value in u.metrics.items() if name in SHARES and not 0 <= value <= 1]:
            raise ValueError(f"{odd[0]} of {u.unit[:60]!r} is no share")
        if u.pictures < 1:
            raise ValueError(f"it has no picture of {u.unit[:60]!r}")
        there.add(u.unit)
    if pictures != sum(u.pictures for u in units):
        raise ValueError(f"it says {pictures} pictures, and its prompts have {sum(u.pictures for u in units)}")


def missing(before: Score, after: Score) -> list[str]:
    """The units of ``before`` that ``after`` does not have."""
    there: set[str] = {u.unit for u in after.units}
    return [u.unit for u in before.units if u.unit not in there]


def unlike(before: Score, after: Score, where: str) -> list[str]:
    """In sentences, what of two scores that may be compared is not alike: prompts, metrics, pictures, seeds.

    Raises InputError unless every prompt of the baseline was scored: a gate over the prompts that happen to be left
    would pass a model that draws only the easy ones.
    """
    lost = missing(before, after)
    if lost:
        shown = ", ".join(repr(unit[:60]) for unit in lost[:3])
        what = f"{len(lost)} of the {len(before.units)} prompts of {where} were not scored: {shown}"
        raise InputError(what + ("…" if len(lost) > 3 else "."), "Score the same prompts, or make a new baseline.")
    out = []
    new = missing(after, before)
    if new:
        out.append(f"not in the baseline and not compared: {len(new)} of {len(after.units)} prompts")
    had, have = ({name for u in score.units for name in u.metrics} for score in (before, after))
    for names, which in ((had - have, "the baseline"), (have - had, "this score")):
        if names:
            out.append(f"only {which} has {', '.join(sorted(names))}: not compared")
    was, now = ({(u.unit, name) for u in score.units for name in u.metrics} for score in (before, after))
    known = {u.unit for u in before.units}
    for name in sorted(had & have):
        alone = {unit for unit, metric in was ^ now if metric == name and unit in known}
        if alone:
            out.append(f"only one side has {name} of {len(alone)} of {len(known)} prompts: {min(alone)[:60]!r}")
    counts = {u.unit: u.pictures for u in before.units}
    other = [u for u in after.units if counts.get(u.unit, u.pictures) != u.pictures]
    if other:
        u = other[0]
        out.append(
            f"another number of pictures than in the baseline: {len(other)} of {len(after.units)} prompts; "
            f"{u.unit[:60]!r} has {u.pictures}, and had {counts[u.unit]}"
        )
    if before.seeds and after.seeds and before.seeds != after.seeds:
        out.append("the seeds are not the baseline's: what chance draws is part of the difference")
    return out
