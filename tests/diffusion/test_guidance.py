from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from t2i.diffusion.guidance import (
    cat_cond,
    classifier_free,
    dynamic_threshold,
    expand_cond,
    percentile_abs,
    static_threshold,
    unguided,
)


@dataclass(frozen=True)
class Cond:
    tokens: Tensor
    mask: Tensor | None = None
    size: int = 64


class Counting:
    """x0_hat = the condition's number, for every pixel; remembers the batch of each call."""

    def __init__(self) -> None:
        self.calls: list[int] = []

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        self.calls.append(x.shape[0])
        assert cond.tokens.shape[0] == sigma.shape[0] == x.shape[0]
        return cond.tokens.reshape(-1, 1).expand_as(x) + sigma[:, None]


X, SIGMA = torch.zeros(2, 3), torch.tensor([1.0, 1.0])
COND, UNCOND = Cond(torch.tensor([10.0, 20.0])), Cond(torch.tensor([4.0]))


def test_guidance_by_hand() -> None:
    d = Counting()
    out = classifier_free(d, UNCOND, 3.0)(X, SIGMA, COND)
    # 4 + 3 (10 - 4) = 22 and 4 + 3 (20 - 4) = 52, and the sigma of 1 in both passes
    assert out[:, 0].tolist() == [23.0, 53.0]
    assert d.calls == [4]


def test_negation_by_hand() -> None:
    d, away = Counting(), Cond(torch.tensor([7.0]))
    out = classifier_free(d, UNCOND, 3.0, negative=away)(X, SIGMA, COND)
    # 4 + 3 (10 - 7) = 13 and 4 + 3 (20 - 7) = 43, and the sigma of 1 in all passes
    assert out[:, 0].tolist() == [14.0, 44.0]
    assert d.calls == [6]
    assert classifier_free(d, UNCOND, 1.0, negative=away)(X, SIGMA, COND)[:, 0].tolist() == [8.0, 18.0]
    outside = classifier_free(d, UNCOND, 3.0, (2.0, 3.0), negative=away)(X, SIGMA, COND)
    assert outside[:, 0].tolist() == [11.0, 21.0]


def test_what_the_prompt_and_the_negative_share_cancels() -> None:
    """A denoiser that is additive in (cat, snow): of "cat, snow" without "snow" the cat is left, at full strength."""

    def additive(x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        return cond.tokens

    cat_in_snow, snow, null = (Cond(torch.tensor([v])) for v in ([1.0, 1.0], [0.0, 1.0], [0.0, 0.0]))
    for scale in (1.0, 2.0, 5.0):
        guided = classifier_free(additive, null, scale, negative=snow)
        assert guided(torch.zeros(1, 2), torch.ones(1), cat_in_snow).tolist() == [[scale, 0.0]]


def test_scale_one_is_one_conditional_pass_and_scale_zero_is_unconditional() -> None:
    d = Counting()
    assert classifier_free(d, UNCOND, 1.0)(X, SIGMA, COND)[:, 0].tolist() == [11.0, 21.0]
    assert d.calls == [2]
    assert classifier_free(d, UNCOND, 0.0)(X, SIGMA, COND)[:, 0].tolist() == [5.0, 5.0]


def test_outside_the_interval_there_is_one_conditional_pass() -> None:
    d = Counting()
    guided = classifier_free(d, UNCOND, 3.0, interval=(0.5, 2.0))
    for s in (0.5, 2.1):
        assert guided(X, torch.full((2,), s), COND)[:, 0].tolist() == pytest.approx([10 + s, 20 + s])
    assert d.calls == [2, 2]
    assert guided(X, torch.full((2,), 2.0), COND)[:, 0].tolist() == [24.0, 54.0]
    assert d.calls == [2, 2, 4]
    mixed = guided(X, torch.tensor([1.0, 9.0]), COND)
    assert mixed[:, 0].tolist() == [23.0, 29.0]


def test_conditions_are_joined_whatever_they_are_made_of() -> None:
    a = {"text": Cond(torch.zeros(2, 3), torch.ones(2, 3)), "low": torch.zeros(2, 1), "none": None}
    b = {"text": Cond(torch.ones(1, 3), torch.zeros(1, 3)), "low": torch.ones(1, 1), "none": None}
    c = cat_cond(a, b)
    assert isinstance(c["text"], Cond) and c["text"].size == 64 and c["none"] is None
    assert c["text"].tokens[:, 0].tolist() == [0, 0, 1]
    assert c["text"].mask is not None and c["text"].mask[:, 0].tolist() == [1, 1, 0]
    assert c["low"].shape == (3, 1)
    assert cat_cond(None, None) is None
    assert cat_cond((torch.zeros(1),), (torch.ones(1),))[0].tolist() == [0, 1]
    assert expand_cond(b, 5)["text"].tokens.shape == (5, 3)


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (torch.zeros(1), None),
        ({"a": torch.zeros(1)}, {"b": torch.zeros(1)}),
        (Cond(torch.zeros(1), None), Cond(torch.zeros(1), torch.zeros(1))),
        (Cond(torch.zeros(1), size=64), Cond(torch.zeros(1), size=256)),
        ((torch.zeros(1),), (torch.zeros(1), torch.zeros(1))),
    ],
)
def test_conditions_that_do_not_fit_are_refused(a: Any, b: Any) -> None:
    with pytest.raises(ValueError, match="conditions differ"):
        cat_cond(a, b)


