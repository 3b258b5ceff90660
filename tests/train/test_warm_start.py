"""A base that grows: more blocks, and at first the same pictures."""

from __future__ import annotations

from pathlib import Path

import torch

from t2i.nets.conditioner import UNetCond
from t2i.nets.unet import UNet
from t2i.stages.loading import load_net
from t2i.store.bundle import read_bundle
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


def _base(folder: Path) -> UNet:
    bundle = read_bundle(folder)
    net = load_net(bundle, bundle.manifest.of_kind("base")[0])
    assert isinstance(net, UNet)
    return net
