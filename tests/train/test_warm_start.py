"""First weights from elsewhere: a base that grows, and stages that start from students."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from t2i.nets.conditioner import UNetCond
from t2i.nets.unet import UNet
from t2i.pipeline import Pipeline
from t2i.sampling import SampleRequest
from t2i.stages.loading import load_net
from t2i.store.bundle import read_bundle
from t2i.store.bundle_writing import update_stage
from t2i.train.trainer import train

STILL = ["base.steps=1", "base.lr=1e-9", "base.precision=fp32"]  # a step that moves nothing


def test_a_base_starts_from_one_with_fewer_blocks(micro: str, tmp_path: Path) -> None:
    out = tmp_path / "model"
    train("all", micro, ["clip.steps=1", "prior.steps=1", "base.steps=20", "upsampler256.steps=1"], out=out)
    few = _base(out)
    blocks = [n + 1 for n in few.config.blocks]
    train("base", micro, [*STILL, f"base.net.blocks={blocks}"], out=out, start=out, overwrite=True)
    many = _base(out)
    assert list(many.config.blocks) == blocks

    g = torch.Generator().manual_seed(0)
    side = 2 * few.config.multiple
    x, t = torch.randn(2, few.config.in_channels, side, side, generator=g), torch.tensor([0.3, 0.8])
    cond = UNetCond(z=torch.randn(2, few.config.cond_dim, generator=g))
    with torch.no_grad():
        was, now = few(x, t, cond), many(x, t, cond)
    assert float((now - was).abs().max()) < 0.01 * float(was.abs().max())  # weights are kept in fp16


def test_a_stage_that_starts_from_a_student_is_none(micro: str, tmp_path: Path) -> None:
    """What it is trained for is the plain estimate, and its entry says so; the start is told."""
    out, events = tmp_path / "model", list[dict[str, Any]]()
    train("all", micro, ["clip.steps=1", "prior.steps=1", "base.steps=1", "upsampler256.steps=1"], out=out)
    bundle = read_bundle(out)
    for name in ("prior", "base"):
        entry = bundle.manifest.stage(name)
        entry = replace(entry, defaults=replace(entry.defaults, distilled=1.5))
        update_stage(out, entry, bundle.load_stage(name))
        train(name, micro, STILL, out=out, start=out, overwrite=True, report=events.append, steps=1)
    assert all(entry.defaults.distilled is None for entry in read_bundle(out).manifest.stages)
    told = [(e["stage"], "student" in e.get("hint", "")) for e in events if e["event"] == "warm start"]
    assert told == [("prior", True), ("base", True)]


def test_a_prior_that_learns_with_guidance_goes_on_from_a_student(micro: str, tmp_path: Path) -> None:
    """It is told to learn the same guidance: nothing is to be unlearned, and it is drawn in one evaluation a step."""
    out, events = tmp_path / "model", list[dict[str, Any]]()
    wanted = ["clip.steps=1", "prior.steps=2", "base.steps=1", "upsampler256.steps=1", "prior.distilled=1.5"]
    train("all", micro, wanted, out=out)
    assert read_bundle(out).manifest.stage("prior").defaults.distilled == 1.5
    assert read_bundle(out).manifest.stage("prior").defaults.guidance == 1.5

    more = ["prior.steps=1", "prior.distilled=1.5", "prior.net.pool_layers=2"]
    train("prior", micro, more, out=out, start=out, overwrite=True, report=events.append)
    assert read_bundle(out).manifest.stage("prior").defaults.distilled == 1.5
    (told,) = [e for e in events if e["event"] == "warm start"]
    assert "hint" not in told and told["share"] < 1  # and its text is read by one layer more

    calls = list[int]()
    pipeline = Pipeline.load(out)
    assert pipeline.prior is not None
    pipeline.prior[1].net.register_forward_hook(lambda _, inputs, __: calls.append(len(inputs[0])))
    text, _ = pipeline.encode(["a red circle"])
    pipeline.sample_prior(text, [0], SampleRequest())
    assert set(calls) == {pipeline.prior[1].defaults.best_of or 1}


def _base(folder: Path) -> UNet:
    bundle = read_bundle(folder)
    net = load_net(bundle, bundle.manifest.of_kind("base")[0])
    assert isinstance(net, UNet)
    return net
