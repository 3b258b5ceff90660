"""Removes models from $T2I_HOME: what was pulled, and bundles."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2i.errors import InputError, UsageError
from t2i.store.hub_names import parse_hub_name
from t2i.store.pulled import only_pulled, pulled_models, remove_folder, remove_pulled
from t2i.store.registry import ModelInfo, list_models, resolve
from t2i.store.search_path import home


@dataclass(frozen=True)
class RemovedModel:
    """What was removed, and how many bytes it had."""

    name: str
    path: Path
    bytes: int


def remove_model(name: str, *, trained: bool = False) -> RemovedModel:
    """Remove a model by the name that --model takes. trained: also a bundle, which cannot be fetched again.

    Raises UnavailableError: no such model. UsageError: one that t2i came with, that lies elsewhere, that another model
    needs, or whose name can mean several.
    """
    bundle = next((model for model in list_models() if model.name == name), None)
    if bundle is not None:
        return _remove_bundle(bundle, trained)
    hub_name = parse_hub_name(name)
    if hub_name is None:
        short = next((model for model in pulled_models() if model.path.name == name), None)
        hub_name = parse_hub_name(short.name) if short else None
    if hub_name is None:
        folder = resolve(name)
        raise UsageError(f"{folder} is not in {home()}, and is left alone.", "Remove the folder yourself.")
    model = only_pulled(hub_name)
    removed = RemovedModel(model.name, model.path, model.size_on_disk)
    remove_pulled(model)
    return removed


def _remove_bundle(model: ModelInfo, trained: bool) -> RemovedModel:
    if model.source != "home":
        raise UsageError(f"the model {model.name!r} came with t2i, and is left alone.", "Remove t2i itself.")
    needed = [
        other.name
        for other in list_models()
        if other.manifest and any(entry.source == model.name for entry in other.manifest.stages)
    ]
    if needed:
        raise UsageError(f"the model {model.name!r} is needed by {', '.join(needed)}.", f"Remove {needed[0]} first.")
    if not trained:
        raise UsageError(f"the model {model.name!r} is a bundle, which cannot be fetched again.", "Say --yes.")
    if model.path.is_symlink():
        raise InputError(f"{model.path} is a link, and is left alone.", "Remove it yourself.", "output")
    size = model.size_on_disk
    remove_folder(model.path)
    return RemovedModel(model.name, model.path, size)
