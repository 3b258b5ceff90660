"""The report as one HTML file: no network, no other files, readable without scripts and with a keyboard alone."""

from __future__ import annotations

import base64
import html
import io
from collections.abc import Sequence
from pathlib import Path
from string import Template

from PIL import Image, ImageChops

from t2i.errors import T2IError
from t2i.media.images import load_image
from t2i.score.metrics import Row, better
from t2i.score.report import Report, number
from t2i.score.trend import trend

SIDE = 256
MOST = 24
GAIN = 4  # how much a difference is brightened, so that a few levels can be seen

PAGE = Template("""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; style-src 'unsafe-inline';
script-src 'unsafe-inline'"><title>$title</title><style>
:root{--ink:#1c2127;--soft:#5b6570;--paper:#fff;--line:#d5dae0;--pass:#176f3c;--bad:#b3261e;--unsure:#8a5a00;--go:#1f5fbf}
@media (prefers-color-scheme:dark){:root{--ink:#e8eaed;--soft:#a4adb7;--paper:#15181c;--line:#363c44;--pass:#6fd19a;
--bad:#ff9a90;--unsure:#f0c060;--go:#8ab4ff}}
*{box-sizing:border-box}body{margin:0 auto;max-width:1100px;padding:24px 20px 60px;color:var(--ink);
background:var(--paper);font:15px/1.5 system-ui,sans-serif}h1{font-size:24px;margin:0 0 4px}h2{font-size:18px;
margin:32px 0 8px}p{margin:6px 0}.soft{color:var(--soft)}.pass{color:var(--pass)}.regression{color:var(--bad)}
.inconclusive{color:var(--unsure)}table{border-collapse:collapse;width:100%;font-variant-numeric:tabular-nums}
th,td{text-align:left;padding:5px 10px 5px 0;border-bottom:1px solid var(--line);vertical-align:top}
th{font-weight:600;color:var(--soft)}td.n,th.n{text-align:right}.scroll{overflow-x:auto}
.cards{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,330px),1fr));gap:22px}
figure{margin:0}figcaption{font-size:13px;overflow-wrap:anywhere;margin-bottom:6px}.row{display:flex;gap:6px}
.row>*{flex:1 1 0;min-width:0}.row img{width:100%;display:block;image-rendering:pixelated}
.two{position:relative}.two img+img{position:absolute;inset:0;clip-path:inset(0 0 0 var(--at,50%))}
.two::after{content:"";position:absolute;top:0;bottom:0;left:var(--at,50%);width:2px;margin-left:-1px;background:#fff;
box-shadow:0 0 0 1px #0008;pointer-events:none}input[type=range]{width:100%;margin:6px 0 0;accent-color:var(--go)}
.tags{display:flex;justify-content:space-between;font-size:12px;color:var(--soft)}
:focus-visible{outline:3px solid var(--go);outline-offset:2px}svg{width:100%;height:auto;display:block}
code{font-size:13px;overflow-wrap:anywhere}</style></head><body><main>
<h1>Picture score: <span class="$verdict">$word</span></h1>
<p class="soft">$facts</p>$body</main>
<script>for(const r of document.querySelectorAll('input[type=range]')){
const box=r.closest('figure').querySelector('.two');
const show=()=>{box.style.setProperty('--at',r.value+'%');r.setAttribute('aria-valuetext',r.value+'% before')};
r.addEventListener('input',show);box.addEventListener('pointermove',e=>{const b=box.getBoundingClientRect();
r.value=Math.round(100*(e.clientX-b.left)/b.width);show()});show()}</script></body></html>
""")


def page(report: Report) -> str:
    """The HTML of a report. Pictures that cannot be read any more are left out."""
    body = []
    for warning in report.warnings:
        body.append(f'<p class="inconclusive"><strong>{esc(warning)}.</strong></p>')
    if report.outcome:
        head = ("metric", "before", "after", "change", "95% interval", "margin", "detectable", "verdict")
        body += ["<h2>Gate</h2>", _table(head, report.checks(), words=True)]
        body += [f"<p>{esc(text)}</p>" for text in report.remarks()]
        body.append('<p class="soft">* leads and decides by its interval; the others fail after Holm’s correction.</p>')
    if report.before:
        body += ["<h2>Trend</h2>", trend(report)]
    body += ["<h2>Means</h2>", _table(("metric", "mean", "95% interval", "prompts"), report.means())]
    if report.distances:
        d = report.distances
        rows = [(name, number(v)) for name, v in d.table().items() if isinstance(v, (int, float))]
        body += ["<h2>Set against set</h2>", _table(("measure", "value"), rows)]
        body += [f'<p class="soft">{esc(note)}.</p>' for note in d.notes]
    if report.labels():
        body += ["<h2>Labels</h2>", _table(("label", "pictures"), [(k, str(v)) for k, v in report.labels().items()])]
    body += _pairs(report)
    body += _worst(report)
    recipe = report.score.recipe
    body.append(
        f'<h2>Recipe</h2><p class="soft">Scores compare only with scores of the recipe <code>{recipe.digest}</code>: '
        f"extractor <code>{esc(recipe.extractor.name)}</code>, weights <code>{recipe.extractor.weights}</code>, "
        f"{recipe.extractor.side} pixels, {esc(recipe.extractor.resize)}.</p>"
    )
    verdict = report.verdict or ""
    facts = f"{report.headline()} · {report.score.date}"
    word = verdict or "no gate"
    return PAGE.substitute(
        title=esc(f"Picture score: {word}"), verdict=verdict, word=word, facts=esc(facts), body="".join(body)
    )


