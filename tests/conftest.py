"""What several rooms need: a whole bundle with real networks and random weights, small enough to draw in
milliseconds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from t2i.nets.clip import Clip, ClipConfig
from t2i.nets.prior import PriorConfig, build_prior
from t2i.nets.unet import UNet, UNetConfig
from t2i.nets.upsampler import Upsampler, UpsamplerConfig
from t2i.store.bundle import Defaults, Manifest, StageEntry, write_bundle
from t2i.text.tokenizer import train_tokenizer
from t2i.text.words import Words

CAPTIONS = [
    "a cat in the snow",
    "a red apple on a blue background",
    "a zebra next to a house at night",
    "two penguins in the snow",
    "一只猫在雪地里玩耍",
]
E, D, CONTEXT, VOCAB = 32, 32, 16, 300
CLIP = ClipConfig(
    embed_dim=E, image_size=16, patch=8, vision_width=32, vision_layers=1, vision_head_width=16,
    text_width=D, text_layers=1, text_heads=2, context=CONTEXT, vocab=VOCAB,
)  # fmt: skip
PRIOR = PriorConfig(
    embed_dim=E, token_dim=D, context=CONTEXT, width=32, depth=1, heads=2,
    pool_width=32, pool_heads=2, time_features=16,
)  # fmt: skip
BASE = UNetConfig(
    channels=(16, 32), blocks=(1, 1), attention=(1,), mid_blocks=1, head_dim=16, emb_dim=32, context_dim=32,
    cond_dim=E, z_tokens=2, text_dim=D, time_features=16,
)  # fmt: skip
UP = UpsamplerConfig(scale=4, unshuffle=4, width=16, depth=1, emb_dim=16, time_features=16)
ENTRIES = (
    StageEntry("clip", "clip", "clip"),
    StageEntry("prior", "prior", "prior", Defaults(steps=3, guidance=1.5, sampler="euler", extra={"best_of": 2})),
    StageEntry("base", "base", "base", Defaults(steps=4, guidance=2.0, sampler="dpmpp_2m")),
    StageEntry("upsampler64", "upsampler", "upsampler64", Defaults(steps=1, extra={"noise": 0.1})),
)
WIDTHS: dict[str, dict[str, int]] = {
    "clip": {"embed_dim": E, "text_dim": D, "context": CONTEXT, "vocab": VOCAB},
    "prior": {"embed_dim": E, "text_dim": D},
    "base": {"cond_dim": E, "text_dim": D, "size": 16},
    "upsampler64": {"low": 16, "size": 64},
}


def fill(net: nn.Module, seed: int) -> nn.Module:
    """Random weights everywhere, also where a new network holds zeros, so that every input has a say."""
    g = torch.Generator().manual_seed(seed)
    for name, p in sorted(net.named_parameters()):
        if p.ndim >= 2:
            gain = 3.0 if "embedding" in name else p[0].numel() ** -0.5
            p.data = gain * torch.randn(p.shape, generator=g)
        elif p.ndim == 1:
            p.data = p.data + 0.1 * torch.randn(p.shape, generator=g)
    return net


def write_tiny(folder: Path) -> Path:
    """A bundle of 16 then 64 pixels in `folder`: clip, prior, base, upsampler64."""
    configs = {"clip": CLIP, "prior": PRIOR, "base": BASE, "upsampler64": UP}
    nets = {"clip": Clip(CLIP), "prior": build_prior(PRIOR), "base": UNet(BASE), "upsampler64": Upsampler(UP)}
    stages: dict[str, tuple[dict[str, Any], dict[str, torch.Tensor]]] = {}
    for seed, (name, net) in enumerate(nets.items()):
        config: dict[str, Any] = {"net": configs[name].to_dict(), "widths": WIDTHS[name]}
        if name != "clip":
            config |= {"process": {"kind": "flow"}, "prediction": "x0"}
        stages[name] = (config, fill(net, seed).state_dict())
    notes = {"words": Words.collect(CAPTIONS)}
    manifest = Manifest("unclip", "tiny", ENTRIES, (16, 64), notes=notes)
    write_bundle(folder, manifest, stages, train_tokenizer(CAPTIONS, VOCAB).backend.to_str(), "# tiny\n")
    return folder


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the bundle `tiny`. Read it; copy it before you damage it."""
    return write_tiny(tmp_path_factory.mktemp("models") / "tiny")


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Small tensors: threads only wait for one another, and for what else runs on the machine."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
