"""Options that mean the same in every command, and the small languages they are written in.

Everything here is checked before torch is imported: a mistake costs a tenth of a second.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2i.errors import UsageError
from t2i.jobs.parsing import DTYPES

if TYPE_CHECKING:
    from t2i.media.c2pa import Signer


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


def read_signer(cert: Path | None, key: Path | None) -> Signer | None:
    """Who signs the pictures, from --sign-cert and --sign-key; None where neither was given.

    Raises UsageError for one without the other, UnavailableError without t2i[c2pa], InputError for files that cannot
    sign.
    """
    if cert is None and key is None:
        return None
    if cert is None or key is None:
        raise UsageError("--sign-cert and --sign-key go together.", "Name both PEM files.")
    from t2i.media.c2pa import Signer

    return Signer.load(cert, key)


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
