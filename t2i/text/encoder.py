"""The protocol of text encoders, and the one for networks of this package.

NetEncoder     a network of ours with our tokenizer: CLIP's text tower, or the language model
T5Encoder      text/t5.py: a T5 of any size, by the library transformers
CachedEncoder  text/cache.py: another encoder, with its results stored on disk
Shapes: B prompts, L tokens, D width of a token's state, E width of the pooled vector.
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
    """A frozen text encoder. A prompt's states do not depend on the rest of the batch, up to rounding."""

    @property
    def width(self) -> int:
        """D, the width of a token's state."""

    @property
    def pooled_width(self) -> int:
        """E, the width of the pooled vector."""

    @property
    def context(self) -> int:
        """The most tokens that are read of a prompt, start and end included."""

    @property
    def fingerprint(self) -> str:
        """A hash of the weights and the tokenizer."""

    def encode(self, prompts: Sequence[str], tight: bool = False) -> tuple[TextCond, list[str | None]]:
        """The prompts encoded, and of each the part that did not fit into the context, or None.

        tight: L is that of the longest of these prompts, not the context.
        """


class TextNet(Protocol):
    """A network that encodes ids (B, L) to an object with pooled (B, E), tokens (B, L, D) and mask (B, L)."""

    config: Any

    def encode_text(self, ids: Tensor) -> Any: ...
    def parameters(self) -> Iterator[Tensor]: ...
    def state_dict(self) -> Mapping[str, Tensor]: ...


class NetEncoder:
    """A network of this package with its tokenizer, as a `TextEncoder`."""

    def __init__(self, net: TextNet, tokenizer: Tokenizer, width: int, pooled_width: int) -> None:
        self.net, self.tokenizer = net, tokenizer
        self.width, self.pooled_width = width, pooled_width

    @property
    def context(self) -> int:
        """As in the protocol."""
        return int(self.net.config.context)

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the text weights and of the tokenizer; CLIP's image tower does not count."""
        read = {k: t for k, t in self.net.state_dict().items() if not k.startswith("visual.")}
        return weights_digest(read, self.tokenizer.backend.to_str())

    def encode(self, prompts: Sequence[str], tight: bool = False) -> tuple[TextCond, list[str | None]]:
        """As in the protocol."""
        import torch

        ids, cut = self.tokenizer.encode(prompts, self.context, tight)
        device = next(self.net.parameters()).device
        with torch.no_grad():
            out = self.net.encode_text(ids.to(device))
        return TextCond(out.tokens.float(), out.mask, out.pooled.float()), cut


def weights_digest(weights: Mapping[str, Tensor], *texts: str) -> str:
    """sha256 of named tensors and of texts. The device and the order of the tensors do not matter."""
    import torch

    digest = hashlib.sha256()
    for name in sorted(weights):
        tensor = weights[name].detach().cpu().contiguous()
        digest.update(f"{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode())
        digest.update(tensor.flatten().view(torch.uint8).numpy().tobytes())
    for text in texts:
        digest.update(text.encode())
    return digest.hexdigest()
