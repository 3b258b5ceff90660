"""Looking at pictures with real, tiny networks: order, batches, memory, faults."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from t2i.errors import InputError, T2IError, UnavailableError
from t2i.score.extract import BundleClip, JudgeFeatures, OpenClip
from t2i.score.listing import Picture, find_pictures
from t2i.score.measure import Eyes, Memory, measure
from t2i.score.metrics import score_rows, units_of
from t2i.score.suite import Prompt
from t2i.world.judge import Judge, JudgeConfig, JudgeNet
from t2i.world.reading import Expectation, Wanted


@pytest.fixture(scope="module")
def clip(tiny: Path) -> BundleClip:
    return BundleClip(tiny)


@pytest.fixture
def pictures(tmp_path: Path) -> list[Picture]:
    for i in range(9):
        noise = np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((48, 40)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(("a cat in the snow", "two penguins in the snow")[i % 2])
    return find_pictures([tmp_path])[0]


def test_order_and_batches_do_not_matter(clip: BundleClip, pictures: list[Picture]) -> None:
    one, _ = measure(pictures, Eyes(clip, batch=4), Memory(None))
    two, clock = measure(pictures[::-1], Eyes(clip, batch=1, threads=1), Memory(None))
    assert [p.name for p, _ in one] == [f"{i}.png" for i in range(9)]
    for (p, a), (q, b) in zip(one, two[::-1], strict=True):
        assert p == q and a.pixels == b.pixels
        assert np.allclose(a.features, b.features, atol=1e-5)
        assert float(np.linalg.norm(a.features)) == pytest.approx(1, abs=1e-5)
    units = [units_of(score_rows(seen, clip)) for seen in (one, two)]
    for u, v in zip(*units, strict=True):
        assert u.unit == v.unit and u.metrics == pytest.approx(v.metrics, abs=1e-3)
    assert 0 < clock.share <= 1 and clock.pictures == 9


def test_what_was_seen_is_remembered_by_content(clip: BundleClip, pictures: list[Picture], tmp_path: Path) -> None:
    memory = Memory(tmp_path / "kept" / "score.sqlite")
    judge = Judge(JudgeNet(JudgeConfig(("cat",), ("own",), ("plain", "snow"), ("white",), (16, 24, 32, 24))))
    eyes = Eyes(clip, judge, clip.network)
    first, clock = measure(pictures, eyes, memory)
    assert clock.remembered == 0
    pictures[3].path.rename(tmp_path / "moved.png")
    moved = [Picture(tmp_path / "moved.png", "moved.png")]
    again, clock = measure([*pictures[:3], *moved], eyes, memory)
    assert clock.remembered == 4 and clock.networks == 0
    for (_, a), (_, b) in zip(first, again, strict=False):
        assert a.pixels == b.pixels and a.reading == b.reading and np.array_equal(a.features, b.features)
        assert np.array_equal(a.thumb, b.thumb)
    assert measure(pictures[:3], Eyes(clip), memory)[1].remembered == 0  # without the judge: other eyes
    with sqlite3.connect(tmp_path / "kept" / "score.sqlite") as db:
        db.execute("UPDATE seen SET data = x'00'")
    assert measure(pictures[:3], eyes, memory)[1].remembered == 0
    (tmp_path / "kept" / "score.sqlite").write_text("no database")
    assert len(measure(pictures[:3], eyes, memory)[0]) == 3


def test_a_broken_picture_is_told_and_left_out(clip: BundleClip, pictures: list[Picture]) -> None:
    pictures[2].path.write_bytes(b"no picture")
    told: list[tuple[Picture, T2IError]] = []
    seen, _ = measure(pictures, Eyes(clip, batch=3), Memory(None), on_fault=lambda p, e: told.append((p, e)))
    assert len(seen) == 8 and [p for p, _ in told] == [pictures[2]]


def test_prompts_variety_duplicates_and_labels(clip: BundleClip, pictures: list[Picture]) -> None:
    pictures[0].path.write_bytes(pictures[2].path.read_bytes())
    seen, _ = measure(pictures, Eyes(clip), Memory(None))
    rows = score_rows(seen, clip, labels=["cat", "snow", "house"])
    assert [r.values["duplicate"] for r in rows[:3]] == [1, 0, 1]
    for r in rows:
        assert r.label is not None and r.label[0] in ("cat", "snow", "house") and r.label[1] >= 1 / 3 - 1e-6
        text = clip.texts([r.picture.prompt or ""])[0].double().numpy()
        assert r.values["clip"] == pytest.approx(100 * float(text @ r.seen.features), abs=1e-4)
    cats = [r.seen.features.astype(np.float64) for r in rows if r.picture.prompt == "a cat in the snow"]
    mean = np.mean([1 - a @ b for i, a in enumerate(cats) for j, b in enumerate(cats) if i != j])
    by_name = {u.unit: u for u in units_of(rows)}
    assert by_name["a cat in the snow"].metrics["variety"] == pytest.approx(mean, rel=1e-5)
    with pytest.raises(UnavailableError, match="scene"):
        score_rows(seen, clip, names=["scene"])


def test_a_prompt_and_its_translation_are_one_unit(clip: BundleClip, pictures: list[Picture]) -> None:
    cat = Expectation((Wanted("cat"),), "snow")
    suite = [Prompt("a cat in the snow", cat), Prompt("two penguins in the snow", cat, "zh")]
    seen, _ = measure(pictures, Eyes(clip), Memory(None))
    assert [u.unit for u in units_of(score_rows(seen, clip, suite))] == ["a cat in the snow"]


def test_the_judges_features(tmp_path: Path) -> None:
    judge = Judge(JudgeNet(JudgeConfig(("cat",), ("own",), ("plain",), ("white",), (16, 24, 32, 24))))
    judge.save(tmp_path)
    eye = JudgeFeatures(tmp_path)
    x = torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert eye.features(x).shape == (3, 24 + 32) and eye.texts(["a"]) is None
    assert torch.allclose(eye.features(x)[1:2], eye.features(x[1:2]), atol=1e-5)


def test_missing_and_wrong_weights(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        OpenClip("ViT-B-32", tmp_path / "none.safetensors")
    assert caught.value.code == "metric" and caught.value.exit_code == 4
    (tmp_path / "w.bin").write_bytes(b"1")
    with pytest.raises(InputError, match="another file"):
        OpenClip("ViT-B-32", tmp_path / "w.bin", sha256="0" * 64)
