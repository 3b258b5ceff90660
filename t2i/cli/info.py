"""`t2i info`: everything a picture says about itself, and whether that holds."""

from __future__ import annotations

import json as json_
import re
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import InputError
from t2i.jobs.reporter import safe

EPILOG = """Examples:

\b
  t2i info out/a-cat-in-the-snow-7.png
  t2i info picture.webp --json
  t2i info signed.png --trust roots.pem

Exit codes: 0 read, and no mark is broken; 3 a mark is broken, or it is no whole picture; 4 --trust without the
extra c2pa.
"""

FIRST = ("prompt", "negative", "seed", "model", "command", "size", "settings", "source")
UNTOLD = ("schema", "source_type")  # the second is told as a mark
EMPTY: tuple[Any, ...] = ("", None, {}, [])
HASH = re.compile("[0-9a-f]{24,}")
DEEP = 8  # tables in one another that get rows of their own


def info(
    ctx: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A PNG, JPEG or WebP file.")],
    trust: Annotated[
        Path | None, typer.Option(metavar="PEM", help="Root certificates to trust.", show_default=False)
    ] = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show how a picture was made: prompt, seed, settings, model; and which marks tell that a model made it: each is
    valid, broken, or absent. Reads pictures of AUTOMATIC1111 and ComfyUI, too. Hashes are cut to 16 digits; --json has
    all of it."""
    ui: UI = ctx.obj
    from t2i.media.marks import NAMES, examine

    found = examine(image, trust)
    facts = found.facts
    if ui.json:
        marks = {name: asdict(mark) for name, mark in found.marks.items()}
        ui.picture(image, {**facts, "marks": marks, "synthetic": found.synthetic})
    else:
        size = "" if facts["width"] is None else f", {facts['width']}x{facts['height']}"
        ui.line(f"{safe(str(image))}: {facts['format']}{size}")
        record: dict[str, Any] = facts["t2i"] or facts["generator"] or {}
        rows = list(_rows(record))
        if not record and facts["parameters"]:
            rows.append(("  parameters", facts["parameters"]))
        ui.facts(rows)
        ui.line("marks:")
        ui.facts((f"  {NAMES[n]}", "; ".join(filter(None, (m.state, m.says)))) for n, m in found.marks.items())
    if found.fault is not None:
        raise found.fault
    if found.broken:
        what = f"{image} has a broken mark: {' and '.join(found.broken)}."
        raise InputError(what, "Somebody changed the picture, or its metadata.", "mark")


def _order(name: str) -> int:
    """What people ask for comes first."""
    return FIRST.index(name) if name in FIRST else len(FIRST)


def _rows(table: dict[str, Any], depth: int = 1) -> Iterator[tuple[str, str]]:
    """The fields of a record: a table that holds tables is an outline, another one line. It may hold anything."""
    for name in sorted(table, key=_order):
        value = table[name]
        if value in EMPTY or name in UNTOLD:
            continue
        if isinstance(value, dict) and depth < DEEP and any(isinstance(v, dict) for v in value.values()):
            yield "  " * depth + name, ""
            yield from _rows(value, depth + 1)
        else:
            yield "  " * depth + name, _text(value)


def _text(value: Any, within: bool = False) -> str:
    """In words, on one line. within: a list or a table around it has commas of its own."""
    if isinstance(value, dict):
        said = [f"{k} {_text(v, True)}" for k, v in value.items() if v not in EMPTY]
        return f"({', '.join(said)})" if within else ", ".join(said)
    if isinstance(value, list):
        return (" " if within else ", ").join(_text(v, True) for v in value)
    text = value if isinstance(value, str) else json_.dumps(value)
    return f"{text[:16]}…" if HASH.fullmatch(text) else text
