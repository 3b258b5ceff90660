"""The report as Markdown, for the summary of a pull request ($GITHUB_STEP_SUMMARY)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from t2i.score.report import MEANS_HEAD, Report, interval_text, number
from t2i.score.set_distances import SetDistances

MAX_FALLEN = 15


def markdown_report(report: Report) -> str:
    """The verdict, the checks, and the prompts that fell furthest; without a gate, the means."""
    lines = [f"## t2i score: {report.headline()}", ""]
    if report.gate:
        lines += _table_head("metric", "before", "after", "change (95%)", "margin", "verdict")
        for c in report.gate.checks:
            change = c.result.change
            cells = [c.column + (" (leads)" if c.leads else ""), number(c.before), number(c.after)]
            cells += [f"{number(change.mean)} ({interval_text(change)})", number(c.result.margin), c.verdict]
            lines.append(_row(cells))
        lines += ["", *report.remarks()]
        fallen = report.fallen(MAX_FALLEN)
        if fallen:
            lines += ["", "<details><summary>Prompts that fell furthest</summary>", ""]
            lines += _table_head("metric", "prompt", "before", "after")
            lines += [_row([row.metric, row.unit, number(row.before), number(row.after)]) for row in fallen]
            lines += ["", "</details>"]
    else:
        lines += _table_head(*MEANS_HEAD)
        lines += [_row(row) for row in report.mean_rows()]
    if report.distances:
        lines += ["", *_distances(report.distances)]
    if report.pairs:
        lines += ["", report.tier_counts()]
    lines += [line for note in report.notes for line in ("", f"{note}.")]
    return "\n".join(lines) + "\n"


def append_summary(path: Path, text: str) -> None:
    """Append to the file that $GITHUB_STEP_SUMMARY names."""
    with path.open("ab") as file:
        file.write(text.encode())


def _distances(d: SetDistances) -> list[str]:
    shown = [(name, getattr(d, name)) for name in ("fd", "kid", "kid_p", "cmmd", "precision", "recall", "coverage")]
    text = ", ".join(f"{name} {number(value)}" for name, value in shown if value is not None)
    return [f"Set against set, {d.n} against {d.m} pictures: {text}.", *[f"- {note}" for note in d.notes]]


def _table_head(*names: str) -> list[str]:
    return ["| " + " | ".join(names) + " |", "|" + "---|" * len(names)]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(c) for c in cells) + " |"


def _cell(text: str) -> str:
    """Text that cannot break out of a table or inject markup: prompts come from anybody."""
    clean = "".join(c if c.isprintable() else " " for c in text)[:200]
    return "".join(f"&#{ord(c)};" if c in "\\`*_[]<>|#&" else c for c in clean)
