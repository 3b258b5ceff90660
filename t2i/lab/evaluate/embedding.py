"""How much of a picture its CLIP image embedding carries to the base."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from t2i.errors import UsageError
from t2i.lab.evaluate.workbench import Workbench, mean_row
from t2i.pipeline import Conditioning
from t2i.rng import generator
from t2i.sampling import SampleRequest, SamplingConfig
from t2i.score.pixel_metrics import psnr
from t2i.stages.base import base_cond, bound_net, typed_cond

NOISE = 0.995  # the flow time t of the one pass: x_t is nearly pure noise


@torch.inference_mode()
def embedding(bench: Workbench) -> dict[str, Any]:
    """Held-out renders rebuilt by the base from their image embeddings, without text: MSE in [-1, 1], and PSNR.

    "one pass": one evaluation at pure noise, the mean of what the base considers possible. "drawn": sampled as usual.
    "spread": the MSE of the mean picture of all renders, the best that is possible without an embedding. Raises
    UsageError if the base reads no embedding.
    """
    pipeline = bench.pipeline
    if not pipeline.base[1].config.cond_dim:
        name = pipeline.manifest.name
        raise UsageError(f"the base of {name!r} reads no image embedding.", "Leave the part out.")
    n, size = min(bench.scenes, 256), pipeline.manifest.sizes[0]
    truth = bench.render(bench.held_out(n, 4 * bench.scenes), size)
    z = bench.z_image(truth)
    once, drawn, settings = [], [], SampleRequest(size=size)
    for start in range(0, n, bench.batch):
        rows = slice(start, start + bench.batch)
        seeds = [bench.seed + i for i in range(n)[rows]]
        once.append(_one_pass(bench, truth[rows], z[rows], seeds))
        drawn.append(pipeline.draw(Conditioning(None, z[rows].to(pipeline.base[1].device)), seeds, settings).images)
        bench.say(f"{min(start + bench.batch, n)} of {n} pictures")
    out: dict[str, Any] = {"pictures": n, "spread": float((truth - truth.mean(0)).square().mean())}
    for name, made in (("one pass", torch.cat(once)), ("drawn", torch.cat(drawn))):
        error = (made - truth).square().flatten(1).mean(1)
        out[name] = {"mse": mean_row(error), "psnr": mean_row(psnr(made, truth))}
    return out


def _one_pass(bench: Workbench, x0: Tensor, z: Tensor, seeds: list[int]) -> Tensor:
    """The base's x0_hat (B, 3, S, S) at t = NOISE, with noise by seed."""
    stage = bench.pipeline.base[1]
    eps = torch.stack([torch.randn(x0.shape[1:], generator=generator(seed, "embedding")) for seed in seeds])
    sigma = torch.full((len(x0),), NOISE / (1 - NOISE), device=stage.device)
    x = x0.to(stage.device) + sigma[:, None, None, None] * eps.to(stage.device)
    cond = typed_cond(stage, base_cond(None, z.to(stage.device)))
    plain = stage.defaults.override(SamplingConfig(guidance=1.0, threshold="none"))
    denoiser = stage.denoiser(bound_net(stage), cond, plain)
    return denoiser(x, sigma, cond).float().cpu().clamp(-1, 1)
