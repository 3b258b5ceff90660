"""Write docs/cli.md from the help pages: `python -m t2i.cli.docs > docs/cli.md`. A test compares the two."""

from __future__ import annotations

import os
import sys
from typing import Any

WIDTH = "110"
HEAD = """# Command line

Written by `python -m t2i.cli.docs` from the program's own help pages; do not edit.

Results go to stdout, one path a line, or with `--json` one record a line and a closing envelope
`{"schema": 1, "ok": …, "command": …, "pictures": …, "failed": …, "error": {"code", "message", "hint"}}`.
JSON comes with `--json` alone, wherever stdout goes. What is no path is for people: on a terminal in tables and
columns, wrapped; elsewhere a row of a table is a line with tabs between its cells, and what is said of a name is
`name: text`. Progress and warnings go to stderr. A failure is one sentence, a hint and an exit code:

| exit | code | meaning |
|---|---|---|
"""


def pages() -> list[tuple[str, str]]:
    """(command path, help page) of the app and of every command, in the order they are shown."""
    import typer

    from t2i.cli.app import app

    root: Any = typer.main.get_command(app)
    out: list[tuple[str, str]] = []

    def walk(command: Any, name: str, parent: Any) -> None:
        with command.make_context(name, [], parent=parent, resilient_parsing=True) as context:
            context.terminal_width = int(WIDTH)
            out.append((context.command_path, command.get_help(context)))
            for child, sub in getattr(command, "commands", {}).items():
                walk(sub, child, context)

    walk(root, "t2i", None)
    return out


def render() -> str:
    """The whole page."""
    from t2i.errors import CODES, EXIT_PIPE, EXIT_TERMINATED

    rows = [(exit_code, f"`{code}`", meaning) for code, (exit_code, meaning) in CODES.items()]
    rows += [
        (EXIT_PIPE, "", "the reader of the results has gone, as in `| head -1`: nothing is said"),
        (EXIT_TERMINATED, "`interrupted`", "ended by SIGTERM"),
    ]
    table = "".join(f"| {number} | {code} | {meaning} |\n" for number, code, meaning in sorted(rows))
    sections = "".join(f"\n## {path}\n\n```text\n{text.rstrip()}\n```\n" for path, text in pages())
    return HEAD + table + sections


if __name__ == "__main__":
    os.environ["COLUMNS"] = WIDTH
    sys.stdout.write(render())
