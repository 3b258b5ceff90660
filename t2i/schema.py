"""JSON and TOML tables into frozen dataclasses: the one parser of manifests, recipes, configs and stored results.

It is strict: an unknown key, a missing key and a value of another type are ValueErrors that name the key with its path,
such as `stages[1].defaults.steps`, and the nearest known key. A field may say its limits,

    width: Annotated[int, Between(1, 4096)]
    channels: Annotated[tuple[int, ...], Length(1, 8)]

and every number is finite.
"""

from __future__ import annotations

import dataclasses
import functools
import sys
import types
import typing
from collections.abc import Collection
from typing import Any

from t2i.errors import T2IError, nearest

MOST = 2**63  # whole numbers are smaller than this where a field has no limits of its own
DEEPEST = 32  # levels of tables and lists in a value of any type
SHOWN = 80  # characters of a value in an error message


@dataclasses.dataclass(frozen=True)
class Between:
    """The limits of a number, both allowed."""

    low: float
    high: float

    def check(self, value: Any, path: str) -> None:
        """Raises ValueError."""
        if not self.low <= value <= self.high:
            raise ValueError(f"{path} is {shown(value)}, not from {_number(self.low)} to {_number(self.high)}")


@dataclasses.dataclass(frozen=True)
class Length:
    """The limits of the length of a list or a text, both allowed."""

    low: int
    high: int

    def check(self, value: Any, path: str) -> None:
        """Raises ValueError."""
        if not self.low <= len(value) <= self.high:
            raise ValueError(f"{path} has {len(value)} entries, not {self.low} to {self.high}")


def build(cls: Any, raw: Any, path: str = "") -> Any:
    """An instance of the dataclass `cls` from a table; `path` is where the table stands.

    Raises ValueError; and a T2IError that the class itself raises, with the path before its message.
    """
    values = values_of(cls, raw, path)
    try:
        return cls(**values)
    except ValueError as error:
        raise ValueError(f"{path}: {error}" if path else str(error)) from error
    except T2IError as error:
        if path and not error.message.startswith(path):
            raise type(error)(f"{path}: {error.message}", error.hint, error.code) from error
        raise


def values_of(cls: Any, raw: Any, path: str = "", names: Collection[str] | None = None) -> dict[str, Any]:
    """The arguments of the dataclass `cls`; names: the fields that the table may hold, None for all of them.

    Raises ValueError.
    """
    raw, hints = as_table(raw, path), _type_hints(cls)
    allowed = [f for f in dataclasses.fields(cls) if names is None or f.name in names]
    known = [f.name for f in allowed]
    for key in raw:
        if key not in known:
            near = nearest(key[:SHOWN], known, 1)
            guess = f"did you mean {_join(path, near[0])!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown key {shown(_join(path, key))}; {guess}")
    values: dict[str, Any] = {}
    for f in allowed:
        if f.name in raw:
            values[f.name] = convert(hints[f.name], raw[f.name], _join(path, f.name))
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ValueError(f"the key {_join(path, f.name)!r} is missing")
    return values


@functools.cache
def _type_hints(cls: type) -> dict[str, Any]:
    """The fields' types; to evaluate the annotations takes 0.3 ms a class."""
    return typing.get_type_hints(cls, include_extras=True)


def as_table(raw: Any, path: str) -> dict[str, Any]:
    """`raw`, if it is a table. Raises ValueError."""
    if not isinstance(raw, dict):
        raise ValueError(f"{path or 'it'} is not a table")
    return raw


def convert(hint: Any, value: Any, path: str) -> Any:
    """`value` as the type `hint`. Lists become tuples, an int is also a float, a bool is neither. Raises ValueError.

    Types: int, float, str, bool, Any, Literal, unions of these, tuples, dicts with keys of str, dataclasses; Annotated
    with `Between` and `Length`.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Annotated:
        value = convert(args[0], value, path)
        for limit in args[1:]:
            limit.check(value, path)
        return value
    if hint is Any:
        _check_depth(value, path)
        return value
    if origin is typing.Literal:
        if any(type(value) is type(option) and value == option for option in args):
            return value
        raise ValueError(f"{path} is {shown(value)}, not one of {', '.join(map(repr, args))}")
    if origin in (typing.Union, types.UnionType):
        return _convert_union([option for option in args if option is not type(None)], type(None) in args, value, path)
    if dataclasses.is_dataclass(hint):
        if isinstance(value, typing.cast(type, hint)):  # the caller has built it
            return value
        return build(hint, value, path)
    if origin is tuple and isinstance(value, (list, tuple)):
        if len(args) == 2 and args[1] is Ellipsis:
            return tuple(convert(args[0], v, f"{path}[{i}]") for i, v in enumerate(value))
        if len(value) == len(args):
            return tuple(convert(a, v, f"{path}[{i}]") for i, (a, v) in enumerate(zip(args, value, strict=True)))
    if origin is dict and isinstance(value, dict):
        return {str(k): convert(args[1], v, _join(path, str(k))) for k, v in value.items()}
    if hint is float and type(value) in (int, float):
        if not abs(value) <= sys.float_info.max:  # NaN, infinity, or an int that no float can hold
            raise ValueError(f"{path} is {shown(value)}, not a finite number")
        return float(value)
    if hint is int and type(value) is int and abs(value) >= MOST:
        raise ValueError(f"{path} is {shown(value)}, which is too large")
    if hint in (int, str, bool) and type(value) is hint:
        return value
    raise ValueError(f"{path} is {shown(value)}, not {KINDS.get(hint) or KINDS.get(origin, 'what it should be')}")


def _convert_union(options: list[Any], optional: bool, value: Any, path: str) -> Any:
    if value is None and optional:
        return None
    if len(options) == 1:
        return convert(options[0], value, path)
    for option in options:
        try:
            return convert(option, value, path)
        except ValueError:
            continue
    raise ValueError(f"{path} is {shown(value)}, which is not of its type")


def _check_depth(value: Any, path: str) -> None:
    """Raise ValueError for a value that is nested more deeply than anything that is ever written."""
    level = [value]
    for _ in range(DEEPEST):
        tables = [v for v in level if isinstance(v, (dict, list, tuple))]
        level = [inner for v in tables for inner in (v.values() if isinstance(v, dict) else v)]
        if not level:
            return
    raise ValueError(f"{path} is nested too deeply")


def shown(value: Any) -> str:
    """A value as an error message shows it."""
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # a number of thousands of digits; lists in lists in lists
        text = f"a very large {type(value).__name__}"
    return text if len(text) <= SHOWN else f"{text[: SHOWN - 1]}…"


def _number(value: float) -> str:
    return str(int(value)) if value == int(value) else f"{value:g}"


KINDS = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", tuple: "such a list",
         dict: "a table"}  # fmt: skip
"""What an error message calls a type."""


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
