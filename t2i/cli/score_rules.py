"""What `t2i score` refuses before it imports torch: options that do not go together, inputs that will not do."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

import typer

from t2i.cli import options as opt
from t2i.errors import UsageError

if TYPE_CHECKING:
    from t2i.score.request import ScoreRequest

#: options, by parameter; others of which they need one; what is said where none is given; and what to do
NEEDS = (
    (["update_baseline"], ["baseline"], "--update-baseline replaces nothing.", "Say --baseline FILE."),
    (
        ["max_drop", "margin", "primary"],
        ["baseline", "before"],
        "--max-drop, --margin and --primary are about --baseline or --before.",
        "Say --baseline FILE.",
    ),
    (["strict"], ["baseline", "against", "before"], "--strict is about a gate.", "Say --baseline FILE."),
    (["alpha"], ["against"], "--alpha is about --against.", "Give the other set."),
    (["tier"], ["before"], "--tier is about --before.", "Give the pictures before."),
    (["limit"], ["suite"], "--limit is about --suite.", "Leave it out."),
    (["prompts"], ["places"], "--prompts says what given pictures show.", "Give the pictures too."),
)
#: parameter -> a value of it that asks for nothing, and so needs nothing
NOTHING = {"margin": "", "primary": "", "tier": "far"}

#: parameter -> option that only a drawn suite heeds
DRAWING = {
    "n": "-n",
    "seed": "--seed",
    "model": "--model",
    "size": "--size",
    "steps": "--steps",
    "guidance": "--guidance",
    "lora": "--lora",
    "dtype": "--dtype",
    "quantize": "--quantize",
    "memory": "--memory",
    "compile": "--compile",
    "out": "--out",
    "shard": "--shard",
}
#: what may stand beside --shard
BESIDE_SHARD = (*DRAWING, "suite", "limit", "batch", "device", "offline", "json", "quiet", "debug")


def check_together(ctx: typer.Context) -> None:
    """Raise UsageError for options that lack another, exclude one another or name nothing."""

    given = partial(opt.is_given, ctx)

    def asks(name: str) -> bool:
        return given(name) and ctx.params[name] != NOTHING.get(name)

    if not given("places") and not given("suite"):
        raise UsageError("there is nothing to score.", "Give pictures, or --suite scenes.")
    for options, needed, what, hint in NEEDS:
        if any(map(asks, options)) and not any(map(given, needed)):
            raise UsageError(what, hint)
    if given("update_baseline") and given("save_baseline"):
        raise UsageError("--update-baseline writes --baseline.", "Say one of the two.")
    if given("places") and (drawing := [flag for name, flag in DRAWING.items() if given(name)]):
        what = f"{drawing[0]} is about drawing a suite, and there are pictures."
        raise UsageError(what, "Leave one of the two out.")
    for name in ("metrics", "margin"):
        if given(name) and not words(ctx.params[name]):
            raise UsageError(f"--{name} names nothing.", f"Write --{name} a,b.")


def check_inputs(request: ScoreRequest) -> None:
    """Raise what the run would raise for inputs that are missing or make no sense."""
    from t2i.score.baseline import load_baseline
    from t2i.score.picture_files import check_places
    from t2i.score.suite import find_suite

    if request.gate.baseline is not None:
        load_baseline(request.gate.baseline)
    if request.suite is not None:
        find_suite(request.suite)
    if request.places:
        check_places(request.places)
    else:
        from t2i.jobs.settings import check_used, read_settings
        from t2i.store.models import find_model

        stored = find_model(request.draw.model)
        stored.check_can("t2i sample")
        check_used([read_settings(stored, request.draw.loading, request.draw.settings)])
    for other in (request.against, request.before):
        if other is not None and other.suffix != ".npz":
            check_places([other])


def words(text: str | None) -> list[str]:
    """The words of "a, b"."""
    return [word.strip() for word in text.split(",") if word.strip()] if text else []
