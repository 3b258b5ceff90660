"""The tokenizer of the small bundles: byte-level BPE for English and Chinese, stored as tokenizer.json.

Text is NFKC-normalised and lower-cased, then split at white space, punctuation and digits. Every Chinese character is a
token of its own, since merges would join a colour to its thing. Nothing is unknown: unseen text becomes bytes.
Ids: 0 padding, vocab - 2 start, vocab - 1 end of text; the end is the highest, so that CLIP's argmax finds it.
Shapes: B texts, L tokens.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tokenizers import Regex, models, normalizers, pre_tokenizers, trainers
from tokenizers import Tokenizer as Backend

from t2i.errors import InputError
from t2i.files import read_bytes, write_bytes
from t2i.text.cond import pad

if TYPE_CHECKING:
    import torch

PAD, SOT, EOT = "<pad>", "<start>", "<end>"
SMALLEST = 256 + 3  # the bytes and the three above


class Tokenizer:
    """Text to ids of a fixed vocabulary. Made by `train_tokenizer`, `Tokenizer.load` or `Tokenizer.parse`."""

    def __init__(self, backend: Backend) -> None:
        self.backend = backend
        self.vocab = int(backend.get_vocab_size())
        self.pad, self.sot, self.eot = 0, self.vocab - 2, self.vocab - 1
        special = [backend.token_to_id(name) for name in (PAD, SOT, EOT)]
        if special != [self.pad, self.sot, self.eot] or max(backend.get_vocab().values()) != self.eot:
            raise InputError("this tokenizer.json is not one of ours", hint="Its special tokens are elsewhere.")

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read tokenizer.json, or the one in the folder `path`. Raises InputError."""
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        try:
            text = read_bytes(file).decode()
        except (OSError, UnicodeDecodeError) as error:
            raise InputError(f"cannot read {file}: {error}", hint="A bundle keeps tokenizer.json here.") from error
        return cls.parse(text, str(file))

    @classmethod
    def parse(cls, text: str, where: str) -> Tokenizer:
        """Read the text of a tokenizer.json. Raises InputError naming `where`."""
        try:
            backend = Backend.from_str(text)
        except Exception as error:  # the library raises bare Exception
            raise InputError(f"{where} is not a tokenizer: {error}", hint="Fetch or write the bundle again.") from error
        return cls(backend)

    def save(self, path: str | Path) -> None:
        """Write tokenizer.json, to `path` or into the folder `path`. Raises InputError (code `output`)."""
        path = Path(path)
        file = path / "tokenizer.json" if path.is_dir() else path
        write_bytes(file, self.backend.to_str().encode())

    def encode_ids(self, texts: Sequence[str], context: int) -> tuple[list[list[int]], list[str | None]]:
        """As `encode`, as lists without padding."""
        assert context >= 2, "the context must hold start and end"
        rows, truncated = [], []
        for text in texts:  # encode_batch would start a thread on every core, and abort where it cannot
            pieces = self.backend.encode(text)
            ids, room = pieces.ids, context - 2
            truncated.append(text[pieces.offsets[room][0] :] if len(ids) > room else None)
            rows.append([self.sot, *ids[:room], self.eot])
        return rows, truncated

    def encode(self, texts: Sequence[str], context: int, tight: bool = False) -> tuple[torch.Tensor, list[str | None]]:
        """Texts to ids (B, context) int64, [start, ..., end, 0, 0, ...], and what was cut off of each text, or None.

        A text is cut off where the context is full. tight: L is that of the longest of these texts, not the context.
        """
        import torch

        rows, truncated = self.encode_ids(texts, context)
        length = max(map(len, rows)) if tight else context
        return pad([torch.tensor(row) for row in rows], length, self.pad)[0], truncated


def train_tokenizer(captions: Iterable[str], vocab_size: int = 4096) -> Tokenizer:
    """Learn the merges from captions. The vocabulary has vocab_size entries even if the captions fill fewer.

    Raises InputError if vocab_size is too small for the bytes and the special tokens.
    """
    if vocab_size < SMALLEST:
        raise InputError(f"a vocabulary of {vocab_size} is too small", hint=f"Give at least {SMALLEST}.")
    backend = Backend(models.BPE())
    backend.normalizer = normalizers.Sequence([normalizers.NFKC(), normalizers.Lowercase()])
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.WhitespaceSplit(),
            pre_tokenizers.Split(Regex(r"\p{Han}|[^\p{L}\p{M}]"), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - 2,
        min_frequency=2,
        special_tokens=[PAD],
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )
    backend.train_from_iterator(captions, trainer)
    state: dict[str, Any] = json.loads(backend.to_str())
    vocab = state["model"]["vocab"]
    # Plain entries without a merge. Added tokens would be found in a prompt that spells "<end>".
    state["added_tokens"] = []
    for i in range(len(vocab), vocab_size - 2):
        vocab[f"<unused{i}>"] = i
    vocab[SOT], vocab[EOT] = vocab_size - 2, vocab_size - 1
    return Tokenizer(Backend.from_str(json.dumps(state)))
