from __future__ import annotations

from typing import Any

import pytest
import torch
from oracle import draw, mixture
from torch import Tensor

from t2i.diffusion.denoiser import PREDICTIONS, target
from t2i.diffusion.loss import DenoisingObjective, Levels, diffusion_loss
from t2i.diffusion.process import VP, Flow, Process, expand
from t2i.errors import UsageError


def gen(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_logit_normal_levels_have_the_median_and_spread_asked_for() -> None:
    t = Levels(mean=-0.4, std=0.8).draw(Flow(), 20000, gen())
    z = torch.logit(t.double())
    assert float(z.mean()) == pytest.approx(-0.4, abs=0.03) and float(z.std()) == pytest.approx(0.8, abs=0.03)


def test_shift_moves_the_median_to_high_noise() -> None:
    t = Levels(shift=3.0).draw(Flow(), 20000, gen())
    assert float(t.median()) == pytest.approx(3 * 0.5 / (1 + 2 * 0.5), abs=0.01)


def test_uniform_levels_cover_a_table_evenly() -> None:
    t = Levels("uniform").draw(VP("linear", T=1000), 100000, gen())
    counts = torch.bincount(t.long(), minlength=1000)
    assert len(counts) == 1000 and counts.min() > 50 and counts.max() < 160


def test_stratified_levels_fill_every_slice() -> None:
    t = Levels("uniform", stratified=True).draw(Flow(), 64, gen())
    assert sorted((t * 64).long().tolist()) == list(range(64))
    assert t.tolist() != sorted(t.tolist())


def test_no_level_lies_below_the_lowest() -> None:
    t = Levels("uniform", low=0.2).draw(Flow(), 20000, gen())
    assert 0.2 <= float(t.min()) < 0.21 and float(t.median()) == pytest.approx(0.6, abs=0.01)
    with pytest.raises(UsageError, match="lowest"):
        Levels(low=1.0)


def test_the_weights_of_pixels_count_by_their_ratios() -> None:
    x0, eps = torch.zeros(1, 1, 1, 4), torch.zeros(1, 1, 1, 4)
    out = torch.tensor([1.0, 2.0, 3.0, 4.0]).view(1, 1, 1, 4)
    weight = torch.tensor([3.0, 1.0, 1.0, 1.0]).view(1, 1, 1, 4)

    def loss(weight: Tensor | None) -> float:
        objective, t = DenoisingObjective(judge="x0"), torch.tensor([0.5])
        return float(
            diffusion_loss(
                lambda x, t, c: out, Flow(), objective, x0, None, generator=gen(), t=t, eps=eps, pixel_weight=weight
            )[0]
        )

    assert loss(weight) == pytest.approx((3 * 1 + 4 + 9 + 16) / 6) == loss(7 * weight)
    assert loss(torch.ones(1, 1, 1, 4)) == pytest.approx(loss(None)) == pytest.approx(30 / 4)


def test_the_generator_decides_everything() -> None:
    x0 = draw(16, gen(5))
    losses = [
        diffusion_loss(lambda x, t, c: x, Flow(), DenoisingObjective(), x0, None, generator=gen(s))[0]
        for s in (1, 1, 2)
    ]
    assert torch.equal(losses[0], losses[1]) and not torch.equal(losses[0], losses[2])


@pytest.mark.parametrize("t", [0.01, 0.05, 0.3, 0.9])
def test_jit_weight_by_its_definition(t: float) -> None:
    x0, eps, guess = torch.full((1, 4), 0.5), torch.full((1, 4), -1.0), torch.full((1, 4), 0.2)
    loss, extra = diffusion_loss(
        lambda x, t, c: guess, Flow(), DenoisingObjective(), x0, None, generator=gen(), t=torch.tensor([t]), eps=eps
    )
    assert float(loss) == pytest.approx(0.3**2 / max(t, 0.05) ** 2, rel=1e-5)
    assert float(extra["mse"]) == pytest.approx(0.09, rel=1e-5)
    torch.testing.assert_close(extra["x_t"], (1 - t) * x0 + t * eps)
    assert extra["x0_hat"] is guess


def imperfect(prediction: str, process: Process) -> Any:
    """One and the same wrong denoiser, x0_hat = .9 E[x_0], as a network of any prediction."""

    def net(x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
        a, s = expand(process.alpha_t(t), x_t), expand(process.sigma_t(t), x_t)
        x0 = 0.9 * mixture(x_t / a, process.sigma(t))
        return target(prediction, x0, (x_t - a * x0) / s, a, s)  # type: ignore[arg-type]

    return net


@pytest.mark.parametrize("process", [Flow(), VP("cosine"), VP("linear", T=1000)], ids=str)
@pytest.mark.parametrize("judge", PREDICTIONS)
def test_the_judge_alone_decides_the_loss(judge: str, process: Process) -> None:
    """Whatever a network predicts, the same x0_hat gets the same loss, away from the floor."""
    x0 = draw(8, gen(1)).double()
    eps = torch.randn(8, 2, generator=gen(2), dtype=torch.float64)
    hi = process.t_range[1]
    t = torch.linspace(0.2, 0.8, 8, dtype=torch.float64) * hi
    losses = [
        diffusion_loss(
            imperfect(p, process),
            process,
            DenoisingObjective(p, judge),  # type: ignore[arg-type]
            x0,
            None,
            generator=gen(),
            t=t.round() if hi > 1 else t,
            eps=eps,
        )[0]
        for p in PREDICTIONS
    ]
    for other in losses[1:]:
        torch.testing.assert_close(other, losses[0], rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize("prediction", PREDICTIONS)
@pytest.mark.parametrize("judge", PREDICTIONS)
def test_losses_are_finite_at_both_ends(prediction: str, judge: str) -> None:
    for process in (Flow(), VP("cosine"), VP("cosine", T=1000)):
        t = torch.tensor([0.0, process.t_range[1]])
        net = lambda x, t, c: 0.5 * x  # noqa: E731
        obj = DenoisingObjective(prediction, judge)  # type: ignore[arg-type]
        loss, _ = diffusion_loss(net, process, obj, torch.ones(2, 3, 4, 4), None, generator=gen(), t=t)
        assert loss.shape == (2,) and loss.isfinite().all() and loss.dtype == torch.float32


def test_training_finds_the_denoiser_of_the_data() -> None:
    """The loss is proper: at one noise level the best affine network is the regression of x_0 on x_t."""
    g = gen(3)
    x0 = draw(4000, g)
    t = torch.full((4000,), 0.6)
    eps = torch.randn(4000, 2, generator=g)
    net = torch.nn.Linear(2, 2)
    opt, objective = torch.optim.LBFGS(net.parameters(), max_iter=50), DenoisingObjective()

    def closure() -> float:
        opt.zero_grad()
        loss, _ = diffusion_loss(lambda x, t, c: net(x), Flow(), objective, x0, None, generator=g, t=t, eps=eps)
        loss.mean().backward()
        return float(loss.detach().mean())

    opt.step(closure)
    x_t = torch.cat([0.4 * x0 + 0.6 * eps, torch.ones(4000, 1)], dim=1)
    best = torch.linalg.lstsq(x_t, x0).solution  # (3, 2)
    torch.testing.assert_close(net.weight.detach(), best[:2].T, rtol=1e-2, atol=2e-3)


@pytest.mark.parametrize("bad", [{"prediction": "epsilon"}, {"judge": "min_snr"}])
def test_unknown_objectives_are_refused(bad: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        DenoisingObjective(**bad)
    with pytest.raises(UsageError):
        Levels("beta")  # type: ignore[arg-type]
    with pytest.raises(UsageError):
        Levels(shift=0.0)
