"""Transformers that read token states: TextReader adds layers over the text, QueryReader also learned queries.

A frozen text encoder says what the prompt holds. Where things are to be drawn is for the drawing network to learn, and
a reader gives it layers to do so. Queries that attend to a sequence: Perceiver (Jaegle 2021, arXiv 2103.03206), the
resampler of Flamingo (Alayrac 2022, arXiv 2204.14198). Imagen also pools its text for the time embedding by attention
(Saharia 2022, arXiv 2205.11487, section 2.3 and appendix B).

Shapes: B batch, L text tokens, D width of their states, W width of the reader, E time embedding, Q queries,
T context tokens of width C, M channels of a map of G x G cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.layers import TransformerBlock, hide
from t2i.nets.linear import Linear


@dataclass(frozen=True)
class CondFeatures:
    """What a condition becomes before the U-Net reads it, beside the text tokens themselves.

    vector (B, E) is added to the time embedding; tokens (B, T, C), or None, join the context of the cross-attention;
    map (B, M, G, G), or None, is added to the feature maps.
    """

    vector: Tensor
    tokens: Tensor | None = None
    map: Tensor | None = None


class TextReader(nn.Module):
    """A few transformer layers over the token states of a text.

    A learned null token comes first and may always be read, so that a dropped text still leaves something to attend to.
    """

    def __init__(self, token_dim: int, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.norm_in = nn.LayerNorm(token_dim)
        self.proj_in = Linear(token_dim, width)
        self.null = nn.Parameter(torch.empty(1, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(TransformerBlock(width, heads) for _ in range(layers))
        self.norm = nn.LayerNorm(width)

    def read(self, tokens: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """tokens (B, L, D), mask (B, L) bool, False at padding -> states (B, 1+L, W) and their mask (B, 1+L)."""
        x = self.proj_in(self.norm_in(hide(tokens, mask)))
        x = torch.cat([self.null.to(x.dtype).expand(len(x), 1, -1), x], dim=1)
        mask = F.pad(mask, (1, 0), value=True)
        for block in self.blocks:
            x = block(x, mask)
        return self.norm(x), mask


class QueryReader(TextReader):
    """Turns a text into what an image embedding would become: one query for the vector, one for each token and cell.

    forward(tokens (B, L, D), mask (B, L)) -> CondFeatures, the text as context (B, 1+L, C), and its mask (B, 1+L).
    tokens: T, or 0 for none; grid: G, or 0 for no map; channels: M.
    """

    def __init__(
        self, token_dim: int, width: int, heads: int, layers: int, query_layers: int,
        emb_dim: int, context_dim: int, tokens: int, grid: int, channels: int,
    ) -> None:  # fmt: skip
        super().__init__(token_dim, width, heads, layers)
        self.tokens, self.grid = tokens, grid
        self.queries = nn.Parameter(torch.empty(1 + tokens + grid**2, width).normal_(std=0.5))
        self.query_blocks = nn.ModuleList(TransformerBlock(width, heads, cross=True) for _ in range(query_layers))
        self.query_norm = nn.LayerNorm(width)
        self.vector_out = Linear(width, emb_dim)
        self.text_out = Linear(width, context_dim)
        if tokens:
            self.tokens_out = Linear(width, context_dim)
        if grid:
            self.map_out = Linear(width, channels)

    def forward(self, tokens: Tensor, mask: Tensor) -> tuple[CondFeatures, Tensor, Tensor]:
        text, mask = self.read(tokens, mask)
        x = self.queries.to(text.dtype).expand(len(text), -1, -1)
        readable = F.pad(mask, (x.shape[1], 0), value=True)  # queries read one another, then the text
        for block in self.query_blocks:
            x = block(x, readable, text)
        vector, context, cells = self.query_norm(x).split([1, self.tokens, self.grid**2], dim=1)
        features = CondFeatures(
            self.vector_out(vector[:, 0]),
            self.tokens_out(context) if self.tokens else None,
            self.map_out(cells).transpose(1, 2).unflatten(2, (self.grid, self.grid)) if self.grid else None,
        )
        return features, self.text_out(text), mask
