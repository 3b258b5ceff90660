"""Any model on disk: a bundle of ours, or a checkpoint in diffusers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from t2i.errors import InputError, T2IError
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.manifest import MANIFEST
from t2i.store.pipeline_classes import INDEX
from t2i.store.registry import resolve

if TYPE_CHECKING:
    from t2i.store.open_model import OpenModel

StoredModel: TypeAlias = "Bundle | OpenModel"


def find_model(name: str) -> StoredModel:
    """The model of this name or in this folder; A+B joins the folders of a cascade. Its weights stay on disk.

    Raises UnavailableError (code `model`), InputError (code `bundle`; `mismatch` if the stages of a bundle do not
    fit together), UsageError for folders that make no model together.
    """
    try:
        return read_model(resolve(name))
    except T2IError as error:
        if error.code != "model" or "+" not in name:
            raise
    from t2i.store.open_model import read_open_model

    return read_open_model([resolve(part) for part in name.split("+")])


def read_model(folder: Path | str) -> StoredModel:
    """The model in a folder. Raises as `find_model`."""
    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        return read_bundle(folder)
    if (folder / INDEX).is_file():
        from t2i.store.open_model import read_open_model

        return read_open_model([folder])
    hint = f"A model is a folder with a {MANIFEST}, as `t2i train` writes it, or with a {INDEX}, as diffusers does."
    raise InputError(f"{folder} is not a model: it has no {MANIFEST}.", hint, "bundle")
