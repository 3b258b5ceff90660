"""What the U-Net is conditioned on, made into what its blocks read.

The image embedding becomes a vector and extra context tokens (DALL-E 2: Ramesh 2022, arXiv 2204.06125, section 2.1),
here also a map. The text becomes context, and its mean may join the time embedding (Imagen: Saharia 2022, arXiv
2205.11487, section 2.3). Where a `QueryReader` is configured, it makes all of these from the text.

Shapes: B batch, L text tokens, D their width, Z image embedding, E time embedding, T context tokens of width C,
M channels of a map of G x G cells.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.nets.layers import TimeMLP, hide, keep_or, masked_mean
from t2i.nets.linear import Linear
from t2i.nets.reader import CondFeatures, QueryReader
from t2i.nets.unet_config import UNetConfig


@dataclass(frozen=True)
class UNetCond:
    """The condition of B pictures; None stands for the learned null.

    z (B, Z) of about unit norm; tokens (B, L, D) with mask (B, L) bool, False at padding, None to read all.
    z_keep, tokens_keep (B,) bool: where False the null takes the place of the embedding, or of the text.
    """

    z: Tensor | None = None
    z_keep: Tensor | None = None
    tokens: Tensor | None = None
    mask: Tensor | None = None
    tokens_keep: Tensor | None = None


class Conditioner(nn.Module):
    """forward(t (B,), cond) -> embedding (B, E), context (B, T, C), its mask (B, T), map (B, M, G, G).

    The last three are None where the config has no such condition; a mask of None means that all may be read.
    """

    def __init__(self, config: UNetConfig) -> None:
        super().__init__()
        c, emb, dim = config, config.emb_dim, config.context_dim
        self.config = config
        self.time = TimeMLP(c.time_features, emb, c.time_scale)
        if c.cond_dim:
            self.null_z = nn.Parameter(torch.zeros(c.cond_dim))
            self.z_emb = nn.Sequential(Linear(c.head_z, emb), nn.SiLU(), Linear(emb, emb))
            if c.z_tokens:
                self.z_context = Linear(c.head_z, c.z_tokens * dim)
            if c.has_map:
                self.z_map = Linear(c.head_z, c.z_channels * c.z_grid**2)  # its bias is a position code
                if c.z_cells:
                    self.z_cells = nn.Conv2d(c.z_cells, c.z_channels, 3, padding=1)
        if c.reader_layers:
            self.reader = QueryReader(
                c.text_dim, c.reader_width, c.reader_heads, c.reader_layers, c.query_layers,
                emb, dim, c.z_tokens, c.z_grid, c.z_channels,
            )  # fmt: skip
        elif c.text_dim:
            self.text_in = nn.Sequential(nn.LayerNorm(c.text_dim), Linear(c.text_dim, dim))
            self.null_text = nn.Parameter(torch.empty(1, dim).normal_(std=0.02))
        if c.text_dim and c.text_pool:
            self.text_emb = nn.Sequential(nn.LayerNorm(dim), Linear(dim, emb))
        if c.has_context:
            self.context_norm = nn.LayerNorm(dim)

    def forward(self, t: Tensor, cond: UNetCond) -> tuple[Tensor, Tensor | None, Tensor | None, Tensor | None]:
        c, batch = self.config, t.shape[0]
        emb = self.time(t)
        features, text, mask = self.image_features(cond, batch) if c.cond_dim else None, None, None
        if c.reader_layers:
            features, text, mask = self.reader(*self.text_states(cond, batch))
        elif c.text_dim:
            text, mask = self.text_context(cond, batch)
            if c.text_pool:
                emb = emb + self.text_emb(masked_mean(text, mask))
        if features is not None:
            emb = emb + features.vector
        z_map = None if features is None else features.map
        parts = [p for p in (None if features is None else features.tokens, text) if p is not None]
        if not parts:
            return emb, None, None, z_map
        context = self.context_norm(torch.cat([p.to(parts[0].dtype) for p in parts], dim=1))
        if mask is not None:  # the tokens of the image embedding come first and are always read
            mask = F.pad(mask, (context.shape[1] - mask.shape[1], 0), value=True)
        return emb, context, mask, z_map

    def image_features(self, cond: UNetCond, batch: int) -> CondFeatures:
        """What the image embedding, or its null, becomes; for a config with cond_dim."""
        c = self.config
        z = self.scaled_z(cond, batch)
        head, cells = z[:, : c.head_z], z[:, c.head_z :]
        tokens = self.z_context(head).unflatten(1, (c.z_tokens, -1)) if c.z_tokens else None
        if not c.has_map:
            return CondFeatures(self.z_emb(head), tokens)
        z_map: Tensor = self.z_map(head).unflatten(1, (c.z_channels, c.z_grid, c.z_grid))
        if c.z_cells:
            z_map = z_map + self.z_cells(cells.unflatten(1, (c.z_cells, c.z_grid, c.z_grid)))
        return CondFeatures(self.z_emb(head), tokens, z_map)

    def scaled_z(self, cond: UNetCond, batch: int) -> Tensor:
        """The image embedding (B, Z) times sqrt(Z), of unit variance per coordinate, or the null."""
        null = self.null_z.expand(batch, -1)
        return null if cond.z is None else keep_or(cond.z_keep, cond.z * self.config.cond_dim**0.5, null)

    def text_states(self, cond: UNetCond, batch: int) -> tuple[Tensor, Tensor]:
        """Token states (B, L, D) and their mask (B, L), all False in dropped rows; without a text one masked token."""
        tokens, mask = cond.tokens, cond.mask
        if tokens is None:
            tokens = next(self.parameters()).new_zeros(batch, 1, self.config.text_dim)
            mask = torch.zeros(batch, 1, dtype=torch.bool, device=tokens.device)
        if mask is None:
            mask = torch.ones(tokens.shape[:2], dtype=torch.bool, device=tokens.device)
        return tokens, mask if cond.tokens_keep is None else mask & cond.tokens_keep[:, None]

    def text_context(self, cond: UNetCond, batch: int) -> tuple[Tensor, Tensor]:
        """The text as context (B, 1+L, C) and its mask (B, 1+L).

        The null token comes first and is read only in rows where no other token is.
        """
        null = self.null_text.expand(batch, 1, -1)
        if cond.tokens is None:
            return null, torch.ones(batch, 1, dtype=torch.bool, device=null.device)
        states, mask = self.text_states(cond, batch)
        tokens = self.text_in(hide(states, mask))
        empty = ~mask.any(dim=1, keepdim=True)
        return torch.cat([null.to(tokens.dtype), tokens], dim=1), torch.cat([empty, mask], dim=1)
