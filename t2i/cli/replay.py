"""`t2i sample --replay IMAGE`: draw a picture again from its own record, and say how far off it came out."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.cli import options as opt
from t2i.cli.dials import from_record, read_dials
from t2i.cli.draw import Request
from t2i.cli.jobs import Job, Names
from t2i.cli.like import Wish
from t2i.cli.ui import UI
from t2i.errors import InputError, T2IError, UsageError
from t2i.prompts import MAX_SEED, check_prompt, check_text

if TYPE_CHECKING:
    from t2i.store.bundle import Bundle

HINT = "Only pictures of `t2i sample` can be replayed; `t2i info` shows what this one says."


def replay(ui: UI, path: Path, prompt: str | None, model: str | None, device: str) -> None:
    """Draw the picture at ``path`` again and tell whether its pixels are the same.

    A JPEG or WebP is compared with the new picture in the same format. ``prompt`` is for a picture that keeps its
    own to itself, ``model`` for one whose model has another name here.  Raises InputError for a picture that does
    not say how it was made.
    """
    from t2i.media.images import FORMATS, load_image, read_metadata, to_pil
    from t2i.media.record import save_options
    from t2i.pipeline import Pipeline

    if path.suffix.lower() in (".jsonl", ".json"):
        raise UsageError("--replay takes a picture, not a list.", "Name a picture that `t2i sample` drew.")
    facts = read_metadata(path)
    record = facts["t2i"]
    old = load_image(path)
    if record is None or record.get("command") != "sample":
        tool = (facts["generator"] or {}).get("tool")
        whose = f"was made by {tool}" if tool else "does not say how `t2i sample` made it"
        raise InputError(f"{path} {whose}.", HINT, "image")
    words, seed, text, dtype, wish = _read(path, record, prompt)
    bundle = _bundle(path, record, model)
    try:
        dials = wish.dials(read_dials(bundle, dtype, words))
    except T2IError as error:
        raise InputError(f"the model cannot do what {path} says: {error.message}", HINT, "image") from error
    job = Job(text, seed, 0, 0, dials)
    request = Request(bundle, Names("out", "replay"))
    same_weights = record.get("weights") == bundle.digest
    if not same_weights:
        ui.warn("the weights here are not those that the picture was made with")
    elif record.get("key") != request.key(job):
        ui.warn("the picture's record does not fit together: it was changed, or the prompt is another")
    with ui.progress(f"replaying {path.name}") as on_step:
        pipeline = Pipeline.load(bundle.path, device=opt.pick_device(device), dtype=dtype)
        image = to_pil(wish.paint(pipeline, [job], dials.engine(False), on_step).images[0])
    if facts["format"] != "PNG":  # what the format loses is lost by both
        data = io.BytesIO()
        image.save(data, facts["format"], **save_options(FORMATS[path.suffix.lower()], None))
        from PIL import Image

        image = Image.open(data).convert("RGB")
    if image.size != old.size:
        sizes = [f"{size[0]}x{size[1]}" for size in (old.size, image.size)]
        raise InputError(f"{path} is {sizes[0]} and its record makes {sizes[1]}.", "It was resized.", "image")
    most, mean, share = _difference(old, image)
    table = {"replayed": str(path), "identical": most == 0, "same_weights": same_weights}
    if ui.json:
        ui.record({**table, "max_difference": most, "mean_difference": round(mean, 4), "differing": round(share, 6)})
    elif most == 0:
        ui.line(f"{path}: identical")
    else:
        ui.line(f"{path}: differs by {mean:.2f} of 255 on average, by {most} at most, in {share:.1%} of its values")


def _read(path: Path, record: dict[str, Any], prompt: str | None) -> tuple[dict[str, str], int, str, str, Wish]:
    """(dials in words, seed, prompt, dtype, what else was asked for) of a record. A file may say anything."""
    seed, settings = record.get("seed"), record.get("settings")
    text = record.get("prompt")
    if text is None and prompt is None:
        hint = 'Say it: t2i sample "…" --replay ' + str(path)
        raise InputError(f"{path} keeps its prompt to itself.", hint, "image")
    if text is not None and prompt is not None and prompt.strip() != text:
        raise UsageError("the picture says its own prompt.", "Leave the prompt out.")
    negative, dtype = record.get("negative") or "", isinstance(settings, dict) and settings.get("dtype")
    try:
        if type(seed) is not int or not 0 <= seed <= MAX_SEED or not isinstance(settings, dict):
            raise ValueError("no seed")
        wish = Wish.of_record(path, settings)
        if dtype not in opt.DTYPES or not isinstance(negative, str) or not isinstance(text or prompt, str):
            raise ValueError("no settings")
        text = check_prompt(text if text is not None else str(prompt), f"the prompt of {path}")
        words = from_record(settings, check_text(negative, f"the negative prompt of {path}"))
    except ValueError as error:
        raise InputError(f"{path} does not say how it was made.", HINT, "image") from error
    return words, seed, text, str(dtype), wish


def _bundle(path: Path, record: dict[str, Any], model: str | None) -> Bundle:
    from t2i.store.bundle import read_bundle
    from t2i.store.registry import resolve

    name = model if model is not None else record.get("model")
    if not isinstance(name, str) or (model is None and ("/" in name or "\\" in name or name in ("", ".", ".."))):
        raise InputError(f"{path} names no model.", "Name it with --model.", "image")  # a name, never a place
    return read_bundle(resolve(name))


def _difference(a: Any, b: Any) -> tuple[int, float, float]:
    """(largest, mean, share of values that differ) between two RGB images of one size."""
    import numpy as np

    far = np.abs(np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16))
    return int(far.max()), float(far.mean()), float((far > 0).mean())
