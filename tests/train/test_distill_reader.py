"""A base's text reader is trained on another base's conditioner before the base itself."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i.errors import InputError
from t2i.nets.reader import CondFeatures
from t2i.nets.unet_config import UNetConfig
from t2i.pipeline import Pipeline
from t2i.store.bundle import Bundle, read_bundle
from t2i.train.objectives.distill_reader import unexplained, why_not
from t2i.train.trainer import train

READS = [
    "base.net.text_pool=false", "base.net.reader_layers=1", "base.net.reader_width=32", "base.net.reader_heads=2",
    "base.net.query_layers=1", "base.net.z_tokens=2", "base.net.z_grid=2", "base.net.z_channels=8",
    "base.reading.steps=80", "base.reading.batch=32", "base.reading.pool=64", "base.reading.lr=4e-3",
    "base.reading.warmup=5", "base.reading.log_every=10", "base.steps=2",
]  # fmt: skip


@pytest.fixture(scope="module")
def folders(micro: str, blind_micro: str, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A bundle whose base an embedding conditions, and one with a language model alone."""
    place = tmp_path_factory.mktemp("reading")
    sizes = ["base.net.z_tokens=2", "base.net.z_grid=2", "base.net.z_channels=8"]
    for stage, steps in (("clip", 4), ("base", 1)):
        train(stage, micro, [*sizes, f"{stage}.steps={steps}"], out=place / "seeing")
    train("text", blind_micro, ["text.steps=20"], out=place / "blind")
    return place / "seeing", place / "blind"


def taught(folders: tuple[Path, Path], recipe: str, out: Path, **more: Any) -> tuple[Bundle, list[dict[str, Any]]]:
    if not out.exists():
        shutil.copytree(folders[1], out)
    events: list[dict[str, Any]] = []
    bundle = train("base", recipe, READS, out=out, report=events.append, **{"start": folders[0], **more})
    assert isinstance(bundle, Bundle)
    return bundle, events


def test_it_learns_what_the_other_base_is_told(folders: tuple[Path, Path], blind_micro: str, tmp_path: Path) -> None:
    bundle, events = taught(folders, blind_micro, tmp_path / "m")
    lessons = [e for e in events if e["event"] == "step" and e["stage"] == "reading"]
    assert len(lessons) == 8 and lessons[-1]["step"] == 80
    for part in ("vector", "tokens", "map"):
        assert lessons[-1][part] < 1 < lessons[0][part]  # better than any constant, which says nothing of the text
    assert [e.name for e in bundle.manifest.stages] == ["text", "base"]
    assert bundle.configs["base"]["net"]["reader_layers"] == 1
    assert bundle.manifest.notes["training"]["base"]["reading"]["samples"] == 80 * 32
    assert "2,560 captions in 80 steps" in bundle.card()
    a, b = Pipeline.load(tmp_path / "m").sample(["a red circle", "two blue stars"], [1, 1]).images
    assert not torch.equal(a, b)


def test_broken_off_it_goes_on_to_the_same_weights(
    folders: tuple[Path, Path], blind_micro: str, tmp_path: Path
) -> None:
    whole, _ = taught(folders, blind_micro, tmp_path / "whole")
    for name, when in (("early", 12), ("late", 82)):  # while reading is learned, and while drawing is
        asked = 0

        def stop(when: int = when) -> bool:
            nonlocal asked
            asked += 1
            return asked > when

        taught(folders, blind_micro, tmp_path / name, stop=stop)
        # it knows whom it learns from; once it draws, it needs nobody
        bundle, _ = taught(folders, blind_micro, tmp_path / name, resume=True, start=None)
        (_, a), (_, b) = (x.load_stage("base") for x in (whole, bundle))
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a), name


def test_without_a_teacher_it_draws_at_once(folders: tuple[Path, Path], blind_micro: str, tmp_path: Path) -> None:
    taught(folders, blind_micro, tmp_path / "m")
    shutil.copytree(folders[1], tmp_path / "n")
    events: list[dict[str, Any]] = []
    train("base", blind_micro, READS, out=tmp_path / "n", start=tmp_path / "m", report=events.append)
    assert [e["stage"] for e in events if e["event"] == "not taught"] == ["reading"]
    assert {e["stage"] for e in events if e["event"] == "step"} == {"base"}
    assert "base" in read_bundle(tmp_path / "n").configs


def test_another_start_and_an_old_base_are_not_mistaken(
    folders: tuple[Path, Path], blind_micro: str, tmp_path: Path
) -> None:
    whole, _ = taught(folders, blind_micro, tmp_path / "m")
    asked = 0

    def stop() -> bool:
        nonlocal asked
        asked += 1
        return asked > 12

    taught(folders, blind_micro, tmp_path / "m", overwrite=True, stop=stop)  # the old base's checkpoint is gone
    shutil.copytree(folders[0], tmp_path / "other")
    with pytest.raises(InputError, match="started from other weights"):
        taught(folders, blind_micro, tmp_path / "m", resume=True, start=tmp_path / "other")
    bundle, events = taught(folders, blind_micro, tmp_path / "m", resume=True, start=None)
    assert {e["stage"] for e in events if e["event"] == "step"} == {"reading", "base"}
    assert bundle.manifest.files["base/model.safetensors"] == whole.manifest.files["base/model.safetensors"]


def test_the_plan_has_a_row_for_it(folders: tuple[Path, Path], blind_micro: str, tmp_path: Path) -> None:
    plan = train("base", blind_micro, READS, out=tmp_path / "m", start=folders[0], dry_run=True)
    assert isinstance(plan, dict)
    rows = {row["stage"]: row for row in plan["stages"]}
    assert list(rows) == ["reading", "base"] and not (tmp_path / "m").exists()
    assert 0 < rows["reading"]["parameters"] < rows["base"]["parameters"] and rows["reading"]["shipped_mb"] == 0


def test_who_can_teach() -> None:
    pupil = UNetConfig(cond_dim=0, z_grid=4, reader_layers=1)
    assert not why_not(UNetConfig(z_grid=4), pupil)
    assert "no embedding" in why_not(pupil, pupil) and "names no base" in why_not(None, pupil)
    assert "base.net.z_tokens is 4, not 2" in why_not(UNetConfig(z_grid=4, z_tokens=2), pupil)


def test_what_is_not_said() -> None:
    g = torch.Generator().manual_seed(0)
    truth = torch.randn(64, 8, generator=g)
    nothing = unexplained(CondFeatures(truth.mean(0).expand(64, -1)), CondFeatures(truth))
    assert nothing.keys() == {"vector"} and float(nothing["vector"]) == pytest.approx(1.0, abs=1e-5)
    half = unexplained(CondFeatures(truth, tokens=truth[:, None] * 0.5), CondFeatures(truth, tokens=truth[:, None]))
    assert float(half["vector"]) == 0
    share = 0.25 * float(truth.square().mean() / (truth - truth.mean(0)).square().mean())
    assert float(half["tokens"]) == pytest.approx(share, rel=1e-5)
