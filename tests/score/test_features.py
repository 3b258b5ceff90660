"""Features of pictures by real, tiny networks: order, batches, cache, pictures that cannot be read."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from t2i.errors import InputError, T2IError, UnavailableError
from t2i.score.extractors import ClipExtractor, JudgeExtractor, OpenClipExtractor
from t2i.score.feature_cache import FeatureCache
from t2i.score.features import ScoringNetworks, extract_features
from t2i.score.metrics import average_by_unit, score_pictures
from t2i.score.picture_files import PictureFile, find_pictures
from t2i.score.suite import SuitePrompt
from t2i.world.judge import Judge, JudgeNet
from t2i.world.judge_config import JudgeConfig
from t2i.world.reading import Expectation, Wanted


@pytest.fixture(scope="module")
def clip(tiny: Path) -> ClipExtractor:
    return ClipExtractor(tiny)


@pytest.fixture
def pictures(tmp_path: Path) -> list[PictureFile]:
    for i in range(9):
        noise = np.random.default_rng(i).integers(0, 256, (6, 6, 3), dtype=np.uint8)
        Image.fromarray(noise).resize((48, 40)).save(tmp_path / f"{i}.png")
        (tmp_path / f"{i}.txt").write_text(("a cat in the snow", "two penguins in the snow")[i % 2])
    return find_pictures([tmp_path])[0]


def test_order_and_batches_do_not_matter(clip: ClipExtractor, pictures: list[PictureFile]) -> None:
    one, _ = extract_features(pictures, ScoringNetworks(clip, batch=4), FeatureCache(None))
    two, clock = extract_features(pictures[::-1], ScoringNetworks(clip, batch=1, threads=1), FeatureCache(None))
    assert [p.name for p, _ in one] == [f"{i}.png" for i in range(9)]
    for (p, a), (q, b) in zip(one, two[::-1], strict=True):
        assert p == q and a.pixels == b.pixels
        assert np.allclose(a.features, b.features, atol=1e-5)
        assert float(np.linalg.norm(a.features)) == pytest.approx(1, abs=1e-5)
    units = [average_by_unit([row.row() for row in score_pictures(seen, clip)]) for seen in (one, two)]
    for u, v in zip(*units, strict=True):
        assert u.unit == v.unit and u.metrics == pytest.approx(v.metrics, abs=1e-3)
    assert 0 < clock.share <= 1 and clock.pictures == 9


def test_features_are_cached_by_content(clip: ClipExtractor, pictures: list[PictureFile], tmp_path: Path) -> None:
    cache = FeatureCache(tmp_path / "kept" / "score.sqlite")
    judge = Judge(JudgeNet(JudgeConfig(("cat",), ("own",), ("plain", "snow"), ("white",), (16, 24, 32, 24))))
    networks = ScoringNetworks(clip, judge, clip.info)
    first, clock = extract_features(pictures, networks, cache)
    assert clock.cached == 0
    pictures[3].path.rename(tmp_path / "moved.png")
    moved = [PictureFile(tmp_path / "moved.png", "moved.png")]
    again, clock = extract_features([*pictures[:3], *moved], networks, cache)
    assert clock.cached == 4 and clock.networks == 0
    for (_, a), (_, b) in zip(first, again, strict=False):
        assert a.pixels == b.pixels and a.reading == b.reading and np.array_equal(a.features, b.features)
        assert np.array_equal(a.thumb, b.thumb)
    assert (
        extract_features(pictures[:3], ScoringNetworks(clip), cache)[1].cached == 0
    )  # without the judge: other networks
    with sqlite3.connect(tmp_path / "kept" / "score.sqlite") as db:
        db.execute("UPDATE seen SET data = x'00'")
    assert extract_features(pictures[:3], networks, cache)[1].cached == 0
    (tmp_path / "kept" / "score.sqlite").write_text("no database")
    assert len(extract_features(pictures[:3], networks, cache)[0]) == 3


def test_a_broken_picture_is_told_and_left_out(clip: ClipExtractor, pictures: list[PictureFile]) -> None:
    pictures[2].path.write_bytes(b"no picture")
    told: list[tuple[PictureFile, T2IError]] = []
    seen, _ = extract_features(
        pictures, ScoringNetworks(clip, batch=3), FeatureCache(None), on_error=lambda p, e: told.append((p, e))
    )
    assert len(seen) == 8 and [p for p, _ in told] == [pictures[2]]


def test_prompts_variety_duplicates_and_labels(clip: ClipExtractor, pictures: list[PictureFile]) -> None:
    pictures[0].path.write_bytes(pictures[2].path.read_bytes())
    seen, _ = extract_features(pictures, ScoringNetworks(clip), FeatureCache(None))
    rows = score_pictures(seen, clip, labels=["cat", "snow", "house"])
    assert [r.values["duplicate"] for r in rows[:3]] == [1, 0, 1]
    for r in rows:
        assert r.label is not None and r.label[0] in ("cat", "snow", "house") and r.label[1] >= 1 / 3 - 1e-6
        text = clip.texts([r.picture.prompt or ""])[0].double().numpy()
        assert r.values["clip"] == pytest.approx(100 * float(text @ r.features.features), abs=1e-4)
    cats = [r.features.features.astype(np.float64) for r in rows if r.picture.prompt == "a cat in the snow"]
    mean = np.mean([1 - a @ b for i, a in enumerate(cats) for j, b in enumerate(cats) if i != j])
    by_name = {u.unit: u for u in average_by_unit([row.row() for row in rows])}
    assert by_name["a cat in the snow"].metrics["variety"] == pytest.approx(mean, rel=1e-5)
    with pytest.raises(UnavailableError, match="scene"):
        score_pictures(seen, clip, names=["scene"])


def test_a_prompt_and_its_translation_are_one_unit(clip: ClipExtractor, pictures: list[PictureFile]) -> None:
    cat = Expectation((Wanted("cat"),), "snow")
    suite = [SuitePrompt("a cat in the snow", cat), SuitePrompt("two penguins in the snow", cat, "zh")]
    seen, _ = extract_features(pictures, ScoringNetworks(clip), FeatureCache(None))
    assert [u.unit for u in average_by_unit([row.row() for row in score_pictures(seen, clip, suite)])] == [
        "a cat in the snow"
    ]


def test_the_judges_features(tmp_path: Path) -> None:
    judge = Judge(JudgeNet(JudgeConfig(("cat",), ("own",), ("plain",), ("white",), (16, 24, 32, 24))))
    judge.save(tmp_path)
    extractor = JudgeExtractor(tmp_path)
    x = torch.rand((3, 3, 64, 64), generator=torch.Generator().manual_seed(0)) * 2 - 1
    assert extractor.features(x).shape == (3, 24 + 32) and extractor.texts(["a"]) is None
    assert torch.allclose(extractor.features(x)[1:2], extractor.features(x[1:2]), atol=1e-5)


def test_missing_and_wrong_weights(tmp_path: Path) -> None:
    with pytest.raises(UnavailableError) as caught:
        OpenClipExtractor("ViT-B-32", tmp_path / "none.safetensors")
    assert caught.value.code == "metric" and caught.value.exit_code == 4
    (tmp_path / "w.bin").write_bytes(b"1")
    with pytest.raises(InputError, match="another file"):
        OpenClipExtractor("ViT-B-32", tmp_path / "w.bin", sha256="0" * 64)


def test_a_pickle_of_more_than_tensors_is_refused_in_our_own_words(tmp_path: Path) -> None:
    """torch's message advises to switch its guard off."""

    class Evil:
        def __reduce__(self) -> Any:
            return (exec, ("raise SystemExit('a pickle was opened')",))

    torch.save({"w": Evil()}, tmp_path / "w.pt")
    with pytest.raises(InputError, match="was not read") as error:
        OpenClipExtractor("ViT-B-32", tmp_path / "w.pt")
    assert "weights_only" not in str(error.value) and "safetensors" in error.value.hint
