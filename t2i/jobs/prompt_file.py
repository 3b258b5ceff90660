"""Prompt files (one prompt a line) and jobs files (one JSON object a line, with settings of its own)."""

from __future__ import annotations

import hashlib
import json
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

from t2i.errors import InputError, UsageError, nearest
from t2i.files import explain_os_error, read_bytes, read_stream
from t2i.jobs.job import Job
from t2i.jobs.parsing import MAX_COUNT, parse_seeds
from t2i.jobs.settings import NAMES, Settings, as_options, check_options
from t2i.jobs.sweep import SweepAxis, SweepPoint, at_point
from t2i.jsonl import json_object
from t2i.prompts import MAX_SEED, check_prompt, check_text, expand

MAX_JOBS = 1_000_000  # pictures of one run
JSON_LINES = (".jsonl", ".ndjson")
FIELDS = ("prompt", "n", "seed", "name", *NAMES)


@dataclass(frozen=True)
class PromptLine:
    """One prompt with what its line says.

    options: settings, as on the command line; name: in place of the prompt in file names; where: the line's name in
    messages, "" for the prompt of the command line.
    """

    prompt: str
    n: int | None = None
    seeds: list[int] | None = None
    name: str = ""
    options: dict[str, str] = field(default_factory=dict)
    where: str = ""


def read_lines(source: str) -> list[PromptLine]:
    """The prompts of a file, or of stdin for `-`, without blank lines and `#` comments.

    A file called .jsonl or .ndjson holds JSON objects, and so does a stdin whose first line begins with `{"`. Raises
    InputError for a file that cannot be read, holds no prompt or broken JSON, UsageError, which names the line, for a
    prompt or a setting that makes no sense.
    """
    name = "stdin" if source == "-" else source
    if source.lower().endswith(".json"):
        raise UsageError(f"{name} is not a prompt file.", "Write one JSON object a line, in a .jsonl file.")
    try:
        data = read_stream(sys.stdin.buffer) if source == "-" else read_bytes(source)
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise InputError(f"{name} is not UTF-8 text (line {line}).", "Save it as UTF-8.") from None
    except OSError as error:
        hint = "" if source == "-" or Path(source).is_file() else "To read from a pipe, write -f -"
        raise InputError(f"cannot read the prompts in {name}: {explain_os_error(error)}.", hint) from error
    told = [(n, line) for n, line in enumerate(text.split("\n"), 1) if line.strip() and line.lstrip()[:1] != "#"]
    if not told:
        raise InputError(f"{name} holds no prompt.", "Write one prompt a line.")
    as_json = source.lower().endswith(JSON_LINES) or (source == "-" and re.match(r'\s*\{\s*"', told[0][1]))
    read = _job if as_json else _plain
    return [read(line, f"line {number} of {name}") for number, line in told]


def _plain(line: str, where: str) -> PromptLine:
    return PromptLine(check_prompt(line, f"the prompt in {where}"), where=where)


def _job(line: str, where: str) -> PromptLine:
    # texts are checked as those of the command line are
    return read_job(json_object(line, where, 'Write {"prompt": "a cat", "seed": 7}', half_characters=True), where)


def read_job(table: dict[str, Any], where: str) -> PromptLine:
    """One line of a jobs file, parsed; `where` is its name in messages. Raises UsageError."""
    for key in table:
        if key not in FIELDS:
            near = nearest(str(key), FIELDS, 1)
            hint = f"Did you mean {near[0]!r}?" if near else f"A line may hold {', '.join(FIELDS)}."
            raise UsageError(f"{where} has the unknown field {key!r}.", hint)
    if not isinstance(table.get("prompt"), str):
        what = "holds no prompt" if table.get("prompt") is None else "holds a prompt that is no text"
        raise UsageError(f"{where} {what}.", 'Write {"prompt": "a cat", "seed": 7}', "prompt")
    prompt = check_prompt(table["prompt"], f"the prompt in {where}")
    n, seed, name = table.get("n"), table.get("seed"), table.get("name", "")
    with located(where):
        if n is not None and (type(n) is not int or not 1 <= n <= MAX_COUNT):
            raise UsageError(f"n: {json.dumps(n)[:60]} is not a number of pictures.", f"Write 1 to {MAX_COUNT}.")
        if not isinstance(name, str):
            raise UsageError(f"name: {json.dumps(name)[:60]} is not text.", 'Write "name": "a-cat"')
        options = as_options({key: table[key] for key in NAMES if table.get(key) is not None})
        check_options(options)
        return PromptLine(prompt, n, read_seeds(seed, n), check_text(name.strip(), "the name"), options, where)