def esc(text: str) -> str:
    return html.escape(text, quote=True)


def _table(head: Sequence[str], rows: Sequence[Sequence[str]], words: bool = False) -> str:
    """words: the last column is a verdict and is coloured as one."""

    def cell(i: int, text: str) -> str:
        own = f' class="{esc(text)}"' if words and i == len(head) - 1 else ' class="n"' if i else ""
        return f"<td{own}>{esc(text)}</td>" if i else f'<th scope="row">{esc(text)}</th>'

    top = "".join(f'<th scope="col"{" class=n" if i and not (words and i == len(head) - 1) else ""}>{esc(h)}</th>'
                  for i, h in enumerate(head))  # fmt: skip
    lines = "".join("<tr>" + "".join(cell(i, c) for i, c in enumerate(row)) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><thead><tr>{top}</tr></thead><tbody>{lines}</tbody></table></div>'


def _pairs(report: Report) -> list[str]:
    if not report.pairs:
        return []
    cards = []
    for p in report.pairs[:MOST]:
        numbers = f"PSNR {number(p.psnr)} dB" if p.psnr is not None else "other sizes"
        numbers = "the same pixels" if p.tier == "exact" else numbers
        ssim = f", SSIM {number(p.ssim)}" if p.ssim is not None and p.tier != "exact" else ""
        cards.append(_card(p.before, p.after, p.prompt or p.name, f"{p.tier}: {numbers}{ssim}"))
    left = len(report.pairs) - len(cards)
    more = f'<p class="soft">{left} more pairs, less different, are not shown.</p>' if left > 0 else ""
    how = "The least alike first; drag, hover or use the arrow keys."
    head = f"<h2>Before and after</h2><p>{report.tiers()} {how}</p>"
    return [head, f'<div class="cards">{"".join(cards)}</div>{more}']


def _card(before: Path, after: Path, title: str, note: str) -> str:
    try:
        a, b = load_image(before), load_image(after)
    except T2IError:
        return ""
    b = b if a.size == b.size else b.resize(a.size)
    apart = ImageChops.difference(a, b).point(lambda v: min(255, GAIN * v))
    name = esc(title)
    return (
        f'<figure><figcaption><strong>{name}</strong><br><span class="soft">{esc(note)}</span></figcaption>'
        f'<div class="row"><div class="two"><img src="{data_uri(a)}" alt="before: {name}">'
        f'<img src="{data_uri(b)}" alt="after: {name}"></div>'
        f'<img src="{data_uri(apart)}" alt="difference, brightened {GAIN} times"></div>'
        f'<input type="range" min="0" max="100" value="50" aria-label="how much of before is shown: {name}">'
        f'<div class="tags"><span>before | after</span><span>difference ×{GAIN}</span></div></figure>'
    )


def _worst(report: Report) -> list[str]:
    """The prompts that fell furthest; without a baseline, those with the lowest values."""
    fallen = report.worst(MOST)
    by_unit: dict[str, list[Row]] = {}
    for row in report.rows:
        by_unit.setdefault(row.unit, []).append(row)
    if fallen:
        title = "Prompts that fell furthest"
        entries = [(u, f"{name}: {number(a)} → {number(b)}") for name, u, a, b in fallen]
    elif report.outcome is None:
        column = next((name for name in ("scene", "clip") if name in report.intervals()), None)
        if column is None:
            return []
        title = f"Lowest {column}"
        sign = better(column)
        lowest = sorted(report.score.units, key=lambda u: (sign * u.metrics.get(column, sign * 1e9), u.unit))[:MOST]
        entries = [(u.unit, f"{column}: {number(u.metrics[column])}") for u in lowest if column in u.metrics]
    else:
        return []
    cards = []
    for unit, note in entries:
        pictures = []
        for row in by_unit.get(unit, [])[:4]:
            try:
                image = load_image(row.picture.path)
            except T2IError:
                continue
            pictures.append(f'<img src="{data_uri(image)}" alt="{esc(row.picture.prompt or row.picture.name)}">')
        cards.append(
            f'<figure><figcaption><strong>{esc(unit)}</strong><br><span class="soft">{esc(note)}</span></figcaption>'
            f'<div class="row">{"".join(pictures)}</div></figure>'
        )
    return [f'<h2>{title}</h2><div class="cards">{"".join(cards)}</div>']


def data_uri(image: Image.Image) -> str:
    """The picture inside the page, at most SIDE pixels a side."""
    small = image.copy()
    small.thumbnail((SIDE, SIDE))
    file = io.BytesIO()
    small.save(file, "WEBP", quality=90)
    return "data:image/webp;base64," + base64.b64encode(file.getvalue()).decode()
