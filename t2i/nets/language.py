"""A small bidirectional language model: what Imagen's frozen T5 is there, in the size of these bundles.

Shapes: B batch, L tokens, W width, V vocabulary. It has read captions and nothing else: in training a share of the
tokens is hidden and has to be guessed from both sides (BERT: Devlin 2018, arXiv 1810.04805); for drawing, its states
are read (Imagen, section 2.1, 2205.11487).
"""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2i.errors import InputError
from t2i.nets.clip import TextOut
from t2i.nets.layers import NetConfig, attend

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


class LanguageBlock(nn.Module):
    """Pre-norm attention and GELU MLP of four times the width; x (B, L, W), mask (B, L) -> (B, L, W)."""

    def __init__(self, width: int, heads: int, layers: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            OrderedDict(c_fc=nn.Linear(width, 4 * width), gelu=nn.GELU(), c_proj=nn.Linear(4 * width, width))
        )
        for linear, std in (
            (self.qkv, width**-0.5),
            (self.out, (2 * layers * width) ** -0.5),
            (self.mlp.c_fc, (2 * width) ** -0.5),
            (self.mlp.c_proj, (2 * layers * width) ** -0.5),
        ):
            assert isinstance(linear, nn.Linear)
            nn.init.normal_(linear.weight, std=std)
            nn.init.zeros_(linear.bias)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        q, k, v = self.qkv(self.ln_1(x)).chunk(3, dim=-1)
        x = x + self.out(attend(q, k, v, self.heads, mask))
        out: Tensor = x + self.mlp(self.ln_2(x))
        return out


class LanguageModel(nn.Module):
    """encode_text(ids) -> states; guess(states) -> the logits of the tokens that stood there."""

    def __init__(self, config: LanguageConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.token_embedding = nn.Embedding(config.vocab, width)
        self.positional_embedding = nn.Parameter(torch.empty(config.context, width).normal_(std=0.02))
        self.blocks = nn.ModuleList(LanguageBlock(width, config.heads, config.layers) for _ in range(config.layers))
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


def read_mask(ids: Tensor) -> Tensor:
    """(B, L) bool: True up to and with the end of the text, the highest id of each row."""
    return torch.arange(ids.shape[1], device=ids.device) <= ids.argmax(dim=-1)[:, None]


def masked_mean(tokens: Tensor, mask: Tensor) -> Tensor:
    """The mean (B, W) of the states (B, L, W) where the mask (B, L) is True."""
    weight = mask[..., None].to(tokens.dtype)
    return (tokens * weight).sum(1) / weight.sum(1).clamp_min(1)
