"""JUnit, the summary and the page: well formed, honest, and usable without a network or a mouse."""

from __future__ import annotations

import itertools
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image, ImageChops, ImageFilter

from t2i.score.baseline import ScoredSet
from t2i.score.before_after import compare_pair, match_pictures, worst_first
from t2i.score.feature_cache import PictureFeatures
from t2i.score.features import ExtractionTime
from t2i.score.gate import MaxDrop, run_gate
from t2i.score.html_report import html_report
from t2i.score.junit_report import junit_report
from t2i.score.markdown_report import append_summary, markdown_report
from t2i.score.metrics import PictureScore, UnitScore, average_by_unit
from t2i.score.picture_files import PictureFile
from t2i.score.pixel_stats import pixel_stats
from t2i.score.recipe import NetworkInfo, ScoreRecipe
from t2i.score.report import Report, collapse_warnings

EVIL = 'a <script>alert(1)</script> | "cat" & \x1b[31mred\x00 `x`'
RECIPE = ScoreRecipe(NetworkInfo("clip:tiny", "a" * 64, 64, "area"), None, {"clip": 1})


def draw(folder: Path, shift: int, n: int = 12) -> list[PictureFile]:
    folder.mkdir(parents=True, exist_ok=True)
    out = []
    for i in range(n):
        rng = np.random.default_rng(i)
        image = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8)).resize((64, 64))
        image = ImageChops.offset(image, shift if i % 3 == 0 else 0, 0)
        image.save(folder / f"{i:02}.png")
        out.append(PictureFile(folder / f"{i:02}.png", f"{i:02}.png", EVIL if i == 0 else f"prompt {i}", i))
    return out


def rows(pictures: Sequence[PictureFile], fall: float) -> list[PictureScore]:
    out = []
    for i, p in enumerate(pictures):
        pixels, thumb = pixel_stats(Image.open(p.path).convert("RGB"))
        seen = PictureFeatures(pixels, np.ones(4, np.float32), thumb, None)
        value = 60 + i - (fall if i % 3 == 0 else 0) + 0.1 * (i % 2)
        out.append(PictureScore(p, seen, p.prompt or "", {"clip": value, "blank": pixels.blank}, "colours"))
    return out


def score(made: list[PictureScore], date: str) -> ScoredSet:
    kept = tuple(row.row() for row in made)
    return ScoredSet(RECIPE, tuple(average_by_unit(kept)), ("w",), date, rows=kept)


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> Report:
    tmp = tmp_path_factory.mktemp("pages")
    was, now = draw(tmp / "before", 0), draw(tmp / "after", 5)
    before = score(rows(was, 0), "2026-11-20T00:00:00")
    old = [{**before.history_entry(), "date": f"2026-11-1{i}", "means": {"clip": 63.0 + i}} for i in range(4)]
    before = replace(before, history=tuple(old))
    made = rows(now, 30)
    after = score(made, "2026-11-22T00:00:00")
    out = Report(after, made, ExtractionTime(10.0, 9.0, 12, 0), before)
    out.gate = run_gate(before, after, MaxDrop.parse("2%"), {"clip": 2.0})
    out.pairs, out.tier = worst_first([compare_pair(a, b) for a, b in match_pictures(was, now)[0]]), "close"
    return out


def test_junit_has_a_case_for_each_prompt_and_metric(report: Report) -> None:
    root = ElementTree.fromstring(junit_report(report))
    suites = {s.get("name"): s for s in root}
    assert {"clip", "blank", "gate", "before and after"} <= set(suites)
    assert len(suites["clip"]) == len(suites["blank"]) == 12
    for suite in root:
        assert suite.get("tests") == str(len(suite))
        assert suite.get("failures") == str(len(suite.findall("testcase/failure")))
        assert suite.get("skipped") == str(len(suite.findall("testcase/skipped")))
    gate = {case.get("name"): case for case in suites["gate"]}
    assert report.gate is not None and report.gate.checks[0].column == "clip"
    assert suites["before and after"].get("failures") == "4"
    assert gate["blank"].find("failure") is None


def test_the_worst_pairs_come_first(report: Report) -> None:
    assert [p.tier for p in report.pairs] == ["far"] * 4 + ["exact"] * 8
    assert report.pair_verdict == "regression" == report.verdict
    assert "same pictures" in report.headline()
    psnrs = [p.psnr for p in report.pairs if p.psnr is not None]
    assert psnrs == sorted(psnrs)


