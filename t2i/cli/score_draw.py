"""The pictures of a suite: drawn where they are not there yet, so that the same command resumes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from t2i.batching import in_halves
from t2i.cli.ui import UI
from t2i.errors import InputError, T2IError
from t2i.files import explain_os_error
from t2i.jobs.device import pick_device
from t2i.jobs.job import content_key
from t2i.jobs.output_paths import slug
from t2i.jobs.reporter import shorten
from t2i.jobs.settings import read_dials

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.media.record import Record
    from t2i.pipeline import Samples
    from t2i.score.picture_files import PictureFile
    from t2i.score.suite import SuitePrompt
    from t2i.store.bundle import Bundle

MOST_WORDS = 8  # unknown words that are told one by one
SLUG = 60  # characters of a prompt in a file name


@dataclass(frozen=True)
class Order:
    """What to draw: n pictures of each prompt, picture i with the seed ``seed`` + i. words: dials as a user says
    them."""

    bundle: Bundle
    prompts: Sequence[SuitePrompt]
    n: int
    seed: int
    words: dict[str, str]
    folder: Path
    batch: int = 16
    device: str = "auto"


def draw_suite(ui: UI, order: Order) -> list[PictureFile]:
    """The pictures of a suite in its order, with their prompts; those that are there are not drawn again.

    Raises InputError where a picture cannot be written.
    """
    from t2i.score.picture_files import PictureFile

    dials = read_dials(order.bundle, "float32", order.words)
    out: list[PictureFile] = []
    todo: list[tuple[Path, Record]] = []
    for prompt in order.prompts:
        for seed in range(order.seed, order.seed + order.n):
            record = _record(order, prompt.text, seed, dials.negative, dials.size, dials.settings)
            name = f"{slug(prompt.text)[:SLUG].strip('-')}-{seed}-{record.key[:10]}.png"
            path = order.folder / name
            out.append(PictureFile(path, name, prompt.text, seed, record.key, order.bundle.digest))
            if not _is_there(path, record.key):
                todo.append((path, record))
    if not todo:
        return out
    from t2i.media.images import save_image, to_pil
    from t2i.pipeline import Pipeline

    try:
        order.folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        what = f"cannot make the folder {order.folder}: {explain_os_error(error)}."
        raise InputError(what, "Choose another with -o.", "output") from error
    if len(todo) < len(out):
        ui.note(f"{len(out) - len(todo)} of {len(out)} pictures are there already")
    device = pick_device(order.device)
    pipeline = Pipeline.load(order.bundle.path, device=device)
    unread = _Unread()
    for start in range(0, len(todo), order.batch):
        part = todo[start : start + order.batch]
        with ui.progress(f"pictures {start + 1}-{start + len(part)} of {len(todo)}", start, len(todo)) as on_step:

            def draw(some: list[tuple[Path, Record]]) -> Tensor:
                texts, seeds = [r.prompt for _, r in some], [r.seed for _, r in some]
                samples = pipeline.sample(texts, seeds, dials.engine(False), on_step=on_step)
                unread.note(texts, samples)
                return samples.images

            for some, images in in_halves(draw, part):
                for (path, record), pixels in zip(some, images, strict=True):
                    save_image(to_pil(pixels), path, record)
    for warning in unread.sentences():
        ui.warn(warning)
    return out


@dataclass
class _Unread:
    """What of the prompts the model did not read: ends that were cut off, and words it never met."""

    cut: dict[str, str] = field(default_factory=dict)
    words: dict[str, None] = field(default_factory=dict)

    def note(self, texts: Sequence[str], samples: Samples) -> None:
        for text, cut, unknown in zip(texts, samples.truncated, samples.unknown, strict=True):
            if cut:
                self.cut[text] = cut
            self.words |= dict.fromkeys(unknown)

    def sentences(self) -> list[str]:
        out = []
        if self.cut:
            text, cut = next(iter(self.cut.items()))
            n = len(self.cut)
            many = f"{n} prompts are" if n > 1 else "a prompt is"
            out.append(f"{many} longer than the model reads; of “{shorten(text)}” it did not see “{shorten(cut)}”")
        if self.words:
            some = list(self.words)
            more = f" and {len(some) - MOST_WORDS} other words" if len(some) > MOST_WORDS else ""
            out.append(f"the model has never read {', '.join(repr(shorten(w)) for w in some[:MOST_WORDS])}{more}")
        return out


def _record(order: Order, prompt: str, seed: int, negative: str, size: int, settings: dict[str, object]) -> Record:
    from t2i.media.record import Record

    digest = order.bundle.digest
    return Record(
        key=content_key(digest, prompt, negative, seed, settings),
        command="score",
        prompt=prompt,
        seed=seed,
        model=order.bundle.manifest.name,
        weights=digest,
        size=(size, size),
        settings=settings,
        negative=negative,
    )


def _is_there(path: Path, key: str) -> bool:
    from t2i.media.images import read_metadata

    try:
        record = read_metadata(path)["t2i"] if path.exists() else None
    except T2IError:
        return False
    return record is not None and record.get("key") == key
