"""How the weights were loaded for a picture, from its record, once the LoRAs that it was made with are given again."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from t2i.errors import InputError, T2IError
from t2i.schema import shown
from t2i.store.hub_names import parse_hub_name
from t2i.store.load_options import DTYPES, MEMORY, QUANTIZE, LoadOptions
from t2i.store.lora import MAX_SCALE, Lora, read_lora


def loading_of(path: Path, settings: dict[str, Any], given: Sequence[Lora]) -> LoadOptions:
    """How the weights were loaded for the picture at `path`.

    Raises InputError where a LoRA is missing, ValueError for values that make no sense: a file may say anything.
    """
    dtype = _one_of("dtype", settings.get("dtype"), DTYPES)
    quantize = _one_of("quantize", settings.get("quantize", ""), ("", *QUANTIZE))
    memory = _one_of("memory", settings.get("memory", "auto"), MEMORY)
    loras = settings.get("lora", [])
    if not isinstance(loras, list):
        raise ValueError("settings.lora is no list")
    found = tuple(_lora(path, facts, given) for facts in loras)
    for lora in given:
        if lora.sha256 not in {other.sha256 for other in found}:
            raise InputError(f"{path} was not made with {lora.path}.", "Leave it out.", "image")
    return LoadOptions(dtype, found, quantize, memory, settings.get("compile") is True)


def _one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    if not isinstance(value, str) or value not in known:
        raise ValueError(f"settings.{name} is {shown(value)}, not one of {', '.join(filter(None, known))}")
    return value


def _lora(path: Path, facts: Any, given: Sequence[Lora]) -> Lora:
    if not isinstance(facts, dict):
        raise ValueError("settings.lora is no list of tables")
    name, digest, scale = facts.get("name"), facts.get("sha256"), facts.get("scale")
    if not isinstance(name, str) or not isinstance(scale, (int, float)) or not 0 < abs(scale) <= MAX_SCALE:
        raise ValueError("settings.lora has no name, or no scale that can be used")
    for lora in [*given, *_pulled(name)]:
        if lora.sha256 == digest:
            return replace(lora, name=name, scale=float(scale))
    what = f"{path} was made with the LoRA {name[:80]!r} (sha256 {str(digest)[:12]}), which is not here."
    raise InputError(
        what, f"Give the very file, too: t2i sample --replay {shlex.quote(str(path))} --lora FILE", "image"
    )


def _pulled(name: str) -> list[Lora]:
    """The LoRA of this name, if it was pulled; never a file that a record names."""
    if parse_hub_name(name) is None or Path(name).exists():
        return []
    try:
        return [read_lora(name)]
    except T2IError:
        return []
