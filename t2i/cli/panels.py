"""Help pages whose options stand in groups, in plain text: what most people need comes first.

An option names its group with `rich_help_panel`. Typer draws such groups only with rich, which takes longer to import
than all the rest of a help page.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from typer.core import TyperCommand

from t2i.errors import UsageError

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
    """A command whose help page has a section for each group of options, and that takes no empty path.

    An empty path is the current folder to Python: `t2i upscale "$unset"` would enlarge all that is in it.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Raises UsageError for an empty text where a file or folder is to be named."""
        if "" in args:
            given, _, _ = self.make_parser(ctx).parse_args(args=list(args))
            for param in self.get_params(ctx):
                value = given.get(param.name or "")
                if (value == "" or (isinstance(value, (list, tuple)) and "" in value)) and _names_file(param):
                    name = param.opts[0] if param.opts[0].startswith("-") else param.metavar
                    raise UsageError(f"{name} is empty.", "Is a variable of the shell not set?")
        return super().parse_args(ctx, args)

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


def _names_file(param: Any) -> bool:
    return any(word in (param.metavar or "") for word in ("FILE", "DIR", "FOLDER", "PATH", "IMAGE", "PICTURE", "PEM"))


def _panel(param: Any) -> str:
    if param.param_type_name == "argument":
        return "Arguments"
    if param.name == "help":
        return Panel.MESSAGES
    return Panel(getattr(param, "rich_help_panel", None) or Panel.MAIN)
