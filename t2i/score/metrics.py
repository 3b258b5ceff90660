"""From what was seen to numbers: a row of metrics for each picture, one value for each unit, and their means.

A unit is what counts as one in the statistics: a prompt; in a suite, a prompt with its translations, because they ask
for the same scene; a file where no prompt is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np

from t2i.errors import UnavailableError, UsageError, nearest
from t2i.score.listing import Picture
from t2i.score.pixels import twins
from t2i.score.suite import Prompt, scene_keys
from t2i.score.tasks import passes
from t2i.world.reading import TASKS, Expectation, check

if TYPE_CHECKING:
    from t2i.score.extract import Extractor
    from t2i.score.measure import Seen


@dataclass(frozen=True)
class Metric:
    """better: 1 where more is better, -1 where less is, 0 where neither: such a metric is shown and gates nothing."""

    what: str
    better: int
    needs: str = ""
    version: int = 1


METRICS: dict[str, Metric] = {
    "scene": Metric("share of pictures that do what the task of their prompt asks, by the judge", 1, "suite"),
    "clip": Metric("100 x cosine of picture and prompt in the extractor's space", 1, "prompt"),
    **{name: Metric(f"share of pictures whose {name} is as asked, by the judge", 1, "suite") for name in TASKS},
    "variety": Metric("mean of 1 - cosine between the pictures of a prompt", 1, "several"),
    "duplicate": Metric("share of pictures that another picture repeats", -1, ""),
    "blank": Metric("share of pictures that show nothing", -1, ""),
    "clipped": Metric("share of pixels that are pure white or black", 0, ""),
    "sharpness": Metric("standard deviation of the Laplacian of luma, of 255", 0, ""),
}
NEEDS = {
    "suite": "no picture's prompt is in a suite that says what to see",
    "prompt": "no prompt is known, or the extractor reads no text",
    "several": "no prompt has two pictures",
}
HINTS = {
    "suite": "Give the suite with --suite.",
    "prompt": "Give the prompts with --prompts FILE.jsonl, or choose --extractor clip.",
    "several": "Draw more pictures of each prompt.",
}
SHARES = frozenset({"scene", *TASKS, "duplicate", "blank"})  # pictures pass them or not
PRIMARY = ("scene", "clip", "duplicate")  # the first that is there leads the gate unless the user names another


@dataclass
class Row:
    """One picture and its numbers. label: the likeliest of the user's labels, and its probability."""

    picture: Picture
    seen: Seen
    unit: str
    values: dict[str, float]
    task: str = ""
    lang: str = ""
    label: tuple[str, float] | None = None

    def table(self) -> dict[str, Any]:
        """As a record of ``--json``."""
        label = {"label": self.label[0], "probability": self.label[1]} if self.label else {}
        return {
            "name": self.picture.name,
            "prompt": self.picture.prompt,
            "seed": self.picture.seed,
            **({"task": self.task, "lang": self.lang} if self.task or self.lang else {}),
            "sha256": self.seen.pixels.sha256,
            "width": self.seen.pixels.width,
            "height": self.seen.pixels.height,
            "metrics": self.values,
            **label,
        }


@dataclass(frozen=True)
class Unit:
    """The means of one unit over its pictures."""

    unit: str
    metrics: dict[str, float]
    pictures: int
    task: str = ""
    names: tuple[str, ...] = field(default=(), compare=False)


def check_names(names: Sequence[str]) -> None:
    """Raise UsageError for a metric that there is not."""
    for name in names:
        if name not in METRICS:
            near = nearest(name, list(METRICS), 1)
            hint = f"Did you mean {near[0]}?" if near else f"There are {', '.join(METRICS)}."
            raise UsageError(f"there is no metric {name!r}.", hint)


def score_rows(
    seen: Sequence[tuple[Picture, Seen]],
    extractor: Extractor,
    suite: Sequence[Prompt] = (),
    labels: Sequence[str] = (),
    names: Sequence[str] = (),
) -> list[Row]:
    """The rows of the pictures, in their order. names: only these metrics; raises UnavailableError (code ``metric``)
    for one of them that cannot be had from these pictures."""
    asked, units = {p.text: p for p in suite}, scene_units(suite)
    rows = []
    for picture, s in seen:
        prompt = asked.get(picture.prompt or "")
        values = {"sharpness": s.pixels.sharpness, "clipped": s.pixels.clipped, "blank": s.pixels.blank}
        if prompt is not None and s.reading is not None and prompt.expectation != Expectation():
            values["scene"] = float(passes(prompt, s.reading))
            values |= {name: float(ok) for name, ok in check(s.reading, prompt.expectation).items()}
        unit = units.get(picture.prompt or "") or picture.prompt or picture.name
        rows.append(Row(picture, s, unit, values, prompt.task if prompt else "", prompt.lang if prompt else ""))
    _add_duplicates(rows)
    _add_variety(rows)
    _add_texts(rows, extractor, labels)
    return _choose(rows, names)


