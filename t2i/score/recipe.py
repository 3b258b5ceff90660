"""How a score was made, kept beside it, so that numbers made in different ways are never compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from t2i.errors import InputError
from t2i.schema import build

SCHEMA = 1


@dataclass(frozen=True)
class Network:
    """A network that looks at pictures. weights: sha256 of its file; resize: how pictures reach its side."""

    name: str
    weights: str
    side: int
    resize: str


@dataclass(frozen=True)
class Recipe:
    """What decides a score beside the pictures. metrics: name -> version of its arithmetic; suite: sha256 of what the
    suite asks for, None where nobody judged; labels: the texts of a zero-shot classification."""

    extractor: Network
    judge: Network | None = None
    metrics: dict[str, int] = field(default_factory=dict)
    suite: str | None = None
    labels: tuple[str, ...] = ()
    schema: int = SCHEMA

    def table(self) -> dict[str, Any]:
        """As JSON, with the digest."""
        return {**asdict(self), "metrics": dict(sorted(self.metrics.items())), "digest": self.digest}

    @property
    def digest(self) -> str:
        """A short name for this recipe: equal digests, comparable scores."""
        facts = {**asdict(self), "metrics": sorted(self.metrics.items())}
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_recipe(raw: Any, where: str) -> Recipe:
    """A recipe from JSON. Raises InputError where it is none, or was changed by hand."""
    try:
        if not isinstance(raw, dict):
            raise ValueError("its recipe is no table")
        table = dict(raw)
        digest = table.pop("digest", None)
        recipe: Recipe = build(Recipe, table)
        if digest != recipe.digest:
            raise ValueError("its digest is another's")
    except (TypeError, ValueError) as error:
        what = f"{where} does not say how its numbers were made: {error}."
        raise InputError(what, "Make it again with this t2i.", "recipe") from error
    return recipe


def differences(ours: Recipe, theirs: Recipe) -> list[str]:
    """In words, what keeps two recipes from being compared; of metrics only those that both have count."""
    out = []
    for what in ("extractor", "judge"):
        a, b = getattr(ours, what), getattr(theirs, what)
        if a is None or b is None:
            if what == "judge" and a is not b and "scene" in ours.metrics and "scene" in theirs.metrics:
                out.append("only one was judged")
            continue
        for name in ("name", "weights", "side", "resize"):
            x, y = getattr(a, name), getattr(b, name)
            if x != y:
                out.append(f"the {what}'s {name} is {str(x)[:16]}, and was {str(y)[:16]}")
    for name in sorted(set(ours.metrics) & set(theirs.metrics)):
        if ours.metrics[name] != theirs.metrics[name]:
            out.append(f"the metric {name!r} has version {ours.metrics[name]}, and had {theirs.metrics[name]}")
    if None in (ours.suite, theirs.suite) and ours.suite != theirs.suite:
        out.append("only one side was made with --suite")
    elif ours.suite != theirs.suite:
        out.append("the suite asks for other things")
    return out


def refuse(ours: Recipe, theirs: Recipe, where: str) -> None:
    """Raise InputError (code ``recipe``) unless scores of the two may be compared."""
    found = differences(ours, theirs)
    if found:
        hint = "Score with the same extractor, weights and suite; or make the other side again, under another name."
        raise InputError(f"{where} was made in another way and is not compared: {'; '.join(found)}.", hint, "recipe")
