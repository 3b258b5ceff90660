"""Training without CLIP: a language model or a T5, a base and an upsampler that read it."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Tokenizer as Backend
from tokenizers import models, pre_tokenizers
from training import trained_by

from t2i.errors import InputError, UsageError
from t2i.nets.language import HIDDEN
from t2i.pipeline import Pipeline
from t2i.rng import generator
from t2i.sampling import SampleRequest
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import update_stage
from t2i.train.encoders import Encoders
from t2i.train.objectives.text import hide
from t2i.train.objectives.upsampler import UpsamplerObjective
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run
from t2i.train.trainer import train


@pytest.fixture(scope="module")
def trained(blind_micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("blind") / "model"
    trained_by("all", blind_micro, out=out)
    return out


def test_every_stage_and_a_picture_of_them(trained: Path) -> None:
    bundle = read_bundle(trained)
    assert bundle.manifest.family == "imagen"
    assert [(e.name, e.kind) for e in bundle.manifest.stages] == [
        ("text", "text"),
        ("base", "base"),
        ("upsampler256", "upsampler"),
    ]
    assert bundle.manifest.sizes == (16, 64) and list(bundle.manifest.notes["training"]) == [
        "text",
        "base",
        "upsampler256",
    ]
    assert bundle.configs["base"]["widths"]["context"] == 24 and "Imagen" in bundle.card()
    pipeline = Pipeline.load(trained)
    made = pipeline.sample(["a red circle", "a zyxt"], [1, 2], SampleRequest(keep_stages=True))
    assert made.images.shape == (2, 3, 64, 64) and list(made.stages) == ["base", "upsampler256"]
    assert made.unknown == [[], ["zyxt"]]
    alone = pipeline.sample(["a red circle"], [1]).images
    assert float((alone[0] - made.images[0]).abs().max()) * 127.5 <= 4


def test_a_run_broken_off_goes_on_to_the_same_weights(trained: Path, blind_micro: str, tmp_path: Path) -> None:
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps > 8  # in the middle of the base

    trained_by("all", blind_micro, out=tmp_path / "m", stop=stop)
    bundle = trained_by("all", blind_micro, out=tmp_path / "m", resume=True)
    assert bundle.manifest.files == {
        **read_bundle(trained).manifest.files,
        "README.md": bundle.manifest.files["README.md"],
    }


def test_a_base_starts_from_one_that_reads_something_else(
    trained: Path, micro: str, blind_micro: str, tmp_path: Path
) -> None:
    train("all", micro, ["clip.steps=1", "prior.steps=1", "base.steps=1", "upsampler256.steps=1"], out=tmp_path / "a")
    told: list[dict[str, Any]] = []
    shutil.copytree(trained, tmp_path / "b")
    one = ["base.steps=1", "base.lr=1e-9"]  # a step that moves nothing
    sets = {"out": tmp_path / "b", "start": tmp_path / "a", "overwrite": True, "report": told.append}
    train("base", blind_micro, one, **sets)
    warm = next(r for r in told if r["event"] == "warm start")
    assert 0.5 <= warm["share"] < 1
    (_, theirs), (_, ours) = (read_bundle(tmp_path / name).load_stage("base") for name in "ab")
    alike = {k for k in theirs.keys() & ours.keys() if theirs[k].shape == ours[k].shape}
    assert "conv_in.weight" in alike and "cond.text_in.1.weight" not in alike
    for name in alike:
        torch.testing.assert_close(ours[name], theirs[name], rtol=2e-3, atol=2e-3)
    with pytest.raises(InputError, match="another network"):
        train("base", blind_micro, [*one, "base.net.channels=[24,40]"], **sets)


def test_a_language_model_anew_drops_what_read_the_old_one(trained: Path, blind_micro: str, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "m")
    bundle = trained_by("text", blind_micro, ["seed=9"], out=tmp_path / "m", overwrite=True)
    assert [e.name for e in bundle.manifest.stages] == ["text"]


def test_a_base_needs_its_encoder(blind_micro: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no text encoder yet") as caught:
        trained_by("base", blind_micro, out=tmp_path / "m")
    assert "train text first" in caught.value.hint


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("base.net.cond_dim=32", "there is no CLIP to embed"),
        ("base.net.text_dim=32", "the width of a text token"),
        ("upsampler256.net.pooled_dim=8", "the width of a text's vector"),
        ("prior.steps=2", "a prior needs CLIP"),
        ('share.clup="small"', "share names 'clup'"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    blind_micro: str, tmp_path: Path, change: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        trained_by("all", blind_micro, [change], out=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_a_shared_stage_is_not_trained(trained: Path, blind_micro: str, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "first")
    plain = ["upsampler256.net.pooled_dim=0"]
    trained_by("upsampler256", blind_micro, plain, out=tmp_path / "first", overwrite=True)
    events: list[dict[str, Any]] = []
    share = [*plain, 'share.upsampler256="first"', "upsampler256.steps=0"]
    bundle = trained_by("all", blind_micro, share, out=tmp_path / "second", report=events.append)
    assert {"event": "shared", "stage": "upsampler256", "model": "first"} in events
    assert bundle.manifest.stage("upsampler256").source == "first" and bundle.manifest.sizes == (16, 64)
    assert Pipeline.load(tmp_path / "second").sample(["a star"], [1]).images.shape == (1, 3, 64, 64)
    plan = train("all", blind_micro, share, out=tmp_path / "third", dry_run=True)
    assert isinstance(plan, dict) and [row["stage"] for row in plan["stages"]] == ["text", "base"]


def t5_folder(folder: Path) -> Path:
    """A T5 with random weights, as transformers writes it."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed: pip install 't2i[t5]'")
    words = ["<pad>", "</s>", "<unk>", "a", "red", "green", "blue", "circle", "square", "star", "in", "the", "snow"]
    config = transformers.T5Config(
        d_model=24, d_kv=8, d_ff=32, num_layers=1, num_heads=2, vocab_size=32, pad_token_id=0, eos_token_id=1
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        transformers.T5EncoderModel(config).save_pretrained(folder)
    backend = Backend(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="<unk>"))
    backend.pre_tokenizer = pre_tokenizers.Whitespace()
    (folder / "tokenizer.json").write_text(backend.to_str())
    return folder


