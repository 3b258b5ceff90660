"""The entry point: the commands, and how failures become exit codes. Neither this nor --help imports torch."""

from __future__ import annotations

import atexit
import contextlib
import errno
import os
import re
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from types import FrameType
from typing import Annotated, NoReturn, get_type_hints

import typer
from typer.models import ParameterInfo

from t2i import __version__
from t2i.cli import capabilities, find, info, inpaint, models, sample, score, serve, train, upscale, vary
from t2i.cli.panels import PanelCommand
from t2i.cli.streams import drop_stdout, prepare_streams
from t2i.cli.ui import UI, ReaderGone, unwritten
from t2i.errors import (
    EXIT_INTERNAL,
    EXIT_INTERRUPTED,
    EXIT_OK,
    EXIT_PIPE,
    EXIT_TERMINATED,
    InputError,
    StoppedError,
    T2IError,
    UsageError,
)
from t2i.files import explain_os_error
from t2i.jobs.faults import as_error
from t2i.jobs.reporter import Stopped

EPILOG = """Examples:

\b
  t2i sample "a cat in the snow" -n 4
  t2i sample "一只猫在雪地里玩耍"
  t2i sample -f prompts.txt -o out/
  t2i vary cat.png -n 4
  t2i info out/a-cat-in-the-snow-7.png
  t2i train --recipe tiny --out my-model

Exit codes: 0 done, 1 a gate failed or a replay is different, 2 usage, 3 bad input or output, 4 something
needed is not here, 5 inconclusive, 70 a fault of ours, 130 interrupted, 141 the reader of the results has gone,
143 terminated.
"""

app = typer.Typer(
    name="t2i",
    help="Text to picture, with models small enough for two CPU cores.",
    epilog=EPILOG,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110},
)
COMMANDS: dict[str, tuple[Callable[..., None], str, str]] = {
    "sample": (sample.sample, sample.EPILOG, "Draw pictures from prompts."),
    "vary": (vary.vary, vary.EPILOG, "Make variations, blends and text diffs of pictures."),
    "inpaint": (inpaint.inpaint, inpaint.EPILOG, "Repaint a part of a picture, or paint around it."),
    "upscale": (upscale.upscale, upscale.EPILOG, "Enlarge pictures of any size and shape."),
    "train": (train.train, train.EPILOG, "Train a model, or one stage of it."),
    "score": (score.score, score.EPILOG, "Score pictures, and compare models by them."),
    "find": (find.find, find.EPILOG, "Find things in pictures: boxes, masks, labels."),
    "serve": (serve.serve, serve.EPILOG, "Keep a model loaded, for scripts."),
    "info": (info.info, info.EPILOG, "Show how a picture was made."),
    "capabilities": (capabilities.capabilities, capabilities.EPILOG, "Show what this version offers, for scripts."),
}
"""name -> function, examples, what the list of commands says."""


def _reads_itself(function: Callable[..., None]) -> Callable[..., None]:
    """The command, without the parser's check of what can be read: that would call a file without rights a mistake in
    the command, exit 2. Who reads the file says it better, with the exit code of a bad input."""
    hints = get_type_hints(function, include_extras=True)
    for hint in hints.values():
        for option in getattr(hint, "__metadata__", ()):
            if isinstance(option, ParameterInfo):
                option.readable = False
    function.__annotations__ = hints  # else the parser makes its own from their texts
    return function


for _name, (_function, _epilog, _short) in COMMANDS.items():
    app.command(_name, cls=PanelCommand, epilog=_epilog, short_help=_short)(_reads_itself(_function))
app.add_typer(models.app, name="models")

SIGNALS = (signal.SIGINT, signal.SIGTERM)
# click's UsageError; Typer brings its own click, and this name is public in every version
ParserFault: type[Exception] = typer.BadParameter.__bases__[0]


def _version(value: bool) -> None:
    if value:
        sys.stdout.write(f"t2i {__version__}\n")
        raise typer.Exit


@app.callback(invoke_without_command=True)
def _root(
    ctx: typer.Context,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and leave.")
    ] = False,
) -> None:
    if ctx.invoked_subcommand is None:
        sys.stdout.write(ctx.get_help() + "\n")


def main() -> NoReturn:
    """Run the command line on sys.argv and exit with its code; with 1, Python's own for a fault, only for a verdict."""
    try:
        code = run(sys.argv[1:])
    except (KeyboardInterrupt, Stopped):  # once more, while the first was being told
        code = EXIT_INTERRUPTED
    except BaseException:
        traceback.print_exc()
        code = EXIT_INTERNAL
    _ignore_signals()  # the code is known: nothing may change it any more
    _leave(code)


