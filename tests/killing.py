"""Real SIGKILLs for tests: a forked child that dies before its n-th touch of the disk, or after some time."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

EVENTS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.truncate")
WRITES = os.O_WRONLY | os.O_RDWR | os.O_CREAT


def in_child(work: Callable[[], object]) -> int:
    """The process id of a child that does `work` and exits with 0, or with 1 after a traceback."""
    pid = os.fork()
    if pid:
        return pid
    code = 1
    with contextlib.suppress(BaseException):
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
    os._exit(code)


def ended(pid: int) -> int:
    """Wait for a child; its exit code, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def kill_after(pid: int, seconds: float) -> bool:
    """Kill a child after so many seconds; False if it had ended by then, as it should."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        done, status = os.waitpid(pid, os.WNOHANG)
        if done:
            assert os.waitstatus_to_exitcode(status) == 0
            return False
        time.sleep(0.002)
    os.kill(pid, signal.SIGKILL)
    assert ended(pid) == -signal.SIGKILL
    return True


def die_before(touch: int, folder: Path) -> Callable[[], int]:
    """From now on this process dies before its touch number `touch` (from 0) of the disk inside `folder`: opening a
    file to write, fsync, rename, removal, a new folder. At an fsync half of the file is lost, as if it was killed in
    the middle of writing. Returns a function that says how many there were. It cannot be undone: use it in a child."""
    count = 0
    root = str(folder)

    def touched() -> None:
        nonlocal count
        if count == touch:
            os.kill(os.getpid(), signal.SIGKILL)
        count += 1

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            path, mode, flags = args
            writes = any(c in mode for c in "wax+") if mode else bool(flags & WRITES)
            if writes and isinstance(path, (str, bytes, os.PathLike)) and os.fsdecode(path).startswith(root):
                touched()
        elif event in EVENTS and isinstance(args[0], (str, bytes, os.PathLike)):
            path = os.fsdecode(args[0])
            if path.startswith(root) or not os.path.isabs(path):  # rmtree removes by folder and name
                touched()

    fsync = os.fsync

    def torn(fd: int) -> None:
        if count == touch and not os.path.isdir(f"/proc/self/fd/{fd}"):
            with contextlib.suppress(OSError):
                os.ftruncate(fd, os.fstat(fd).st_size // 2)
        touched()
        fsync(fd)

    os.fsync = torn
    sys.addaudithook(hook)
    return lambda: count


def touches(work: Callable[[], object], folder: Path) -> int:
    """How often `work` touches the disk inside `folder`. It is done in a child, for real."""
    reader, writer = os.pipe()

    def counted() -> None:
        count = die_before(-1, folder)
        work()
        os.write(writer, str(count()).encode())

    pid = in_child(counted)
    os.close(writer)
    with os.fdopen(reader) as told:
        said = told.read()
    assert ended(pid) == 0
    return int(said)


def killed_before(touch: int, work: Callable[[], object], folder: Path) -> None:
    """Do `work` in a child that dies before its touch number `touch` of the disk inside `folder`."""

    def doomed() -> None:
        die_before(touch, folder)
        work()

    assert ended(in_child(doomed)) == -signal.SIGKILL, f"it lived past touch {touch}"
