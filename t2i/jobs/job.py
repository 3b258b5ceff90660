"""One picture to be made, and the key by which it is known again."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Any

from t2i.jobs.settings import Dials


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be: ``n`` is its number within its prompt, ``index`` its number in the run, both from
    0. ``name`` takes the prompt's place in file names; ``label`` says which values of a sweep it has."""

    prompt: str
    seed: int
    n: int
    index: int
    dials: Dials
    name: str = ""
    label: tuple[str, ...] = ()


def content_key(weights: str, prompt: str, negative: str, seed: int, settings: dict[str, Any]) -> str:
    """What a picture is a function of, as a name: equal keys, equal pictures."""
    facts = [weights, prompt, negative, seed, settings]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
