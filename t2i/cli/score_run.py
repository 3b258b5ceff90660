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

from t2i.cli.score_draw import Order, draw_suite
from t2i.cli.ui import EVERY, UI
from t2i.errors import InputError, T2IError, UnavailableError, UsageError
from t2i.files import write_bytes
from t2i.jobs.device import pick_device
from t2i.jobs.output_paths import check_writable
from t2i.jobs.reporter import shorten
from t2i.score import baseline as base
from t2i.score import junit as xml
from t2i.score import page as web
from t2i.score import sets as piles
from t2i.score.extract import BundleClip, Extractor, JudgeFeatures, OpenClip, judge_network
from t2i.score.listing import Picture, find_pictures, read_prompts
from t2i.score.lists import read_list, suite_path
from t2i.score.measure import Clock, Eyes, Memory, Seen, measure
from t2i.score.metrics import Row, score_rows, units_of, versions
from t2i.score.pairs import Tier, compare, match, worst_first
from t2i.score.recipe import Recipe
from t2i.score.report import Report, number, span
from t2i.score.suite import Prompt, summarise
from t2i.score.tasks import sample
from t2i.store.bundle import read_bundle
from t2i.store.registry import resolve, resolve_judge
from t2i.store.search_path import home

__all__ = ["Look", "draw", "find", "pairs", "read_suite", "score_of", "score_rows", "sets", "tell", "write_reports"]

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
            return JudgeFeatures(resolve_judge(), device)
        if kind == "open_clip":
            assert self.weights is not None
            return OpenClip(arch, self.weights, device, self.sha256)
        return BundleClip(resolve(arch or "small"), device)  # always the same eye, whatever model drew

    def at(self, pictures: Sequence[Picture], judged: bool) -> tuple[list[tuple[Picture, Seen]], Clock]:
        """What is seen in the pictures; with ``judged``, also by the judge."""
        eyes = Eyes(self.extractor, batch=self.batch)
        if judged:
            from t2i.world.judge import Judge

            folder = resolve_judge()
            eyes.judge, eyes.judged_by = Judge.load(folder), judge_network(folder)
            eyes.judge.net.to(pick_device(self.device))
        last = time.monotonic()

        def on_step(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= EVERY:
                last = time.monotonic()
                self.ui.note(f"looked at {done} of {total} pictures")

        def on_fault(picture: Picture, error: T2IError) -> None:
            self.ui.failed += 1
            self.ui.fail(error)

        memory = Memory(None if self.fresh else home() / KEPT)
        seen, clock = measure(pictures, eyes, memory, on_step, on_fault)
        if not seen:
            raise InputError("none of the pictures can be read.", "See above.", "partial")
        return seen, clock


def read_suite(ui: UI, name: str | None, limit: int | None) -> list[Prompt]:
    """The prompts asked for, each once; none without a suite."""
    if name is None:
        return []
    every = read_list(suite_path(name))
    prompts = list({p.text: p for p in reversed(every)}.values())[::-1]
    if len(prompts) < len(every):
        ui.note(f"{len(every) - len(prompts)} of the {len(every)} prompts of {name} are repeats and are left out")
    if limit is None or limit >= len(prompts):
        return prompts
    return sample(prompts, limit)


def find(ui: UI, places: Sequence[Path], prompts: Path | None, asked: Sequence[Prompt]) -> list[Picture]:
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
    ui: UI, suite: str, prompts: Sequence[Prompt], n: int, seed: int, model: str, words: dict[str, str],
    out: Path | None, batch: int, device: str,
) -> list[Picture]:  # fmt: skip
    """The pictures of a suite."""
    bundle = read_bundle(resolve(model))
    folder = out or Path("out") / "score" / f"{Path(suite).stem}-{bundle.manifest.name}"
    check_writable(folder)
    return draw_suite(ui, Order(bundle, prompts, n, seed, words, folder, batch, device))


def score_of(rows: Sequence[Row], look: Look, suite: Sequence[Prompt], labels: Sequence[str]) -> base.Score:
    """The rows as a score that can be kept."""
    said = sorted((p.text, p.task, json.dumps(asdict(p.expectation), sort_keys=True)) for p in suite)
    digest = hashlib.sha256(json.dumps(said).encode()).hexdigest()[:16] if suite else None
    judge = judge_network(resolve_judge()) if suite else None
    recipe = Recipe(look.extractor.network, judge, versions(rows), digest, tuple(labels))
    models = sorted({row.picture.model for row in rows if row.picture.model})
    seeds = sorted({row.picture.seed for row in rows if row.picture.seed is not None})
    return base.Score(recipe, tuple(units_of(rows)), tuple(models), base.now(), seeds=tuple(seeds))