def test_a_t5_as_encoder(blind_micro: str, tmp_path: Path) -> None:
    folder = t5_folder(tmp_path / "t5")
    changes = ['text.encoder="t5"', f'text.folder="{folder}"', "text.steps=0", "text.net.context=12"]
    events: list[dict[str, Any]] = []
    bundle = trained_by("all", blind_micro, changes, out=tmp_path / "m", report=events.append)
    assert bundle.configs["text"]["encoder"] == "t5"
    assert bundle.configs["text"]["widths"] == {"text_dim": 24, "context": 12, "vocab": 32}
    assert {e["stage"] for e in events if e["event"] == "embed"} == {"base", "upsampler256"}
    pipeline = Pipeline.load(tmp_path / "m")
    facts = json.loads((tmp_path / "m" / ".train" / "texts" / "cache.json").read_text())
    assert facts["fingerprint"] == pipeline.encoder.fingerprint
    a, b = pipeline.sample(["a red circle", "two blue star"], [1, 1]).images
    assert not torch.equal(a, b)
    # another encoder in the place of this one: what it has written down is worth nothing
    config, weights = bundle.load_stage("text")
    changed = {name: t * 2 for name, t in weights.items()}
    update_stage(tmp_path / "m", bundle.manifest.stage("text"), (config, changed))
    with pytest.raises(InputError, match="of another text encoder"):
        trained_by("base", blind_micro, changes, out=tmp_path / "m", overwrite=True)


def test_hidden_tokens() -> None:
    ids = torch.tensor([[98, 3, 4, 5, 99, 0, 0]] * 4000)
    seen, chosen = hide(ids, 0.3, 98, generator(0, "hide"))
    assert not chosen[:, [0, 4, 5, 6]].any() and chosen.any(1).all()
    assert torch.equal(seen[~chosen], ids[~chosen])
    assert float(chosen[:, 1:4].float().mean()) == pytest.approx(0.3 + 0.7**3 / 3, abs=0.02)  # one at least
    hidden, kept = (seen == HIDDEN)[chosen].float().mean(), (seen == ids)[chosen].float().mean()
    assert float(hidden) == pytest.approx(0.8, abs=0.02) and float(kept) == pytest.approx(0.1, abs=0.02)
    assert int(seen.max()) == 99 and int(seen[chosen].max()) < 98


def test_the_language_model_learns_what_captions_say(blind_micro: str, tmp_path: Path) -> None:
    events: list[dict[str, Any]] = []
    changes = ["text.steps=60", "text.batch=32", "text.warmup=5", "text.lr=4e-3"]
    trained_by("text", blind_micro, changes, out=tmp_path / "m", report=events.append)
    losses = [e["loss"] for e in events if e["event"] == "step"]
    assert sum(losses[-5:]) < 0.8 * sum(losses[:5])


def test_augmentation_is_what_its_level_says(blind_micro: str) -> None:
    recipe = load_recipe(
        blind_micro, {"upsampler256.batch": "64", "upsampler256.blur": "0", "upsampler256.noise": "0.4"}
    )
    run = Run(recipe, Path("nowhere"), Pictures(recipe))
    objective = UpsamplerObjective(run, "upsampler256", Encoders())
    levels, errors, said = [], [], objective.captions(0)
    for step in range(6):
        high, low, level = objective.pairs(step, generator(0, "pairs", step))
        clean = torch.nn.functional.interpolate(high, scale_factor=0.25, mode="area")
        levels.append(level)
        errors.append((low - clean).flatten(1).std(1))
    level, error = torch.cat(levels), torch.cat(errors)
    assert float((level == 0).float().mean()) == pytest.approx(0.2, abs=0.08)  # a fifth is left as it is
    assert float(level[level > 0].mean()) == pytest.approx(0.2, abs=0.03) and float(level.max()) <= 0.4
    torch.testing.assert_close(error, level, atol=0.05, rtol=0.25)
    assert len(said) == 64 and said[0] == said[1] and len(set(said)) > 8
    assert said[0] == objective.source.batch(recipe.seed + 3, 0, 32, 32).captions[0]
