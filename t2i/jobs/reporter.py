"""How a run tells what it does: the `Reporter` that the command line, the library and the tests implement."""

from __future__ import annotations

import unicodedata
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from t2i.engine import OnStep
from t2i.errors import T2IError

if TYPE_CHECKING:
    from PIL.Image import Image


class Stopped(BaseException):
    """A signal (its `number`) ends the run. Not an Exception, so that no handler of failures catches it."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class Reporter(Protocol):
    """What a run tells, in the order in which it happens. `failed` counts the pictures that could not be made."""

    failed: int

    @property
    def shows(self) -> bool:
        """Whether `picture` wants the pixels too."""

    def note(self, text: str) -> None:
        """Progress in a sentence."""

    def warn(self, text: str) -> None:
        """A sentence that should be read."""

    def fail(self, error: T2IError) -> None:
        """One picture could not be made; the run goes on."""

    def picture(self, path: Path, table: dict[str, Any], image: Image | None = None) -> None:
        """A finished picture, or one that was there (`skipped` in its table), in the order asked for."""

    def sheet(self, path: Path, table: dict[str, Any]) -> None:
        """A file with several pictures of the run on it."""

    def finishing(self) -> AbstractContextManager[list[int]]:
        """A block that a first SIGINT or SIGTERM does not break: its number is in the list from then on."""

    def progress(self, what: str, done: int = 0, total: int = 0) -> AbstractContextManager[OnStep]:
        """A callback for the steps of a batch; `done` of `total` pictures are finished."""


def safe(text: str) -> str:
    """`text` with every character that could act on a terminal shown as an escape; newlines too."""
    return "".join(c if unicodedata.category(c) not in ("Cc", "Cf", "Cs", "Zl", "Zp") else _escape(c) for c in text)


def _escape(char: str) -> str:
    if char == "\u200d" or "\ufe00" <= char <= "\ufe0f":  # joiners inside emoji
        return char
    return char.encode("unicode_escape").decode("ascii")


def shorten(text: str, width: int = 60) -> str:
    """At most `width` characters of `text`, escaped, with an ellipsis where it was cut."""
    return safe(text if len(text) <= width else text[: width - 1] + "…")
