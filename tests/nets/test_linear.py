"""Linear layers and 1x1 convolutions outside of training: by oneDNN on a CPU, the same sums."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from t2i.nets import linear
from t2i.nets.linear import LEAST, Linear, PointwiseConv, product

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="this torch has no oneDNN")


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Grows by the rows of each plain product."""
    found: list[int] = []
    plain = torch.nn.functional.linear

    def seen(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        found.append(x.shape[0])
        return plain(x, weight, bias)

    monkeypatch.setattr(linear.F, "linear", seen)
    return found


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
def test_it_computes_what_torch_computes(bias: bool, calls: list[int]) -> None:
    layer = Linear(256, 200, bias=bias)
    x = torch.randn(4, 9, 256, generator=torch.Generator().manual_seed(0))
    assert x.numel() * 200 >= LEAST
    wanted = nn.functional.linear(x, layer.weight, layer.bias).detach()
    calls.clear()
    with torch.inference_mode():
        made = layer(x)
    assert not calls, "oneDNN did it"
    assert torch.allclose(made, wanted, atol=1e-5)


@needs_onednn
def test_a_pointwise_convolution_is_one_in_either_memory_layout(calls: list[int]) -> None:
    conv = PointwiseConv(32, 48)
    x = torch.randn(2, 32, 24, 24, generator=torch.Generator().manual_seed(0))
    wanted = nn.functional.conv2d(x, conv.weight, conv.bias).detach()
    for layout in (torch.contiguous_format, torch.channels_last):
        with torch.inference_mode():
            made = conv(x.contiguous(memory_format=layout))
        assert made.shape == wanted.shape and torch.allclose(made, wanted, atol=1e-5)
    assert not calls


def test_training_and_other_types_are_left_to_torch(calls: list[int]) -> None:
    """Gradients, no gradients outside of inference, small products, autocast, bfloat16, another device."""
    layer, x = Linear(256, 200), torch.randn(40, 256)
    layer(x).sum().backward()
    assert layer.weight.grad is not None
    with torch.no_grad():
        layer(x)
    with torch.inference_mode():
        layer(x[:3])
        with torch.autocast("cpu", torch.bfloat16):
            assert layer(x).dtype == torch.bfloat16
        product(x.bfloat16(), layer.weight.bfloat16(), None)
        assert layer.to("meta")(x.to("meta")).device.type == "meta"
    assert calls == [40, 40, 3, 40, 40, 40]
