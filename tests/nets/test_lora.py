"""Low-rank adapters against their definition."""

from __future__ import annotations

import torch
from torch import nn

from t2i.nets.lora import Adapter, matrices


def network() -> nn.Sequential:
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.SiLU(), nn.Flatten(), nn.Linear(8 * 4, 5))
    return net.requires_grad_(False)


def test_a_new_adapter_changes_nothing_and_a_trained_one_adds_up_times_down() -> None:
    net, x = network(), torch.randn(2, 3, 4, 4)
    assert matrices(net) == ["0.weight", "3.weight"]
    adapter = Adapter(net, matrices(net), rank=2)
    assert torch.equal(adapter.adapted(net)(x), net(x))
    torch.manual_seed(1)
    for p in adapter.parameters():
        p.data = torch.randn(p.shape)
    expected = network()
    with torch.no_grad():
        for name, p in adapter.named_parameters():
            weight = expected.get_parameter(name.rpartition(".")[0].replace("/", "."))
            if name.endswith(".up"):
                down = adapter.get_parameter(name.removesuffix("up") + "down")
                outer = torch.stack([p[:, i : i + 1] * down[i] for i in range(2)])
                weight.add_(outer.sum(0).view_as(weight))
    assert torch.allclose(adapter.adapted(net)(x), expected(x), atol=1e-5)


def test_gradients_reach_the_adapter_alone() -> None:
    net, x = network(), torch.randn(2, 3, 4, 4)
    before = {name: p.clone() for name, p in net.named_parameters()}
    adapter = Adapter(net, matrices(net), rank=2)
    adapter.adapted(net)(x).square().sum().backward()
    grads = {name: p.grad for name, p in adapter.named_parameters()}
    assert all(g is not None for g in grads.values())
    # `up` is zero, so that nothing can yet depend on `down`
    assert all(bool(g.any()) == name.endswith(".up") for name, g in grads.items() if g is not None)
    assert all(p.grad is None and torch.equal(p, before[name]) for name, p in net.named_parameters())


def test_the_rank_is_never_above_that_of_the_matrix() -> None:
    net = network()
    adapter = Adapter(net, matrices(net), rank=100)
    assert {name: tuple(p.shape) for name, p in adapter.named_parameters()} == {
        "0/weight.up": (8, 8), "0/weight.down": (8, 27), "3/weight.up": (5, 5), "3/weight.down": (5, 32),
    }  # fmt: skip
