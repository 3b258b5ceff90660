"""The upsampler: bicubic when new, any size, local."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from t2i.errors import InputError
from t2i.nets.upsampler import Upsampler, UpsamplerConfig

SMALL = UpsamplerConfig(width=16, depth=2, emb_dim=16, time_features=16)


def build(config: UpsamplerConfig = SMALL) -> Upsampler:
    torch.manual_seed(0)
    net = Upsampler(config).eval()
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return net


def inputs(h: int = 8, w: int = 12, scale: int = 4) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    low = torch.rand(2, 3, h, w, generator=g) * 2 - 1
    x_t = torch.randn(2, 3, h * scale, w * scale, generator=g)
    return x_t, torch.rand(2, generator=g), low, torch.rand(2, generator=g)


def test_new_is_bicubic() -> None:
    x_t, t, low, level = inputs()
    expected = F.interpolate(low, scale_factor=4, mode="bicubic")
    torch.testing.assert_close(Upsampler(SMALL)(x_t, t, low, level), expected)


@pytest.mark.parametrize(("scale", "unshuffle"), [(4, 4), (4, 8), (2, 2), (1, 4)])
def test_every_input_is_read(scale: int, unshuffle: int) -> None:
    net = build(UpsamplerConfig(scale=scale, unshuffle=unshuffle, width=16, depth=1))
    args = inputs(scale=scale)
    out = net(*args)
    assert out.shape == args[0].shape
    out.square().mean().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    with torch.no_grad():
        for i in range(4):
            changed = list(args)
            changed[i] = changed[i].flip(0)
            assert (net(*changed) - out).abs().max() > 1e-4
        torch.testing.assert_close(net(*(a[:1] for a in args)), out[:1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(net(*args[:3]), net(*args[:3], torch.zeros(2)))


def test_a_crop_gives_the_crop() -> None:
    net = build()
    x_t, t, low, level = inputs(24, 24)
    with torch.no_grad():
        whole = net(x_t, t, low, level)
        crop = net(x_t[:, :, :64, :64], t, low[:, :, :16, :16], level)
    # 6 convs of one cell of 4 pixels, and two small pixels of bicubic
    torch.testing.assert_close(crop[:, :, :28, :28], whole[:, :, :28, :28], atol=1e-5, rtol=1e-4)


def test_config_and_size() -> None:
    assert UpsamplerConfig.from_dict(SMALL.to_dict()) == SMALL
    for bad in ({"unshuffle": 2}, {"depth": 0}, {"norm": "group"}, {"channels": 4}, {"out": 3}):
        with pytest.raises(InputError):
            UpsamplerConfig.from_dict(bad)
    assert sum(p.numel() for p in Upsampler(UpsamplerConfig()).parameters()) == 856_816


def test_text_is_read_where_the_config_says_so() -> None:
    plain, reads = build(), build(replace(SMALL, pooled_dim=6))
    assert set(reads.state_dict()) - set(plain.state_dict()) == {
        "null_pooled", "pooled_emb.0.weight", "pooled_emb.0.bias", "pooled_emb.1.weight", "pooled_emb.1.bias",
    }  # fmt: skip
    pooled = torch.randn(2, 6, generator=torch.Generator().manual_seed(2))
    args, keep = inputs(), torch.tensor([True, False])
    with torch.no_grad():
        said, null, mixed = reads(*args, pooled), reads(*args), reads(*args, pooled, keep)
    assert (said - null).abs().max() > 1e-4
    torch.testing.assert_close(mixed, torch.stack([said[0], null[1]]))
