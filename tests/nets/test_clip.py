"""CLIP: shapes, causality, and the same embeddings as open_clip's network from the same state_dict."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch

from t2i.errors import InputError, UsageError
from t2i.nets.clip import Clip, ClipConfig, open_clip_config

SMALL = ClipConfig(
    embed_dim=32, image_size=32, vision_width=64, vision_layers=2, vision_head_width=32,
    text_width=32, text_layers=2, text_heads=2, context=12, vocab=64,
)  # fmt: skip


def rows(config: ClipConfig, batch: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(1)
    ids = torch.randint(1, config.vocab - 2, (batch, config.context), generator=g)
    ids[0, 5], ids[0, 6:] = config.vocab - 1, 0
    ids[1:, -1] = config.vocab - 1
    return ids


def pixels(config: ClipConfig, batch: int = 3) -> torch.Tensor:
    g = torch.Generator().manual_seed(2)
    return torch.rand(batch, 3, config.image_size, config.image_size, generator=g) * 2 - 1


def build(config: ClipConfig) -> Clip:
    torch.manual_seed(0)
    return Clip(config).eval()


def test_shapes_and_mask() -> None:
    net = build(SMALL)
    text = net.encode_text(rows(SMALL))
    assert net.encode_image(pixels(SMALL)).shape == (3, 32)
    assert text.pooled.shape == (3, 32) and text.tokens.shape == (3, 12, 32)
    assert text.mask.sum(1).tolist() == [6, 12, 12] and text.mask[0, :6].all()


def test_padding_does_not_matter() -> None:
    net, ids = build(SMALL), rows(SMALL)[:1]
    other = ids.clone()
    other[0, 6:] = 7
    for changed in (other, ids[:, :6]):
        a, b = net.encode_text(ids), net.encode_text(changed)
        torch.testing.assert_close(a.pooled, b.pooled)
        torch.testing.assert_close(a.tokens[:, :6], b.tokens[:, :6])


def test_bf16_attention_agrees() -> None:
    net, ids = build(SMALL), rows(SMALL)
    with torch.autocast("cpu", torch.bfloat16):
        low = net.encode_text(ids).pooled
    torch.testing.assert_close(low.float(), net.encode_text(ids).pooled, atol=0.1, rtol=0.1)


def test_default_size() -> None:
    assert sum(p.numel() for p in Clip(ClipConfig()).parameters()) == 6_607_682


def test_a_cell_of_the_embedding_moves_with_its_patch() -> None:
    grid = SMALL.image_size // SMALL.patch
    net = build(replace(SMALL, cell_dim=1, embed_dim=32 + grid**2))
    x = pixels(SMALL)
    with torch.no_grad():  # no position code: a patch is read the same wherever it lies
        net.visual.positional_embedding.zero_()
        z, moved = net.encode_image(x), net.encode_image(x.roll(SMALL.patch, dims=3))
    assert z.shape == (3, 32 + grid**2)
    torch.testing.assert_close(z[:, :32], moved[:, :32], atol=1e-4, rtol=1e-4)
    cells, shifted = (v[:, 32:].unflatten(1, (grid, grid)) for v in (z, moved))
    torch.testing.assert_close(cells.roll(1, dims=2), shifted, atol=1e-4, rtol=1e-4)
    assert not torch.allclose(cells, shifted, atol=0.1)
    with pytest.raises(InputError, match="class token"):
        replace(SMALL, cell_dim=2)


def test_open_clip_has_no_cells() -> None:
    with pytest.raises(UsageError, match="cell_dim"):
        open_clip_config(replace(SMALL, cell_dim=1))


def test_config_round_trip() -> None:
    assert ClipConfig.from_dict(SMALL.to_dict()) == SMALL
    assert ClipConfig.from_dict({"init_logit_bias": None}).init_logit_bias is None
    for bad in ({"width": 3}, {"patch": "8"}, {"patch": True}, {"embed_dim": 2.5}, {"init_logit_scale": "x"}):
        with pytest.raises(InputError):
            ClipConfig.from_dict(bad)


@pytest.mark.parametrize("config", [ClipConfig(), ClipConfig(init_logit_bias=None, init_logit_scale=math.log(20))])
def test_open_clip_gives_the_same(config: ClipConfig) -> None:
    model = pytest.importorskip("open_clip.model", reason="open_clip is not installed")
    ours = build(config)
    theirs = model.CLIP(**open_clip_config(config)).eval()
    torch.testing.assert_close(theirs.logit_scale, ours.logit_scale)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    with torch.no_grad():
        x, ids = pixels(config), rows(config)
        torch.testing.assert_close(ours.encode_image(x), theirs.encode_image(x), atol=1e-5, rtol=1e-5)
        torch.testing.assert_close(ours.encode_text(ids).pooled, theirs.encode_text(ids), atol=1e-5, rtol=1e-5)
        # and in the other direction
        theirs = model.CLIP(**open_clip_config(config)).eval()
        ours.load_state_dict(theirs.state_dict(), strict=True)
        torch.testing.assert_close(ours.encode_image(x), theirs.encode_image(x), atol=1e-5, rtol=1e-5)
