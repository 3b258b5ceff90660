"""Draw a picture again from its own record, and measure how far the result is from the file."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, T2IError, UnavailableError, UsageError
from t2i.jobs.device import pick_device
from t2i.jobs.edits import Edit
from t2i.jobs.engine import load_engine
from t2i.jobs.job import Job
from t2i.jobs.output_paths import OutputPaths
from t2i.jobs.replay_loading import loading_of
from t2i.jobs.replay_sources import Sources, edit_of
from t2i.jobs.reporter import Reporter, shorten
from t2i.jobs.request import DrawRequest
from t2i.jobs.settings import from_record, read_settings
from t2i.media.record import record_fault
from t2i.prompts import check_prompt, check_text

if TYPE_CHECKING:
    from PIL.Image import Image

    from t2i.store.load_options import LoadOptions
    from t2i.store.lora import Lora
    from t2i.store.models import StoredModel

HINT = "Pictures of t2i sample, vary and inpaint can be replayed; `t2i info` shows what this one says."
COMMANDS = ("sample", "vary", "inpaint")


@dataclass(frozen=True)
class Replay:
    """The result: the largest and the mean difference of the values (0 to 255), the share of values that differ, and
    whether the weights are those of the record."""

    same_weights: bool
    max_difference: int
    mean_difference: float
    differing: float

    @property
    def identical(self) -> bool:
        """Whether every pixel is the same."""
        return self.max_difference == 0

    @property
    def verdict(self) -> str:
        """ "identical", "equal" to a level of 255, as another machine or batch size draws, or "different"."""
        return "identical" if self.identical else "equal" if self.max_difference <= 1 else "different"


@dataclass(frozen=True)
class _Recorded:
    """What a record asks for. options: settings, as on the command line."""

    prompt: str
    seed: int
    loading: LoadOptions
    options: dict[str, str]
    edit: Edit


def replay(
    reporter: Reporter,
    path: Path,
    prompt: str | None,
    model: str | None,
    device: str,
    sources: Sequence[Path] = (),
    loras: Sequence[Lora] = (),
) -> Replay:
    """Draw the picture at `path` again and compare the pixels; a JPEG or WebP is compared in its own format.

    `prompt` is for a picture whose record keeps its prompt private, `model` for a model that has another name here.
    `sources`: the pictures, and the mask, that it was made from. `loras`: that it was made with, unless they were
    pulled. Raises UsageError for a list of pictures, InputError for a picture that does not say how it was made, or
    whose sources are missing.
    """
    from t2i.media.images import load_image, read_metadata, to_pil

    if path.suffix.lower() in (".jsonl", ".json"):
        raise UsageError("--replay takes a picture, not a list.", "Name one picture.")
    facts = read_metadata(path)
    record = facts["t2i"]
    old = load_image(path)
    if record is None or record.get("command") not in COMMANDS:
        raise InputError(f"{path} {_why_not(facts)}.", HINT, "image")
    asked = _read(path, record, prompt, Sources(reporter, path, sources), loras)
    stored = _model(path, record, model)
    same_weights = record.get("weights") == stored.digest
    try:
        edit = asked.edit
        plain = read_settings(stored, asked.loading, asked.options, bool(asked.prompt), edit.without)
        settings = edit.apply(plain)
    except T2IError as error:
        what = f"the model cannot do what {path} says: {error.message}"
        hint = HINT if same_weights else "It was made with other weights: name its model with --model."
        raise InputError(what, hint, "image") from error
    job = Job(asked.prompt, asked.seed, 0, 0, settings)
    if not same_weights:
        reporter.warn("the weights here are not those that the picture was made with")
    elif record.get("key") != DrawRequest(stored, OutputPaths("out", "replay").names).key(job):
        reporter.warn("the picture's record does not fit together: it was changed, or the prompt is another")
    with reporter.progress(f"replaying {path.name}") as on_step:
        engine = load_engine(stored, pick_device(device), asked.loading)
        image = to_pil(edit.draw(engine, [job], settings.request(False), on_step).images[0])
    if facts["format"] != "PNG":
        image = _recompressed(image, path, facts["format"])
    if image.size != old.size:
        sizes = [f"{size[0]}x{size[1]}" for size in (old.size, image.size)]
        raise InputError(f"{path} is {sizes[0]} and its record makes {sizes[1]}.", "It was resized.", "image")
    return Replay(same_weights, *_difference(old, image))


def _why_not(facts: dict[str, Any]) -> str:
    """Why a picture with these metadata cannot be drawn again, as what its file name is followed by."""
    if facts["t2i"] is not None:
        command = facts["t2i"].get("command")
        if isinstance(command, str) and command:
            return f"was made by t2i {shorten(command)}, which is not replayed"
        return f"has a damaged record: {record_fault(facts['t2i'])}"
    if facts["damaged"]:
        return "has a record of t2i that cannot be read"
    tool = (facts["generator"] or {}).get("tool")
    return f"was made by {tool}" if tool else "does not say how it was made"


def _recompressed(image: Image, path: Path, format_: str) -> Image:
    """The image after saving in the format of `path`: both pictures must have lost the same."""
    from PIL import Image as Pillow

    from t2i.media.image_file import FORMATS
    from t2i.media.metadata import metadata_for

    data = io.BytesIO()
    image.save(data, format_, **metadata_for(FORMATS[path.suffix.lower()], None))
    return Pillow.open(data).convert("RGB")


def _read(path: Path, record: dict[str, Any], prompt: str | None, sources: Sources, loras: Sequence[Lora]) -> _Recorded:
    """Check a record. A file may say anything."""
    fault = record_fault(record)
    if fault is not None:
        raise InputError(f"{path} has a damaged record: {fault}.", HINT, "image")
    seed, settings, text = record["seed"], record["settings"], record.get("prompt")
    if text is None and prompt is None:
        hint = 'Say it: t2i sample "…" --replay ' + str(path)
        raise InputError(f"{path} keeps its prompt to itself.", hint, "image")
    if text is not None and prompt is not None and prompt.strip() != text:
        raise UsageError("the picture says its own prompt.", "Leave the prompt out.")
    negative = record.get("negative") or ""
    said = prompt if text is None else text
    assert isinstance(said, str)
    try:
        if said or record.get("command") == "sample":  # an edit may have no prompt
            said = check_prompt(said, f"the prompt of {path}")
        options = from_record(settings, check_text(negative, f"the negative prompt of {path}"))
        edit = edit_of(str(record["command"]), settings, sources)
        sources.check_used()
        loading = loading_of(path, settings, loras)
    except ValueError as error:
        raise InputError(f"{path} has a damaged record: {error}.", HINT, "image") from error
    return _Recorded(said, seed, loading, options, edit)


def _model(path: Path, record: dict[str, Any], model: str | None) -> StoredModel:
    from t2i.store.hub_names import parse_hub_name
    from t2i.store.models import find_model

    name = model if model is not None else record.get("model")
    if not isinstance(name, str) or (model is None and ("/" in name or "\\" in name or name in ("", ".", ".."))):
        # a record may name a model, never a place on this machine
        raise InputError(f"{path} names no model.", "Name it with --model.", "image")
    try:
        return find_model(name)
    except UnavailableError as error:
        is_pulled = "@" in name and parse_hub_name(name) is not None  # the message says how to pull it
        if model is not None or is_pulled or error.code != "model":
            raise
        # what is called alike is another model: the record has the name of a folder, not its place
        what = f"{path} was made with the model {name!r}, which is not here."
        raise UnavailableError(what, "Name it with --model: its name, or the folder that it is in.", "model") from error


def _difference(a: Image, b: Image) -> tuple[int, float, float]:
    """(largest, mean, share of values that differ) between two RGB images of one size."""
    import numpy as np

    far = np.abs(np.asarray(a, dtype=np.int16) - np.asarray(b, dtype=np.int16))
    return int(far.max()), float(far.mean()), float((far > 0).mean())