def _leave(code: int) -> NoReturn:
    """End the process as sys.exit does, but leave its memory to the system: the interpreter would take every module
    apart, which takes .5 s where torch is among them."""
    if threading.active_count() > 1:  # the interpreter waits for them
        sys.exit(code)
    atexit._run_exitfuncs()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
        sys.stderr.flush()
    os._exit(code)


def run(args: list[str]) -> int:
    """Run the command line on `args` and return the exit code. No exception leaves it."""
    prepare_streams()
    found = {number: signal.getsignal(number) for number in SIGNALS}
    try:
        return _run(args, UI.from_args(args))
    finally:
        for number, handler in found.items():
            if handler is not None:  # None: not Python's
                signal.signal(number, handler)


def _run(args: list[str], ui: UI) -> int:
    code, error = EXIT_OK, None
    try:
        code, error = _invoke(args, ui)
        if code in (EXIT_INTERRUPTED, EXIT_TERMINATED):
            _ignore_signals()  # while it is told
        if error is not None:
            if ui.debug:
                traceback.print_exception(error)
            ui.fail(error)
        ui.close(error)
        sys.stdout.flush()
    except (BrokenPipeError, ReaderGone):  # `| head -1`: no failure, and nobody reads it
        drop_stdout()
        return EXIT_PIPE
    except (OSError, InputError) as fault:  # the envelope cannot be written, for example to a full disk
        if error is None:  # else the reason was printed above
            ui.fail(fault if isinstance(fault, InputError) else unwritten(fault))
        drop_stdout()
        return InputError.exit_code
    return code


def _invoke(args: list[str], ui: UI) -> tuple[int, T2IError | None]:
    def terminate(number: int, frame: FrameType | None) -> None:
        raise Stopped(number)  # an exception, so that temporary files are removed on the way out

    signal.signal(signal.SIGTERM, terminate)
    try:
        _check_folder()
        code = app(args, prog_name="t2i", standalone_mode=False, obj=ui)
        if code == EXIT_INTERRUPTED:  # what typer makes of a KeyboardInterrupt
            return code, StoppedError("interrupted.", ui.goes_on)
        return (code if isinstance(code, int) else EXIT_OK), None
    except T2IError as error:
        return error.exit_code, error
    except ParserFault as error:
        usage = UsageError(_parser_message(error), _parser_hint(error, ui))
        return usage.exit_code, usage
    except Stopped as stop:
        what = "interrupted." if stop.number == signal.SIGINT else "terminated."
        return 128 + stop.number, StoppedError(what, ui.goes_on)
    except (KeyboardInterrupt, typer.Abort):
        return EXIT_INTERRUPTED, StoppedError("interrupted.", ui.goes_on)
    except SystemExit as error:  # click's own, with code 1, where a pipe is closed
        if isinstance(error.__context__, BrokenPipeError):
            raise ReaderGone from error
        return _fault(error, ui)
    except OSError as error:
        if error.errno == errno.ENOSPC and error.filename is None:  # stdout, in the middle of a --help
            raise
        return _fault(error, ui)
    except Exception as error:
        return _fault(error, ui)


def _ignore_signals() -> None:
    for number in SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _check_folder() -> None:
    """Raise InputError where the current folder was removed: paths mean nothing there, and torch's libraries end the
    process."""
    try:
        os.getcwd()
    except OSError as error:
        what = f"the current folder cannot be used: {explain_os_error(error)}."
        raise InputError(what, "It may have been removed: go to another.") from error


def _fault(error: BaseException, ui: UI) -> tuple[int, T2IError]:
    fault = as_error(error) if not ui.debug else as_error(error, "")
    return fault.exit_code, fault


def _parser_message(error: Exception) -> str:
    text = str(getattr(error, "format_message", lambda: error)()).strip()
    text = (text[:1].lower() + text[1:]) or "the command cannot be read"
    return text if text.endswith((".", "?", "!", ")")) else text + "."


def _parser_hint(error: Exception, ui: UI) -> str:
    context = getattr(error, "ctx", None)
    path = context.command_path if context is not None else "t2i"
    hint = ""
    if ui.command == "sample" and "extra argument" in str(error):
        hint = "Put the prompt in quotes, and options before a --. "
    elif re.search("no such option: -[^-]", str(error), re.IGNORECASE):
        hint = "What begins with a dash and is no option goes last, after --. "
    return f"{hint}See `{path} --help`."
