"""Text encoders by one protocol: what reads a prompt, whichever network it is.

NetEncoder     a network of ours with our tokenizer: CLIP's text tower, or the text-only language model
T5Encoder      text/t5.py: T5 of any size, by the library transformers
CachedEncoder  text/cache.py: another encoder whose results are kept on disk
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol

from t2i.text.cond import TextCond

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.text.tokenizer import Tokenizer


class TextEncoder(Protocol):
    """Frozen: equal prompts give equal states, whatever else is encoded beside them, up to the order of sums."""

    @property
    def width(self) -> int:
        """D, of a token's state."""

    @property
    def pooled_width(self) -> int:
        """E, of a prompt's one vector."""

    @property
    def context(self) -> int:
        """L, the most tokens that are read of a prompt."""

    @property
    def fingerprint(self) -> str:
        """A name for exactly these weights and this tokenizer."""

    def encode(self, prompts: Sequence[str], tight: bool = False) -> tuple[TextCond, list[str | None]]:
        """The prompts encoded, tokens (B, L, D), and of each the part that did not fit, or None. With `tight` L is
        that of the longest of these prompts instead of the context."""


class TextNet(Protocol):
    """A network of ours that reads token ids: (B, L) -> an object with pooled (B, E), tokens (B, L, D), mask (B, L)."""

    config: Any

    def encode_text(self, ids: Tensor) -> Any: ...
    def parameters(self) -> Iterator[Tensor]: ...
    def state_dict(self) -> Mapping[str, Tensor]: ...


class NetEncoder:
    """A network of ours and its tokenizer."""

    def __init__(self, net: TextNet, tokenizer: Tokenizer, width: int, pooled_width: int) -> None:
        self.net, self.tokenizer = net, tokenizer
        self.width, self.pooled_width = width, pooled_width

    @property
    def context(self) -> int:
        """The most tokens that are read of a prompt, start and end with them."""
        return int(self.net.config.context)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the weights that read and of the tokenizer."""
        read = {k: t for k, t in self.net.state_dict().items() if not k.startswith("visual.")}
        return weights_digest(read, self.tokenizer.backend.to_str())

    def encode(self, prompts: Sequence[str], tight: bool = False) -> tuple[TextCond, list[str | None]]:
        """As in the protocol."""
        import torch

        ids, cut = self.tokenizer.encode(prompts, self.context)
        if tight:
            ids = ids[:, : int(ids.argmax(1).max()) + 1]  # the end of the text is the highest id
        device = next(self.net.parameters()).device
        with torch.no_grad():
            out = self.net.encode_text(ids.to(device))
        return TextCond(out.tokens.float(), out.mask, out.pooled.float()), cut


def weights_digest(weights: Mapping[str, Tensor], *texts: str) -> str:
    """sha256 of named tensors and of texts; where they lie and in which order does not matter."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()
