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
import io
from collections import defaultdict
from collections.abc import Hashable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.errors import InputError, nearest
from t2i.files import read_text
from t2i.jsonl import read_jsonl
from t2i.prompts import check_prompt
from t2i.schema import build
from t2i.world.captions.phrases import PLACES
from t2i.world.graph import POSITIONS, RELATIONS
from t2i.world.reading import OWN, Expectation
from t2i.world.vocabulary import COLOURS, things

SHIPPED = {"scenes": ("core",), "scenes-all": ("core", "all")}
"""Name of a shipped suite -> the vocabularies of its prompts."""
TASK_KEYS = ("task", "tag", "category")
MAX_COUNT = 1000  # of one kind of object in a picture


@dataclass(frozen=True)
class SuitePrompt:
    """One prompt, and what a judge should see in its pictures (an empty expectation: nothing is known).

    vocabulary: the vocabulary of the built-in world that the prompt is from, "core" or "all"; "" for another list.
    """

    text: str
    expectation: Expectation
    lang: str = "en"
    task: str = ""
    side: str = "train"
    vocabulary: str = ""


def shipped_suite() -> Path:
    """The file of the shipped suites: held-out scenes of the built-in world."""
    return Path(__file__).with_name("scenes.jsonl")


def find_suite(name: str) -> list[SuitePrompt]:
    """The prompts that `--suite` names: a key of `SHIPPED`, unless there is a file of that name, or a file.

    Raises InputError as `read_suite`.
    """
    if name in SHIPPED and not Path(name).is_file():
        return [p for p in read_suite(shipped_suite()) if p.vocabulary in SHIPPED[name]]
    if not Path(name).suffix and not Path(name).exists():
        raise InputError(f"there is no suite {name!r}.", f"Write {' or '.join(SHIPPED)}, or name a file of prompts.")
    return read_suite(Path(name))


def read_suite(path: Path) -> list[SuitePrompt]:
    """The prompts of a suite, repeats included. Raises InputError naming the file and line."""
    name, kind = f"the suite {path}", path.suffix.lower()
    if kind == ".jsonl":
        rows = list(read_jsonl(path, name))
        judged = any("expect" in row for _, row in rows)
        prompts = [_judged_prompt(path, n, row) if judged else _prompt(path, n, row) for n, row in rows]
    elif kind in (".tsv", ".csv"):
        prompts = [_prompt(path, n, row) for n, row in _table_rows(path, "\t" if kind == ".tsv" else ",")]
    else:
        lines = [(n, line.strip()) for n, line in enumerate(read_text(path, name).split("\n"), 1)]
        prompts = [_prompt(path, n, {"prompt": line}) for n, line in lines if line and not line.startswith("#")]
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


@dataclass(frozen=True)
class _JudgedRow:
    """A line of our own format, against which its keys and types are checked."""

    prompt: str
    expect: Expectation
    lang: str = "en"
    task: str = ""
    side: str = "train"
    vocabulary: str = ""


def _judged_prompt(path: Path, number: int, raw: Mapping[str, Any]) -> SuitePrompt:
    where = f"line {number} of {path}"
    try:
        row: _JudgedRow = build(_JudgedRow, raw)
        _check_words(row.expect)
    except ValueError as error:
        raise InputError(f"{where} is not a prompt of a suite: {error}.") from error
    text = check_prompt(row.prompt, f"the prompt in {where}")
    return SuitePrompt(text, row.expect, row.lang, row.task, row.side, row.vocabulary)


def _check_words(expected: Expectation) -> None:
    """Raise ValueError for what no judge can find: words that the world does not have, and impossible numbers."""
    words: list[tuple[str, str | None, Iterable[str]]] = [
        ("place", expected.place, PLACES),
        ("shade", expected.shade, COLOURS),
        ("position", expected.position, POSITIONS),
    ]
    for wanted in expected.objects:
        words += [("thing", wanted.thing, things()), ("colour", wanted.colour, (*COLOURS, OWN))]
        if wanted.count is not None and not 1 <= wanted.count <= MAX_COUNT:
            raise ValueError(f"count is {wanted.count}, not 1 to {MAX_COUNT}")
    if expected.relation is not None:
        kind, *ends = expected.relation
        words.append(("relation", kind, RELATIONS))
        if not all(0 <= end < len(expected.objects) for end in ends):
            raise ValueError(f"relation is about the objects {ends[0]} and {ends[1]}, and there are not so many")
    if expected.position is not None and not expected.objects:
        raise ValueError("position is of no object")
    for key, word, known in words:
        if word is not None and word not in known:
            near = nearest(word[:80], list(known), 1)
            raise ValueError(f"{key} is {word[:80]!r}; " + (f"did you mean {near[0]!r}?" if near else "none is known"))


def _table_rows(path: Path, delimiter: str) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, row) of a CSV or TSV file, with column names in lower case."""
    text = io.StringIO(read_text(path, f"the suite {path}"), newline="")
    rows = csv.DictReader(text, delimiter=delimiter)
    try:
        for row in rows:
            yield rows.line_num, {str(k).strip().lower(): v for k, v in row.items() if k}
    except csv.Error as error:
        raise InputError(f"line {rows.line_num + 1} of {path} is not a row of a table: {error}.") from error


def _prompt(path: Path, number: int, row: Mapping[str, Any]) -> SuitePrompt:
    text = row.get("prompt") or row.get("prompts")
    if not isinstance(text, str):
        what = f'line {number} of {path} has no "prompt".'
        raise InputError(what, "See docs/scoring.md for the formats.")
    text = check_prompt(text, f"the prompt in line {number} of {path}")
    task = next((row[k] for k in TASK_KEYS if isinstance(row.get(k), str)), "")
    return SuitePrompt(text, Expectation(), str(row.get("lang", "en")), str(task).replace("_", " "))
