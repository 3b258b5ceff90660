"""A small bidirectional language model: what Imagen's frozen T5 is there, in the size of these bundles.

Shapes: B batch, L tokens, W width, V vocabulary. It has read captions and nothing else: in training a share of the
tokens is hidden and has to be guessed from both sides (BERT: Devlin 2018, arXiv 1810.04805); for drawing, its states
are read (Imagen, section 2.1, 2205.11487).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.clip import TextOut, read_mask
from t2i.nets.layers import NetConfig, TransformerBlock

HIDDEN = 0
"""The id in the place of a hidden token: the tokenizer's padding, which is never read otherwise."""


@dataclass(frozen=True)
class LanguageConfig(NetConfig):
    """Sizes. context: the most tokens of a text, start and end with them; vocab: that of the tokenizer."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    context: int = 40
    vocab: int = 4096

    def __post_init__(self) -> None:
        if min(self.width, self.layers, self.heads) < 1 or self.width % self.heads:
            what = f"width {self.width}, layers {self.layers}, heads {self.heads}"
            raise InputError(what, hint="All are at least 1, and width is a multiple of heads.")


class LanguageModel(nn.Module):
    """encode_text(ids) -> states; guess(states) -> the logits of the tokens that stood there."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(TransformerBlock(width, config.heads) for _ in range(config.layers))
        self.ln_final = nn.LayerNorm(width)
        # tied to the embedding that it reads with: a vocabulary of its own would double the weights
        self.logit_bias = nn.Parameter(torch.zeros(config.vocab))
        nn.init.normal_(self.token_embedding.weight, std=0.02)

    def forward(self, ids: Tensor, mask: Tensor) -> Tensor:
        """ids (B, L) int64, mask (B, L) bool, True at the text's own places -> states (B, L, W)."""
        assert ids.shape[1] <= self.config.context, "more tokens than the context holds"
        x = self.token_embedding(ids) + self.positional_embedding[: ids.shape[1]]
        for block in self.blocks:
            x = block(x, mask)
        out: Tensor = self.ln_final(x)
        return out

    def encode_text(self, ids: Tensor) -> TextOut:
        """ids (B, L) int64, the end the highest id of each row -> states, mask, and as pooled their mean (B, W)."""
        mask = read_mask(ids)
        tokens = self(ids, mask)
        return TextOut(masked_mean(tokens, mask), tokens, mask)

    def guess(self, states: Tensor) -> Tensor:
        """(..., W) -> (..., V): the logits of the tokens, by the embedding that they are read with."""
        return F.linear(states, self.token_embedding.weight, self.logit_bias)


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, W) of the states (B, L, W) where the mask (B, L) is True."""
    weight = mask[..., None].to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)