def fixed(x0: Tensor) -> Any:
    return lambda x, sigma, cond: x0


def run(d: Any, x0: Tensor) -> Tensor:
    return d(torch.zeros_like(x0), torch.ones(x0.shape[0]), None)


def test_dynamic_thresholding_by_hand() -> None:
    # |x| sorted: 0, .5, 1, 2, 4; the 75th percentile is 2, so clip to [-2, 2] and halve
    x0 = torch.tensor([[0.0, 0.5, -1.0, 2.0, -4.0]]).reshape(1, 1, 1, 5)
    out = run(dynamic_threshold(fixed(x0), percentile=0.75), x0)
    assert out.flatten().tolist() == [0.0, 0.25, -0.5, 1.0, -1.0]
    # between ranks: the 90th percentile is 2 + .6 * 2 = 3.2
    out = run(dynamic_threshold(fixed(x0), percentile=0.9), x0)
    assert out.flatten().tolist() == pytest.approx([0.0, 0.5 / 3.2, -1 / 3.2, 2 / 3.2, -1.0])


def test_dynamic_thresholding_never_brightens() -> None:
    x0 = torch.tensor([[0.0, 0.1, -0.2, 0.3, -1.5]])
    # s = max(.3, 1) = 1: static clipping
    assert run(dynamic_threshold(fixed(x0), 0.75), x0)[0].tolist() == pytest.approx([0, 0.1, -0.2, 0.3, -1.0])


def test_the_cap_limits_s() -> None:
    x0 = torch.tensor([[3.0, -6.0, 1.5, 0.75]])
    out = run(dynamic_threshold(fixed(x0), 1.0, cap=1.5), x0)
    assert out[0].tolist() == [1.0, -1.0, 1.0, 0.5]


def test_each_picture_has_its_own_threshold(g: torch.Generator) -> None:
    x0 = torch.randn(4, 3, 8, 8, generator=g) * torch.tensor([0.1, 1.0, 3.0, 10.0]).reshape(4, 1, 1, 1)
    out = run(dynamic_threshold(fixed(x0)), x0)
    for i in range(4):
        s = max(1.0, float(np.percentile(x0[i].abs().numpy(), 99.5)))
        torch.testing.assert_close(out[i], x0[i].clamp(-s, s) / s)
    assert out.abs().max() <= 1


@pytest.mark.parametrize("p", [0.0001, 0.37, 0.5, 0.995, 1.0])
def test_percentile_is_numpys(p: float, g: torch.Generator) -> None:
    x = torch.randn(3, 3, 17, 5, generator=g)
    expected = np.percentile(x.abs().flatten(1).numpy(), 100 * p, axis=1)
    assert percentile_abs(x, p).tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_thresholds_by_hand() -> None:
    x0 = torch.tensor([[2.0, -0.5]])
    assert run(static_threshold(fixed(x0)), x0).tolist() == [[1.0, -0.5]]
    assert math.isclose(float(run(dynamic_threshold(fixed(x0), percentile=1.0), x0)[0, 1]), -0.25)


def test_what_learns_through_unguided_learns_the_guided_estimate() -> None:
    """Two conditions whose pictures are always -1 and 1: without one the best estimate is 0, with one +-1, and guided
    by weight w it is +-w."""
    weight = 2.5
    table = torch.zeros(3, requires_grad=True)  # the estimates without a condition, and with the two

    def net(x_t: Tensor, t: Tensor, cond: Tensor) -> Tensor:
        return table[cond][:, None]

    cond, x0 = torch.tensor([0, 0, 1, 2]), torch.tensor([-1.0, 1.0, -1.0, 1.0])[:, None]
    learned, optimizer = unguided(net, weight, torch.zeros_like), torch.optim.SGD([table], lr=0.5)
    for _ in range(400):
        optimizer.zero_grad()
        (learned(x0, x0[:, 0], cond) - x0).square().mean().backward()
        optimizer.step()
    assert table.tolist() == pytest.approx([0, -weight, weight], abs=1e-3)
    assert unguided(net, 1.0, torch.zeros_like) is net
