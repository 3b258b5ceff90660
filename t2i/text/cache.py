"""A cache of encoded texts on disk, for training: each caption is encoded once, however often it is drawn.

    <folder>/cache.json            the encoder's fingerprint, widths and context
    <folder>/00000.safetensors     for each text, by the sha256 of its bytes: its states (l, D) and pooled (E,)

States are stored in float16. A folder that another encoder filled is refused.
Shapes: B texts, L tokens, l those of one text, D width of a token's state, E width of the pooled vector.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError
from t2i.files import read_bytes, write_bytes
from t2i.text.cond import TextCond, pad

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.text.encoder import TextEncoder

INDEX = "cache.json"
SHARD = 4096  # texts in one file
BATCH = 64  # texts that are encoded together
Row = tuple["Tensor", "Tensor"]


class CachedEncoder:
    """A `TextEncoder` that looks into `folder` before it asks `encoder`.

    New texts are kept in memory until `flush` writes them. Raises InputError: code `mismatch` for a folder that
    another encoder filled, code `data` for one that cannot be read.
    """

    def __init__(self, encoder: TextEncoder, folder: Path) -> None:
        self.encoder, self.folder = encoder, folder
        self.width, self.pooled_width, self.context = encoder.width, encoder.pooled_width, encoder.context
        self.fingerprint = encoder.fingerprint
        self._files: dict[str, Any] = {}  # key -> the open file that holds it
        self._fresh: dict[str, Row] = {}
        self._check()
        for path in sorted(folder.glob("*.safetensors")):
            self._open(path)

    def __len__(self) -> int:
        return len(self._files) + len(self._fresh)

    def __contains__(self, text: str) -> bool:
        key = _key(text)
        return key in self._files or key in self._fresh

    def encode(self, prompts: Sequence[str], tight: bool = False) -> tuple[TextCond, list[str | None]]:
        """As in the protocol, but the parts that did not fit are not stored: they are always None."""
        import torch

        self._encode_new(prompts)
        rows = [self._row(_key(prompt)) for prompt in prompts]
        length = max(len(tokens) for tokens, _ in rows) if tight else self.context
        tokens, mask = pad([tokens.float() for tokens, _ in rows], length)
        pooled = torch.stack([pooled.float() for _, pooled in rows])
        return TextCond(tokens, mask, pooled), [None] * len(rows)

    def fill(
        self, texts: Iterable[str], on_step: Callable[[int], None] = lambda n: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """Encode and write all texts that are not in the cache.

        on_step(n): called after each batch with the number of texts in the cache. stop(): asked after each batch.
        """
        waiting: dict[str, None] = {}
        for text in texts:
            if text not in self:
                waiting[text] = None
            if len(waiting) >= BATCH:
                self._encode_new(list(waiting))
                waiting.clear()
                on_step(len(self))
                if len(self._fresh) >= SHARD:
                    self.flush()
                if stop():
                    break
        else:
            self._encode_new(list(waiting))
        self.flush()

    def flush(self) -> None:
        """Write the texts that were encoded since the last flush, as one more shard."""
        if not self._fresh:
            return
        from safetensors.torch import save

        tensors: dict[str, Tensor] = {}
        for key, (tokens, pooled) in self._fresh.items():
            tensors |= {f"{key}.tokens": tokens.contiguous(), f"{key}.pooled": pooled.contiguous()}
        self.folder.mkdir(parents=True, exist_ok=True)
        write_bytes(self.folder / INDEX, (json.dumps(self._facts(), indent=1) + "\n").encode())
        number = len(list(self.folder.glob("*.safetensors")))
        path = self.folder / f"{number:05}.safetensors"
        write_bytes(path, save(tensors))
        self._open(path)
        self._fresh = {}

    def _open(self, path: Path) -> None:
        from safetensors import SafetensorError, safe_open

        try:
            file = safe_open(path, "pt")  # rows are read when they are asked for: a cache may exceed the memory
            names: list[str] = file.keys()
            keys = [name.removesuffix(".pooled") for name in names if name.endswith(".pooled")]
            self._files |= dict.fromkeys(keys, file)
        except (OSError, SafetensorError) as error:
            raise InputError(f"{path} cannot be read.", "Remove the folder; it is made anew.", "data") from error

    def _row(self, key: str) -> Row:
        if key in self._fresh:
            return self._fresh[key]
        file = self._files[key]
        return file.get_tensor(f"{key}.tokens"), file.get_tensor(f"{key}.pooled")

    def _encode_new(self, texts: Sequence[str]) -> None:
        import torch

        fresh = [text for text in dict.fromkeys(texts) if text not in self]
        if not fresh:
            return
        cond = self.encoder.encode(fresh, tight=True)[0]
        for i, text in enumerate(fresh):
            tokens = cond.tokens[i][cond.mask[i]].to("cpu", torch.float16)
            pooled = cond.pooled[i].to("cpu", torch.float16)
            if not bool(torch.isfinite(tokens).all() and torch.isfinite(pooled).all()):
                raise InputError(f"the text encoder makes no numbers of {text[:60]!r}.", "Leave it out.", "data")
            self._fresh[_key(text)] = tokens, pooled

    def _facts(self) -> dict[str, Any]:
        widths = {"width": self.width, "pooled_width": self.pooled_width, "context": self.context}
        return {"fingerprint": self.fingerprint, **widths}

    def _check(self) -> None:
        path = self.folder / INDEX
        if not path.is_file():
            return
        try:
            facts = json.loads(read_bytes(path))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read.", "Remove the folder; it is made anew.", "data") from error
        if facts != self._facts():
            what = f"the encoded texts in {self.folder} are of another text encoder."
            raise InputError(what, "Remove the folder; it is made anew.", "mismatch")


def _key(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
