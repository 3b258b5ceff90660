"""Which pictures are to be scored, and what each was asked to show.

A prompt is taken from the first that has one: a list given by the user, the picture's own record, a text file beside
it (a.txt for a.png), `metadata.jsonl` in its folder, the line that other tools write ("parameters").
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.errors import InputError, T2IError
from t2i.files import explain_os_error
from t2i.media.images import FORMATS, read_metadata

LIST = "metadata.jsonl"
#: where AUTOMATIC1111's line stops being the prompt
END = re.compile(r"^(Negative prompt: |Steps: |Seed: )", re.MULTILINE)


@dataclass(frozen=True)
class Picture:
    """A picture file. name: its path below the folder it was found in; key: its record's, for pictures of ours."""

    path: Path
    name: str
    prompt: str | None = None
    seed: int | None = None
    key: str | None = None
    model: str | None = None


def find_pictures(
    places: Sequence[Path], listed: Mapping[str, str] | None = None
) -> tuple[list[Picture], list[tuple[Path, T2IError]]]:
    """The pictures in files and folders (and below), in the order of their names, and those that cannot be read.

    listed: file name -> prompt, as the user says. What `t2i sample --keep-stages` writes
    beside a picture is passed over. Raises InputError where there is no such place, or no picture in any.
    """
    listed = listed or {}
    found, broken = [], []
    tables: dict[Path, dict[str, str]] = {}
    for path, name in sorted(_files(places), key=lambda pair: (pair[1], str(pair[0]))):
        folder = path.parent
        if folder not in tables:
            tables[folder] = read_prompts(folder / LIST) if (folder / LIST).is_file() else {}
        try:
            own = read_metadata(path)
        except T2IError as error:
            broken.append((path, error))
            continue
        record = own["t2i"] or {}
        key = record.get("key")
        if isinstance(key, str) and "." in key:  # a stage of a picture, not a picture
            continue
        prompt = listed.get(name) or listed.get(path.name) or _text(record.get("prompt")) or _sidecar(path)
        prompt = prompt or tables[folder].get(path.name) or _parameters(own["parameters"])
        seed = record.get("seed")
        found.append(
            Picture(
                path,
                name,
                prompt,
                seed if isinstance(seed, int) else None,
                key if isinstance(key, str) else None,
                _text(record.get("weights")),
            )
        )
    if not found and not broken:
        shown = ", ".join(map(str, places))
        raise InputError(f"there is no picture in {shown}.", "Give files or folders of PNG, JPEG or WebP.")
    return found, broken


def _files(places: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    seen = set()
    for place in places:
        if place.is_dir():
            files = [p for p in place.rglob("*") if p.suffix.lower() in FORMATS and p.is_file()]
            pairs = [(p, p.relative_to(place).as_posix()) for p in files if not p.name.startswith(".")]
        elif place.exists():
            pairs = [(place, place.name)]
        else:
            raise InputError(f"there is nothing at {place}.", "Give files or folders of pictures.")
        for path, name in pairs:
            if path.resolve() not in seen:
                seen.add(path.resolve())
                yield path, name


def read_prompts(path: Path) -> dict[str, str]:
    """File name -> prompt of a JSONL file whose lines hold "file_name" and "prompt" (or "text", "caption").

    Raises InputError naming the line.
    """
    out = {}
    for number, row in read_jsonl(path):
        name = _text(row.get("file_name") or row.get("path"))
        prompt = next((p for p in (_text(row.get(k)) for k in ("prompt", "text", "caption")) if p), None)
        if name is None or prompt is None:
            raise InputError(f'{path}, line {number}, has no "file_name" or no "prompt".')
        out[name] = prompt
    return out


def read_jsonl(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """(line number, object) of a JSONL file. Raises InputError."""
    try:
        lines = path.read_text("utf-8-sig").splitlines()
    except OSError as error:
        raise InputError(f"cannot read {path}: {explain_os_error(error)}.") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not text in UTF-8.") from error
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(f"{path}, line {number}, is not JSON: {error}") from error
        if not isinstance(row, dict):
            raise InputError(f"{path}, line {number}, is not a JSON object.")
        yield number, row


def _sidecar(path: Path) -> str | None:
    try:
        return _text(path.with_suffix(".txt").read_text("utf-8-sig"))
    except (OSError, UnicodeDecodeError):
        return None


def _parameters(line: str | None) -> str | None:
    if not line:
        return None
    end = END.search(line)
    return _text(line[: end.start()] if end else line)


def _text(value: object) -> str | None:
    return value.strip() or None if isinstance(value, str) else None
