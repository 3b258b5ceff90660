"""Would the stages of a recipe fit together, and with those that a bundle holds? Asked before hours are spent."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from t2i.errors import InputError, UsageError
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.compatibility import ENCODERS, check_compatible, pixel_sizes
from t2i.store.manifest import KINDS, Manifest, StageEntry
from t2i.store.shared_stages import find_shared
from t2i.train.objectives import objective_of
from t2i.train.recipe import Recipe


def bundle_entry(recipe: Recipe, stage: str) -> tuple[StageEntry, dict[str, Any]]:
    """The manifest's entry and the config.json of a stage that this recipe trains or copies."""
    return objective_of(recipe, stage).bundle_entry(recipe, stage)


def learned_from(bundle: Bundle, entry: StageEntry, teacher: StageEntry) -> bool:
    """Whether a stage of the bundle was trained on its stage `teacher`, and so is worth nothing beside a new one."""
    if teacher.kind not in ENCODERS:
        return (teacher.kind, entry.kind) == ("vae", "dalle")
    widths = bundle.configs[entry.name]["widths"]
    # a shared stage may read the embeddings of its own model's CLIP
    reads = widths.get("text_dim") or (widths.get("cond_dim") and not entry.source)
    return entry.kind in ("prior", "base", "gan", "dalle") or bool(reads and entry.kind not in ENCODERS)


def check_recipe(recipe: Recipe, stages: tuple[str, ...], bundle: Bundle | None, folder: Path = Path("model")) -> None:
    """Check the sizes of the stages to be trained, alone and together with what the bundle in `folder` holds already.

    Raises UsageError (code `config`) for sizes that a stage cannot have, else InputError (`mismatch`).
    """
    for name in recipe.stages:
        for holds, sentence in objective_of(recipe, name).rules(recipe, name, stages):
            if not holds:
                raise UsageError(f"the recipe {recipe.name!r} cannot be used: {sentence}.", code="config")
    entries, configs = _together(recipe, stages, bundle, folder)
    manifest = Manifest(recipe.family, recipe.name, tuple(entries), ())
    manifest = replace(manifest, sizes=pixel_sizes(manifest, configs))
    try:
        check_compatible(manifest, configs)
    except InputError as error:
        if bundle is None:
            raise UsageError(f"the recipe {recipe.name!r} cannot be used: {error.message}", code="config") from error
        hint = "Train with the recipe that the model was started with, or choose another --out."
        raise InputError(error.message, hint, "mismatch") from error


def _together(
    recipe: Recipe, stages: tuple[str, ...], bundle: Bundle | None, folder: Path
) -> tuple[list[StageEntry], dict[str, dict[str, Any]]]:
    """Entries and configs of the bundle as it will be, in the order they run."""
    made = {name: _shared(recipe, name, folder) or bundle_entry(recipe, name) for name in stages}
    entries: list[StageEntry] = []
    configs: dict[str, dict[str, Any]] = {}
    for entry in bundle.manifest.stages if bundle else ():
        assert bundle is not None
        outdated = any(learned_from(bundle, entry, teacher) for teacher, _ in made.values())
        if entry.name not in made and not outdated:
            entries.append(entry)
            configs[entry.name] = bundle.configs[entry.name]
    for name, (entry, config) in made.items():
        entries.append(entry)
        configs[name] = config
    old = [e.name for e in bundle.manifest.stages] if bundle else []
    entries.sort(key=lambda e: (KINDS.index(e.kind), old.index(e.name) if e.name in old else len(old)))
    return entries, configs


def _shared(recipe: Recipe, stage: str, folder: Path) -> tuple[StageEntry, dict[str, Any]] | None:
    """Entry and config of a stage that the recipe shares with another model; None for one that it trains."""
    if stage not in recipe.share:
        return None
    entry, place = find_shared(folder, stage, recipe.share[stage])
    return entry, read_bundle(place).configs[stage]
