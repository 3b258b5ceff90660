"""JSON and TOML tables into frozen dataclasses: the one parser of manifests, recipes, configs and stored results.

It is strict: an unknown key, a missing key and a value of another type are ValueErrors that name the key with its path,
such as ``stages[1].defaults.steps``, and the nearest known key.
"""

from __future__ import annotations

import dataclasses
import functools
import reprlib
import sys
import types
import typing
from collections.abc import Collection
from typing import Any

from t2i.errors import nearest


def build(cls: Any, raw: Any, path: str = "") -> Any:
    """An instance of the dataclass `cls` from a table; `path` is where the table stands. Raises ValueError."""
    return cls(**values_of(cls, raw, path))


def values_of(cls: Any, raw: Any, path: str = "", names: Collection[str] | None = None) -> dict[str, Any]:
    """The arguments of the dataclass `cls`; names: the fields that the table may hold, None for all of them.

    Raises ValueError.
    """
    raw, hints = as_table(raw, path), _type_hints(cls)
    allowed = [f for f in dataclasses.fields(cls) if names is None or f.name in names]
    known = [f.name for f in allowed]
    for key in raw:
        if key not in known:
            near = nearest(key, known, 1)
            guess = f"did you mean {_join(path, near[0])!r}?" if near else f"known: {', '.join(known)}"
            raise ValueError(f"unknown key {_join(path, key)!r}; {guess}")
    values: dict[str, Any] = {}
    for f in allowed:
        if f.name in raw:
            values[f.name] = convert(hints[f.name], raw[f.name], _join(path, f.name))
        elif f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING:
            raise ValueError(f"the key {_join(path, f.name)!r} is missing")
    return values


_type_hints = functools.cache(typing.get_type_hints)  # evaluates the annotations: 0.3 ms a class


def as_table(raw: Any, path: str) -> dict[str, Any]:
    """`raw`, if it is a table. Raises ValueError."""
    if not isinstance(raw, dict):
        raise ValueError(f"{path or 'it'} is not a table")
    return raw


def convert(hint: Any, value: Any, path: str) -> Any:
    """`value` as the type `hint`. Lists become tuples, an int is also a float, a bool is neither. Raises ValueError.

    Types: int, float, str, bool, Any, Literal, unions of these, tuples, dicts with keys of str, dataclasses.
    """
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if hint is Any:
        return value
    if origin is typing.Literal:
        if value in args:
            return value
        raise ValueError(f"{path} is {reprlib.repr(value)}, not one of {', '.join(map(repr, args))}")
    if origin in (typing.Union, types.UnionType):
        for option in args:
            if option is type(None):
                if value is None:
                    return None
                continue
            try:
                return convert(option, value, path)
            except ValueError:
                continue
        raise ValueError(f"{path} is {reprlib.repr(value)}, which is not of its type")
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
            raise ValueError(f"{path} is {reprlib.repr(value)}, not a finite number")
        return float(value)
    if hint in (int, str, bool) and type(value) is hint:
        return value
    kind = KINDS.get(hint) or KINDS.get(origin, "what it should be")
    raise ValueError(f"{path} is {reprlib.repr(value)}, not {kind}")


#: what an error message calls a type
KINDS = {float: "a number", int: "a whole number", str: "a text", bool: "true or false", tuple: "such a list",
         dict: "a table"}  # fmt: skip


def _join(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key