def write_job(line: PromptLine) -> dict[str, Any]:
    """What `read_job` reads the line from."""
    table = {"prompt": line.prompt, "n": line.n, "seed": line.seeds, "name": line.name or None, **line.options}
    return {key: value for key, value in table.items() if value is not None}


def read_seeds(seed: Any, n: int | None) -> list[int] | None:
    """The seeds of a JSON value: 7, [1, 2, 9] or "7..14"; None is None. Raises UsageError."""
    if seed is None:
        return None
    if isinstance(seed, list) and seed and all(type(x) is int for x in seed):
        seed = ",".join(map(str, seed))
    if type(seed) is int:
        seed = str(seed)
    if not isinstance(seed, str):
        raise UsageError(f"seed: {json.dumps(seed)[:60]} is not a seed.", 'Write 7, [1, 2, 3] or "7..14".')
    return parse_seeds(seed, n)


@contextmanager
def located(where: str) -> Iterator[None]:
    """Put the name of the line into every UsageError raised inside."""
    try:
        yield
    except UsageError as error:
        if not where or where in error.message:
            raise
        raise UsageError(f"{where}: {error.message}", error.hint, error.code) from error


def seed_of(prompt: str, occurrence: int) -> int:
    """The seed of a line without one: a hash of its text and of how often it has come before, so that a rerun finds its
    pictures."""
    return int.from_bytes(hashlib.sha256(f"{occurrence}\0{prompt}".encode()).digest()[:4], "big") >> 1


def plan(
    lines: list[PromptLine],
    n: int | None,
    seeds: list[int] | None,
    options: dict[str, str],
    read: Callable[[dict[str, str]], Settings],
    axes: Sequence[SweepAxis] = (),
) -> list[Job]:
    """The jobs of a run, in order: for each line its alternatives, for each alternative its seeds, for each seed the
    points of a sweep.

    n, seeds, options: of the command line, for what a line does not say itself; where neither says a seed, it is
    derived from the prompt. read: options to settings. Raises UsageError.
    """
    points = list(product(*(axis.points() for axis in axes)))
    known: dict[str, tuple[Settings, str]] = {}
    jobs: list[Job] = []
    seen: Counter[str] = Counter()

    def settings_at(line: PromptLine, point: tuple[SweepPoint, ...]) -> tuple[Settings, str]:
        said = at_point({**options, **line.options}, point)
        name = json.dumps(said, sort_keys=True)
        if name not in known:
            known[name] = read(said), " ".join(f"{key} {value}" for key, value in sorted(said.items()) if value)
        return known[name]

    for line in lines:
        with located(line.where):
            prompts = expand(line.prompt)
            if not all(prompts):
                raise UsageError("an alternative leaves an empty prompt.", "Write words beside the {…|…}.", "prompt")
            settings = [(*settings_at(line, point), tuple(p.label for p in point)) for point in points]
        for prompt in prompts:
            first = seed_of(prompt, seen[prompt])
            seen[prompt] += 1
            for i, seed in enumerate(_seeds_of(line, n, seeds, first)):
                for dial, said, label in settings:
                    jobs.append(Job(prompt, seed, i, len(jobs), dial, line.name, label, said))
            if len(jobs) > MAX_JOBS:
                raise UsageError(f"this is more than {MAX_JOBS} pictures.", "Run it in parts.")
    return jobs


def _seeds_of(line: PromptLine, n: int | None, seeds: list[int] | None, first: int) -> Sequence[int]:
    if line.seeds is not None:
        return line.seeds
    if seeds is not None and line.n is None:
        return seeds
    start = seeds[0] if seeds else first
    return range(start, min(start + (line.n or n or 1), MAX_SEED + 1))
