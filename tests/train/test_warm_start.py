"""A base that grows: more blocks, and at first the same pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from t2i.nets.conditioner import UNetCond
from t2i.nets.unet import UNet
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


def _base(folder: Path) -> UNet:
    bundle = read_bundle(folder)
    net = load_net(bundle, bundle.manifest.of_kind("base")[0])
    assert isinstance(net, UNet)
    return net
