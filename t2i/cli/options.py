"""Options that mean the same in every command. A mistake in one is told before torch is imported."""

from __future__ import annotations

import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2i.cli.panels import Panel
from t2i.errors import UsageError
from t2i.jobs.device import check_device, pick_device
from t2i.jobs.parsing import check_count, parse_seeds
from t2i.prompts import random_seed
from t2i.sampling import SAMPLERS
from t2i.store.load_options import DTYPES, MEMORY, QUANTIZE, LoadOptions

if TYPE_CHECKING:
    from t2i.cli.ui import UI
    from t2i.jobs.job import Job
    from t2i.jobs.output_paths import OutputPaths
    from t2i.jobs.shard import Shard
    from t2i.media.c2pa import Signer


Model = Annotated[str, typer.Option("--model", "-m", metavar="NAME|FOLDER", help="Which model.")]
Count = Annotated[int | None, typer.Option("--count", "-n", metavar="N", help="Pictures to make.  [default: 1]")]
PromptCount = Annotated[
    int | None, typer.Option("--count", "-n", metavar="N", help="Pictures of each prompt.  [default: 1]")
]
Seeds = Annotated[str | None, typer.Option(metavar="S|A,B|A..B", help="Picture i has seed S+i.  [default: random]")]
Output = Annotated[
    str,
    typer.Option(
        "--output", "-o", metavar="DIR|TEMPLATE", help="A folder, or a name with {slug} {seed} {index:03} {n} {model}."
    ),
]
Size = Annotated[str | None, typer.Option(metavar="PX|WxH", help="Side, or width and height.  [default: the model's]")]

Steps = Annotated[
    str | None,
    typer.Option(metavar="N|STAGE=N,…", help="Sampling steps, as in base=8,up=2.", rich_help_panel=Panel.PICTURE),
]
Guidance = Annotated[
    str | None,
    typer.Option(metavar="G|STAGE=G,…", help="Closeness to the text; 1 is none.", rich_help_panel=Panel.PICTURE),
]
Negative = Annotated[
    str, typer.Option(metavar="TEXT", help="What not to draw.", show_default=False, rich_help_panel=Panel.PICTURE)
]
Sampler = Annotated[
    str | None,
    typer.Option(metavar="NAME", help=f"Of the base: {', '.join(SAMPLERS)}.", rich_help_panel=Panel.PICTURE),
]
Loras = Annotated[
    list[str] | None,
    typer.Option(
        "--lora",
        metavar="FILE|ORG/NAME[:SCALE]",
        help="Add a LoRA, as in style.safetensors:0.8.",
        show_default=False,
        rich_help_panel=Panel.PICTURE,
    ),
]
Thresholds = Annotated[
    str | None,
    typer.Option(
        "--threshold",
        metavar="P,CAP|STAGE=…",
        help="Dynamic thresholding, as in 0.995,1.5; or static; or none.",
        rich_help_panel=Panel.PICTURE,
    ),
]
Noise = Annotated[
    str | None,
    typer.Option(
        "--sr-noise",
        metavar="L|STAGE=L,…",
        help="Noise on the input of upsamplers, 0 to 1.",
        rich_help_panel=Panel.PICTURE,
    ),
]
Temperature = Annotated[
    str | None,
    typer.Option(metavar="T", help="Of models that draw tokens: 0 takes the likeliest.", rich_help_panel=Panel.PICTURE),
]
TopK = Annotated[
    str | None,
    typer.Option("--top-k", metavar="K", help="Draw from the K likeliest tokens.", rich_help_panel=Panel.PICTURE),
]
TopP = Annotated[
    str | None,
    typer.Option("--top-p", metavar="P", help="Draw from the likeliest that sum to P.", rich_help_panel=Panel.PICTURE),
]
Strength = Annotated[
    float | None,
    typer.Option(metavar="0..1", help="How far to go from the picture.", rich_help_panel=Panel.FROM_PICTURE),
]

