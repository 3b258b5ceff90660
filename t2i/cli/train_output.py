"""The output of `t2i train`: its progress, what it made, and the plan of --dry-run."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from t2i.cli.ui import EVERY, UI, count_of, duration
from t2i.jobs.reporter import Stopped, safe

COLUMNS = ("stage", "parameters", "steps", "batch", "samples", "state_mb", "shipped_mb", "seconds")


def _cut_out(facts: dict[str, Any]) -> str:
    found, pictures = facts["found"], facts["pictures"]
    if not found:
        return "your thing cannot be told from its surroundings in any picture: it is learned together with them"
    return f"your thing was cut out of {found} of {pictures} pictures, to be pasted into other places"


PLAIN: dict[str, Callable[[dict[str, Any]], str]] = {
    "dropped": lambda facts: f"dropped, because {facts['why']}",
    "compiling": lambda facts: f"compiling; {facts['hint']}",
    "one picture": lambda facts: f"there is one picture: {facts['hint']}",
    "cut out": _cut_out,
    "begins": lambda facts: f"the new word starts out as {facts['like']!r}, the known word nearest to your pictures",
}
"""Events that happen once and whose bare facts say little: event -> what a person is told."""


class TrainReporter:
    """Prints the records of a training: bars on a terminal, a line every few seconds elsewhere, or JSON lines."""

    def __init__(self, ui: UI) -> None:
        self.ui = ui
        self.last = 0.0
        self.bars: Any = None
        self.tasks: dict[str, Any] = {}

    def __enter__(self) -> TrainReporter:
        if sys.stderr.isatty() and not (self.ui.quiet or self.ui.json):
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

            words = [TextColumn(f"{{task.{field}}}", markup=False) for field in ("description", "fields[said]")]
            columns = (words[0], BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), words[1])
            self.bars = Progress(*columns, console=Console(stderr=True))
            self.bars.start()
        return self

    def __exit__(self, *fault: object) -> None:
        if self.bars is not None:
            self.bars.stop()

    def __call__(self, facts: dict[str, Any]) -> None:
        if self.ui.json:
            self.ui.record(_finite(facts))
        elif self.bars is not None and facts.get("event") in ("start", "step", "embed"):
            self._bar(facts)
        elif self.bars is not None:
            self.bars.console.print(safe(_sentence(facts)), markup=False, highlight=False)
        elif facts.get("event") not in ("step", "embed") or facts["step"] == facts["steps"] or self._due():
            self.ui.note(_sentence(facts))

    def _bar(self, facts: dict[str, Any]) -> None:
        """Move the bar of the event's stage."""
        name = f"{facts['stage']} {facts['event']}" if facts["event"] == "embed" else str(facts["stage"])
        if name not in self.tasks:
            self.tasks[name] = self.bars.add_task(name, total=facts["steps"], said="")
        kept: dict[str, Any] = {k: facts[k] for k in ("loss", "mse", "top1", "rate", "left", "skipped") if k in facts}
        said = _sentence({"event": "step", **kept}).removeprefix(": ")
        self.bars.update(self.tasks[name], completed=facts["step"], said=said)

    def _due(self) -> bool:
        """Whether it is time for another line."""
        now = time.monotonic()
        if now - self.last < EVERY:
            return False
        self.last = now
        return True


def _finite(facts: dict[str, Any]) -> dict[str, Any]:
    """Replace NaN and infinity, which JSON lacks, by null."""
    return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in facts.items()}


def _sentence(facts: dict[str, Any]) -> str:
    """An event as a line of text."""
    if told := PLAIN.get(str(facts.get("event"))):
        return f"{facts['stage']}: {told(facts)}"
    head = [str(facts.get("stage", "")), str(facts["event"]) if facts.get("event") != "step" else ""]
    if "step" in facts:
        head.append(f"{facts['step']}/{facts['steps']}" if "steps" in facts else str(facts["step"]))
    parts = []
    for key, value in facts.items():
        if key in ("event", "stage", "step", "steps", "seconds") or (key == "skipped" and not value):
            continue
        if key == "rate":
            parts.append(f"{value:.0f} pictures/s")
        elif key == "left":
            parts.append(f"{value / 60:.1f} min left" if value >= 90 else f"{value:.0f} s left")
        else:
            parts.append(f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}")
    return " ".join(word for word in head if word) + (": " + ", ".join(parts) if parts else "")


