"""Encoded texts kept on disk, for training: an encoder that is costly, or captions that come again and again, are
read once.

    <folder>/cache.json            whose states these are: the fingerprint of the encoder, widths, context
    <folder>/00000.safetensors     for each text, by the sha256 of its bytes: its own states (l, D) and pooled (E,)

A cache that another encoder filled is refused. States are kept in float16.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError
from t2i.files import write_bytes
from t2i.text.cond import TextCond

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.text.encoder import TextEncoder

INDEX = "cache.json"
SHARD = 4096  # texts in one file
BATCH = 64  # texts that are encoded together
Row = tuple["Tensor", "Tensor"]


class CachedEncoder:
    """An encoder that looks on disk first, itself a :class:`t2i.text.encoder.TextEncoder`.

    What it has to encode is remembered at once and written with :meth:`flush`. Raises InputError (code ``mismatch``)
    for a folder that another encoder filled, (code ``data``) for one that cannot be read.
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
        """As in the protocol; what did not fit is not kept, and told as None."""
        import torch

        self._learn(prompts)
        rows = [self._row(_key(prompt)) for prompt in prompts]
        length = max(len(tokens) for tokens, _ in rows) if tight else self.context
        tokens = torch.zeros(len(rows), length, self.width)
        mask = torch.zeros(len(rows), length, dtype=torch.bool)
        for i, (states, _) in enumerate(rows):
            tokens[i, : len(states)] = states
            mask[i, : len(states)] = True
        pooled = torch.stack([pooled.float() for _, pooled in rows])
        return TextCond(tokens, mask, pooled), [None] * len(rows)

    def fill(
        self, texts: Iterable[str], on_step: Callable[[int], None] = lambda n: None,
        stop: Callable[[], bool] = lambda: False,
    ) -> None:  # fmt: skip
        """Encode all that is not there yet, and write it."""
        waiting: dict[str, None] = {}
        for text in texts:
            if text not in self:
                waiting[text] = None
            if len(waiting) >= BATCH:
                self._learn(list(waiting))
                waiting.clear()
                on_step(len(self))
                if len(self._fresh) >= SHARD:
                    self.flush()
                if stop():
                    break
        else:
            self._learn(list(waiting))
        self.flush()

    def flush(self) -> None:
        """Write what was encoded since the last time."""
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
            file = safe_open(path, "pt")  # read by need: a cache may be larger than the memory
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

    def _learn(self, texts: Sequence[str]) -> None:
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
            facts = json.loads(path.read_text("utf-8"))
        except (OSError, ValueError) as error:
            raise InputError(f"{path} cannot be read.", "Remove the folder; it is made anew.", "data") from error
        if facts != self._facts():
            what = f"the encoded texts in {self.folder} are of another text encoder."
            raise InputError(what, "Remove the folder; it is made anew.", "mismatch")


def _key(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()
