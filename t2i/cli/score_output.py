"""The output of `t2i score`: tables or records on stdout, and the files of --sheet, --junit and --html."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from t2i.cli.ui import UI
from t2i.files import write_bytes
from t2i.jobs.reporter import shorten
from t2i.score.html_report import html_report
from t2i.score.junit_report import junit_report
from t2i.score.markdown_report import append_summary, markdown_report
from t2i.score.metrics import PictureScore
from t2i.score.report import GATE_HEAD, MEANS_HEAD, Report, count, interval_text, number

MAX_FALLEN = 5  # prompts named under the gate's table
MAX_PAIRS = 10  # rows of the table of pairs
THUMB = 96  # pixels a side of a picture on --sheet


def print_report(ui: UI, report: Report, suite: str | None, wanted: Sequence[str]) -> None:
    """Tables, or with --json a record per picture and one of the whole. wanted: only these metrics; empty: all."""
    checks = {name: m for name, m in report.checks.items() if not wanted or name.split(" ")[0] in wanted}
    for warning in report.warnings:
        ui.warn(warning)
    for note in report.notes:
        ui.note(note)
    if ui.json:
        for row in report.rows:
            ui.picture(row.picture.path, row.to_json())
        tasks = {name: {"mean": m.mean, "low": m.low, "high": m.high, "prompts": m.n} for name, m in checks.items()}
        ui.record({"suite": suite, "pictures": len(report.rows), "tasks": tasks, **report.to_json()})
        for remark in report.remarks():
            ui.note(remark)
        return
    rows = [list(row) for row in report.mean_rows()]
    shown = {row[0] for row in rows}
    rows += [[name, number(m.mean), interval_text(m), str(m.n)] for name, m in checks.items() if name not in shown]
    ui.table("score", list(MEANS_HEAD), rows)
    if labels := report.label_counts():
        ui.table("labels", ["label", "pictures"], [[f"label: {name}", str(n)] for name, n in labels.items()])
    if report.distances:
        numbers = report.distances.numbers()
        ui.table("set against set", ["measure", "value"], [[f"set: {k}", number(v)] for k, v in numbers.items()])
        for note in report.distances.notes:
            ui.note(note)
    if report.pairs:
        cells = [[p.name, p.tier, *("" if x is None else number(x) for x in (p.psnr, p.ssim))] for p in report.pairs]
        ui.table("before and after, worst first", ["picture", "tier", "PSNR", "SSIM"], cells[:MAX_PAIRS])
        ui.note(report.tier_counts())
    if report.gate:
        ui.table("gate", ["gate", *GATE_HEAD[1:]], [[f"gate: {row[0]}", *row[1:]] for row in report.gate_rows()])
        for remark in report.remarks():
            ui.note(remark)
        if report.verdict != "pass":
            for fallen in report.fallen(MAX_FALLEN):
                ui.note(f"{fallen.metric} {number(fallen.before)} to {number(fallen.after)}: {shorten(fallen.unit)}")
    if report.verdict:
        ui.line(f"verdict\t{report.headline()}")
    t = report.time
    pictures = count(t.pictures, "picture")
    ui.note(f"{pictures} in {t.total:.1f} s, {100 * t.share:.0f}% of it in the networks; {t.cached} known")


def write_sheet(path: Path, rows: Sequence[PictureScore]) -> None:
    """All pictures as one."""
    from t2i.media.images import load_image, save_image
    from t2i.media.sheet import contact_sheet, in_rows
    from t2i.score.extractors import center_square

    thumbs = [center_square(load_image(row.picture.path), THUMB) for row in rows]
    save_image(contact_sheet(in_rows(thumbs)), path)


def write_reports(report: Report, junit: Path | None, html: Path | None, summary: Path | None) -> None:
    """--junit, --html and the file that $GITHUB_STEP_SUMMARY names."""
    if junit is not None:
        write_bytes(junit, junit_report(report))
    if html is not None:
        write_bytes(html, html_report(report).encode())
    if summary is not None:
        append_summary(summary, markdown_report(report))
