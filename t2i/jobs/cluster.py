"""`t2i sample --ray`: a pool of workers on this machine or on a cluster, by the library Ray.

Each worker holds the model and draws one small share of the batch after the other into the common folder, as
`--shard` does: pictures, names and the manifest are those of a run in one process. A worker that dies costs the share
it was drawing, which is drawn again. Who is where, and restarts, are Ray's business.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from t2i.engine import OnStep
from t2i.errors import InputError, T2IError, UnavailableError, UsageError
from t2i.files import explain_os_error
from t2i.jobs.job import Job
from t2i.jobs.reporter import Reporter, Stopped
from t2i.jobs.request import DrawRequest
from t2i.jobs.runner import Runner
from t2i.jobs.sample import SampleOrder, SamplePlan
from t2i.jobs.shard import deal
from t2i.store.load_options import LoadOptions
from t2i.store.models import find_model

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.engine import Engine

TRIES = 3  # times that a share is begun before the run ends
EVERY = 5.0  # seconds between lines of progress
REACHED = 10.0  # seconds in which a cluster must answer
LISTENING = 0.5  # seconds after which a signal is heeded
MAX_WORKERS = 10_000
MEMORY = 100 << 20  # bytes of a local object store: pictures go to files, not through it
PASSED_ON = ("T2I_", "OMP_", "HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")  # beginnings of variables that workers get


@dataclass
class ShareResult:
    """What became of a share. pictures: index of the job -> (path, what is reported of it); failures: of single
    pictures; error: what ended the share."""

    pictures: dict[int, tuple[Path, dict[str, Any]]] = field(default_factory=dict)
    warnings: list[str] = field(default_factory=list)
    failures: list[T2IError] = field(default_factory=list)
    error: T2IError | None = None


class _Collector:
    """A `Reporter` that keeps what it is told."""

    shows = False

    def __init__(self) -> None:
        self.failed, self.result, self.told = 0, ShareResult(), dict[str, dict[str, Any]]()

    def note(self, text: str) -> None:
        """Progress of a share is not told."""

    def warn(self, text: str) -> None:
        self.result.warnings.append(text)

    def fail(self, error: T2IError) -> None:
        """The runner keeps it, too."""

    def picture(self, path: Path, table: dict[str, Any], image: Image | None = None) -> None:
        self.told[str(path)] = table

    def sheet(self, path: Path, table: dict[str, Any]) -> None:
        raise AssertionError("a share has no sheet")

    @contextlib.contextmanager
    def finishing(self) -> Iterator[list[int]]:
        yield []

    @contextlib.contextmanager
    def progress(self, what: str, done: int = 0, total: int = 0) -> Iterator[OnStep]:
        yield lambda stage, step, of, pixels: None


@dataclass
class Drawer:
    """A worker: what is drawn, in how many shares, and the model once it is loaded. digest: the weights of the driver's
    model; folder: the driver's current one."""

    order: SampleOrder
    model: str
    digest: str
    loading: LoadOptions
    device: str
    shares: int
    folder: str
    engine: Engine | None = None

    @cached_property
    def work(self) -> tuple[DrawRequest, list[list[Job]]]:
        """The request, and the jobs of each share. Raises InputError for a model with other weights."""
        os.chdir(self.folder)
        stored = find_model(self.model)
        if stored.digest != self.digest:
            raise InputError(f"the model {self.model} has other weights on a worker.", "Give all machines the same.")
        plan = SamplePlan.of(self.order, stored, self.loading)
        return plan.request(), deal(self.shares, plan.jobs, plan.request())

    def draw(self, number: int) -> ShareResult:
        """Draw what is missing of a share."""
        told, (request, shares) = _Collector(), self.work
        runner = Runner(told, request, shares[number], self.device, self.order.batch, True, told.picture)
        runner.engine = self.engine
        result = told.result
        try:
            runner.run()
        except T2IError as error:
            result.error = error
        finally:
            self.engine = runner.engine
        result.pictures = {index: (path, told.told[str(path)]) for index, path in runner.paths.items()}
        result.failures = [error for _, error in runner.failures]
        return result


