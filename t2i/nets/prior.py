"""The prior: from text to the CLIP image embedding (DALL-E 2: Ramesh 2022, arXiv 2204.06125, section 2.2).

Embeddings that are noised or predicted are unit vectors times sqrt(E): their coordinates then have unit variance, and
the noise processes of pictures fit. z_text comes as CLIP gives it; the networks normalise and scale it themselves.
Shapes: B batch, L tokens, D width of the token states, E width of the embedding, W width of the network.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.config import Depth, Heads, NetConfig, Scale, Tokens, Width
from t2i.nets.layers import TimeMLP, TransformerBlock, attend, hide, keep_or, zero_init
from t2i.nets.linear import Linear
from t2i.nets.reader import TextReader
from t2i.schema import Between


@dataclass(frozen=True)
class PriorConfig(NetConfig):
    """Sizes of a prior.

    kind "residual": AdaLN blocks on the embedding, with hidden layers of mlp_ratio * width; a small transformer of
    pool_layers, pool_width and pool_heads pools the text. skip: adds z_t, scaled by the condition, to the output, which
    helps where width is below embed_dim.
    kind "causal": the paper's decoder-only transformer with `heads` heads; mlp_ratio, pool_* and skip are not used.
    embed_dim: E; token_dim: D; context: most tokens of a text. cells and grid are part of the file format only.

    Raises InputError where a width is no multiple of its heads.
    """

    kind: Literal["residual", "causal"] = "residual"
    embed_dim: Width = 256
    token_dim: Width = 256
    context: Tokens = 40
    width: Width = 384
    depth: Depth = 4
    mlp_ratio: Annotated[float, Between(0.01, 64)] = 1.5
    heads: Heads = 6
    pool_width: Width = 256
    pool_layers: Depth = 1
    pool_heads: Heads = 4
    skip: bool = False
    cells: Literal[0] = 0
    grid: Literal[8] = 8
    time_features: Width = 128
    time_scale: Scale = 1000.0

    def __post_init__(self) -> None:
        if self.width % self.heads or self.pool_width % self.pool_heads:
            raise InputError("a width is not divisible by its heads", hint="Change width/heads or the pool_* pair.")
        self.require(self.time_features % 2 == 0, f"time_features is {self.time_features}", "It must be even.")
        hidden = int(self.mlp_ratio * self.width)
        self.require(hidden >= 1, f"mlp_ratio {self.mlp_ratio} leaves no hidden layer", "Give a larger one.")


@dataclass(frozen=True)
class PriorCond:
    """The text: tokens (B, L, D), mask (B, L) bool, pooled (B, E) = z_text, keep (B,) bool or None to keep all.

    Where keep is False the learned null takes the place of both tokens and pooled.
    draws: the batch of embeddings holds draws * B rows; row i belongs to text i mod B. A text is read once for all.
    read: what `ResidualPrior.read` makes of all this, where it was read before: once for all steps of a run.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    keep: Tensor | None = None
    draws: int = 1
    read: tuple[Tensor, Tensor] | None = None

    def spread(self) -> PriorCond:
        """The same condition with one row for each embedding, draws 1."""
        if self.draws == 1:
            return self
        n, keep = self.draws, self.keep
        tokens, mask, pooled = self.tokens.repeat(n, 1, 1), self.mask.repeat(n, 1), self.pooled.repeat(n, 1)
        return PriorCond(tokens, mask, pooled, None if keep is None else keep.repeat(n))


