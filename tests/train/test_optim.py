"""The optimiser against torch's AdamW and an SVD, the average and the learning rate against their closed forms."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from t2i.train.loop import learning_rate
from t2i.train.optim import MuonAdamW, PowerEMA, _gamma, orthogonalise
from t2i.train.recipe import Schedule


def randn(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_adamw_is_torchs_adamw() -> None:
    ours, theirs = nn.Parameter(randn(7, 5)), nn.Parameter(randn(7, 5))
    bias, their_bias = nn.Parameter(randn(5, seed=1)), nn.Parameter(randn(5, seed=1))
    settings = {"lr": 1e-2, "betas": (0.9, 0.95)}
    mine = MuonAdamW([("w", ours), ("b", bias)], muon=False, weight_decay=0.1, **settings)  # type: ignore[arg-type]
    # matrices decay, vectors do not
    groups = [{"params": [theirs], "weight_decay": 0.1}, {"params": [their_bias], "weight_decay": 0.0}]
    other = torch.optim.AdamW(groups, **settings)  # type: ignore[arg-type]
    for step in range(20):
        for p, seed in ((ours, 2), (theirs, 2), (bias, 3), (their_bias, 3)):
            p.grad = randn(*p.shape, seed=10 * step + seed)
        mine.step()
        other.step()
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=1e-6)
    torch.testing.assert_close(bias, their_bias, atol=1e-6, rtol=1e-6)


@pytest.mark.parametrize("shape", [(48, 96), (96, 48), (64, 64)])
def test_orthogonalise_brings_the_singular_values_near_one(shape: tuple[int, int]) -> None:
    stack = torch.stack([randn(*shape, seed=i) for i in range(3)])
    out = orthogonalise(stack)
    assert out.shape == stack.shape and out.dtype == stack.dtype
    values = torch.linalg.svdvals(out)
    # a square matrix of noise has singular values next to nothing, which five iterations do not lift to 1
    low = values.min() if shape[0] != shape[1] else values.quantile(0.1)
    assert low > 0.6 and values.max() < 1.3
    for a, b in zip(stack, out, strict=True):  # the direction is U V^T's
        u, _, v = torch.linalg.svd(a, full_matrices=False)
        assert torch.cosine_similarity((u @ v).flatten(), b.flatten(), dim=0) > 0.95


@pytest.mark.parametrize("shape", [(32, 48), (48, 32)])
def test_muon_is_torchs_muon(shape: tuple[int, int]) -> None:
    ours, theirs = nn.Parameter(randn(*shape)), nn.Parameter(randn(*shape))
    mine = MuonAdamW([("w", ours)], lr=1e-2, weight_decay=0.1, momentum=0.95)
    other = torch.optim.Muon([theirs], lr=1e-2, weight_decay=0.1, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    assert mine.param_groups[0]["muon"]
    for step in range(5):
        ours.grad = randn(*shape, seed=step + 1)
        theirs.grad = ours.grad.clone()
        mine.step()
        other.step()
    moved, expected = ((p.detach() - randn(*shape)).flatten() for p in (ours, theirs))
    assert torch.cosine_similarity(moved, expected, dim=0) > 0.999
    assert float(moved.norm() / expected.norm()) == pytest.approx(1, abs=0.01)


def test_muon_takes_convolutions_and_leaves_small_and_named_ones() -> None:
    names = {
        "conv.weight": (16, 16, 3, 3),
        "out.weight": (32, 32),
        "bias": (32,),
        "token_embedding.weight": (99, 32),
    }
    names |= {"visual.conv1.weight": (32, 3, 8, 8), "blocks.0.conv1.weight": (16, 8, 3, 3), "thin": (4, 64)}
    params = [(name, nn.Parameter(randn(*shape))) for name, shape in names.items()]
    groups = MuonAdamW(params, lr=1e-3).param_groups
    assert [group["muon"] for group in groups] == [True, False]
    assert [tuple(p.shape) for p in groups[0]["params"]] == [(16, 16, 3, 3), (32, 32), (16, 8, 3, 3)]
    for _, p in params:
        p.grad = torch.ones_like(p)
    before = params[0][1].detach().clone()
    MuonAdamW(params, lr=1e-3).step()
    assert params[0][1].shape == (16, 16, 3, 3) and not torch.equal(before, params[0][1])


def test_power_average_is_the_closed_form() -> None:
    net = nn.Linear(3, 2)
    ema = PowerEMA(net, 0.1)
    seen = []
    for t in range(1, 31):
        with torch.no_grad():
            net.weight.copy_(randn(2, 3, seed=t))
        ema.update(net, t)
        seen.append(net.weight.detach().clone())
    # the products of beta telescope: theta_t weighs (t^(gamma+1) - (t-1)^(gamma+1)) / T^(gamma+1)
    power = ema.gamma + 1
    shares = [(t**power - (t - 1) ** power) / 30**power for t in range(1, 31)]
    assert sum(shares) == pytest.approx(1)
    expected = sum(share * w for share, w in zip(shares, seen, strict=True))
    torch.testing.assert_close(ema.weights["weight"], expected, atol=1e-5, rtol=1e-4)


def test_gamma_is_the_papers() -> None:
    """EDM2's text: a width of 5% is gamma 16.97, of 10% is 6.94."""
    assert _gamma(0.05) == pytest.approx(16.97, abs=0.01)
    assert _gamma(0.10) == pytest.approx(6.94, abs=0.01)


def test_rate_warms_up_stays_and_decays() -> None:
    s = Schedule(steps=100, lr=2.0, warmup=10, decay=0.2)
    assert learning_rate(s, 0) == pytest.approx(0.2)
    assert learning_rate(s, 4) == pytest.approx(1.0)
    assert [learning_rate(s, step) for step in (9, 40, 80)] == [2.0] * 3
    assert learning_rate(s, 90) == pytest.approx(1.0)
    assert learning_rate(s, 99) == pytest.approx(0.1)
    assert learning_rate(s, 100) == 0
    assert learning_rate(Schedule(steps=10, lr=1.0, warmup=0, decay=0.0), 9) == 1.0
