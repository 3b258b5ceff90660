"""Which words of a prompt the model has never read.

A byte-level vocabulary can spell every word, so the tokenizer never says no; what the training captions said
is kept beside the weights instead: English words, and for Chinese the single characters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# A CJK character, a word of any other script, or a pictograph: all that can carry a meaning.
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+(?:'[a-z]+)?|[\u2600-\u27bf\U0001f000-\U0001faff]")
FUNCTION = frozenset(
    ["a", "an", "the", "of", "in", "on", "at", "to", "with", "and", "or", "is", "are", "it", "its"]
    + ["this", "that", "there", "by", "for", "from", "some", "very"]
)
LIMIT = 8000  # most words that are kept


@dataclass(frozen=True)
class Words:
    """The words of the training captions; none known means that nothing is reported."""

    known: frozenset[str]

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> Words:
        """From a manifest's notes: {"words": "cat dog ..."}."""
        return cls(frozenset(str(notes.get("words", "")).split()))

    @staticmethod
    def collect(captions: Iterable[str]) -> str:
        """What `from_notes` reads: the most frequent words of the captions, sorted, joined by spaces."""
        counts = Counter(word for caption in captions for word in WORD.findall(caption.lower()))
        return " ".join(sorted(word for word, _ in counts.most_common(LIMIT)))

    def unknown(self, prompt: str) -> list[str]:
        """The words of the prompt, in order, that no training caption held."""
        if not self.known:
            return []
        words = dict.fromkeys(WORD.findall(prompt.lower()))
        return [word for word in words if word not in self.known and word not in FUNCTION]

    def near(self, word: str, n: int = 3) -> list[str]:
        """Known words that look like it, best first; a known word that it starts or ends with counts."""
        from difflib import get_close_matches

        parts = sorted((k for k in self.known if len(k) > 2 and (word.startswith(k) or word.endswith(k))), key=len)
        return list(dict.fromkeys([*parts[::-1], *get_close_matches(word, sorted(self.known), n, 0.75)]))[:n]
