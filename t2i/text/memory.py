"""Encoded prompts, remembered: a prompt that comes in many batches is encoded once."""

from __future__ import annotations

from collections import OrderedDict

from t2i.text.cond import TextCond

BUDGET = 8 << 20  # bytes; the prompt that was used longest ago goes first
BESIDE = 3 << 10  # bytes that a row takes beside its numbers: three tensors are objects, too (measured over 1,500 rows)


class TextCache:
    """Prompt -> (TextCond of one row, the part that did not fit), up to ``budget`` bytes."""

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.used = budget, 0
        self._rows: OrderedDict[str, tuple[TextCond, str | None]] = OrderedDict()

    def get(self, prompt: str) -> tuple[TextCond, str | None] | None:
        """What is remembered of a prompt, which is now the one used last."""
        if prompt in self._rows:
            self._rows.move_to_end(prompt)
        return self._rows.get(prompt)

    def put(self, prompt: str, row: TextCond, cut: str | None) -> None:
        """Remember a prompt that is not remembered yet."""
        assert prompt not in self._rows
        self._rows[prompt] = row, cut
        self.used += _size(row)
        while self.used > self.budget and len(self._rows) > 1:
            _, (oldest, _) = self._rows.popitem(last=False)
            self.used -= _size(oldest)


def _size(row: TextCond) -> int:
    return BESIDE + sum(t.nbytes for t in (row.tokens, row.mask, row.pooled))
