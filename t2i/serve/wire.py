"""What client and server send: JSON, one object a line.

The server says hello. The client sends orders, one after the other; each is answered by events and by the records of
`t2i sample --json`, and at last by its envelope, which also holds the exit code.
"""

from __future__ import annotations

import json
import select
import socket
from contextlib import suppress
from typing import Any

from t2i.errors import (
    CODES,
    GateError,
    InconclusiveError,
    InputError,
    InternalError,
    StoppedError,
    T2IError,
    UnavailableError,
    UsageError,
)
from t2i.jsonl import json_object

SCHEMA = 1
MAX_LINE = 8 << 20  # bytes of a line; a jobs file of ten thousand lines has about one million
PATIENCE = 30.0  # seconds that a client may take to read what it is sent
ERRORS: tuple[type[T2IError], ...] = (
    GateError, UsageError, InputError, UnavailableError, InconclusiveError, StoppedError,
)  # fmt: skip


class Gone(Exception):
    """The other side has hung up, or does not read."""


class Wire:
    """One connection. patience: seconds that the other side may take to read, or, unless it may take as long as it
    likes, to say something. waits: whether it may."""

    def __init__(self, link: socket.socket, patience: float = PATIENCE, waits: bool = True) -> None:
        self._link = link
        self._rest = b""
        self.waits = waits
        link.settimeout(patience)

    def send(self, table: dict[str, Any]) -> None:
        """Send one object. Raises Gone."""
        try:
            self._link.sendall(json.dumps({"schema": SCHEMA, **table}, allow_nan=False).encode() + b"\n")
        except OSError as error:
            raise Gone from error

    def receive(self) -> dict[str, Any] | None:
        """The next object; None where the other side sends no more.

        Raises Gone, and InputError for a line that is too long or no JSON object.
        """
        while (line := self._line()) is not None:
            if line.strip():
                text = line.decode("utf-8", "replace")
                return json_object(text, "the line", 'Write {"prompt": "a cat"}', half_characters=True)
        return None

    def _line(self) -> bytes | None:
        while b"\n" not in self._rest:
            if len(self._rest) > MAX_LINE:
                raise InputError(f"a line is longer than {MAX_LINE >> 20} MB.", "Send it in parts.")
            try:
                data = self._link.recv(1 << 16)
            except TimeoutError:
                if not self.waits:
                    raise Gone from None
                continue
            except OSError as error:
                raise Gone from error
            if not data and not self._rest:
                return None
            self._rest += data or b"\n"  # a last line without its end
        line, _, self._rest = self._rest.partition(b"\n")
        return line

    def hung_up(self) -> bool:
        """Whether the other side is gone. One that only sends no more is still there."""
        poll = select.poll()
        try:
            poll.register(self._link, 0)  # POLLHUP and POLLERR are always told
            return bool(poll.poll(0))
        except (OSError, ValueError):  # closed here
            return True

    def close(self) -> None:
        """Hang up, also where another thread is waiting for a line."""
        with suppress(OSError):
            self._link.shutdown(socket.SHUT_RDWR)
        self._link.close()


def error_table(error: T2IError) -> dict[str, str]:
    """An error for the wire."""
    return {"code": error.code, "message": error.message, "hint": error.hint}


def error_of(table: dict[str, Any]) -> T2IError:
    """The error that `error_table` wrote; one of another version becomes a fault of ours."""
    code, message, hint = (str(table.get(key, "")) for key in ("code", "message", "hint"))
    for cls in ERRORS:
        if code in CODES and CODES[code][0] == cls.exit_code:
            return cls(message, hint, code)
    return InternalError(message, hint)