def scene_units(suite: Sequence[Prompt]) -> dict[str, str]:
    """Prompt -> the first prompt that tells the same scene."""
    first: dict[object, str] = {}
    told = [p for p in suite if p.expectation != Expectation()]
    return {p.text: first.setdefault(scene, p.text) for scene, p in zip(scene_keys(told), told, strict=True)}


def _add_duplicates(rows: list[Row]) -> None:
    if len(rows) > 1:
        kin = [(row.unit, row.picture.prompt or row.picture.name) for row in rows]
        repeated = twins(np.stack([row.seen.thumb for row in rows]), kin)
        for row, value in zip(rows, repeated, strict=True):
            row.values["duplicate"] = float(value)


def _add_variety(rows: list[Row]) -> None:
    groups: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        if row.picture.prompt:
            groups[row.picture.prompt].append(row)
    for group in (g for g in groups.values() if len(g) > 1):
        x = np.stack([row.seen.features for row in group]).astype(np.float64)
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        far = 1 - x @ x.T
        for i, row in enumerate(group):
            row.values["variety"] = float((far[i].sum() - far[i, i]) / (len(group) - 1))


def _add_texts(rows: list[Row], extractor: Extractor, labels: Sequence[str]) -> None:
    prompts = list(dict.fromkeys(row.picture.prompt for row in rows if row.picture.prompt))
    texts = extractor.texts(prompts) if prompts else None
    if texts is not None:
        vectors = dict(zip(prompts, texts.double().numpy(), strict=True))
        for row in rows:
            if row.picture.prompt:
                row.values["clip"] = 100 * float(vectors[row.picture.prompt] @ row.seen.features.astype(np.float64))
    if labels:
        spoken = extractor.texts(list(labels))
        if spoken is None:
            raise UnavailableError(f"{extractor.network.name} reads no text.", "Choose --extractor clip.", "metric")
        logits = extractor.scale() * np.stack([row.seen.features for row in rows]).astype(np.float64)
        logits = logits @ spoken.double().numpy().T
        odds = np.exp(logits - logits.max(axis=1, keepdims=True))
        odds /= odds.sum(axis=1, keepdims=True)
        for row, p in zip(rows, odds, strict=True):
            row.label = labels[int(p.argmax())], float(p.max())


def _choose(rows: list[Row], names: Sequence[str]) -> list[Row]:
    if not names:
        return rows
    for name in names:
        if not any(name in row.values for row in rows):
            needs = METRICS[name].needs or "several"
            raise UnavailableError(f"the metric {name!r} cannot be had: {NEEDS[needs]}.", HINTS[needs], "metric")
    for row in rows:
        row.values = {name: row.values[name] for name in names if name in row.values}
    return rows


def units_of(rows: Sequence[Row]) -> list[Unit]:
    """One value a unit and metric: the pictures of each prompt averaged, then the prompts of the unit. By name."""
    groups: dict[str, dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.unit][row.picture.prompt or row.picture.name].append(row)
    out = []
    for unit in sorted(groups):
        prompts = list(groups[unit].values())
        every = [row for some in prompts for row in some]
        means: dict[str, list[float]] = defaultdict(list)
        for some in prompts:
            for name in METRICS:
                values = [row.values[name] for row in some if name in row.values]
                if values:
                    means[name].append(sum(values) / len(values))
        metrics = {name: sum(values) / len(values) for name, values in means.items()}
        paths = tuple(str(row.picture.path) for row in every)
        out.append(Unit(unit, metrics, len(every), every[0].task, paths))
    return out


def columns(units: Sequence[Unit]) -> dict[str, dict[str, float]]:
    """What is measured -> unit -> value: every metric, and for each task of the suite "scene: TASK", or "clip: TASK"
    where nobody judged the scenes."""
    out: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    leads = next((name for name in PRIMARY[:2] if any(name in u.metrics for u in units)), None)
    for u in units:
        for name, value in u.metrics.items():
            out[name][u.unit] = value
            if name == leads and u.task:
                out.setdefault(f"{name}: {u.task}", {})[u.unit] = value
    return {name: values for name, values in out.items() if values}


def better(column: str) -> int:
    """1, -1 or 0 of a column of `columns`."""
    return METRICS[column.split(":")[0]].better


def versions(rows: Sequence[Row]) -> dict[str, int]:
    """The metrics that occur and the versions of their arithmetic, for the recipe."""
    return {name: METRICS[name].version for row in rows for name in row.values}
