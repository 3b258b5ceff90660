"""What reads token states for a network that draws: a few layers over the text, and learned queries that read those.

Shapes: B batch, L tokens, D width of the token states, W width of the reader, E time embedding, T context tokens, C
width of the context, M channels of a map of G x G cells.

A frozen language model says what stands in the text; where that is to be drawn is for the drawing network to learn.
Queries that read a sequence: Perceiver (Jaegle 2021, 2103.03206), Flamingo's resampler (Alayrac 2022, 2204.14198).
Imagen pools its text for the time embedding by attention as well (Saharia 2022, section 2.3 and appendix B).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.layers import TransformerBlock, attend, zero_init


@dataclass(frozen=True)
class Told:
    """What a drawing network hears of its condition, beside the text itself: vector (B, E) joins the time embedding,
    tokens (B, T, C) or None the context, map (B, M, G, G) or None the grids."""

    vector: Tensor
    tokens: Tensor | None = None
    map: Tensor | None = None


def hide(tokens: Tensor, mask: Tensor) -> Tensor:
    """Zeros where the mask is False: attention's weight of 0 would not stop a NaN."""
    return torch.where(mask[..., None], tokens, 0.0)


class TextReader(nn.Module):
    """read(tokens (B, L, D), mask (B, L)) -> states (B, 1 + L, W) after a few layers, and their mask.

    The null token is always there, first, so that a text of which nothing is kept has something to read.
    """

    def __init__(self, token_dim: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(token_dim)
        self.proj_in = nn.Linear(token_dim, width)
        self.null = nn.Parameter(torch.empty(1, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def read(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        x = self.proj_in(self.norm_in(hide(tokens, mask)))
        x = torch.cat([self.null.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        mask = F.pad(mask, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask


class QueryBlock(nn.Module):
    """Pre-norm attention of queries (B, Q, W) to themselves and to a text (B, L, W), and a GELU MLP."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv = nn.Linear(width, 3 * width)
        self.text_kv = nn.Linear(width, 2 * width)
        self.out = zero_init(nn.Linear(width, width))
        self.mlp = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), zero_init(nn.Linear(4 * width, width)))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor) -> Tensor:
        """mask (B, Q + L) bool, True where may be read."""
        q, k, v = self.qkv(self.norm1(x)).chunk(3, dim=-1)
        k_text, v_text = self.text_kv(text).chunk(2, dim=-1)
        x = x + self.out(attend(q, torch.cat([k, k_text], dim=1), torch.cat([v, v_text], dim=1), self.heads, mask))
        out: Tensor = x + self.mlp(self.norm2(x))
        return out


class QueryReader(TextReader):
    """forward(tokens (B, L, D), mask (B, L)) -> Told, and the text itself as context (B, 1 + L, C) with its mask."""

    def __init__(
        self, token_dim: int, width: int, heads: int, layers: int, query_layers: int,
        emb_dim: int, context_dim: int, tokens: int, grid: int, channels: int,
    ) -> None:  # fmt: skip
        super().__init__(token_dim, width, heads, layers)
        self.tokens, self.grid = tokens, grid
        self.queries = nn.Parameter(torch.empty(1 + tokens + grid**2, width).normal_(std=0.5))
        self.query_blocks = nn.ModuleList(QueryBlock(width, heads) for _ in range(query_layers))
        self.query_norm = nn.LayerNorm(width)
        self.vector_out = nn.Linear(width, emb_dim)
        self.text_out = nn.Linear(width, context_dim)
        if tokens:
            self.tokens_out = nn.Linear(width, context_dim)
        if grid:
            self.map_out = nn.Linear(width, channels)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[Told, Tensor, Tensor]:
        text, mask = self.read(tokens, mask)
        x = self.queries.to(text.dtype).expand(len(text), -1, -1)
        readable = F.pad(mask, (x.shape[1], 0), value=True)
        for block in self.query_blocks:
            x = block(x, text, readable)
        vector, context, cells = self.query_norm(x).split([1, self.tokens, self.grid**2], dim=1)
        told = Told(
            self.vector_out(vector[:, 0]),
            self.tokens_out(context) if self.tokens else None,
            self.map_out(cells).transpose(1, 2).unflatten(2, (self.grid, self.grid)) if self.grid else None,
        )
        return told, self.text_out(text), mask
