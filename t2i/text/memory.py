"""Encoded prompts in memory: each distinct prompt is encoded once, and alone."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch

from t2i.text.cond import TextCond
from t2i.text.encoder import TextEncoder

BUDGET = 8 << 20  # bytes
BESIDE = 3 << 10  # bytes that a row takes beside its numbers, for three tensor objects; measured over 1,500 rows


class TextCache:
    """Prompt -> (TextCond of one row, the part that did not fit or None), up to `budget` bytes.

    Where there is no more room, the prompt that was used longest ago is dropped.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.used = budget, 0
        self._rows: OrderedDict[str, tuple[TextCond, str | None]] = OrderedDict()

    def encode(self, encoder: TextEncoder, prompts: Sequence[str]) -> tuple[TextCond, list[str | None]]:
        """The text of B prompts, and for each the part that did not fit, or None. encoder: always the same one.

        What is not here is encoded in a batch of one, so that the result does not depend on the other prompts.
        """
        distinct = list(dict.fromkeys(prompts))
        found = {prompt: self.get(prompt) for prompt in distinct}
        known = {prompt: row for prompt, row in found.items() if row is not None}
        for prompt in distinct:
            if prompt not in known:
                text, cut = encoder.encode([prompt])
                known[prompt] = text, cut[0]
                self.put(prompt, *known[prompt])
        outs = [known[prompt] for prompt in distinct]
        parts = ([getattr(row, k) for row, _ in outs] for k in ("tokens", "mask", "pooled"))
        place = {prompt: i for i, prompt in enumerate(distinct)}
        rows = [place[prompt] for prompt in prompts]
        return TextCond(*map(torch.cat, parts)).select(rows), [outs[i][1] for i in rows]

    def get(self, prompt: str) -> tuple[TextCond, str | None] | None:
        """The entry of a prompt, or None. It counts as used now."""
        if prompt in self._rows:
            self._rows.move_to_end(prompt)
        return self._rows.get(prompt)

    def put(self, prompt: str, row: TextCond, cut: str | None) -> None:
        """Add a prompt that is not in the cache."""
        assert prompt not in self._rows
        self._rows[prompt] = row, cut
        self.used += _size(row)
        while self.used > self.budget and len(self._rows) > 1:
            _, (oldest, _) = self._rows.popitem(last=False)
            self.used -= _size(oldest)


def _size(row: TextCond) -> int:
    return BESIDE + sum(t.nbytes for t in (row.tokens, row.mask, row.pooled))
