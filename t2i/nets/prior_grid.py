"""A prior for embeddings of which a part lies on a grid: a transformer over its cells that reads the text.

Shapes as in nets/prior.py; G cells of C numbers each are the last G*C numbers of the embedding, channels first; the
E - G*C before them, the head, are one token more. Every layer of the cells looks at all of them and at the text, so
what was learned of a thing in one place serves it in every other. AdaLN by one projection for all layers:
PixArt-alpha (2310.00426).
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.layers import TimeMLP, attend, zero_init
from t2i.nets.prior import PriorCond, PriorConfig, kept
from t2i.nets.reader import TextReader


class GridBlock(nn.Module):
    """Attention over the cells and the text, then an MLP; each scaled, shifted and gated by the condition."""

    def __init__(self, width: int, heads: int, mlp_ratio: float) -> None:
        super().__init__()
        self.heads = heads
        hidden = int(mlp_ratio * width)
        self.norm1, self.norm2 = (nn.LayerNorm(width, elementwise_affine=False) for _ in range(2))
        self.own = nn.Parameter(torch.zeros(6 * width))  # what this layer adds to the shared modulation
        self.qkv = nn.Linear(width, 3 * width)
        self.text_kv = nn.Linear(width, 2 * width)
        self.out = nn.Linear(width, width)
        self.mlp = nn.Sequential(nn.Linear(width, hidden), nn.GELU(), nn.Linear(hidden, width))

    def forward(self, x: Tensor, text: Tensor, mask: Tensor, ada: Tensor) -> Tensor:
        """x (B, 1+G, W), text (B, T, W), mask (B, 1+G+T) bool, ada (B, 6W) -> (B, 1+G, W)"""
        s1, b1, g1, s2, b2, g2 = (ada + self.own)[:, None].chunk(6, dim=-1)
        q, k, v = self.qkv(torch.addcmul(b1, self.norm1(x), 1 + s1)).chunk(3, dim=-1)
        k_text, v_text = self.text_kv(text).chunk(2, dim=-1)
        read = attend(q, torch.cat([k, k_text], dim=1), torch.cat([v, v_text], dim=1), self.heads, mask)
        x = x + g1 * self.out(read)
        out: Tensor = x + g2 * self.mlp(torch.addcmul(b2, self.norm2(x), 1 + s2))
        return out


class GridPrior(nn.Module):
    """forward(z_t (B, E), t (B,), cond) -> z0_hat (B, E), both scaled by sqrt(E); zeros when new."""

    def __init__(self, config: PriorConfig) -> None:
        super().__init__()
        c = self.config = config
        width = c.width
        self.head = c.embed_dim - c.cells * c.grid**2
        self.time = TimeMLP(c.time_features, width, c.time_scale)
        self.z_text = nn.Linear(c.embed_dim, width)
        self.null_z_text = nn.Parameter(torch.zeros(c.embed_dim))
        self.ada = nn.Sequential(nn.SiLU(), zero_init(nn.Linear(width, 6 * width)))
        self.text = TextReader(c.token_dim, width, c.heads, c.pool_layers)
        self.head_in, self.cells_in = nn.Linear(self.head, width), nn.Linear(c.cells, width)
        self.position = nn.Parameter(torch.empty(1 + c.grid**2, width).normal_(std=0.5))
        self.blocks = nn.ModuleList(GridBlock(width, c.heads, c.mlp_ratio) for _ in range(c.depth))
        self.norm = nn.LayerNorm(width)
        self.head_out, self.cells_out = zero_init(nn.Linear(width, self.head)), zero_init(nn.Linear(width, c.cells))

    def forward(self, z_t: Tensor, t: Tensor, cond: PriorCond) -> Tensor:
        c, cond = self.config, cond.spread()
        mask, z_text = kept(cond, self.null_z_text)
        ada = self.ada(self.time(t) + self.z_text(z_text))
        text, mask = self.text.read(cond.tokens, mask)
        cells = z_t[:, self.head :].unflatten(1, (c.cells, -1)).transpose(1, 2)  # (B, G, C)
        x = torch.cat([self.head_in(z_t[:, None, : self.head]), self.cells_in(cells)], dim=1) + self.position
        readable = F.pad(mask, (x.shape[1], 0), value=True)
        for block in self.blocks:
            x = block(x, text, readable, ada)
        x = self.norm(x)
        out = self.cells_out(x[:, 1:]).transpose(1, 2).flatten(1)
        return torch.cat([self.head_out(x[:, 0]), out], dim=1)
