"""Options that mean the same in every command, and the small languages they are written in.

Everything here is checked before torch is imported: a mistake costs a tenth of a second.
"""

from __future__ import annotations

import math
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2i.errors import InputError, UnavailableError, UsageError, nearest
from t2i.files import explain_os_error
from t2i.prompts import MAX_SEED

if TYPE_CHECKING:
    from t2i.media.c2pa import Seal
    from t2i.stages.stage import Threshold
    from t2i.store.bundle import Manifest, StageEntry

#: checked here so that a misspelt name costs no import; a test compares them with diffusion/samplers.py
SAMPLERS = ("euler", "heun", "dpmpp_2m", "unipc", "ancestral", "consistency")
DTYPES = ("float32", "bfloat16", "float16")

Model = Annotated[str, typer.Option("--model", "-m", metavar="NAME|FOLDER", help="Which model.")]
Device = Annotated[str, typer.Option(metavar="auto|cpu|cuda[:i]|mps", help="Where to compute.")]
Dtype = Annotated[str, typer.Option(metavar="|".join(DTYPES), help="Number format; CPUs are fastest in float32.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON record a line on stdout, and a closing envelope.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.")]
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of a failure.")]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.")]
Deterministic = Annotated[bool, typer.Option("--deterministic", help="Bit-identical kernels, where they exist.")]
SignCert = Annotated[
    Path | None, typer.Option(metavar="PEM", help="Sign each picture (C2PA): certificate chain.", show_default=False)
]
SignKey = Annotated[Path | None, typer.Option(metavar="PEM", help="… and its private key.", show_default=False)]
Seeds = Annotated[str | None, typer.Option(metavar="S|A,B|A..B", help="Picture i has seed S+i; without it, random.")]
Output = Annotated[
    str, typer.Option("--output", "-o", metavar="DIR|TEMPLATE", help="Fields: {slug} {seed} {index:03} {n} {model}.")
]
Steps = Annotated[str | None, typer.Option(metavar="N|STAGE=N,…", help="Sampling steps.")]
Guidance = Annotated[str | None, typer.Option(metavar="G|STAGE=G,…", help="How closely to follow the text.")]
FirstFrame = Annotated[bool, typer.Option("--strict", help="Refuse an animation instead of its first frame.")]
NoPromptMetadata = Annotated[bool, typer.Option("--no-prompt-metadata", help="Keep the prompt out of the files.")]
MAX_COUNT = 100_000


def check_count(n: int | None) -> None:
    """Raise UsageError for a number of pictures that nobody means."""
    if n is not None and n < 1:
        raise UsageError(f"-n {n} asks for no picture.", "Write -n 1 or more.")
    if n is not None and n > MAX_COUNT:
        raise UsageError(f"-n {n} is more than {MAX_COUNT} pictures.", "Run it several times with other seeds.")


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether the user wrote an option, rather than leaving it at its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_alone(ctx: typer.Context, option: str, *with_: str) -> None:
    """Raise UsageError where the user wrote another option than ``with_`` (names of parameters) beside ``option``."""
    for param in ctx.command.params:
        if param.name and param.name not in with_ and is_given(ctx, param.name):
            other = param.opts[-1] if param.opts else param.name
            raise UsageError(f"{option} and {other} do not go together.", f"Leave {other} out.")


