"""The report as JUnit XML, for the test views of CI systems."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING

from t2i.score.metrics import columns
from t2i.score.report import Report, interval_text, number

if TYPE_CHECKING:
    from junitparser import TestCase, TestSuite

NOT_XML = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""Characters that XML 1.0 cannot carry, even escaped."""


def junit_report(report: Report) -> bytes:
    """One suite per metric with a case per prompt, and the suites of the gates: "gate" with a case per check, "before
    and after", "set against set".

    Only the gates' cases fail: a single prompt that fell is noise more often than not, and only says so in its output.
    """
    from junitparser import JUnitXml

    xml = JUnitXml("t2i score")
    suites = [*_metric_suites(report), _gate_suite(report), _pair_suite(report), _set_suite(report)]
    for suite in suites:
        if suite is not None:
            suite.update_statistics()
            xml.append(suite)
    xml.update_statistics()
    out = io.BytesIO()
    xml.write(out, pretty=True)
    return out.getvalue()


def _metric_suites(report: Report) -> list[TestSuite | None]:
    before = columns(report.before.units) if report.before else {}
    suites: list[TestSuite | None] = []
    for column, values in columns(report.score.units).items():
        cases = []
        for unit, value in values.items():
            was = before.get(column, {}).get(unit)
            cases.append(_case(column, unit, number(value) if was is None else f"{number(value)}, was {number(was)}"))
        suites.append(_suite(column, cases))
    return suites


def _gate_suite(report: Report) -> TestSuite | None:
    from junitparser import Failure, Skipped

    if not report.gate:
        return None
    cases = []
    for c in report.gate.checks:
        r = c.result
        text = (
            f"{number(c.before)} -> {number(c.after)}, change {number(r.change.mean)} "
            f"[{interval_text(r.change)}], margin {number(r.margin)}, {r.change.n} prompts"
        )
        if c.verdict == "regression":
            cases.append(_case("gate", c.column, result=Failure(_clean(text))))
        elif c.verdict == "inconclusive":
            cases.append(_case("gate", c.column, result=Skipped(_clean(f"inconclusive: {text}"))))
        else:
            cases.append(_case("gate", c.column, text))
    return _suite("gate", cases)


def _pair_suite(report: Report) -> TestSuite | None:
    from junitparser import Failure

    if not report.pairs:
        return None
    cases = []
    for p in report.pairs:
        text = p.tier if p.psnr is None else f"{p.tier}, PSNR {number(p.psnr)} dB"
        if p.is_beyond(report.tier):
            cases.append(_case("before and after", p.name, result=Failure(text)))
        else:
            cases.append(_case("before and after", p.name, text))
    return _suite("before and after", cases)


def _set_suite(report: Report) -> TestSuite | None:
    from junitparser import Failure

    d = report.distances
    if not d or not report.set_verdict:
        return None
    text = f"KID {number(d.kid or 0)}, p = {number(d.kid_p or 0)}"
    failure = Failure(text) if report.set_verdict == "regression" else None
    return _suite("set against set", [_case("set against set", "kid", result=failure)])


def _suite(name: str, cases: list[TestCase]) -> TestSuite:
    from junitparser import TestSuite

    suite = TestSuite(name)
    for case in cases:
        suite.append(case)
    return suite


def _case(group: str, name: str, output: str | None = None, result: object = None) -> TestCase:
    """A test case with what it printed, or with a Failure or Skipped."""
    from junitparser import TestCase

    case = TestCase(_clean(name), f"t2i.{group}")
    if output is not None:
        case.system_out = _clean(output)
    if result is not None:
        case.append(result)
    return case


def _clean(text: str) -> str:
    return NOT_XML.sub("?", text)
