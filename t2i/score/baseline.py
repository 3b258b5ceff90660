"""A score as a file: what was measured, how, and on which prompts; and what earlier baselines said.

A baseline is an ordinary score that somebody decided to compare with. Writing over one is a separate, explicit act.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from t2i import __version__
from t2i.errors import InputError
from t2i.files import explain_os_error, write_bytes
from t2i.score.metrics import Unit, columns
from t2i.score.recipe import Recipe, read_recipe
from t2i.score.statistics import interval
from t2i.store.tensors import strict_json

SCHEMA = 1
MOST_HISTORY = 200


@dataclass(frozen=True)
class Score:
    """One scored set. models: the digests of the weights that its pictures name; history: earlier baselines of the
    same file, oldest first, each {"date", "pictures", "means"}."""

    recipe: Recipe
    units: tuple[Unit, ...]
    models: tuple[str, ...] = ()
    date: str = ""
    history: tuple[dict[str, Any], ...] = field(default=(), compare=False)

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
        raise InputError(f"the baseline {path} is not JSON: {error}", "Make it again with --save-baseline.") from error
    try:
        if raw["schema"] != SCHEMA:
            raise ValueError(f"its schema is {raw['schema']!r}, not {SCHEMA}")
        units = tuple(_unit(u) for u in raw["units"])
        if not units:
            raise ValueError("it holds no prompt")
        recipe = read_recipe(raw["recipe"], str(path))
        models = tuple(str(m) for m in raw["models"])
        return Score(recipe, units, models, str(raw["date"]), tuple(map(_entry, raw["history"])))
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        what = f"{path} is not a baseline: {error}." if not isinstance(error, KeyError) else f"{path} lacks {error}."
        raise InputError(what, "Make one with --save-baseline.") from error


def _unit(raw: dict[str, Any]) -> Unit:
    metrics = {str(name): float(value) for name, value in raw["metrics"].items()}
    return Unit(str(raw["unit"]), metrics, int(raw["pictures"]), str(raw["task"]))


def _entry(raw: dict[str, Any]) -> dict[str, Any]:
    return {**raw, "date": str(raw["date"]), "means": {str(k): float(v) for k, v in raw["means"].items()}}


def missing(before: Score, after: Score) -> list[str]:
    """The units of ``before`` that ``after`` does not have."""
    there: set[str] = {u.unit for u in after.units}
    return [u.unit for u in before.units if u.unit not in there]


def check_covered(before: Score, after: Score, where: str) -> Sequence[str]:
    """Raise InputError unless every prompt of the baseline was scored; return the prompts that it does not know.

    A gate over the prompts that happen to be left would pass a model that draws only the easy ones.
    """
    lost = missing(before, after)
    if lost:
        shown = ", ".join(repr(unit[:60]) for unit in lost[:3])
        what = f"{len(lost)} of the {len(before.units)} prompts of {where} were not scored: {shown}"
        raise InputError(what + ("…" if len(lost) > 3 else "."), "Score the same prompts, or make a new baseline.")
    return missing(after, before)