Grid = Annotated[
    bool, typer.Option("--grid", help="Write one sheet with all pictures, too.", rich_help_panel=Panel.EXTRA)
]
KeepStages = Annotated[
    bool, typer.Option("--keep-stages", help="Save the output of each stage, too.", rich_help_panel=Panel.EXTRA)
]
Show = Annotated[bool, typer.Option("--show", help="Show each picture in the terminal.", rich_help_panel=Panel.EXTRA)]
Preview = Annotated[
    bool, typer.Option("--preview", help="Show the pictures while they are drawn.", rich_help_panel=Panel.EXTRA)
]

Extractor = Annotated[
    str,
    typer.Option(metavar="NAME", help="clip, judge or open_clip:ARCH, for features.", rich_help_panel=Panel.METRICS),
]
ExtractorWeights = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Weights of open_clip:ARCH.", rich_help_panel=Panel.METRICS)
]
ExtractorHash = Annotated[
    str | None, typer.Option(metavar="HEX", help="What the weights must hash to.", rich_help_panel=Panel.METRICS)
]

Overwrite = Annotated[
    bool,
    typer.Option(
        "--overwrite/--skip-existing", help="Make again and replace what exists.", rich_help_panel=Panel.FILES
    ),
]
NoPromptMetadata = Annotated[
    bool, typer.Option("--no-prompt-metadata", help="Keep prompts out of the files.", rich_help_panel=Panel.FILES)
]
ShardText = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="I/N",
        help="Only the I-th share of N, for job arrays; as in 1/4.",
        show_default=False,
        rich_help_panel=Panel.MACHINE,
    ),
]
FirstFrame = Annotated[
    bool,
    typer.Option("--strict", help="Refuse an animation; else its first frame is taken.", rich_help_panel=Panel.FILES),
]
SignCert = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM", help="Sign each picture (C2PA): certificates.", show_default=False, rich_help_panel=Panel.FILES
    ),
]
SignKey = Annotated[
    Path | None,
    typer.Option(
        metavar="PEM", help="Sign each picture (C2PA): private key.", show_default=False, rich_help_panel=Panel.FILES
    ),
]

Batch = Annotated[
    int,
    typer.Option(
        metavar="N",
        min=1,
        max=1024,
        help="Pictures drawn together.",
        rich_help_panel=Panel.MACHINE,
    ),
]
Device = Annotated[
    str, typer.Option(metavar="DEVICE", help="auto, cpu, cuda, cuda:1 or mps.", rich_help_panel=Panel.MACHINE)
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help=f"{', '.join(DTYPES)}.", rich_help_panel=Panel.MACHINE)]
Quantize = Annotated[
    str | None,
    typer.Option(metavar="|".join(QUANTIZE), help="Hold the weights in fewer bits.", rich_help_panel=Panel.MACHINE),
]
Memory = Annotated[
    str,
    typer.Option(metavar="|".join(MEMORY), help="Save memory for time: offload, tiles.", rich_help_panel=Panel.MACHINE),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile", help="Compile the networks of a model in diffusers' layout.", rich_help_panel=Panel.MACHINE
    ),
]
Offline = Annotated[bool, typer.Option("--offline", help="Never touch the network.", rich_help_panel=Panel.MACHINE)]
Deterministic = Annotated[
    bool,
    typer.Option("--deterministic", help="Bit-identical kernels, where they exist.", rich_help_panel=Panel.MACHINE),
]

