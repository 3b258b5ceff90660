"""The shipped recipes, and how a recipe file is read.

    recipe = load_recipe("tiny", {"base.lr": "1e-4"})       # short for base.schedule.lr

A recipe is the name of a TOML file in this folder, or the path of one elsewhere. Unknown keys are refused with the
nearest known one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import field, fields, make_dataclass
from pathlib import Path
from typing import Any, get_type_hints

from t2i.errors import InputError, UsageError, nearest
from t2i.schema import build
from t2i.train.objectives import STAGES
from t2i.train.recipe import Recipe, Schedule

FOLDER = Path(__file__).parent


def recipe_names() -> list[str]:
    """The names of the shipped recipes."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load_recipe(name: str, overrides: Mapping[str, str] | None = None) -> Recipe:
    """The recipe of that name or path, with `key.subkey=value` overrides (values in TOML syntax, or words).

    `base.lr` may be said for `base.schedule.lr`, and so on for every stage and every key of its schedule.

    Raises UsageError for an unknown recipe, an unknown key or a value of the wrong type.
    """
    path = Path(name) if name.endswith(".toml") else FOLDER / f"{name}.toml"
    if not path.is_file():
        near = nearest(name, recipe_names(), 1)
        guess = f"Did you mean {near[0]}? " if near else ""
        hint = f"{guess}Recipes are {', '.join(recipe_names())}, or the path of a .toml file."
        raise UsageError(f"there is no recipe {name!r}.", hint, "config")
    try:
        raw = tomllib.loads(path.read_text("utf-8"))
        for key, text in (overrides or {}).items():
            _set(raw, key, text)
        return _parse({"name": path.stem, **raw})
    except OSError as error:
        raise UsageError(f"the recipe {name!r} cannot be read: {error.strerror}", code="config") from error
    except InputError as error:  # a network's sizes
        raise UsageError(f"the recipe {name!r} cannot be used: {error.message}", error.hint, "config") from error
    except ValueError as error:  # also what tomllib raises
        raise UsageError(f"the recipe {name!r} cannot be used: {error}", code="config") from error


def _file_type() -> type:
    """A recipe file as a dataclass: the fields of `Recipe`, with one for each stage in the place of `stages`."""
    hints = get_type_hints(Recipe)
    tables: list[Any] = []
    for f in fields(Recipe):
        if f.name == "stages":
            tables += [(stage, type(table), field(default=table)) for stage, table in STAGES.items()]
        else:
            tables.append((f.name, hints[f.name], field(default=f.default, default_factory=f.default_factory)))  # type: ignore[arg-type]
    return make_dataclass("RecipeFile", tables, frozen=True)


RecipeFile = _file_type()


def _parse(raw: dict[str, Any]) -> Recipe:
    """Raises ValueError, or InputError for the sizes of a network."""
    file = build(RecipeFile, raw)
    parts = {f.name: getattr(file, f.name) for f in fields(Recipe) if f.name != "stages"}
    return Recipe(**parts, stages={stage: getattr(file, stage) for stage in STAGES})


def _set(raw: dict[str, Any], key: str, text: str) -> None:
    """Put an override into the tables of a recipe file. Raises ValueError."""
    *path, last = key.split(".")
    if len(path) == 1 and path[0] in STAGES:
        own = [f.name for f in fields(type(STAGES[path[0]]))]  # type: ignore[arg-type]
        shared = [f.name for f in fields(Schedule)]
        if last in shared:
            path.append("schedule")
        elif last not in own and (near := nearest(last, own + shared, 1)):
            raise ValueError(f"unknown key {key!r}; did you mean {f'{path[0]}.{near[0]}'!r}?")
    for part in path:
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise ValueError(f"{part!r} in {key!r} is not a table")
    try:
        raw[last] = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        raw[last] = text
