"""The report as one HTML file (`report.html.jinja`): no network, no other files, usable by keyboard and without
scripts."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageChops

from t2i.errors import T2IError
from t2i.media.images import load_image
from t2i.score.before_after import PicturePair
from t2i.score.metric_table import better
from t2i.score.metrics import PictureScore
from t2i.score.pair_table import pair_changes
from t2i.score.report import GATE_HEAD, MEANS_HEAD, Report, number

SIDE = 256  # pixels a side of the pictures in the page, at most
MAX_CARDS = 24
MAX_ROWS = 500  # of the table of pairs, which has a thumbnail of each side
PICTURES_PER_UNIT = 4
GAIN = 4  # by which differences are brightened, so that a few levels can be seen
WIDTH, HEIGHT, EDGE = 900, 180, 34  # of the trend, in SVG units


def html_report(report: Report) -> str:
    """The page. Pictures that cannot be read any more are left out."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    environment.filters["number"] = number
    unit_title, units = _worst_units(report)
    changes = pair_changes(report.before, report.score, report.gate) if report.before and report.gate else None
    shown = report.pairs[:MAX_CARDS]
    distances = report.distances.numbers() if report.distances else {}
    return environment.get_template("report.html.jinja").render(
        report=report,
        verdict=report.verdict,
        recipe=report.score.recipe,
        gate_head=GATE_HEAD,
        means_head=MEANS_HEAD,
        trend=trend(report),
        distances=[(name, number(value)) for name, value in distances.items()],
        labels=list(report.label_counts().items()),
        changes=changes,
        max_rows=MAX_ROWS,
        card_of={pair.name: i for i, pair in enumerate(shown)},
        pair_cards=list(_pair_cards(shown)),
        max_cards=MAX_CARDS,
        gain=GAIN,
        unit_title=unit_title,
        unit_cards=list(_unit_cards(report, units)),
    )


# Trend ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrendPoint:
    x: float
    y: float
    day: str
    value: float


@dataclass(frozen=True)
class TrendLabel:
    """Text at (x, y). anchor: an SVG text-anchor. fill: a CSS colour."""

    x: float
    y: float
    text: str
    anchor: str
    fill: str = "currentColor"


@dataclass(frozen=True)
class Trend:
    """One metric over time, as points and labels of an SVG drawing. description: for those who cannot see
    it."""

    column: str
    description: str
    points: list[TrendPoint]
    labels: list[TrendLabel]
    width: int = WIDTH
    height: int = HEIGHT
    edge: int = EDGE


def trend(report: Report) -> Trend | None:
    """The first metric that regressed, else the leading one, in the history of the baseline, in the baseline, and in
    this score; None without a baseline."""
    if report.before is None:
        return None
    means = report.score.means()
    names = [*report.gate.fell, report.gate.checks[0].column] if report.gate else list(means)
    name = next(name for name in names if name in means)
    entries = [*report.before.history, report.before.history_entry(), report.score.history_entry()]
    values = [(str(e["date"])[:10], float(e["means"][name])) for e in entries if name in e["means"]]
    if not values:
        return None
    low, high = min(v for _, v in values), max(v for _, v in values)
    room = max(high - low, 0.02 * max(abs(high), 1e-9)) * 0.15
    low, high = low - room, high + room
    step = (WIDTH - 2 * EDGE) / max(1, len(values) - 1)
    points = [
        TrendPoint(EDGE + i * step, HEIGHT - EDGE - (v - low) / (high - low) * (HEIGHT - 2 * EDGE), day, v)
        for i, (day, v) in enumerate(values)
    ]
    description = f"{name} over {len(points)} scores, from {number(points[0].value)} to {number(points[-1].value)}"
    axis = HEIGHT - 8  # the baseline of the text below the drawing
    ends = [
        TrendLabel(EDGE, axis, points[0].day, "start", "var(--soft)"),
        TrendLabel(WIDTH - EDGE, axis, "this score", "end", "var(--soft)"),
    ]
    return Trend(name, description, points, [*_value_labels(points), *ends])


def _value_labels(points: list[TrendPoint]) -> Iterator[TrendLabel]:
    """Labels above the first point, the last, and the one before it: the baseline."""
    last = len(points) - 1
    for i in sorted({0, max(0, last - 1), last}):
        p = points[i]
        anchor = "start" if i == 0 else "end" if i == last else "middle"
        x, y = p.x, p.y - 10
        if (
            last and i == last and p.value < points[last - 1].value
        ):  # the line comes from above: the label goes beside it
            x, y = p.x - 12, p.y + 4
        yield TrendLabel(x, y, number(p.value), anchor)


# Pictures ---------------------------------------------------------------------------------------------------------


def _pair_cards(pairs: Sequence[PicturePair]) -> Iterator[dict[str, str]]:
    """Before, after and the difference of each pair."""
    for i, p in enumerate(pairs):
        try:
            before, after = load_image(p.before), load_image(p.after)
        except T2IError:
            continue
        after = after if before.size == after.size else after.resize(before.size)
        difference = ImageChops.difference(before, after).point(lambda v: min(255, GAIN * v))
        yield {
            "id": f"pair-{i}",
            "title": p.prompt or p.name,
            "note": _pair_note(p),
            "before": data_uri(before),
            "after": data_uri(after),
            "difference": data_uri(difference),
        }


def _pair_note(p: PicturePair) -> str:
    if p.tier == "exact":
        return "exact: the same pixels"
    if p.psnr is None:
        return f"{p.tier}: other sizes"
    return f"{p.tier}: PSNR {number(p.psnr)} dB" + (f", SSIM {number(p.ssim)}" if p.ssim is not None else "")


def _worst_units(report: Report) -> tuple[str, list[tuple[str, str]]]:
    """A title, and (unit, note) of the units that fell furthest; without a gate, of those with the lowest values."""
    notes_of: dict[str, list[str]] = {}
    for row in report.fallen(MAX_CARDS):
        notes_of.setdefault(row.unit, []).append(f"{row.metric}: {number(row.before)} → {number(row.after)}")
    if notes_of:
        return "Prompts that fell furthest", [(unit, ", ".join(notes)) for unit, notes in notes_of.items()]
    column = next((name for name in ("scene", "clip") if name in report.intervals()), None)
    if report.gate is not None or column is None:
        return "", []
    sign = better(column)
    lowest = sorted(report.score.units, key=lambda u: (sign * u.metrics.get(column, sign * 1e9), u.unit))[:MAX_CARDS]
    notes = [(u.unit, f"{column}: {number(u.metrics[column])}") for u in lowest if column in u.metrics]
    return f"Lowest {column}", notes


def _unit_cards(report: Report, units: list[tuple[str, str]]) -> Iterator[dict[str, object]]:
    """The first pictures of each unit."""
    by_unit: dict[str, list[PictureScore]] = {}
    for row in report.rows:
        by_unit.setdefault(row.unit, []).append(row)
    for unit, note in units:
        pictures = []
        for row in by_unit.get(unit, [])[:PICTURES_PER_UNIT]:
            try:
                image = load_image(row.picture.path)
            except T2IError:
                continue
            pictures.append({"src": data_uri(image), "alt": row.picture.prompt or row.picture.name})
        yield {"title": unit, "note": note, "pictures": pictures}


def data_uri(image: Image.Image) -> str:
    """The picture as a data URI, at most SIDE pixels a side."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
