"""Training a VAE, alone too, and the transformer that draws its tokens."""

from __future__ import annotations

import math
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from training import trained_by

from t2i.errors import InputError, UsageError
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.store.bundle import read_bundle
from t2i.train.log import read_log
from t2i.train.objectives import objective_of
from t2i.train.objectives.dalle import DalleObjective
from t2i.train.objectives.vae import VAEObjective, cosine
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run
from t2i.train.trainer import train


@pytest.fixture(scope="module")
def trained(dalle_micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("tokens") / "model"
    trained_by("all", dalle_micro, out=out)
    return out


def test_every_stage_and_a_picture_of_them(trained: Path) -> None:
    bundle = read_bundle(trained)
    assert bundle.manifest.family == "dalle" and bundle.manifest.sizes == (16, 64) and "DALL·E" in bundle.card()
    assert [(e.name, e.kind) for e in bundle.manifest.stages] == [
        ("clip", "clip"),
        ("dalle", "dalle"),
        ("vae", "vae"),
        ("upsampler256", "upsampler"),
    ]
    assert bundle.manifest.stage("dalle").defaults.temperature == 1
    assert list(bundle.manifest.notes["training"]) == ["clip", "vae", "dalle", "upsampler256"]
    assert not any(name.startswith("base.") for name in bundle.load_stage("clip")[1])
    made = Pipeline.load(trained).sample(["a red circle", "a zyxt"], [1, 2], SampleRequest(size=16))
    assert made.images.shape == (2, 3, 16, 16) and made.unknown == [[], ["zyxt"]]
    for stage, columns in (("vae", ("nll", "kl", "psnr", "use")), ("dalle", ("text", "image", "right"))):
        last = list(read_log(trained / f".train/{stage}/log.jsonl"))[-1]
        assert all(math.isfinite(last[column]) for column in columns)
        assert list((trained / f".train/{stage}/sheets").glob("*.png"))


def test_a_run_broken_off_goes_on_to_the_same_weights(trained: Path, dalle_micro: str, tmp_path: Path) -> None:
    for after in (14, 18):  # in the middle of the vae, then of the transformer
        steps = 0

        def stop(after: int = after) -> bool:
            nonlocal steps
            steps += 1
            return steps > after

        out = tmp_path / str(after)
        trained_by("all", dalle_micro, out=out, stop=stop)
        bundle = trained_by("all", dalle_micro, out=out, resume=True)
        card = {"README.md": bundle.manifest.files["README.md"]}
        assert bundle.manifest.files == {**read_bundle(trained).manifest.files, **card}


@pytest.mark.parametrize("latent", ["gumbel", "vq", "fsq", "gaussian"])
def test_a_vae_stands_alone(dalle_micro: str, tmp_path: Path, latent: str) -> None:
    changes = [f"vae.net.latent={latent}", "vae.thing_weight=3"]
    if latent == "fsq":
        changes += ["vae.net.dim=2", "vae.net.levels=[4, 4]", "vae.net.codes=16"]
    bundle = trained_by("vae", dalle_micro, changes, out=tmp_path / "m")
    assert [e.name for e in bundle.manifest.stages] == ["vae"] and bundle.manifest.sizes == (16,)
    assert bundle.manifest.tokenizer is None
    with pytest.raises(InputError, match="it has no clip and no dalle"):
        Pipeline.load(tmp_path / "m")
    if latent == "gumbel":  # the others may follow
        bundle = trained_by("clip", dalle_micro, out=tmp_path / "m")
        bundle = trained_by("dalle", dalle_micro, out=tmp_path / "m")
        assert Pipeline.load(tmp_path / "m").sample(["a star"], [1]).images.shape == (1, 3, 16, 16)


def test_a_vae_anew_drops_the_transformer_that_drew_its_tokens(trained: Path, dalle_micro: str, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "m")
    told: list[dict[str, Any]] = []
    bundle = trained_by("vae", dalle_micro, ["seed=9"], out=tmp_path / "m", overwrite=True, report=told.append)
    assert [e.name for e in bundle.manifest.stages] == ["clip", "vae", "upsampler256"]
    assert {"event": "dropped", "stage": "dalle", "why": "they learned from another vae"} in told
    assert bundle.tokenizer_json() == read_bundle(trained).tokenizer_json()
    assert not (tmp_path / "m/dalle").exists() and not (tmp_path / "m/.train/dalle").exists()
    clip = trained_by("clip", dalle_micro, ["seed=9"], out=tmp_path / "m", overwrite=True)
    assert [e.name for e in clip.manifest.stages] == ["clip", "vae", "upsampler256"]  # a vae reads no text


def test_a_shared_vae_and_a_shared_transformer(trained: Path, dalle_micro: str, tmp_path: Path) -> None:
    shutil.copytree(trained, tmp_path / "first")
    share = ['share.vae="first"', "upsampler256.steps=0"]
    bundle = trained_by("all", dalle_micro, share, out=tmp_path / "second")
    assert bundle.manifest.stage("vae").source == "first" and bundle.manifest.stage("dalle").source is None
    assert Pipeline.load(tmp_path / "second").sample(["a star"], [1]).images.shape == (1, 3, 16, 16)
    with pytest.raises(InputError, match="reads text, by another encoder"):
        trained_by("dalle", dalle_micro, [*share, 'share.dalle="first"'], out=tmp_path / "second", overwrite=True)


def test_a_shared_clip_brings_its_tokenizer(trained: Path, dalle_micro: str, tmp_path: Path) -> None:
    """Of whose tokens the transformer may read fewer; it tells what it did not read."""
    shutil.copytree(trained, tmp_path / "first")
    changes = ['share.clip="first"', "dalle.net.context=9", "upsampler256.steps=0"]
    bundle = trained_by("all", dalle_micro, changes, out=tmp_path / "second")
    assert bundle.manifest.stage("clip").source == "first" and "clip/model.safetensors" in bundle.manifest.files
    assert bundle.tokenizer_json() == read_bundle(trained).tokenizer_json()
    pipeline = Pipeline.load(tmp_path / "second")
    made = pipeline.sample(["a star", "a star and a star and a star and a star"], [1, 1])
    assert made.truncated[0] is None and made.truncated[1] and made.truncated[1].endswith("a star")
    assert pipeline.encoder.context > 9


def test_a_transformer_needs_its_vae(dalle_micro: str, tmp_path: Path) -> None:
    trained_by("clip", dalle_micro, ["clip.steps=1"], out=tmp_path / "m")
    with pytest.raises(InputError, match="holds no vae yet") as caught:
        trained_by("dalle", dalle_micro, out=tmp_path / "m")
    assert "train vae first" in caught.value.hint


def test_the_vae_is_read_once(trained: Path, dalle_micro: str, tmp_path: Path) -> None:
    """Whether there is one is asked of the manifest: weights that cannot be read do not stop the question."""
    shutil.copytree(trained, tmp_path / "m")
    weights = tmp_path / "m/vae/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1])
    recipe = load_recipe(dalle_micro)
    DalleObjective.check_run(Run(recipe, tmp_path / "m", Pictures(recipe)), "dalle")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("vae.size=18", "not a multiple of 4"),
        ("vae.net.codes=17", "the vocabulary of the image tokens"),
        ("dalle.net.grid=5", "the number of image tokens a side"),
        ("dalle.net.context=25", "'dalle' reads more text tokens than 'clip'"),
        ("vae.net.latent=gaussian", "the latents of 'vae' are continuous"),
        ("base.steps=3", "there are two stages that make the smallest picture"),
        ("text.steps=3", "dalle reads CLIP's tokens"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(
    dalle_micro: str, tmp_path: Path, change: str, words: str
) -> None:
    with pytest.raises(UsageError, match=words):
        trained_by("all", dalle_micro, [change], out=tmp_path / "m")
    assert not (tmp_path / "m").exists()


def test_temperature_falls_and_the_weight_of_the_divergence_rises(dalle_micro: str, tmp_path: Path) -> None:
    recipe = load_recipe(dalle_micro, {"vae.steps": "100", "vae.anneal": "0.5", "vae.kl_warmup": "0.2", "vae.kl": "4"})
    run = Run(recipe, tmp_path, Pictures(recipe))
    objective = objective_of(recipe, "vae")(run, "vae", None)  # type: ignore[arg-type]
    assert isinstance(objective, VAEObjective)
    assert objective.dials(0) == (1.0, 0.0)
    tau, beta = objective.dials(25)
    assert tau == pytest.approx((1 + 1 / 16) / 2) and beta == 4
    assert objective.dials(10)[1] == pytest.approx(2) and objective.dials(50)[0] == objective.dials(99)[0] == 1 / 16
    assert cosine(3, 0) == 1


def test_the_loss_weighs_text_and_picture(trained: Path, dalle_micro: str) -> None:
    def loss(**weights: float) -> float:
        recipe = load_recipe(dalle_micro, {f"dalle.{name}": str(weight) for name, weight in weights.items()})
        run = Run(recipe, trained, Pictures(recipe))
        from t2i.train.encoders import encoders_of

        encoders = encoders_of(run.bundle(), trained, "clip", torch.device("cpu"))
        objective = DalleObjective(run, "dalle", encoders)
        with torch.no_grad():
            return float(objective.loss(0)[0])

    text, image = loss(text=1, image=0), loss(text=0, image=1)
    assert text == pytest.approx(math.log(512), rel=0.1) and image == pytest.approx(math.log(16), rel=0.1)  # a guess
    assert loss() == pytest.approx(text / 8 + 7 * image / 8, rel=1e-5)


def test_a_plan_needs_nothing_trained(dalle_micro: str, tmp_path: Path) -> None:
    plan = train("all", dalle_micro, out=tmp_path / "m", dry_run=True)
    assert isinstance(plan, dict)
    assert [row["stage"] for row in plan["stages"]] == ["clip", "vae", "dalle", "upsampler256"]
    assert not (tmp_path / "m").exists()
