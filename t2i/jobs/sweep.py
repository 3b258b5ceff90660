"""`--sweep guidance=1,2,4`: the same prompts and seeds at several values of a setting."""

from __future__ import annotations

from dataclasses import dataclass

from t2i.errors import UsageError, nearest
from t2i.jobs.settings import NAMES
from t2i.jobs.stage_options import STAGE_OPTIONS

MAX_AXES = 3
MAX_VALUES = 64
STAGED = tuple(name for name, option in STAGE_OPTIONS.items() if option.staged)


@dataclass(frozen=True)
class SweepPoint:
    """One value of one axis; stage is "" where none was named."""

    option: str
    stage: str
    value: str

    @property
    def label(self) -> str:
        """`guidance=2`, `guidance.prior=2`"""
        return f"{self.option}{'.' * bool(self.stage)}{self.stage}={self.value}"


@dataclass(frozen=True)
class SweepAxis:
    """A setting and the values it takes."""

    option: str
    stage: str
    values: tuple[str, ...]

    def points(self) -> list[SweepPoint]:
        """A point for each value, in order."""
        return [SweepPoint(self.option, self.stage, value) for value in self.values]


def parse_sweep(texts: list[str]) -> list[SweepAxis]:
    """`guidance=1,2,4`, `steps.up=1,2`, `sampler=euler,heun` as axes; the last turns fastest.

    Values are checked in `read_settings`. Raises UsageError.
    """
    axes = []
    for text in texts:
        name, equals, rest = text.partition("=")
        option, _, stage = name.strip().replace("-", "_").partition(".")
        values = tuple(value.strip() for value in rest.split(","))
        if not equals or not all(values):
            raise UsageError(f"--sweep {text!r} cannot be read.", "Write --sweep guidance=1,2,4")
        if option not in NAMES or (stage and option not in STAGED):
            near = nearest(option, NAMES, 1)
            hint = f"Did you mean {near[0]}?" if near and near[0] != option else f"Sweep {', '.join(NAMES)}."
            raise UsageError(f"--sweep: {name.strip()!r} is no dial.", hint)
        if len(set(values)) < len(values) or len(values) > MAX_VALUES:
            raise UsageError(f"--sweep {text!r} names a value twice, or more than {MAX_VALUES}.", "Name each once.")
        axes.append(SweepAxis(option, stage, values))
    if len({(axis.option, axis.stage) for axis in axes}) < len(axes) or len(axes) > MAX_AXES:
        raise UsageError(f"--sweep takes up to {MAX_AXES} different dials.", "Name each dial once.")
    return axes


def at_point(options: dict[str, str], point: tuple[SweepPoint, ...]) -> dict[str, str]:
    """`options` with the values of `point`; a value for one stage is added to those of other stages."""
    out = dict(options)
    for p in point:
        if not p.stage:
            out[p.option] = p.value
        else:
            out[p.option] = ",".join([*([out[p.option]] if p.option in out else []), f"{p.stage}={p.value}"])
    return out
