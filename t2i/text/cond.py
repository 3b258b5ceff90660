"""TextCond: what every text encoder returns, and all that a stage knows of a prompt.

Shapes: B batch, L tokens, D width of a token's state, E width of the pooled vector.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TextCond:
    """An encoded batch of prompts.

    tokens (B, L, D): float token states; mask (B, L): bool, False at padding; pooled (B, E): one vector a prompt,
    CLIP's text embedding or the mean state of a language model.
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    pooled: torch.Tensor

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    def to(self, *args: object, **kwargs: object) -> TextCond:
        """As `Tensor.to`; the mask changes device only, and stays bool."""
        tokens = self.tokens.to(*args, **kwargs)  # type: ignore[call-overload]
        pooled = self.pooled.to(*args, **kwargs)  # type: ignore[call-overload]
        return TextCond(tokens, self.mask.to(tokens.device), pooled)

    def select(self, index: torch.Tensor | slice | list[int]) -> TextCond:
        """The rows `index` of the batch, in that order; a row may be named twice."""
        return TextCond(self.tokens[index], self.mask[index], self.pooled[index])

    def repeat(self, n: int) -> TextCond:
        """Each row n times, one after another: (B, ...) -> (B * n, ...)."""
        return TextCond(*(v.repeat_interleave(n, 0) for v in (self.tokens, self.mask, self.pooled)))


def pad(rows: Sequence[torch.Tensor], length: int, value: float = 0) -> tuple[torch.Tensor, torch.Tensor]:
    """Rows (l_i, ...), each of at most `length`, as one tensor (B, length, ...) filled up with `value`, and its mask.

    The mask (B, length) is False at the filled-up places. There must be at least one row.
    """
    import torch

    padded = rows[0].new_full((len(rows), length, *rows[0].shape[1:]), value)
    mask = torch.zeros(len(rows), length, dtype=torch.bool)
    for i, row in enumerate(rows):
        padded[i, : len(row)] = row
        mask[i, : len(row)] = True
    return padded, mask
