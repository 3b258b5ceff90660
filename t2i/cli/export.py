"""`t2i models export`: a part of a model in the format of another library."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import UsageError, check_choice
from t2i.jobs.reporter import safe

FORMATS = ("open_clip",)
EPILOG = """Examples:

\b
  t2i models export my-model --to open_clip -o my-clip
"""


def export(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="Which model.")],
    output: Annotated[Path, typer.Option("--output", "-o", metavar="DIR", help="A new folder.")],
    to: Annotated[str, typer.Option("--to", metavar="FORMAT", help="open_clip: the model's CLIP.")] = FORMATS[0],
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Write a model's CLIP as a folder that open_clip reads, with its tokenizer and the way pictures are prepared."""
    check_choice("to", to, FORMATS)
    from t2i.store.bundle import Bundle
    from t2i.store.models import find_model
    from t2i.train.open_clip_export import export_open_clip

    ui: UI = ctx.obj
    stored = find_model(model)
    if not isinstance(stored, Bundle):
        hint = f"Its parts are in {stored.main.path}, for the libraries that it was made for."
        raise UsageError(f"{stored.name} is no model of ours, and only the CLIP of ours is exported.", hint)
    files = export_open_clip(stored, output)
    if ui.json:
        ui.record({"exported": model, "to": to, "path": str(output), "files": [file.name for file in files]})
    else:
        ui.line(safe(str(output)))
