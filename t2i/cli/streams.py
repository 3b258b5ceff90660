"""The standard streams, made safe: closed ones, a stderr that cannot be written, a terminal of another encoding."""

from __future__ import annotations

import io
import os
import sys


class _Unfailing(io.FileIO):
    """A file that drops what it cannot write: a message that nobody can read is no failure of the command."""

    def write(self, data: object) -> int:
        try:
            return super().write(data) or 0  # type: ignore[arg-type]
        except OSError:
            return memoryview(data).nbytes  # type: ignore[arg-type]


def prepare_streams() -> None:
    """Let paths come out as the bytes they are, and no message fail. A stream that is closed becomes the null device:
    else the next file that is opened would get its number, and take in what libraries write there."""
    for number in (0, 1, 2):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest free number, which is this one
    encoding = sys.getfilesystemencoding()
    if sys.stdin is None:  # started as `<&-`
        sys.stdin = open(0, encoding=encoding, closefd=False)  # noqa: SIM115 - it lives as long as the process
    if sys.stdout is None:
        sys.stdout = open(1, "w", encoding=encoding, closefd=False)  # noqa: SIM115
    if sys.stderr is sys.__stderr__:  # also where both are None; a test may have put another there
        raw = io.BufferedWriter(_Unfailing(2, "w", closefd=False))
        sys.stderr = io.TextIOWrapper(raw, encoding, "backslashreplace", line_buffering=True)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(encoding=encoding, errors="surrogateescape")


def drop_stdout() -> None:
    """Send what is still written to stdout, also by the interpreter at exit, nowhere."""
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)
