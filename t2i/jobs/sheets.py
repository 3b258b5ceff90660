"""`--grid` and the contact sheet of `--sweep`: the pictures of a run as one, made from the files that are there."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import T2IError
from t2i.jobs.job import Job
from t2i.jobs.output_paths import variants
from t2i.jobs.reporter import Reporter, shorten
from t2i.jobs.runner import Runner, RunRequest

if TYPE_CHECKING:
    from PIL import Image, ImageFont

GAP = 2  # pixels between pictures
PAD = 6  # pixels around a label
MAX_SIDE = 16_000  # pixels of a sheet's longer side; beyond it the pictures are made smaller
#: fonts with Chinese in them, as they are called where they are installed; the built-in one has none
WIDE_FONTS = ("NotoSansCJK-Regular.ttc", "NotoSansSC-Regular.otf", "wqy-microhei.ttc", "PingFang.ttc", "msyh.ttc")


def write_sheets(reporter: Reporter, request: RunRequest, jobs: Sequence[Job], drawing: Runner, grid: bool) -> None:
    """Write the sheets a run was asked for, and tell them like pictures."""
    if not drawing.paths:
        return  # every picture failed, which is told elsewhere
    if jobs[0].label:
        _write(reporter, request, jobs, drawing, "sweep", *_labelled(jobs))
    if grid:
        columns = math.isqrt(len(jobs) - 1) + 1
        rows = [list(jobs[i : i + columns]) for i in range(0, len(jobs), columns)]
        _write(reporter, request, jobs, drawing, "grid", rows, [], [])


def _labelled(jobs: Sequence[Job]) -> tuple[list[list[Job]], list[str], list[str]]:
    """A row for each prompt, seed and value of the slower dials, a column for each value of the fastest."""
    rows: dict[tuple[str, int, tuple[str, ...], int], list[Job]] = {}
    again: dict[tuple[Any, ...], int] = {}
    for job in jobs:  # a prompt may come twice with the same seed
        times = again[job.prompt, job.seed, job.label] = again.get((job.prompt, job.seed, job.label), -1) + 1
        rows.setdefault((job.prompt, job.seed, job.label[:-1], times), []).append(job)
    prompts = list(dict.fromkeys(prompt for prompt, _, _, _ in rows))
    # a prompt that cannot be written here is numbered
    can_write = _font("".join(shorten(prompt, 40) for prompt in prompts), 12)[1]
    left = []
    for prompt, seed, label, _ in rows:
        name = shorten(prompt, 40) if can_write or prompt.isascii() else f"prompt {prompts.index(prompt) + 1}"
        words = [name] if len(prompts) > 1 or len(rows) == 1 else []
        left.append("\n".join([*words, f"seed {seed}", *label]))
    top = [job.label[-1] for job in next(iter(rows.values()))]
    return list(rows.values()), left, top


def _write(
    reporter: Reporter,
    request: RunRequest,
    jobs: Sequence[Job],
    drawing: Runner,
    kind: str,
    rows: list[list[Job]],
    left: list[str],
    top: list[str],
) -> None:
    from t2i.media.images import read_metadata, save_image

    # the sheet is named by what is on it: the same pictures make the same sheet
    keys = [request.key(job) for job in jobs]
    key = hashlib.sha256("\n".join([kind, *keys]).encode()).hexdigest()[:32]
    first = request.names.path(jobs[0])
    record = replace(request.record(jobs[0]), key=f"{key}.{kind}", command=f"sample --{kind}", cut=None)
    for path in variants(first.with_name(f"{kind}-{key[:8]}.png")):
        try:
            if path.exists() and not request.overwrite:
                if (read_metadata(path)["t2i"] or {}).get("key") == record.key:
                    break
                continue
        except T2IError:
            continue
        image = _sheet([[drawing.paths.get(job.index) for job in row] for row in rows], left, top)
        save_image(image, path, replace(record, size=image.size), exclusive=not request.overwrite)
        break
    reporter.sheet(path, {"sheet": kind, "key": record.key, "of": len(jobs)})


def _sheet(rows: list[list[Path | None]], left: list[str], top: list[str]) -> Image.Image:
    """The pictures in rows, labels at the left and on top; a picture that failed stays grey."""
    from PIL import Image, ImageDraw

    from t2i.media.images import load_image

    first = next(path for row in rows for path in row if path is not None)
    sizes = [load_image(path).size for path in _one_a_column(rows)] or [load_image(first).size]
    side = max(max(size) for size in sizes)
    across, down = max(map(len, rows)), len(rows)
    side = max(16, min(side, MAX_SIDE // max(across, down) - GAP))
    font, _ = _font("".join(left + top), max(11, side // 14))
    measure = ImageDraw.Draw(Image.new("RGB", (1, 1)))

    def extent(text: str) -> tuple[int, int]:
        box = measure.multiline_textbbox((0, 0), text, font=font)
        return math.ceil(box[2]) + 2 * PAD, math.ceil(box[3]) + 2 * PAD

    label_width = max((extent(text)[0] for text in left), default=0)
    label_height = max((extent(text)[1] for text in top), default=0)
    column = max([side, *(extent(text)[0] for text in top)])
    line = max([side, *(extent(text)[1] for text in left)])
    width, height = label_width + across * (column + GAP) - GAP, label_height + down * (line + GAP) - GAP
    sheet = Image.new("RGB", (width, height), "white")
    pen = ImageDraw.Draw(sheet)
    for x, text in enumerate(top):
        pen.multiline_text((label_width + x * (column + GAP) + PAD, PAD), text, "black", font)
    for y, row in enumerate(rows):
        if left:
            pen.multiline_text((PAD, label_height + y * (line + GAP) + PAD), left[y], "black", font)
        for x, path in enumerate(row):
            corner = label_width + x * (column + GAP), label_height + y * (line + GAP)
            picture = Image.new("RGB", (side, side), "lightgrey") if path is None else load_image(path)
            if max(picture.size) > side:
                picture.thumbnail((side, side), Image.Resampling.LANCZOS)
            sheet.paste(picture, corner)
    return sheet


def _one_a_column(rows: list[list[Path | None]]) -> list[Path]:
    """A picture of each column: a sweep may have one size in each."""
    return [path for path in (rows[0] if len(rows[0]) <= 64 else rows[0][:1]) if path is not None]


def _font(text: str, size: int) -> tuple[ImageFont.FreeTypeFont | ImageFont.ImageFont, bool]:
    """A font for ``text``, and whether it has all its characters: Pillow's own, or one for Chinese where the machine
    has it."""
    from PIL import ImageFont

    plain = ImageFont.load_default(size)
    if _shows(plain, text):
        return plain, True
    for name in WIDE_FONTS:
        try:
            font = ImageFont.truetype(name, size)
        except OSError:
            continue
        if _shows(font, text):
            return font, True
    return plain, False


def _shows(font: ImageFont.FreeTypeFont | ImageFont.ImageFont, text: str) -> bool:
    """Whether no character comes out as the box that stands for a missing one."""
    missing = bytes(font.getmask("\uffff"))
    return all(c.isascii() or c.isspace() or bytes(font.getmask(c)) != missing for c in set(text))
