"""`t2i models pull` and `rm`: fetch a model from the hub, and remove one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import UsageError
from t2i.jobs.reporter import safe
from t2i.store.hub_names import SHORT_NAMES, require_hub_name

if TYPE_CHECKING:
    from t2i.store.pull import PullPlan

PULL_EPILOG = f"""Short names: {", ".join(SHORT_NAMES)}.

Examples:

\b
  t2i models pull sd-turbo
  t2i models pull sdxl --variant fp16
  t2i models pull acme/painter@v2 --dry-run
  HF_ENDPOINT=https://hub.example t2i models pull acme/painter
"""
RM_EPILOG = """Examples:

\b
  t2i models rm sd-turbo
  t2i models rm acme/painter@v2
  t2i models rm my-model --yes
"""


def pull(
    ctx: typer.Context,
    models: Annotated[
        list[str], typer.Argument(metavar="ORG/NAME[@REVISION]|NAME...", help="Which; NAME is a short name.")
    ],
    variant: Annotated[str, typer.Option(metavar="NAME", help="Weights to prefer, as in fp16.  [default: plain]")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be fetched, and fetch nothing.")] = False,
    offline: opt.Offline = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Fetch a model in diffusers' layout from the hub, as safetensors only. Revision, licence and sizes are told before
    the first file is fetched. Every file is checked against the hub's hashes, and pinned in a lock. What has arrived
    is kept when a pull is interrupted; the same command goes on."""
    names = [require_hub_name(model) for model in models]
    if variant and not variant.isalnum():
        raise UsageError(f"--variant {variant!r} is no name of a variant.", "Write fp16, or bf16.")
    opt.environment(offline, deterministic=False)
    from t2i.store.lora import is_lora
    from t2i.store.pull import is_complete, plan_pull
    from t2i.store.pull import pull as fetch

    ui: UI = ctx.obj
    for asked, name in zip(models, names, strict=True):
        if asked.partition("@")[0] != name.repo:
            ui.note(f"{asked} stands for {name}")
        plan = plan_pull(name, variant)
        missing, whole = plan.missing, is_complete(plan)
        _tell(ui, plan, missing)
        if not dry_run:
            with ui.transfer(name.repo, plan.size) as on_bytes:
                fetch(plan, on_bytes)
            option = "--lora" if is_lora(plan.folder) else "--model"
            ui.note(f"{name.repo} is {'here' if whole else 'pulled'}: {option} {asked}")
        if ui.json:
            ui.record(_facts(plan, 0 if dry_run else missing) | {"dry_run": dry_run})
        elif not dry_run:
            ui.line(safe(str(plan.folder)))


def _tell(ui: UI, plan: PullPlan, missing: int) -> None:
    repository = plan.repository
    licence = repository.licence or "not said; read its card"
    gated = ", gated: its publisher's terms must be accepted" if repository.gated else ""
    ui.note(f"{repository.name.repo} at {repository.name.revision or 'main'} is commit {repository.commit}")
    ui.note(f"licence: {licence}{gated}")
    ui.note(
        f"{len(plan.files)} files, {gigabytes(plan.size)}, of which {gigabytes(missing)} to fetch, to {plan.folder}"
    )


def _facts(plan: PullPlan, fetched: int) -> dict[str, object]:
    repository = plan.repository
    return {
        "name": repository.name.repo,
        "commit": repository.commit,
        "revision": repository.name.revision or "main",
        "licence": repository.licence or None,
        "gated": repository.gated,
        "path": str(plan.folder),
        "files": len(plan.files),
        "bytes": plan.size,
        "fetched": fetched,
    }


def gigabytes(n: int) -> str:
    """A number of bytes for people."""
    return f"{n / 1e9:.1f} GB" if n >= 1e9 else f"{n / 1e6:.1f} MB"


def rm(
    ctx: typer.Context,
    models: Annotated[list[str], typer.Argument(metavar="NAME...", help="Which, as --model takes them.")],
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Also a trained model, which nobody can fetch again.")
    ] = False,
    json: opt.Json = False,
    debug: opt.Debug = False,
) -> None:
    """Remove models that were pulled, half-pulled, or put into $T2I_HOME/models."""
    from t2i.store.removal import remove_model

    ui: UI = ctx.obj
    for model in models:
        removed = remove_model(model, trained=yes)
        if ui.json:
            ui.record({"removed": removed.name, "path": str(removed.path), "bytes": removed.bytes})
        else:
            ui.line(safe(f"{removed.name}: removed, {gigabytes(removed.bytes)}"))
