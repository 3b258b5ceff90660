"""`--grid` and the sheet of `--sweep`: the pictures of a run on one, read from their files."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import T2IError
from t2i.jobs.job import Job
from t2i.jobs.output_paths import variants
from t2i.jobs.reporter import Reporter, shorten
from t2i.jobs.request import DrawRequest
from t2i.jobs.runner import Runner

if TYPE_CHECKING:
    from PIL import Image

MAX_SIDE = 16_000  # pixels of a sheet's longer side; beyond it the pictures are made smaller


def write_sheets(
    reporter: Reporter, request: DrawRequest, jobs: Sequence[Job], runner: Runner[Job], grid: bool
) -> None:
    """Write the sheet of a sweep, and with `grid` that of all pictures, and report them."""
    if not runner.paths:
        return  # every picture failed; `Runner.finish` says so
    if jobs[0].label:
        _write(reporter, request, jobs, runner, "sweep", *_labelled(jobs))
    if grid:
        from t2i.media.sheet import in_rows

        _write(reporter, request, jobs, runner, "grid", in_rows(jobs), [], [])


def _labelled(jobs: Sequence[Job]) -> tuple[list[list[Job]], list[str], list[str]]:
    """Rows, their labels, and the labels of the columns.

    A row is a prompt, a seed and a value of each slower axis; a column is a value of the fastest axis.
    """
    from t2i.media.fonts import find_font

    rows: dict[tuple[str, int, tuple[str, ...], int], list[Job]] = {}
    again: dict[tuple[Any, ...], int] = {}
    for job in jobs:  # a prompt may come twice with the same seed
        times = again[job.prompt, job.seed, job.label] = again.get((job.prompt, job.seed, job.label), -1) + 1
        rows.setdefault((job.prompt, job.seed, job.label[:-1], times), []).append(job)
    prompts = list(dict.fromkeys(prompt for prompt, _, _, _ in rows))
    # a prompt that no font here can write is numbered
    can_write = find_font("".join(shorten(prompt, 40) for prompt in prompts)).complete
    left = []
    for prompt, seed, label, _ in rows:
        name = shorten(prompt, 40) if can_write or prompt.isascii() else f"prompt {prompts.index(prompt) + 1}"
        words = [name] if len(prompts) > 1 or len(rows) == 1 else []
        left.append("\n".join([*words, f"seed {seed}", *label]))
    top = [job.label[-1] for job in next(iter(rows.values()))]
    return list(rows.values()), left, top


def _write(
    reporter: Reporter,
    request: DrawRequest,
    jobs: Sequence[Job],
    runner: Runner[Job],
    kind: str,
    rows: list[list[Job]],
    left: list[str],
    top: list[str],
) -> None:
    from t2i.media.image_file import ImageFile
    from t2i.media.images import save_image

    # named by the pictures on it: the same pictures make the same sheet
    keys = [request.key(job) for job in jobs]
    key = hashlib.sha256("\n".join([kind, *keys]).encode()).hexdigest()[:32]
    first = request.names(jobs[0])[0]
    record = replace(request.record(jobs[0]), key=f"{key}.{kind}", command=f"{request.command} --{kind}", cut=None)
    for path in variants(first.with_name(f"{kind}-{key[:8]}.png")):
        try:
            if path.exists() and not request.overwrite:
                file = ImageFile.read(path)
                if (file.metadata()["t2i"] or {}).get("key") == record.key and file.is_intact():
                    break
                continue
        except T2IError:
            continue
        image = _sheet([[runner.paths.get(job.index) for job in row] for row in rows], left, top)
        save_image(image, path, replace(record, size=image.size), exclusive=not request.overwrite)
        break
    reporter.sheet(path, {"sheet": kind, "key": record.key, "of": len(jobs)})


def _sheet(rows: list[list[Path | None]], left: list[str], top: list[str]) -> Image.Image:
    """The pictures in square cells of one size, with labels; a picture that failed is a grey cell."""
    from t2i.media.images import load_image
    from t2i.media.sheet import GAP, contact_sheet

    first = next(path for row in rows for path in row if path is not None)
    sizes = [load_image(path).size for path in _one_a_column(rows)] or [load_image(first).size]
    most = max(len(rows), *map(len, rows))
    side = max(16, min(max(map(max, sizes)), MAX_SIDE // most - GAP))
    return contact_sheet(rows, left=left, top=top, cell=(side, side))


def _one_a_column(rows: list[list[Path | None]]) -> list[Path]:
    """A picture of each column: a sweep over sizes has one in each."""
    return [path for path in (rows[0] if len(rows[0]) <= 64 else rows[0][:1]) if path is not None]
