"""Our samplers against diffusers' schedulers, step by step, on the tables of the open checkpoints.

Both get the same network, the same timesteps and, where there is any, the same noise. Only conventions
differ: theirs carry x_t, ours x = x_t / alpha_t; k-diffusion's schedulers (Heun, Euler) carry x as we do.

Where timesteps would end at 0 they are shifted by 1, as the open checkpoints do: at 0 diffusers computes
1 - .9999 in float32, which leaves three digits of sigma and 3e-5 of the picture.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from t2i.diffusion.denoiser import NetDenoiser, Prediction, target
from t2i.diffusion.process import VP
from t2i.diffusion.samplers import SAMPLERS, ancestral, dpmpp_2m, euler, heun, unipc
from t2i.diffusion.schedule import leading, linspace, trailing

diffusers = pytest.importorskip("diffusers", reason="diffusers, the oracle of these tests, is not installed")

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

TABLES: dict[str, tuple[VP, dict[str, Any]]] = {
    "linear": (VP("linear", T=1000), {"beta_schedule": "linear", "beta_start": 1e-4, "beta_end": 0.02}),
    "scaled_linear": (
        VP("scaled_linear", T=1000, beta_start=0.00085, beta_end=0.012),
        {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012},
    ),
    "cosine": (VP("cosine", T=1000), {"beta_schedule": "squaredcos_cap_v2"}),
}
THEIR_NAME = {"eps": "epsilon", "v": "v_prediction", "x0": "sample"}
SHAPE = (2, 3, 4, 4)


@pytest.fixture(scope="module")
def eps0() -> Tensor:
    return torch.randn(SHAPE, generator=torch.Generator().manual_seed(0))


def net_for(p: VP, prediction: Prediction) -> Any:
    """A network that predicts v = -b, b bounded and smooth and different in each pixel, as ``prediction``.

    Like a trained one it leaves x_t alone where there is no noise. An arbitrary eps or x0 would not, and
    rounding would be blown up on the way.
    """

    def net(x_t: Tensor, t: Tensor, cond: Any = None) -> Tensor:
        a, s = (v.reshape(-1, 1, 1, 1) for v in (p.alpha_t(t), p.sigma_t(t)))
        b = torch.tanh(x_t - 0.7 * torch.sin(1.3 * x_t.roll(1, -1) + 0.002 * t.reshape(-1, 1, 1, 1)))
        return target(prediction, a * x_t + s * b, s * x_t - a * b, a, s)

    return net


def table_of(beta: str) -> tuple[VP, dict[str, Any]]:
    p, theirs = TABLES[beta]
    return p, {"num_train_timesteps": 1000, **theirs}


def ours(fn: Any, p: VP, prediction: Prediction, x: Tensor, s: list[float], noise: Any = None) -> list[Tensor]:
    """x_t after each step."""
    steps: list[Tensor] = []

    def on_step(i: int, n: int, x: Tensor, x0_hat: Tensor) -> None:
        steps.append(x * p.alpha_at(torch.tensor(s[i])))

    fn(NetDenoiser(net_for(p, prediction), p, prediction), x, s, None, noise, on_step)
    return steps


def theirs(scheduler: Any, net: Any, n: int, x_t: Tensor, **step: Any) -> list[Tensor]:
    scheduler.set_timesteps(n)
    steps = []
    for t in scheduler.timesteps:
        out = net(x_t, t.float().expand(x_t.shape[0]))
        x_t = scheduler.step(out, t, x_t, **step).prev_sample
        steps.append(x_t)
    return steps


def compare(a: list[Tensor], b: list[Tensor], tol: float = 1e-5) -> None:
    errors = [float(((u - v).abs() / (1 + v.abs())).max()) for u, v in zip(a, b, strict=True)]
    assert max(errors) < tol, [f"step {i + 1}: {e:.1e}" for i, e in enumerate(errors)]


# eps on the cosine table divides by alpha = 5e-5 at its noisiest entry: float32 leaves nothing to compare
CASES = [(b, q) for b in TABLES for q in ("eps", "v", "x0") if (b, q) != ("cosine", "eps")]


@pytest.mark.parametrize(("beta", "prediction"), CASES)
@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_euler_is_ddim(beta: str, prediction: Prediction, spacing: str, eps0: Tensor) -> None:
    p, config = table_of(beta)
    s = trailing(p, 10) if spacing == "trailing" else leading(p, 10, offset=1)
    sch = diffusers.DDIMScheduler(
        **config,
        prediction_type=THEIR_NAME[prediction],
        clip_sample=False,
        set_alpha_to_one=True,
        steps_offset=1,
        timestep_spacing=spacing,
    )
    compare(
        ours(euler, p, prediction, p.start(eps0, s[0]), s),
        theirs(sch, net_for(p, prediction), 10, eps0, eta=0.0),
    )


@pytest.mark.parametrize(("beta", "prediction"), CASES)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("n", [1, 2, 8, 20])
def test_dpmpp_2m(beta: str, prediction: Prediction, spacing: str, n: int, eps0: Tensor) -> None:
    p, config = table_of(beta)
    s = multistep_levels(p, n, spacing)
    sch = diffusers.DPMSolverMultistepScheduler(
        **config, prediction_type=THEIR_NAME[prediction], timestep_spacing=spacing, final_sigmas_type="zero"
    )
    compare(ours(dpmpp_2m, p, prediction, p.start(eps0, s[0]), s), theirs(sch, net_for(p, prediction), n, eps0))


@pytest.mark.parametrize(("beta", "prediction"), CASES)
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
@pytest.mark.parametrize("n", [1, 2, 8, 20])
def test_unipc(beta: str, prediction: Prediction, spacing: str, n: int, eps0: Tensor) -> None:
    p, config = table_of(beta)
    s = multistep_levels(p, n, spacing)
    sch = diffusers.UniPCMultistepScheduler(
        **config,
        prediction_type=THEIR_NAME[prediction],
        timestep_spacing=spacing,
        solver_order=2,
        solver_type="bh2",
        final_sigmas_type="zero",
    )
    compare(
        ours(unipc, p, prediction, p.start(eps0, s[0]), s),
        theirs(sch, net_for(p, prediction), n, eps0),
        tol=2e-5,
    )


def multistep_levels(p: VP, n: int, spacing: str) -> list[float]:
    if spacing == "trailing":
        return trailing(p, n)
    return leading(p, n, multistep=True) if spacing == "leading" else linspace(p, n, multistep=True)


@pytest.mark.parametrize("prediction", ["eps", "v"])
def test_heun(prediction: Prediction, eps0: Tensor) -> None:
    p, config = table_of("linear")
    s = trailing(p, 10)
    x = start = eps0 * (1 + s[0] ** 2) ** 0.5
    sch = diffusers.HeunDiscreteScheduler(**config, prediction_type=THEIR_NAME[prediction], timestep_spacing="trailing")
    sch.set_timesteps(10)
    net = net_for(p, prediction)
    steps: list[Tensor] = []
    for i, t in enumerate(sch.timesteps):
        out = net(sch.scale_model_input(x, t), t.float().expand(2))
        x = sch.step(out, t, x).prev_sample
        if i % 2 or i == len(sch.timesteps) - 1:  # every other call ends a step of ours
            steps.append(x * p.alpha_at(torch.tensor(s[len(steps) + 1])))
    compare(ours(heun, p, prediction, start, s), steps, tol=2e-5)


def stream(n: int) -> list[Tensor]:
    g = torch.Generator().manual_seed(9)
    return [torch.randn(SHAPE, generator=g) for _ in range(n)]


@pytest.mark.parametrize(("beta", "prediction"), CASES)
def test_ancestral_is_ddpm(beta: str, prediction: Prediction, eps0: Tensor) -> None:
    """Ho 2020's posterior with the smaller variance."""
    p, config = table_of(beta)
    s = leading(p, 10, offset=1)
    sch = diffusers.DDPMScheduler(
        **config,
        prediction_type=THEIR_NAME[prediction],
        clip_sample=False,
        variance_type="fixed_small",
        timestep_spacing="leading",
        steps_offset=1,
    )
    draws = stream(10)
    mine = ours(ancestral, p, prediction, p.start(eps0, s[0]), s, lambda step, like: draws[step - 1])
    compare(mine, theirs(sch, net_for(p, prediction), 10, eps0, generator=torch.Generator().manual_seed(9)))


