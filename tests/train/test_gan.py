"""Training a GAN: the whole recipe, an exact resume, who learns from what, and the alarm of a collapse."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from training import trained_by

from t2i.errors import UsageError
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.store.bundle import read_bundle
from t2i.train.encoders import encoders_of
from t2i.train.log import read_log
from t2i.train.objectives.gan import GanObjective
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run


@pytest.fixture(scope="module")
def trained(gan_micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("gan") / "model"
    trained_by("all", gan_micro, out=out)
    return out


def objective(trained: Path, recipe: str, told: list[dict[str, Any]] | None = None, **changes: str) -> GanObjective:
    found = load_recipe(recipe, {f"gan.{key}": value for key, value in changes.items()})
    run = Run(found, trained, Pictures(found), report=(told if told is not None else []).append)
    return GanObjective(run, "gan", encoders_of(run.bundle(), trained, "clip", torch.device("cpu")))


def test_every_stage_and_a_picture_of_them(trained: Path) -> None:
    bundle = read_bundle(trained)
    assert bundle.manifest.family == "gan" and bundle.manifest.sizes == (16, 64)
    assert [e.name for e in bundle.manifest.stages] == ["clip", "gan", "upsampler256"]
    assert not any("discriminator" in name for name in bundle.load_stage("gan")[1])
    made = Pipeline.load(trained).sample(["a red circle", "a star"], [1, 2], SampleRequest(size=16))
    assert made.images.shape == (2, 3, 16, 16)
    rows = [row for row in read_log(trained / ".train/gan/log.jsonl") if row["event"] == "step"]
    assert len(rows) == 6
    for column in ("critic", "generator", "told_apart", "spread", "seeds"):
        assert all(math.isfinite(row[column]) for row in rows)
    assert list((trained / ".train/gan/sheets").glob("*.png"))


def test_a_run_broken_off_goes_on_to_the_same_weights(trained: Path, gan_micro: str, tmp_path: Path) -> None:
    steps = 0

    def stop() -> bool:
        nonlocal steps
        steps += 1
        return steps > 15

    trained_by("all", gan_micro, out=tmp_path / "m", stop=stop)
    assert (tmp_path / "m/.train/gan/state.safetensors").exists()
    bundle = trained_by("all", gan_micro, out=tmp_path / "m", resume=True)
    card = {"README.md": bundle.manifest.files["README.md"]}
    assert bundle.manifest.files == {**read_bundle(trained).manifest.files, **card}


@pytest.mark.parametrize("kind", ["nonsaturating", "hinge", "relativistic"])
@pytest.mark.parametrize("design", ["projection", "concat", "patch"])
def test_neither_reaches_the_others_weights(trained: Path, gan_micro: str, kind: str, design: str) -> None:
    """The sum of the losses gives each network the gradient of its own loss alone."""
    changes = {"loss": kind, "discriminator.design": design, "r2": "1.0"}
    both = objective(trained, gan_micro, **changes)
    torch.manual_seed(0)
    for p in both.module.parameters():
        torch.nn.init.normal_(p, std=0.3)
    loss, facts = both.loss(0)
    loss.backward()  # type: ignore[no-untyped-call]
    grads = {name: p.grad.clone() for name, p in both.module.named_parameters() if p.grad is not None}
    assert all(name in grads for name, _ in both.net.named_parameters("generator"))
    # the generator's loss is the sum less the discriminator's: move the generator alone, and only `generator` falls
    with torch.no_grad():
        for name, p in both.net.named_parameters("generator"):
            p -= 1e-3 * grads[name] / max(1e-6, float(grads[name].norm()))
    assert both.loss(0)[1]["generator"] < facts["generator"]
    for p in both.module.parameters():
        p.grad = None
    again = both.loss(1)[0]  # a step without penalty
    again.backward()  # type: ignore[no-untyped-call]
    with torch.no_grad():
        before = both.loss(1)[1]["critic"]
        for p in both.discriminator.parameters():
            if p.grad is not None:
                p -= 1e-3 * p.grad / max(1e-6, float(p.grad.norm()))
        assert both.loss(1)[1]["critic"] < before


def test_a_collapse_is_told_once_and_so_is_its_end(trained: Path, gan_micro: str) -> None:
    told: list[dict[str, Any]] = []
    watched = objective(trained, gan_micro, told)
    low, high = [0.1], [0.8]
    for step, found in enumerate([*low * 30, *high * 3, *low * 19, *high, *low * 25]):
        watched._watch(step, found)
    events = [(row["event"], row["step"]) for row in told]
    assert events == [("collapsed", 21), ("recovered", 30), ("collapsed", 72)]  # the warm-up is 1 step; 19 are too few


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("gan.net.token_dim=16", "read texts of other widths"),
        ("gan.discriminator.text_dim=16", "read texts of other widths"),
        ("text.steps=3 clip.steps=0 gan.clip=0.5", "gan.clip needs CLIP"),
        ("gan.discriminator.patch=3", "draws 16 pixels, no multiple of 6"),
        ("base.steps=3", "there are two stages that make the smallest picture"),
        ("gan.loss=wasserstein", "not one of 'nonsaturating'"),
        ("upsampler256.size=60", "starts from 15"),
    ],
)
def test_what_does_not_fit_is_refused_before_training(gan_micro: str, tmp_path: Path, change: str, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        trained_by("all", gan_micro, change.split(), out=tmp_path / "m")
    assert not (tmp_path / "m").exists()
