"""One picture to be made, and the key by which it is known again."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from t2i.engine import OnStep, PromptBatch
from t2i.jobs.settings import Settings
from t2i.sampling import SampleRequest


@dataclass(frozen=True, slots=True)
class Job:
    """One picture to be made. n: its number within its prompt; index: its number in the run; both from 0. name: takes
    the prompt's place in file names; label: its values in a sweep; said: the settings that were asked for, for
    file names; place: equal keys are drawn once for each place."""

    prompt: str
    seed: int
    n: int
    index: int
    settings: Settings
    name: str = ""
    label: tuple[str, ...] = ()
    said: str = ""
    place: str = ""

    @property
    def group(self) -> str:
        """Jobs of one group may share a batch."""
        return self.settings.group


def batch_of(jobs: Sequence[Job], request: SampleRequest, on_step: OnStep) -> PromptBatch:
    """Jobs with equal settings, as a model takes them."""
    return PromptBatch([job.prompt for job in jobs], [job.seed for job in jobs], request, on_step)


def content_key(weights: str, prompt: str, negative: str, seed: int, settings: dict[str, Any]) -> str:
    """A hash of everything that a picture depends on: equal keys, equal pictures."""
    facts = [weights, prompt, negative, seed, settings]
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:32]
