"""A bundle that uses a stage of another one: pinned by hash, refused when it is not there or not the same."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from t2i.errors import InputError
from t2i.pipeline import Pipeline
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import share_stage, update_stage, write_bundle
from t2i.store.manifest import Manifest, StageEntry
from t2i.store.registry import list_models

TEXT, BASE = StageEntry("text", "text", "text"), StageEntry("base", "base", "base")
WIDTHS: dict[str, dict[str, int]] = {
    "text": {"text_dim": 24, "context": 16, "vocab": 300},
    "base": {"cond_dim": 0, "text_dim": 24, "size": 16, "context": 16},
}
NO_TEXT = {"text_dim": 0}


def stage(name: str, **widths: int) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    return {"widths": {**WIDTHS[name], **widths}}, {"w": torch.ones(2)}


@pytest.fixture
def models(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of models: `tiny`, and `mine`, which is to share its upsampler."""
    monkeypatch.setenv("T2I_HOME", str(tmp_path / "home"))
    shutil.copytree(tiny, tmp_path / "tiny")
    made = {"text": stage("text"), "base": stage("base")}
    write_bundle(tmp_path / "mine", Manifest("imagen", "mine", (TEXT, BASE), (16,)), made, "{}", "# mine\n")
    return tmp_path


def test_a_shared_stage_is_read_from_the_other_bundle(models: Path) -> None:
    before = read_bundle(models / "mine").digest
    bundle = share_stage(models / "mine", "upsampler64", "tiny")
    assert bundle.manifest.sizes == (16, 64) and bundle.manifest.stage("upsampler64").source == "tiny"
    assert not (models / "mine" / "upsampler64").exists()
    theirs = read_bundle(models / "tiny")
    ours, his = bundle.load_stage("upsampler64"), theirs.load_stage("upsampler64")
    assert ours[0] == his[0] and all(torch.equal(ours[1][k], his[1][k]) for k in his[1])
    assert bundle.manifest.stage("upsampler64").defaults == theirs.manifest.stage("upsampler64").defaults
    assert bundle.digest != before
    assert {"upsampler64/config.json", "upsampler64/model.safetensors"} <= set(bundle.verify())
    raw = json.loads((models / "mine" / "bundle.json").read_text())["stages"]
    assert [s.get("source", "-") for s in raw] == ["-", "-", "tiny"]  # older bundles have no such key


def test_own_stages_change_beside_a_shared_one(models: Path) -> None:
    share_stage(models / "mine", "upsampler64", "tiny")
    config, weights = stage("base")
    bundle = update_stage(models / "mine", BASE, (config, {"w": weights["w"] + 1}))
    assert bundle.manifest.sizes == (16, 64)
    assert torch.equal(bundle.load_stage("base")[1]["w"], torch.full((2,), 2.0))
    own = {name: bundle.load_stage(name) for name in ("text", "base")}
    again = write_bundle(models / "mine", bundle.manifest, own, "{}", "# mine\n")
    assert again.manifest.stage("upsampler64").source == "tiny" and again.digest == bundle.digest


def test_it_is_found_where_models_are_looked_for(models: Path) -> None:
    share_stage(models / "mine", "upsampler64", "tiny")
    home = models / "home" / "models"
    home.mkdir(parents=True)
    (models / "tiny").rename(home / "tiny")
    read_bundle(models / "mine").verify()
    (models / "mine").rename(home / "mine")
    assert next(m for m in list_models() if m.name == "mine").fault is None


def test_without_the_other_bundle_it_is_refused(models: Path) -> None:
    share_stage(models / "mine", "upsampler64", "tiny")
    shutil.rmtree(models / "tiny")
    with pytest.raises(InputError, match="shares its stage 'upsampler64' with the model 'tiny', which is not here"):
        read_bundle(models / "mine")


def test_other_weights_are_refused(models: Path) -> None:
    share_stage(models / "mine", "upsampler64", "tiny")
    theirs = read_bundle(models / "tiny")
    config, weights = theirs.load_stage("upsampler64")
    changed = {name: tensor + 1 for name, tensor in weights.items()}
    update_stage(models / "tiny", theirs.manifest.stage("upsampler64"), (config, changed))
    with pytest.raises(InputError, match="sha256 differs"):
        read_bundle(models / "mine")
    share_stage(models / "mine", "upsampler64", "tiny").verify()  # taken anew


