"""`--shard i/n`: one share of a batch, so that a job array draws it on many machines."""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable, Sequence
from dataclasses import dataclass
from typing import TypeVar

from t2i.errors import UsageError
from t2i.jobs.job import Job
from t2i.jobs.request import DrawRequest

T = TypeVar("T")

MAX_SHARES = 999_999


@dataclass(frozen=True)
class Shard:
    """Share number `number` of `of`, counted from 1 as in the options of pytest-split, nextest and Playwright."""

    number: int
    of: int

    @classmethod
    def parse(cls, text: str) -> Shard:
        """Read "2/8". Raises UsageError."""
        found = re.fullmatch(r"\s*(\d{1,18})\s*/\s*(\d{1,18})\s*", text, re.ASCII)
        shard = cls(int(found[1]), int(found[2])) if found else None
        if shard is None or not 1 <= shard.number <= shard.of:
            raise UsageError(f"--shard {text!r} is not a share.", "Write 1/4, 2/4, 3/4 and 4/4: from 1 on.")
        if shard.of > MAX_SHARES:
            raise UsageError(f"--shard {text} is one of more than {MAX_SHARES:,} shares.", "Take fewer.")
        return shard

    def __str__(self) -> str:
        return f"{self.number}/{self.of}"

    def take(self, items: Sequence[T], *marks: Callable[[T], Hashable]) -> list[T]:
        """The items of this share, in their order: see `deal_out`."""
        return deal_out(self.of, items, *marks)[self.number - 1]


def deal_out(shares: int, items: Sequence[T], *marks: Callable[[T], Hashable]) -> list[list[T]]:
    """The items in so many shares, each in its order; the same on every machine.

    marks: items that agree in a mark go to one share, an earlier mark before a later one; all others are dealt out in
    turn.
    """
    turns: dict[tuple[int, Hashable], int] = {}
    out: list[list[T]] = [[] for _ in range(shares)]
    dealt = 0
    for item in items:
        names = [(i, mark(item)) for i, mark in enumerate(marks)]
        turn = next((turns[name] for name in names if name in turns), dealt)
        dealt += turn == dealt
        for name in names:
            turns.setdefault(name, turn)
        out[turn % shares].append(item)
    return out


def deal(shares: int, jobs: Sequence[Job], request: DrawRequest) -> list[list[Job]]:
    """The jobs in so many shares.

    Equal pictures go to one share, and so do pictures of one name: the order in which they are drawn decides which of
    them is called NAME-2, and it stays that of the whole run.
    """
    return deal_out(shares, jobs, request.key, lambda job: str(request.names(job)[0]))


def share(shard: Shard | None, jobs: Sequence[Job], request: DrawRequest) -> list[Job]:
    """The jobs of a share; all without one."""
    return list(jobs) if shard is None else deal(shard.of, jobs, request)[shard.number - 1]