def check_workers(text: str) -> str:
    """Return what --ray says. Raises UsageError for a number of workers that makes no sense."""
    if not text.strip() or (text.lstrip("-").isdigit() and not 1 <= int(text) <= MAX_WORKERS):
        raise UsageError(f"--ray {text!r} makes no sense.", "Write how many workers, or the address of a cluster.")
    return text


def draw_by_ray(
    reporter: Reporter, plan: SamplePlan, where: str, device: str, model: str, loading: LoadOptions
) -> None:
    """Draw a plan by the workers of a pool; pictures are reported in order, as soon as all before them are there.

    where: how many workers to start here, or the address of a cluster; model: what they load. Raises UnavailableError
    (code `dependency`) without Ray, (`unavailable`) where there is none at the address or workers died `TRIES`
    times at one share; the error of a share; InputError (`partial`) when pictures failed.
    """
    # a handler that raises would do so inside Ray, which makes a fault of it
    with contextlib.redirect_stdout(_OneThread(sys.stdout)), reporter.finishing() as signals:
        ray = _start(where)
        try:
            _Pool(ray, reporter, plan, device, model, loading).run(lambda: bool(signals))
        finally:
            ray.shutdown()
    if signals:
        raise Stopped(signals[0])


class _OneThread(io.TextIOBase):
    """A stream for one thread alone: stdout is for results, and a thread of Ray's prints there when a worker dies."""

    def __init__(self, stream: TextIO) -> None:
        self.stream, self.thread = stream, threading.get_ident()

    def write(self, text: str) -> int:
        return self.stream.write(text) if threading.get_ident() == self.thread else len(text)

    def flush(self) -> None:
        self.stream.flush()

    def fileno(self) -> int:
        return self.stream.fileno()


def _start(where: str) -> Any:
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # it would be sent over the network
    os.environ.setdefault("RAY_worker_niceness", "0")  # 15 by default: on a busy machine they would wait for ever
    try:
        import ray
    except ImportError as error:
        raise UnavailableError("--ray needs the library Ray.", "pip install 't2i[ray]'", "dependency") from error
    passed = {name: value for name, value in os.environ.items() if name.startswith(PASSED_ON)}
    options: dict[str, Any] = {"log_to_driver": False, "logging_level": "ERROR", "runtime_env": {"env_vars": passed}}
    if where.isdigit():
        options |= {"num_cpus": int(where), "include_dashboard": False, "object_store_memory": MEMORY}
        options["address"] = "local"
    else:
        options["address"] = where
        _reach(where)
    found = signal.getsignal(signal.SIGTERM)
    try:
        ray.init(**options)
    except (OSError, RuntimeError, ValueError) as error:
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UnavailableError(f"there is no Ray at {where!r}: {first}", "Is it running?") from error
    if found is not None and threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, found)  # it puts its own in the place
    return ray


def _reach(address: str) -> None:
    """Raise UnavailableError for HOST:PORT where nobody listens: Ray would try for minutes."""
    if found := re.fullmatch(r"(?:ray://)?([^:/]+):(\d{1,5})", address):
        try:
            socket.create_connection((found[1], int(found[2])), REACHED).close()
        except (OSError, OverflowError, UnicodeError) as error:
            why = explain_os_error(error) if isinstance(error, OSError) else "it is no address"
            raise UnavailableError(f"there is no Ray at {address!r}: {why}.", "Is it running?") from error


