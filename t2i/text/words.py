"""The words that a model knows: those of its training captions. A prompt's other words are reported to the user, and
so are actions that its captions name and its pictures do not show.

A byte-level tokenizer can spell every word, so it never refuses one. The words of the training captions are therefore
kept in the manifest's notes: English words, and for Chinese single characters.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from t2i.prompts import CHINESE

# A CJK character, a word of any other script, or a pictograph: whatever can carry meaning.
WORD = re.compile(r"[\u3400-\u9fff]|[^\W\d_\u3400-\u9fff]+(?:'[a-z]+)?|[\u2600-\u27bf\U0001f000-\U0001faff]")
FUNCTION = frozenset(
    ["a", "an", "the", "of", "in", "on", "at", "to", "with", "and", "or", "is", "are", "it", "its"]
    + ["this", "that", "there", "by", "for", "from", "some", "very"]
)
ACTIONS = re.compile(
    r"\b(?:playing(?! cards?\b)|resting|sitting(?! room)|swimming(?! pool)|flying(?! saucer))\b"
    r"|玩耍|休息|游泳(?![池圈])|飞翔|坐(?=[在着])",
    re.ASCII,
)
"""What captions of the built-in world say of living things, whose pictures are the same with it and without."""
BUILT_IN = "the built-in world"
"""How the notes of a training on it begin to describe its data."""
LIMIT = 8000  # at most so many words are kept


@dataclass(frozen=True)
class KnownWords:
    """The words of the training captions, in lower case. An empty set means that nothing is reported. still: whether
    no training picture shows an action."""

    known: frozenset[str]
    still: bool = False

    @classmethod
    def from_notes(cls, notes: Mapping[str, Any]) -> KnownWords:
        """From a manifest's notes: {"words": "cat dog ...", "training": {"base": {"data": "...", ...}, ...}}."""
        training = notes.get("training")
        data = [str(facts.get("data")) for facts in training.values()] if isinstance(training, dict) else []
        still = bool(data) and all(text.startswith(BUILT_IN) for text in data)
        return cls(frozenset(str(notes.get("words", "")).split()), still)

    def adding(self, texts: Iterable[str]) -> KnownWords:
        """The same with the words of these texts; still nothing is reported where nothing was known."""
        more = {word for text in texts for word in WORD.findall(text.lower())} if self.known else ()
        return KnownWords(self.known.union(more), self.still)

    @staticmethod
    def collect(captions: Iterable[str]) -> str:
        """The most frequent words of the captions, sorted and joined by spaces, as `from_notes` reads them."""
        counts = Counter(word for caption in captions for word in WORD.findall(caption.lower()))
        return " ".join(sorted(word for word, _ in counts.most_common(LIMIT)))

    def unknown(self, prompt: str) -> list[str]:
        """The words of the prompt, in order, that are in no training caption; function words are left out. Chinese
        characters that follow one another, none of them known, are one word."""
        words: list[str] = []
        end = -1  # of the last one, if that was a Chinese character
        for found in WORD.finditer(prompt.lower()) if self.known else ():
            if found[0] in self.known or found[0] in FUNCTION:
                continue
            if CHINESE.fullmatch(found[0]) and found.start() == end:
                words[-1] += found[0]
            else:
                words.append(found[0])
            end = found.end() if CHINESE.fullmatch(found[0]) else -1
        return list(dict.fromkeys(words))

    def undrawn(self, prompt: str) -> list[str]:
        """The actions that the prompt names, in order, which the captions name too and no training picture shows."""
        found = dict.fromkeys(ACTIONS.findall(prompt.lower())) if self.still else {}
        return [action for action in found if not self.unknown(action)]

    def near(self, word: str, n: int = 3) -> list[str]:
        """Up to n known words for an unknown one: those that it starts or ends with, longest first, then those spelt
        alike, best first."""
        from difflib import get_close_matches

        parts = sorted((k for k in self.known if len(k) > 2 and (word.startswith(k) or word.endswith(k))), key=len)
        return list(dict.fromkeys([*parts[::-1], *get_close_matches(word, sorted(self.known), n, 0.75)]))[:n]
