"""The numbers of a student's training."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import Annotated, Any, TypeVar

from t2i.errors import UsageError, nearest
from t2i.schema import Between, values_of
from t2i.train.overrides import parse_value
from t2i.train.recipe import Pictures, Schedule, Share, Weight

T = TypeVar("T", bound="Distillation")


@dataclass(frozen=True)
class Distillation:
    """How the student of one stage is trained; with 0 steps the stage stays the teacher's.

    draw_steps: the steps that it will draw with, the teacher's if None. substeps: how many guided steps of the teacher
    one step of the student stands for; 1: it learns guidance alone and keeps the teacher's sampler. drop_text: share of
    examples without a text, where the student learns the estimate that guidance leads away from.
    """

    schedule: Schedule
    draw_steps: Annotated[int, Between(1, 1000)] | None = None
    substeps: Annotated[int, Between(1, 64)] = 1
    drop_text: Share = 0.1


BASE = Schedule(
    steps=1000, batch=32, lr=2e-4, warmup=10, decay=0.8, ema=0.1, log_every=25, sample_every=500, save_every=100
)
PRIOR = replace(BASE, steps=500, batch=128)


@dataclass(frozen=True)
class BaseDistillation(Distillation):
    """`base`: the last four as in `BaseRecipe`."""

    schedule: Schedule = BASE
    drop_z: Share = 0.05
    masked: Share = 0.15
    z_noise: Weight = 0.15
    imagined: Share = 0.5


@dataclass(frozen=True)
class PriorDistillation(Distillation):
    """`prior`. pool: scenes whose embeddings are computed once."""

    schedule: Schedule = PRIOR
    pool: Pictures = 8192


@dataclass(frozen=True)
class StudentRecipe:
    """`t2i train student`: a table for each stage that can have a student."""

    base: BaseDistillation = field(default_factory=BaseDistillation)
    prior: PriorDistillation = field(default_factory=PriorDistillation)

    def with_steps(self, steps: int) -> StudentRecipe:
        """The same with so many steps of every stage that is trained."""

        def changed(table: T) -> T:
            return replace(table, schedule=replace(table.schedule, steps=steps)) if table.schedule.steps else table

        return StudentRecipe(changed(self.base), changed(self.prior))


def read_recipe(overrides: Mapping[str, str]) -> StudentRecipe:
    """The recipe with overrides, as in {"base.substeps": "2", "prior.steps": "0"}; `base.lr` is short for
    `base.schedule.lr`. Raises UsageError (code `config`)."""
    tables: dict[str, Any] = vars(StudentRecipe())
    try:
        for key, text in overrides.items():
            stage, _, name = key.replace(".schedule.", ".").partition(".")
            if stage not in tables or not name:
                raise ValueError(f"unknown key {key!r}; write base.KEY or prior.KEY")
            tables = {**tables, stage: _with(tables[stage], stage, name, parse_value(text))}
    except ValueError as error:
        raise UsageError(f"--set: {error}", code="config") from error
    return StudentRecipe(**tables)


def _with(table: T, stage: str, name: str, value: Any) -> T:
    """A table with another value of its own or of its schedule. Raises ValueError."""
    scheduled = [f.name for f in fields(Schedule)]
    if name in scheduled:
        return replace(table, schedule=replace(table.schedule, **values_of(Schedule, {name: value}, stage)))
    own = [f.name for f in fields(table) if f.name != "schedule"]
    if name not in own:
        near = nearest(name, own + scheduled, 1)
        raise ValueError(f"unknown key {stage}.{name}" + (f"; did you mean {f'{stage}.{near[0]}'!r}?" if near else ""))
    return replace(table, **values_of(type(table), {name: value}, stage))