@contextmanager
def preparing(ui: UI) -> Iterator[None]:
    """A block before anything is written. Says so if a signal ends it."""
    try:
        yield
    except (KeyboardInterrupt, Stopped):
        ui.note("stopped before the training began; nothing was written")
        raise


@contextmanager
def watching(ui: UI, work: Path | None) -> Iterator[tuple[list[int], TrainReporter]]:
    """A training: the signals that shall end it soon, and its reporter. Says what is saved if one ends it at once.

    work: where checkpoints are; None: nothing is written.
    """
    with ui.finishing() as signals:
        try:
            with TrainReporter(ui) as report:
                yield signals, report
        except (KeyboardInterrupt, Stopped):
            _tell_saved(ui, work)
            raise


def _tell_saved(ui: UI, work: Path | None) -> None:
    """Say of a training that was stopped what is saved, and how to go on."""
    from t2i.train.state import TENSORS

    if work is None:
        return ui.note("stopped; a dry run writes nothing")
    files = sorted((work / ".train").glob(f"*/{TENSORS}"), key=lambda file: file.stat().st_mtime)
    if files:
        names = ", ".join(file.parent.name for file in files)
        return ui.note(f"stopped; saved in {work}: {names}. To go on: the same command with --resume")
    ui.note("stopped before the first step: nothing is saved yet. The same command begins anew")


def finish(ui: UI, out: Path, work: Path, plan: dict[str, Any] | None, signals: list[int]) -> None:
    """Tell what was made: a plan, of `--dry-run`, or `out`. work: where checkpoints are. Raises Stopped."""
    if signals:
        _tell_saved(ui, work if plan is None else None)
        raise Stopped(signals[0])
    if plan is not None:
        show_plan(ui, plan)
    elif not ui.json:
        ui.line(str(out))


def show_plan(ui: UI, plan: dict[str, Any]) -> None:
    """The plan of `--dry-run` (see `t2i.train.plan.plan`): on a terminal a table with units, elsewhere a row a stage;
    with --json a record, which alone has the recipe."""
    stages: list[dict[str, Any]] = plan["stages"]
    if ui.json:
        return ui.record(plan)
    if not stages:
        return ui.line("nothing to train: what the recipe says of this is shared, or taken as it is")
    totals = {name: round(sum(row[name] for row in stages), 1) for name in ("parameters", "shipped_mb", "seconds")}
    if not sys.stdout.isatty():
        rows = [{name: name for name in COLUMNS}, *stages, {"stage": "all", **totals}]
        return ui.table("plan", list(COLUMNS), [[str(row.get(name, "")) for name in COLUMNS] for row in rows])
    rows = [*stages, {"stage": "all", **totals, "state_mb": max(row["state_mb"] for row in stages)}]
    columns = ["stage", "parameters", "steps", "batch", "time", "memory", "file"]
    ui.table(f"training on {plan['data']}, into {plan['out']}", columns, [_plan_row(row) for row in rows])
    ui.note("The time is that of this machine, as busy as it is now; the memory that of")
    ui.note("weights and optimiser. Nothing was written. --json has the whole recipe, too.")


def _plan_row(row: dict[str, Any]) -> list[str]:
    """A row of the plan with units; the last one has no steps."""
    steps = [f"{row['steps']:,}", str(row["batch"])] if "steps" in row else ["", ""]
    sizes = [f"{row['state_mb']:,} MB", f"{row['shipped_mb']:,} MB"]
    return [row["stage"], count_of(row["parameters"]), *steps, duration(row["seconds"]), *sizes]
