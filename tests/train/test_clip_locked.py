"""Training of CLIP's text tower alone: image embeddings do not change, text embeddings come nearer to them."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from t2i.data.source import WorldSource
from t2i.errors import UsageError
from t2i.nets.clip import Clip
from t2i.stages.loading import load_net
from t2i.store.bundle import read_bundle
from t2i.text.tokenizer import Tokenizer
from t2i.train.pool import EmbeddingPool
from t2i.train.recipes import load_recipe
from t2i.train.trainer import train
from t2i.world import World, WorldConfig

OWN = ["clip.steps=40", "clip.batch=32", "clip.lr=2e-3", "clip.warmup=5", "clip.pool=64", "clip.precision=fp32"]
SMALL = [
    "tokenizer.captions=300", "clip.net.vocab=600", "clip.net.vision_layers=1", "clip.net.text_layers=1",
    "clip.net.vision_width=64", "clip.net.text_width=64",
]  # fmt: skip


def clip_of(folder: Path) -> Clip:
    bundle = read_bundle(folder)
    net = load_net(bundle, bundle.manifest.of_kind("clip")[0])
    assert isinstance(net, Clip)
    return net.eval()


def cosine(clip: Clip, tokenizer: Tokenizer, source: WorldSource) -> float:
    pool = EmbeddingPool(clip, source, 99, 64, torch.device("cpu"))
    _, captions, z = pool.draw(64, 0, torch.Generator().manual_seed(0))
    with torch.no_grad():
        z_text = clip.encode_text(tokenizer.encode(captions, clip.config.context)[0]).pooled
    return float(F.cosine_similarity(z, z_text).mean())


def test_the_text_learns_and_the_image_tower_stays(tmp_path: Path) -> None:
    base = ["clip.denoise=0", "clip.steps=2", "clip.batch=8", "clip.precision=fp32"]
    train("clip", "tiny", [*SMALL, *base], out=tmp_path / "first")
    train("clip", "tiny", [*SMALL, *OWN, "clip.locked=true"], out=tmp_path / "second", start=tmp_path / "first")
    before, after = clip_of(tmp_path / "first"), clip_of(tmp_path / "second")
    old, new = before.state_dict(), after.state_dict()
    assert all(torch.equal(old[k], new[k]) for k in old if k.startswith("visual."))
    assert not torch.equal(old["text_projection"], new["text_projection"])
    source = WorldSource(World(load_recipe("tiny").world, resolution=32))
    tokenizer = Tokenizer.load(tmp_path / "second")
    assert cosine(after, tokenizer, source) > cosine(before, tokenizer, source) + 0.1


def test_it_needs_a_finished_image_tower(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="finished image tower"):
        train("clip", "tiny", [*SMALL, *OWN, "clip.locked=true"], out=tmp_path / "m")


def test_a_pool_is_a_function_of_its_seed(tmp_path: Path) -> None:
    config = load_recipe("tiny", dict(item.split("=") for item in SMALL)).stages["clip"].net
    source = WorldSource(World(WorldConfig(vocabulary="shapes"), resolution=32))
    torch.manual_seed(0)
    clip = Clip(config)
    pools = [EmbeddingPool(clip, source, 5, 10, torch.device("cpu")) for _ in range(2)]
    rows, captions, z = pools[0].draw(6, 3, torch.Generator().manual_seed(1))
    again = pools[1].draw(6, 3, torch.Generator().manual_seed(1))
    assert rows == again[0] and captions == again[1] and torch.equal(z, again[2])
    assert z.shape == (6, 128) and torch.allclose(z.norm(dim=1), torch.ones(6))
    assert len(pools[0].z) == 10 and torch.equal(z, pools[0].z[rows])
