"""Personal models, put into the networks of a bundle as it is loaded: low-rank changes are added to the weights, and
new words take rows of the token table that no text has used."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from t2i.errors import UsageError
from t2i.store.lora import Lora
from t2i.store.personal import HINT, Personal, load_personal
from t2i.store.weights_files import unusable
from t2i.text.tokenizer import Tokenizer

UNUSED = re.compile(r"<unused\d+>")


def load_loras(loras: Sequence[Lora]) -> list[tuple[Lora, Personal]]:
    """The values of personal models. Raises InputError; UsageError where two have the same word."""
    tokens = [lora.personal.token for lora in loras if lora.personal]
    if len(set(tokens)) < len(tokens):
        raise UsageError("two LoRAs have the same word.", "Train one of them with another --token.")
    return [(lora, load_personal(lora.path, lora.personal)) for lora in loras if lora.personal]


@torch.no_grad()
def add_changes(net: nn.Module, stage: str, loras: Sequence[tuple[Lora, Personal]]) -> None:
    """Add the changes of a stage's weights to its network, scaled. Raises InputError for one that has no place."""
    weights = dict(net.named_parameters())
    for lora, personal in loras:
        for name, (up, down) in personal.changes.get(stage, {}).items():
            weight = weights.get(name)
            wanted = None if weight is None else (weight.shape[0], weight.shape[1:].numel())
            if weight is None or wanted != (up.shape[0], down.shape[1]):
                raise unusable(lora.path, f"the stage {stage!r} has no weight for {name[:80]!r}", HINT)
            weight.add_((up @ down).view_as(weight).to(weight), alpha=lora.scale)


@torch.no_grad()
def add_words(tokenizer: Tokenizer, table: Tensor, loras: Sequence[tuple[Lora, Personal]]) -> Tokenizer:
    """The tokenizer with the words of personal models, whose rows are written into `table` (vocab, W).

    Raises InputError for a row of another width, UsageError where no row is free.
    """
    with_words, rows = reserve([personal.facts.token for _, personal in loras], tokenizer)
    for row, (lora, personal) in zip(rows, loras, strict=True):
        if personal.word.shape != table.shape[1:]:
            raise unusable(lora.path, f"its word has the shape {tuple(personal.word.shape)}", HINT)
        table[row] = personal.word
    return with_words


def reserve(words: Sequence[str], tokenizer: Tokenizer) -> tuple[Tokenizer, list[int]]:
    """The tokenizer with new words, each found in a text before all others, and their ids, which no text had.

    Raises UsageError where no entry of the vocabulary is free.
    """
    state: dict[str, Any] = json.loads(tokenizer.backend.to_str())
    vocab: dict[str, int] = state["model"]["vocab"]
    free = sorted((entry for entry in vocab if UNUSED.fullmatch(entry)), key=lambda entry: -vocab[entry])
    if len(free) < len(words):
        what = f"the vocabulary of this model has no room for {'another word' if free else 'a new word'}."
        raise UsageError(what, "Train a model with a larger clip.net.vocab.")
    rows = [vocab.pop(entry) for entry, _ in zip(free, words)]
    vocab.update(zip(words, rows, strict=True))
    how = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": True, "special": False}
    state["added_tokens"] = [{"id": row, "content": word, **how} for row, word in zip(rows, words, strict=True)]
    return Tokenizer.parse(json.dumps(state), "the tokenizer with new words"), rows
