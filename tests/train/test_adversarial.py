"""The adversarial tune of an upsampler: it starts from the plain weights, does not change them, and resumes exactly."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from t2i.errors import InputError, UsageError
from t2i.nets.critic import hinge
from t2i.pipeline import Conditioning, Pipeline
from t2i.sampling import SampleRequest
from t2i.store.bundle import read_bundle
from t2i.train.encoders import Encoders
from t2i.train.objectives.adversarial import AdversarialObjective
from t2i.train.recipes import load_recipe
from t2i.train.run import Pictures, Run
from t2i.train.state import TENSORS
from t2i.train.trainer import train

SHARP = [
    "sharp256.steps=4", "sharp256.batch=4", "sharp256.warmup=1", "sharp256.save_every=2", "sharp256.size=64",
    "sharp256.crop=32", "sharp256.crops=2", "sharp256.log_every=1", "sharp256.precision=fp32",
    "sharp256.net.width=16", "sharp256.net.depth=1", "sharp256.net.emb_dim=16",
    "sharp256.net.time_features=16",
]  # fmt: skip


@pytest.fixture(scope="module")
def made(micro: str, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle with all stages but the sharp one."""
    out = tmp_path_factory.mktemp("sharp") / "model"
    train("all", micro, out=out)
    return out


def copy(folder: Path, to: Path) -> Path:
    shutil.copytree(folder, to)
    return to


def objective(micro: str, adversarial: float = 0.1) -> AdversarialObjective:
    changes = dict(change.split("=") for change in (*SHARP, f"sharp256.adversarial={adversarial}"))
    recipe = load_recipe(micro, changes)
    run = Run(recipe, Path("nowhere"), Pictures(recipe, "scenes", None))
    return AdversarialObjective(run, "sharp256", Encoders())


def test_the_hinge_is_the_papers() -> None:
    assert float(hinge(torch.tensor([2.0, 0.5]), torch.tensor([-3.0, 0.0]))) == pytest.approx(0.25 + 0.5)


def test_each_network_is_moved_by_its_own_part(micro: str) -> None:
    def gradients(adversarial: float, step: int) -> tuple[torch.Tensor, torch.Tensor]:
        o = objective(micro, adversarial)
        o.loss(step)[0].backward()
        critic = torch.cat([p.grad.flatten() for p in o.critic.parameters() if p.grad is not None])
        out = o.net.conv_out.weight.grad
        assert out is not None
        return critic, out.flatten()

    (critic, drawn), (same, other) = gradients(0.1, 3), gradients(5.0, 3)
    assert float(critic.abs().max()) > 0
    torch.testing.assert_close(critic, same)  # it does not learn to be fooled
    assert float((drawn - other).abs().max()) > 1e-4
    # the first steps leave the upsampler to the mean error, whatever the critic says
    torch.testing.assert_close(gradients(0.1, 0)[1], gradients(5.0, 0)[1])


def test_a_critic_learns_to_tell_the_enlarged_from_the_true(micro: str) -> None:
    o = objective(micro)
    optimizer = torch.optim.Adam(o.critic.parameters(), 2e-3)
    margins = []
    for step in range(30):
        optimizer.zero_grad()
        loss, facts = o.loss(step)
        loss.backward()
        optimizer.step()
        margins.append(facts["margin"])
    assert sum(margins[-5:]) / 5 > 0.3 + margins[0]


def test_a_bundle_holds_both_and_draws_the_sharp_one_on_request(made: Path, micro: str, tmp_path: Path) -> None:
    out = copy(made, tmp_path / "m")
    before = (out / "upsampler256" / "model.safetensors").read_bytes()
    picture = Pipeline.load(out).sample(["a red circle"], [1], SampleRequest(size=64)).images
    records: list[dict[str, Any]] = []
    train("sharp256", micro, SHARP, out=out, report=records.append)
    assert [r["stage"] for r in records if r["event"] == "warm start"] == ["upsampler256"]
    bundle = read_bundle(out)
    assert [(e.name, e.kind) for e in bundle.manifest.stages[-2:]] == [
        ("upsampler256", "upsampler"),
        ("sharp256", "sharp"),
    ]
    assert bundle.manifest.sizes == (16, 64)
    assert (out / "upsampler256" / "model.safetensors").read_bytes() == before
    weights = load_file(out / "sharp256" / "model.safetensors")
    assert weights.keys() == load_file(out / "upsampler256" / "model.safetensors").keys()  # no critic
    plain, sharp = Pipeline.load(out), Pipeline.load(out, sharp=True)
    assert torch.equal(plain.sample(["a red circle"], [1], SampleRequest(size=64)).images, picture)
    assert "sharp256" not in plain.stages and "upsampler256" not in sharp.stages
    (entry,) = sharp.manifest.of_kind("upsampler")
    told: list[tuple[str, int]] = []

    def tell(stage: str, step: int, n: int, x: torch.Tensor) -> None:
        told.append((stage, n))

    low = torch.zeros(1, 3, 16, 16)
    large = sharp.sample_upsampler(entry, low, Conditioning(), [0], SampleRequest(), tell)
    assert large.shape == (1, 3, 64, 64) and told == [("sharp256", 1)]


def test_stopped_and_resumed_equals_straight_to_the_bit(made: Path, micro: str, tmp_path: Path) -> None:
    straight, broken = copy(made, tmp_path / "a"), copy(made, tmp_path / "b")
    train("sharp256", micro, SHARP, out=straight)

    def after(n: int) -> Callable[[], bool]:
        calls = iter(range(100))
        return lambda: next(calls) >= n

    train("sharp256", micro, SHARP, out=broken, stop=after(1))
    assert not (broken / "sharp256").exists()
    train("sharp256", micro, SHARP, out=broken, resume=True)
    a, b = (load_file(out / ".train" / "sharp256" / TENSORS) for out in (straight, broken))
    assert any(name.startswith("model/critic.") for name in a) and any("ema/upsampler." in name for name in a)
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_what_cannot_be_sharpened_is_refused(made: Path, micro: str, tmp_path: Path) -> None:
    with pytest.raises((InputError, UsageError), match="upsampler256"):
        train("sharp256", micro, SHARP, out=tmp_path / "nothing")
    with pytest.raises(InputError, match="another network"):
        train("sharp256", micro, [*SHARP, "sharp256.net.width=24"], out=copy(made, tmp_path / "m"))
    with pytest.raises(UsageError, match="go together"):
        train("upsampler256", micro, ["upsampler256.adversarial=0.1"], out=tmp_path / "m", overwrite=True)
