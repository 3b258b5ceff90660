"""What `t2i models show` prints of a model: of a bundle of ours, and of a folder in diffusers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.cli.ui import UI, count_of
from t2i.errors import InputError
from t2i.jobs.reporter import safe

if TYPE_CHECKING:
    from t2i.store.manifest import Manifest
    from t2i.store.parts import ModelPart

CARD_LINES = 40  # of a publisher's card


def show_bundle(ui: UI, folder: Path) -> None:
    """A bundle's stages, defaults and card. Raises InputError for what is not a bundle."""
    from dataclasses import asdict

    from t2i.stages.loading import check_stage
    from t2i.store.abilities import abilities
    from t2i.store.bundle import read_bundle
    from t2i.store.completeness import missing_stages, unfinished_error
    from t2i.store.manifest import entry_table
    from t2i.store.parts import bundle_parts

    bundle = read_bundle(folder)
    manifest = bundle.manifest
    for entry in manifest.stages:
        check_stage(bundle, entry)
    lacks = missing_stages(manifest, bundle.configs)
    parts, can = bundle_parts(bundle), abilities(bundle)
    if ui.json:
        stages = [{**entry_table(entry), "source": entry.source} for entry in manifest.stages]
        facts = {"path": str(bundle.path), "digest": bundle.digest, "lacks": lacks, "can": can}
        ui.record({**facts, "manifest": {**asdict(manifest), "stages": stages}, **_totals(parts)})
        return
    sizes = "no sizes yet"
    if manifest.sizes:
        sizes = f"{'/'.join(map(str, manifest.sizes))} px ({manifest.size} unless told otherwise)"
    ui.line(safe(f"{manifest.name}: {manifest.family}, {sizes}, {manifest.tool}"))
    if lacks:
        ui.line(safe(f"  {unfinished_error(manifest.name, lacks).message}"))
    rows = []
    for entry, part in zip(manifest.stages, parts, strict=True):
        defaults: dict[str, Any] = {k: v for k, v in asdict(entry.defaults).items() if v is not None}
        if isinstance(defaults.get("threshold"), tuple):
            defaults["threshold"] = ",".join(f"{v:g}" for v in defaults["threshold"])  # as --threshold takes it
        kind = f"{entry.kind}, from {entry.source}" if entry.source else entry.kind
        said = [_count(part.parameters), *(f"{k} {v}" for k, v in defaults.items())]
        rows.append((f"  {entry.name} ({kind})", ", ".join(said)))
    rows.append(("  in all", f"{_sum(parts)}, digest {bundle.digest[:16]}"))
    ui.facts([*rows, ("  can be used with", ", ".join(can))] if can else rows)
    ui.line("")
    ui.markdown(bundle.card())


def show_folder(ui: UI, folder: Path) -> None:
    """A folder's components, where it came from, its licence, and the beginning of its card.

    Raises InputError for one that is damaged.
    """
    from t2i.store.abilities import abilities
    from t2i.store.lora import is_lora
    from t2i.store.models import read_model
    from t2i.store.parts import folder_parts
    from t2i.store.pipeline_classes import INDEX
    from t2i.store.pulled import LOCK, read_lock
    from t2i.store.weights_files import read_table

    lock = read_lock(folder) if (folder / LOCK).is_file() else None
    parts = folder_parts(folder)
    cls = str(read_table(folder / INDEX).get("_class_name")) if (folder / INDEX).is_file() else None
    fault, can, drawn = None, list[str](), ""
    try:
        model = read_model(folder)
        can, drawn = abilities(model), _drawn(model.manifest)
    except InputError as error:
        can, fault = (["--lora"], None) if is_lora(folder) else ([], error.message)
    name = lock.repo if lock else folder.resolve().name
    if ui.json:
        origin = {
            "repo": lock.repo, "commit": lock.commit, "revision": lock.revision, "hub": lock.hub, "gated": lock.gated,
            "variant": lock.variant, "pulled": lock.pulled,
        } if lock else None  # fmt: skip
        licence = lock.licence or None if lock else None
        facts = {"name": name, "path": str(folder), "class": cls, "licence": licence, "lock": origin}
        ui.record({**facts, "can": can, "fault": fault, **_totals(parts)})
        return
    ui.line(safe(f"{name}: {cls or 'no pipeline'}"))
    if lock:
        ui.line(safe(f"  {lock.revision} of {lock.hub}, commit {lock.commit}, pulled {lock.pulled}"))
        ui.line(safe(f"  licence: {lock.licence or 'not said; read its card'}{', gated' if lock.gated else ''}"))
    rows = []
    for part in parts:
        types = ", ".join(sorted(part.types)).lower()
        numbers = f"{_count(part.parameters)}, {types}, {part.bytes / 1e6:.1f} MB" if part.parameters else ""
        rows.append((f"  {part.name} ({part.what})", numbers))
    rows.append(("  in all", _sum(parts)))
    if drawn:
        rows.append(("  unless told otherwise", drawn))
    if can:
        rows.append(("  can be used with", ", ".join(can)))
    ui.facts(rows)
    if fault is not None:
        ui.line(safe(f"  {fault}"))
    card = folder / "README.md"
    if card.is_file():
        lines = card.read_text("utf-8", errors="replace").rstrip().split("\n")
        ui.line("")
        for line in lines[:CARD_LINES]:
            ui.line(safe(line))
        if len(lines) > CARD_LINES:
            ui.line(safe(f"… {len(lines) - CARD_LINES} more lines in {card}"))


def _drawn(manifest: Manifest) -> str:
    """The size and the dials of a picture unless told otherwise; "" for a model that draws none."""
    if not manifest.sizes or not manifest.of_kind("base"):
        return ""
    defaults = manifest.of_kind("base")[0].defaults
    guided = f", guidance {defaults.guidance:g}" if defaults.guidance is not None else ""
    return f"{manifest.size} px, {defaults.steps} steps{guided}"


def show_lora(ui: UI, text: str) -> None:
    """A LoRA's file: what it is for, its digest, and of a personal model its word and how it was trained. Raises as
    `read_lora`."""
    from dataclasses import asdict

    from t2i.store.lora import read_lora

    lora = read_lora(text)
    facts = lora.personal
    if ui.json:
        said = asdict(facts) if facts else None
        ui.record({"path": str(lora.path), "sha256": lora.sha256, "layers": lora.layers, "personal": said})
        return
    if facts is None:
        ui.line(safe(f"{lora.name}: a LoRA for open checkpoints, of {lora.layers} layers"))
    else:
        ui.line(safe(f"{lora.name}: a personal model for {facts.model}; prompts call its thing {facts.token}"))
        stages = " and ".join(f"{stage} {digest[:12]}" for stage, digest in facts.weights.items())
        ui.line(safe(f"  of rank {facts.rank}, changes {lora.layers} weights, trained on {stages}"))
        numbers = {k: v for k, v in facts.training.items() if isinstance(v, (str, int, float))}
        ui.line(safe("  " + ", ".join(f"{key} {value}" for key, value in numbers.items())))
    ui.line(f"  sha256 {lora.sha256}")


def _totals(parts: list[ModelPart]) -> dict[str, Any]:
    numbers, size = sum(part.parameters for part in parts), sum(part.bytes for part in parts)
    return {"parts": [part.to_json() for part in parts], "parameters": numbers, "bytes": size}


def _sum(parts: list[ModelPart]) -> str:
    size = sum(part.bytes for part in parts)
    return f"{_count(sum(part.parameters for part in parts))}, {size / 1e6:.1f} MB of weights"


def _count(parameters: int) -> str:
    return f"{count_of(parameters)} parameters"
