"""Real SIGKILLs for tests: a forked child that dies before its n-th touch of the disk, or at a step. And signals that
raise, at every moment at which Python looks for them."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import time
import traceback
from collections.abc import Callable
from inspect import CO_GENERATOR
from itertools import count
from pathlib import Path
from types import FrameType
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


def killed_at(step: int, share: float, train: Callable[[Callable[[dict[str, Any]], None]], object]) -> None:
    """Do a training in a child that is killed when it has reported `step` and then worked for `share` of the processor
    time that passed since its report before, at the latest when it reports again. So the clock does not matter: a busy
    machine changes nothing. train: trains, and reports to what it is given."""

    def doomed() -> None:
        before, reached = time.process_time(), False

        def report(record: dict[str, Any]) -> None:
            nonlocal before, reached
            if record["event"] not in ("start", "step"):
                return
            if reached:
                os.kill(os.getpid(), signal.SIGKILL)
            before, since = time.process_time(), time.process_time() - before
            if record["step"] >= step:
                reached = True
                signal.signal(signal.SIGPROF, signal.SIG_DFL)  # by default it ends a process as SIGKILL does
                signal.setitimer(signal.ITIMER_PROF, max(1e-6, share * since))

        train(report)

    assert ended(in_child(doomed)) in (-signal.SIGPROF, -signal.SIGKILL), f"it lived past step {step}"


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


class Broken(BaseException):
    """What a signal raises."""


def broken_off(work: Callable[[], object], first: int, second: int) -> int:
    """Do `work`, in which `Broken` is raised at moment number `first`, and again at moment number `second` after that,
    counted from 0: where a function begins, and where one in C has returned. Not where a generator goes on: what is
    raised there passes by its handlers. How often it was raised."""
    moments, raised = [first, second], 0

    def profile(frame: FrameType, event: str, arg: object) -> None:
        nonlocal raised
        if event == "c_return" or (event == "call" and not frame.f_code.co_flags & CO_GENERATOR):
            moments[raised] -= 1
            if moments[raised] < 0:  # what a profile function raises ends the profiling
                raised += 1
                raise Broken

    def trace(frame: FrameType, event: str, arg: object) -> None:
        if raised == 1 and sys.getprofile() is None:
            sys.settrace(None)
            sys.setprofile(profile)

    before = sys.gettrace(), sys.getprofile()
    sys.settrace(trace)
    sys.setprofile(profile)
    try:  # noqa: SIM105 - suppress is a function, which would be broken off too
        work()
    except Broken:
        pass
    sys.setprofile(before[1])
    sys.settrace(before[0])
    return raised


def broken_off_everywhere(work: Callable[[], object], check: Callable[[], object]) -> int:
    """Do `work` broken off at every two moments, and `check` after each. How many were tried."""
    tries = 0
    for first in count():
        for second in count():
            raised = broken_off(work, first, second)
            check()
            tries += 1
            if raised < 2:
                break
        if raised == 0:
            return tries
    raise AssertionError
