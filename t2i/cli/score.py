"""`t2i score`: how good pictures are, and whether they are worse than before."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2i.cli import options as opt
from t2i.cli.panels import Panel
from t2i.cli.ui import UI
from t2i.errors import UsageError
from t2i.jobs.device import check_device

if TYPE_CHECKING:
    from t2i.store.load_options import LoadOptions

EPILOG = """Examples:

\b
  t2i score out/                                  # by their own prompts
  t2i score --suite scenes --limit 100 --size 64  # draws a list of prompts
  t2i score --suite scenes --shard 1/4            # draws a quarter of it
  t2i score --suite scenes --save-baseline base.json
  t2i score --suite scenes --baseline base.json --model new --max-drop 2%
  t2i score out/ --against golden/ --junit s.xml --html s.html
  t2i score out/ --before old/ --tier close       # the same pictures still?
  t2i score out/ --labels "cat,dog,bear"
  t2i score out/ --extractor open_clip:ViT-B-32 --weights b32.safetensors

Exit codes: 0 done or passed, 1 a regression, 2 usage, 3 bad input, 4 a metric cannot be had,
5 inconclusive under --strict.
"""

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
#: besides these, what may stand beside --shard
BESIDE_SHARD = ("suite", "limit", "batch", "device", "offline", "json", "quiet", "debug")

Places = Annotated[list[Path] | None, typer.Argument(metavar="PICTURES", help="Files and folders of pictures.")]


def score(
    ctx: typer.Context,
    places: Places = None,
    suite: Annotated[
        str | None,
        typer.Option(metavar="scenes|scenes-all|FILE", help="A list of prompts, drawn unless there are pictures."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="About so many prompts of the suite; -n pictures of each.")
    ] = None,
    metrics: Annotated[
        str | None, typer.Option(metavar="A,B,…", help="Only these metrics.", rich_help_panel=Panel.METRICS)
    ] = None,
    labels: Annotated[
        str | None,
        typer.Option(metavar="A,B,…", help="Which of these fits each picture best.", rich_help_panel=Panel.METRICS),
    ] = None,
    prompts: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE", help='What pictures show: {"file_name", "prompt"} a line.', rich_help_panel=Panel.METRICS
        ),
    ] = None,
    extractor: opt.Extractor = "clip",
    weights: opt.ExtractorWeights = None,
    sha256: opt.ExtractorHash = None,
    sprites: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="The sprite library, for fidelity.", rich_help_panel=Panel.METRICS),
    ] = None,
    preference: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="PickScore's folder, or another's.", rich_help_panel=Panel.METRICS),
    ] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh", help="Measure again what was measured before.", rich_help_panel=Panel.METRICS)
    ] = False,
    n: Annotated[
        int,
        typer.Option("--count", "-n", min=1, metavar="N", help="Pictures of each prompt.", rich_help_panel=Panel.SUITE),
    ] = 4,
    seed: Annotated[
        int, typer.Option(metavar="S", min=0, help="Picture i of a prompt has seed S+i.", rich_help_panel=Panel.SUITE)
    ] = 0,
    model: opt.Model = "small",
    size: Annotated[
        str | None,
        typer.Option(metavar="PX", help="Side of the picture.  [default: the model's]", rich_help_panel=Panel.SUITE),
    ] = None,
    steps: Annotated[
        str | None, typer.Option(metavar="N|STAGE=N,…", help="As in t2i sample.", rich_help_panel=Panel.SUITE)
    ] = None,
    guidance: Annotated[
        str | None, typer.Option(metavar="G|STAGE=G,…", help="As in t2i sample.", rich_help_panel=Panel.SUITE)
    ] = None,
    lora: Annotated[
        list[str] | None,
        typer.Option("--lora", metavar="FILE|ORG/NAME[:SCALE]", help="As in t2i sample.", rich_help_panel=Panel.SUITE),
    ] = None,
    dtype: Annotated[
        str, typer.Option(metavar="TYPE", help="As in t2i sample.", rich_help_panel=Panel.SUITE)
    ] = "float32",
    out: Annotated[
        Path | None,
        typer.Option(
            "--out", "-o", metavar="DIR", help="Where they go.  [default: out/score/…]", rich_help_panel=Panel.SUITE
        ),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(
            metavar="I/N", help="Draw the I-th share of N; score later, without it.", rich_help_panel=Panel.SUITE
        ),
    ] = None,
    baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Compare with this score, a gate.", rich_help_panel=Panel.GATE)
    ] = None,
    save_baseline: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write this score as a baseline.", rich_help_panel=Panel.GATE)
    ] = None,
    update_baseline: Annotated[
        bool,
        typer.Option("--update-baseline", help="Compare, then replace --baseline anyway.", rich_help_panel=Panel.GATE),
    ] = False,
    max_drop: Annotated[
        str, typer.Option(metavar="X%|X", help="How far scene and clip may fall.", rich_help_panel=Panel.GATE)
    ] = "5%",
    margin: Annotated[
        str | None,
        typer.Option(
            metavar="METRIC=X,…", help="Margins of single metrics, in their units.", rich_help_panel=Panel.GATE
        ),
    ] = None,
    primary: Annotated[
        str | None, typer.Option(metavar="METRIC", help="Which metric leads.", rich_help_panel=Panel.GATE)
    ] = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Exit 5 when the gate cannot decide.", rich_help_panel=Panel.GATE)
    ] = False,
    against: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR|FILE.npz", help="As sets: FD, KID, CMMD, precision, recall.", rich_help_panel=Panel.COMPARE
        ),
    ] = None,
    alpha: Annotated[
        float | None,
        typer.Option(
            metavar="P",
            min=0.0,
            max=0.5,
            help="Of --against: fail when KID's p is below.",
            rich_help_panel=Panel.COMPARE,
        ),
    ] = None,
    save_stats: Annotated[
        Path | None,
        typer.Option(metavar="FILE.npz", help="Write this set's statistics.", rich_help_panel=Panel.COMPARE),
    ] = None,
    before: Annotated[
        Path | None,
        typer.Option(metavar="DIR", help="A gate: the same prompts and seeds before.", rich_help_panel=Panel.COMPARE),
    ] = None,
    tier: Annotated[
        str,
        typer.Option(
            metavar="TIER", help="Of --before: exact, close or far; fail below.", rich_help_panel=Panel.COMPARE
        ),
    ] = "far",
    junit: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write JUnit XML.", rich_help_panel=Panel.REPORTS)
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="Write a page that needs no network.", rich_help_panel=Panel.REPORTS),
    ] = None,
    sheet: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write all pictures as one.", rich_help_panel=Panel.REPORTS)
    ] = None,
    batch: Annotated[
        int, typer.Option(metavar="N", min=1, help="Pictures handled together.", rich_help_panel=Panel.MACHINE)
    ] = 32,
    device: opt.Device = "auto",
    quantize: opt.Quantize = None,
    memory: opt.Memory = "auto",
    compile: opt.Compile = False,
    offline: opt.Offline = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Score pictures: do they show what was asked, how far are they from others, has a model become worse?

    Pictures come from files and folders, or are drawn from a suite; the same command again draws only what is missing.
    With --baseline it is a gate.
    """
    ui: UI = ctx.obj
    opt.environment(offline, False)
    device = check_device(device)
    _check_usage(
        (not places and suite is None, "there is nothing to score.", "Give pictures, or --suite scenes."),
        (update_baseline and baseline is None, "--update-baseline replaces nothing.", "Say --baseline FILE."),
        (update_baseline and save_baseline is not None, "--update-baseline writes --baseline.", "Say one of the two."),
        (
            baseline is None and before is None and bool(margin or primary or opt.is_given(ctx, "max_drop")),
            "--max-drop, --margin and --primary are about --baseline or --before.",
            "Say --baseline FILE.",
        ),
        (
            strict and baseline is None and against is None and before is None,
            "--strict is about a gate.",
            "Say --baseline FILE.",
        ),
        (alpha is not None and against is None, "--alpha is about --against.", "Give the other set."),
        (tier != "far" and before is None, "--tier is about --before.", "Give the pictures before."),
        (limit is not None and suite is None, "--limit is about --suite.", "Leave it out."),
        *(
            (
                bool(places) and opt.is_given(ctx, name),
                f"{flag} is about drawing a suite, and there are pictures.",
                "Leave one of the two out.",
            )
            for name, flag in DRAWING.items()
        ),
        (prompts is not None and not places, "--prompts says what given pictures show.", "Give the pictures too."),
        *(
            (text is not None and not _words(text), f"--{name} names nothing.", f"Write --{name} a,b.")
            for name, text in (("metrics", metrics), ("margin", margin))
        ),
    )
    part = opt.read_shard(ctx, shard)
    if part is not None:
        opt.check_alone(ctx, "--shard", *DRAWING, *BESIDE_SHARD)
    from t2i.score.before_after import parse_tier
    from t2i.score.extractor_options import check_extractor
    from t2i.score.gate import MaxDrop, parse_margins
    from t2i.score.labels import read_labels
    from t2i.score.metric_table import PAIRED, check_metric_names

    wanted = _words(metrics)
    check_metric_names([*wanted, *([primary.split(":")[0]] if primary else [])])
    if primary in PAIRED:
        raise UsageError(f"{primary!r} cannot lead: it needs the same weights.", "Choose scene or clip.")
    check_extractor(extractor, weights, sha256)
    texts = read_labels(labels) if labels is not None else []
    drop, margins, allowed = MaxDrop.parse(max_drop), parse_margins(margin), parse_tier(tier)
    from t2i.cli.score_output import check_outputs, check_verdict, print_report, write_reports, write_sheet

    summary = Path(os.environ["GITHUB_STEP_SUMMARY"]) if os.environ.get("GITHUB_STEP_SUMMARY") else None
    outputs = {
        "--sheet": sheet,
        "--junit": junit,
        "--html": html,
        "--save-stats": save_stats,
        "--save-baseline": save_baseline,
        "--baseline": baseline if update_baseline else None,
        "$GITHUB_STEP_SUMMARY": summary,
    }
    suite_file = Path(suite) if suite is not None and Path(suite).is_file() else None
    inputs = (*(places or ()), against, before, prompts, weights, sprites, suite_file)
    check_outputs(outputs, inputs, baseline)

    loading = opt.read_loading(dtype, lora, quantize, memory, compile)
    settings = {k: v for k, v in (("size", size), ("steps", steps), ("guidance", guidance)) if v is not None}
    _check_inputs(places or (), suite, model, loading, settings, baseline, against, before)

    from t2i.score.request import DrawOptions, GateOptions, ScoreRequest
    from t2i.score.run import draw_shard, run_score, write_baselines

    request = ScoreRequest(
        places=places or (),
        suite=suite,
        limit=limit,
        draw=DrawOptions(n, seed, model, settings, out, loading, part),
        prompts=prompts,
        labels=texts,
        metrics=wanted,
        extractor=extractor,
        weights=weights,
        sha256=sha256,
        sprites=sprites,
        preference=preference,
        gate=GateOptions(baseline, drop, margins, primary, update_baseline),
        save_baseline=save_baseline,
        against=against,
        alpha=alpha,
        save_stats=save_stats,
        before=before,
        tier=allowed,
        fresh=fresh,
        batch=batch,
        device=device,
    )
    if not places:
        opt.can_go_on(ui, overwrite=False)
    if part is not None:
        draw_shard(ui, request)
        return
    report = run_score(ui, request)
    print_report(ui, report, suite, wanted)
    if sheet is not None:
        write_sheet(sheet, report.rows)
    write_reports(report, junit, html, summary)
    write_baselines(ui, request, report)
    check_verdict(report, ui.failed, html, strict=strict, updated=update_baseline)


def _check_inputs(
    places: Sequence[Path], suite: str | None, model: str, loading: LoadOptions, settings: dict[str, str],
    baseline: Path | None, against: Path | None, before: Path | None,
) -> None:  # fmt: skip
    """Raise, before torch is imported, what the run would raise for inputs that are missing or make no sense."""
    from t2i.score.baseline import load_baseline
    from t2i.score.picture_files import check_places
    from t2i.score.suite import find_suite

    if baseline is not None:
        load_baseline(baseline)
    if suite is not None:
        find_suite(suite)
    if places:
        check_places(places)
    else:
        from t2i.jobs.settings import check_used, read_settings
        from t2i.store.models import find_model

        stored = find_model(model)
        stored.check_can("t2i sample")
        check_used([read_settings(stored, loading, settings)])
    for other in (against, before):
        if other is not None and other.suffix != ".npz":
            check_places([other])


def _check_usage(*rules: tuple[bool, str, str]) -> None:
    for wrong, what, hint in rules:
        if wrong:
            raise UsageError(what, hint)


def _words(text: str | None) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()] if text else []