def test_pictures_of_another_format_are_paired_by_their_names() -> None:
    def named(*names: str) -> list[PictureFile]:
        return [PictureFile(Path(name), name) for name in names]

    before = named("a.png", "b.png", "c.png", "c.jpg", "sub/d.png", "e.png")
    after = named("a.jpg", "b.png", "b.jpg", "c.webp", "sub/d.jpg", "d.jpg")
    pairs, alone = match_pictures(before, after)
    assert [(a.name, b.name) for a, b in pairs] == [("a.png", "a.jpg"), ("b.png", "b.png"), ("sub/d.png", "sub/d.jpg")]
    assert [p.name for p in alone] == ["c.png", "c.jpg", "e.png"]  # two c before: neither is meant


def test_the_summary_cannot_be_broken_by_a_prompt(report: Report, tmp_path: Path) -> None:
    text = markdown_report(report)
    assert "regression" in text and "<script" not in text and "\x1b" not in text
    for line in text.splitlines():
        if line.startswith("| "):
            assert line.count("|") in (4, 5, 7), line
    path = tmp_path / "summary.md"
    path.write_text("before\n")
    append_summary(path, text)
    assert path.read_text() == "before\n" + text


def test_the_page_lists_each_picture_by_what_fell_most(report: Report) -> None:
    """Without scripts the order is right already; with them each heading is a button that sorts."""
    text = html_report(report)
    table = text[text.index('<table id="changes">') :]
    table = table[: table.index("</table>")]
    head, *lines = table.split("<tr>")[1:]
    assert head.count("<button") == head.count("aria-sort") == 4 and 'aria-sort="descending"' in head  # clip, changed
    losses = [float(line.split('<td data-sort="')[1].split('"')[0]) for line in lines]
    assert len(losses) == 12 and losses == sorted(losses, reverse=True) and losses[0] > 1 > losses[-1]
    assert all(line.count("data:image/webp;base64,") == 2 for line in lines)
    assert (
        [f'href="#pair-{i}"' in table for i in range(12)]
        == [f'id="pair-{i}"' in text for i in range(12)]
        == [True] * 12
    )


def blurred(folder: Path) -> Report:
    """Pictures after a blur; clip leads, and hardly moved."""
    was, now = draw(folder / "before", 0), draw(folder / "after", 0)
    for i, picture in enumerate(now):
        with Image.open(picture.path) as image:
            image.filter(ImageFilter.GaussianBlur(3 + i / 4)).save(picture.path)
    made = [rows(was, 0), rows(now, 0)]
    for row in itertools.chain(*made):
        row.values["sharpness"] = row.features.pixels.sharpness
    made[1][0].values["clip"] -= 1
    before, after = score(made[0], "2026-11-20T00:00:00"), score(made[1], "2026-11-22T00:00:00")
    out = Report(after, made[1], ExtractionTime(1.0, 1.0, 12, 0), before)
    out.gate = run_gate(before, after, MaxDrop.parse("5%"))
    return out


def test_what_fell_most_is_told_of_the_metrics_that_regressed(tmp_path: Path) -> None:
    report = blurred(tmp_path)
    assert report.gate is not None and report.gate.checks[0].column == "clip" and "clip" not in report.gate.fell
    assert report.gate.fell[0] == "sharpness"
    rows = report.to_json()["fell"]
    falls = [row["before"] - row["after"] for row in rows if row["metric"] == "sharpness"]
    assert rows[0]["metric"] == "sharpness" and falls == sorted(falls, reverse=True) and falls[-1] > 0
    assert {row["metric"] for row in rows} == set(report.gate.fell)  # each has a part of the list
    assert "| sharpness | " in markdown_report(report).split("fell furthest")[1]
    text = html_report(report)
    table = text[text.index('<table id="changes">') : text.index("</table>", text.index('<table id="changes">'))]
    head, *lines = table.split("<tr>")[1:]
    names = re.findall(r'aria-sort="(\w+)"><button type="button">([\w ]+)<', head)
    assert names[2] == ("descending", "sharpness") and [n for n, _ in names].count("descending") == 1
    assert all('<span class="regression">sharpness</span>' in line for line in lines)  # what fell most in each
    losses = [float(line.split('<td class="n" data-sort="')[1].split('"')[0]) for line in lines]
    assert len(losses) == 12 and losses == sorted(losses, reverse=True) and losses[-1] > 1
    assert 'aria-label="sharpness over 2 scores' in text  # the trend
    assert "sharpness: " in text.split("<h2>Prompts that fell furthest</h2>")[1]


