"""Ten thousand prompts: memory stays where it was after a hundred."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

MEASURE = """
import json, resource, sys, time
from pathlib import Path
from t2i.cli import ui
marks = {}
real = ui.UI.picture
def picture(self, path, table, image=None):
    real(self, path, table, image)
    if self.pictures in (100, 1000, 10_000):
        with open("/proc/self/statm") as f:
            marks[self.pictures] = int(f.read().split()[1]) * resource.getpagesize()
ui.UI.picture = picture
from t2i.cli.app import run
code = run(sys.argv[1:])
Path("marks.json").write_text(json.dumps(marks))
sys.exit(code)
"""


@pytest.mark.slow
def test_ten_thousand_prompts(studio: Path) -> None:
    lines = [f"a cat number {i} in the snow\n" for i in range(10_000)]
    (studio / "p.txt").write_text("".join(lines))
    args = ["sample", "-f", "p.txt", "--size", "16", "--batch", "32", "--steps", "base=1,prior=1", "-q"]
    args += ["--model", "tiny", "--device", "cpu", "-o", "{slug}.png"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    started = time.monotonic()
    with open("paths.txt", "wb") as out:
        subprocess.run([sys.executable, "-c", MEASURE, *args], stdout=out, env=env, check=True)
    marks = {int(k): v / 2**20 for k, v in json.loads((studio / "marks.json").read_text()).items()}
    print({k: f"{v:.0f} MiB" for k, v in marks.items()}, f"{time.monotonic() - started:.0f} s")
    assert len((studio / "paths.txt").read_text().splitlines()) == 10_000
    assert len((studio / "manifest.jsonl").read_text().splitlines()) == 10_000
    assert marks[10_000] - marks[100] < 64, marks
