"""`t2i score`: how good pictures are, and whether they are worse than before."""

from __future__ import annotations

import os
from pathlib import Path

import typer

from t2i.cli import options as opt
from t2i.cli import score_options as of
from t2i.cli.score_rules import BESIDE_SHARD, check_inputs, check_together, words
from t2i.cli.ui import UI
from t2i.errors import UsageError
from t2i.jobs.device import check_device

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


def score(
    ctx: typer.Context,
    places: of.Places = None,
    suite: of.Suite = None,
    limit: of.Limit = None,
    metrics: of.Metrics = None,
    labels: of.Labels = None,
    prompts: of.Prompts = None,
    extractor: opt.Extractor = "clip",
    weights: opt.ExtractorWeights = None,
    sha256: opt.ExtractorHash = None,
    sprites: of.Sprites = None,
    preference: of.Preference = None,
    fresh: of.Fresh = False,
    n: of.Count = 4,
    seed: of.Seed = 0,
    model: opt.Model = "small",
    size: of.Size = None,
    steps: of.Steps = None,
    guidance: of.Guidance = None,
    lora: of.Loras = None,
    dtype: of.Dtype = "float32",
    out: of.Out = None,
    shard: of.Share = None,
    baseline: of.Baseline = None,
    save_baseline: of.SaveBaseline = None,
    update_baseline: of.UpdateBaseline = False,
    max_drop: of.MaxDrop = "5%",
    margin: of.Margin = None,
    primary: of.Primary = None,
    strict: of.Strict = False,
    against: of.Against = None,
    alpha: of.Alpha = None,
    save_stats: of.SaveStats = None,
    before: of.Before = None,
    tier: of.Tier = "far",
    junit: of.Junit = None,
    html: of.Html = None,
    sheet: of.Sheet = None,
    batch: of.Batch = 32,
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
    check_together(ctx)
    part = opt.read_shard(ctx, shard)
    if part is not None:
        opt.check_alone(ctx, "--shard", *BESIDE_SHARD)
    from t2i.score.before_after import parse_tier
    from t2i.score.extractor_options import check_extractor
    from t2i.score.gate import MaxDrop, parse_margins
    from t2i.score.labels import read_labels
    from t2i.score.metric_table import PAIRED, check_metric_names

    wanted = words(metrics)
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

    from t2i.score.request import DrawOptions, GateOptions, ScoreRequest

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
    check_inputs(request)
    if not places:
        opt.can_go_on(ui, overwrite=False)
    from t2i.score.run import draw_shard, run_score, write_baselines

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
