"""The options of `t2i score` that no other command has, by their panels; `score_rules.py` says which go together."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from t2i.cli.panels import Panel

Places = Annotated[list[Path] | None, typer.Argument(metavar="PICTURES", help="Files and folders of pictures.")]
Suite = Annotated[
    str | None,
    typer.Option(metavar="scenes|scenes-all|FILE", help="A list of prompts, drawn unless there are pictures."),
]
Limit = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="About so many prompts of the suite; -n pictures of each.")
]

Metrics = Annotated[
    str | None, typer.Option(metavar="A,B,…", help="Only these metrics.", rich_help_panel=Panel.METRICS)
]
Labels = Annotated[
    str | None,
    typer.Option(metavar="A,B,…", help="Which of these fits each picture best.", rich_help_panel=Panel.METRICS),
]
Prompts = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE", help='What pictures show: {"file_name", "prompt"} a line.', rich_help_panel=Panel.METRICS
    ),
]
Sprites = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="The sprite library, for fidelity.", rich_help_panel=Panel.METRICS),
]
Preference = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="PickScore's folder, or another's.", rich_help_panel=Panel.METRICS),
]
Fresh = Annotated[
    bool, typer.Option("--fresh", help="Measure again what was measured before.", rich_help_panel=Panel.METRICS)
]

Count = Annotated[
    int,
    typer.Option("--count", "-n", min=1, metavar="N", help="Pictures of each prompt.", rich_help_panel=Panel.SUITE),
]
Seed = Annotated[
    int, typer.Option(metavar="S", min=0, help="Picture i of a prompt has seed S+i.", rich_help_panel=Panel.SUITE)
]
Size = Annotated[
    str | None,
    typer.Option(metavar="PX", help="Side of the picture.  [default: the model's]", rich_help_panel=Panel.SUITE),
]
Steps = Annotated[
    str | None, typer.Option(metavar="N|STAGE=N,…", help="As in t2i sample.", rich_help_panel=Panel.SUITE)
]
Guidance = Annotated[
    str | None, typer.Option(metavar="G|STAGE=G,…", help="As in t2i sample.", rich_help_panel=Panel.SUITE)
]
Loras = Annotated[
    list[str] | None,
    typer.Option("--lora", metavar="FILE|ORG/NAME[:SCALE]", help="As in t2i sample.", rich_help_panel=Panel.SUITE),
]
Dtype = Annotated[str, typer.Option(metavar="TYPE", help="As in t2i sample.", rich_help_panel=Panel.SUITE)]
Out = Annotated[
    Path | None,
    typer.Option("--out", "-o", metavar="DIR", help="Where they go.  [default: scores/…]", rich_help_panel=Panel.SUITE),
]
Share = Annotated[
    str | None,
    typer.Option(metavar="I/N", help="Draw the I-th share of N; score later, without it.", rich_help_panel=Panel.SUITE),
]

Baseline = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Compare with this score, a gate.", rich_help_panel=Panel.GATE)
]
SaveBaseline = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write this score as a baseline.", rich_help_panel=Panel.GATE)
]
UpdateBaseline = Annotated[
    bool,
    typer.Option("--update-baseline", help="Compare, then replace --baseline anyway.", rich_help_panel=Panel.GATE),
]
MaxDrop = Annotated[
    str, typer.Option(metavar="X%|X", help="How far scene and clip may fall.", rich_help_panel=Panel.GATE)
]
Margin = Annotated[
    str | None,
    typer.Option(metavar="METRIC=X,…", help="Margins of single metrics, in their units.", rich_help_panel=Panel.GATE),
]
Primary = Annotated[str | None, typer.Option(metavar="METRIC", help="Which metric leads.", rich_help_panel=Panel.GATE)]
Strict = Annotated[
    bool, typer.Option("--strict", help="Exit 5 when the gate cannot decide.", rich_help_panel=Panel.GATE)
]

Against = Annotated[
    Path | None,
    typer.Option(
        metavar="DIR|FILE.npz", help="As sets: FD, KID, CMMD, precision, recall.", rich_help_panel=Panel.COMPARE
    ),
]
Alpha = Annotated[
    float | None,
    typer.Option(
        metavar="P",
        min=0.0,
        max=0.5,
        help="Of --against: fail when KID's p is below.",
        rich_help_panel=Panel.COMPARE,
    ),
]
SaveStats = Annotated[
    Path | None,
    typer.Option(metavar="FILE.npz", help="Write this set's statistics.", rich_help_panel=Panel.COMPARE),
]
Before = Annotated[
    Path | None,
    typer.Option(metavar="DIR", help="A gate: the same prompts and seeds before.", rich_help_panel=Panel.COMPARE),
]
Tier = Annotated[
    str,
    typer.Option(metavar="TIER", help="Of --before: exact, close or far; fail below.", rich_help_panel=Panel.COMPARE),
]

Junit = Annotated[Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.", rich_help_panel=Panel.REPORTS)]
Html = Annotated[
    Path | None,
    typer.Option(metavar="FILE", help="Write a page that needs no network.", rich_help_panel=Panel.REPORTS),
]
Sheet = Annotated[
    Path | None, typer.Option(metavar="FILE", help="Write all pictures as one.", rich_help_panel=Panel.REPORTS)
]

Batch = Annotated[
    int, typer.Option(metavar="N", min=1, help="Pictures handled together.", rich_help_panel=Panel.MACHINE)
]
