"""DALL·E's transformer: one autoregressive model of a text's tokens followed by a picture's (Ramesh 2021, arXiv
2102.12092, section 2.2 and appendix B).

A picture is G x G tokens of a VAE in raster order. A text fills T places; each place has its own padding token. What
stands in the picture reads the whole text, and of the picture before it what the layer's attention allows:

row      the last G + 1 tokens, up to the one above its own (figure 11 a)
column   the tokens of its own column (figure 11 b)
conv     the causal half of a square of `kernel` tokens around its own, wrapped at the edges (figure 11 d)
full     everything before it

Shapes: B batch, T text tokens, G image tokens a side, N = T + G*G positions, V and K vocabularies of text and picture,
W width.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from t2i.nets.config import Depth, Entries, Heads, NetConfig, Width
from t2i.nets.layers import KeyValues, TransformerBlock
from t2i.nets.linear import Linear
from t2i.schema import Between

PAD = 0
"""The id of the tokenizer's padding, in whose place each position puts a token of its own."""


@dataclass(frozen=True)
class DalleConfig(NetConfig):
    """vocab: V; context: T; codes: K; grid: G.

    attention "sparse" is the paper's: layers read rows, a column, rows, rows, and so on, and the last one reads a
    square of `kernel` tokens. Raises InputError for a width that is no multiple of heads, or an even kernel.
    """

    vocab: Entries = 4096
    context: Annotated[int, Between(2, 1024)] = 40
    codes: Entries = 512
    grid: Annotated[int, Between(1, 64)] = 8
    width: Width = 256
    layers: Depth = 6
    heads: Heads = 4
    attention: Literal["full", "sparse"] = "full"
    kernel: Annotated[int, Between(1, 63)] = 11

    def __post_init__(self) -> None:
        self.require(self.width % self.heads == 0, "width is no multiple of heads", "Change one of them.")
        self.require(self.kernel % 2 == 1, f"kernel is {self.kernel}", "It must be odd.")

    @property
    def image_tokens(self) -> int:
        """Tokens of a picture, G * G."""
        return self.grid**2

    @property
    def pattern(self) -> tuple[str, ...]:
        """What each layer reads of the picture."""
        if self.attention == "full":
            return ("full",) * self.layers
        rows = ["column" if i % 4 == 1 else "row" for i in range(self.layers)]
        return (*rows[:-1], "conv") if rows else ()


@cache
def attention_mask(pattern: str, context: int, grid: int, kernel: int) -> Tensor:
    """(N, N) bool: whether position i (row) reads position j (column). pattern: as at the top of this file."""
    n = context + grid**2
    i, j = torch.arange(n)[:, None], torch.arange(n)[None, :]
    behind = i - j
    if pattern == "row":
        near = behind <= grid
    elif pattern == "column":
        near = behind % grid == 0
    elif pattern == "conv":
        half = kernel // 2
        square = [row * grid + column for row in range(half + 1) for column in range(-half, half + 1)]
        near = torch.isin(behind, torch.tensor(square))
    else:
        near = torch.ones_like(behind, dtype=torch.bool)
    return (behind >= 0) & ((j < context) | near)


class DalleTransformer(nn.Module):
    """forward(text (B, T), image (B, G*G)) -> logits of both, for training; `start` and `step` draw a picture."""

    def __init__(self, config: DalleConfig) -> None:
        super().__init__()
        c = self.config = config
        self.text_embedding = nn.Embedding(c.vocab, c.width)
        self.image_embedding = nn.Embedding(c.codes, c.width)
        self.pad_embedding = nn.Parameter(torch.empty(c.context, c.width).normal_(std=0.02))
        self.text_position_embedding = nn.Parameter(torch.empty(c.context, c.width).normal_(std=0.02))
        self.row_embedding = nn.Parameter(torch.empty(c.grid, c.width).normal_(std=0.02))
        self.column_embedding = nn.Parameter(torch.empty(c.grid, c.width).normal_(std=0.02))
        self.blocks = nn.ModuleList(TransformerBlock(c.width, c.heads) for _ in range(c.layers))
        self.norm = nn.LayerNorm(c.width)
        # Where a token stands says whether it is text or picture: two heads are one softmax with the other half masked.
        self.logit_text, self.logit_image = Linear(c.width, c.vocab), Linear(c.width, c.codes)
        for embedding in (self.text_embedding, self.image_embedding):
            nn.init.normal_(embedding.weight, std=0.02)

    def forward(self, text: Tensor, image: Tensor) -> tuple[Tensor, Tensor]:
        """text (B, T) ids, image (B, G*G) tokens, int64 -> logits (M, V) of the M text tokens that are neither the
        first nor padding, row after row, and (B, G*G, K) of the image tokens, each from what stands before it."""
        x = torch.cat([self.embed_text(text), self.embed_image(image[:, :-1], 0)], dim=1)
        states, t = self._run(x, 0, None), self.config.context
        return self.logit_text(states[:, : t - 1][text[:, 1:] != PAD]), self.logit_image(states[:, t - 1 :])

    def caches(self, rows: int) -> list[KeyValues]:
        """Empty memories of the layers, for so many pictures."""
        c = self.config
        like = self.row_embedding.new_empty(rows, c.context + c.image_tokens, c.width)
        return [KeyValues(torch.empty_like(like), torch.empty_like(like)) for _ in range(c.layers)]

    def start(self, text: Tensor, caches: list[KeyValues]) -> Tensor:
        """text (B, T) ids -> logits (B, K) of the first image token. The caches are filled."""
        return self._last(self._run(self.embed_text(text), 0, caches))

    def step(self, token: Tensor, index: int, caches: list[KeyValues]) -> Tensor:
        """token (B,): the image token number `index`, from 0 -> logits (B, K) of the next one."""
        x = self.embed_image(token[:, None], index)
        return self._last(self._run(x, self.config.context + index, caches))

    def embed_text(self, ids: Tensor) -> Tensor:
        """(B, T) -> (B, T, W)."""
        assert ids.shape[1] == self.config.context, "a text fills the whole context, with padding"
        x = torch.where((ids == PAD)[..., None], self.pad_embedding, self.text_embedding(ids))
        return x + self.text_position_embedding

    def embed_image(self, tokens: Tensor, first: int) -> Tensor:
        """Tokens (B, n), the picture's number `first` and those after it -> (B, n, W)."""
        place = torch.arange(first, first + tokens.shape[1], device=tokens.device)
        where = self.row_embedding[place // self.config.grid] + self.column_embedding[place % self.config.grid]
        out: Tensor = self.image_embedding(tokens) + where
        return out

    def _run(self, x: Tensor, first: int, caches: list[KeyValues] | None) -> Tensor:
        """x (B, n, W), the positions from `first` on -> their last states (B, n, W)."""
        c, last = self.config, first + x.shape[1]
        for i, (block, pattern) in enumerate(zip(self.blocks, c.pattern, strict=True)):
            mask = attention_mask(pattern, c.context, c.grid, c.kernel).to(x.device)[first:last, :last]
            x = block(x, mask[None, None], past=None if caches is None else caches[i])
        out: Tensor = self.norm(x)
        return out

    def _last(self, states: Tensor) -> Tensor:
        out: Tensor = self.logit_image(states[:, -1])
        return out.float()
