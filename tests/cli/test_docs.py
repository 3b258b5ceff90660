"""docs/cli.md is what the program says of itself."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

DOCS = Path(__file__).parents[2] / "docs" / "cli.md"


def test_the_page_is_current(tmp_path: Path) -> None:
    env = {**os.environ, "COLUMNS": "110"}
    command = [sys.executable, "-m", "t2i.cli.docs"]
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, check=True)
    assert DOCS.read_text(encoding="utf-8") == done.stdout.decode(), "run `python -m t2i.cli.docs > docs/cli.md`"


def test_every_option_of_the_examples_exists() -> None:
    text = DOCS.read_text(encoding="utf-8")
    for section in re.split(r"^## ", text, flags=re.M)[1:]:
        usage, _, examples = section.partition("Examples:")
        command = usage.splitlines()[0]
        for line in examples.splitlines():
            if line.strip().startswith(command + " "):
                code = line.split(" #")[0]
                for option in re.findall(r"(?<=\s)(--[a-z-]+|-[a-z])\b", code):
                    assert option in usage or command == "t2i", f"{option} in: {line}"
