"""The output of `t2i score`: where it may go, tables or records, files of --sheet, --junit and --html; the verdict."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from t2i.cli.ui import UI
from t2i.errors import GateError, InconclusiveError, InputError, UsageError
from t2i.files import write_bytes
from t2i.jobs.output_paths import check_file, check_inputs_kept, make_folder
from t2i.jobs.reporter import shorten
from t2i.media.image_file import FORMATS
from t2i.score.html_report import html_report
from t2i.score.junit_report import junit_report
from t2i.score.markdown_report import append_summary, markdown_report
from t2i.score.metrics import PictureScore
from t2i.score.report import GATE_HEAD, MEANS_HEAD, Report, count, interval_text, number

MAX_FALLEN = 5  # prompts named under the gate's table
MAX_PAIRS = 10  # rows of the table of pairs
THUMB = 96  # pixels a side of a picture on --sheet


def check_outputs(outputs: Mapping[str, Path | None], inputs: Iterable[Path | None], baseline: Path | None) -> None:
    """Make the folders of the files that are to be written. outputs: option -> the file that it names, if it is given.

    Raises UsageError for a name that makes no sense, for two options that name one file, --baseline too, and for a file
    that would replace one of ``inputs``; InputError (code ``output``) for one that cannot be written, or a baseline
    that is there.
    """
    named = {option: path for option, path in outputs.items() if path is not None}
    if (sheet := named.get("--sheet")) is not None and sheet.suffix.lower() not in FORMATS:
        raise UsageError(f"--sheet {str(sheet)!r} is no picture's name.", f"End it in one of {', '.join(FORMATS)}.")
    files = {option: path for option, path in named.items() if not option.startswith("$")}
    places = [path.resolve() for path in (files | ({"--baseline": baseline} if baseline is not None else {})).values()]
    if len(set(places)) < len(places):
        raise UsageError("two options name one file.", "Give each its own.")
    if (kept := named.get("--save-baseline")) is not None and kept.is_file():
        what = f"{kept} is there already; a baseline is not written over by chance."
        raise InputError(what, "Say --baseline FILE --update-baseline, or name another file.", "output")
    check_inputs_kept(named.items(), [path for path in inputs if path is not None])
    for option, path in named.items():
        check_file(option, path)
        make_folder(path.parent)


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


def check_verdict(report: Report, failed: int, html: Path | None, *, strict: bool, updated: bool) -> None:
    """Raise GateError for a regression, unless the baseline was updated, InputError where pictures failed, and under
    --strict InconclusiveError for a gate that could not decide."""
    if report.verdict == "regression" and not updated:
        where = f"Look at {html}." if html else "--html FILE writes a page that shows what fell most."
        raise GateError(f"a {report.headline()}.", where)
    if failed:
        raise InputError(f"{failed} of the pictures could not be read.", "See above.", "partial")
    if strict and report.verdict == "inconclusive":
        remarks = " ".join(report.remarks()[1:])
        raise InconclusiveError("the gate cannot decide.", remarks or "Score more prompts.")
