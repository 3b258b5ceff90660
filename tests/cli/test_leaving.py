"""How the process ends: at once, but with all that others have asked for done and written."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import atexit, sys, threading, time
from t2i.cli.app import main
THREAD = False

def later():
    time.sleep(0.5)
    print("thread")

class Loud:
    def __del__(self):
        sys.__stderr__.write("taken apart")

atexit.register(print, "first in, last out")
atexit.register(print, "at exit")
if THREAD:
    threading.Thread(target=later).start()
kept = Loud()
main()
"""


def leave(folder: Path, *args: str, thread: bool = False) -> subprocess.CompletedProcess[str]:
    code = PROGRAM.replace("THREAD = False", f"THREAD = {thread}")
    run = [sys.executable, "-c", code, *args]
    return subprocess.run(run, cwd=folder, capture_output=True, text=True, check=False)


def test_what_was_asked_for_at_exit_is_done_and_written(tmp_path: Path) -> None:
    done = leave(tmp_path, "--version")
    assert done.returncode == 0
    assert done.stdout.splitlines()[1:] == ["at exit", "first in, last out"]
    assert "taken apart" not in done.stderr  # the interpreter did not clear its modules


def test_a_thread_is_waited_for(tmp_path: Path) -> None:
    done = leave(tmp_path, "--version", thread=True)
    assert done.returncode == 0 and "thread" in done.stdout and "at exit" in done.stdout


def test_the_exit_code_is_kept(tmp_path: Path) -> None:
    assert leave(tmp_path, "sample", "--model", "no-such-model", "a cat").returncode == 4
    assert leave(tmp_path, "sample").returncode == 2
