"""The script of docs/ci.md, run as it stands on the page; and the job beside it calls what is there."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found, kind
    return found[1]


def test_the_script_gates_a_model(tiny: Path, tmp_path: Path) -> None:
    models = tmp_path / "home" / "models"
    models.mkdir(parents=True)
    shutil.copytree(tiny, models / "tiny")
    script = tmp_path / "gate.sh"
    script.write_text(block("sh"))
    (tmp_path / "p.txt").write_text("a cat in the snow\ntwo penguins\na red apple\na zebra\na house at night\ntwo cats")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "t2i").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m t2i "$@"\n')
    (tools / "t2i").chmod(0o755)
    env = {
        **os.environ,
        "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
        "T2I_HOME": str(tmp_path / "home"),
        "SUITE": "p.txt",
        "SIZE": "16",
        "EXTRACTOR": "clip:tiny",
        "GITHUB_STEP_SUMMARY": str(tmp_path / "summary.md"),
    }

    def gate(model: str) -> subprocess.CompletedProcess[str]:
        command = ["sh", str(script), model]
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False)

    env["CI"] = "true"
    lost = gate("tiny")
    assert lost.returncode == 3 and "commit it" in lost.stderr and not (tmp_path / "score" / "baseline.json").exists()
    del env["CI"]
    first = gate("tiny")
    assert first.returncode == 0, first.stderr
    assert (tmp_path / "score" / "baseline.json").is_file() and "made a baseline" in first.stderr
    second = gate("tiny")
    assert second.returncode == 0, second.stderr
    assert "verdict\tpass" in second.stdout
    assert (tmp_path / "score" / "junit.xml").is_file() and (tmp_path / "score" / "report.html").is_file()
    assert (tmp_path / "summary.md").read_text("utf-8").count("## t2i score") == 2
    assert gate("nobody").returncode == 4


def test_the_job_runs_the_script() -> None:
    job = block("yaml")
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(job)["jobs"]["quality"]["steps"]
    assert any("gate.sh" in step.get("run", "") for step in steps)
    assert any(step.get("if") == "always()" for step in steps)
