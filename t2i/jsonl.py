"""Strict JSON: a single text, and files with one JSON object per line."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import read_text

MAX_DIGITS = 20  # of a whole number: 64 bits have 20
LONE_HALF = re.compile(r"\\u[dD][89a-fA-F]")  # written for one half of a surrogate pair, perhaps without the other


def strict_json(data: bytes | str, *, half_characters: bool = False) -> Any:
    """Parse JSON of which every part can be used and written again: no duplicate keys, no number that is not finite as
    a float or longer than 64 bits, no lone surrogate unless `half_characters`. Raises ValueError naming the fault."""
    text = data.decode("utf-8") if isinstance(data, bytes) else data
    try:
        value = json.loads(
            text,
            object_pairs_hook=_no_duplicates,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
        )
        if not half_characters and LONE_HALF.search(text):
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error
    except UnicodeEncodeError as error:
        raise ValueError("a text in it holds half a character (a lone surrogate)") from error
    return value


def read_jsonl(path: Path, name: str = "", hint: str = "", code: str = "input") -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of every line that is not blank, in UTF-8.

    Only "\\n" ends a line: JSON strings may hold other separators, such as U+2028. name: what messages call the file.
    Raises InputError with `hint` and `code`.
    """
    name = name or str(path)
    for number, line in enumerate(read_text(path, name, code).split("\n"), 1):
        if line.strip():
            yield number, json_object(line, f"line {number} of {name}", hint, code)


def json_object(
    line: str, where: str, hint: str = "", code: str = "input", *, half_characters: bool = False
) -> dict[str, Any]:
    """One line of a JSONL file. where: what messages call it. Raises InputError with `hint` and `code`."""
    try:
        row = strict_json(line, half_characters=half_characters)
    except ValueError as error:
        raise InputError(f"{where} cannot be used as JSON: {error}.", hint, code) from None
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


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:40]} is too large a number")
    return value


def _short(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise ValueError(f"{text[:MAX_DIGITS]}… is too large a number")
    return int(text)


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")
