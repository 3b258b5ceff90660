"""A cache of encoded prompts in memory: a prompt that comes in many batches is encoded once."""

from __future__ import annotations

from collections import OrderedDict

from t2i.text.cond import TextCond

BUDGET = 8 << 20  # bytes
BESIDE = 3 << 10  # bytes that a row takes beside its numbers, for three tensor objects; measured over 1,500 rows


class TextCache:
    """Prompt -> (TextCond of one row, the part that did not fit or None), up to `budget` bytes.

    Where there is no more room, the prompt that was used longest ago is dropped.
    """

    def __init__(self, budget: int = BUDGET) -> None:
        self.budget, self.used = budget, 0
        self._rows: OrderedDict[str, tuple[TextCond, str | None]] = OrderedDict()

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
