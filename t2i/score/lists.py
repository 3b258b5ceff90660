"""Lists of prompts to be drawn and scored: our own suites, and the files of others as they come.

    ours          JSONL, {"prompt", "lang", "task", "side", "expect"}: scenes that the judge can check
    GenEval       evaluation_metadata.jsonl, {"tag", "include", "prompt"}: the tag is the task
    PartiPrompts  PartiPrompts.tsv, columns Prompt, Category, …
    DrawBench     CSV, columns Prompts, Category
    anything      .txt, one prompt a line, # comments; JSONL with "prompt"

Without "expect" there is nothing to check a scene against: such prompts get the CLIP score.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from t2i.errors import InputError
from t2i.files import explain_os_error
from t2i.prompts import check_prompt
from t2i.score.listing import read_jsonl
from t2i.score.suite import Prompt, read_suite, shipped
from t2i.world.reading import Expectation

TASK = ("task", "tag", "category")
SHIPPED = "scenes"


def suite_path(name: str) -> Path:
    """The file of ``--suite``: the shipped list or the user's."""
    if name == SHIPPED and not Path(name).is_file():
        return shipped()
    return Path(name)


def read_list(path: Path) -> list[Prompt]:
    """The prompts of a list as they come. Raises InputError where it cannot be read or holds none."""
    kind = path.suffix.lower()
    if kind == ".jsonl":
        rows = [row for _, row in read_jsonl(path)]
        if any("expect" in row for row in rows):
            return read_suite(path)
        return _some([_prompt(row, str(path)) for row in rows], path)
    if kind in (".tsv", ".csv"):
        return _some(list(_table(path, "\t" if kind == ".tsv" else ",")), path)
    lines = [line.strip() for line in _text(path).splitlines()]
    return _some([Prompt(check_prompt(x), Expectation()) for x in lines if x and not x.startswith("#")], path)


def _text(path: Path) -> str:
    try:
        return path.read_text("utf-8-sig")
    except OSError as error:
        raise InputError(f"cannot read the suite {path}: {explain_os_error(error)}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"the suite {path} is not text in UTF-8.") from error


def _table(path: Path, comma: str) -> Iterator[Prompt]:
    for row in csv.DictReader(_text(path).splitlines(), delimiter=comma):
        yield _prompt({str(k).strip().lower(): v for k, v in row.items() if k}, str(path))


def _prompt(row: dict[str, object], where: str) -> Prompt:
    text = row.get("prompt") or row.get("prompts")
    if not isinstance(text, str):
        raise InputError(f'{where} has a line or a column without "prompt".', "See docs/scoring.md for the formats.")
    task = next((row[k] for k in TASK if isinstance(row.get(k), str)), "")
    return Prompt(check_prompt(text), Expectation(), str(row.get("lang", "en")), str(task).replace("_", " "))


def _some(prompts: list[Prompt], path: Path) -> list[Prompt]:
    if not prompts:
        raise InputError(f"the suite {path} is empty.")
    return prompts
