"""`t2i capabilities`: what this version of t2i offers, for scripts that have to know before they ask for it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, get_args, get_type_hints

import typer

from t2i import __version__
from t2i.cli import options as opt
from t2i.cli.ui import UI
from t2i.errors import CODES
from t2i.sampling import SAMPLERS
from t2i.store.hub_names import SHORT_NAMES
from t2i.store.load_options import DTYPES
from t2i.store.pipeline_classes import PIPELINES

EPILOG = """Examples:

\b
  t2i capabilities
  t2i capabilities --json | head -1 | jq '.commands[] | select(.name == "sample") | .options[].flags'
"""


def capabilities(ctx: typer.Context, json: opt.Json = False, debug: opt.Debug = False) -> None:
    """Show the commands, samplers, number types and families of models that this version knows. With --json also every
    option, as the parser has it."""
    ui: UI = ctx.obj
    commands = list(_commands(ctx.find_root().command, ""))
    families = sorted({known.family for known in PIPELINES.values()})
    if ui.json:
        codes = {code: exit_code for code, (exit_code, _) in CODES.items()}
        facts = {
            "version": __version__,
            "samplers": list(SAMPLERS),
            "dtypes": list(DTYPES),
            "pipelines": list(PIPELINES),
        }
        ui.record({**facts, "short_names": SHORT_NAMES, "error_codes": codes, "commands": commands})
        return
    ui.line(f"t2i {__version__}")
    lists = {
        "commands": [command["name"] for command in commands],
        "samplers": SAMPLERS,
        "dtypes": DTYPES,
        "models": ["its own, and in diffusers' layout " + families[0], *families[1:]],
        "short names": SHORT_NAMES,
    }
    ui.facts((name, ", ".join(each)) for name, each in lists.items())


def _commands(command: Any, name: str) -> Iterator[dict[str, Any]]:
    """A record of each command below a command of the parser."""
    children = getattr(command, "commands", None)
    if children is None:
        hints = get_type_hints(command.callback)
        params = [_parameter(param, hints[param.name]) for param in command.params if param.name in hints]
        yield {
            "name": name,
            "help": " ".join((command.help or "").split()),
            "arguments": [param for param in params if not param["flags"]],
            "options": [param for param in params if param["flags"]],
        }
        return
    for child, below in children.items():
        yield from _commands(below, f"{name} {child}".strip())


def _parameter(param: Any, hint: Any) -> dict[str, Any]:
    """A record of an option or an argument. hint: its type. flags: as they are written; none for an argument. default:
    null where nothing, or what the model says, is taken."""
    is_option = param.param_type_name == "option"
    default = param.default if isinstance(param.default, str | int | float | bool) else None
    return {
        "name": param.name,
        "flags": [*param.opts, *param.secondary_opts] if is_option else [],
        "type": _type_name(hint),
        "metavar": param.metavar,
        "switch": bool(getattr(param, "is_flag", False)),
        "several": bool(param.multiple if is_option else param.nargs != 1),
        "required": bool(param.required),
        "default": default,
        "help": getattr(param, "help", None) or "",
    }


def _type_name(hint: Any) -> str:
    """str, int, float, bool or path; of a list that of its members."""
    inner = next((each for each in get_args(hint) if each is not type(None)), None)
    return str(hint.__name__).lower() if inner is None else _type_name(inner)
