"""Reports for machines and for a pull request: JUnit XML and a Markdown summary."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from xml.etree import ElementTree

from t2i.score.gate import Outcome
from t2i.score.metrics import columns
from t2i.score.pairs import Pair
from t2i.score.report import Report, number, span
from t2i.score.sets import Distances

#: what XML 1.0 cannot carry, even escaped
UNSPEAKABLE = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
MOST_ROWS = 15


def junit(report: Report) -> bytes:
    """One suite of test cases a metric with a case a prompt, and one suite "gate" with a case a check.

    The gate's suite alone fails: a single prompt that fell is noise more often than not, and says so in its output.
    """
    root = ElementTree.Element("testsuites", name="t2i score")
    before = columns(report.before.units) if report.before else {}
    for column, values in columns(report.score.units).items():
        suite = _suite(root, column, len(values))
        for unit, value in values.items():
            case = _case(suite, column, unit)
            was = before.get(column, {}).get(unit)
            text = number(value) if was is None else f"{number(value)}, was {number(was)}"
            _say(case, "system-out", text)
    if report.outcome:
        _gate(root, report.outcome)
    if report.pairs:
        _pairs(root, report.pairs, report.tier)
    if report.distances and report.set_verdict:
        suite = _suite(root, "set against set", 1, int(report.set_verdict == "regression"))
        case = _case(suite, "set against set", "kid")
        if report.set_verdict == "regression":
            _say(case, "failure", f"KID {number(report.distances.kid or 0)}, p = {number(report.distances.kid_p or 0)}")
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="utf-8", xml_declaration=True) + b"\n"


def _gate(root: ElementTree.Element, outcome: Outcome) -> None:
    bad = sum(c.verdict == "regression" for c in outcome.checks)
    unsure = sum(c.verdict == "inconclusive" for c in outcome.checks)
    suite = _suite(root, "gate", len(outcome.checks), bad, unsure)
    for c in outcome.checks:
        case = _case(suite, "gate", c.column)
        r = c.result
        text = (
            f"{number(c.before)} -> {number(c.after)}, change {number(r.change.mean)} "
            f"[{span(r.change)}], margin {number(r.margin)}, {r.change.n} prompts"
        )
        if c.verdict == "regression":
            _say(case, "failure", text)
        elif c.verdict == "inconclusive":
            _say(case, "skipped", f"inconclusive: {text}")
        else:
            _say(case, "system-out", text)


def _pairs(root: ElementTree.Element, pairs: Sequence[Pair], tier: str) -> None:
    bad = [p for p in pairs if _beyond(p, tier)]
    suite = _suite(root, "before and after", len(pairs), len(bad))
    for p in pairs:
        case = _case(suite, "before and after", p.name)
        psnr = "" if p.psnr is None else f", PSNR {number(p.psnr)} dB"
        _say(case, "failure" if _beyond(p, tier) else "system-out", f"{p.tier}{psnr}")


def _beyond(pair: Pair, tier: str) -> bool:
    order = ("exact", "close", "far")
    return order.index(pair.tier) > order.index(tier)


def _suite(
    root: ElementTree.Element, name: str, tests: int, failures: int = 0, skipped: int = 0
) -> ElementTree.Element:
    counts = {"name": name, "tests": str(tests), "failures": str(failures), "errors": "0", "skipped": str(skipped)}
    return ElementTree.SubElement(root, "testsuite", counts)


def _case(suite: ElementTree.Element, group: str, name: str) -> ElementTree.Element:
    return ElementTree.SubElement(suite, "testcase", classname=f"t2i.{group}", name=UNSPEAKABLE.sub("?", name))


def _say(case: ElementTree.Element, tag: str, text: str) -> None:
    text = UNSPEAKABLE.sub("?", text)
    if tag in ("failure", "skipped"):
        ElementTree.SubElement(case, tag, message=text)
    else:
        ElementTree.SubElement(case, tag).text = text


def markdown(report: Report) -> str:
    """The summary for a pull request: the verdict, the checks, the prompts that fell furthest."""
    lines = [f"## t2i score: {report.headline()}", ""]
    if report.outcome:
        lines += ["| metric | before | after | change (95%) | margin | verdict |", "|---|---|---|---|---|---|"]
        for c in report.outcome.checks:
            ch = c.result.change
            cells = [c.column + (" (leads)" if c.leads else ""), number(c.before), number(c.after)]
            cells += [f"{number(ch.mean)} ({span(ch)})", number(c.result.margin), c.verdict]
            lines.append(_row(cells))
        lines += ["", *report.remarks()]
        fallen = report.worst(MOST_ROWS)
        if fallen:
            lines += ["", "<details><summary>Prompts that fell furthest</summary>", ""]
            lines += [f"| prompt | {_cell(fallen[0][0])} before | after |", "|---|---|---|"]
            lines += [_row([u, number(a), number(b)]) for _, u, a, b in fallen]
            lines += ["", "</details>"]
    else:
        lines += ["| metric | mean | 95% interval | prompts |", "|---|---|---|---|"]
        lines += [_row(list(row)) for row in report.means()]
    if report.distances:
        lines += ["", *_distances(report.distances)]
    if report.pairs:
        lines += ["", report.tiers()]
    return "\n".join(lines) + "\n"


def _distances(d: Distances) -> list[str]:
    pairs = [(name, getattr(d, name)) for name in ("fd", "kid", "kid_p", "cmmd", "precision", "recall", "coverage")]
    text = ", ".join(f"{name} {number(value)}" for name, value in pairs if value is not None)
    return [f"Set against set, {d.n} against {d.m} pictures: {text}.", *[f"- {note}" for note in d.notes]]


def _row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_cell(c) for c in cells) + " |"


def _cell(text: str) -> str:
    """Text that cannot break out of a table: a prompt is anybody's."""
    clean = "".join(c if c.isprintable() else " " for c in text)[:200]
    return "".join(f"&#{ord(c)};" if c in "\\`*_[]<>|#&" else c for c in clean)


def append_summary(path: Path, text: str) -> None:
    """Add to the file that $GITHUB_STEP_SUMMARY names."""
    with path.open("ab") as file:
        file.write(text.encode())
