"""What a model is made of, by the headers of its weights: how many numbers each part holds, of which type."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2i.errors import InputError
from t2i.files import explain_os_error
from t2i.store.bundle import Bundle
from t2i.store.pipeline_classes import INDEX
from t2i.store.tensors import MAX_HEADER
from t2i.store.weights_files import read_table


@dataclass(frozen=True)
class ModelPart:
    """A stage of a bundle, or a component of a pipeline.

    what: the kind of stage, or LIBRARY.CLASS. bytes: of its weights. types: how many numbers are of which type, as the
    files name it: {"F16": 1000}. A part without weights has none.
    """

    name: str
    what: str
    bytes: int
    types: dict[str, int]

    @property
    def parameters(self) -> int:
        """How many numbers its weights hold."""
        return sum(self.types.values())

    def to_json(self) -> dict[str, Any]:
        """Its record."""
        said = {"name": self.name, "what": self.what, "parameters": self.parameters}
        return {**said, "bytes": self.bytes, "types": self.types}


def bundle_parts(bundle: Bundle) -> list[ModelPart]:
    """The stages of a bundle. Raises InputError for weights that cannot be read."""
    entries = bundle.manifest.stages
    return [_part(e.name, e.kind, [bundle.place(e.files[1]) / e.files[1]]) for e in entries]


def folder_parts(folder: Path) -> list[ModelPart]:
    """The components that model_index.json of a folder in diffusers' layout names; for a folder without one, its files.

    Raises InputError (code `bundle`).
    """
    if not (folder / INDEX).is_file():
        return [_part(path.name, "weights", [path]) for path in sorted(folder.glob("*.safetensors"))]
    parts = []
    for name, value in read_table(folder / INDEX).items():
        if isinstance(value, list) and len(value) == 2 and all(value) and name.isidentifier():
            parts.append(_part(name, ".".join(map(str, value)), sorted((folder / name).glob("*.safetensors"))))
    return parts


def _part(name: str, what: str, files: Sequence[Path]) -> ModelPart:
    types: Counter[str] = Counter()
    for file in files:
        types.update(dict(count_numbers(file)))
    return ModelPart(name, what, sum(file.stat().st_size for file in files), dict(types))


def count_numbers(path: Path) -> Iterable[tuple[str, int]]:
    """(type, how many numbers) of a safetensors file, from its header. Raises InputError (code `bundle`)."""
    counts: Counter[str] = Counter()
    try:
        with open(path, "rb") as file:
            size = int.from_bytes(file.read(8), "little")
            if not 2 <= size <= MAX_HEADER:
                raise ValueError("its header claims an impossible length")
            header = json.loads(file.read(size))
        for name, entry in header.items():
            if name != "__metadata__":
                counts[str(entry["dtype"])] += math.prod(map(int, entry["shape"]))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {explain_os_error(error)}.", code="bundle") from error
    except (ValueError, LookupError, TypeError, AttributeError, RecursionError) as error:
        what = f"{path} is not a usable safetensors file: {error}."
        raise InputError(what, "Fetch or train it again.", "bundle") from error
    return counts.items()
