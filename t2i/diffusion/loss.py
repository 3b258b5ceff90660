"""The training loss: how a noise level is drawn, and how the error is weighted.

One formula covers the published losses. The error of a network's output and the error of x_0 are proportional,
|x0_hat - x_0| = c |out - target|, where c depends on the prediction and the noise level. A network may therefore
predict one quantity and be judged by another: "predict x0, judge the flow velocity" is JiT's v-loss, "predict eps,
judge eps" is DDPM's simple loss. Shapes: x0 (B, ...), one time t (B,) per row.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

import torch
from torch import Tensor

from t2i.diffusion.denoiser import PREDICTIONS, Net, Prediction, target, to_x0
from t2i.diffusion.process import Process, expand
from t2i.errors import UsageError
from t2i.schema import Between


@dataclass(frozen=True)
class Levels:
    """The distribution of noise levels in training, over u in (0, 1): 0 is no noise, 1 the most.

    law `uniform`: u ~ U(0, 1), DDPM's on a table. law `logit_normal`: u = sigmoid(N(mean, std)) (Esser 2024, arXiv
    2403.03206, eq. 19). `shift` s > 1 then moves mass to high noise, u' = s u / (1 + (s - 1) u) (ibid., eq. 23).
    `low`, in [0, 1): the distribution is squeezed into (low, 1), for a network that is never sampled below.
    `stratified`: the B rows of a batch fall into B equal slices of the distribution, one each, which reduces the
    variance of the gradient. Raises UsageError (code `config`) for a law or a number that makes no sense.
    """

    law: Literal["uniform", "logit_normal"] = "logit_normal"
    mean: Annotated[float, Between(-100, 100)] = 0.0
    std: Annotated[float, Between(1e-6, 100)] = 1.0
    shift: Annotated[float, Between(1e-6, 1e6)] = 1.0
    low: Annotated[float, Between(0, 0.999)] = 0.0
    stratified: bool = False

    def __post_init__(self) -> None:
        if self.law not in ("uniform", "logit_normal"):
            raise UsageError(
                f"There is no law of noise levels called {self.law!r}.", "Use uniform or logit_normal.", "config"
            )
        if self.shift <= 0 or self.std <= 0:
            raise UsageError("The shift and the spread of the noise levels must be above 0.", code="config")
        if not 0 <= self.low < 1:
            raise UsageError("The lowest noise level must be in [0, 1).", code="config")

    def draw(self, process: Process, n: int, generator: torch.Generator) -> Tensor:
        """n times t (n,), float32, on the generator's device."""
        u = torch.rand(n, generator=generator, device=generator.device, dtype=torch.float64)
        if self.stratified:
            u = (torch.randperm(n, generator=generator, device=generator.device) + u) / n
        if self.law == "logit_normal":
            u = torch.sigmoid(self.mean + self.std * torch.special.ndtri(u.clamp(1e-12, 1 - 1e-12)))
        u = self.shift * u / (1 + (self.shift - 1) * u)
        return process.training_time(self.low + (1 - self.low) * u).float()


@dataclass(frozen=True)
class DenoisingObjective:
    """What the network predicts, by which quantity its error is judged, and the distribution of noise levels.

    The defaults predict x_0 and judge the flow velocity: weight 1 / max(t, .05)^2 for Flow (JiT: Li 2025, arXiv
    2511.13720). `floor` bounds the weight near t = 0 where the two quantities differ.
    """

    prediction: Prediction = "x0"
    judge: Prediction = "flow"
    levels: Levels = Levels()
    floor: Annotated[float, Between(1e-6, 1e6)] = 0.05

    def __post_init__(self) -> None:
        for name, value in (("prediction", self.prediction), ("judge", self.judge)):
            if value not in PREDICTIONS:
                raise UsageError(f"{name} cannot be {value!r}.", f"Use {', '.join(PREDICTIONS)}.", "config")

    def weight(self, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
        """The factor (B,) on the mean squared error of the network's own output."""
        if self.judge == self.prediction:
            return torch.ones_like(alpha_t)
        c = _error_ratio(self.prediction, alpha_t, sigma_t)
        return (c / _error_ratio(self.judge, alpha_t, sigma_t).clamp(min=self.floor)) ** 2


def _error_ratio(prediction: str, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """|x0_hat - x_0| / |out - target|; compare denoiser.to_x0."""
    if prediction == "x0":
        return torch.ones_like(alpha_t)
    if prediction == "eps":
        return sigma_t / alpha_t.clamp(min=1e-8)
    if prediction == "v":
        return sigma_t / (alpha_t**2 + sigma_t**2)
    assert prediction == "flow", prediction
    return sigma_t / (alpha_t + sigma_t)


def diffusion_loss(
    net: Net,
    process: Process,
    objective: DenoisingObjective,
    x0: Tensor,
    cond: Any,
    *,
    generator: torch.Generator,
    t: Tensor | None = None,
    eps: Tensor | None = None,
    pixel_weight: Tensor | None = None,
) -> tuple[Tensor, dict[str, Tensor]]:
    """The denoising loss of each row (Saharia 2022, arXiv 2205.11487, eq. 1).

    `x0` (B, ...): pictures in [-1, 1], or embeddings. `net(x_t, t, cond)` as in denoiser.NetDenoiser. `t` (B,)
    and `eps` (B, ...) are drawn from `generator`, on its device, unless they are given. `pixel_weight`,
    broadcast to x0: the squared error is its weighted mean, so that only the ratios of the weights count.

    Returns the weighted loss (B,), float32, and a dict: `t` (B,), `x_t` (B, ...), `x0_hat` (B, ...) with its
    graph, for auxiliary losses, and `mse` (B,), the unweighted error of x0_hat, detached, for logs.
    """
    if t is None:
        t = objective.levels.draw(process, x0.shape[0], generator)
    if eps is None:
        eps = torch.randn(x0.shape, generator=generator, device=generator.device)
    t, eps = t.to(x0.device), eps.to(x0.device, x0.dtype)
    alpha, sigma = process.alpha_t(t), process.sigma_t(t)
    alpha_t, sigma_t = expand(alpha, x0), expand(sigma, x0)
    x_t = process.add_noise(x0, t, eps)
    out = net(x_t, t, cond).float()
    error = out - target(objective.prediction, x0, eps, alpha_t, sigma_t).float()
    squared = error.square().flatten(1)
    if pixel_weight is None:
        mean = squared.mean(1)
    else:
        weight = pixel_weight.expand_as(x0).flatten(1)
        mean = (squared * weight).sum(1) / weight.sum(1)
    loss = objective.weight(alpha, sigma) * mean
    x0_hat = to_x0(objective.prediction, out, x_t, alpha_t, sigma_t)
    mse = (x0_hat - x0).detach().float().square().flatten(1).mean(1)
    return loss, {"t": t, "x_t": x_t, "x0_hat": x0_hat, "mse": mse}
