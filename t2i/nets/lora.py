"""Low-rank adapters (LoRA: Hu 2021, arXiv 2106.09685): W + scale * up @ down for some weights W of a frozen network.

A weight (m, ...) counts as a matrix of m rows; that of a convolution, (m, c, h, w), has c h w columns. The network
itself is never changed: while an adapted call runs, the changed weights take the place of the frozen ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.func import functional_call


class LowRank(nn.Module):
    """A change of rank r of a weight of `shape`: up (m, r) times down (r, columns). It is zero when new."""

    def __init__(self, shape: torch.Size, rank: int) -> None:
        super().__init__()
        rows, columns = shape[0], shape[1:].numel()
        rank = min(rank, rows, columns)
        self.shape = shape
        self.up = nn.Parameter(torch.zeros(rows, rank))
        self.down = nn.Parameter(torch.empty(rank, columns).normal_(std=columns**-0.5))

    def forward(self) -> Tensor:
        """The change of the weight, in its shape."""
        return (self.up @ self.down).view(self.shape)


class Adapter(nn.Module):
    """Low-rank changes of the weights `names` of a network.

    Parameters are called NAME.up and NAME.down, the dots of NAME replaced by slashes: a module's name has no dot.
    """

    def __init__(self, net: nn.Module, names: Iterable[str], rank: int) -> None:
        super().__init__()
        shapes = {name: weight.shape for name, weight in net.named_parameters()}
        for name in names:
            self.add_module(name.replace(".", "/"), LowRank(shapes[name], rank))

    def parts(self) -> dict[str, LowRank]:
        """Name of a weight -> its change."""
        found = {name.replace("/", "."): part for name, part in self.named_children()}
        return {name: part for name, part in found.items() if isinstance(part, LowRank)}

    def adapted(self, net: nn.Module) -> Any:
        """The network as a function with its weights changed; gradients reach the adapter alone."""
        weights: Mapping[str, Tensor] = dict(net.named_parameters())
        changed = {name: weights[name].detach() + part() for name, part in self.parts().items()}

        def call(*args: Any, **kwargs: Any) -> Any:
            return functional_call(net, changed, args, kwargs)

        return call


def matrices(net: nn.Module) -> list[str]:
    """The names of the weights of all linear layers and convolutions of a network, in its order."""
    return [f"{name}.weight" for name, module in net.named_modules() if isinstance(module, (nn.Linear, nn.Conv2d))]
