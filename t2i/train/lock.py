"""The lock on a folder: two trainings must not work in one, they would overwrite one another's checkpoints."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from t2i.errors import InputError

LOCK = "lock"


@contextlib.contextmanager
def locked(out: Path) -> Iterator[None]:
    """A lock on `out`/.train, where the system has one; it gives it back when the process dies.

    Raises InputError (code `output`) while another training holds it.
    """
    try:
        import fcntl
    except ImportError:  # not on this system
        yield
        return
    path = out / ".train" / LOCK
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            hint = "Wait for it, or choose another --out."
            raise InputError(f"another training is at work in {out}.", hint, "output") from None
        except OSError:  # a network file system without locks
            pass
        yield
