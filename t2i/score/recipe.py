"""How a score was made. The recipe is stored with every score, and scores of different recipes are never compared."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass, field
from typing import Any

from t2i.errors import InputError
from t2i.schema import build

SCHEMA = 1


@dataclass(frozen=True)
class NetworkInfo:
    """A network that measured pictures. weights: sha256 of its file. resize: how pictures are brought to `side`."""

    name: str
    weights: str
    side: int
    resize: str


@dataclass(frozen=True)
class ScoreRecipe:
    """Everything but the pictures that decides a score.

    metrics: name -> version of its arithmetic. suite: a hash of the suite's expectations, None if nothing was judged.
    labels: the texts of a zero-shot classification. preference: the model of --preference, if there was one.
    """

    extractor: NetworkInfo
    judge: NetworkInfo | None = None
    metrics: dict[str, int] = field(default_factory=dict)
    suite: str | None = None
    labels: tuple[str, ...] = ()
    preference: NetworkInfo | None = None
    schema: int = SCHEMA

    def to_json(self) -> dict[str, Any]:
        return {**asdict(self), "metrics": dict(sorted(self.metrics.items())), "digest": self.digest}

    @property
    def digest(self) -> str:
        """16 hex digits; scores with equal digests are comparable."""
        facts = {**asdict(self), "metrics": sorted(self.metrics.items())}
        if self.preference is None:  # so that baselines from before there were such models are still read
            del facts["preference"]
        return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:16]


def read_recipe(raw: Any, where: str) -> ScoreRecipe:
    """A recipe from JSON. Raises InputError if it is not one, or was edited by hand (its digest is wrong)."""
    try:
        if not isinstance(raw, dict):
            raise ValueError("its recipe is no table")
        table = dict(raw)
        digest = table.pop("digest", None)
        recipe: ScoreRecipe = build(ScoreRecipe, table)
        if digest != recipe.digest:
            raise ValueError("its digest is another's")
    except (TypeError, ValueError) as error:
        what = f"{where} does not say how its numbers were made: {error}."
        raise InputError(what, "Make it again with this t2i.", "recipe") from error
    return recipe


def recipe_differences(ours: ScoreRecipe, theirs: ScoreRecipe) -> list[str]:
    """In words, what makes two recipes incomparable. Metrics that only one of them has do not count."""
    out = []
    for what in ("extractor", "judge", "preference"):
        a, b, label = getattr(ours, what), getattr(theirs, what), "preference model" if what == "preference" else what
        if a is None or b is None:
            if what == "judge" and a is not b and "scene" in ours.metrics and "scene" in theirs.metrics:
                out.append("only one was judged")
            continue
        for name in ("name", "weights", "side", "resize"):
            x, y = getattr(a, name), getattr(b, name)
            if x != y:
                out.append(f"the {label}'s {name} is {str(x)[:16]}, and was {str(y)[:16]}")
    for name in sorted(set(ours.metrics) & set(theirs.metrics)):
        if ours.metrics[name] != theirs.metrics[name]:
            out.append(f"the metric {name!r} has version {ours.metrics[name]}, and had {theirs.metrics[name]}")
    if None in (ours.suite, theirs.suite) and ours.suite != theirs.suite:
        out.append("only one side was made with --suite")
    elif ours.suite != theirs.suite:
        out.append("the suite asks for other things")
    return out


def require_same_recipe(ours: ScoreRecipe, theirs: ScoreRecipe, where: str) -> None:
    """Raise InputError (code `recipe`) unless scores of the two are comparable. where: names the other score."""
    found = recipe_differences(ours, theirs)
    if found:
        hint = "Score with the same extractor, weights and suite; or make the other side again, under another name."
        raise InputError(f"{where} was made in another way and is not compared: {'; '.join(found)}.", hint, "recipe")
