"""The report of an evaluation as Markdown tables, for the model's card."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

Row = Mapping[str, Any]


def markdown(report: Mapping[str, Any]) -> str:
    """The parts that the report has, in the order of the card."""
    writers = {
        "suite": _suite, "distances": _distances, "retrieval": _retrieval, "embedding": _embedding, "prior": _prior,
        "sweeps": _sweeps, "upsampler": _upsampler,
    }  # fmt: skip
    blocks = []
    if "model" in report:
        sums = ", ".join(f"{name} {value}" for name, value in report["model"]["sha256"].items())
        blocks.append(f"Measured: {report['model']['name']} ({sums}).")
    for name, write in writers.items():
        if name in report or (name == "suite" and "renders" in report):
            blocks += write(report)
    return "\n\n".join(blocks) + "\n"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [list(head), ["---"] * len(head), *map(list, rows)]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def share(m: Row | None, digits: int = 3) -> str:
    """ "0.912": a mean."""
    return "" if m is None else f"{m['mean']:.{digits}f}"


def ends(m: Row | None, digits: int = 3) -> str:
    """ "0.880 to 0.944": its interval."""
    return "" if m is None or m["low"] is None else f"{m['low']:.{digits}f} to {m['high']:.{digits}f}"


def both(m: Row | None, digits: int = 3) -> str:
    return "" if m is None else f"{share(m, digits)} ({ends(m, digits)})"


def points(m: Row | None) -> str:
    """ "-1.2 (-3.0 to 0.6)": a difference of shares in points."""
    if m is None or m["low"] is None:
        return ""
    return f"{100 * m['mean']:+.1f} ({100 * m['low']:+.1f} to {100 * m['high']:+.1f})"


def _suite(report: Mapping[str, Any]) -> list[str]:
    made: Row | None = report.get("suite")
    ceiling: Row | None = report.get("renders")
    out = ["## Suite", *_suite_table(made, ceiling)]
    for name in (made or ceiling or {}).get("parts", {}):
        part, real = (m.get("parts", {}).get(name) if m else None for m in (made, ceiling))
        out += [f"Vocabulary {name}:", *_suite_table(part, real)]
    return out


def _suite_table(made: Row | None, ceiling: Row | None) -> list[str]:
    tasks = (made or ceiling or {"tasks": {}})["tasks"]
    rows = []
    for task in [*tasks, "mean of the six", "all prompts"]:
        ours = made["tasks"].get(task) or made.get(task) if made else None
        real = ceiling["tasks"].get(task) or ceiling.get(task) if ceiling else None
        cells = [task, share(ours), ends(ours), str(ours["n"]) if ours else ""]
        langs = ours or {}
        gap = langs.get("zh - en") if task in tasks else (made or {}).get("zh - en") if task == "all prompts" else None
        cells += [share(langs.get("en")), share(langs.get("zh")), points(gap), share(real)]
        rows.append(cells)
    head = ["task", "share", "95% interval", "scenes", "English", "Chinese", "Chinese - English, points", "renders"]
    out = [table(head, rows)]
    if made:
        out.append(f"{made['prompts']} prompts, {made['pictures']} pictures.")
    return out


def _distances(report: Mapping[str, Any]) -> list[str]:
    d = report["distances"]
    rows = [
        [
            name,
            f"{d[name]['frechet']:.3f}",
            f"{d[name]['kernel']:.5f} ± {d[name]['kernel sd']:.5f}",
            f"{d[name]['p']:.3f}",
        ]
        for name in ("samples", "renders")
    ]
    head = [f"{d['scenes']} against as many renders", "Fréchet", "kernel", "p of no difference"]
    return ["## Distances", table(head, rows)]


def _retrieval(report: Mapping[str, Any]) -> list[str]:
    r = report["retrieval"]
    keys = ("R@1", "R@5", "R@1 image to text", "same things and place")
    rows = [
        [lang, *(both(r[lang][key]) for key in keys), f"{r[lang]['median rank']:g}"]
        for lang in ("en", "zh")
        if lang in r
    ]
    return ["## Retrieval", table([f"among {r['scenes']}", *keys, "median rank"], rows)]


def _embedding(report: Mapping[str, Any]) -> list[str]:
    e = report["embedding"]
    rows = [[name, both(e[name]["mse"], 4), both(e[name]["psnr"], 2)] for name in ("one pass", "drawn")]
    head = [f"{e['pictures']} renders from their embeddings", "mean squared error", "PSNR, dB"]
    spread = f"Spread of the renders, the error of their mean picture: {e['spread']:.4f}."
    return ["## Embedding", table(head, rows), spread]


def _prior(report: Mapping[str, Any]) -> list[str]:
    part, out = report["prior"], ["## Prior"]
    if part.get("cosines"):
        columns = ("true image", "own text", "unrelated image", "unrelated text")
        rows = [
            [name, *(both(m.get(key)) for key in columns)] for name, m in part["cosines"].items() if isinstance(m, dict)
        ]
        out.append(table(["cosine of … to", *columns], rows))
    rows = [
        [name, share(m["all prompts"]), ends(m["all prompts"]), points(m.get("gain of the prior"))]
        for name, m in part.get("ablation", {}).items()
    ]
    if rows:
        out.append(table(["what the base reads", "all prompts", "95% interval", "gain of the prior, points"], rows))
    return out


def _sweeps(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for dial, series in report["sweeps"]["dials"].items():
        for point in series:
            value = f"**{point['value']:g}**" if point["default"] else f"{point['value']:g}"
            six, every = point["mean of the six"], point["all prompts"]
            rows.append([dial, value, share(six), share(every), ends(every), f"{point['seconds']:.2f}"])
    head = ["dial", "value", "mean of the six", "all prompts", "95% interval", "seconds a picture"]
    return ["## Sweeps", table(head, rows), "The bundle's defaults are bold."]


def _upsampler(report: Mapping[str, Any]) -> list[str]:
    rows = []
    for name, part in report["upsampler"].items():
        if not isinstance(part, dict) or "gain" not in part:
            continue
        for which in (name, "lanczos"):
            m = part[which]
            shift = " ".join(f"{v:+.2f}" for v in m["shift"])
            cells = [f"{which}, {part['from']} to {part['to']}", both(m["psnr"], 2), both(m["ssim"], 4)]
            rows.append([*cells, shift, share(m["shift of a picture"], 2)])
        rows.append([f"gain of {name}", both(part["gain"]["psnr"], 2), both(part["gain"]["ssim"], 4), "", ""])
    head = ["", "PSNR, dB", "SSIM", "colour shift of the set, 1/255 (R G B)", "of a picture"]
    return ["## Upsampler", table(head, rows)]