def test_a_file_changed_behind_the_manifest_is_refused(models: Path) -> None:
    bundle = share_stage(models / "mine", "upsampler64", "tiny")
    (models / "tiny" / "upsampler64" / "model.safetensors").write_bytes(b"damaged")
    with pytest.raises(InputError, match="sha256 differs"):
        bundle.load_stage("upsampler64")


@pytest.mark.parametrize(
    ("stage", "source", "words"), [("base", "nobody", "no model"), ("up", "tiny", "no stage 'up'")]
)
def test_what_is_not_there_cannot_be_shared(models: Path, stage: str, source: str, words: str) -> None:
    with pytest.raises(InputError, match=words):
        share_stage(models / "mine", stage, source)


@pytest.mark.parametrize("source", ["../tiny", "/tiny", "..", "", "a\\b"])
def test_a_source_is_a_name_and_no_path(models: Path, source: str) -> None:
    share_stage(models / "mine", "upsampler64", "tiny")
    where = models / "mine" / "bundle.json"
    raw = json.loads(where.read_text())
    raw["stages"][2]["source"] = source
    where.write_text(json.dumps(raw))
    with pytest.raises(InputError, match="plain file name"):
        read_bundle(models / "mine")


@pytest.mark.parametrize(
    ("widths", "sentence"),
    [
        ({"text": {"text_dim": 20}}, "the width of a text token is 20 in stage 'text' and 24 in stage 'base'"),
        ({"text": {"context": 40}}, "the number of text tokens is 40 in stage 'text' and 16 in stage 'base'"),
    ],
)
def test_an_encoder_that_does_not_match_its_base(tmp_path: Path, widths: Any, sentence: str) -> None:
    made = {name: stage(name, **widths.get(name, {})) for name in ("text", "base")}
    with pytest.raises(InputError, match=sentence) as caught:
        write_bundle(tmp_path, Manifest("imagen", "no", (TEXT, BASE), (16,)), made, "{}", "")
    assert caught.value.code == "mismatch"


def test_the_engine_refuses_it_too(blind: Path, tmp_path: Path) -> None:
    shutil.copytree(blind, tmp_path / "b")
    bundle = read_bundle(blind)
    config, weights = bundle.load_stage("text")
    config = {**config, "widths": {**config["widths"], "context": 40}}
    with pytest.raises(InputError, match="the number of text tokens is 40 in stage 'text' and 16"):
        update_stage(tmp_path / "b", bundle.manifest.stage("text"), (config, weights))
    assert Pipeline.load(tmp_path / "b").encoder.context == 16


def test_one_bundle_has_one_text_encoder(tmp_path: Path) -> None:
    clip = {"widths": {"embed_dim": 4, "text_dim": 24, "context": 16, "vocab": 300}}, {"w": torch.ones(2)}
    made = {"text": stage("text"), "clip": clip}
    entries = (StageEntry("clip", "clip", "clip"), TEXT)
    with pytest.raises(InputError, match="two text encoders"):
        write_bundle(tmp_path, Manifest("imagen", "no", entries, ()), made, "{}", "")


def test_a_shared_stage_that_reads_text_needs_the_same_encoder(models: Path, blind: Path) -> None:
    shutil.copytree(blind, models / "blind")
    with pytest.raises(InputError, match="by another encoder than 'text'"):
        share_stage(models / "mine", "upsampler64", "blind")
    text = read_bundle(models / "blind").manifest.stage("text")
    share_stage(models / "mine", "text", "blind")
    bundle = share_stage(models / "mine", "upsampler64", "blind")
    assert [e.source for e in bundle.manifest.stages] == ["blind", None, "blind"]
    theirs = read_bundle(models / "blind")
    for entry in theirs.manifest.stages:  # the other model is trained on: both stages are pinned anew
        config, weights = theirs.load_stage(entry.name)
        update_stage(models / "blind", entry, (config, {name: t * 2 for name, t in weights.items()}))
    with pytest.raises(InputError, match="sha256 differs"):
        read_bundle(models / "mine")
    share_stage(models / "mine", "upsampler64", "blind").verify()
    assert replace(bundle.manifest.stage("text"), source=None) == text
