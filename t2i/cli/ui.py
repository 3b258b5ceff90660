"""What a command prints: results on stdout (paths, or JSON lines), everything else on stderr.

Nothing that a user wrote reaches a terminal unescaped: control characters and bidirectional marks are shown as \\xNN,
and markup of rich is never interpreted.
"""

from __future__ import annotations

import json
import signal
import sys
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, Any

from t2i.engine import OnStep
from t2i.errors import InputError, T2IError
from t2i.files import explain_os_error
from t2i.jobs.reporter import safe

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.cli.progress import Lines
    from t2i.cli.show import Screen
    from t2i.store.pull import OnBytes

SCHEMA = 1
EVERY = 5.0  # seconds between plain progress lines


class ReaderGone(BaseException):
    """Nobody reads stdout any more. Not an OSError, for which typer would exit 1 by itself."""


def unwritten(error: OSError) -> InputError:
    """The failure to write to stdout."""
    what = f"cannot write the results to standard output: {explain_os_error(error)}."
    return InputError(what, "Make room there.", "output")


@dataclass
class UI:
    """Prints for one run; a `Reporter` for `t2i.jobs`. pictures, failed: counts for the closing envelope of --json."""

    command: str = "t2i"
    json: bool = False
    quiet: bool = False
    debug: bool = False
    pictures: int = 0
    failed: int = 0
    started: float | None = None  # when the first picture was begun
    done_before: int = 0  # pictures that were there by then
    lines: Lines | None = None
    late: str = ""  # a line that could not be written when it was said
    screen: Screen | None = None  # where pictures are shown, if they are
    goes_on: str = ""  # how to go on with what a signal ends; "" where that cannot be said

    @classmethod
    def from_args(cls, args: list[str]) -> UI:
        """Read what is needed to report mistakes in the arguments themselves, before they are parsed."""
        words = args[: args.index("--")] if "--" in args else args
        command = next((word for word in words if not word.startswith("-")), "t2i")
        return cls(command, "--json" in words, "--quiet" in words or "-q" in words, "--debug" in words)

    def note(self, text: str) -> None:
        """A line of progress."""
        if not self.quiet:
            self._say(safe(text))

    def warn(self, text: str) -> None:
        """A warning, also with `--quiet`."""
        self._say(f"t2i: warning: {safe(text)}")

    def _say(self, line: str) -> None:
        late, self.late = self.late, ""
        sys.stderr.write(f"{late}{line}\n")
        sys.stderr.flush()

    def line(self, text: str) -> None:
        """A line of the result, not escaped."""
        try:
            sys.stdout.write(text + "\n")
            sys.stdout.flush()
        except BrokenPipeError as error:
            raise ReaderGone from error
        except OSError as error:
            raise unwritten(error) from error

    def record(self, table: dict[str, Any]) -> None:
        """One NDJSON record of the result."""
        self.line(json.dumps({"schema": SCHEMA, **table}, allow_nan=False))

    @property
    def shows(self) -> bool:
        """Whether finished pictures are shown in the terminal."""
        return self.screen is not None and self.screen.show

    def picture(self, path: Path, table: dict[str, Any], image: Image | None = None) -> None:
        """A picture: its path, or its record; and with `--show` the picture itself."""
        self.pictures += 1
        if self.json:
            self.record({"path": str(path), **{key: value for key, value in table.items() if key != "path"}})
        else:
            self.line(str(path))
        if self.screen is not None and self.screen.show:
            self.screen.picture(path, image)

    def sheet(self, path: Path, table: dict[str, Any]) -> None:
        """A sheet; it does not count as a picture."""
        if self.json:
            self.record({"path": str(path), **table})
        else:
            self.line(str(path))

    def table(self, title: str, columns: list[str], rows: list[list[str]]) -> None:
        """Rows for people: a Rich table on a terminal, tab-separated otherwise."""
        if not sys.stdout.isatty():
            for row in rows:
                self.line("\t".join(safe(cell) for cell in row))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table(title=Text(title))
        for column in columns:
            table.add_column(column, overflow="fold")  # a path is never cut
        for row in rows:
            table.add_row(*[Text(safe(cell)) for cell in row])
        Console().print(table)

    def facts(self, facts: Iterable[tuple[str, str]]) -> None:
        """Names and what is said of each, for people: on a terminal two columns, wrapped between words; elsewhere
        `name: text`, one a line. Spaces before a name indent it."""
        if not sys.stdout.isatty():
            for name, text in facts:
                self.line(safe(f"{name}: {text}" if text else name))
            return
        from rich.console import Console
        from rich.table import Table
        from rich.text import Text

        table = Table.grid(padding=(0, 2))
        table.add_column(no_wrap=True)
        table.add_column(overflow="fold")
        for name, text in facts:
            table.add_row(Text(safe(name)), Text(safe(text)))
        Console().print(table)

    def markdown(self, text: str) -> None:
        """A page in Markdown: rendered on a terminal, elsewhere as it is."""
        lines = [safe(line) for line in text.rstrip().split("\n")]
        if not sys.stdout.isatty():
            for line in lines:
                self.line(line)
            return
        from rich.console import Console
        from rich.markdown import Markdown

        Console().print(Markdown("\n".join(lines), hyperlinks=False))

    def fail(self, error: T2IError) -> None:
        """The sentence and the hint of a failure, on stderr."""
        self._say(f"t2i: error: {safe(error.message)}")
        if error.hint:
            self._say(f"t2i: hint: {safe(error.hint)}")

    def close(self, error: T2IError | None = None) -> None:
        """The closing envelope of `--json`."""
        if not self.json:
            return
        fault = error and {"code": error.code, "message": error.message, "hint": error.hint}
        counts = {"pictures": self.pictures, "failed": self.failed}
        self.record({"ok": error is None, "command": self.command, **counts, "error": fault})

    @contextmanager
    def finishing(self) -> Iterator[list[int]]:
        """A first SIGINT or SIGTERM goes into the list, for the block to end soon; a second one stops it."""
        signals: list[int] = []

        def note(number: int, frame: FrameType | None) -> None:
            if signals:
                before[number](number, frame)  # what it would have done without us: raise
            signals.append(number)
            what = "stopping as soon as this is saved; once more to stop at once"
            try:
                self.warn(what)
            except RuntimeError:  # Python refuses, in the middle of a line that is being written
                self.late = f"t2i: warning: {what}\n"

        # a signal that is ignored, as in the background of a script, stays ignored
        found = {int(number): signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
        before = {number: handler for number, handler in found.items() if callable(handler)}
        for number in before:
            signal.signal(number, note)
        try:
            yield signals
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    @contextmanager
    def progress(self, what: str, done: int = 0, total: int = 0) -> Iterator[OnStep]:
        """A callback for sampling steps: bars on a terminal, with --preview above the estimates; lines elsewhere.

        `what` names the pictures. `done` of `total` pictures are finished, from which follows the time left.
        """
        from t2i.cli.progress import Lines, bars

        if self.started is None:
            self.started, self.done_before = time.monotonic(), done
        left = time_left(time.monotonic() - self.started, done - self.done_before, total - done)
        if self.quiet:
            yield lambda stage, step, total, x0_hat: None
        elif sys.stderr.isatty():
            with bars(what, left, self.screen) as on_step:
                yield on_step
        else:
            if self.lines is None:
                self.lines = Lines(self.note, EVERY)
            yield self.lines.about(what, left)

    @contextmanager
    def transfer(self, what: str, total: int) -> Iterator[OnBytes]:
        """A callback for bytes that arrive, of `total`: a bar on a terminal, lines elsewhere."""
        from t2i.cli.progress import TransferLines, transfer_bar

        if self.quiet:
            yield lambda path, done, total: None
        elif sys.stderr.isatty():
            with transfer_bar(what, total) as on_bytes:
                yield on_bytes
        else:
            yield TransferLines(self.note, EVERY).on_bytes


def time_left(passed: float, made: int, to_make: int) -> str:
    """`about 3 min left`: `made` pictures took `passed` seconds. "" while nothing is known."""
    return "" if made < 1 or to_make < 1 else f"about {duration(max(1, passed / made * to_make))} left"


def duration(seconds: float) -> str:
    """A time for people: 40 s, 3 min, 1.5 h."""
    if seconds < 90:
        return f"{round(seconds)} s"
    return f"{round(seconds / 60)} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def count_of(number: int) -> str:
    """A number for people: 6.4M."""
    for unit, name in ((1e9, "B"), (1e6, "M"), (1e3, "K")):
        if number >= unit:
            return f"{number / unit:.1f}{name}"
    return str(number)
