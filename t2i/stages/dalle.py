"""DALL·E's two stages together: text tokens -> image tokens, one after the other -> a picture (Ramesh 2021, arXiv
2102.12092, section 2.3).

A token is drawn by the Gumbel-max trick: the largest of logits plus noise, where the noise is a function of (seed,
stage, step). So a picture does not depend on the others of its batch, up to the last bits of the logits. These are
rounded away first: a picture is the same alone and in a batch unless a logit lies on the border of two steps.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from t2i.engine import OnStep
from t2i.nets import laplace
from t2i.nets.dalle import DalleTransformer
from t2i.nets.vae import VAE
from t2i.rng import gumbel_noise
from t2i.sampling import SamplingConfig, given
from t2i.text.cond import TextCond
from t2i.text.tokenizer import Tokenizer

LOGIT_STEP = 1 / 256
"""What logits are rounded to. Batches of other sizes move them by about 1e-5."""


@dataclass
class TokenStage:
    """A transformer and the VAE whose tokens it draws. name, defaults: the transformer's, from the manifest."""

    name: str
    net: DalleTransformer
    vae: VAE
    tokenizer: Tokenizer
    defaults: SamplingConfig = field(default_factory=SamplingConfig)

    @property
    def device(self) -> torch.device:
        """The networks' device."""
        return self.net.row_embedding.device

    def condition(self, prompts: Sequence[str], text: TextCond | None = None) -> tuple[Tensor, list[str | None]]:
        """The tokens (B, T) of B prompts, padded to the whole context; and of each the part that did not fit, or
        None."""
        ids, cut = self.tokenizer.encode(prompts, self.net.config.context)
        return ids.to(self.device), cut

    def draw(
        self, ids: Tensor, seeds: Sequence[int], sampling: SamplingConfig, on_step: OnStep | None = None
    ) -> Tensor:
        """Pictures (B, 3, S, S) in [-1, 1] of text tokens ids (B, T), one a seed: see `sample_tokens`."""
        return sample_tokens(self, ids, seeds, sampling, on_step)


def sample_tokens(
    stage: TokenStage, ids: Tensor, seeds: Sequence[int], sampling: SamplingConfig, on_step: OnStep | None = None
) -> Tensor:
    """Pictures (B, 3, S, S) in [-1, 1] of text tokens ids (B, T), one a seed. on_step: told after each row of the
    grid."""
    net, vae, grid = stage.net, stage.vae, stage.net.config.grid
    tokens = torch.zeros(len(ids), net.config.image_tokens, dtype=torch.int64, device=stage.device)
    caches = net.caches(len(ids))
    logits = net.start(ids, caches)
    for i in range(net.config.image_tokens):
        if i:
            logits = net.step(tokens[:, i - 1], i - 1, caches)
        noise = gumbel_noise(seeds, stage.name, i, logits.shape[1:]).to(logits)
        tokens[:, i] = pick(logits, noise, sampling)
        if on_step and (i + 1) % grid == 0:
            on_step(stage.name, (i + 1) // grid, grid, _so_far(vae, tokens, i + 1))
    return vae.pictures(tokens)


def pick(logits: Tensor, noise: Tensor, sampling: SamplingConfig) -> Tensor:
    """One code (B,) of each row of logits (B, K), by Gumbel noise (B, K).

    They are rounded to `LOGIT_STEP` and divided by the temperature; at 0 the most probable code is taken. Only the
    `top_k` most probable codes are left, and of them the most probable ones that together have the probability `top_p`
    (Holtzman 2019, arXiv 1904.09751); equal logits stay together.
    """
    logits = (logits / LOGIT_STEP).round() * LOGIT_STEP
    temperature, top_p = given(sampling.temperature, 1.0), given(sampling.top_p, 1.0)
    if temperature == 0:
        return logits.argmax(-1)
    logits = logits / temperature
    if sampling.top_k and sampling.top_k < logits.shape[-1]:
        least = logits.topk(sampling.top_k).values[:, -1:]
        logits = logits.masked_fill(logits < least, -torch.inf)
    if top_p < 1:
        ordered = logits.sort(-1, descending=True).values
        share = ordered.softmax(-1)
        kept = share.cumsum(-1) - share < top_p  # up to the one that reaches it; always the first
        least = ordered.masked_fill(~kept, torch.inf).amin(-1, keepdim=True)
        logits = logits.masked_fill(logits < least, -torch.inf)
    return (logits + noise).argmax(-1)


def _so_far(vae: VAE, tokens: Tensor, drawn: int) -> Tensor:
    """What the first tokens show; the cells after them are left empty."""
    z = vae.embed(tokens).flatten(2)
    z[:, :, drawn:] = 0
    side = round(tokens.shape[1] ** 0.5)
    return laplace.median(vae.decode(z.unflatten(2, (side, side)))[0])
