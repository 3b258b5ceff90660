"""A pseudo-terminal, on which `t2i` is run as a person runs it."""

from __future__ import annotations

import os
import pty
import re
import select
import struct
import subprocess
import sys
import time

CODES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")


def on_a_terminal(
    args: list[str], answers: dict[bytes, bytes] | None = None, redirect: bool = False, width: int = 80
) -> str:
    """What `t2i` with ``args`` writes to a terminal of ``width`` by 24 that answers questions with ``answers``."""
    import fcntl
    import termios

    main, side = pty.openpty()
    fcntl.ioctl(side, termios.TIOCSWINSZ, struct.pack("HHHH", 24, width, 0, 0))
    env = {**os.environ, "TERM": "xterm-256color", "COLORTERM": "truecolor", "OMP_NUM_THREADS": "1"}
    env.pop("NO_COLOR", None)
    command = [sys.executable, "-m", "t2i", *args]
    stdout = subprocess.DEVNULL if redirect else side
    seen, asked = b"", 0
    with subprocess.Popen(command, stdin=side, stdout=stdout, stderr=side, env=env, start_new_session=True) as process:
        os.close(side)
        end = time.monotonic() + 600
        while time.monotonic() < end:
            if select.select([main], [], [], 0.1)[0]:
                try:
                    part = os.read(main, 65536)
                except OSError:  # the terminal has closed
                    break
                seen += part
                for question, answer in (answers or {}).items():
                    at = seen.find(question, asked)
                    if at >= 0:
                        asked = at + len(question)
                        os.write(main, answer)
            elif process.poll() is not None:
                break
        assert process.wait(60) == 0, seen.decode(errors="replace")
    os.close(main)
    return seen.decode(errors="replace")


def screen(args: list[str], width: int = 80) -> list[str]:
    """The lines that `t2i` with ``args`` writes to a terminal, without colours."""
    return [line.rstrip() for line in CODES.sub("", on_a_terminal(args, width=width)).split("\r\n")]
