"""`t2i info`: everything a picture says about itself."""

from __future__ import annotations

import json as json_
from pathlib import Path
from typing import Annotated, Any

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.jobs.reporter import safe

EPILOG = """Examples:

\b
  t2i info out/a-cat-in-the-snow-7.png
  t2i info picture.webp --json
  t2i info signed.png --trust roots.pem
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
    """Show how a picture was made: prompt, seed, settings, model, whether it is marked as generated, and whether its
    Content Credentials are valid. Reads pictures of AUTOMATIC1111 and ComfyUI, too."""
    ui: UI = ctx.obj
    from t2i.media.c2pa import read_credentials
    from t2i.media.images import read_metadata

    facts = read_metadata(image)
    facts["c2pa"] = read_credentials(image, facts["format"], trust)
    if ui.json:
        ui.picture(image, facts)
        return
    ui.line(f"{safe(str(image))}: {facts['format']}, {facts['width']}x{facts['height']}")
    for name, value in (facts["t2i"] or facts["generator"] or {}).items():
        if value not in ("", None, {}) and (name != "source_type" or not facts["digital_source_type"]):  # told below
            ui.line(f"  {safe(str(name))}: {safe(_text(value))}")
    if facts["t2i"] is None and facts["generator"] is None and facts["parameters"]:
        ui.line(f"  parameters: {safe(facts['parameters'])}")
    if facts["digital_source_type"]:
        ui.line(f"  source type: {safe(facts['digital_source_type'])}")
    if facts["c2pa"]:
        ui.line(f"  content credentials: {safe(_credentials(facts['c2pa']))}")
    if facts["damaged"]:
        ui.warn("it holds a record of t2i that cannot be read")
    elif not any(facts[name] for name in ("t2i", "generator", "parameters", "digital_source_type", "c2pa")):
        ui.note("it says nothing about how it was made")


def _text(value: Any) -> str:
    return value if isinstance(value, str) else json_.dumps(value, ensure_ascii=False)


def _credentials(claim: dict[str, Any]) -> str:
    words = {
        "Trusted": "valid, from a trusted signer",
        "Valid": "valid: unchanged since it was signed; the signer is not known",
        "Invalid": "BROKEN: the picture was changed after it was signed, or the signature is not its own",
        "not checked": "there, not checked; pip install 't2i[c2pa]'",
    }
    said = [words.get(claim["state"], claim["state"])]
    said += [f"signed by {claim['signer']}"] if claim["signer"] else []
    said += [", ".join(claim["actions"])] if claim["actions"] else []
    return "; ".join(said + [problem for problem in claim["problems"] if problem])
