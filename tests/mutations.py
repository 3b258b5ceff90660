"""Hostile changes to files, for fuzz tests: in JSON a value that no program expects, elsewhere other bytes."""

from __future__ import annotations

import contextlib
import copy
import json
import signal
from collections.abc import Iterator
from random import Random
from types import FrameType
from typing import Any

VALUES: tuple[Any, ...] = (
    0, -1, 1, 3, 10**9, 10**30, -(10**400), 1e308, -0.5, 1e-300, True, None, "", "soup", "../../outside", "/etc/passwd",
    "a\0b", "\ud800", "\u2028", "x" * 10_000, [], {}, [[]], [-1], [0] * 1000, {"": 0}, {"__class__": "x"},
    json.loads("[" * 200 + "]" * 200),
)  # fmt: skip
"""What takes the place of a value."""
CPU_SECONDS = 60
"""What a hang takes: thousands of times what a small model takes."""


def places(value: Any) -> list[tuple[Any, Any]]:
    """(table or list, key or index) of every value in a JSON value."""
    if not isinstance(value, (dict, list)):
        return []
    keys = list(value) if isinstance(value, dict) else list(range(len(value)))
    return [(value, key) for key in keys] + [place for key in keys for place in places(value[key])]


def change_json(value: Any, where: int, what: int) -> Any:
    """A copy with one value changed. where: of `places`, in a circle. what: of `VALUES`; beyond them it is removed, or
    comes twice."""
    value = copy.deepcopy(value)
    inside = places(value)
    parent, key = inside[where % len(inside)]
    choice = what % (len(VALUES) + 2)
    if choice < len(VALUES):
        parent[key] = copy.deepcopy(VALUES[choice])
    elif choice == len(VALUES):
        del parent[key]
    elif isinstance(parent, list):
        parent.append(copy.deepcopy(parent[key]))
    else:
        parent[f"{key}2"] = copy.deepcopy(parent[key])
    return value


def change_bytes(data: bytes, rng: Random) -> bytes:
    """Other bytes: cut, or with some of them flipped, removed, repeated; more often near the beginning."""
    out = bytearray(data)
    for _ in range(rng.randint(1, 4)):
        if not out:
            break
        at = int(len(out) * rng.random() ** 4)
        kind = rng.randrange(5)
        if kind == 0:
            out[at] ^= 1 << rng.randrange(8)
        elif kind == 1:
            del out[at:]
        elif kind == 2:
            del out[at : at + rng.randint(1, 64)]
        elif kind == 3:
            out[at:at] = out[at : at + rng.randint(1, 64)]
        else:
            out[at : at + 8] = rng.choice((b"\xff" * 8, bytes(8), b"\x00\x00\x00\x00\x00\x00\x00\x80"))
    return bytes(out)


@contextlib.contextmanager
def no_hang() -> Iterator[None]:
    """Raises AssertionError if the block takes `CPU_SECONDS` of the processor."""

    def late(number: int, frame: FrameType | None) -> None:
        raise AssertionError(f"it did not end within {CPU_SECONDS} s of the processor")

    before = signal.signal(signal.SIGVTALRM, late)
    signal.setitimer(signal.ITIMER_VIRTUAL, CPU_SECONDS)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)
