"""The prior: from text to the CLIP image embedding (DALL-E 2, section 2.2, 2204.06125).

Shapes: B batch, L tokens, D width of the token states, E embedding, W width of the network, S sequence.
All embeddings that are noised or predicted are scaled by sqrt(E): a unit vector then has coordinates of unit
variance, and the noise processes of pictures fit. z_text comes as CLIP gives it: the networks normalise it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.layers import NetConfig, TimeMLP, TransformerBlock, attend, check_choice, keep_or, zero_init
from t2i.nets.reader import TextReader, hide


@dataclass(frozen=True)
class PriorConfig(NetConfig):
    """kind "residual": AdaLN blocks on the embedding (MLPs of mlp_ratio * width), the text summarised by a
    small transformer (pool_*). skip: what is kept of z_t passes by the blocks, which matters where they are narrower
    than it. kind "causal": the paper's decoder-only transformer with `heads` heads; mlp_ratio, pool_* and skip are
    not used. kind "grid": nets/prior_grid.py, for an embedding of which `cells` numbers lie on each cell of a grid x
    grid map (ClipConfig.cell_dim); pool_layers read the text, skip is not used.
    """

    kind: str = "residual"
    embed_dim: int = 256
    token_dim: int = 256
    context: int = 40
    width: int = 384
    depth: int = 4
    mlp_ratio: float = 1.5
    heads: int = 6
    pool_width: int = 256
    pool_layers: int = 1
    pool_heads: int = 4
    skip: bool = False
    cells: int = 0
    grid: int = 8
    time_features: int = 128
    time_scale: float = 1000.0

    def __post_init__(self) -> None:
        check_choice("kind", self.kind, ("residual", "causal", "grid"))
        if self.kind == "grid" and not 0 < self.cells * self.grid**2 < self.embed_dim:
            raise InputError(
                f"embed_dim {self.embed_dim} is not more than cells times the cells of the grid",
                hint="Set cells and grid as CLIP's cell_dim and patches are.",
            )
        if self.width % self.heads or self.pool_width % self.pool_heads:
            raise InputError("a width is not divisible by its heads", hint="Change width/heads or the pool_* pair.")


@dataclass(frozen=True)
class PriorCond:
    """tokens (B, L, D), mask (B, L) bool, pooled (B, E) = z_text, keep (B,) bool or None (keep all).

    Where keep is False both tokens and pooled are replaced by what was learned for "no text".
    draws: the texts are those of a batch of draws * B embeddings, in this order, again and again.
    """

    tokens: Tensor
    mask: Tensor
    pooled: Tensor
    keep: Tensor | None = None
    draws: int = 1

    def spread(self) -> PriorCond:
        """The same with a row for each embedding."""
        if self.draws == 1:
            return self
        n, keep = self.draws, self.keep
        tokens, mask, pooled = self.tokens.repeat(n, 1, 1), self.mask.repeat(n, 1), self.pooled.repeat(n, 1)
        return PriorCond(tokens, mask, pooled, None if keep is None else keep.repeat(n))


class TextPool(TextReader):
    """forward(tokens (B, L, D), mask (B, L)) -> one vector (B, W): what a learned query finds in the states."""

    def __init__(self, config: PriorConfig) -> None:
        width = config.pool_width
        super().__init__(config.token_dim, width, config.pool_heads, config.pool_layers)
        self.heads = config.pool_heads
        self.query = nn.Parameter(torch.empty(1, width).normal_(std=1.0))
        self.kv = nn.Linear(width, 2 * width)

    def forward(self, tokens: Tensor, mask: Tensor) -> Tensor:
        states, mask = self.read(tokens, mask)
        k, v = self.kv(states).chunk(2, dim=-1)
        return attend(self.query.to(k.dtype).expand(len(k), 1, -1), k, v, self.heads, mask)[:, 0]


class AdaBlock(nn.Module):
    """Residual MLP whose norm is scaled, shifted and gated by the condition (AdaLN-zero, 2212.09748)."""

    def __init__(self, width: int, hidden: int) -> None:
        super().__init__()
        self.norm = nn.LayerNorm(width, elementwise_affine=False)
        self.ada = zero_init(nn.Linear(width, 3 * width))
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, cond: Tensor) -> Tensor:
        scale, shift, gate = self.ada(cond).chunk(3, dim=-1)
        out: Tensor = x + gate * self.mlp(torch.addcmul(shift, self.norm(x), 1 + scale))
        return out


class ResidualPrior(nn.Module):
    """forward(z_t (B, E), t (B,), cond) -> z0_hat (B, E), both scaled by sqrt(E); zeros when new."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.time = TimeMLP(c.time_features, c.width, c.time_scale)
        self.pool = TextPool(c)
        self.text = nn.Linear(c.pool_width, c.width)
        self.z_text = nn.Linear(c.embed_dim, c.width)
        self.null_z_text = nn.Parameter(torch.zeros(c.embed_dim))
        self.mix = nn.Sequential(nn.SiLU(), nn.Linear(c.width, c.width), nn.SiLU())
        self.proj_in = nn.Linear(2 * c.embed_dim, c.width)
        self.blocks = nn.ModuleList(AdaBlock(c.width, int(c.mlp_ratio * c.width)) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width)
        self.proj_out = zero_init(nn.Linear(c.width, c.embed_dim))
        if c.skip:
            self.skip = zero_init(nn.Linear(c.width, c.embed_dim))

    def forward(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        mask, z_text = kept(cond, self.null_z_text)
        said = self.z_text(z_text) + self.text(self.pool(cond.tokens, mask))
        h = self.mix(self.time(t) + said.repeat(cond.draws, 1))
        x = self.proj_in(torch.cat([z_t, z_text.to(z_t.dtype).repeat(cond.draws, 1)], dim=1))
        for block in self.blocks:
            x = block(x, h)
        out: Tensor = self.proj_out(self.norm(x))
        return out + self.skip(h) * z_t if self.config.skip else out


class CausalPrior(nn.Module):
    """The paper's decoder-only transformer with a causal mask over
    [text tokens, z_text, time, z_t, a learned query]; the last state predicts the embedding without noise.

    forward as `ResidualPrior`. Padding is never read, so a longer L changes nothing.
    """

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        c = self.config = config
        self.tokens_in = nn.Sequential(nn.LayerNorm(c.token_dim), nn.Linear(c.token_dim, c.width))
        self.z_text_in = nn.Linear(c.embed_dim, c.width)
        self.null_z_text = nn.Parameter(torch.zeros(c.embed_dim))
        self.time = TimeMLP(c.time_features, c.width, c.time_scale)
        self.z_in = nn.Linear(c.embed_dim, c.width)
        self.query = nn.Parameter(torch.empty(c.width).normal_(std=0.02))
        self.text_position = nn.Parameter(torch.empty(c.context, c.width).normal_(std=0.01))
        self.last_position = nn.Parameter(torch.empty(4, c.width).normal_(std=0.01))
        self.blocks = nn.ModuleList(TransformerBlock(c.width, c.heads) for _ in range(c.depth))
        self.norm = nn.LayerNorm(c.width)
        self.proj_out = zero_init(nn.Linear(c.width, c.embed_dim))

    def states(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        """All final states (B, L+4, W); the one at position i depends on positions up to i only."""
        cond = cond.spread()
        mask, z_text = kept(cond, self.null_z_text)
        length = cond.tokens.shape[1]
        assert length <= self.config.context, "more tokens than the context holds"
        text = self.tokens_in(hide(cond.tokens, mask)) + self.text_position[:length]
        query = self.query.expand(z_t.shape[0], -1)
        last = torch.stack([self.z_text_in(z_text), self.time(t), self.z_in(z_t), query.to(text.dtype)], dim=1)
        x = torch.cat([text, last + self.last_position], dim=1)
        rows = torch.arange(length + 4, device=x.device)
        # itself is always readable: a padded position with nothing to read would be NaN
        readable = F.pad(mask, (0, 4), value=True)[:, None, :] & (rows[:, None] >= rows)
        readable = readable | (rows[:, None] == rows)
        for block in self.blocks:
            x = block(x, readable[:, None])
        normed: Tensor = self.norm(x)
        return normed

    def forward(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        out: Tensor = self.proj_out(self.states(z_t, t, cond)[:, -1])
        return out


def build_prior(config: PriorConfig) -> nn.Module:
    """The prior of config.kind, as forward(z_t, t, cond)."""
    from t2i.nets.prior_grid import GridPrior

    kinds: dict[str, type[nn.Module]] = {"causal": CausalPrior, "grid": GridPrior, "residual": ResidualPrior}
    return kinds[config.kind](config)


def kept(cond: PriorCond, null: Tensor) -> tuple[Tensor, Tensor]:
    """-> the mask with dropped rows all False, and z_text (B, E) scaled by sqrt(E) or its null."""
    z_text = F.normalize(cond.pooled.float(), dim=-1) * cond.pooled.shape[-1] ** 0.5
    mask = cond.mask if cond.keep is None else cond.mask & cond.keep[:, None]
    return mask, keep_or(cond.keep, z_text, null.expand_as(z_text))