class Tags(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))


def test_the_page_needs_nothing_else(report: Report) -> None:
    text = html_report(report)
    tags = Tags()
    tags.feed(text)
    kinds = [tag for tag, _ in tags.found]
    assert kinds.count("script") == 1 and not {"link", "iframe", "object"} & set(kinds)
    for tag, attributes in tags.found:
        for name in ("src", "href"):
            assert (attributes.get(name) or "data:").startswith(("data:", "#")), tag
        if tag == "img":
            assert attributes.get("alt")
        if tag == "input":
            assert attributes.get("aria-label") and attributes.get("type") == "range"
    assert not re.search(r"https?://", text)
    assert kinds.count("input") == 12 and "svg" in kinds
    order = [text.index(f"<strong>prompt {i}") for i in (3, 1)]
    assert order == sorted(order)  # a picture that moved stands before one that did not


def test_no_interval_reaches_where_its_metric_cannot_lie(report: Report) -> None:
    values = {"clipped": (0.0, 0.0, 0.0, 0.4), "variety": (0.0, 0.0, 0.0, 0.9), "clip": (99.0, 100.0, 100.0, 90.0)}
    units = tuple(UnitScore(f"{i}", {name: row[i] for name, row in values.items()}, 1) for i in range(4))
    found = replace(report, score=replace(report.score, units=units)).intervals()
    assert found["clipped"].low == found["variety"].low == 0 and found["clip"].high == 100
    assert found["clipped"].high == pytest.approx(0.1 + 3.182446 * 0.2 / 2, rel=1e-6)


def test_a_collapse_is_said(tmp_path: Path) -> None:
    made = rows(draw(tmp_path, 0), 0)
    assert collapse_warnings(made) == []
    for row in made[:4]:
        row.values["duplicate"] = 1.0
    made[0].values["blank"] = 1.0
    assert collapse_warnings(made) == [
        "4 of 12 pictures repeat another: 00.png, 01.png, 02.png and 1 more",
        "1 of 12 pictures show nothing: 00.png",
    ]


BROWSER = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.mark.skipif(BROWSER is None, reason="no Chromium on this machine")
def test_the_page_in_a_browser(report: Report, tmp_path: Path) -> None:
    """The slider moves the seam, the page fits a narrow window, and nothing is asked of the network."""
    probe = """<script>const r=document.querySelector('input[type=range]');r.focus();r.stepUp(20);
    r.dispatchEvent(new Event('input'));const b=r.closest('figure').querySelector('.two');
    document.title=[document.activeElement===r,b.style.getPropertyValue('--at'),r.getAttribute('aria-valuetext'),
    document.documentElement.scrollWidth<=innerWidth,performance.getEntriesByType('resource').filter(
    e=>!e.name.startsWith('data:')).length,[...document.images].every(i=>i.naturalWidth>0)].join('|')</script>"""
    file, shot = tmp_path / "page.html", tmp_path / "page.png"
    file.write_text(html_report(report), "utf-8")
    (tmp_path / "probe.html").write_text(html_report(report).replace("</body>", f"{probe}</body>"), "utf-8")
    common = [str(BROWSER), "--headless", "--no-sandbox", "--disable-gpu", "--virtual-time-budget=3000",
              f"--user-data-dir={tmp_path / 'profile'}", "--window-size=700,1000"]  # fmt: skip

    def browse(*args: str) -> str:
        done = subprocess.run([*common, *args], capture_output=True, text=True, timeout=500, check=True)
        return done.stdout

    title = re.search(r"<title>(.*?)</title>", browse("--dump-dom", f"file://{tmp_path / 'probe.html'}"))
    assert title is not None and title[1] == "true|70%|70% before|true|0|true"
    browse(f"--screenshot={shot}", f"file://{file}")
    with Image.open(shot) as image:
        assert image.size == (700, 1000) and len(image.convert("RGB").getcolors(1 << 20) or []) > 50
