"""What a text names, looked for in pictures: is it there, where, which pixels. For `t2i find` and `--mask-text`."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import UsageError, nearest
from t2i.jobs.device import pick_device
from t2i.jobs.engine import bundle_pipeline, load_engine
from t2i.jobs.inputs import read_source
from t2i.jobs.masks import write_mask
from t2i.jobs.output_paths import OTHERS, SUFFIXES, check_file, check_inputs_kept, check_writable, variants
from t2i.jobs.reporter import Reporter, shorten
from t2i.sampling import given
from t2i.store.load_options import LoadOptions
from t2i.store.models import find_model
from t2i.store.registry import DEFAULT

if TYPE_CHECKING:
    from torch import Tensor

    from t2i.edit.things import FoundThings, PlacedThing
    from t2i.engine import Engine

MAX_SHARE = 0.9
"""The largest share of a picture that a text may be found on: what is everywhere was not found."""

GUESS = "what stands out is taken for it"


@dataclass(frozen=True)
class Found:
    """What was found in one picture.

    there: whether what the text names is there; None where nothing can tell, and the mask shows what stands out. mask:
    (1, H, W) of 0 and 1, all 0 where nothing was found. named: the things that the text names; seen: all things; place:
    its key, where a judge looked; in words: what the picture shows instead.
    """

    there: bool | None
    mask: Tensor
    named: tuple[PlacedThing, ...]
    seen: tuple[PlacedThing, ...]
    words: str
    place: str | None = None

    @property
    def usable(self) -> bool:
        """Whether the mask covers something, and not everything."""
        return 0 < float(self.mask.mean()) < MAX_SHARE


class Finder:
    """Looks for one text in pictures: by the judge where the text names things that it knows, else by the maps of a
    model.

    option: what warnings name. hint: said with a guess. whole: whether a plural and a place are asked for too; else any
    of the things will do, wherever it is. Says which words are not heeded. Imports no torch until it looks. Raises
    UnavailableError where the judge is not installed, UsageError for a text that holds no word, that says what is not
    there, or, with `whole`, how many there are.
    """

    def __init__(self, reporter: Reporter, text: str, option: str = "", hint: str = "", whole: bool = False) -> None:
        from t2i.edit.naming import asked_by, negation, number, shipped_knowledge

        if not any(unicodedata.category(c)[0] in "LNS" for c in text):
            raise UsageError(f"{option}{shorten(text)!r} holds no word.", "Name a thing, as in the cat.")
        self.text, self.known = text, shipped_knowledge()
        asked = asked_by(text, self.known)
        self.asked = asked if whole else asked.things_alone()
        if self.knows and (word := negation(text)):
            what = f"{option}{shorten(text)!r} says {word!r}, and only what is there can be looked for."
            raise UsageError(what, "Name the thing alone; with --check, t2i find exits 1 where it is not there.")
        if whole and self.knows and (word := number(text)):
            what = f"{shorten(text)!r} says {word!r}, and things are looked for, not counted."
            hint = "Leave the number out: cats are two or more. --json lists all that are found, as things."
            raise UsageError(what, hint)
        if self.knows and asked.more:
            unheeded = " and ".join(repr(shorten(words)) for words in asked.more)
            reporter.warn(f"{option}{unheeded} is not heeded; looked for: {self.asked.words}")
        elif self.knows and not self.asked.is_plain:
            reporter.note(f"looked for: {self.asked.words}")
        self._reporter, self._option, self._hint = reporter, option, hint
        self._warned = set[str]()

    @property
    def knows(self) -> bool:
        """Whether the text names things that the judge knows, so that it can tell whether they are there."""
        return bool(self.asked.named)

    @property
    def known_names(self) -> list[str]:
        """What the judge can find, in English."""
        from t2i.edit.naming import english_names

        return english_names(self.known.things)

    @cached_property
    def _things_mask(self) -> Callable[..., FoundThings]:
        """See `edit.things.things_mask`; by the judge that comes with the models."""
        from t2i.edit.things import shipped_judge, things_mask

        return partial(things_mask, shipped_judge())

    def look(self, image: Tensor, engine: Callable[[], Engine], **options: Any) -> Found:
        """Look in `image` (3, H, W) in [-1, 1]. engine: loads the model, called only where it is needed. options: of
        `edit.things.things_mask`."""
        if self.knows:
            seen = self._things_mask(image, self.asked, **options)
            return Found(bool(seen.named), seen.mask, seen.named, seen.seen, seen.words, seen.place)
        from t2i.edit.textmask import text_mask

        pipeline = bundle_pipeline(engine())
        mask = text_mask(pipeline, image, self.text, **options)
        found = Found(None, mask, (), (), "it seems to be everywhere" if bool(mask.any()) else "nothing stands out")
        self._warn(pipeline.words.unknown(self.text), f"{GUESS}{self._hint}" if found.usable else found.words)
        return found

    def _warn(self, unknown: list[str], outcome: str) -> None:
        """Say once of each outcome that it is a guess, and once which words the model does not know."""
        told = [f"the model has never read {shorten(word)!r}" for word in unknown]
        for what in (*told, f"{shorten(self.text)!r} names no thing that can be told from others; {outcome}"):
            if what not in self._warned:
                self._warned.add(what)
                self._reporter.warn(self._option + what)


class FindRun:
    """`t2i find`: one text, one picture after the other; what is found as records of `--json`.

    model: its name, or None for the usual one, which is looked up for words that the judge does not know; loaded only
    for these. Raises UsageError for a text that says what is not there, or how many there are, and for a model that has
    no maps, UnavailableError for one that is not here.
    """

    def __init__(self, reporter: Reporter, text: str, model: str | None, device: str, strict: bool) -> None:
        self.reporter, self.strict, self.text, self._device = reporter, strict, text, device
        self._engine: Engine | None = None
        self.finder = Finder(reporter, text, whole=True)
        self._stored = None if model is None and self.finder.knows else find_model(given(model, DEFAULT))
        if self._stored is not None:
            self._stored.check_can("--mask-text")
        self._looked = self._foreign = 0

    @property
    def hint(self) -> str:
        """What to write in place of a text that names nothing the judge knows."""
        words = self.text.lower().split()
        near = nearest(words[-1] if words else "", self.finder.known_names, 1)
        return f"Did you mean {near[0]}?" if near else "Name a thing of the drawn world, as in the cat."

    def look(self, path: Path, mask: Path | None, overwrite: bool = False) -> dict[str, Any]:
        """The record of a picture. mask: where its mask is written, if something is found, or beside what is there
        unless `overwrite`.

        Raises InputError for a file that is no picture or a mask that cannot be written.
        """
        source = read_source(self.reporter, path, self.strict)
        self._looked += 1
        if not (source.tags.get("t2i") or {}).get("key"):
            self._foreign += 1
        found = self.finder.look(source.tensor, self._load)
        saved = None
        if mask is not None and found.usable:
            saved = write_mask(found.mask, mask, overwrite)
            if saved != mask:
                self.reporter.note(f"{mask} is taken: the mask is {saved}")
        if found.there is False:
            self.reporter.note(f"{shorten(str(path))}: {found.words}")
        return {
            "text": self.text,
            "found": found.there,
            "things": [_table(thing) for thing in found.named],
            "seen": [_table(thing) for thing in found.seen],
            "place": found.place,
            "share": round(float(found.mask.mean()), 4) if found.usable else 0.0,
            "mask": str(saved) if saved is not None else None,
        }

    def close(self) -> None:
        """Say where the judge was asked about pictures that it cannot be sure of."""
        if self._foreign and self.finder.knows:
            what = f"{self._foreign} of {self._looked} pictures" if self._looked > 1 else "the picture"
            has = "have" if self._foreign > 1 else "has"
            self.reporter.warn(f"{what} {has} no record of t2i; the judge knows its drawings, others it guesses at")

    def _load(self) -> Engine:
        if self._engine is None:
            assert self._stored is not None, "only words that the judge does not know need a model"
            self._engine = load_engine(self._stored, pick_device(self._device), LoadOptions())
        return self._engine


def _table(thing: PlacedThing) -> dict[str, Any]:
    return {**asdict(thing), "score": round(thing.score, 4), "box": list(thing.box)}


def mask_files(place: Path | None, files: Sequence[tuple[Path, Path]]) -> list[Path | None]:
    """The mask's file of each picture: `place` itself, or below it as the pictures are.

    files: (picture, its path relative to the folder it was found in). Raises UsageError for one file where there are
    several pictures, for another format than PNG and for a mask in the place of a picture, InputError (code
    `output`) for a place that cannot be written.
    """
    if place is None:
        return [None] * len(files)
    if place.suffix.lower() == ".png" and not place.is_dir():
        if len(files) > 1:
            raise UsageError(f"--mask {place} is one file, and there are {len(files)} pictures.", "Write --mask masks/")
        check_file("--mask", place)
        masks = [place]
    elif place.suffix.lower() in (*SUFFIXES, *OTHERS) and not place.is_dir():
        raise UsageError(f"--mask {place} is not a PNG file, which keeps every pixel.", "Write --mask mask.png")
    else:
        check_writable(place)
        masks, taken = [], set[Path]()
        for _, below in files:
            masks.append(next(p for p in variants(place / below.with_suffix(".png")) if p not in taken))
            taken.add(masks[-1])
    check_inputs_kept([("--mask", mask) for mask in masks], [path for path, _ in files])
    return list(masks)
