"""`t2i info`: everything a picture says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI, safe

EPILOG = """Examples:

\b
  t2i info out/a-cat-in-the-snow-7.png
  t2i info picture.webp --json
"""


def info(
    ctx: typer.Context,
    image: Annotated[Path, typer.Argument(metavar="IMAGE", help="A PNG, JPEG or WebP file.")],
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show how a picture was made: prompt, seed, settings, model, and its mark as a generated picture."""
    ui: UI = ctx.obj
    from t2i.images import read_metadata

    facts = read_metadata(image)
    if ui.json:
        ui.picture(image, facts)
        return
    ui.line(f"{safe(str(image))}: {facts['format']}, {facts['width']}x{facts['height']}")
    for name, value in (facts["t2i"] or {}).items():
        if value not in ("", None):
            ui.line(f"  {safe(str(name))}: {safe(str(value))}")
    if facts["t2i"] is None and facts["parameters"]:
        ui.line(f"  parameters: {safe(facts['parameters'])}")
    if facts["digital_source_type"]:
        ui.line(f"  source type: {safe(facts['digital_source_type'])}")
    if facts["t2i"] is None and not facts["parameters"]:
        ui.note("it says nothing about how it was made")
