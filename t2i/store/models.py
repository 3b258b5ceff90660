"""Any model on disk: a bundle of ours, or a checkpoint in diffusers' layout."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias

from t2i.errors import InputError
from t2i.store.bundle import Bundle, read_bundle
from t2i.store.manifest import MANIFEST
from t2i.store.pipeline_classes import INDEX

if TYPE_CHECKING:
    from t2i.store.open_model import OpenModel

StoredModel: TypeAlias = "Bundle | OpenModel"


def read_model(folder: Path | str, name: str = "") -> StoredModel:
    """The model in a folder; its weights stay on disk. name: what records call a checkpoint, its folder's name by
    default.

    Raises InputError (code ``bundle``; ``mismatch`` if the stages of a bundle do not fit together).
    """
    folder = Path(folder)
    if (folder / MANIFEST).is_file():
        return read_bundle(folder)
    if (folder / INDEX).is_file():
        from t2i.store.open_model import read_open_model

        return read_open_model(folder, name)
    hint = f"A model is a folder with a {MANIFEST}, as `t2i train` writes it, or with a {INDEX}, as diffusers does."
    raise InputError(f"{folder} is not a model: it has no {MANIFEST}.", hint, "bundle")
