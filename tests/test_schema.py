"""Tables into dataclasses: what is read, and what is said of what cannot be."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal

import pytest

from t2i.schema import build, values_of


@dataclass(frozen=True)
class Inner:
    steps: int | None = None
    weight: float = 1.0
    clip: tuple[float, float] | Literal["static", "none"] | None = None


@dataclass(frozen=True)
class Outer:
    name: str
    parts: tuple[Inner, ...] = ()
    free: dict[str, Any] = field(default_factory=dict)
    on: bool = False


def test_a_table_becomes_a_dataclass() -> None:
    raw = {"name": "a", "parts": [{"steps": 3, "weight": 2}, {"clip": [1, 2.5]}, {"clip": "none"}], "free": {"x": [1]}}
    parts = (Inner(3, 2.0), Inner(clip=(1.0, 2.5)), Inner(clip="none"))
    built = build(Outer, raw)
    assert built == Outer("a", parts, {"x": [1]})
    assert type(built.parts[0].weight) is float
    assert build(Outer, {"name": "a", "parts": parts}).parts == parts


WRONG: dict[str, tuple[Any, str]] = {
    "no table": ([], "it is not a table"),
    "inner table": ({"name": "a", "parts": [1]}, r"parts\[0\] is not a table"),
    "missing": ({}, "the key 'name' is missing"),
    "misspelt": ({"name": "a", "parts": [{}, {"wieght": 1}]}, r"unknown key 'parts\[1\].wieght'; did you mean 'parts"),
    "unknown": ({"name": "a", "zzzzzz": 1}, "unknown key 'zzzzzz'; known: name, parts, free, on"),
    "text for a number": ({"name": "a", "parts": [{"weight": "1"}]}, r"parts\[0\].weight is '1', not a number"),
    "number for a text": ({"name": 1}, "name is 1, not a text"),
    "bool for an int": ({"name": "a", "parts": [{"steps": True}]}, r"parts\[0\].steps is True"),
    "int for a bool": ({"name": "a", "on": 1}, "on is 1, not true or false"),
    "not in a union": ({"name": "a", "parts": [{"clip": "statc"}]}, r"parts\[0\].clip is 'statc'"),
    "too short": ({"name": "a", "parts": [{"clip": [1]}]}, r"parts\[0\].clip is \[1\]"),
}


@pytest.mark.parametrize("name", WRONG)
def test_what_is_wrong_is_named_with_its_path(name: str) -> None:
    raw, sentence = WRONG[name]
    with pytest.raises(ValueError, match=sentence):
        build(Outer, raw)


def test_a_part_of_the_fields() -> None:
    assert values_of(Inner, {"steps": 2}, "x", ("steps", "clip")) == {"steps": 2}
    with pytest.raises(ValueError, match=r"unknown key 'x.weight'; known: steps, clip"):
        values_of(Inner, {"weight": 1.0}, "x", ("steps", "clip"))
