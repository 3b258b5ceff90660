"""One run of `t2i score`, without the command line: find or draw pictures, measure them, compare, and report."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from functools import cached_property

import numpy as np

from t2i.errors import InputError, T2IError, UnavailableError
from t2i.jobs.device import pick_device
from t2i.jobs.reporter import Reporter
from t2i.score.baseline import ScoredSet, comparison_notes, current_date, load_baseline, save_baseline
from t2i.score.before_after import compare_pair, match_pictures, worst_first
from t2i.score.extractor_options import check_extractor
from t2i.score.extractors import Extractor, judge_info, load_extractor
from t2i.score.feature_cache import FeatureCache, PictureFeatures
from t2i.score.features import ExtractionTime, ScoringNetworks, extract_features
from t2i.score.gate import run_gate
from t2i.score.inputs import all_pictures, drawn_pictures, given_pictures, judgeable, suite_prompts
from t2i.score.labels import label_warnings
from t2i.score.metric_table import HINTS, NEEDS
from t2i.score.metrics import PictureScore, average_by_unit, metric_versions, score_pictures
from t2i.score.picture_files import PictureFile
from t2i.score.preference import PreferenceModel, check_folder
from t2i.score.recipe import NetworkInfo, ScoreRecipe, require_same_recipe
from t2i.score.report import Report, collapse_warnings
from t2i.score.request import ScoreRequest
from t2i.score.set_distances import compare_sets, feature_stats, load_stats, save_stats
from t2i.score.statistics import Interval
from t2i.score.suite import SuitePrompt
from t2i.score.task_scores import check_scores
from t2i.store.registry import resolve_judge
from t2i.store.search_path import home
from t2i.world.judge import Judge
from t2i.world.reading import Reading

CACHE = "score.sqlite"
NOTE_EVERY = 5.0  # seconds between lines of progress


def run_score(reporter: Reporter, request: ScoreRequest) -> Report:
    """Score and compare. Pictures that cannot be read are reported and counted in `reporter.failed`.

    Does not write baselines: see `write_baselines`. Raises InputError, UsageError or UnavailableError; a failed gate is
    a verdict of the report, not an error.
    """
    earlier = load_baseline(request.gate.baseline) if request.gate.baseline else None
    prompts = judgeable(reporter, suite_prompts(reporter, request))
    measurer = _Measurer(reporter, request)
    find = given_pictures if request.places else drawn_pictures
    pictures = find(reporter, request, prompts)
    judged = any(p.expectation.objects or p.expectation.place for p in prompts)
    if request.preference is not None and not any(p.prompt for p in pictures):
        what = "--preference compares pictures with their prompts, and none of these has one."
        raise UnavailableError(what, HINTS["prompt"], "metric")
    rows, score, spent = measurer.score(pictures, prompts, judged)
    report = Report(score, rows, spent, warnings=collapse_warnings(rows), checks=_suite_checks(rows, prompts))
    if judged and not request.metrics and not any("fidelity" in row.values for row in rows):
        report.notes.append(f"fidelity is unavailable: {NEEDS['sprites']}")
    if request.labels:
        report.warnings += label_warnings(measurer.extractor, request.labels)
    if not judged and not request.metrics:
        report.notes.append(f"scene is unavailable: {NEEDS['suite']}, so the judge was not asked. {HINTS['suite']}")
    if earlier is not None:
        where = str(request.gate.baseline)
        require_same_recipe(score.recipe, earlier.recipe, where)
        for note in comparison_notes(earlier, score, where):
            reporter.note(note)
    _compare_sets(report, measurer, request)
    pairs = _compare_before(report, reporter, pictures, request)
    if earlier is None and pairs:
        known = [replace(a, name=b.name, prompt=b.prompt, seed=b.seed) for a, b in pairs]
        earlier = measurer.score(known, prompts, judged)[1]
    if earlier is not None:
        report.before = earlier
        report.gate = run_gate(earlier, score, request.gate.drop, request.gate.margins, request.gate.primary)
    return report


def draw_shard(reporter: Reporter, request: ScoreRequest) -> None:
    """Draw the share `request.draw.shard` of the suite's pictures and report each; nothing is scored."""
    drawn_pictures(reporter, request, suite_prompts(reporter, request))


