"""What the programs of this room have in common."""

from __future__ import annotations

import argparse
import functools
import sys
from collections.abc import Callable, Sequence
from typing import Protocol

from t2i.errors import T2IError


class Main(Protocol):
    """The main function of a program: the words after its name (None: sys.argv's) -> its exit code."""

    def __call__(self, argv: Sequence[str] | None = None) -> int: ...


def reports_errors(main: Callable[[Sequence[str] | None], int]) -> Main:
    """A main function whose T2IError becomes a line on stderr and its exit code."""

    @functools.wraps(main)
    def run(argv: Sequence[str] | None = None) -> int:
        try:
            return main(argv)
        except T2IError as error:
            sys.stderr.write(f"{error}\n")
            return error.exit_code

    return run


def positive(text: str) -> int:
    """A whole number from 1 on, as the `type` of an option of argparse."""
    value = int(text) if text.isdecimal() else 0
    if value < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number from 1 on")
    return value
