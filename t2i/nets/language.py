"""A small bidirectional language model, in the place of Imagen's frozen T5 (Saharia 2022, arXiv 2205.11487, 2.1).

It is trained on captions alone, as a masked language model (BERT: Devlin 2018, arXiv 1810.04805). The base and the
upsamplers then read its frozen states.
Shapes: B batch, L tokens, W width, V vocabulary.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.clip import TextOut, read_mask
from t2i.nets.config import Depth, Entries, Heads, NetConfig, Tokens, Width
from t2i.nets.layers import TransformerBlock, masked_mean

HIDDEN = 0
"""The id of a masked token: that of the tokenizer's padding, which is never read otherwise."""


@dataclass(frozen=True)
class LanguageConfig(NetConfig):
    """context: most tokens of a text, with start and end; vocab: entries of the tokenizer.

    Raises InputError for a size below 1 or a width that is no multiple of heads.
    """

    width: Width = 256
    layers: Depth = 4
    heads: Heads = 4
    context: Tokens = 40
    vocab: Entries = 4096

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads) < 1 or self.width % self.heads:
            what = f"width {self.width}, layers {self.layers}, heads {self.heads}"
            raise InputError(what, hint="All are at least 1, and width is a multiple of heads.")


class LanguageModel(nn.Module):
    """encode_text(ids) -> TextOut, to be read by other networks; guess(states) -> logits, for its training."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(TransformerBlock(width, config.heads) for _ in range(config.layers))
        self.ln_final = nn.LayerNorm(width)
        # The output layer is tied to the token embedding: one of its own would double the weights.
        self.logit_bias = nn.Parameter(torch.zeros(config.vocab))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, L) int64, mask (B, L) bool, False at padding -> states (B, L, W)."""
        assert ids.shape[1] <= self.config.context, "more tokens than the context holds"
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.ln_final(x)
        return out

    def encode_text(self, ids: Tensor) -> TextOut:
        """ids (B, L) int64, the end of text the highest id of each row -> TextOut; pooled is the mean state (B, W)."""
        mask = read_mask(ids)
        tokens = self(ids, mask)
        return TextOut(masked_mean(tokens, mask), tokens, mask)

    def guess(self, states: Tensor) -> Tensor:
        """States (..., W) -> logits of the tokens (..., V)."""
        return F.linear(states, self.token_embedding.weight, self.logit_bias)
