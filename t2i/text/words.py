"""The words that a model knows: those of its training captions. A prompt's other words are reported to the user.

A byte-level tokenizer can spell every word, so it never refuses one. The words of the training captions are therefore
kept in the manifest's notes: English words, and for Chinese single characters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

# A CJK character, a word of any other script, or a pictograph: whatever can carry meaning.
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+(?:'[a-z]+)?|[\u2600-\u27bf\U0001f000-\U0001faff]")
FUNCTION = frozenset(
    ["a", "an", "the", "of", "in", "on", "at", "to", "with", "and", "or", "is", "are", "it", "its"]
    + ["this", "that", "there", "by", "for", "from", "some", "very"]
)
LIMIT = 8000  # at most so many words are kept


@dataclass(frozen=True)
class KnownWords:
    """The words of the training captions, in lower case. An empty set means that nothing is reported."""

    known: frozenset[str]

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> KnownWords:
        """From a manifest's notes: {"words": "cat dog ..."}."""
        return cls(frozenset(str(notes.get("words", "")).split()))

    def adding(self, texts: Iterable[str]) -> KnownWords:
        """The same with the words of these texts; still nothing is reported where nothing was known."""
        more = {word for text in texts for word in WORD.findall(text.lower())} if self.known else ()
        return KnownWords(self.known.union(more))

    @staticmethod
    def collect(captions: Iterable[str]) -> str:
        """The most frequent words of the captions, sorted and joined by spaces, as `from_notes` reads them."""
        counts = Counter(word for caption in captions for word in WORD.findall(caption.lower()))
        return " ".join(sorted(word for word, _ in counts.most_common(LIMIT)))

    def unknown(self, prompt: str) -> list[str]:
        """The words of the prompt, in order, that are in no training caption; function words are left out."""
        if not self.known:
            return []
        words = dict.fromkeys(WORD.findall(prompt.lower()))
        return [word for word in words if word not in self.known and word not in FUNCTION]

    def near(self, word: str, n: int = 3) -> list[str]:
        """Up to n known words for an unknown one: those that it starts or ends with, longest first, then those spelt
        alike, best first."""
        from difflib import get_close_matches

        parts = sorted((k for k in self.known if len(k) > 2 and (word.startswith(k) or word.endswith(k))), key=len)
        return list(dict.fromkeys([*parts[::-1], *get_close_matches(word, sorted(self.known), n, 0.75)]))[:n]
