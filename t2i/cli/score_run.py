"""The steps of `t2i score`: what to look at, with which networks, and how it is told."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from t2i.cli.ui import EVERY, UI
from t2i.errors import InputError, T2IError, UnavailableError, UsageError
from t2i.files import write_bytes
from t2i.jobs.device import pick_device
from t2i.jobs.output_paths import check_writable
from t2i.jobs.reporter import shorten
from t2i.score import baseline as base
from t2i.score import suite as suites
from t2i.score.before_after import Tier, compare_pair, match_pictures, worst_first
from t2i.score.draw_suite import SuiteOrder, draw_suite
from t2i.score.extractors import ClipExtractor, Extractor, JudgeExtractor, OpenClipExtractor, judge_info
from t2i.score.feature_cache import FeatureCache, PictureFeatures
from t2i.score.features import ExtractionTime, ScoringNetworks, extract_features
from t2i.score.html_report import html_report
from t2i.score.junit_report import junit_report
from t2i.score.markdown_report import append_summary, markdown_report
from t2i.score.metrics import PictureScore, average_by_unit, metric_versions
from t2i.score.picture_files import PictureFile, find_pictures, read_prompts
from t2i.score.recipe import ScoreRecipe
from t2i.score.report import Report, interval_text, number
from t2i.score.set_distances import compare_sets, feature_stats, load_stats, save_stats
from t2i.score.suite import SuitePrompt
from t2i.score.task_scores import check_scores, subsample
from t2i.store.bundle import read_bundle
from t2i.store.registry import resolve, resolve_judge
from t2i.store.search_path import home

KEPT = "score.sqlite"
MOST_FALLEN = 5  # prompts that are named under a gate's table
THUMB = 96  # pixels a side of a picture on --sheet


@dataclass
class Look:
    """The networks of a run, loaded when they are needed, and where what they saw is kept."""

    ui: UI
    model: str
    device: str
    batch: int
    fresh: bool
    name: str
    weights: Path | None
    sha256: str | None

    def __post_init__(self) -> None:
        kind, _, arch = self.name.partition(":")
        if kind not in ("clip", "judge", "open_clip") or (kind == "open_clip" and not arch):
            raise UsageError(f"--extractor {self.name!r} is not known.", "Write clip, judge or open_clip:ARCH.")
        if kind == "open_clip" and self.weights is None:
            what = f"{self.name} needs its weights, which are not shipped."
            raise UnavailableError(what, "Fetch them and say --weights FILE.", "metric")

    @cached_property
    def extractor(self) -> Extractor:
        device = pick_device(self.device)
        kind, _, arch = self.name.partition(":")
        if kind == "judge":
            return JudgeExtractor(resolve_judge(), device)
        if kind == "open_clip":
            assert self.weights is not None
            return OpenClipExtractor(arch, self.weights, device, self.sha256)
        return ClipExtractor(resolve(arch or "small"), device)  # always the same eye, whatever model drew

    def at(
        self, pictures: Sequence[PictureFile], judged: bool
    ) -> tuple[list[tuple[PictureFile, PictureFeatures]], ExtractionTime]:
        """What is seen in the pictures; with ``judged``, also by the judge."""
        eyes = ScoringNetworks(self.extractor, batch=self.batch)
        if judged:
            from t2i.world.judge import Judge

            folder = resolve_judge()
            eyes.judge, eyes.judge_info = Judge.load(folder), judge_info(folder)
            eyes.judge.net.to(pick_device(self.device))
        last = time.monotonic()

        def on_step(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                self.ui.note(f"looked at {done} of {total} pictures")

        def on_error(picture: PictureFile, error: T2IError) -> None:
            self.ui.failed += 1
            self.ui.fail(error)

        memory = FeatureCache(None if self.fresh else home() / KEPT)
        seen, clock = extract_features(pictures, eyes, memory, on_step, on_error)
        if not seen:
            raise InputError("none of the pictures can be read.", "See above.", "partial")
        return seen, clock


def read_suite(ui: UI, name: str | None, limit: int | None) -> list[SuitePrompt]:
    """The prompts asked for, each once; none without a suite."""
    if name is None:
        return []
    every = suites.read_suite(suites.suite_path(name))
    prompts = list({p.text: p for p in reversed(every)}.values())[::-1]
    if len(prompts) < len(every):
        ui.note(f"{len(every) - len(prompts)} of the {len(every)} prompts of {name} are repeats and are left out")
    if limit is None or limit >= len(prompts):
        return prompts
    return subsample(prompts, limit)


def find(ui: UI, places: Sequence[Path], prompts: Path | None, asked: Sequence[SuitePrompt]) -> list[PictureFile]:
    """The user's pictures; one that cannot be read is told and counted.

    Raises InputError where --prompts names none of them, or a suite asks for none.
    """
    listed = read_prompts(prompts) if prompts else {}
    pictures, broken = find_pictures(places, listed)
    for _, error in broken:
        ui.failed += 1
        ui.fail(error)
    if not pictures:
        raise InputError("none of the pictures can be read.", "See above.", "partial")
    if prompts is not None:
        lost = set(listed) - {p.name for p in pictures} - {p.path.name for p in pictures}
        if len(lost) == len(listed):
            raise InputError(f"{prompts} names none of the pictures.", 'Write {"file_name": …, "prompt": …} a line.')
        if lost:
            ui.warn(f"{len(lost)} of the {len(listed)} pictures that {prompts} names are not there: {min(lost)}")
    silent = sum(p.prompt is None for p in pictures)
    if silent:
        ui.note(f"{silent} of {len(pictures)} pictures have no prompt: what compares with one leaves them out")
    if asked:
        texts = {p.text for p in asked}
        there = sum(p.prompt in texts for p in pictures)
        if not there:
            raise InputError("no picture was drawn for a prompt of the suite.", "Give the suite that they came from.")
        bare = len(texts - {p.prompt for p in pictures if p.prompt})
        if bare:
            ui.warn(f"{bare} of the {len(texts)} prompts of the suite have no picture")
        if there < len(pictures):
            ui.note(f"{len(pictures) - there} of {len(pictures)} pictures show nothing that the suite asks for")
    return pictures


def draw(
    ui: UI, suite: str, prompts: Sequence[SuitePrompt], n: int, seed: int, model: str, words: dict[str, str],
    out: Path | None, batch: int, device: str,
) -> list[PictureFile]:  # fmt: skip
    """The pictures of a suite."""
    bundle = read_bundle(resolve(model))
    folder = out or Path("out") / "score" / f"{Path(suite).stem}-{bundle.manifest.name}"
    check_writable(folder)
    return draw_suite(ui, SuiteOrder(bundle, prompts, n, seed, words, folder, batch, device))


def score_of(
    rows: Sequence[PictureScore], look: Look, suite: Sequence[SuitePrompt], labels: Sequence[str]
) -> base.ScoredSet:
    """The rows as a score that can be kept."""
    said = sorted((p.text, p.task, json.dumps(asdict(p.expectation), sort_keys=True)) for p in suite)
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16] if suite else None
    judge = judge_info(resolve_judge()) if suite else None
    recipe = ScoreRecipe(look.extractor.info, judge, metric_versions(rows), digest, tuple(labels))
    models = sorted({row.picture.model for row in rows if row.picture.model})
    seeds = sorted({row.picture.seed for row in rows if row.picture.seed is not None})
    return base.ScoredSet(recipe, tuple(average_by_unit(rows)), tuple(models), base.current_date(), seeds=tuple(seeds))


def sets(report: Report, look: Look, other: Path | None, save: Path | None, alpha: float | None) -> None:
    """--against, --alpha and --save-stats."""
    import numpy as np

    if other is None and save is None:
        return
    features = np.stack([row.features.features for row in report.rows])
    network = look.extractor.info
    if other is not None:
        if other.suffix == ".npz":
            theirs = load_stats(other)
        else:
            pictures, broken = find_pictures([other])
            if broken:
                raise broken[0][1]
            seen, _ = look.at(pictures, judged=False)
            theirs = feature_stats(np.stack([s.features for _, s in seen]), network)
        from t2i.score.recipe import require_same_recipe

        require_same_recipe(ScoreRecipe(network), ScoreRecipe(theirs.network), str(other))
        report.distances = compare_sets(features, theirs)
        if alpha is not None:
            if report.distances.kid_p is None:
                what = f"{other} holds no features: KID cannot be tested."
                raise UnavailableError(what, "Make it again with --save-stats.", "metric")
            report.set_verdict = "regression" if report.distances.kid_p < alpha else "pass"
    if save is not None:
        save_stats(save, feature_stats(features, network))


def pairs(report: Report, ui: UI, after: Sequence[PictureFile], before: Path | None, tier: Tier) -> None:
    """--before and --tier."""
    if before is None:
        return
    earlier, broken = find_pictures([before])
    if broken:
        raise broken[0][1]
    matched, alone = match_pictures(earlier, after)
    if len(after) > len(matched):
        paired = {b.path for _, b in matched}
        new = [p.name for p in after if p.path not in paired]
        what = f"{len(new)} of the {len(after)} pictures have none in {before}"
        if tier != "far":
            raise InputError(f"{what}: {new[0]}.", "Give all pictures before, or leave these out.")
        ui.note(f"{what} and are not compared: {new[0]}")
    if alone:
        what = f"{len(alone)} of the {len(earlier)} pictures in {before} have none after"
        if tier != "far":
            raise InputError(f"{what}: {alone[0].name}.", "Draw the same prompts with the same seeds.")
        ui.warn(what)
    report.pairs, report.tier = worst_first([compare_pair(a, b) for a, b in matched]), tier


def tell(ui: UI, report: Report, suite: str | None, asked: Sequence[SuitePrompt], wanted: Sequence[str]) -> None:
    """The result on stdout: rows for people, or records. wanted: only these metrics; none: all."""
    splits = {k: m for k, m in _splits(report, asked).items() if not wanted or k.split(" ")[0] in wanted}
    for warning in report.warnings:
        ui.warn(warning)
    if ui.json:
        for row in report.rows:
            ui.picture(row.picture.path, row.to_json())
        tasks = {k: {"mean": m.mean, "low": m.low, "high": m.high, "prompts": m.n} for k, m in splits.items()}
        counts = {"suite": suite, "pictures": len(report.rows), "tasks": tasks}
        ui.record({**counts, **report.to_json()})
        return
    rows = [list(row) for row in report.mean_rows()]
    known = {row[0] for row in rows}
    rows += [[task, number(m.mean), interval_text(m), str(m.n)] for task, m in splits.items() if task not in known]
    ui.table("score", ["metric", "mean", "95% interval", "prompts"], rows)
    if report.label_counts():
        ui.table("labels", ["label", "pictures"], [["label: " + k, str(v)] for k, v in report.label_counts().items()])
    if report.distances:
        numbers = report.distances.numbers()
        ui.table("set against set", ["measure", "value"], [["set: " + k, number(v)] for k, v in numbers.items()])
        for note in report.distances.notes:
            ui.note(note)
    if report.pairs:
        shown = report.pairs[:10]
        cells = [[p.name, p.tier, "" if p.psnr is None else number(p.psnr), _ssim(p.ssim)] for p in shown]
        ui.table("before and after, worst first", ["picture", "tier", "PSNR", "SSIM"], cells)
        ui.note(report.tier_counts())
    if report.gate:
        head = ["gate", "before", "after", "change", "95% interval", "margin", "detectable", "verdict"]
        ui.table("gate", head, [["gate: " + row[0], *row[1:]] for row in report.gate_rows()])
        for remark in report.remarks():
            ui.note(remark)
        if report.verdict != "pass":
            for _, unit, was, now in report.fallen(MOST_FALLEN):
                ui.note(f"fell from {number(was)} to {number(now)}: {shorten(unit)}")
    if report.verdict:
        ui.line(f"verdict\t{report.headline()}")
    c = report.time
    ui.note(f"{c.pictures} pictures in {c.total:.1f} s, {100 * c.share:.0f}% of it in the networks; {c.cached} known")


def _ssim(value: float | None) -> str:
    return "" if value is None else number(value)


def _splits(report: Report, asked: Sequence[SuitePrompt]) -> dict[str, Any]:
    """The checks of a suite, also by side and by language."""
    by_prompt: dict[str, list[Any]] = {}
    for row in report.rows:
        if row.picture.prompt and row.features.reading is not None:
            by_prompt.setdefault(row.picture.prompt, []).append(row.features.reading)
    there = [p for p in asked if p.text in by_prompt and (p.expectation.objects or p.expectation.place)]
    return check_scores(there, [by_prompt[p.text] for p in there]) if there else {}


def write_sheet(path: Path, rows: Sequence[PictureScore]) -> None:
    """All pictures as one."""
    from t2i.media.images import load_image, save_image
    from t2i.media.sheet import contact_sheet, in_rows
    from t2i.score.extractors import center_square

    thumbs = [center_square(load_image(row.picture.path), THUMB) for row in rows]
    save_image(contact_sheet(in_rows(thumbs)), path)


def write_reports(report: Report, junit: Path | None, html: Path | None, summary: str | None) -> None:
    """--junit, --html and $GITHUB_STEP_SUMMARY."""
    if junit is not None:
        write_bytes(junit, junit_report(report))
    if html is not None:
        write_bytes(html, html_report(report).encode())
    if summary:
        append_summary(Path(summary), markdown_report(report))
