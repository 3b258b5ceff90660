"""Arrays in the files of a folder, filled from the front, that remember how far: where a large pool is kept."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2i.files import write_bytes
from t2i.jsonl import strict_json

FILLED = "filled.json"
Shapes = Mapping[str, tuple[tuple[int, ...], str]]
"""Name -> the shape of a row, and its dtype."""


class ArrayFiles:
    """`size` rows of each array, in `<name>.npy`.

    key: what the rows are a function of. `filled.json` says how many are there and of which key, so that an interrupted
    filling goes on, and one of another key begins anew.
    """

    def __init__(self, folder: Path, size: int, shapes: Shapes, key: str) -> None:
        self.folder, self.size, self.shapes, self.key = folder, size, shapes, key
        self.arrays: dict[str, NDArray[Any]] = {}

    def open(self) -> int:
        """Open the files, or make them. Returns how many rows are there. Raises OSError, also for a full disk."""
        self.folder.mkdir(parents=True, exist_ok=True)
        done = self._filled()
        for name, (shape, dtype) in self.shapes.items():
            self.arrays[name] = _array(self.folder / f"{name}.npy", (self.size, *shape), dtype, new=not done)
        return done

    def write(self, first: int, rows: Mapping[str, NDArray[Any]]) -> None:
        """Put rows from `first` on; those beyond the last are cut."""
        for name, array in self.arrays.items():
            array[first : first + len(rows[name])] = rows[name][: self.size - first]
            assert isinstance(array, np.memmap)
            array.flush()  # before it is said to be there
        count = min(first + len(next(iter(rows.values()))), self.size)
        write_bytes(self.folder / FILLED, json.dumps({"count": count, "of": self.key}).encode())

    def _filled(self) -> int:
        """How many rows of this very key are there. What cannot be read counts as none: it is made again."""
        try:
            told = strict_json((self.folder / FILLED).read_bytes())
            count = int(told["count"]) if told["of"] == self.key else 0
            there = {name: np.load(self.folder / f"{name}.npy", mmap_mode="r") for name in self.shapes}
        except (OSError, ValueError, LookupError, TypeError, EOFError):
            return 0
        whole = all(
            (there[k].shape, there[k].dtype) == ((self.size, *s), dtype) for k, (s, dtype) in self.shapes.items()
        )
        return count if whole and 0 <= count <= self.size else 0


def _array(path: Path, shape: tuple[int, ...], dtype: str, *, new: bool) -> NDArray[Any]:
    """An array in a file. Its whole place is taken at once: on a full disk that is an OSError, and later a write to the
    mapped file would be the program's death."""
    array: NDArray[Any] = np.lib.format.open_memmap(path, "w+" if new else "r+", dtype, shape)  # type: ignore[no-untyped-call]
    if new and hasattr(os, "posix_fallocate"):
        with path.open("r+b") as file:
            os.posix_fallocate(file.fileno(), 0, file.seek(0, os.SEEK_END))
    return array
