"""What counts as a prompt and as a seed: checked before anything is loaded, in the library and on the command
line."""

from __future__ import annotations

import secrets

from t2i.errors import UsageError

MAX_PROMPT = 64 << 10  # bytes
MAX_SEED = 2**63 - 1


def check_prompt(text: str, where: str = "the prompt") -> str:
    """``text`` without the white space around it. Raises UsageError (code ``prompt``) for what is no
    prompt."""
    prompt = text.strip()
    if not prompt:
        raise UsageError(f"{where} is empty.", 'Say what to draw: t2i sample "a cat in the snow"', "prompt")
    return check_text(prompt, where)


def check_text(text: str, where: str) -> str:
    """``text`` if it can be encoded and stored. Raises UsageError (code ``prompt``)."""
    if "\0" in text:
        raise UsageError(f"{where} contains a NUL character.", code="prompt")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{where} is not valid Unicode text.", "Is the terminal set to UTF-8?", "prompt") from None
    if size > MAX_PROMPT:
        raise UsageError(f"{where} is {size} bytes long; at most {MAX_PROMPT} are taken.", code="prompt")
    return text


def random_seed() -> int:
    """A seed that nobody chose, small enough to type again."""
    return secrets.randbelow(2**31)
