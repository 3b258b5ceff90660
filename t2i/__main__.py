"""The entry point: `t2i`, and `python -m t2i`.

What fails before the command line is there must not exit with 1, Python's own code for it, which is a gate's here.
"""

from __future__ import annotations

import contextlib
import os
import sys
from typing import NoReturn

from t2i.errors import EXIT_INTERNAL, EXIT_INTERRUPTED, EXIT_UNAVAILABLE
from t2i.torch_import import collecting_later

SPINS = "20000"  # docs/decisions.md, "a processor that others use too"


def main() -> NoReturn:
    """Run the command line on sys.argv and exit with its code."""
    if "OMP_WAIT_POLICY" not in os.environ:  # libgomp reads these where torch is imported
        os.environ.setdefault("GOMP_SPINCOUNT", SPINS)
    try:
        with collecting_later():
            from t2i.cli.app import main as command_line
    except KeyboardInterrupt:
        sys.exit(EXIT_INTERRUPTED)
    except BaseException as error:
        with contextlib.suppress(OSError, AttributeError):  # a stderr that is full, or closed
            sys.stderr.write(f"t2i: error: the program cannot be loaded: {type(error).__name__}: {error}\n")
        missing = isinstance(error, (ImportError, OSError, MemoryError))  # a library is missing, or does not fit
        sys.exit(EXIT_UNAVAILABLE if missing else EXIT_INTERNAL)
    command_line()


if __name__ == "__main__":
    main()
