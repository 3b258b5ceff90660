"""Errors that a user can fix: a sentence, a hint, a string code and an exit code.

Anything else is a bug: an `assert` or an ordinary exception, for which the command line exits with code 70. The
codes are part of the `--json` contract; each is listed once, here.
"""

from __future__ import annotations

from typing import ClassVar

EXIT_OK = 0
EXIT_GATE = 1  # a gate failed, or a replay came out different; nothing else exits 1
EXIT_USAGE = 2
EXIT_INPUT = 3
EXIT_UNAVAILABLE = 4
EXIT_INCONCLUSIVE = 5
EXIT_INTERNAL = 70
EXIT_INTERRUPTED = 130
EXIT_PIPE = 141  # stdout was closed; the code of a program killed by SIGPIPE
EXIT_TERMINATED = 143

CODES: dict[str, tuple[int, str]] = {
    "gate": (EXIT_GATE, "a gate failed, or a replay is different; nothing else exits 1"),
    "inconclusive": (EXIT_INCONCLUSIVE, "a gate could not decide, under `--strict`"),
    "usage": (EXIT_USAGE, "an option or argument makes no sense"),
    "config": (EXIT_USAGE, "a recipe or an override has an unknown key or a value of the wrong type"),
    "prompt": (EXIT_USAGE, "a prompt that cannot be used: empty, too long, or not text"),
    "input": (EXIT_INPUT, "a file that was given cannot be used"),
    "few": (EXIT_INPUT, "too few pictures for what is to be measured"),
    "recipe": (EXIT_INPUT, "two scores were not made in the same way and are not compared"),
    "image": (EXIT_INPUT, "a picture cannot be read"),
    "mark": (EXIT_INPUT, "a mark of a picture is broken: of `t2i info`"),
    "bundle": (EXIT_INPUT, "a bundle is damaged, incomplete or not a bundle"),
    "mismatch": (EXIT_INPUT, "the stages of a bundle do not fit together"),
    "data": (EXIT_INPUT, "a training set cannot be used"),
    "output": (EXIT_INPUT, "a result cannot be written"),
    "partial": (EXIT_INPUT, "part of a batch failed"),
    "unavailable": (EXIT_UNAVAILABLE, "something that is needed is not here"),
    "model": (EXIT_UNAVAILABLE, "no model of that name"),
    "device": (EXIT_UNAVAILABLE, "no such device on this machine"),
    "metric": (
        EXIT_UNAVAILABLE,
        "a metric cannot be had here: its weights, its expectations or its prompts are missing",
    ),
    "dependency": (EXIT_UNAVAILABLE, "an optional library is not installed"),
    "memory": (EXIT_UNAVAILABLE, "not enough memory for what was asked"),
    "internal": (EXIT_INTERNAL, "a fault of ours"),
    "interrupted": (EXIT_INTERRUPTED, "stopped by the keyboard or a signal"),
}
"""code -> (exit code, meaning). A test checks that every code used in the package is listed."""


class T2IError(Exception):
    """An error with a sentence (`message`), advice (`hint`) and a `code` of `CODES`.

    `exit_code` is that of the command line. It belongs to the class, and the code must agree with it.
    """

    exit_code: ClassVar[int] = EXIT_INTERNAL
    default_code: ClassVar[str] = "internal"

    def __init__(self, message: str, hint: str = "", code: str | None = None) -> None:
        self.message = message
        self.hint = hint
        self.code = code or self.default_code
        assert self.code in CODES, f"unregistered error code {self.code!r}"
        assert CODES[self.code][0] == self.exit_code, f"{self.code!r} does not belong to {type(self).__name__}"
        super().__init__(message, hint, self.code)

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class GateError(T2IError):
    """A gate of `score` or `find` failed, or a replay came out different (exit 1)."""

    exit_code = EXIT_GATE
    default_code = "gate"


class InconclusiveError(T2IError):
    """A quality gate could not decide, and `--strict` was given (exit 5)."""

    exit_code = EXIT_INCONCLUSIVE
    default_code = "inconclusive"


class UsageError(T2IError):
    """The command, a prompt or a setting makes no sense (exit 2)."""

    exit_code = EXIT_USAGE
    default_code = "usage"


class InputError(T2IError):
    """An input file or an output path cannot be used (exit 3)."""

    exit_code = EXIT_INPUT
    default_code = "input"


class UnavailableError(T2IError):
    """A model, a device or an optional library is missing (exit 4)."""

    exit_code = EXIT_UNAVAILABLE
    default_code = "unavailable"


class StoppedError(T2IError):
    """The keyboard or a signal has ended the run (exit 130, or 143)."""

    exit_code = EXIT_INTERRUPTED
    default_code = "interrupted"


class InternalError(T2IError):
    """A bug that a check has found (exit 70)."""

    exit_code = EXIT_INTERNAL
    default_code = "internal"


def nearest(word: str, known: list[str] | tuple[str, ...], n: int = 3) -> list[str]:
    """Up to `n` members of `known` that are similar to `word`, best first."""
    import difflib

    return difflib.get_close_matches(word, list(known), n=n, cutoff=0.5)


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> str:
    """Return `value` if it is one of `choices`. Raises UsageError, which names the nearest."""
    if value not in choices:
        near = nearest(value, choices, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Choose one of {', '.join(choices)}."
        raise UsageError(f"--{option} {value!r} is not known.", hint)
    return value
