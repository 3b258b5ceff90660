"""Reads all of a model and compares it with its hashes, whether it is a bundle or was pulled."""

from __future__ import annotations

from pathlib import Path

from t2i.errors import InputError
from t2i.store.bundle import read_bundle
from t2i.store.completeness import missing_stages
from t2i.store.manifest import MANIFEST
from t2i.store.parts import folder_parts
from t2i.store.pipeline_classes import INDEX
from t2i.store.pulled import hub_home, pulled_models, verify_pulled


def verify_model(folder: Path) -> tuple[list[str], list[str]]:
    """(the files of the model in a folder, the kinds of stage that an unfinished bundle has not).

    Raises InputError (code ``bundle``) at the first fault.
    """
    if hub_home() in folder.parents:
        model = next((model for model in pulled_models() if model.path == folder), None)
        if model is not None:
            files = verify_pulled(model)
            folder_parts(folder)  # raises where a header cannot be read
            return files, []
    if not (folder / MANIFEST).is_file() and (folder / INDEX).is_file():
        what = f"{folder} was not pulled by t2i: no hashes of its files are known."
        raise InputError(what, "Fetch it with `t2i models pull ORG/NAME`.", "bundle")
    bundle = read_bundle(folder)
    return bundle.verify(), missing_stages(bundle.manifest, bundle.configs)
