"""Processes of their own: kills, two at once, memory that ends, what a shell sees."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest

from t2i.media.images import load_image, read_metadata

Draw = Callable[..., tuple[list[str], str]]
CAT = "a cat in the snow"
PROGRAM = f"{shlex.quote(sys.executable)} -m t2i"
REPEATS = 50


def pictures(folder: Path) -> dict[str, bytes]:
    return {path.name: load_image(path).tobytes() for path in folder.glob("*.png")}


def listed(folder: Path) -> list[str]:
    """Names in the manifest, of the lines that are whole."""
    names = []
    for line in (folder / "manifest.jsonl").read_text("utf-8").splitlines():
        try:
            names.append(json.loads(line)["path"])
        except ValueError:
            continue
    return names


def test_a_kill_loses_nothing_that_was_drawn(draw: Draw, studio: Path) -> None:
    """SIGKILL in the middle; the rerun draws what is missing, with the same pixels, and nothing again."""
    prompts = [f"a {colour} cat" for colour in ["red", "blue", "green", "white", "black", "grey", "pink", "brown"]] * 4
    (studio / "p.txt").write_text("\n".join(prompts) + "\n")
    args = ["-f", "p.txt", "--batch", "4"]
    whole, _ = draw(*args, "-o", "whole")
    command = [sys.executable, "-m", "t2i", "sample", *args, "-o", "cut", "--size", "16", "--model", "tiny", "-q"]
    command += ["--device", "cpu"]
    for lines in (1, 6, 11):  # at the first picture, and in the middle of later batches
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            assert process.stdout is not None
            for _ in range(lines + len(list((studio / "cut").glob("*.png")))):
                process.stdout.readline()
            process.kill()
        assert not list((studio / "cut").glob("*.tmp"))
    left = {path: path.stat().st_mtime_ns for path in (studio / "cut").glob("*.png")}
    assert 0 < len(left) < len(set(whole))
    again, _ = draw(*args, "-o", "cut")
    assert [Path(path).name for path in again] == [Path(path).name for path in whole]
    assert {path: path.stat().st_mtime_ns for path in left} == left
    assert pictures(studio / "cut").keys() == pictures(studio / "whole").keys()
    for name, data in pictures(studio / "whole").items():
        far = max(abs(a - b) for a, b in zip(data, pictures(studio / "cut")[name], strict=True))
        assert far <= 4, name
    assert Counter(listed(studio / "cut")) == Counter(pictures(studio / "cut").keys())


TOGETHER = """
import os, sys
import torch
from t2i.cli.app import run
torch.set_num_threads(1)
said, sys.stdout = sys.stdout, open(os.devnull, "w")
args = ["sample", "a cat in the snow", "--seed", "1..2", "--size", "16", "--batch", "1", "--steps", sys.argv[1]]
for folder in sys.stdin:
    code = run([*args, "-o", folder.strip(), "-q", "--model", "tiny", "--device", "cpu"])
    print(code, file=said, flush=True)
"""


def test_two_runs_into_one_folder_fifty_times(studio: Path) -> None:
    """Both draw two pictures with the names that the other wants, and one set that is the same: nothing is lost,
    nothing overwritten, nothing twice."""
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", TOGETHER, steps], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        for steps in ("1", "1", "2")
    ]
    for number in range(REPEATS):
        for process in runs:
            assert process.stdin is not None
            process.stdin.write(f"run{number:02}\n")
            process.stdin.flush()
        assert [process.stdout and process.stdout.readline() for process in runs] == ["0\n"] * 3
    for process in runs:
        process.communicate(timeout=60)
    for number in range(REPEATS):
        folder = studio / f"run{number:02}"
        keys = Counter(read_metadata(path)["t2i"]["key"] for path in folder.glob("*.png"))
        assert len(keys) == 4
        assert set(keys.values()) == {1}, f"{folder}: a picture was drawn into two files"
        assert sorted(listed(folder)) == sorted(path.name for path in folder.glob("*.png"))
        assert sorted(path.name for path in folder.iterdir() if path.suffix != ".png") == ["manifest.jsonl"]


@pytest.mark.slow
@pytest.mark.parametrize("room", [16, 24, 40])
def test_memory_that_does_not_suffice_for_the_batch(studio: Path, room: int) -> None:
    """The address space is limited for real, after the model is there, to ``room`` MB more: torch's own allocator
    refuses, or oneDNN finds no room for a kernel."""
    code = """
import resource, sys
from t2i.cli.app import run
from t2i.pipeline import Pipeline

real = Pipeline.sample
def tight(self, prompts, seeds, *args, **kw):
    with open("/proc/self/statm") as f:
        now = int(f.read().split()[0]) * resource.getpagesize()
    if len(seeds) > 2:
        resource.setrlimit(resource.RLIMIT_AS, (now + (ROOM << 20), resource.RLIM_INFINITY))
    spent.append(len(seeds))
    try:
        return real(self, prompts, seeds, *args, **kw)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