class _Pool:
    """The driver's side: who draws which share, and what is told."""

    def __init__(
        self, ray: Any, reporter: Reporter, plan: SamplePlan, device: str, model: str, loading: LoadOptions
    ) -> None:
        self.ray, self.reporter, self.total = ray, reporter, len(plan.jobs)
        there = ray.cluster_resources()
        gpus = int(there.get("GPU", 0)) if device in ("auto", "cuda") else 0
        count = -(-self.total // plan.order.batch)
        shares = deal(count, plan.jobs, plan.request())
        self.shares = {number: [job.index for job in jobs] for number, jobs in enumerate(shares) if jobs}
        self.todo, self.tries = list(self.shares)[::-1], dict.fromkeys(self.shares, 0)
        worker = ray.remote(num_cpus=0 if gpus else 1, num_gpus=1 if gpus else 0)(Drawer)
        args = (plan.order, model, plan.model.digest, loading, device, count, os.getcwd())
        self.hire = partial(worker.remote, *args)
        self.size = min(gpus or int(there.get("CPU", 1)), len(self.shares))
        self.at_work: dict[Any, tuple[Any, int]] = {}  # result to come -> (worker, share)
        self.ready: dict[int, tuple[Path, dict[str, Any]] | None] = {}  # job -> what is told in its turn
        self.order, self.told = [job.index for job in plan.jobs], 0
        self.drawn = self.found = 0
        self.warned = set[str]()
        self.started = self.said = time.monotonic()

    def run(self, stop: Callable[[], bool]) -> None:
        """Draw all shares, or return early when `stop` says so."""
        for _ in range(self.size):
            self._give(self.hire())
        while self.at_work:
            done, _ = self.ray.wait(list(self.at_work), timeout=LISTENING)
            if stop():
                return
            if not done:
                continue
            worker, number = self.at_work.pop(done[0])
            try:
                result: ShareResult = self.ray.get(done[0])
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause if isinstance(error.cause, T2IError) else error from None
            except self.ray.exceptions.RayError:  # the worker has died, or its machine has
                self._again(number)
                self.ray.kill(worker)  # if it cannot be reached and lives
                worker = self.hire()
            else:
                self._take(number, result)
            self._give(worker)
        took, there = time.monotonic() - self.started, f", {self.found} were there already" if self.found else ""
        self.reporter.note(
            f"{self.drawn} pictures by {self.size} worker{'s' if self.size > 1 else ''} in {took:.1f} s{there}"
        )
        if self.reporter.failed:
            raise InputError(f"{self.reporter.failed} of {self.total} pictures failed.", "See above.", "partial")

    def _give(self, worker: Any) -> None:
        """Let a worker draw the next share, if there is one."""
        if self.todo:
            number = self.todo.pop()
            self.tries[number] += 1
            self.at_work[worker.draw.remote(number)] = worker, number

    def _again(self, number: int) -> None:
        """Put back the share of a worker that has died. Raises UnavailableError when it was tried often enough."""
        if self.tries[number] >= TRIES:
            what = f"{TRIES} workers have died at the same {len(self.shares[number])} pictures."
            raise UnavailableError(what, "Is there enough memory? Try fewer workers, or a smaller --batch.")
        self.reporter.warn(f"a worker has died; its {len(self.shares[number])} pictures are drawn again")
        self.todo.append(number)

    def _take(self, number: int, result: ShareResult) -> None:
        """Tell what became of a share, each picture in its turn. Raises the error that has ended it."""
        for text in result.warnings:
            if text not in self.warned:
                self.warned.add(text)
                self.reporter.warn(text)
        for failure in result.failures:
            self.reporter.failed += 1
            self.reporter.fail(failure)
        for index in self.shares[number]:
            self.ready[index] = result.pictures.get(index)
        while self.told < self.total and self.order[self.told] in self.ready:
            if (found := self.ready.pop(self.order[self.told])) is not None:
                self.reporter.picture(*found)
            self.told += 1
        skipped = sum(bool(table.get("skipped")) for _, table in result.pictures.values())
        self.found, self.drawn = self.found + skipped, self.drawn + len(result.pictures) - skipped
        if result.error is not None:
            raise result.error
        if time.monotonic() - self.said >= EVERY:
            self.said = time.monotonic()
            self.reporter.note(f"{self.drawn + self.found} of {self.total} pictures are there")
