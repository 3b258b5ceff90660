"""Any network as a denoiser D(x, sigma, cond) -> x0_hat, the view of Karras 2022 (arXiv 2206.00364).

What a network predicts (noise, velocity, picture) matters in this file and nowhere else.
Shapes: x (B, ...) of any shape, one noise level sigma (B,) per row.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, Protocol, get_args

from torch import Tensor

from t2i.diffusion.process import Process, expand
from t2i.errors import UsageError

Prediction = Literal["eps", "v", "x0", "flow"]
PREDICTIONS: tuple[str, ...] = get_args(Prediction)

Net = Callable[[Tensor, Tensor, Any], Tensor]
"""net(x_t (B, ...), t (B,), cond) -> (B, ...)"""


class Denoiser(Protocol):
    """x = x_t / alpha_t = x_0 + sigma eps (B, ...), sigma (B,) -> x0_hat (B, ...), an estimate of E[x_0 | x]."""

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor: ...


def to_x0(prediction: Prediction, out: Tensor, x_t: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """x0_hat from a network's output at x_t; the inverse of `target` for a given x_t."""
    if prediction == "x0":
        return out
    if prediction == "eps":
        return (x_t - sigma_t * out) / alpha_t
    if prediction == "v":
        return (alpha_t * x_t - sigma_t * out) / (alpha_t**2 + sigma_t**2)
    assert prediction == "flow", prediction
    return (x_t - sigma_t * out) / (alpha_t + sigma_t)


def target(prediction: Prediction, x0: Tensor, eps: Tensor, alpha_t: Tensor, sigma_t: Tensor) -> Tensor:
    """What the network is trained to output.

    `v` = alpha_t eps - sigma_t x_0 (Salimans 2022, arXiv 2202.00512, eq. 11); `flow` = eps - x_0, the
    velocity dx_t/dt of `Flow`.
    """
    if prediction == "x0":
        return x0
    if prediction == "eps":
        return eps
    if prediction == "v":
        return alpha_t * eps - sigma_t * x0
    assert prediction == "flow", prediction
    return eps - x0


@dataclass(frozen=True)
class NetDenoiser:
    """A network with its process and its prediction, as a `Denoiser`.

    The network is called as net(x_t (B, ...), t (B,), cond), with t in the process' own time: for a VP table the
    timesteps, as floats. The result has the dtype of x, whatever the network computes in. Raises UsageError (code
    `config`) for an unknown prediction.
    """

    net: Net
    process: Process
    prediction: Prediction = "x0"

    def __post_init__(self) -> None:
        if self.prediction not in PREDICTIONS:
            raise UsageError(
                f"A network cannot predict {self.prediction!r}.", f"Use {', '.join(PREDICTIONS)}.", "config"
            )

    def __call__(self, x: Tensor, sigma: Tensor, cond: Any) -> Tensor:
        assert sigma.shape == x.shape[:1], f"sigma {tuple(sigma.shape)} for x {tuple(x.shape)}"
        alpha = self.process.alpha_at(sigma)
        alpha_t, sigma_t = expand(alpha, x), expand(sigma * alpha, x)
        x_t = alpha_t * x
        out = self.net(x_t, self.process.t(sigma), cond)
        assert out.shape == x.shape, f"the network returned {tuple(out.shape)} for {tuple(x.shape)}"
        return to_x0(self.prediction, out.to(x.dtype), x_t, alpha_t, sigma_t)
