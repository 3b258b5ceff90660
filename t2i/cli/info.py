"""`t2i info`: everything a picture says about itself, and whether that holds."""

from __future__ import annotations

import json as json_
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
    valid, broken, or absent. Reads pictures of AUTOMATIC1111 and ComfyUI, too."""
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
        for name, value in (facts["t2i"] or facts["generator"] or {}).items():
            if value not in ("", None, {}) and name != "source_type":  # told below
                ui.line(f"  {safe(str(name))}: {safe(_text(value))}")
        if facts["t2i"] is None and facts["generator"] is None and facts["parameters"]:
            ui.line(f"  parameters: {safe(facts['parameters'])}")
        ui.line("marks:")
        for name, mark in found.marks.items():
            ui.line(f"  {NAMES[name]}: {mark.state}{'; ' if mark.says else ''}{safe(mark.says)}")
    if found.fault is not None:
        raise found.fault
    if found.broken:
        what = f"{image} has a broken mark: {' and '.join(found.broken)}."
        raise InputError(what, "Somebody changed the picture, or its metadata.", "mark")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_.dumps(value, ensure_ascii=False)
