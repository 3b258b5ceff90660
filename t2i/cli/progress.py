"""Progress on stderr: bars on a terminal, a plain line every few seconds elsewhere."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from t2i.jobs.reporter import safe

if TYPE_CHECKING:
    from t2i.cli.show import Screen
    from t2i.engine import OnStep
    from t2i.store.pull import OnBytes


class Lines:
    """Progress lines at least `every` seconds apart, over all batches of a run."""

    def __init__(self, say: Callable[[str], None], every: float) -> None:
        self.say, self.every = say, every
        self._last = time.monotonic()

    def about(self, what: str, left: str) -> OnStep:
        """The callback of one batch."""

        def on_step(stage: str, step: int, total: int, x0_hat: Any) -> None:
            if time.monotonic() - self._last >= self.every:
                self._last = time.monotonic()
                self.say(f"{what}: {stage} {step}/{total}" + (f", {left}" if left else ""))

        return on_step


class TransferLines:
    """Progress of a download in lines at least `every` seconds apart."""

    def __init__(self, say: Callable[[str], None], every: float) -> None:
        self.say, self.every = say, every
        self._last = time.monotonic()

    def on_bytes(self, path: str, done: int, total: int) -> None:
        """`done` of `total` bytes are here; `path` is the file that arrives."""
        if time.monotonic() - self._last >= self.every:
            self._last = time.monotonic()
            self.say(f"{done / 1e6:.0f} of {total / 1e6:.0f} MB, {path}")


@contextmanager
def transfer_bar(what: str, total: int) -> Iterator[OnBytes]:
    """A bar with bytes, speed and time left. It is removed when the block ends."""
    from rich.console import Console
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    name = TextColumn("{task.description}", markup=False)
    columns = (name, BarColumn(), DownloadColumn(), TransferSpeedColumn(), TimeRemainingColumn())
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(safe(what), total=total)
        yield lambda path, done, total: progress.update(task, completed=done)


@contextmanager
def bars(what: str, left: str, screen: Screen | None = None) -> Iterator[OnStep]:
    """A bar for each stage with its time left, and with `screen.preview` the estimates so far. All of it is removed
    when the block ends."""
    from rich.console import Console, Group
    from rich.live import Live
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
    from rich.text import Text

    name = TextColumn("{task.description}", markup=False)
    progress = Progress(name, BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    title = Text(what + (f"  {left}" if left else ""))
    tasks: dict[str, Any] = {}
    console = Console(stderr=True)
    with Live(Group(title, progress), console=console, transient=True, refresh_per_second=10) as live:

        def on_step(stage: str, step: int, total: int, x0_hat: Any) -> None:
            if stage not in tasks:
                tasks[stage] = progress.add_task(f"  {stage}", total=total)
            progress.update(tasks[stage], completed=step, total=total)
            if screen is not None and screen.preview:
                picture = screen.estimate(x0_hat, console)
                if picture is not None:
                    live.update(Group(title, progress, picture))

        yield on_step