def sets(report: Report, look: Look, other: Path | None, save: Path | None, alpha: float | None) -> None:
    """--against, --alpha and --save-stats."""
    import numpy as np

    if other is None and save is None:
        return
    features = np.stack([row.seen.features for row in report.rows])
    network = look.extractor.network
    if other is not None:
        if other.suffix == ".npz":
            theirs = piles.load_stats(other)
        else:
            pictures, broken = find_pictures([other])
            if broken:
                raise broken[0][1]
            seen, _ = look.at(pictures, judged=False)
            theirs = piles.stats_of(np.stack([s.features for _, s in seen]), network)
        from t2i.score.recipe import refuse

        refuse(Recipe(network), Recipe(theirs.network), str(other))
        report.distances = piles.against(features, theirs)
        if alpha is not None:
            if report.distances.kid_p is None:
                what = f"{other} holds no features: KID cannot be tested."
                raise UnavailableError(what, "Make it again with --save-stats.", "metric")
            report.set_verdict = "regression" if report.distances.kid_p < alpha else "pass"
    if save is not None:
        piles.save_stats(save, piles.stats_of(features, network))


def pairs(report: Report, ui: UI, after: Sequence[Picture], before: Path | None, tier: Tier) -> None:
    """--before and --tier."""
    if before is None:
        return
    earlier, broken = find_pictures([before])
    if broken:
        raise broken[0][1]
    matched, alone = match(earlier, after)
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
    report.pairs, report.tier = worst_first([compare(a, b) for a, b in matched]), tier


def tell(ui: UI, report: Report, suite: str | None, asked: Sequence[Prompt], wanted: Sequence[str]) -> None:
    """The result on stdout: rows for people, or records. wanted: only these metrics; none: all."""
    splits = {k: m for k, m in _splits(report, asked).items() if not wanted or k.split(" ")[0] in wanted}
    for warning in report.warnings:
        ui.warn(warning)
    if ui.json:
        for row in report.rows:
            ui.picture(row.picture.path, row.table())
        tasks = {k: {"mean": m.mean, "low": m.low, "high": m.high, "prompts": m.n} for k, m in splits.items()}
        counts = {"suite": suite, "pictures": len(report.rows), "tasks": tasks}
        ui.record({**counts, **report.table()})
        return
    rows = [list(row) for row in report.means()]
    known = {row[0] for row in rows}
    rows += [[task, number(m.mean), span(m), str(m.n)] for task, m in splits.items() if task not in known]
    ui.table("score", ["metric", "mean", "95% interval", "prompts"], rows)
    if report.labels():
        ui.table("labels", ["label", "pictures"], [["label: " + k, str(v)] for k, v in report.labels().items()])
    if report.distances:
        numbers = {k: v for k, v in report.distances.table().items() if isinstance(v, (int, float))}
        ui.table("set against set", ["measure", "value"], [["set: " + k, number(v)] for k, v in numbers.items()])
        for note in report.distances.notes:
            ui.note(note)
    if report.pairs:
        shown = report.pairs[:10]
        cells = [[p.name, p.tier, "" if p.psnr is None else number(p.psnr), _ssim(p.ssim)] for p in shown]
        ui.table("before and after, worst first", ["picture", "tier", "PSNR", "SSIM"], cells)
        ui.note(report.tiers())
    if report.outcome:
        head = ["gate", "before", "after", "change", "95% interval", "margin", "detectable", "verdict"]
        ui.table("gate", head, [["gate: " + row[0], *row[1:]] for row in report.checks()])
        for remark in report.remarks():
            ui.note(remark)
        if report.verdict != "pass":
            for _, unit, was, now in report.worst(MOST_FALLEN):
                ui.note(f"fell from {number(was)} to {number(now)}: {shorten(unit)}")
    if report.verdict:
        ui.line(f"verdict\t{report.headline()}")
    c = report.clock
    ui.note(
        f"{c.pictures} pictures in {c.total:.1f} s, {100 * c.share:.0f}% of it in the networks; {c.remembered} known"
    )


def _ssim(value: float | None) -> str:
    return "" if value is None else number(value)


def _splits(report: Report, asked: Sequence[Prompt]) -> dict[str, Any]:
    """The checks of a suite, also by side and by language."""
    by_prompt: dict[str, list[Any]] = {}
    for row in report.rows:
        if row.picture.prompt and row.seen.reading is not None:
            by_prompt.setdefault(row.picture.prompt, []).append(row.seen.reading)
    there = [p for p in asked if p.text in by_prompt and (p.expectation.objects or p.expectation.place)]
    return summarise(there, [by_prompt[p.text] for p in there]) if there else {}


def write_sheet(path: Path, rows: Sequence[Row]) -> None:
    """All pictures as one."""
    from t2i.media.images import load_image, save_image
    from t2i.media.sheet import contact_sheet, in_rows
    from t2i.score.extract import fit

    thumbs = [fit(load_image(row.picture.path), THUMB) for row in rows]
    save_image(contact_sheet(in_rows(thumbs)), path)


def write_reports(report: Report, junit: Path | None, html: Path | None, summary: str | None) -> None:
    """--junit, --html and $GITHUB_STEP_SUMMARY."""
    if junit is not None:
        write_bytes(junit, xml.junit(report))
    if html is not None:
        write_bytes(html, web.page(report).encode())
    if summary:
        xml.append_summary(Path(summary), xml.markdown(report))
