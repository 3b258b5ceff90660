"""Help pages whose options stand in groups, in plain text: what most people need comes first.

An option names its group with `rich_help_panel`. Typer draws such groups only with rich, which takes longer to import
than all the rest of a help page.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, get_args, get_type_hints

import typer
from typer.core import TyperCommand

from t2i.errors import UsageError
from t2i.jobs.reporter import shorten

WIDEST = 28  # characters of the first column; the help of a longer name starts on the next line


class Panel(StrEnum):
    """The groups, in the order in which they stand on a page."""

    MAIN = "Options"
    MASK = "What is repainted"
    FROM_PICTURE = "From a picture"
    PICTURE = "How it is drawn"
    TRAINING = "How it is trained"
    CHOICE = "Choosing among many"
    SUITE = "Drawing a suite"
    METRICS = "What is measured"
    GATE = "Gate"
    COMPARE = "Comparing two sets"
    REPORTS = "Reports"
    EXTRA = "Sheets and screen"
    FILES = "Files"
    MACHINE = "Machine"
    MESSAGES = "Messages"


class PanelCommand(TyperCommand):
    """A command whose help page has a section for each group of options, that takes no empty path, and that says itself
    which numbers an option takes: the parser's words for it are those of another library.

    An empty path is the current folder to Python: `t2i upscale "$unset"` would enlarge all that is in it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises UsageError for an empty text where a file or folder is to be named, and for what is no number, or one
        out of range, where a number is."""
        if "" in args:
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            for param in self.get_params(ctx):
                value = given.get(param.name or "")
                if (value == "" or (isinstance(value, (list, tuple)) and "" in value)) and _names_file(param):
                    name = param.opts[0] if param.opts[0].startswith("-") else param.metavar
                    raise UsageError(f"{name} is empty.", "Is a variable of the shell not set?")
        try:
            return super().parse_args(ctx, list(args))
        except typer.BadParameter as fault:
            if fault.param is None or fault.param.name is None:
                raise
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            text = given.get(fault.param.name)
            hint: Any = get_type_hints(self.callback, include_extras=True).get(fault.param.name)
            if isinstance(text, str) and (kind := _number_type(hint)) is not None:
                limits = hint.__metadata__[0]
                raise _bad_number(fault.param.opts[-1], text, kind, limits.min, limits.max) from fault
            raise

    def format_options(self, ctx: Any, formatter: Any) -> None:
        """Write arguments and options, all sections in the same two columns."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for param in self.get_params(ctx):
            record = param.get_help_record(ctx)
            if record is not None:
                if param.param_type_name == "argument":  # its name says enough; typer adds the Python type
                    record = (record[0].split(" <")[0], record[1])
                sections.setdefault(_panel(param), []).append(record)
        names = [name for section in sections.values() for name, _ in section]
        width = max((len(name) for name in names if len(name) <= WIDEST), default=0)
        for title in ("Arguments", *Panel):
            if title in sections:
                with formatter.section(title):
                    formatter.write_dl([(name.ljust(width), text) for name, text in sections[title]], width)


def _number_type(hint: Any) -> type[int] | type[float] | None:
    """Whether an annotated parameter is a whole number, a number or neither."""
    types = get_args(getattr(hint, "__origin__", None)) or (getattr(hint, "__origin__", None),)
    return int if int in types else float if float in types else None


def _bad_number(
    name: str, text: str, kind: type[int] | type[float], low: float | None, high: float | None
) -> UsageError:
    noun = "whole number" if kind is int else "number"
    try:
        kind(text)
        what = f"{name} {shorten(text)} is out of range."
    except ValueError:
        what = f"{name} {shorten(text)!r} is not a {noun}."
    first, last = (None if x is None else f"{kind(x):.10g}" if kind is float else str(int(x)) for x in (low, high))
    bounds = f" from {first} to {last}" if first and last else f" of {first} or more" if first else ""
    return UsageError(what, f"Write a {noun}{bounds}.")


def _names_file(param: Any) -> bool:
    return any(word in (param.metavar or "") for word in ("FILE", "DIR", "FOLDER", "PATH", "IMAGE", "PICTURE", "PEM"))


def _panel(param: Any) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    if param.name == "help":
        return Panel.MESSAGES
    return Panel(getattr(param, "rich_help_panel", None) or Panel.MAIN)
