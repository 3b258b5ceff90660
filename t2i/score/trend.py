"""The trend of the leading metric over earlier baselines, as a drawing in SVG and as a table for who cannot see it."""

from __future__ import annotations

import html

from t2i.score.report import Report, number

WIDTH, HEIGHT, EDGE = 900, 180, 34


def trend(report: Report) -> str:
    """SVG of the leading metric: the history of the baseline, the baseline, and this score."""
    assert report.before is not None
    name = report.outcome.checks[0].column if report.outcome else next(iter(report.score.means()))
    entries = [*report.before.history, report.before.entry(), report.score.entry()]
    points = [(str(e["date"])[:10], float(e["means"][name])) for e in entries if name in e["means"]]
    if not points:
        return ""
    low, high = min(v for _, v in points), max(v for _, v in points)
    room = max(high - low, 0.02 * max(abs(high), 1e-9)) * 0.15
    low, high = low - room, high + room
    step = (WIDTH - 2 * EDGE) / max(1, len(points) - 1)

    def at(i: int, value: float) -> tuple[float, float]:
        return EDGE + i * step, HEIGHT - EDGE - (value - low) / (high - low) * (HEIGHT - 2 * EDGE)

    spots = [at(i, v) for i, (_, v) in enumerate(points)]
    line = " ".join(f"{x:.1f},{y:.1f}" for x, y in spots)
    dots = "".join(
        f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{5 if i == len(points) - 1 else 3.5}" fill="var(--go)">'
        f"<title>{html.escape(day)}: {number(v)}</title></circle>"
        for i, ((x, y), (day, v)) in enumerate(zip(spots, points, strict=True))
    )
    marks = [0, *([len(points) - 2] if len(points) > 2 else []), len(points) - 1] if len(points) > 1 else [0]
    sides = {0: "start", len(points) - 1: "end"}
    last = len(points) - 1
    if last and points[last][1] < points[last - 1][1]:  # the line comes from above: the number stands beside its end
        x, y = spots[last]
        spots[last] = (x - 12, y + 14)
    texts = "".join(_text(*spots[i], number(points[i][1]), sides.get(i, "middle"), "currentColor") for i in marks)
    low_line = HEIGHT + 2
    ends = _text(EDGE, low_line, points[0][0], "start", "var(--soft)")
    ends += _text(WIDTH - EDGE, low_line, "this score", "end", "var(--soft)")
    words = f"{name} over {len(points)} scores, from {number(points[0][1])} to {number(points[-1][1])}"
    return (
        f"<p>{html.escape(name)}: the earlier baselines, the baseline, this score.</p>"
        f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{html.escape(words)}">'
        f'<line x1="{EDGE}" y1="{HEIGHT - EDGE}" x2="{WIDTH - EDGE}" y2="{HEIGHT - EDGE}" stroke="var(--line)"/>'
        f'<polyline points="{line}" fill="none" stroke="var(--go)" stroke-width="2"/>{dots}{texts}{ends}</svg>'
    )


def _text(x: float, y: float, words: str, side: str, ink: str) -> str:
    """Words ten units above a spot."""
    place = f'x="{x:.1f}" y="{y - 10:.1f}" text-anchor="{side}"'
    return f'<text {place} font-size="13" fill="{ink}">{html.escape(words)}</text>'
