"""The U-Net: any size, any condition, and nothing of what was dropped."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.conditioner import UNetCond
from t2i.nets.layers import ChannelNorm, CrossAttention, ResBlock, SelfAttention
from t2i.nets.unet import UNet
from t2i.nets.unet_config import UNetConfig

SMALL = UNetConfig(
    in_channels=7, channels=(16, 24, 32), head_dim=8, emb_dim=32, context_dim=16, cond_dim=8, z_tokens=2,
    text_dim=12, text_pool=True, time_features=16,
)  # fmt: skip
READER: dict[str, Any] = {
    "cond_dim": 0, "text_pool": False, "z_grid": 4, "z_channels": 6,
    "reader_layers": 1, "reader_width": 16, "reader_heads": 2, "query_layers": 2,
}  # fmt: skip
LAYOUTS: dict[str, dict[str, Any]] = {
    "reader": READER,
    "reader of a vector alone": {**READER, "z_tokens": 0, "z_grid": 0},
    "efficient": {},
    "scaled": {"skip_scale": 0.5**0.5},
    "empty level": {"blocks": (0, 1, 2)},
    "patch 1": {"patch": 1},
    "patch 4, one level": {"patch": 4, "channels": (24,), "blocks": (2,), "attention": (0,)},
    "unconditional": {"cond_dim": 0, "text_dim": 0},
    "vector only": {"z_tokens": 0, "text_dim": 0},
}


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def build(**changes: Any) -> UNet:
    """A network whose zero-initialised parts were filled, so that every input matters."""
    torch.manual_seed(0)
    net = UNet(replace(SMALL, **changes)).eval()
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return net


def inputs(batch: int = 2, h: int = 32, w: int = 32, length: int = 5) -> tuple[Tensor, Tensor, UNetCond]:
    g = gen(3)
    cond = UNetCond(
        z=torch.randn(batch, 8, generator=g),
        tokens=torch.randn(batch, length, 12, generator=g),
        mask=torch.arange(length).expand(batch, -1) < 3,
    )
    return torch.randn(batch, 7, h, w, generator=g), torch.rand(batch, generator=g), cond


@pytest.mark.parametrize("name", LAYOUTS)
def test_shapes_of_every_layout(name: str) -> None:
    net = build(**LAYOUTS[name])
    x, t, cond = inputs(h=32, w=48)
    keep = torch.tensor([True, False])
    cond = replace(cond, z_keep=keep, tokens_keep=keep)
    out = net(x, t, cond)
    assert out.shape == (2, 3, 32, 48) and out.isfinite().all()
    out.square().mean().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    torch.testing.assert_close(net(x[:1], t[:1], take(cond, slice(0, 1))), out[:1], atol=1e-5, rtol=1e-4)


def take(cond: UNetCond, rows: slice) -> UNetCond:
    return UNetCond(**{k: None if v is None else v[rows] for k, v in vars(cond).items()})


def test_new_networks_are_zero_and_new_blocks_the_identity() -> None:
    x, t, cond = inputs()
    assert not UNet(SMALL)(x, t, cond).any()
    h, emb, context = torch.randn(2, 16, 8, 8, generator=gen()), torch.randn(2, 32), torch.randn(2, 4, 12)
    assert torch.equal(ResBlock(16, 16, 32)(h, emb), h)
    assert torch.equal(SelfAttention(16, 8)(h), h)
    assert torch.equal(CrossAttention(16, 12, 8)(h, context, None), h)


@pytest.mark.parametrize("scale", [1.0, 0.5**0.5])
def test_a_network_that_grows_computes_the_same(scale: float) -> None:
    few = UNet(replace(SMALL, blocks=(0, 1, 1), skip_scale=scale))
    with torch.no_grad():
        for p in few.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=gen(3)))
    many = UNet(replace(few.config, blocks=(2, 3, 1)))
    many.load_state_dict(many.state_dict() | few.state_dict())
    x, t, cond = inputs()
    assert not torch.allclose(many(x, t, cond), few(x, t, cond), atol=1e-3)
    many.make_identity(few.config.blocks)
    torch.testing.assert_close(many(x, t, cond), few(x, t, cond), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("field", ["z", "tokens"])
def test_each_condition_is_read_and_z_and_text_can_be_dropped(field: str) -> None:
    net = build()
    x, t, cond = inputs()
    other = replace(cond, **{field: getattr(cond, field).flip(0)})
    none = torch.zeros(2, dtype=torch.bool)
    dropped = {"z_keep": none} if field == "z" else {"tokens_keep": none}
    with torch.no_grad():
        assert (net(x, t, cond) - net(x, t, other)).abs().max() > 1e-3
        null = net(x, t, replace(cond, **dropped))
        assert torch.equal(null, net(x, t, replace(other, **dropped)))
        assert (null - net(x, t, cond)).abs().max() > 1e-4
        by_none = net(x, t, replace(cond, **{field: None}))
        torch.testing.assert_close(null, by_none, atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, READER], ids=["plain", "reader"])
def test_dropping_is_a_picture_s_own_matter(changes: dict[str, Any]) -> None:
    net = build(**changes)
    x, t, cond = inputs()
    keep = torch.tensor([True, False])
    with torch.no_grad():
        mixed = net(x, t, replace(cond, z_keep=keep, tokens_keep=keep))
        torch.testing.assert_close(mixed[:1], net(x, t, cond)[:1], atol=1e-5, rtol=1e-4)
        torch.testing.assert_close(mixed[1:], net(x, t, UNetCond())[1:], atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize("changes", [{}, READER], ids=["plain", "reader"])
def test_padding_does_not_matter(changes: dict[str, Any]) -> None:
    net = build(**changes)
    x, t, cond = inputs()
    assert cond.tokens is not None and cond.mask is not None
    tokens = cond.tokens.clone()
    tokens[:, 3:] = float("nan")
    with torch.no_grad():
        out = net(x, t, cond)
        assert torch.equal(out, net(x, t, replace(cond, tokens=tokens)))
        shorter = replace(cond, tokens=cond.tokens[:, :3], mask=cond.mask[:, :3])
        torch.testing.assert_close(out, net(x, t, shorter), atol=1e-5, rtol=1e-4)
        all_real = replace(cond, tokens=cond.tokens[:, :3], mask=None)
        torch.testing.assert_close(out, net(x, t, all_real), atol=1e-5, rtol=1e-4)


def test_bf16_agrees() -> None:
    net = build()
    x, t, cond = inputs()
    with torch.no_grad():
        exact = net(x, t, cond)
        with torch.autocast("cpu", torch.bfloat16):
            low = net(x, t, cond)
    assert (low.float() - exact).square().mean() < 0.01 * exact.square().mean()


def test_the_norm_is_over_channels() -> None:
    x = torch.randn(2, 24, 4, 4, generator=gen()) * 3 + 1
    normed = ChannelNorm(24)(x)
    torch.testing.assert_close(normed.mean(1), torch.zeros(2, 4, 4), atol=1e-5, rtol=0)
    torch.testing.assert_close(normed.square().mean(1), torch.ones(2, 4, 4), atol=1e-4, rtol=0)


def test_config() -> None:
    config = UNetConfig(channels=(8, 16), blocks=(1, 2), skip_scale=0.5)
    assert UNetConfig.from_dict(config.to_dict()) == config
    assert UNetConfig().multiple == 8 and config.multiple == 4
    for bad in (
        {"chanels": [8]}, {"channels": 8}, {"channels": ["a"]}, {"blocks": [1]}, {"norm": "batch"},
        {"patch": 3},
        # keys of the file format that have one value
        {"layout": "standard"}, {"skip": "add"}, {"norm": "group"}, {"pooled_dim": 8}, {"level_cond": True},
        {"out_channels": 6},
        {"reader_layers": 1}, {"reader_layers": 1, "cond_dim": 0, "text_dim": 0},
        {"reader_layers": 1, "cond_dim": 0, "text_pool": True},
    ):  # fmt: skip
        with pytest.raises(InputError):
            UNetConfig.from_dict(bad)


def test_default_size() -> None:
    assert sum(p.numel() for p in UNet(UNetConfig()).parameters()) == 6_733_900


def test_the_map_puts_the_embedding_in_its_place() -> None:
    """Where x_t is flat, only the map can tell one spot from another; without it the inside of the picture is flat."""
    for grid, flat in ((0, True), (4, False)):
        config = UNetConfig(channels=(16, 32), blocks=(1, 1), attention=(), z_grid=grid, z_channels=4, text_dim=0)
        net = UNet(config)
        g = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for p in net.parameters():
                p.copy_(torch.randn(p.shape, generator=g) * 0.05)
        z = torch.randn(1, config.cond_dim, generator=g) / config.cond_dim**0.5
        out = net(torch.zeros(1, 7, 128, 128), torch.ones(1), UNetCond(z=z))
        inside = out[0, :, 48:80:4, 48:80:4].flatten(1)  # away from the zero padding, one pixel of each block
        assert (inside.std(1).max() < 1e-5) == flat


def test_a_cell_of_the_embedding_changes_its_own_part_of_the_picture() -> None:
    config = UNetConfig(
        channels=(16, 32), blocks=(0, 1), attention=(), mid_blocks=1, cond_dim=24, z_tokens=0, z_grid=4, z_channels=4,
        z_cells=1, text_dim=0,
    )  # fmt: skip
    net = UNet(config)
    g = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for p in net.parameters():
            p.copy_(torch.randn(p.shape, generator=g) * 0.05)
        z = torch.randn(1, 24, generator=g) / 24**0.5
        other = z.clone()
        other[0, 8] += 10.0  # eight numbers of the head, then the grid's first cell, at the top left
        x = torch.zeros(1, 7, 128, 128)
        change = (net(x, torch.ones(1), UNetCond(z=other)) - net(x, torch.ones(1), UNetCond(z=z))).abs()[0].amax(0)
    assert change[:32, :32].max() > 1e-3 and change[96:, 96:].max() < 1e-5  # rounding
    with pytest.raises(InputError, match="z_cells"):
        replace(config, z_cells=2)


def test_the_efficient_layout_by_hand() -> None:
    """Imagen's Efficient U-Net in this network's terms: every part counted, and on which grid it works."""
    root, emb, dim, text = 0.5**0.5, 32, 16, 12
    config = UNetConfig(
        channels=(16, 24), blocks=(1, 2), attention=(1,), mid_blocks=1, head_dim=8, emb_dim=emb, context_dim=dim,
        cond_dim=0, z_tokens=0, text_dim=text, text_pool=True, time_features=8, skip_scale=root,
    )  # fmt: skip
    net = UNet(config)

    def linear(a: int, b: int) -> int:
        return a * b + b

    def conv(a: int, b: int, side: int = 3) -> int:
        return a * b * side**2 + b

    def res(a: int, b: int) -> int:
        skip = conv(a, b, 1) if a != b else 0
        return 2 * a + conv(a, b) + linear(emb, 2 * b) + conv(b, b) + skip

    def attention(c: int) -> int:
        self_ = 2 * c + linear(c, 3 * c) + linear(c, c)
        cross = 2 * c + linear(c, c) + linear(dim, 2 * c) + linear(c, c)
        return self_ + cross

    conditioner = linear(8, emb) + linear(emb, emb)  # the time
    conditioner += 2 * text + linear(text, dim) + dim  # the tokens, and the null token
    conditioner += 2 * dim + linear(dim, emb) + 2 * dim  # their mean into the time embedding; the context's norm
    ends = conv(7 * 4, 16) + 2 * linear(emb, 2 * 16) + 2 * 16 + conv(16, 3 * 4)
    down = res(16, 16) + conv(16, 24) + 2 * (res(24, 24) + attention(24))
    middle = res(24, 24) + attention(24)
    up = 2 * (res(24 + 24, 24) + attention(24)) + conv(24, 16) + res(16 + 16, 16)
    assert sum(p.numel() for p in net.parameters()) == conditioner + ends + down + middle + up

    seen: dict[str, tuple[int, ...]] = {}
    for name, module in net.named_modules():
        if name in ("downsample.0", "down.1.0.res.conv1", "up.1.1.res.conv2", "upsample.0.conv", "up.0.0.res.conv1"):
            module.register_forward_hook(lambda m, x, y, name=name: seen.update({name: tuple(y.shape[1:])}))
    cond = UNetCond(tokens=torch.zeros(1, 4, text))
    assert net(torch.zeros(1, 7, 32, 32), torch.ones(1), cond).shape == (1, 3, 32, 32)
    assert seen == {
        "downsample.0": (24, 8, 8),  # the stride comes before the level's blocks
        "down.1.0.res.conv1": (24, 8, 8),
        "up.1.1.res.conv2": (24, 8, 8),
        "upsample.0.conv": (16, 8, 8),  # and the way back is taken after them, on the small grid
        "up.0.0.res.conv1": (16, 16, 16),
    }
    h, skip = torch.ones(1, 2, 1, 1), torch.ones(1, 3, 1, 1)
    torch.testing.assert_close(net.join(h, skip).flatten(), torch.tensor([1, 1, root, root, root]))


def test_a_reader_says_what_an_embedding_would() -> None:
    """The three things that the text is turned into have the sizes of those that an embedding is; each is heard."""
    reader = build(**READER).cond.reader
    of_image = build(z_grid=4, z_channels=6).cond.image_features(inputs()[2], 2)
    _, _, cond = inputs()
    assert cond.tokens is not None and cond.mask is not None
    of_text, text, mask = reader(cond.tokens, cond.mask)
    for name in ("vector", "tokens", "map"):
        assert getattr(of_text, name).shape == getattr(of_image, name).shape
    assert text.shape == (2, 6, SMALL.context_dim)
    assert mask[:, 0].all() and torch.equal(mask[:, 1:], cond.mask)  # the null token, then the text's own
    net = build(**READER)
    x, t, cond = inputs()
    with torch.no_grad():
        out = net(x, t, cond)
        for part in ("vector_out", "tokens_out", "map_out", "text_out"):
            other = build(**READER)
            getattr(other.cond.reader, part).weight.mul_(2)
            assert (other(x, t, cond) - out).abs().max() > 1e-4, part