Json = Annotated[
    bool, typer.Option("--json", help="Results as JSON lines, and a closing envelope.", rich_help_panel=Panel.MESSAGES)
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress on stderr.", rich_help_panel=Panel.MESSAGES)]
Debug = Annotated[
    bool, typer.Option("--debug", help="Show the traceback of a failure.", rich_help_panel=Panel.MESSAGES)
]


def written(**options: object) -> dict[str, str]:
    """The settings of a picture as text, without those that were not given."""
    return {name: str(value) for name, value in options.items() if value is not None}


def read_seeds(text: str | None, n: int | None) -> tuple[list[int], int | None]:
    """The seeds of --seed and -n, and the first of them if it was drawn at random. Raises UsageError."""
    if (seeds := parse_seeds(text, n)) is not None:
        return seeds, None
    first = random_seed()
    return list(range(first, first + (n or 1))), first


def check_parted(ctx: typer.Context, option: str) -> None:
    """Raise UsageError for what needs all pictures, or a person, where `option` has parts of a batch drawn."""
    for name in ("interactive", "grid", "animate"):
        if is_given(ctx, name):
            hint = f"Leave --{name} out."
            if name != "interactive":
                hint += f" When all pictures are drawn, the same command without {option} writes it."
            raise UsageError(f"{option} and --{name} do not go together.", hint)


def read_shard(ctx: typer.Context, text: str | None, drawn_seed: int | None = None) -> Shard | None:
    """The share of --shard; None without it. drawn_seed: the first seed, if it was drawn at random. Raises
    UsageError."""
    from t2i.jobs.shard import Shard

    if text is None:
        return None
    shard = Shard.parse(text)
    check_parted(ctx, "--shard")
    if drawn_seed is not None:
        raise UsageError("--shard needs a seed: every share would draw its own.", "Write --seed 1.")
    return shard


def is_given(ctx: typer.Context, name: str) -> bool:
    """Whether the user wrote an option, rather than leaving it at its default."""
    source = ctx.get_parameter_source(name)
    return source is not None and source.name == "COMMANDLINE"


def check_alone(ctx: typer.Context, option: str, *with_: str) -> None:
    """Raise UsageError where the user wrote another option than `with_` (names of parameters) beside `option`."""
    for param in ctx.command.params:
        if param.name and param.name not in with_ and is_given(ctx, param.name):
            other = param.opts[-1] if param.opts else param.name
            raise UsageError(f"{option} and {other} do not go together.", f"Leave {other} out.")


def check_without(ctx: typer.Context, option: str, others: Mapping[str, str]) -> None:
    """Raise UsageError where the user wrote one of `others` (name of a parameter -> what it is called) beside
    `option`."""
    for name, other in others.items():
        if is_given(ctx, name):
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


def check_run(n: int | None, device: str) -> None:
    """Raise UsageError for a number of pictures or a device that makes no sense."""
    check_count(n)
    check_device(device)


def read_loading(
    dtype: str,
    loras: Sequence[str] | None = None,
    quantize: str | None = None,
    memory: str = "auto",
    compile: bool = False,
) -> LoadOptions:
    """How the weights are to be loaded. Raises UsageError, UnavailableError and InputError as `read_lora`."""
    from t2i.store.lora import read_lora

    plain = LoadOptions(dtype, (), quantize or "", memory, compile).check()
    return replace(plain, loras=tuple(map(read_lora, loras or []))).check()


def begin(
    ui: UI, paths: OutputPaths, jobs: list[Job], seed: int | None, offline: bool, deterministic: bool, device: str,
    kept: Collection[Path] = (),
) -> None:  # fmt: skip
    """The last step before a model is loaded: checks that every option is heeded and that the pictures can be written,
    but not in the place of `kept`, tells the seed that was drawn at random (None: none was), and sets the
    environment."""
    from t2i.jobs.settings import check_used

    check_used(job.settings for job in jobs)
    paths.check(jobs, kept)
    environment(offline, deterministic, device)
    if seed is not None:
        ui.note(f"seed {seed}")


def can_go_on(ui: UI, overwrite: bool, seed: int | None = None) -> None:
    """From here on a signal's last line says that the same command goes on: pictures that exist are not made again.
    seed: the first, if it was drawn at random."""
    if not overwrite:
        same = "the same command" if seed is None else f"the same command with --seed {seed}"
        ui.goes_on = f"To go on where it stopped: {same}."


def environment(offline: bool, deterministic: bool, device: str = "auto") -> None:
    """Set what has to be set before the libraries are imported, and look for a device that was named.

    Raises UnavailableError (code `device`).
    """
    if offline:
        os.environ["HF_HUB_OFFLINE"] = os.environ["TRANSFORMERS_OFFLINE"] = "1"
    if deterministic:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = ":4096:8"
        import torch

        torch.use_deterministic_algorithms(True)
        torch.backends.cudnn.benchmark = False
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    if device not in ("auto", "cpu"):
        pick_device(device)
