"""The script of docs/ci.md, run as it stands on the page, by the command of the job beside it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image, ImageFilter
from PIL.PngImagePlugin import PngInfo

PAGE = Path(__file__).parents[2] / "docs" / "ci.md"


def block(kind: str) -> str:
    found = re.search(rf"```{kind}\n(.*?)```", PAGE.read_text("utf-8"), re.DOTALL)
    assert found, kind
    return found[1]


def gate_command() -> str:
    """The step of the job on the page that runs the script."""
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(block("yaml"))["jobs"]["quality"]["steps"]
    (command,) = (step["run"] for step in steps if "gate.sh" in step.get("run", ""))
    return str(command)


class Job:
    """A folder with the script, six prompts, and the model `tiny`, as a CI job sees it."""

    def __init__(self, folder: Path, tiny: Path) -> None:
        self.folder = folder
        models = folder / "home" / "models"
        models.mkdir(parents=True)
        shutil.copytree(tiny, models / "tiny")
        (folder / "gate.sh").write_text(block("sh"))
        prompts = "a cat in the snow\ntwo penguins\na red apple\na zebra\na house at night\ntwo cats"
        (folder / "p.txt").write_text(prompts)
        tools = folder / "bin"
        tools.mkdir()
        (tools / "t2i").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m t2i "$@"\n')
        (tools / "t2i").chmod(0o755)
        self.env = {
            **os.environ,
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            "T2I_HOME": str(folder / "home"),
            "SUITE": "p.txt",
            "SIZE": "16",
            "EXTRACTOR": "clip:tiny",
            "GITHUB_STEP_SUMMARY": str(folder / "summary.md"),
        }
        self.env.pop("CI", None)

    def gate(self, model: str = "tiny", **env: str) -> subprocess.CompletedProcess[str]:
        command = gate_command().replace("small", model)
        return subprocess.run(
            command, shell=True, cwd=self.folder, env={**self.env, **env}, capture_output=True, text=True, check=False
        )


@pytest.fixture
def job(tiny: Path, tmp_path: Path) -> Job:
    return Job(tmp_path, tiny)


def test_the_script_gates_a_model(job: Job) -> None:
    lost = job.gate(CI="true")
    assert lost.returncode == 3 and "commit it" in lost.stderr
    assert not (job.folder / "score" / "baseline.json").exists()
    first = job.gate()
    assert first.returncode == 0, first.stderr
    assert (job.folder / "score" / "baseline.json").is_file() and "made a baseline" in first.stderr
    second = job.gate(CI="true")
    assert second.returncode == 0, second.stderr
    assert "verdict\tpass" in second.stdout
    assert (job.folder / "score" / "junit.xml").is_file() and (job.folder / "score" / "report.html").is_file()
    assert (job.folder / "summary.md").read_text("utf-8").count("## t2i score") == 2
    assert job.gate("nobody").returncode == 4


def test_a_reseed_passes_and_a_blur_fails(job: Job) -> None:
    """The same weights with fresh seeds, then their pictures blurred, as a broken upsampler would draw them."""
    assert job.gate().returncode == 0
    reseeded = job.gate(SEED="100", CI="true")
    assert reseeded.returncode == 0, reseeded.stdout + reseeded.stderr
    for path in (job.folder / "score" / "pictures").glob("*.png"):
        with Image.open(path) as image:
            image.load()
        texts = PngInfo()
        for name, text in image.text.items():
            texts.add_itxt(name, text)
        image.filter(ImageFilter.GaussianBlur(1)).save(path, pnginfo=texts)
    blurred = job.gate(CI="true")
    assert blurred.returncode == 1, blurred.stdout + blurred.stderr
    assert "Pictures are blurrier: sharpness -" in blurred.stderr
    assert "Pictures are blurrier" in (job.folder / "summary.md").read_text("utf-8")
    assert re.search(r"^sharpness [\d.]+ to [\d.]+: \w", blurred.stderr, re.MULTILINE)  # the prompts that fell furthest


def test_the_job_keeps_its_reports_when_it_fails() -> None:
    assert gate_command() == "sh gate.sh small"
    yaml = pytest.importorskip("yaml")
    steps = yaml.safe_load(block("yaml"))["jobs"]["quality"]["steps"]
    (upload,) = (step for step in steps if step.get("if") == "always()")
    assert "--junit score/junit.xml --html score/report.html" in block("sh") and upload["with"]["path"] == "score/"