def read_seal(cert: Path | None, key: Path | None) -> Seal | None:
    """Who signs the pictures, from --sign-cert and --sign-key; None where neither was given.

    Raises UsageError for one without the other, UnavailableError without t2i[c2pa], InputError for files that cannot
    sign.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--sign-cert and --sign-key go together.", "Name both PEM files.")
    from t2i.media.c2pa import Seal

    return Seal.load(cert, key)


def parse_seeds(text: str | None, n: int | None) -> list[int] | None:
    """The seeds that ``--seed`` and ``-n`` name: 7 with n=3 is 7, 8, 9; 1,2,9 and 7..14 are what they say.

    None when no seed was given.  Raises UsageError.
    """
    if text is None:
        return None
    seeds: list[int] = []
    for part in text.split(","):
        found = re.fullmatch(r"\s*(\d{1,19})(?:\.\.(\d{1,19}))?\s*", part, re.ASCII)
        if not found:
            raise UsageError(f"--seed {text!r} is not a seed.", "Write 7, or 1,2,3, or 7..14.")
        first, last = int(found[1]), int(found[2] or found[1])
        if last < first or last - first >= 100_000 or last > MAX_SEED:
            raise UsageError(f"--seed {text!r} is not a range of seeds.", "Write 7..14; at most 100,000 seeds.")
        seeds += range(first, last + 1)
    if len(seeds) == 1:
        if seeds[0] + (n or 1) - 1 > MAX_SEED:
            raise UsageError(f"--seed {text!r} is too large.", f"The largest seed is {MAX_SEED}.")
        return [seeds[0] + i for i in range(n or 1)]
    if len(set(seeds)) < len(seeds):
        raise UsageError(f"--seed {text!r} names a seed twice.", "Name each once.")
    if n is not None and n != len(seeds):
        raise UsageError(f"--seed names {len(seeds)} seeds and -n asks for {n} pictures.", "Leave -n out.")
    return seeds


def per_stage(
    option: str,
    text: str | None,
    manifest: Manifest,
    low: float,
    high: float,
    *,
    whole: bool = False,
    kinds: tuple[str, ...] = ("prior", "base", "upsampler"),
    bare: str = "base",
) -> dict[str, float]:
    """``8`` or ``base=8,up=2`` as {stage name: number}; a name may be a kind, or a beginning, and without one it is
    ``bare``.

    Raises UsageError for unknown stages, stages of other ``kinds``, and for numbers outside [low, high].
    """
    out: dict[str, float] = {}
    if text is None:
        return out
    for part in text.split(","):
        name, _, number = part.rpartition("=")
        try:
            value = float(number)
        except ValueError:
            value = math.nan
        if not low <= value <= high or (whole and value != int(value)):
            number = "whole number" if whole else "number"
            named = ",".join(f"{e.name}=…" for e in [e for e in manifest.stages if e.kind in kinds][:2])
            bounds = f"Write a {number} from {low:g} to {high:g}" + (f", or {named}" if named else "")
            raise UsageError(f"--{option} {text!r} cannot be read.", bounds)
        for entry in _stages_named(option, name.strip() or bare, manifest, kinds):
            out[entry.name] = value
    return out


def _stages_named(option: str, name: str, manifest: Manifest, kinds: tuple[str, ...]) -> list[StageEntry]:
    stages = [entry for entry in manifest.stages if entry.kind in kinds]
    for match in (
        [e for e in stages if e.name == name],
        [e for e in stages if e.kind == name],
        [e for e in stages if e.name.startswith(name) or e.kind.startswith(name)],
    ):
        if match:
            return match
    known = [entry.name for entry in stages]
    near = nearest(name, known, 1)
    every = f"It is for {', '.join(known)}."
    hint = f"Did you mean {near[0]}?" if near else every if known else "None of this model's stages takes it."
    there = any(name and name in (entry.name, entry.kind) for entry in manifest.stages)
    what = f"the stage {name!r} does not take it" if there else f"the model has no stage {name!r} that takes it"
    raise UsageError(f"--{option}: {what}.", hint)


def parse_thresholds(text: str | None) -> dict[str, Threshold]:
    """``0.995,1.5`` (percentile of Imagen's dynamic thresholding and its cap; without a cap, none), ``static`` or
    ``none``, of the base; or ``base=0.995,1.5,up=static``. A name as it was written -> what was said of it, "" for the
    base. Raises UsageError."""
    parts: dict[str, list[str]] = {}
    name = ""
    for part in text.split(",") if text is not None else ():
        stage, equals, value = part.rpartition("=")
        name = stage.strip() if equals else name
        parts.setdefault(name, []).append(value.strip())
    return {name: _threshold(text or "", values) for name, values in parts.items()}


def _threshold(text: str, words: list[str]) -> Threshold:
    if words == ["static"]:
        return "static"
    if words == ["none"]:
        return "none"
    try:
        percentile, cap = float(words[0]), float(words[1]) if words[1:] else math.inf
    except ValueError:
        percentile = cap = math.nan
    if not (0 < percentile <= 1 and cap >= 1 and len(words) <= 2):
        hint = "Write percentile,cap, as in 0.995,1.5, or static, or none."
        raise UsageError(f"--threshold {text!r} cannot be read.", hint)
    return percentile, cap


def thresholds(text: str | None, manifest: Manifest) -> dict[str, Threshold]:
    """The same by the names of the model's stages. Raises UsageError for stages that make no pictures."""
    kinds = ("base", "upsampler")
    return {
        entry.name: value
        for name, value in parse_thresholds(text).items()
        for entry in _stages_named("threshold", name or "base", manifest, kinds)
    }


def check_choice(option: str, value: str, choices: tuple[str, ...]) -> str:
    """``value`` if it is one of ``choices``. Raises UsageError naming the nearest."""
    if value not in choices:
        near = nearest(value, choices, 1)
        hint = f"Did you mean {near[0]}?" if near else f"Choose one of {', '.join(choices)}."
        raise UsageError(f"--{option} {value!r} is not known.", hint)
    return value


def check_device(text: str) -> str:
    """The spelling of a device; whether it exists is known only once torch is there."""
    if not re.fullmatch(r"auto|cpu|mps|cuda(:\d{1,3})?", text):
        raise UsageError(f"--device {text!r} is not known.", "Write auto, cpu, cuda, cuda:0 or mps.")
    return text


def pick_device(text: str) -> str:
    """The device to use, ``auto`` resolved. Imports torch. Raises UnavailableError (code ``device``)."""
    import torch

    cuda = torch.cuda.device_count() if torch.cuda.is_available() else 0
    mps = torch.backends.mps.is_available()
    if text == "auto":
        return "cuda" if cuda else "mps" if mps else "cpu"
    kind, _, index = text.partition(":")
    if (kind == "cuda" and int(index or 0) >= cuda) or (kind == "mps" and not mps):
        raise UnavailableError(f"there is no device {text!r} on this machine.", "Use --device auto.", "device")
    return text


def environment(offline: bool, deterministic: bool) -> None:
    """Set what has to be set before the libraries are imported."""
    if offline:
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        import torch

        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False


def check_file(option: str, path: Path) -> None:
    """Raise InputError (code ``output``) unless a file can be written at ``path``; leave nothing. option: what the
    user changes to choose another."""
    hint = f"Choose another file with {option}."
    check_writable(path.parent, hint)
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder", str(path))
        if path.exists():
            with path.open("ab"):
                pass
    except (OSError, ValueError) as error:
        what = explain_os_error(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot write {path}: {what}.", hint, "output") from error


def check_writable(folder: Path, hint: str = "Choose another place.") -> None:
    """Raise InputError (code ``output``) unless files can be made in ``folder``, which need not exist; leave
    nothing."""
    import tempfile

    place = folder
    try:
        while not place.exists() and place != place.parent:
            place = place.parent
        if not place.is_dir():
            raise NotADirectoryError(20, "it is not a folder", str(place))
        with tempfile.TemporaryFile(dir=place):
            pass
    except (OSError, ValueError) as error:
        what = explain_os_error(error) if isinstance(error, OSError) else str(error)
        raise InputError(f"cannot write to {folder}: {what}.", hint, "output") from error