spent = []
Pipeline.sample = tight
code = run(sys.argv[1:])
sys.stderr.write(f"batches {spent}")
sys.exit(code)
"""
    args = ["sample", CAT, "-n", "256", "--seed", "1", "--batch", "256", "--size", "64", "--model", "tiny"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code.replace("ROOM", str(room)), *args, "--device", "cpu", "-q"]
    with subprocess.Popen(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        out, err = process.communicate(timeout=900)
    sizes = json.loads(err.decode().rpartition("batches ")[2])
    assert process.returncode == 0, err.decode()
    assert sizes[:2] == [256, 128]
    assert len(out.decode().splitlines()) == 256
    assert b"Traceback" not in err


EVERY = {
    "sample": f"sample '{CAT}' -n 2 --seed 1 --size 16",
    "sweep": f"sample '{CAT}' --seed 1 --size 16 --sweep steps=1,2 --grid",
    "skipped": f"sample '{CAT}' -n 2 --seed 1 --size 16 -o again",
    "failing": "sample '' --size 16",
    "replay": "sample --replay made.png",
    "info": "info made.png",
    "inpaint": f"inpaint made.png '{CAT}' --box 2,2,9,9 --seed 1",
    "upscale": "upscale made.png --to 32 -o big",
    "score": "score made.png --extractor clip:tiny --device cpu",
    "train": "train clip --recipe micro.toml --steps 1 --device cpu",
    "plan": "train --recipe micro.toml --dry-run --device cpu",
    "models list": "models list",
    "models show": "models show tiny",
    "models verify": "models verify tiny",
}


@pytest.mark.parametrize("name", EVERY)
def test_stdout_alone_is_the_result(studio: Path, draw: Draw, micro: str, name: str) -> None:
    """`2>/dev/null`, in a shell: with --json every line is JSON and the last is the envelope; without, paths."""
    draw(CAT, "--seed", "1", "-o", "made.png")
    shutil.copy(micro, "micro.toml")
    draws = ("sample", "sweep", "skipped", "failing", "inpaint", "upscale")
    command = EVERY[name] + (" --model tiny --device cpu" if name in draws else "")
    done = subprocess.run(
        ["sh", "-c", f"{PROGRAM} {command} --json 2>/dev/null"], capture_output=True, text=True, check=False
    )
    *records, envelope = [json.loads(line) for line in done.stdout.splitlines()]
    assert envelope["ok"] is (done.returncode == 0)
    assert done.stderr == ""
    if name in ("sample", "sweep", "skipped", "inpaint", "upscale"):
        assert all(Path(record["path"]).is_file() for record in records)
        plain = ["sh", "-c", f"{PROGRAM} {command} 2>/dev/null"]
        done = subprocess.run(plain, capture_output=True, text=True, check=True)
        assert all(Path(line).is_file() for line in done.stdout.splitlines())
        assert len(done.stdout.splitlines()) == len(records)


def test_a_reader_that_leaves_is_no_failure(studio: Path) -> None:
    """`| head -n 1`: no word on stderr, and the exit code of a program that SIGPIPE ends."""
    line = f"{PROGRAM} sample '{CAT}' -n 500 --seed 1 --batch 1 --size 16 --model tiny --device cpu -q"
    script = f"set -o pipefail; {line} | head -n 1; echo ${{PIPESTATUS[0]}} $?"
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
    path, codes = done.stdout.splitlines()
    assert path == "out/a-cat-in-the-snow-1.png"
    assert codes.split()[0] == "141"
    assert done.stderr == ""
    assert len(pictures(studio / "out")) < 500


@pytest.mark.parametrize(
    ("more", "last"),
    [
        (["--seed", "1"], r"t2i: hint: To go on where it stopped: the same command\."),
        ([], r"t2i: hint: To go on where it stopped: the same command with --seed \d+\."),
        (["--seed", "1", "--overwrite"], r"t2i: error: interrupted\."),
    ],
)
def test_a_signal_twice_stops_at_once(more: list[str], last: str, studio: Path) -> None:
    """The last line says how to go on, where the same command does."""
    args = [*more, "-n", "5000", "--batch", "64", "--size", "64", "--json", "--model", "tiny"]
    command = [sys.executable, "-m", "t2i", "sample", CAT, *args, "--device", "cpu"]
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=lambda: signal.signal(2, signal.SIG_DFL)
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=600)
    assert process.returncode == 130, err.decode()
    assert json.loads(out.splitlines()[-1])["error"]["code"] == "interrupted"
    assert re.fullmatch(last, err.decode().splitlines()[-1])
    assert not [path for path in (studio / "out").iterdir() if path.name.startswith(".")]
