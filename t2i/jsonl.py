"""Strict JSON: a single text, and files with one JSON object per line."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import read_text


def strict_json(data: bytes | str) -> Any:
    """Parse JSON without duplicate keys, NaN or infinities. Raises ValueError naming the fault."""
    try:
        return json.loads(data, object_pairs_hook=_no_duplicates, parse_constant=_no_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def read_jsonl(path: Path, name: str = "", hint: str = "", code: str = "input") -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank, in UTF-8.

    Only "\\n" ends a line: JSON strings may hold other separators, such as U+2028. name: what messages call the file.
    Raises InputError with ``hint`` and ``code``.
    """
    name = name or str(path)
    for number, line in enumerate(read_text(path, name, code).split("\n"), 1):
        if line.strip():
            yield number, json_object(line, f"line {number} of {name}", hint, code)


def json_object(line: str, where: str, hint: str = "", code: str = "input") -> dict[str, Any]:
    """One line of a JSONL file. where: what messages call it. Raises InputError with ``hint`` and ``code``."""
    try:
        row = strict_json(line)
    except ValueError as error:
        raise InputError(f"{where} is not JSON: {error}.", hint, code) from None
    if not isinstance(row, dict):
        raise InputError(f"{where} is not a JSON object.", hint, code)
    return row


def _no_duplicates(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in pairs:
        if key in out:
            raise ValueError(f"the key {key[:80]!r} appears twice")
        out[key] = value
    return out


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")
