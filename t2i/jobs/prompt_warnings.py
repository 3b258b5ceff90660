"""Warnings about the parts of a prompt that the model does not read or draw."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from t2i.engine import Engine
from t2i.jobs.reporter import shorten
from t2i.prompts import unseen

MOST_WORDS = 5  # unknown words of a prompt that are named


class PromptWarnings:
    """Warns once of each prompt, and once a run of each word. Of ten thousand prompts only hashes are kept."""

    def __init__(self, warn: Callable[[str], None]) -> None:
        self.warn = warn
        self._seen: set[int] = set()

    def check(self, prompt: str, cut: str | None, unknown: list[str], engine: Engine) -> None:
        """Warn of invisible characters, of the part `cut` off at the end, of the `unknown` words, and of actions
        that are not drawn."""
        name = hash(prompt)
        if name in self._seen:
            return
        self._seen.add(name)
        odd = unseen(prompt)
        if odd:
            shown = ", ".join(f"U+{ord(c):04X}" for c in odd[:MOST_WORDS])
            self.warn(f"the prompt holds characters that do not show ({shown}): “{shorten(prompt)}”")
        if cut:
            self.warn(f"the prompt is longer than the model reads; it did not see “{shorten(cut)}”")
        fresh = self._fresh(unknown)
        for word in fresh[:MOST_WORDS]:
            like = ", ".join(engine.near(word))
            self.warn(f"the model has never read {shorten(word)!r}" + (f"; near: {like}" if like else ""))
        if len(fresh) > MOST_WORDS:
            self.warn(f"nor {len(fresh) - MOST_WORDS} other words of the prompt")
        for word in self._fresh(engine.undrawn(prompt)):
            self.warn(f"{shorten(word)!r} changes nothing: the model draws things, not what they do")

    def _fresh(self, words: Sequence[str]) -> list[str]:
        """The words that were not told before."""
        fresh = [word for word in words if hash((word,)) not in self._seen]
        self._seen |= {hash((word,)) for word in fresh}
        return fresh
