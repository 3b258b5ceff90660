"""From features to metrics: one row per picture, one value per unit.

A unit counts as one observation in the statistics: a prompt; in a suite, a prompt with its translations, because they
describe the same scene; a file where no prompt is known.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from t2i.errors import UnavailableError
from t2i.score.labels import classify, label_vectors
from t2i.score.metric_table import HINTS, METRICS, NEEDS, PIXEL_METRICS, PRIMARY
from t2i.score.picture_files import PictureFile
from t2i.score.pixel_stats import find_duplicates
from t2i.score.suite import SuitePrompt, scene_keys
from t2i.score.task_scores import passes
from t2i.score.thumbnails import encode_thumb
from t2i.world.reading import Expectation, check

if TYPE_CHECKING:
    from pathlib import Path

    from t2i.score.extractors import Extractor
    from t2i.score.feature_cache import PictureFeatures

    Preferred = tuple[Extractor, Sequence[NDArray[np.float32]]]


@dataclass
class PictureScore:
    """The metrics of one picture. label: the likeliest of the user's labels, and its probability."""

    picture: PictureFile
    features: PictureFeatures
    unit: str
    values: dict[str, float]
    task: str = ""
    lang: str = ""
    label: tuple[str, float] | None = None

    def to_json(self) -> dict[str, Any]:
        """The picture's record of `--json`."""
        label = {"label": self.label[0], "probability": self.label[1]} if self.label else {}
        return {
            "name": self.picture.name,
            "prompt": self.picture.prompt,
            "seed": self.picture.seed,
            **({"task": self.task, "lang": self.lang} if self.task or self.lang else {}),
            "sha256": self.features.pixels.sha256,
            "width": self.features.pixels.width,
            "height": self.features.pixels.height,
            "metrics": self.values,
            **label,
        }

    def row(self) -> PictureRow:
        """What a score keeps of it."""
        p, thumb = self.picture, encode_thumb(self.features.thumb)
        return PictureRow(p.name, p.prompt, p.seed, self.unit, self.task, self.values, thumb)


@dataclass(frozen=True)
class PictureRow:
    """What a score keeps of a picture. thumb: see `thumbnails.encode_thumb`."""

    name: str
    prompt: str | None
    seed: int | None
    unit: str
    task: str
    metrics: dict[str, float]
    thumb: str


@dataclass(frozen=True)
class UnitScore:
    """The metrics of one unit, averaged over its pictures."""

    unit: str
    metrics: dict[str, float]
    pictures: int
    task: str = ""


def score_pictures(
    found: Sequence[tuple[PictureFile, PictureFeatures]],
    extractor: Extractor,
    suite: Sequence[SuitePrompt] = (),
    labels: Sequence[str] = (),
    names: Sequence[str] = (),
    sprites: Path | None = None,
    preference: Preferred | None = None,
) -> list[PictureScore]:
    """One row of metrics per picture, in the order given.

    sprites: the sprite library, for fidelity. preference: the model, and its features of the pictures. names: only
    these metrics. Raises UnavailableError (code `metric`) for one that these pictures cannot have.
    """
    prompts, units = {p.text: p for p in suite}, scene_units(suite)
    rows = []
    for picture, features in found:
        prompt, pixels = prompts.get(picture.prompt or ""), features.pixels
        values = {name: getattr(pixels, name) for name in PIXEL_METRICS}
        if prompt is not None and features.reading is not None and prompt.expectation != Expectation():
            values["scene"] = float(passes(prompt, features.reading))
            values |= {name: float(ok) for name, ok in check(features.reading, prompt.expectation).items()}
        unit = units.get(picture.prompt or "") or picture.prompt or picture.name
        task, lang = (prompt.task, prompt.lang) if prompt else ("", "")
        rows.append(PictureScore(picture, features, unit, values, task, lang))
    _add_duplicate(rows)
    _add_variety(rows)
    _add_clip(rows, extractor)
    if preference is not None:
        model, vectors = preference
        _add_cosine(rows, model, vectors, "preference", model.scale())
    if sprites is not None and (not names or "fidelity" in names):
        from t2i.score.sprite_fidelity import add_fidelity, lone_things  # imports torch

        add_fidelity(rows, lone_things(suite), sprites)
    if labels:
        _add_labels(rows, extractor, labels)
    return _only(rows, names)


def scene_units(suite: Sequence[SuitePrompt]) -> dict[str, str]:
    """Prompt -> the first prompt that describes the same scene: the name of their unit."""
    first: dict[object, str] = {}
    judged = [p for p in suite if p.expectation != Expectation()]
    return {p.text: first.setdefault(scene, p.text) for scene, p in zip(scene_keys(judged), judged, strict=True)}


