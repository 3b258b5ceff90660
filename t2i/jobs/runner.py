"""From a checked request to picture files: skip what exists, draw the rest in batches, save and report each picture."""

from __future__ import annotations

import os
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from t2i.batching import in_halves
from t2i.engine import OnStep
from t2i.errors import InputError, InternalError, T2IError, UnavailableError
from t2i.files import clear_stale
from t2i.jobs.claims import Claims
from t2i.jobs.device import pick_device
from t2i.jobs.manifests import Manifests
from t2i.jobs.output_paths import make_folder
from t2i.jobs.prompt_warnings import PromptWarnings
from t2i.jobs.reporter import Reporter, Stopped
from t2i.jobs.request import J, Request
from t2i.jobs.saving import PictureFiles, save_stage
from t2i.jobs.timing import StageTimer

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.engine import Engine, Samples

    Report = tuple[Path, dict[str, Any], Image | None] | None
    """What is reported of a picture: path, facts, pixels if they are shown; None for one that failed."""

PATIENCE = 10  # broken pictures in a row, before any good one, that end a run
AHEAD = 8  # batches of jobs that may wait for others of their group, or for earlier pictures to be reported


class Runner(Generic[J]):
    """One run over jobs.

    A picture whose key lies under its name already is reported again, not drawn. Jobs of one group are drawn together,
    also when others stand between them. A picture is saved as soon as it is drawn, and reported as soon as all before
    it have been. A job whose record cannot be made (its input is broken) counts as failed, and the run goes on.

    paths: index -> the file of each picture, if `remember`. failures: the jobs that failed, each with its error.
    on_picture: what is told of each picture, `Reporter.picture` unless given.
    """

    def __init__(
        self,
        reporter: Reporter,
        request: Request[J],
        jobs: Sequence[J],
        device: str,
        batch: int,
        remember: bool = False,
        on_picture: Callable[[Path, dict[str, Any], Image | None], None] | None = None,
    ) -> None:
        self.reporter, self.request, self.jobs, self.device, self.batch = reporter, request, jobs, device, batch
        self.on_picture = on_picture or reporter.picture
        self.remember = remember
        self.engine: Engine | None = None
        self.paths: dict[int, Path] = {}
        self.failures: list[tuple[J, T2IError]] = []
        self._files = PictureFiles(request, reporter.warn)
        self._manifests = Manifests(request.manifest)
        self._warnings = PromptWarnings(reporter.warn)
        self._drawn: dict[tuple[str, str], str] = {}  # (place, key) -> the file written by this run
        self._waiting: dict[str, dict[tuple[str, str], J]] = {}  # group -> (place, key) -> job
        self._claims = Claims(not request.overwrite)
        self._elsewhere: dict[tuple[str, str], J] = {}  # what another run is drawing
        self._entered: set[Path] = set()  # folders that were made
        self._ready: dict[int, Report] = {}  # index -> what is to be reported once all before it are
        self._order = [job.index for job in jobs]  # of a share of a batch, these have gaps
        self._next = 0  # place in it of the next picture to report
        self._done = 0
        self._skipped = 0
        self._reported: set[Path] = set()
        self._renamed = False  # whether it was said that a name was taken
        self._folders: dict[Path, None] = {}  # those of the pictures, in order
        self._started = time.monotonic()

    def run(self) -> None:
        """Do all jobs. Raises Stopped after a signal, UnavailableError (no device, no memory), InputError (code
        `output` when a file cannot be written, `partial` when the first pictures are all broken)."""
        if not self.jobs:
            self.reporter.note("nothing to do: there are more shares than pictures")
        try:
            for job in self.jobs:
                self._take(job)
            while self._waiting or self._elsewhere:
                if self._waiting:
                    self._flush(next(iter(self._waiting)))
                else:
                    self._await()
        finally:
            try:
                self._claims.close()
            finally:  # a second signal may break the first off
                self._claims.close()
        if self._drawn or self._skipped:
            self.reporter.note(self._summary())

    def _summary(self) -> str:
        """How many pictures were made, how many were there, and where they are."""
        made, total = len(self._drawn), len(self.jobs)
        parts = []
        if made:
            parts.append(f"{made} picture{'s' * (made > 1)} in {time.monotonic() - self._started:.1f} s")
        if self._skipped:
            parts.append(f"{self._skipped} of {total} {'was' if self._skipped == 1 else 'were'} there already")
        folders = list(self._folders)
        where = f"{folders[0]}{os.sep}" if len(folders) == 1 else f"{len(folders)} folders below {_common(folders)}"
        return f"{', '.join(parts)}: {where}"

    def finish(self) -> None:
        """Raise InputError (code `partial`) when pictures failed; of one picture its own error, not told before."""
        if len(self.jobs) == 1 and self.failures and not isinstance(self.failures[0][1], InternalError):
            raise self.failures[0][1]
        if self.failures:
            failed = f"{len(self.failures)} of {len(self.jobs)} pictures failed."
            raise InputError(failed, "See above.", "partial")

    def _take(self, job: J) -> None:
        """Report a picture that exists; let another wait for its batch."""
        try:
            record = self.request.record(job)
        except UnavailableError:
            raise  # the next job would fail in the same way
        except T2IError as error:
            self._fail(job, error)
            return
        name, group = (job.place, record.key), job.group
        if name in self._waiting.get(group, {}):  # asked for twice
            self._flush(group)
        while name in self._elsewhere:
            self._await()
        if name in self._drawn:
            self._skip(job, Path(self._drawn[name]), record.table())
        elif not self._is_there(job, record.key):
            self._waiting.setdefault(group, {})[name] = job
            if len(self._waiting[group]) >= self.batch:
                self._flush(group)
        most = AHEAD * self.batch
        while max(sum(map(len, self._waiting.values())), len(self._ready)) > most:
            if any(other.index == self._order[self._next] for other in self._elsewhere.values()):
                self._await()  # nothing can be reported before it
            else:
                self._flush(next(iter(self._waiting)))  # the group that has waited longest

    def _is_there(self, job: J, key: str) -> bool:
        """Report a picture that exists."""
        found = None if self.request.overwrite else self._files.find(job, key)
        if found is not None:
            self._skip(job, *found)
        return found is not None

    def _skip(self, job: J, path: Path, table: dict[str, Any]) -> None:
        self._skipped += 1
        self._manifests.add(path, table)
        self._report(job, (path, {**table, "skipped": True}, None))

    def _await(self) -> None:
        """Wait for the run that draws the first of the pictures in `_elsewhere`, and take all of them up again: by now
        they exist, or that run has failed."""
        (_, key), job = next(iter(self._elsewhere.items()))
        path = self.request.names(job)[0]
        if not self._claims.take(path, key):
            self.reporter.note(f"waiting for another run, which is drawing {path}")
            self._claims.take(path, key, wait=True)
        for name, other in self._elsewhere.items():
            self._waiting.setdefault(other.group, {})[name] = other
        self._elsewhere.clear()
        self._flush(job.group)

    def _flush(self, group: str) -> None:
        """Draw and save the jobs of a group, without those that another run is drawing, or has drawn meanwhile."""
        waiting = self._waiting.pop(group)
        self.engine_for(next(iter(waiting.values())))
        jobs = []
        try:
            for name, job in waiting.items():
                path, key = self.request.names(job)[0], name[1]
                self._enter(path.parent)
                if not self._claims.take(path, key):
                    self._elsewhere[name] = job
                elif not self._is_there(job, key):
                    jobs.append(job)
            if jobs:
                self._draw_and_save(jobs)
        finally:
            self._claims.release()

    def engine_for(self, job: J) -> Engine:
        """The model that draws a job, loaded at the first call."""
        if self.engine is None:
            self.engine = self.request.load(job, pick_device(self.device))
        return self.engine

    def _enter(self, folder: Path) -> None:
        """Make a folder, and clear it of what a killed run has left."""
        if folder not in self._entered:
            make_folder(folder)
            clear_stale(folder)
            self._entered.add(folder)

    def _draw_and_save(self, jobs: list[J]) -> None:
        """A signal ends the drawing at once; what is drawn is saved first."""
        first, last = (bisect_left(self._order, job.index) + 1 for job in (jobs[0], jobs[-1]))
        span = f"picture {first}" if first == last else f"pictures {first}-{last}"
        try:
            with self.reporter.progress(f"{span} of {len(self.jobs)}", self._done, len(self.jobs)) as on_step:
                parts = self._draw(jobs, on_step)
            with self.reporter.finishing() as signals:
                for some, (samples, timer) in parts:
                    for i, job in enumerate(some):
                        self._save(job, samples, i, timer.table(len(some)))
            if signals:
                raise Stopped(signals[0])
        except (Stopped, KeyboardInterrupt):
            for index in sorted(self._ready):  # drawn ahead of their turn
                self._tell(self._ready.pop(index))
            raise

    def _draw(self, jobs: list[J], on_step: OnStep) -> list[tuple[list[J], tuple[Samples, StageTimer]]]:
        """The pictures of jobs, in smaller batches where memory does not suffice."""
        engine = self.engine
        assert engine is not None

        def draw(some: list[J]) -> tuple[Samples, StageTimer]:
            timer = StageTimer()
            return self.request.draw(engine, some, timer.watch(on_step)), timer

        def halved(size: int) -> None:
            self.batch = max(1, min(self.batch, size))
            self.reporter.note(f"not enough memory for this batch; going on with {self.batch} at a time")

        return in_halves(draw, jobs, halved)

    def _save(self, job: J, samples: Samples, i: int, timing: dict[str, Any]) -> None:
        """Write one picture and report it. One with broken numbers counts as failed."""
        from t2i.media.images import to_pil

        assert self.engine is not None
        record = self.request.record(job, samples.truncated[i])
        self._warnings.check(self.request.said(job), samples.truncated[i], samples.unknown[i], self.engine)
        try:
            image = to_pil(samples.images[i])
            path, ours = self._files.save(job, image, record)
            stages = {}
            for name, pixels in samples.stages.items() if self.request.keep_stages else ():
                if pixels.ndim == 4:  # not the prior's embeddings
                    stages[name] = str(save_stage(path, name, pixels[i], record))
        except InternalError as error:
            dtype = record.settings.get("dtype", "float32")
            hint = "Its weights or these settings are at fault." if dtype == "float32" else "Try --dtype float32."
            self._fail(job, InternalError(error.message, hint))
            if len(self.failures) >= PATIENCE and not self._drawn:
                raise InputError(f"the first {PATIENCE} pictures all failed.", hint, "partial") from error
            return
        self._drawn[job.place, record.key] = str(path)
        table = record.table()
        self._manifests.add(path, table)
        facts = {**table, "skipped": not ours, **({"stages": stages} if stages else {})}
        facts |= self.request.facts(job, timing)
        self._report(job, (path, facts, image if self.reporter.shows else None))

    def _fail(self, job: J, error: T2IError) -> None:
        """Count a failed picture. Only of many each is told where it happens: of one, the error ends the run."""
        self.failures.append((job, error))
        self.reporter.failed += 1
        if len(self.jobs) > 1 or isinstance(error, InternalError):
            self.reporter.fail(error)
        self._report(job, None)

    def _report(self, job: J, report: Report) -> None:
        """Tell the user of a picture once all before it have been told."""
        self._done += 1
        if report is not None:
            self._folders[report[0].parent] = None
            self._tell_name(job, report[0])
            if self.remember:
                self.paths[job.index] = report[0]
            if job.label:
                report[1]["sweep"] = list(job.label)
        self._ready[job.index] = report
        while self._next < len(self._order) and self._order[self._next] in self._ready:
            self._tell(self._ready.pop(self._order[self._next]))
            self._next += 1

    def _tell_name(self, job: J, path: Path) -> None:
        """Say once that a file of another run has the name of a picture, so that a number was added."""
        names = self.request.names(job)
        if not self._renamed and path not in names and names[0] not in self._reported:
            self._renamed = True
            self.reporter.note(f"{names[0]} is taken: the picture is {path}")
        self._reported.add(path)

    def _tell(self, report: Report) -> None:
        if report is not None:
            self.on_picture(*report)


def _common(folders: Sequence[Path]) -> str:
    """The folder that all of these are in."""
    return os.path.commonpath([folder.resolve() for folder in folders])
