"""Help pages: read in a terminal of 80 columns, in groups, and quickly."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer

from t2i.cli.app import app
from t2i.cli.panels import Panel

COMMANDS = ["sample", "vary", "inpaint", "upscale", "score", "train", "find", "serve", "info"]


def page(name: str) -> tuple[Any, str]:
    """A command and its help page, as a terminal of 80 columns shows it."""
    root: Any = typer.main.get_command(app)
    command = root.commands[name]
    with command.make_context(name, [], resilient_parsing=True) as context:
        context.terminal_width = 80
        return command, command.get_help(context)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_page_fits_into_80_columns(name: str) -> None:
    assert [line for line in page(name)[1].splitlines() if len(line) > 80] == []


@pytest.mark.parametrize("name", COMMANDS)
def test_groups_stand_in_order_and_hold_every_option(name: str) -> None:
    command, text = page(name)
    titles = [line.removesuffix(":") for line in text.splitlines() if line.endswith(":") and line[0] != " "]
    panels = [panel.value for panel in Panel if panel.value in titles]
    assert [title for title in titles if title != "Arguments"][: len(panels)] == panels
    assert panels[0] == "Options" and panels[-1] == "Messages"
    for param in command.params:
        if param.param_type_name == "option":
            assert param.opts[-1] in text, param.name


def test_a_page_imports_neither_torch_nor_rich(tmp_path: Path) -> None:
    code = (
        "import sys; from t2i.cli.app import run; code = run(['sample', '--help']);"
        "heavy = [m for m in ('torch', 'numpy', 'PIL', 'rich') if m in sys.modules];"
        "sys.stderr.write(repr(heavy)); sys.exit(code or bool(heavy))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
