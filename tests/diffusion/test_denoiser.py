from __future__ import annotations

from typing import Any

import pytest
import torch
from oracle import mixture
from torch import Tensor

from t2i.diffusion.denoiser import PREDICTIONS, NetDenoiser, target, to_x0
from t2i.diffusion.process import VP, Flow, Process, expand
from t2i.errors import UsageError

PROCESSES = [Flow(), VP("cosine"), VP("linear", T=1000), VP("cosine", T=1000)]


def net_for(prediction: str, process: Process) -> Any:
    """The mixture's exact denoiser, dressed as a network that predicts ``prediction``."""

    def net(x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
        x_t, t = x_t.double(), t.double()
        a, s = expand(process.alpha_t(t), x_t), expand(process.sigma_t(t), x_t)
        x0 = mixture(x_t / a, process.sigma(t))
        eps = (x_t - a * x0) / s
        return target(prediction, x0, eps, a, s)  # type: ignore[arg-type]

    return net


@pytest.mark.parametrize("process", PROCESSES, ids=str)
@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_all_predictions_mean_the_same_denoiser(prediction: str, process: Process, g: torch.Generator) -> None:
    d = NetDenoiser(net_for(prediction, process), process, prediction)  # type: ignore[arg-type]
    t = torch.linspace(*process.t_range, 12, dtype=torch.float64)[1:-1].round(decimals=2)
    sigma = process.sigma(t)
    x = torch.randn(10, 2, generator=g, dtype=torch.float64) * (1 + sigma[:, None])
    torch.testing.assert_close(d(x, sigma, None), mixture(x, sigma), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("prediction", PREDICTIONS)
def test_float32_is_good_enough_where_samplers_go(prediction: str, g: torch.Generator) -> None:
    p = Flow()
    d = NetDenoiser(net_for(prediction, p), p, prediction)  # type: ignore[arg-type]
    sigma = torch.tensor([999.0, 50.0, 5.0, 1.0, 0.1, 0.01])
    x = torch.randn(6, 2, generator=g) * (1 + sigma[:, None])
    # eps divides by alpha = .001 at the top: float32's 6e-8 of x_t ~ 1 becomes 6e-5
    torch.testing.assert_close(d(x, sigma, None), mixture(x, sigma), rtol=1e-3, atol=2e-3)


def test_target_and_to_x0_are_inverse(g: torch.Generator) -> None:
    x0, eps = torch.randn(2, 5, 3, generator=g)
    a, s = torch.rand(2, 5, 1, generator=g) + 0.1
    for p in PREDICTIONS:
        torch.testing.assert_close(to_x0(p, target(p, x0, eps, a, s), a * x0 + s * eps, a, s), x0)  # type: ignore


def test_v_on_a_vp_process_is_the_textbook_v() -> None:
    a, s = torch.tensor(0.6), torch.tensor(0.8)
    assert float(target("v", torch.tensor(1.0), torch.tensor(2.0), a, s)) == pytest.approx(0.6 * 2 - 0.8)
    assert float(target("flow", torch.tensor(1.0), torch.tensor(2.0), a, s)) == pytest.approx(1.0)


def test_the_network_sees_x_t_and_its_own_time() -> None:
    seen: dict[str, Tensor] = {}

    def net(x_t: Tensor, t: Tensor, cond: Any) -> Tensor:
        seen.update(x_t=x_t, t=t, cond=cond)
        return x_t

    p = VP("linear", T=1000)
    t = torch.tensor([3.0, 500.0, 999.0])
    x = torch.ones(3, 1, 2, 2) * 7
    NetDenoiser(net, p, "x0")(x, p.sigma(t), torch.tensor(1))
    assert torch.equal(seen["t"], t)
    torch.testing.assert_close(seen["x_t"][:, 0, 0, 0], 7 * p.alpha_t(t))
    assert seen["cond"] == 1


def test_a_network_of_another_shape_is_a_fault() -> None:
    with pytest.raises(AssertionError):
        NetDenoiser(lambda x_t, t, cond: torch.cat([x_t, x_t], dim=1), Flow())(torch.ones(2, 3), torch.ones(2), None)


def test_unknown_prediction_is_refused() -> None:
    with pytest.raises(UsageError):
        NetDenoiser(lambda x, t, c: x, Flow(), "epsilon")  # type: ignore[arg-type]
