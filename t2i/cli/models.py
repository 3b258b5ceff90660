"""`t2i models`: which models are here, what they are, whether they are whole."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from t2i.cli import options as opt
from t2i.cli.panels import PanelCommand
from t2i.cli.ui import UI
from t2i.errors import T2IError
from t2i.jobs.reporter import safe

EPILOG = """Examples:

\b
  t2i models list
  t2i models show small
  t2i models verify small my-model/
"""

app = typer.Typer(help="List, show and verify models.", epilog=EPILOG, no_args_is_help=False, rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def _root(ctx: typer.Context) -> None:
    if ctx.invoked_subcommand is None:
        ui: UI = ctx.obj
        ui.line(ctx.get_help())


@app.command("list", cls=PanelCommand, epilog="Examples:\n\n\b\n  t2i models list\n  t2i models list --json\n")
def list_(ctx: typer.Context, json: opt.Json = False, debug: opt.Debug = False) -> None:
    """List the models that can be named with --model."""
    ui: UI = ctx.obj
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
    if not rows:
        ui.note("no model is installed")
    if rows and not ui.json:
        ui.table("models", ["name", "family", "sizes", "state", "path"], rows)


@app.command(
    "show", cls=PanelCommand, epilog="Examples:\n\n\b\n  t2i models show small\n  t2i models show my-model/ --json\n"
)
def show(
    ctx: typer.Context,
    model: Annotated[str, typer.Argument(metavar="NAME|FOLDER", help="Which model.")] = "small",
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Show a model's stages, defaults and card."""
    ui: UI = ctx.obj
    from dataclasses import asdict

    from t2i.store.bundle import read_bundle
    from t2i.store.completeness import missing_stages, unfinished_error
    from t2i.store.manifest import entry_table
    from t2i.store.registry import resolve

    bundle = read_bundle(resolve(model))
    manifest = bundle.manifest
    lacks = missing_stages(manifest, bundle.configs)
    if ui.json:
        stages = [{**entry_table(entry), "source": entry.source} for entry in manifest.stages]
        facts = {"path": str(bundle.path), "digest": bundle.digest, "lacks": lacks}
        ui.record({**facts, "manifest": {**asdict(manifest), "stages": stages}})
        return
    sizes = "no sizes yet"
    if manifest.sizes:
        sizes = f"{'/'.join(map(str, manifest.sizes))} px ({manifest.size} unless told otherwise)"
    ui.line(safe(f"{manifest.name}: {manifest.family}, {sizes}, {manifest.tool}"))
    if lacks:
        ui.line(safe(f"  {unfinished_error(manifest.name, lacks).message}"))
    for entry in manifest.stages:
        defaults: dict[str, Any] = {k: v for k, v in asdict(entry.defaults).items() if v is not None}
        defaults |= {"instead_of": entry.instead_of} if entry.instead_of else {}
        if isinstance(defaults.get("threshold"), tuple):
            defaults["threshold"] = ",".join(f"{v:g}" for v in defaults["threshold"])  # as --threshold takes it
        kind = f"{entry.kind}, from {entry.source}" if entry.source else entry.kind
        ui.line(safe(f"  {entry.name} ({kind})  " + "  ".join(f"{k} {v}" for k, v in defaults.items())))
    ui.line(f"  digest {bundle.digest[:16]}\n")
    for line in bundle.card().rstrip().split("\n"):
        ui.line(safe(line))


@app.command(
    "verify", cls=PanelCommand, epilog="Examples:\n\n\b\n  t2i models verify\n  t2i models verify small my-model/\n"
)
def verify(
    ctx: typer.Context,
    models: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME|FOLDER]...", help="Which; all by default.")
    ] = None,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Read every file of a model, compare the hashes, look for broken weights and for stages that are not trained
    yet. Every model is looked at; exits 3 if one is damaged or unfinished."""
    ui: UI = ctx.obj
    from t2i.errors import InputError
    from t2i.store.bundle import read_bundle
    from t2i.store.completeness import missing_stages, unfinished_error
    from t2i.store.registry import list_models, resolve

    if models and len(models) == 1:
        resolve(models[0])  # the one that was asked for is not there: that is the whole answer
    names = [(name, None) for name in models] if models else [(m.name, m.path) for m in list_models()]
    broken = 0
    for name, known in names:
        fault: T2IError | None = None
        path, files, lacks = known, list[str](), list[str]()
        try:
            path = known or resolve(name)
            bundle = read_bundle(path)
            files, lacks = bundle.verify(), missing_stages(bundle.manifest, bundle.configs)
            if lacks:
                raise unfinished_error(name, lacks)
        except T2IError as error:
            fault, broken = error, broken + 1
            ui.fail(error)
        if ui.json:
            said = {"ok": fault is None, "files": len(files), "fault": fault and fault.message, "lacks": lacks}
            ui.record({"name": name, "path": path and str(path), **said})
        elif fault is None:
            ui.line(f"{safe(name)}: whole, {len(files)} files")
    if broken:
        count = f"{broken} of {len(names)} models" if len(names) > 1 else f"the model {names[0][0]!r}"
        raise InputError(f"{count} cannot be used.", code="bundle")
