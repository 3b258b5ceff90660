"""`t2i models`: which models are here, what they are, whether they are whole; to fetch and to remove them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2i.cli import export, pull
from t2i.cli import options as opt
from t2i.cli.model_page import show_bundle, show_folder, show_lora
from t2i.cli.panels import PanelCommand
from t2i.cli.ui import UI
from t2i.errors import T2IError
from t2i.jobs.reporter import safe

SHOW_EPILOG = """Examples:

\b
  t2i models show small
  t2i models show my-model/ --json
  t2i models show mine.safetensors
"""
EPILOG = """Examples:

\b
  t2i models list
  t2i models show small
  t2i models verify small my-model/
  t2i models pull sd-turbo
  t2i models rm sd-turbo
"""

UNPINNED = "it was not pulled, so there are no hashes to compare them with"

app = typer.Typer(
    help="List, show, verify, fetch and remove models.", epilog=EPILOG, no_args_is_help=False, rich_markup_mode=None
)


@app.callback(invoke_without_command=True)
def _root(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        ui: UI = ctx.obj
        ui.line(ctx.get_help())


@app.command("list", cls=PanelCommand, epilog="Examples:\n\n\b\n  t2i models list\n  t2i models list --json\n")
def list_(ctx: typer.Context, json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the models that can be named with --model."""
    ui: UI = ctx.obj
    from t2i.store.pulled import pulled_models
    from t2i.store.registry import list_models

    rows = []
    for model in list_models():
        manifest = model.manifest
        sizes = "/".join(str(s) for s in manifest.sizes) if manifest else ""
        if ui.json:
            facts = {
                "name": model.name,
                "source": model.source,
                "path": str(model.path),
                "fault": model.fault,
                "lacks": list(model.lacks),
            }
            ui.record({**facts, "sizes": list(manifest.sizes) if manifest else [], "bytes": model.size_on_disk})
        shares = sorted({e.source for e in manifest.stages if e.source}) if manifest else []
        state = model.fault or f"{model.size_on_disk / 1e6:.1f} MB" + (
            f", needs {' and '.join(shares)}" if shares else ""
        )
        rows.append([model.name, manifest.family if manifest else "?", sizes, state, str(model.path)])
    for pulled in pulled_models():
        if ui.json:
            place = {"name": pulled.name, "source": "hub", "path": str(pulled.path), "fault": pulled.fault}
            licence = pulled.lock.licence or None if pulled.lock else None
            ui.record({**place, "lacks": [], "sizes": [], "bytes": pulled.size_on_disk, "licence": licence})
        state = pulled.fault or f"{pulled.size_on_disk / 1e6:.1f} MB, {pulled.lock.licence if pulled.lock else ''}"
        rows.append([pulled.name, "hub", "", state, str(pulled.path)])
    if not rows:
        ui.note("no model is installed")
    if rows and not ui.json:
        ui.table("models", ["name", "family", "sizes", "state", "path"], rows)


@app.command(
    "show",
    cls=PanelCommand,
    epilog=SHOW_EPILOG,
)
def show(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER|ORG/NAME|FILE", help="Which model, or LoRA.")] = "small",
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show a model's stages, their sizes and defaults, its licence and its card; or what a LoRA is for."""
    ui: UI = ctx.obj
    if model.endswith(".safetensors"):
        return show_lora(ui, model)
    from t2i.store.manifest import MANIFEST
    from t2i.store.pipeline_classes import INDEX
    from t2i.store.pulled import LOCK
    from t2i.store.registry import resolve

    folder = resolve(model)
    is_bundle = (folder / MANIFEST).is_file()
    if not is_bundle and ((folder / INDEX).is_file() or (folder / LOCK).is_file()):
        show_folder(ui, folder)
    else:
        show_bundle(ui, folder)


@app.command(
    "verify", cls=PanelCommand, epilog="Examples:\n\n\b\n  t2i models verify\n  t2i models verify small my-model/\n"
)
def verify(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|FOLDER|ORG/NAME]...", help="Which; all by default.")
    ] = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Read every file of a model, compare the hashes, load what a picture needs, and look for stages that are not
    trained yet. A folder in diffusers' layout that was not pulled has no hashes: its files are read and their headers
    checked. Every model is looked at; exits 3 if one is damaged or unfinished."""
    ui: UI = ctx.obj
    from t2i.errors import InputError
    from t2i.stages.loading import check_loads
    from t2i.store.bundle import read_bundle
    from t2i.store.completeness import unfinished_error
    from t2i.store.manifest import MANIFEST
    from t2i.store.pulled import pulled_models
    from t2i.store.registry import list_models, resolve
    from t2i.store.verification import Verified, verify_model

    if models and len(models) == 1:
        resolve(models[0])  # the one that was asked for is not there: that is the whole answer
    names: list[tuple[str, Path | None]] = [(name, None) for name in models or []]
    if not models:
        names += [(m.name, m.path) for m in list_models()] + [(m.name, m.path) for m in pulled_models()]
    broken = 0
    for name, known in names:
        fault: T2IError | None = None
        path, found = known, Verified(())
        try:
            path = known or resolve(name)
            found = verify_model(path)
            if (path / MANIFEST).is_file():
                check_loads(read_bundle(path))
            if found.lacks:
                raise unfinished_error(name, list(found.lacks))
        except T2IError as error:
            fault, broken = error, broken + 1
            ui.fail(error)
        if ui.json:
            facts = {"name": name, "path": path and str(path), "ok": fault is None, "files": len(found.files)}
            compared = fault is None and found.compared
            ui.record({**facts, "compared": compared, "fault": fault and fault.message, "lacks": list(found.lacks)})
        elif fault is None:
            files = f"{len(found.files)} files"
            ui.line(
                f"{safe(name)}: whole, {files}" if found.compared else f"{safe(name)}: readable, {files}; {UNPINNED}"
            )
    if broken:
        count = f"{broken} of {len(names)} models" if len(names) > 1 else f"the model {names[0][0]!r}"
        raise InputError(f"{count} cannot be used.", code="bundle")


app.command("pull", cls=PanelCommand, epilog=pull.PULL_EPILOG)(pull.pull)
app.command("rm", cls=PanelCommand, epilog=pull.RM_EPILOG)(pull.rm)
app.command("export", cls=PanelCommand, epilog=export.EPILOG)(export.export)
