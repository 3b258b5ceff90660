"""`t2i find`: is it in the picture, where, and which pixels are it; or which of several words fits a picture."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from glob import has_magic
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

import typer

from t2i.cli import options as opt
from t2i.cli.panels import Panel
from t2i.cli.ui import UI
from t2i.errors import GateError, InputError, T2IError, UsageError
from t2i.jobs.device import check_device
from t2i.jobs.output_paths import SUFFIXES
from t2i.prompts import check_prompt

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.score.extractors import Extractor

T = TypeVar("T")

EPILOG = """Examples:

\b
  t2i find cat.png "the cat"                   # yes or no, and its box
  t2i find cat.png "a red car and a dog" --json
  t2i find cat.png 猫 --mask cat-mask.png       # white where it is
  t2i find out/ "the cat" --mask masks/        # a mask for each picture
  t2i find out/ "a cat" --check                # exit 1 unless it is in all
  t2i find out/ --labels "cat,dog,bear"        # which of these fits best?
  t2i find photo.jpg --labels "a dog,a bear" --extractor open_clip:ViT-B-32 \\
      --weights b32.safetensors
"""


def find(
    ctx: typer.Context,
    pictures: Annotated[
        list[str],
        typer.Argument(metavar="PICTURES… TEXT", help="Files, folders, patterns; last, what to look for."),
    ],
    mask: Annotated[
        Path | None,
        typer.Option(metavar="FILE.png|DIR", help="Write where it is: white. A folder for several pictures."),
    ] = None,
    check: Annotated[
        bool, typer.Option("--check", help="A gate: exit 1 unless every picture shows it.", rich_help_panel=Panel.GATE)
    ] = False,
    labels: Annotated[
        str | None,
        typer.Option(
            metavar="A,B,…",
            help="In place of TEXT: which of these fits best; numbers are shares among them.",
            rich_help_panel=Panel.METRICS,
        ),
    ] = None,
    extractor: opt.Extractor = "clip",
    weights: opt.ExtractorWeights = None,
    sha256: opt.ExtractorHash = None,
    model: opt.Model = "small",
    overwrite: opt.Overwrite = False,
    strict: opt.FirstFrame = False,
    device: opt.Device = "auto",
    offline: opt.Offline = False,
    json: opt.Json = False,
    quiet: opt.Quiet = False,
    debug: opt.Debug = False,
) -> None:
    """Look for something in pictures: whether it is there, its box and its pixels.

    TEXT names one thing or several, as in "the red car and the dog": found are pictures that show all of them. "cats"
    are two or more, and "in the snow" asks for that place. The judge finds the 378 things of the drawn world; "no cat"
    and "two cats" are refused, and words that it does not heed are told. Other words are looked for by the maps of the
    model, which show what stands out and cannot tell whether it is there. Each picture is a line of a table, or a
    record.
    """
    ui: UI = ctx.obj
    check_device(device)
    opt.environment(offline, False, device)
    if labels is not None:
        last = pictures[-1]
        if len(pictures) > 1 and not (os.path.exists(last) or Path(last).suffix or has_magic(last)):
            what = f"--labels stands in place of TEXT, and {last!r} is no picture."
            raise UsageError(what, "Leave one of them out.")
        opt.check_alone(
            ctx, "--labels", "labels", "pictures", "extractor", "weights", "sha256", "strict", "device", "offline",
            "json", "quiet", "debug",
        )  # fmt: skip
        _classify(ui, pictures, labels, extractor, weights, sha256, device, strict)
        return
    for name in ("extractor", "weights", "sha256"):
        if opt.is_given(ctx, name):
            raise UsageError(f"--{name} is about --labels.", f"Give --labels a,b, or leave --{name} out.")
    if overwrite and mask is None:
        raise UsageError("--overwrite is about --mask.", "Say --mask FILE.png, or leave it out.")
    *places, text = pictures
    if not places:
        is_file = Path(text).exists()
        what = "there is nothing to look for." if is_file else "there is no picture."
        raise UsageError(what, 'Write t2i find cat.png "the cat"')
    if Path(text).is_file() and Path(text).suffix.lower() in SUFFIXES:
        raise UsageError(f"{text!r} is a picture; there is nothing to look for.", 'Write "the cat" last.')
    asked = model if opt.is_given(ctx, "model") else None
    _find(ui, places, check_prompt(text, "what to look for"), mask, overwrite, check, asked, device, strict)


def _find(
    ui: UI, places: list[str], text: str, mask: Path | None, overwrite: bool, check: bool, model: str | None,
    device: str, strict: bool,
) -> None:  # fmt: skip
    """Raises GateError under --check where a picture does not show it."""
    from t2i.jobs.find import FindRun, mask_files
    from t2i.jobs.inputs import expand_paths

    files = expand_paths(places)
    masks = mask_files(mask, files)
    run = FindRun(ui, text, model, device, strict)
    if check and not run.finder.knows:
        what = f"--check: {text!r} names nothing that can be told to be there or not."
        raise UsageError(what, run.hint)
    rows: list[list[str]] = []
    missing: list[Path] = []
    for (path, _), file in zip(files, masks, strict=True):
        record = _told(ui, len(files), partial(run.look, path, file, overwrite))
        if record is None:
            continue
        if record["found"] is False:
            missing.append(path)
        if ui.json:
            ui.picture(path, record)
        else:
            rows += _rows(path, record)
    if rows:
        ui.table(text, ["picture", "found", "thing", "score", "box", "mask"], rows)
    run.close()
    if check and missing:
        shown = f"{missing[0]}" if len(missing) == 1 else f"{len(missing)} of {len(files)} pictures, first {missing[0]}"
        raise GateError(
            f"{text!r} was not found in {shown}.", "Without --check the pictures are told, and nothing fails."
        )
    if ui.failed:
        raise InputError(f"{ui.failed} of {len(files)} pictures could not be read.", "See above.", "partial")


def _told(ui: UI, files: int, look: Callable[[], T]) -> T | None:
    """What `look` finds in one of so many pictures; None where it fails, which is told. Raises the T2IError of a lone
    picture."""
    try:
        return look()
    except T2IError as error:
        if files == 1:
            raise
        ui.failed += 1
        ui.fail(error)
        return None


def _rows(path: Path, record: dict[str, Any]) -> list[list[str]]:
    """A row for each thing that was found, or one that says that nothing was."""
    said = {True: "yes", False: "no", None: "unknown"}[record["found"]]
    mask = record["mask"] or ""
    things = [(t["name"], f"{t['score']:.2f}", ",".join(map(str, t["box"]))) for t in record["things"]]
    return [[str(path), said, *thing, mask] for thing in things or [("", "", "")]]


def _classify(
    ui: UI, places: list[str], labels: str, extractor: str, weights: Path | None, sha256: str | None, device: str,
    strict: bool,
) -> None:  # fmt: skip
    from t2i.jobs.device import pick_device
    from t2i.jobs.inputs import expand_paths, read_source
    from t2i.score.extractor_options import check_extractor
    from t2i.score.labels import label_pictures, label_warnings, read_labels

    texts = read_labels(labels)
    check_extractor(extractor, weights, sha256)
    paths = [path for path, _ in expand_paths(places)]

    def read(path: Path) -> Image | None:
        return _told(ui, len(paths), lambda: read_source(ui, path, strict).image)

    def load() -> Extractor:
        from t2i.score.extractors import load_extractor

        loaded = load_extractor(extractor, weights, sha256, pick_device(device))
        for warning in label_warnings(loaded, texts):
            ui.warn(warning)
        return loaded

    rows = []
    for path, chances in label_pictures(load, paths, texts, read):
        best = max(chances, key=lambda label: chances[label])
        rounded = {label: round(p, 4) for label, p in chances.items()}
        if ui.json:
            ui.picture(path, {"label": best, "probability": rounded[best], "probabilities": rounded})
        else:
            rows.append([str(path), best, f"{chances[best]:.2f}"])
    if rows:
        ui.table("labels", ["picture", "label", "share"], rows)
        ui.note("The number is the label's share among these labels: they sum to 1, whether or not one of them fits.")
    if ui.failed:
        raise InputError(f"{ui.failed} of {len(paths)} pictures could not be read.", "See above.", "partial")