def write_baselines(reporter: Reporter, request: ScoreRequest, report: Report) -> None:
    """--save-baseline and --update-baseline, unless some pictures could not be read."""
    if reporter.failed:
        return
    if request.save_baseline is not None:
        save_baseline(request.save_baseline, report.score)
    if request.gate.baseline is not None and request.gate.update:
        save_baseline(request.gate.baseline, report.score, report.before)
        reporter.note(f"{request.gate.baseline} is replaced")


@dataclass
class _Measurer:
    """The networks of a run, loaded when they are needed, and the cache of their features.

    Raises UsageError for an unknown extractor, UnavailableError for one without its weights.
    """

    reporter: Reporter
    request: ScoreRequest

    def __post_init__(self) -> None:
        check_extractor(self.request.extractor, self.request.weights, self.request.sha256)
        if self.request.preference is not None:
            check_folder(self.request.preference)

    @cached_property
    def preference(self) -> PreferenceModel | None:
        folder = self.request.preference
        return PreferenceModel(folder, pick_device(self.request.device)) if folder is not None else None

    @cached_property
    def extractor(self) -> Extractor:
        request = self.request
        return load_extractor(request.extractor, request.weights, request.sha256, pick_device(request.device))

    def measure(
        self, pictures: Sequence[PictureFile], judged: bool
    ) -> tuple[list[tuple[PictureFile, PictureFeatures]], ExtractionTime]:
        """The features of the pictures; with `judged`, also the judge's readings."""
        networks = ScoringNetworks(self.extractor, batch=self.request.batch)
        if judged:
            folder = resolve_judge()
            networks.judge, networks.judge_info = Judge.load(folder), judge_info(folder)
            networks.judge.net.to(pick_device(self.request.device))
        return self._look(pictures, networks)

    def _look(
        self, pictures: Sequence[PictureFile], networks: ScoringNetworks
    ) -> tuple[list[tuple[PictureFile, PictureFeatures]], ExtractionTime]:
        last = time.monotonic()

        def on_step(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= NOTE_EVERY:
                last = time.monotonic()
                self.reporter.note(f"looked at {done} of {total} pictures")

        def on_error(picture: PictureFile, error: T2IError) -> None:
            self.reporter.failed += 1
            self.reporter.fail(error)

        cache = FeatureCache(None if self.request.fresh else home() / CACHE)
        found, spent = extract_features(pictures, networks, cache, on_step, on_error)
        if not found:
            raise InputError("none of the pictures can be read.", "See above.", "partial")
        return found, spent

    def score(
        self, pictures: Sequence[PictureFile], prompts: Sequence[SuitePrompt], judged: bool
    ) -> tuple[list[PictureScore], ScoredSet, ExtractionTime]:
        """The metrics of the pictures, and their averages with the recipe."""
        found, spent = self.measure(pictures, judged)
        request, preferred = self.request, None
        if self.preference is not None:
            again, more = self._look([p for p, _ in found], ScoringNetworks(self.preference, batch=request.batch))
            preferred = self.preference, [f.features for _, f in again]
            spent.total, spent.networks = spent.total + more.total, spent.networks + more.networks
        rows = score_pictures(
            found, self.extractor, prompts, request.labels, request.metrics, request.sprites, preferred
        )
        info = self.preference.info if self.preference else None
        return rows, _scored_set(rows, self.extractor, prompts if judged else [], request.labels, info), spent


def _scored_set(
    rows: Sequence[PictureScore],
    extractor: Extractor,
    judged: Sequence[SuitePrompt],
    labels: Sequence[str],
    preference: NetworkInfo | None,
) -> ScoredSet:
    """The averages of the rows, with their recipe. judged: the prompts that the judge checked."""
    expectations = sorted((p.text, p.task, json.dumps(asdict(p.expectation), sort_keys=True)) for p in judged)
    suite_hash = hashlib.sha256(json.dumps(expectations).encode()).hexdigest()[:16] if judged else None
    judge = judge_info(resolve_judge()) if judged else None
    recipe = ScoreRecipe(extractor.info, judge, metric_versions(rows), suite_hash, tuple(labels), preference)
    models = sorted({row.picture.model for row in rows if row.picture.model})
    seeds = sorted({row.picture.seed for row in rows if row.picture.seed is not None})
    kept = tuple(row.row() for row in rows)
    return ScoredSet(recipe, tuple(average_by_unit(kept)), tuple(models), current_date(), seeds=tuple(seeds), rows=kept)


def _suite_checks(rows: Sequence[PictureScore], suite: Sequence[SuitePrompt]) -> dict[str, Interval]:
    """`task_scores.check_scores` of the pictures that were judged."""
    readings: dict[str, list[Reading]] = {}
    for row in rows:
        if row.picture.prompt and row.features.reading is not None:
            readings.setdefault(row.picture.prompt, []).append(row.features.reading)
    judged = [p for p in suite if p.text in readings and (p.expectation.objects or p.expectation.place)]
    return check_scores(judged, [readings[p.text] for p in judged]) if judged else {}


def _compare_sets(report: Report, measurer: _Measurer, request: ScoreRequest) -> None:
    """--against, --alpha and --save-stats."""
    if request.against is None and request.save_stats is None:
        return
    features, network = np.stack([row.features.features for row in report.rows]), measurer.extractor.info
    if request.against is not None:
        if request.against.suffix == ".npz":
            other = load_stats(request.against)
        else:
            found, _ = measurer.measure(all_pictures(request.against), judged=False)
            other = feature_stats(np.stack([f.features for _, f in found]), network)
        require_same_recipe(ScoreRecipe(network), ScoreRecipe(other.network), str(request.against))
        report.distances = compare_sets(features, other)
        if request.alpha is not None:
            if report.distances.kid_p is None:
                what = f"{request.against} holds no features: KID cannot be tested."
                raise UnavailableError(what, "Make it again with --save-stats.", "metric")
            report.set_verdict = "regression" if report.distances.kid_p < request.alpha else "pass"
    if request.save_stats is not None:
        save_stats(request.save_stats, feature_stats(features, network))


def _compare_before(
    report: Report, reporter: Reporter, pictures: Sequence[PictureFile], request: ScoreRequest
) -> list[tuple[PictureFile, PictureFile]]:
    """--before and --tier, and the pairs.

    Every picture before must have one after, or a model that draws only what is easy would pass; with a tier other than
    "far", the other way round, too. Raises InputError.
    """
    if request.before is None:
        return []
    earlier = all_pictures(request.before)
    pairs, alone = match_pictures(earlier, pictures)
    if not pairs:
        what = "no picture before has one after: neither prompt and seed nor file names agree."
        raise InputError(what, "Name the files alike, or compare them as sets with --against.")
    if len(pictures) > len(pairs):
        paired = {after.path for _, after in pairs}
        new = [p.name for p in pictures if p.path not in paired]
        what = f"{len(new)} of the {len(pictures)} pictures have none in {request.before}"
        if request.tier != "far":
            raise InputError(f"{what}: {new[0]}.", "Give all pictures before, or leave these out.")
        reporter.note(f"{what} and are not compared: {new[0]}")
    if alone:
        what = f"{len(alone)} of the {len(earlier)} pictures in {request.before} have none after: {alone[0].name}."
        raise InputError(what, "Draw the same prompts with the same seeds, or give --before only what is compared.")
    report.pairs, report.tier = worst_first([compare_pair(before, after) for before, after in pairs]), request.tier
    return pairs
