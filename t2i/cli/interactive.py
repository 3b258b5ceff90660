"""`t2i sample --interactive`: a line, a picture; the model stays loaded from one to the next."""

from __future__ import annotations

import re
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field, replace

from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import InputError, T2IError, UsageError, nearest
from t2i.jobs.parsing import check_count, parse_seeds
from t2i.jobs.prompt_file import PromptLine, read_job
from t2i.jobs.sample import SampleOrder, SamplePlan
from t2i.jobs.settings import NAMES
from t2i.jsonl import json_object
from t2i.prompts import check_prompt

MAX_LINE = 1 << 20  # bytes of a line
MAX_SKIPPED = 64  # times MAX_LINE of a longer one that are skipped
COMMANDS = ("seed", "n", *NAMES)
EXAMPLES = {"seed": "7", "n": "4", "size": "64", "steps": "8", "guidance": "3"}
_LISTED = ", ".join(f"/{name} {EXAMPLES[name]}" if name in EXAMPLES else f"/{name}" for name in COMMANDS)
HELP = f"""a line is a prompt; these commands change the lines that follow:
{textwrap.indent(textwrap.fill(_LISTED, 76), "  ")}
without a value, as in /size, a command goes back to the default
/ alone shows what is set; /quit or Ctrl-D ends"""


class _Endless(InputError):
    """A line whose end was not found."""


@dataclass
class Dials:
    """What the commands set: the number of pictures, their seeds as written, settings as options."""

    n: int | None = None
    seed: str | None = None
    options: dict[str, str] = field(default_factory=dict)

    def set(self, line: str, read: Callable[[dict[str, str]], object]) -> str:
        """Carry out a command, `/seed 7` -> what to say. read: reads options as those of a line are read. Raises
        UsageError, also what `read` raises, and leaves all as it was."""
        name, _, value = line[1:].strip().partition(" ")
        name, value = name.replace("-", "_"), value.strip()
        if name in ("help", "h", "?"):
            return HELP
        if name and name not in COMMANDS:
            near = nearest(name, COMMANDS, 1)
            raise UsageError(f"/{name} is no command.", f"Did you mean /{near[0]}?" if near else "/help lists them.")
        new = Dials(self.n, self.seed, dict(self.options))
        if name == "n":
            if value and not re.fullmatch(r"\d{1,9}", value, re.ASCII):
                raise UsageError(f"/n {value!r} is not a number of pictures.", "Write /n 4.")
            new.n = int(value) if value else None
        elif name == "seed":
            new.seed = value or None
        elif name:
            new.options = {key: text for key, text in self.options.items() if key != name}
            new.options |= {name: value} if value else {}
        new.check()
        read(new.options)
        self.n, self.seed, self.options = new.n, new.seed, new.options
        return self.told()

    def check(self) -> None:
        """Raise UsageError for a number of pictures and seeds that make no sense."""
        check_count(self.n)
        parse_seeds(self.seed, self.n)

    def told(self) -> str:
        """All of it in a line."""
        said = {"n": self.n or 1, "seed": self.seed or "random", **self.options}
        return ", ".join(f"{name} {value}" for name, value in said.items())

    def order(self, line: str, base: SampleOrder) -> tuple[SampleOrder, int | None]:
        """The order of a line, a prompt or a line of a jobs file in JSON; and its seed if that was drawn at random.
        Raises UsageError and InputError."""
        if re.match(r'\s*\{\s*"', line):
            said = read_job(json_object(line, "the line", half_characters=True), "the line")
        else:
            said = PromptLine(check_prompt(line))
        seeds, drawn = opt.read_seeds(self.seed, self.n)
        order = replace(base, lines=(said,), n=self.n, seeds=tuple(seeds), options=self.options)
        return order, drawn if said.seeds is None else None


def converse(
    ui: UI,
    dials: Dials,
    base: SampleOrder,
    plan: Callable[[SampleOrder], SamplePlan],
    draw: Callable[[SamplePlan], None],
) -> None:
    """Draw line after line of stdin, until it ends. A line that fails is told, and the next one is read.

    plan, draw: an order of a line to a checked plan, and its pictures. On a terminal Ctrl-C ends the picture under way;
    elsewhere it raises KeyboardInterrupt. Raises InputError (code `partial`) where stdin is no terminal and a line
    failed.
    """

    def read(options: dict[str, str]) -> SamplePlan:
        return plan(replace(base, lines=(), options=options))

    by_hand, failed = sys.stdin.isatty(), 0
    dials.check()
    if by_hand:
        ui.note("a line is a prompt; /help lists commands, Ctrl-D ends")
    for line in _lines(by_hand):
        try:
            if isinstance(line, T2IError):
                raise line
            if line.startswith("/"):
                if line[1:].strip() in ("quit", "q", "exit"):
                    break
                for text in dials.set(line, read).splitlines():
                    ui.note(text)
                continue
            order, drawn = dials.order(line, base)
            ready = plan(order)
            if drawn is not None:
                ui.note(f"seed {drawn}")
            draw(ready)
        except T2IError as error:
            failed += 1
            ui.fail(error)
        except KeyboardInterrupt:
            if not by_hand:
                raise
            ui.note("stopped")
    if failed and not by_hand:
        raise InputError(f"{failed} of the lines failed.", "See above.", "partial")


def _lines(by_hand: bool) -> Iterator[str | InputError]:
    """The lines of stdin, without blank ones and `#` comments; an error for one that is not text, or too long."""
    read = _typed if by_hand else _piped
    while True:
        try:
            line = read()
        except InputError as error:
            yield error
            if isinstance(error, _Endless):
                return
            continue
        except KeyboardInterrupt:  # at an empty prompt: a new one
            if not by_hand:
                raise
            sys.stderr.write("\n")
            continue
        if line is None:
            return
        if line.strip() and not line.lstrip().startswith("#"):
            yield line.strip()


def _typed() -> str | None:
    """A line that is typed, with the history of readline; None at the end."""
    with suppress(ImportError):
        import readline  # noqa: F401 - input() uses it from then on
    try:
        if sys.stdout.isatty():
            return input("t2i> ")
        sys.stderr.write("t2i> ")  # stdout is for results
        sys.stderr.flush()
        return sys.stdin.readline() or None
    except EOFError:
        return None
    except UnicodeDecodeError:
        raise InputError("the line is not text in UTF-8.") from None


def _piped() -> str | None:
    """A line of a pipe or a file; None at the end. Raises InputError, `_Endless` where there is no next line."""
    data = sys.stdin.buffer.readline(MAX_LINE)
    if len(data) == MAX_LINE and not data.endswith(b"\n"):
        skipped = 0
        while data and not data.endswith(b"\n"):
            data = sys.stdin.buffer.readline(MAX_LINE)
            skipped += 1
            if skipped > MAX_SKIPPED:
                raise _Endless("stdin has a line without an end.", "Is it a device, or a file that is no text?")
        raise InputError(f"a line is longer than {MAX_LINE >> 20} MB.", "A prompt has at most 64 KB.")
    try:
        return data.decode("utf-8-sig") if data else None
    except UnicodeDecodeError:
        raise InputError("a line is not text in UTF-8.") from None
