"""`t2i sample --ray`: workers of a local Ray draw a batch, and one of them dies."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from cli.conftest import Draw

SAMPLE = [sys.executable, "-m", "t2i", "sample", "-f", "prompts.txt", "--size", "16", "--model", "tiny"]


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["--ray", "0"], "makes no sense"),
        (["--ray", ""], "makes no sense"),
        (["--ray", "2", "--shard", "1/2"], "--ray and --shard"),
        (["--ray", "2", "--grid"], "without --ray writes it"),
        (["--ray", "2", "--sweep", "guidance=1,2"], "--ray and --sweep"),
    ],
)
def test_what_makes_no_sense_is_refused(draw: Draw, args: list[str], said: str) -> None:
    _, err = draw("a cat", "--seed", "1", *args, code=2)
    assert said in err


def test_an_address_where_nobody_listens_is_told_at_once(draw: Draw) -> None:
    pytest.importorskip("ray")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and does not listen
        for address in (f"127.0.0.1:{taken.getsockname()[1]}", "ray://127.0.0.1:99999"):
            _, err = draw("a cat", "--seed", "1", "--ray", address, code=4)
            assert f"there is no Ray at '{address}'" in err


def children(parent: int) -> list[int]:
    """All processes below one."""
    found, below = [], {parent}
    parents = {}
    for place in Path("/proc").glob("[0-9]*"):
        try:
            parents[int(place.name)] = int((place / "stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            continue  # it has ended
    while below:
        below = {child for child, above in parents.items() if above in below}
        found += sorted(below)
    return found


def workers(parent: int) -> list[int]:
    """Those below a driver that draw at this moment."""
    found = []
    for child in children(parent):
        try:
            if b"Drawer.draw" in Path(f"/proc/{child}/cmdline").read_bytes():
                found.append(child)
        except OSError:
            continue
    return found


def wait_for(folder: Path, pictures: int, run: subprocess.Popen[str]) -> None:
    end = time.monotonic() + 300
    while len(list(folder.glob("*.png"))) < pictures:
        assert run.poll() is None and time.monotonic() < end
        time.sleep(0.1)


@pytest.mark.slow
def test_a_worker_that_dies_costs_its_share_only(studio: Path) -> None:
    pytest.importorskip("ray")
    names = [f"{colour} {thing}" for colour in ("red", "blue", "green") for thing in ("cat", "house", "zebra", "apple")]
    Path("prompts.txt").write_text("".join(f"a {name} in the snow\n" for name in names * 25))
    run = subprocess.Popen(
        [*SAMPLE, "-o", "out", "--batch", "4", "--ray", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    wait_for(Path("out"), 30, run)
    while not (at_work := workers(run.pid)):
        assert run.poll() is None
        time.sleep(0.01)
    os.kill(at_work[0], signal.SIGKILL)
    out, err = run.communicate(timeout=600)
    assert run.returncode == 0, err
    assert err.count("a worker has died; its 4 pictures are drawn again") == 1
    assert err.count("never read 'green'") == 1, "a warning is told once"
    lines = [json.loads(line) for line in Path("out/manifest.jsonl").read_text().splitlines()]
    assert sorted(f"out/{line['path']}" for line in lines) == sorted(out.split())
    assert len(set(out.split())) == 300
    # the same pictures, names and order as of one process, which finds all of them
    plain = subprocess.run([*SAMPLE, "-o", "out"], capture_output=True, text=True, check=True)
    assert "300 of 300 were there already" in plain.stderr
    assert plain.stdout == out


@pytest.mark.slow
def test_a_signal_ends_all_workers_and_the_run_goes_on_later(studio: Path) -> None:
    pytest.importorskip("ray")
    Path("prompts.txt").write_text("a cat in the snow\n" * 80)
    command = [*SAMPLE, "-o", "out", "--batch", "4", "--ray", "1"]
    run = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(Path("out"), 8, run)
    below = children(run.pid)
    run.send_signal(signal.SIGTERM)
    _, err = run.communicate(timeout=120)
    assert run.returncode == 143, err
    end = time.monotonic() + 60
    while any(Path(f"/proc/{child}").exists() for child in below):
        assert time.monotonic() < end, "workers are left"
        time.sleep(0.1)
    again = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "were there already" in again.stderr
    assert len(again.stdout.split()) == 80
