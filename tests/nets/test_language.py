"""The text-only language model: what stands beside a text, or after its end, does not matter to it."""

from __future__ import annotations

import pytest
import torch

from t2i.errors import InputError
from t2i.nets.clip import read_mask
from t2i.nets.language import LanguageConfig, LanguageModel
from t2i.nets.layers import masked_mean

CONFIG = LanguageConfig(width=16, layers=2, heads=2, context=8, vocab=20)
IDS = torch.tensor([[18, 3, 4, 19, 0, 0, 0, 0], [18, 5, 6, 7, 8, 9, 10, 19]])


def build() -> LanguageModel:
    torch.manual_seed(0)
    net = LanguageModel(CONFIG).eval()
    for p in net.parameters():  # a new block is the identity, which reads nothing
        if not p.any():
            torch.nn.init.normal_(p, std=0.1)
    return net


def test_shapes_and_the_mean() -> None:
    out = build().encode_text(IDS)
    assert out.tokens.shape == (2, 8, 16) and out.pooled.shape == (2, 16)
    assert out.mask.sum(1).tolist() == [4, 8]
    torch.testing.assert_close(out.pooled[0], out.tokens[0, :4].mean(0))
    assert not masked_mean(out.tokens, torch.zeros(2, 8, dtype=torch.bool)).isnan().any()


def test_padding_and_neighbours_do_not_matter() -> None:
    net = build()
    with torch.no_grad():
        both, alone, short = net.encode_text(IDS), net.encode_text(IDS[:1]), net.encode_text(IDS[:1, :4])
    torch.testing.assert_close(both.tokens[:1, :4], alone.tokens[:, :4])
    torch.testing.assert_close(alone.tokens[:, :4], short.tokens)
    torch.testing.assert_close(alone.pooled, short.pooled)


def test_it_reads_in_both_directions() -> None:
    net, other = build(), IDS.clone()
    other[1, 5] = 11
    with torch.no_grad():
        a, b = net.encode_text(IDS).tokens, net.encode_text(other).tokens
    assert torch.equal(a[0], b[0])
    assert all((a[1, i] - b[1, i]).abs().max() > 1e-5 for i in range(8))


def test_every_weight_is_trained() -> None:
    net = build()
    net.guess(net(IDS, read_mask(IDS))).square().mean().backward()
    assert not [name for name, p in net.named_parameters() if p.grad is None or not p.grad.any()]


def test_config() -> None:
    assert LanguageConfig.from_dict(CONFIG.to_dict()) == CONFIG
    for bad in ({"width": 15}, {"layers": 0}, {"depth": 3}):
        with pytest.raises(InputError):
            LanguageConfig.from_dict(bad)
