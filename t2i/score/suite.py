"""A suite: prompts over the built-in world with what a judge should see in their pictures.

One JSON object a line: {"prompt", "lang", "task", "side", "expect": {...}}, where `expect` holds the fields of
`Expectation` and `side` says on which side of the held-out rule the prompt lies.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import explain_os_error
from t2i.score.statistics import Interval, share
from t2i.world.reading import Expectation, Reading, Wanted, check


@dataclass(frozen=True)
class Prompt:
    """One line of a suite."""

    text: str
    expectation: Expectation
    lang: str = "en"
    task: str = ""
    side: str = "train"


def shipped() -> Path:
    """The shipped suite of the built-in world."""
    return Path(__file__).with_name("scenes.jsonl")


def read_suite(path: Path) -> list[Prompt]:
    """Raises InputError naming the line that cannot be read."""
    try:
        lines = path.read_text("utf-8").splitlines()
    except OSError as error:
        raise InputError(f"cannot read the suite {path}: {explain_os_error(error)}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the suite {path} is not text in UTF-8.") from error
    prompts = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
            prompts.append(
                Prompt(
                    row["prompt"],
                    _expectation(row["expect"]),
                    row.get("lang", "en"),
                    row.get("task", ""),
                    row.get("side", "train"),
                )
            )
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise InputError(f"{path}, line {number}, is not a prompt of a suite: {error}") from error
    if not prompts:
        raise InputError(f"the suite {path} is empty")
    return prompts


def _expectation(raw: Mapping[str, Any]) -> Expectation:
    objects = tuple(Wanted(o["thing"], o.get("count"), o.get("colour")) for o in raw.get("objects", ()))
    relation = raw.get("relation")
    return Expectation(
        objects, raw.get("place"), raw.get("shade"), tuple(relation) if relation else None, raw.get("position")
    )


def scene_keys(prompts: Iterable[Prompt]) -> list[Hashable]:
    """For each prompt which scene it tells: the k-th of its task and expectation in one language and the k-th in
    another are one scene."""
    seen: dict[Hashable, int] = defaultdict(int)
    keys: list[Hashable] = []
    for p in prompts:
        seen[p.task, p.expectation, p.lang] += 1
        keys.append((p.task, p.expectation, seen[p.task, p.expectation, p.lang]))
    return keys


def summarise(prompts: Sequence[Prompt], readings: Iterable[Sequence[Reading]]) -> dict[str, Interval]:
    """task -> mean share of pictures that pass, over scenes, with its 95% interval; `readings` holds each prompt's
    pictures in the order of `prompts`.

    Keys: the tasks of `check`, and each of them for the held-out prompts and for each language where both occur. A
    prompt and its translation are one scene and count once.
    """
    rows: dict[str, dict[Hashable, list[float]]] = defaultdict(lambda: defaultdict(list))
    mixed_sides = len({p.side for p in prompts}) > 1
    mixed_langs = len({p.lang for p in prompts}) > 1
    for scene, prompt, pictures in zip(scene_keys(prompts), prompts, readings, strict=True):
        verdicts = [check(reading, prompt.expectation) for reading in pictures]
        for task in verdicts[0]:
            value = sum(v[task] for v in verdicts) / len(verdicts)
            rows[task][scene].append(value)
            if mixed_sides:
                rows[f"{task} ({prompt.side})"][scene].append(value)
            if mixed_langs:
                rows[f"{task} [{prompt.lang}]"][scene].append(value)
    return {task: share([sum(x) / len(x) for x in scenes.values()]) for task, scenes in sorted(rows.items())}
