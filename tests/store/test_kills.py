"""A bundle is the old one or the new one, whenever the program that writes it is killed."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from killing import killed_before, touches

from t2i.errors import InputError
from t2i.files import STAGED_PREFIX
from t2i.sampling import SamplingConfig
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import finish_write, update_stage, write_bundle
from t2i.store.manifest import Manifest, StageEntry

CLIP = StageEntry("clip", "clip", "clip")
WIDTHS = {"embed_dim": 4, "text_dim": 8, "context": 24, "vocab": 50}


def stage(value: float, **facts: Any) -> Any:
    return {"widths": WIDTHS, **facts}, {"w": torch.full((3, 5), value)}


def told(folder: Path) -> tuple[float, Any, str | None, str]:
    """What a reader of the bundle gets: weights, config, tokenizer, card."""
    bundle = read_bundle(folder)
    assert bundle.verify()
    config, weights = bundle.load_stage("clip")
    return float(weights["w"][0, 0]), config.get("told"), bundle.tokenizer_json(), bundle.card()


OLD, NEW = (1.0, None, '{"v": 1}', "old"), (2.0, "new", '{"v": 2}', "new")


@pytest.fixture
def old(tmp_path: Path) -> Path:
    write_bundle(tmp_path / "old", Manifest("unclip", "toy", (CLIP,), ()), {"clip": stage(1.0)}, '{"v": 1}', "old")
    return tmp_path / "old"


def test_an_update_is_killed_before_each_touch_of_the_disk(old: Path, tmp_path: Path) -> None:
    """Old files or new ones, never some of each; and the same update can be made again."""
    folder = tmp_path / "m"
    entry = replace(CLIP, defaults=SamplingConfig(steps=3))

    def update() -> None:
        update_stage(folder, entry, stage(2.0, told="new"), tokenizer_json='{"v": 2}', card="new")

    shutil.copytree(old, folder)
    count = touches(update, folder)
    assert count > 15 and told(folder) == NEW
    seen = []
    for touch in range(count):
        shutil.rmtree(folder)
        shutil.copytree(old, folder)
        killed_before(touch, update, folder)
        seen.append(told(folder))
        assert seen[-1] in (OLD, NEW)
        finish_write(folder)
        assert told(folder) == seen[-1]
        assert not list(folder.rglob(f"{STAGED_PREFIX}*"))
        update()
        assert told(folder) == NEW
    assert seen == sorted(seen, key=lambda s: s[0])  # once it is the new one, it stays so
    assert {OLD, NEW} == set(seen)


def test_a_write_that_was_cut_off_is_not_undone_by_the_next(old: Path, tmp_path: Path) -> None:
    """The new weights are staged only; an update of something else must not overwrite them before its own moment."""
    folder = tmp_path / "m"

    def update(value: float) -> None:
        update_stage(folder, CLIP, stage(value), card=str(value))

    shutil.copytree(old, folder)
    count = touches(lambda: update(2.0), folder)
    for first in range(count - 8, count):
        for second in range(0, count, 3):
            shutil.rmtree(folder)
            shutil.copytree(old, folder)
            killed_before(first, lambda: update(2.0), folder)
            before = told(folder)[0]
            killed_before(second, lambda: update(3.0), folder)
            assert told(folder)[0] in (before, 3.0)


def test_a_first_bundle_is_there_or_not(tmp_path: Path) -> None:
    folder = tmp_path / "m"

    def write() -> None:
        write_bundle(folder, Manifest("unclip", "toy", (CLIP,), ()), {"clip": stage(1.0)}, '{"v": 1}', "old")

    for touch in range(touches(write, folder)):
        shutil.rmtree(folder, ignore_errors=True)
        killed_before(touch, write, folder)
        if (folder / "bundle.json").exists():
            assert told(folder) == OLD
        else:
            with pytest.raises(InputError, match="not a bundle"):
                read_bundle(folder)
        write()
        assert told(folder) == OLD
