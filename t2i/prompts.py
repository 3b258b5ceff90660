"""Prompts and seeds: what is valid, and the expansion of alternatives. Checked before any model is loaded."""

from __future__ import annotations

import itertools
import re
import secrets
import unicodedata

from t2i.errors import UsageError

CHINESE = re.compile(r"[\u3400-\u9fff]")  # a character
MAX_PROMPT = 64 << 10  # bytes
MAX_SEED = 2**63 - 1
MAX_EXPANSION = 10_000  # most prompts from one with alternatives

# possessive: without them, thousands of bars that no brace closes would be tried in every way
_ALTERNATIVES = re.compile(r"(?<!\\)\{([^{}|]*+(?:\|[^{}|]*+)++)\}")
_UNCLOSED = re.compile(r"(?<!\\)\{[^{}|]*+\|[^{}]*+$")


def check_prompt(text: str, where: str = "the prompt") -> str:
    """`text` without surrounding white space. Raises UsageError (code `prompt`) if it is empty or not valid.

    where: what to call it in the message.
    """
    prompt = text.strip()
    if not prompt:
        raise UsageError(f"{where} is empty.", 'Say it in words, such as "a cat in the snow".', "prompt")
    return check_text(prompt, where)


def check_text(text: str, where: str) -> str:
    """`text`, if it can be encoded and stored. Raises UsageError (code `prompt`)."""
    if "\0" in text:
        raise UsageError(f"{where} contains a NUL character.", code="prompt")
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        raise UsageError(f"{where} is not valid Unicode text.", "Is the terminal set to UTF-8?", "prompt") from None
    if size > MAX_PROMPT:
        raise UsageError(f"{where} is {size} bytes long; at most {MAX_PROMPT} are taken.", code="prompt")
    return text


def unseen(text: str) -> list[str]:
    """The invisible characters of `text` that could control a terminal or reverse the text; each once, in order.

    These are C0 and C1 controls, bidirectional marks and line separators, but not the joiners inside emoji.
    """
    odd = (c for c in text if unicodedata.category(c) in ("Cc", "Cf", "Zl", "Zp") and c != "\u200d")
    return list(dict.fromkeys(odd))


def expand(prompt: str) -> list[str]:
    r"""The prompts that `a {red|blue} {cat|dog}` stands for; the last alternative varies fastest.

    Braces without a bar are literal, and so is `\{a|b}`, without its backslash. An alternative may be empty; double
    spaces are then merged. Raises UsageError (code `prompt`) for more than MAX_EXPANSION prompts, and for
    alternatives whose brace is never closed.
    """
    if _UNCLOSED.search(prompt):
        raise UsageError("a { of the prompt is never closed.", r"Close it, as in {red|blue}, or write \{.", "prompt")
    parts = _ALTERNATIVES.split(prompt)
    if len(parts) == 1:
        return [prompt.replace("\\{", "{")]
    choices = [part.split("|") if i % 2 else [part.replace("\\{", "{")] for i, part in enumerate(parts)]
    count = 1
    for choice in choices:
        count *= len(choice)
    if count > MAX_EXPANSION:
        shown = f"the alternatives in the prompt make {count} prompts"
        raise UsageError(f"{shown}; at most {MAX_EXPANSION} are taken.", "Use fewer {a|b}.", "prompt")
    texts = ("".join(pick) for pick in itertools.product(*choices))
    return [re.sub(r"  +", " ", text).strip() for text in texts]


def random_seed() -> int:
    """A random seed below 2**31, short enough to type."""
    return secrets.randbelow(2**31)


def seeds_from(first: int, n: int, said: str) -> range:
    """The seeds of n pictures, the first of them given. Raises UsageError, which repeats it after `said`."""
    if type(first) is not int or first < 0:
        raise UsageError(f"{said}{first!r} is not a seed.", "A seed is a whole number from 0 on.")
    if first + n - 1 > MAX_SEED:
        raise UsageError(f"{said}{first} is too large.", f"The largest seed is {MAX_SEED}.")
    return range(first, first + n)
