"""Changes of a recipe as users write them, `--set base.lr=1e-4`. Imports no torch."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable
from typing import Any

from t2i.errors import UsageError


def parse_overrides(texts: Iterable[str]) -> dict[str, str]:
    """{"base.lr": "1e-4"} for ["base.lr=1e-4"]. Raises UsageError (code `config`)."""
    changes = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise UsageError(f"--set {text!r} cannot be read.", "Write --set base.lr=1e-4", "config")
        changes[key.strip()] = value.strip()
    return changes


def parse_value(text: str) -> Any:
    """A value in TOML's syntax; what is none is a word."""
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
