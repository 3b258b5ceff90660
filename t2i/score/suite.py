"""Suites: lists of prompts to draw and score, in our own format and in those of others.

    ours          JSONL, {"prompt", "lang", "task", "side", "expect": {...}}: scenes that the judge can check. `expect`
                  holds the fields of `Expectation`; `side` is "train" or "held-out"
    GenEval       evaluation_metadata.jsonl, {"tag", "include", "prompt"}: the tag is the task
    PartiPrompts  PartiPrompts.tsv, columns Prompt, Category, …
    DrawBench     CSV, columns Prompts, Category
    any           .txt, one prompt per line, # comments; JSONL with "prompt"

Prompts without "expect" cannot be judged; they get the CLIP score.
"""

from __future__ import annotations

import csv
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import read_text
from t2i.jsonl import read_jsonl
from t2i.prompts import check_prompt
from t2i.world.reading import Expectation, Wanted

SHIPPED = "scenes"
TASK_KEYS = ("task", "tag", "category")


@dataclass(frozen=True)
class SuitePrompt:
    """One prompt, and what a judge should see in its pictures (an empty expectation: nothing is known)."""

    text: str
    expectation: Expectation
    lang: str = "en"
    task: str = ""
    side: str = "train"


def shipped_suite() -> Path:
    """The shipped suite: held-out scenes of the built-in world."""
    return Path(__file__).with_name("scenes.jsonl")


def suite_path(name: str) -> Path:
    """The file that ``--suite`` names: "scenes" is the shipped suite unless there is a file of that name."""
    if name == SHIPPED and not Path(name).is_file():
        return shipped_suite()
    return Path(name)


def read_suite(path: Path) -> list[SuitePrompt]:
    """The prompts of a suite, repeats included. Raises InputError naming the file and line."""
    name, kind = f"the suite {path}", path.suffix.lower()
    if kind == ".jsonl":
        rows = list(read_jsonl(path, name))
        judged = any("expect" in row for _, row in rows)
        prompts = [_judged_prompt(path, n, row) if judged else _prompt(path, row) for n, row in rows]
    elif kind in (".tsv", ".csv"):
        prompts = [_prompt(path, row) for row in _table_rows(read_text(path, name), "\t" if kind == ".tsv" else ",")]
    else:
        lines = [line.strip() for line in read_text(path, name).splitlines()]
        prompts = [SuitePrompt(check_prompt(x), Expectation()) for x in lines if x and not x.startswith("#")]
    if not prompts:
        raise InputError(f"{name} is empty.")
    return prompts


def scene_keys(prompts: Iterable[SuitePrompt]) -> list[Hashable]:
    """One key per prompt; a prompt and its translation have the same.

    The k-th prompt of a task and expectation in one language and the k-th in another describe the same scene.
    """
    seen: dict[Hashable, int] = defaultdict(int)
    keys: list[Hashable] = []
    for p in prompts:
        seen[p.task, p.expectation, p.lang] += 1
        keys.append((p.task, p.expectation, seen[p.task, p.expectation, p.lang]))
    return keys


def _judged_prompt(path: Path, number: int, row: Mapping[str, Any]) -> SuitePrompt:
    try:
        expectation = _expectation(row["expect"])
        return SuitePrompt(
            row["prompt"], expectation, row.get("lang", "en"), row.get("task", ""), row.get("side", "train")
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise InputError(f"line {number} of {path} is not a prompt of a suite: {error}") from error


def _expectation(raw: Mapping[str, Any]) -> Expectation:
    objects = tuple(Wanted(o["thing"], o.get("count"), o.get("colour")) for o in raw.get("objects", ()))
    relation = raw.get("relation")
    return Expectation(
        objects, raw.get("place"), raw.get("shade"), tuple(relation) if relation else None, raw.get("position")
    )


def _table_rows(text: str, delimiter: str) -> Iterator[dict[str, Any]]:
    """The rows of a CSV or TSV file, with column names in lower case."""
    for row in csv.DictReader(text.splitlines(), delimiter=delimiter):
        yield {str(k).strip().lower(): v for k, v in row.items() if k}


def _prompt(path: Path, row: Mapping[str, Any]) -> SuitePrompt:
    text = row.get("prompt") or row.get("prompts")
    if not isinstance(text, str):
        raise InputError(f'{path} has a line or a column without "prompt".', "See docs/scoring.md for the formats.")
    task = next((row[k] for k in TASK_KEYS if isinstance(row.get(k), str)), "")
    return SuitePrompt(check_prompt(text), Expectation(), str(row.get("lang", "en")), str(task).replace("_", " "))