def _add_duplicate(rows: list[PictureScore]) -> None:
    if len(rows) > 1:
        groups = [(row.unit, row.picture.prompt or row.picture.name) for row in rows]
        duplicates = find_duplicates(np.stack([row.features.thumb for row in rows]), groups)
        for row, value in zip(rows, duplicates, strict=True):
            row.values["duplicate"] = float(value)


def _add_variety(rows: list[PictureScore]) -> None:
    groups: dict[str, list[PictureScore]] = defaultdict(list)
    for row in rows:
        if row.picture.prompt:
            groups[row.picture.prompt].append(row)
    for group in (g for g in groups.values() if len(g) > 1):
        x = _feature_rows(group)
        x /= np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-12)
        distance = 1 - x @ x.T
        for i, row in enumerate(group):
            row.values["variety"] = float((distance[i].sum() - distance[i, i]) / (len(group) - 1))


def _add_clip(rows: list[PictureScore], extractor: Extractor) -> None:
    _add_cosine(rows, extractor, [row.features.features for row in rows], "clip", 100.0)


def _add_cosine(
    rows: list[PictureScore], extractor: Extractor, features: Sequence[NDArray[np.float32]], name: str, scale: float
) -> None:
    """scale · cosine of picture and prompt, where there is one."""
    prompts = list(dict.fromkeys(row.picture.prompt for row in rows if row.picture.prompt))
    texts = extractor.texts(prompts) if prompts else None
    if texts is None:
        return
    vectors = dict(zip(prompts, texts.double().numpy(), strict=True))
    for row, x in zip(rows, features, strict=True):
        if row.picture.prompt:
            row.values[name] = scale * float(vectors[row.picture.prompt] @ x.astype(np.float64))


def _add_labels(rows: list[PictureScore], extractor: Extractor, labels: Sequence[str]) -> None:
    for row, p in zip(rows, classify(extractor, _feature_rows(rows), label_vectors(extractor, labels)), strict=True):
        row.label = labels[int(p.argmax())], float(p.max())


def _feature_rows(rows: Sequence[PictureScore]) -> np.ndarray:
    """(n, D) float64"""
    return np.stack([row.features.features for row in rows]).astype(np.float64)


def _only(rows: list[PictureScore], names: Sequence[str]) -> list[PictureScore]:
    """The rows with only the metrics asked for; all metrics if `names` is empty."""
    if not names:
        return rows
    for name in names:
        if not any(name in row.values for row in rows):
            needs = METRICS[name].needs or "several"
            raise UnavailableError(f"the metric {name!r} cannot be had: {NEEDS[needs]}.", HINTS[needs], "metric")
    for row in rows:
        row.values = {name: row.values[name] for name in names if name in row.values}
    return rows


def average_by_unit(rows: Sequence[PictureRow]) -> list[UnitScore]:
    """One value per unit and metric: the mean over each prompt's pictures, then over the unit's prompts. By name."""
    groups: dict[str, dict[str, list[PictureRow]]] = defaultdict(lambda: defaultdict(list))
    for row in rows:
        groups[row.unit][row.prompt or row.name].append(row)
    out = []
    for unit in sorted(groups):
        prompts = list(groups[unit].values())
        members = [row for group in prompts for row in group]
        means: dict[str, list[float]] = defaultdict(list)
        for group in prompts:
            for name in METRICS:
                values = [row.metrics[name] for row in group if name in row.metrics]
                if values:
                    means[name].append(sum(values) / len(values))
        metrics = {name: sum(values) / len(values) for name, values in means.items()}
        out.append(UnitScore(unit, metrics, len(members), members[0].task))
    return out


def columns(units: Sequence[UnitScore]) -> dict[str, dict[str, float]]:
    """Column -> unit -> value. The columns are the metrics, and "scene: TASK" for each task of the suite ("clip: TASK"
    where nothing was judged)."""
    out: dict[str, dict[str, float]] = {name: {} for name in METRICS}
    by_task = next((name for name in PRIMARY[:2] if any(name in u.metrics for u in units)), None)
    for u in units:
        for name, value in u.metrics.items():
            out[name][u.unit] = value
            if name == by_task and u.task:
                out.setdefault(f"{name}: {u.task}", {})[u.unit] = value
    return {name: values for name, values in out.items() if values}


def metric_versions(rows: Sequence[PictureScore]) -> dict[str, int]:
    """The metrics that the rows hold, with their versions, for the recipe."""
    return {name: METRICS[name].version for row in rows for name in row.values}
