"""TextCond: what every text encoder returns, and all that a stage sees of a prompt."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class TextCond:
    """An encoded batch of prompts.

    tokens: (B, L, D) float token states; mask: (B, L) bool, True at real tokens;
    pooled: (B, E) one vector a prompt (CLIP: the text embedding; a language model: the masked mean).
    """

    tokens: torch.Tensor
    mask: torch.Tensor
    pooled: torch.Tensor

    def __len__(self) -> int:
        return int(self.tokens.shape[0])

    def to(self, *args: object, **kwargs: object) -> TextCond:
        """As `Tensor.to`, but the mask stays bool."""
        tokens = self.tokens.to(*args, **kwargs)  # type: ignore[call-overload]
        pooled = self.pooled.to(*args, **kwargs)  # type: ignore[call-overload]
        return TextCond(tokens, self.mask.to(tokens.device), pooled)

    def select(self, index: torch.Tensor | slice | list[int]) -> TextCond:
        """The rows `index` of the batch, in that order; an index may repeat."""
        return TextCond(self.tokens[index], self.mask[index], self.pooled[index])

    def repeat(self, n: int) -> TextCond:
        """Each prompt n times in a row: (B, ...) -> (B*n, ...)."""
        return TextCond(*(v.repeat_interleave(n, 0) for v in (self.tokens, self.mask, self.pooled)))