class TextPool(TextReader):
    """Attention pooling: forward(tokens (B, L, D), mask (B, L)) -> (B, pool_width), what one learned query reads."""

    def __init__(self, config: PriorConfig) -> None:
        width = config.pool_width
        super().__init__(config.token_dim, width, config.pool_heads, config.pool_layers)
        self.heads = config.pool_heads
        self.query = nn.Parameter(torch.empty(1, width).normal_(std=1.0))
        self.kv = Linear(width, 2 * width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states, mask = self.read(tokens, mask)
        k, v = self.kv(states).chunk(2, dim=-1)
        return attend(self.query.to(k.dtype).expand(len(k), 1, -1), k, v, self.heads, mask)[:, 0]


class AdaBlock(nn.Module):
    """Residual MLP, scaled, shifted and gated by the condition (AdaLN-zero: Peebles & Xie 2022, arXiv 2212.09748)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.ada = zero_init(Linear(width, 3 * width))
        self.mlp = nn.Sequential(Linear(width, hidden), nn.GELU(), Linear(hidden, width))

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift, gate = self.ada(cond).chunk(3, dim=-1)
        out: Tensor = x + gate * self.mlp(torch.addcmul(shift, self.norm(x), 1 + scale))
        return out


class ResidualPrior(nn.Module):
    """AdaLN blocks on the embedding. forward(z_t (B, E), t (B,), cond) -> z0_hat (B, E); zeros when new."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.time = TimeMLP(c.time_features, c.width, c.time_scale)
        self.pool = TextPool(c)
        self.text = Linear(c.pool_width, c.width)
        self.z_text = Linear(c.embed_dim, c.width)
        self.null_z_text = nn.Parameter(torch.zeros(c.embed_dim))
        self.mix = nn.Sequential(nn.SiLU(), Linear(c.width, c.width), nn.SiLU())
        self.proj_in = Linear(2 * c.embed_dim, c.width)
        self.blocks = nn.ModuleList(AdaBlock(c.width, int(c.mlp_ratio * c.width)) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width)
        self.proj_out = zero_init(Linear(c.width, c.embed_dim))
        if c.skip:
            self.skip = zero_init(Linear(c.width, c.embed_dim))

    def read(self, cond: PriorCond) -> tuple[Tensor, Tensor]:
        """What the text says (B, W), and z_text (B, E) as the network takes it. Neither depends on z_t or t."""
        mask, z_text = kept(cond, self.null_z_text)
        return self.z_text(z_text) + self.text(self.pool(cond.tokens, mask)), z_text

    def forward(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        said, z_text = cond.read or self.read(cond)
        h = self.mix(self.time(t) + said.repeat(cond.draws, 1))
        x = self.proj_in(torch.cat([z_t, z_text.to(z_t.dtype).repeat(cond.draws, 1)], dim=1))
        for block in self.blocks:
            x = block(x, h)
        out: Tensor = self.proj_out(self.norm(x))
        return out + self.skip(h) * z_t if self.config.skip else out


class CausalPrior(nn.Module):
    """The paper's prior: a decoder-only transformer with a causal mask over [text, z_text, time, z_t, learned query].

    The state of the query predicts the embedding without noise. forward as `ResidualPrior`. Padding is never read, so
    the result does not depend on L.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.tokens_in = nn.Sequential(nn.LayerNorm(c.token_dim), Linear(c.token_dim, c.width))
        self.z_text_in = Linear(c.embed_dim, c.width)
        self.null_z_text = nn.Parameter(torch.zeros(c.embed_dim))
        self.time = TimeMLP(c.time_features, c.width, c.time_scale)
        self.z_in = Linear(c.embed_dim, c.width)
        self.query = nn.Parameter(torch.empty(c.width).normal_(std=0.02))
        self.text_position = nn.Parameter(torch.empty(c.context, c.width).normal_(std=0.01))
        self.last_position = nn.Parameter(torch.empty(4, c.width).normal_(std=0.01))
        self.blocks = nn.ModuleList(TransformerBlock(c.width, c.heads) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width)
        self.proj_out = zero_init(Linear(c.width, c.embed_dim))

    def states(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        """All final states (B, L+4, W); state i depends on positions up to i only."""
        cond = cond.spread()
        mask, z_text = kept(cond, self.null_z_text)
        length = cond.tokens.shape[1]
        assert length <= self.config.context, "more tokens than the context holds"
        text = self.tokens_in(hide(cond.tokens, mask)) + self.text_position[:length]
        query = self.query.expand(z_t.shape[0], -1)
        last = torch.stack([self.z_text_in(z_text), self.time(t), self.z_in(z_t), query.to(text.dtype)], dim=1)
        x = torch.cat([text, last + self.last_position], dim=1)
        rows = torch.arange(length + 4, device=x.device)
        # Each position may read itself: a padded one with nothing to read would be NaN.
        readable = F.pad(mask, (0, 4), value=True)[:, None, :] & (rows[:, None] >= rows)
        readable = readable | (rows[:, None] == rows)
        for block in self.blocks:
            x = block(x, readable[:, None])
        normed: Tensor = self.norm(x)
        return normed

    def forward(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        out: Tensor = self.proj_out(self.states(z_t, t, cond)[:, -1])
        return out


def build_prior(config: PriorConfig) -> ResidualPrior | CausalPrior:
    """The prior of config.kind, as forward(z_t, t, cond)."""
    return CausalPrior(config) if config.kind == "causal" else ResidualPrior(config)


def kept(cond: PriorCond, null: Tensor) -> tuple[Tensor, Tensor]:
    """The mask (B, L), all False in dropped rows, and z_text (B, E) scaled to sqrt(E), `null` (E,) in dropped rows."""
    z_text = F.normalize(cond.pooled.float(), dim=-1) * cond.pooled.shape[-1] ** 0.5
    mask = cond.mask if cond.keep is None else cond.mask & cond.keep[:, None]
    return mask, keep_or(cond.keep, z_text, null.expand_as(z_text))
