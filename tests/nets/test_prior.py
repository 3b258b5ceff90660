"""Both priors: shapes, dropped text, padding, causality."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from torch import nn

from t2i.errors import InputError
from t2i.nets.prior import CausalPrior, PriorCond, PriorConfig, ResidualPrior, build_prior

SMALL = PriorConfig(
    embed_dim=16,
    token_dim=12,
    context=8,
    width=24,
    depth=2,
    heads=2,
    pool_width=16,
    pool_heads=2,
    time_features=16,
)
KINDS = ["residual", "causal", "skip"]


def config_of(kind: str) -> PriorConfig:
    return replace(SMALL, skip=True) if kind == "skip" else replace(SMALL, kind=kind)  # type: ignore[arg-type]


def build(kind: str) -> nn.Module:
    torch.manual_seed(0)
    net = build_prior(config_of(kind)).eval()
    for p in net.parameters():
        if not p.any():
            nn.init.normal_(p, std=0.1)
    return net


def inputs() -> tuple[torch.Tensor, torch.Tensor, PriorCond]:
    g = torch.Generator().manual_seed(1)
    mask = torch.arange(8) < torch.tensor([[4], [8], [1]])
    cond = PriorCond(torch.randn(3, 8, 12, generator=g), mask, torch.randn(3, 16, generator=g))
    return torch.randn(3, 16, generator=g), torch.rand(3, generator=g), cond


@pytest.mark.parametrize("kind", KINDS)
def test_everything_learns(kind: str) -> None:
    net = build(kind)
    z_t, t, cond = inputs()
    out = net(z_t, t, replace(cond, keep=torch.tensor([True, True, False])))
    assert out.shape == (3, 16) and out.isfinite().all()
    out.square().mean().backward()
    assert not [n for n, p in net.named_parameters() if p.grad is None or not p.grad.any()]
    assert not build_prior(config_of(kind))(z_t, t, cond).any()


@pytest.mark.parametrize("kind", KINDS)
def test_inputs_are_read_and_text_can_be_dropped(kind: str) -> None:
    net = build(kind)
    z_t, t, cond = inputs()
    with torch.no_grad():
        out = net(z_t, t, cond)
        others = [replace(cond, tokens=-cond.tokens), replace(cond, pooled=-cond.pooled)]
        for z, time, c in [(-z_t, t, cond), (z_t, 1 - t, cond), *((z_t, t, c) for c in others)]:
            assert (net(z, time, c) - out).abs().max() > 1e-3
        torch.testing.assert_close(net(z_t, t, replace(cond, pooled=cond.pooled * 3)), out)
        keep = torch.tensor([True, False, True])
        mixed = net(z_t, t, replace(cond, keep=keep))
        torch.testing.assert_close(mixed[keep], out[keep])
        for c in others:
            torch.testing.assert_close(net(z_t, t, replace(c, keep=keep))[1], mixed[1], atol=0, rtol=0)


@pytest.mark.parametrize("kind", KINDS)
def test_padding_and_neighbours_do_not_matter(kind: str) -> None:
    net = build(kind)
    z_t, t, cond = inputs()
    tokens = torch.where(cond.mask[..., None], cond.tokens, float("nan"))
    with torch.no_grad():
        out = net(z_t, t, cond)
        assert torch.equal(net(z_t, t, replace(cond, tokens=tokens)), out)
        one = PriorCond(cond.tokens[:1, :4], cond.mask[:1, :4], cond.pooled[:1])
        torch.testing.assert_close(net(z_t[:1], t[:1], one), out[:1])


def test_causality() -> None:
    net = build("causal")
    assert isinstance(net, CausalPrior)
    z_t, t, cond = inputs()
    with torch.no_grad():
        states = net.states(z_t, t, cond)
        tokens = cond.tokens.clone()
        tokens[1, 5] += 1
        for changed, first in [
            (net.states(-z_t, t, cond), 10),
            (net.states(z_t, 1 - t, cond), 9),
            (net.states(z_t, t, replace(cond, pooled=-cond.pooled)), 8),
            (net.states(z_t, t, replace(cond, tokens=tokens)), 5),
        ]:
            assert torch.equal(changed[:, :first], states[:, :first])
            for i in (first, 11):
                assert not torch.equal(changed[1, i], states[1, i])


def test_config_and_size() -> None:
    assert PriorConfig.from_dict(SMALL.to_dict()) == SMALL
    for bad in ({"kind": "diffusion"}, {"kind": "grid"}, {"cells": 2}, {"heads": 5}, {"layers": 2}):
        with pytest.raises(InputError):
            PriorConfig.from_dict(bad)
    sizes = [sum(p.numel() for p in build_prior(PriorConfig(kind=k)).parameters()) for k in ("residual", "causal")]
    assert sizes == [5_375_232, 7_708_672]


@pytest.mark.parametrize("kind", KINDS)
def test_one_reading_serves_several_draws(kind: str) -> None:
    net = build(kind)
    z_t, t, cond = inputs()
    keep = torch.tensor([True, False, True])
    with torch.no_grad():
        together = net(torch.cat([z_t, -z_t]), torch.cat([t, t]), replace(cond, keep=keep, draws=2))
        apart = [net(z, t, replace(cond, keep=keep)) for z in (z_t, -z_t)]
    torch.testing.assert_close(together, torch.cat(apart))


def test_what_was_read_before_is_not_read_again() -> None:
    net = build("residual")
    assert isinstance(net, ResidualPrior)
    z_t, t, cond = inputs()
    cond = replace(cond, keep=torch.tensor([True, False, True]))
    with torch.no_grad():
        read = replace(cond, read=net.read(cond))
        elsewhere = replace(read, tokens=-cond.tokens, pooled=-cond.pooled)
        torch.testing.assert_close(net(z_t, t, read), net(z_t, t, cond), atol=0, rtol=0)
        torch.testing.assert_close(net(z_t, t, elsewhere), net(z_t, t, cond), atol=0, rtol=0)
