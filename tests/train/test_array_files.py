"""Arrays in files: filled from the front, gone on with, and begun anew where they cannot be trusted."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from t2i.train.array_files import FILLED, ArrayFiles

ROWS = {"a": np.arange(8, dtype=np.uint8).reshape(4, 2), "b": np.ones((4, 3), np.float16)}


def files(folder: Path, key: str = "k", size: int = 6) -> ArrayFiles:
    return ArrayFiles(folder, size, {"a": ((2,), "uint8"), "b": ((3,), "float16")}, key)


def test_what_is_filled_is_there_when_opened_again(tmp_path: Path) -> None:
    first = files(tmp_path / "pool")
    assert first.open() == 0
    first.write(0, ROWS)
    again = files(tmp_path / "pool")
    assert again.open() == 4
    again.write(4, ROWS)  # two of them: the others are beyond the end
    last = files(tmp_path / "pool")
    assert last.open() == 6
    assert last.arrays["a"].tolist() == [[0, 1], [2, 3], [4, 5], [6, 7], [0, 1], [2, 3]]
    assert last.arrays["b"].sum() == 18


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / FILLED).write_text('{"count": 7, "of": "k"}'),
        lambda folder: (folder / FILLED).write_text('{"count": -1, "of": "k"}'),
        lambda folder: (folder / FILLED).write_text('{"count": '),
        lambda folder: (folder / FILLED).unlink(),
        lambda folder: (folder / "a.npy").unlink(),
        lambda folder: (folder / "b.npy").write_bytes((folder / "b.npy").read_bytes()[:140]),
    ],
)
def test_what_cannot_be_trusted_is_begun_anew(damage: Callable[[Path], object], tmp_path: Path) -> None:
    first = files(tmp_path)
    first.open()
    first.write(0, ROWS)
    assert files(tmp_path).open() == 4
    damage(tmp_path)
    assert files(tmp_path).open() == 0


def test_another_key_begins_anew(tmp_path: Path) -> None:
    first = files(tmp_path)
    first.open()
    first.write(0, ROWS)
    assert files(tmp_path, key="other").open() == 0
