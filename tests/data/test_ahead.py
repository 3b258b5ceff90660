"""Batches that other processes compute ahead: the same ones, whatever is asked for."""

from __future__ import annotations

import io
import multiprocessing
import os
import shutil
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image

from t2i.data.ahead import AheadSource, default_workers
from t2i.data.folder import FolderSource
from t2i.data.source import Examples, WorldSource
from t2i.errors import InputError
from t2i.world import World
from t2i.world.layout import WorldConfig

SHAPES = WorldConfig(vocabulary="shapes", styles=("shapes",))


@pytest.fixture(scope="module")
def scenes() -> WorldSource:
    return WorldSource(World(SHAPES, None, resolution=32))


def take(ahead: AheadSource, first: int, last: int, n: int, size: int) -> None:
    for step in range(first, last):
        ahead.batch(1, step, n, size)


def check_same(a: Examples, b: Examples) -> None:
    assert (a.captions, a.content, a.loose) == (b.captions, b.content, b.loose)
    for one, other in ((a.pixels, b.pixels), (a.masks, b.masks), (a.boxes, b.boxes)):
        assert (one is None) == (other is None)
        if one is not None and other is not None:
            assert torch.equal(one, other)


@pytest.mark.parametrize("steps", [[0, 1, 2, 3, 4], [7, 10, 13, 16], [2, 3, 5, 7, 6, 6, 7, 8]])
def test_batches_are_those_of_the_source(scenes: WorldSource, steps: list[int]) -> None:
    ahead = AheadSource(scenes, 2)
    for step in steps:
        check_same(ahead.batch(1, step, 3, 16, masks=True), scenes.batch(1, step, 3, 16, masks=True))


def test_two_series_in_turns(scenes: WorldSource) -> None:
    ahead = AheadSource(scenes, 1)
    for step in range(4):
        check_same(ahead.batch(1, step, 2, 16), scenes.batch(1, step, 2, 16))
        check_same(ahead.batch(2, step, 2, 8, masks=True), scenes.batch(2, step, 2, 8, masks=True))


def test_from_the_third_batch_on_other_processes_compute(scenes: WorldSource) -> None:
    ahead = AheadSource(scenes, 2)
    before = set(multiprocessing.active_children())
    ahead.batch(1, 0, 2, 16)
    assert set(multiprocessing.active_children()) == before
    ahead.batch(1, 1, 2, 16)
    assert len(set(multiprocessing.active_children()) - before) == 2


def test_the_rest_of_a_source_is_there(scenes: WorldSource) -> None:
    ahead = AheadSource(scenes, 1)
    assert ahead.captions(1, 5, 2) == scenes.captions(1, 5, 2)
    assert ahead.describe() == scenes.describe()
    assert ahead.plain is not None and scenes.plain is not None
    check_same(ahead.plain.batch(1, 0, 2, 16), scenes.plain.batch(1, 0, 2, 16))
    moves = torch.zeros(2, 4, 3)
    moves[..., 2] = 1
    check_same(ahead.batch(1, 0, 2, 16, moves=moves), scenes.batch(1, 0, 2, 16, moves=moves))


def folder(path: Path, n: int) -> Path:
    path.mkdir()
    for i in range(n):
        data = io.BytesIO()
        Image.new("RGB", (8, 8), (i, 2 * i, 3 * i)).save(data, "PNG")
        (path / f"{i:03d}.png").write_bytes(data.getvalue())
        (path / f"{i:03d}.txt").write_text(f"picture {i}\n")
    return path


def test_broken_pictures_are_told_once_and_known_to_all(tmp_path: Path) -> None:
    path = folder(tmp_path / "photos", 40)
    told: list[dict[str, Any]] = []
    inner, plain = FolderSource(path, told.append), FolderSource(path)
    for i in (3, 11, 29):  # after the first check
        (path / f"{i:03d}.png").write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    ahead = AheadSource(inner, 2)
    for step in range(30):
        check_same(ahead.batch(1, step, 4, 8), plain.batch(1, step, 4, 8))
    assert inner.broken == {3, 11, 29}
    names = [record["picture"] for record in told if record["event"] == "broken"]
    assert sorted(names) == ["003.png", "011.png", "029.png"]


def test_what_goes_wrong_in_a_worker_is_said_here(tmp_path: Path) -> None:
    path = folder(tmp_path / "photos", 300)
    ahead = AheadSource(FolderSource(path), 1)
    for step in range(3):
        ahead.batch(1, step, 4, 8)
    shutil.rmtree(path)
    with pytest.raises(InputError, match="has gone"):
        take(ahead, 3, 70, n=4, size=8)


def test_a_dead_worker_ends_the_training_with_a_hint(scenes: WorldSource) -> None:
    ahead = AheadSource(scenes, 1)
    before = set(multiprocessing.active_children())
    for step in range(3):
        ahead.batch(1, step, 2, 16)
    (worker,) = set(multiprocessing.active_children()) - before
    assert worker.pid is not None
    os.kill(worker.pid, 9)
    worker.join()
    time.sleep(0.1)
    with pytest.raises(InputError, match="has died") as caught:
        take(ahead, 3, 20, n=2, size=16)
    assert "--workers 0" in str(caught.value.hint)


def test_workers_are_started_unasked_with_a_gpu_alone() -> None:
    here = len(os.sched_getaffinity(0))
    assert default_workers("cpu") == 0 and default_workers("mps") == 0
    assert default_workers("cuda") == max(1, min(12, here - 1))
    assert default_workers("cuda:1", ranks=2) == max(1, min(12, here // 2 - 1))
