"""Reads all of a model and compares it with its hashes, where there are some: a bundle's, or those of a pull."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from t2i.store.bundle import read_bundle
from t2i.store.completeness import missing_stages
from t2i.store.diffusers_folder import read_diffusers_folder
from t2i.store.manifest import MANIFEST
from t2i.store.parts import folder_parts
from t2i.store.pipeline_classes import INDEX
from t2i.store.pulled import hub_home, pulled_models, verify_pulled


@dataclass(frozen=True)
class Verified:
    """files: that were read. compared: whether with hashes; nobody knows those of a folder that was not pulled.

    lacks: the kinds of stage that an unfinished bundle has not.
    """

    files: tuple[str, ...]
    compared: bool = True
    lacks: tuple[str, ...] = ()


def verify_model(folder: Path) -> Verified:
    """Read every file of the model in a folder. Raises InputError (code `bundle`) at the first fault."""
    if hub_home() in folder.parents:
        model = next((model for model in pulled_models() if model.path == folder), None)
        if model is not None:
            files = verify_pulled(model)
            folder_parts(folder)  # raises where a header cannot be read
            return Verified(tuple(files))
    if not (folder / MANIFEST).is_file() and (folder / INDEX).is_file():
        return Verified(tuple(read_diffusers_folder(folder).digests()), compared=False)
    bundle = read_bundle(folder)
    return Verified(tuple(bundle.verify()), lacks=tuple(missing_stages(bundle.manifest, bundle.configs)))