@pytest.mark.parametrize("eta", [0.3, 1.0])
def test_ancestral_is_ddim_with_eta(eta: float, eps0: Tensor) -> None:
    p, config = table_of("linear")
    s = leading(p, 10, offset=1)
    sch = diffusers.DDIMScheduler(**config, clip_sample=False, timestep_spacing="leading", steps_offset=1)
    draws = stream(10)

    def fn(*args: Any) -> Tensor:
        return ancestral(*args, eta=eta)

    mine = ours(fn, p, "eps", p.start(eps0, s[0]), s, lambda step, like: draws[step - 1])
    compare(mine, theirs(sch, net_for(p, "eps"), 10, eps0, eta=eta, generator=torch.Generator().manual_seed(9)))


def test_ancestral_is_euler_ancestral(eps0: Tensor) -> None:
    p, config = table_of("linear")
    s = trailing(p, 10)
    x = start = eps0 * (1 + s[0] ** 2) ** 0.5
    sch = diffusers.EulerAncestralDiscreteScheduler(**config, timestep_spacing="trailing")
    sch.set_timesteps(10)
    net, g, steps, draws = net_for(p, "eps"), torch.Generator().manual_seed(9), [], stream(10)
    for i, t in enumerate(sch.timesteps):
        x = sch.step(net(sch.scale_model_input(x, t), t.expand(2)), t, x, generator=g).prev_sample
        steps.append(x * p.alpha_at(torch.tensor(s[i + 1])))
    compare(ours(ancestral, p, "eps", start, s, lambda step, like: draws[step - 1]), steps, tol=2e-5)


@pytest.mark.parametrize("beta", TABLES)
def test_tables_agree(beta: str) -> None:
    p, config = table_of(beta)
    bar = diffusers.DDPMScheduler(**config).alphas_cumprod
    mine = p.alpha_t(torch.arange(1000.0)) ** 2
    # their float32 product loses digits in the last entries of the cosine table, where 1 - .999 is taken
    torch.testing.assert_close(mine, bar, rtol=1e-4, atol=1e-6)


def test_dynamic_thresholding_agrees(eps0: Tensor) -> None:
    from t2i.diffusion.guidance import dynamic_threshold

    sch = diffusers.DDPMScheduler(thresholding=True, dynamic_thresholding_ratio=0.95, sample_max_value=1.5)
    x0 = 2 * eps0
    mine = dynamic_threshold(lambda x, s, c: x0, 0.95, cap=1.5)(x0, torch.ones(2), None)
    torch.testing.assert_close(mine, sch._threshold_sample(x0))


def test_every_sampler_has_an_oracle_here() -> None:
    assert set(SAMPLERS) - {"consistency"} == {"euler", "heun", "dpmpp_2m", "unipc", "ancestral"}
