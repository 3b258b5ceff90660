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

from t2i.errors import T2IError, UsageError, nearest
from t2i.schema import build
from t2i.train.objectives import DESIGNS, STAGES
from t2i.train.overrides import parse_value
from t2i.train.recipe import Recipe, Schedule, StageRecipe

FOLDER = Path(__file__).parent
LONGEST = 1 << 20  # bytes of a recipe file


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
        if path.stat().st_size > LONGEST:
            raise ValueError("it is too long")
        raw = tomllib.loads(path.read_text("utf-8"))
        for key, text in (overrides or {}).items():
            _set(raw, key, text)
        return _parse({"name": path.stem, **raw})
    except OSError as error:
        raise UsageError(f"the recipe {name!r} cannot be read: {error.strerror}", code="config") from error
    except RecursionError as error:
        raise UsageError(f"the recipe {name!r} cannot be used: it is nested too deeply.", code="config") from error
    except T2IError as error:  # a network's sizes
        raise UsageError(f"the recipe {name!r} cannot be used: {error.message}", error.hint, "config") from error
    except ValueError as error:  # also what tomllib raises
        raise UsageError(f"the recipe {name!r} cannot be used: {error}", code="config") from error


def _stages(raw: dict[str, Any]) -> dict[str, StageRecipe]:
    """The stages with the tables of the designs that a recipe file chooses. Raises ValueError."""
    stages = dict(STAGES)
    for stage, designs in DESIGNS.items():
        table = raw.get(stage)
        if isinstance(table, dict) and "design" in table:
            if table["design"] not in designs:
                raise ValueError(f"{stage}.design is {table['design']!r}; there is {', '.join(designs)}")
            stages[stage] = designs[table["design"]]
    return stages


def file_type(stages: dict[str, StageRecipe]) -> type:
    """A recipe file as a dataclass: the fields of `Recipe`, with one for each stage in the place of `stages`."""
    hints = get_type_hints(Recipe, include_extras=True)
    tables: list[Any] = []
    for f in fields(Recipe):
        if f.name == "stages":
            tables += [(stage, type(table), field(default=table)) for stage, table in stages.items()]
        else:
            tables.append((f.name, hints[f.name], field(default=f.default, default_factory=f.default_factory)))  # type: ignore[arg-type]
    return make_dataclass("RecipeFile", tables, frozen=True)


def _parse(raw: dict[str, Any]) -> Recipe:
    """Raises ValueError, or InputError for the sizes of a network."""
    stages = _stages(raw)
    file = build(file_type(stages), raw)
    parts = {f.name: getattr(file, f.name) for f in fields(Recipe) if f.name != "stages"}
    return Recipe(**parts, stages={stage: getattr(file, stage) for stage in stages})


def _set(raw: dict[str, Any], key: str, text: str) -> None:
    """Put an override into the tables of a recipe file. Raises ValueError."""
    *path, last = key.split(".")
    if len(path) == 1 and path[0] in STAGES:
        tables = (STAGES[path[0]], *DESIGNS.get(path[0], {}).values())
        own = [f.name for table in tables for f in fields(table)]  # type: ignore[arg-type]
        shared = [f.name for f in fields(Schedule)]
        if last in shared:
            path.append("schedule")
        elif last not in own and (near := nearest(last, own + shared, 1)):
            raise ValueError(f"unknown key {key!r}; did you mean {f'{path[0]}.{near[0]}'!r}?")
    for part in path:
        raw = raw.setdefault(part, {})
        if not isinstance(raw, dict):
            raise ValueError(f"{part!r} in {key!r} is not a table")
    raw[last] = parse_value(text)
