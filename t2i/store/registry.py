"""Finds the folder of a model by its name: in the folders of `store/search_path.py`, or among what was pulled.

The network is never asked: a model of the hub is found after `t2i models pull`.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from t2i.errors import T2IError, UnavailableError, nearest
from t2i.store.bundle import read_bundle
from t2i.store.completeness import missing_stages, unfinished_error
from t2i.store.hub_names import SHORT_NAMES, parse_hub_name
from t2i.store.manifest import MANIFEST, Manifest
from t2i.store.pulled import find_pulled, pulled_models
from t2i.store.search_path import roots

DEFAULT = "small"


def resolve(name_or_path: str | Path = DEFAULT) -> Path:
    """The folder of a model, from its name; where no model is called so, from its path; else from what was pulled as
    ORG/NAME[@REVISION] or a short name of it.

    Raises UnavailableError (code `model`), for a model that was not pulled with the command that does it.
    """
    text = os.fspath(name_or_path)
    is_name = bool(text) and text not in (".", "..") and not any(c in text for c in "/\\\0")
    if is_name:
        for _, root in roots():
            if (root / text / MANIFEST).is_file():
                return root / text
    if text and "\0" not in text:
        folder = Path(text).expanduser()
        if folder.is_dir():
            return folder
        if folder.name == MANIFEST and folder.is_file():
            return folder.parent
    if is_name and "@" in text:  # as records name it: NAME@COMMIT
        for model in pulled_models():
            if model.path.name == text and model.lock is not None:
                return model.path
    hub_name = parse_hub_name(text)
    if hub_name is not None:
        return find_pulled(hub_name)
    known = sorted({name for _, _, name in _found()})
    near = nearest(text, [*known, *SHORT_NAMES])
    if near:
        hint = f"Did you mean {' or '.join(near)}?"
    elif known:
        hint = f"Known models: {', '.join(known)}; or give the folder of a bundle."
    else:
        hint = "No model is installed; train one with `t2i train --recipe tiny`, or give the folder of a bundle."
    raise UnavailableError(f"there is no model {text!r}.", hint, "model")


def resolve_judge() -> Path:
    """The folder of the judge's weights. Raises UnavailableError."""
    for _, root in roots():
        if (root / "judge" / "config.json").is_file():
            return root / "judge"
    raise UnavailableError("the judge's weights are not installed.", "Install t2i again.")


@dataclass(frozen=True)
class ModelInfo:
    """A model that was found. source: the name of the folder it was found in. manifest: None if it cannot be read.

    fault: why it cannot be used, or None. lacks: the kinds of stage that an unfinished model is missing.
    """

    name: str
    source: str
    path: Path
    manifest: Manifest | None
    fault: str | None = None
    lacks: tuple[str, ...] = ()

    @property
    def size_on_disk(self) -> int:
        """Size of its files in bytes."""
        return sum(file.stat().st_size for file in self.path.rglob("*") if file.is_file())


def list_models() -> list[ModelInfo]:
    """Every model in the searched folders, in order; of several with one name only the first."""
    models: dict[str, ModelInfo] = {}
    for source, root, name in _found():
        if name in models:
            continue
        try:
            bundle = read_bundle(root / name)
            lacks = missing_stages(bundle.manifest, bundle.configs)
            fault = unfinished_error(name, lacks).message if lacks else None
            models[name] = ModelInfo(name, source, root / name, bundle.manifest, fault, tuple(lacks))
        except T2IError as error:
            models[name] = ModelInfo(name, source, root / name, None, error.message)
    return list(models.values())


def _found() -> list[tuple[str, Path, str]]:
    out = []
    for source, root in roots():
        if root.is_dir():
            names = sorted(entry.name for entry in root.iterdir() if (entry / MANIFEST).is_file())
            out += [(source, root, name) for name in names]
    return out
