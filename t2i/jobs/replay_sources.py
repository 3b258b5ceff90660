"""The edit that a record asks for, once the pictures that it was made from are given again."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from t2i.errors import InputError, UsageError
from t2i.jobs.edits import Edit
from t2i.jobs.inpaint import InpaintEdit
from t2i.jobs.inputs import SourceImage, read_source
from t2i.jobs.masks import MODES, join_masks, mask_digest, read_mask
from t2i.jobs.reporter import Reporter
from t2i.jobs.sample_edit import MAX_CANDIDATES, SampleEdit
from t2i.jobs.vary import VaryEdit
from t2i.schema import shown

if TYPE_CHECKING:
    from PIL.Image import Image


VARY_MODES = ("like", "blend", "text-diff")  # of `t2i vary`


class Sources:
    """The pictures of --from, told apart by their pixels. path: the picture that is drawn again."""

    def __init__(self, reporter: Reporter, path: Path, given: Sequence[Path]) -> None:
        self.reporter, self.path = reporter, path
        self.given = [read_source(reporter, file) for file in given]
        self._used: set[str] = set()  # digests

    def check_used(self) -> None:
        """Raise InputError for a picture that no one asked for."""
        for source in self.given:
            if source.digest not in self._used:
                raise InputError(f"{self.path} was not made from {source.path}.", "Leave it out.", "image")

    def picture(self, digest: Any, use: str) -> SourceImage:
        """The one with this digest. Raises InputError."""
        for source in self.given:
            if source.digest == digest:
                self._used.add(source.digest)
                return source
        if self.given:
            names = " or ".join(str(source.path) for source in self.given)
            raise InputError(f"{self.path} was not made from {names}.", "Give the very picture, unchanged.", "image")
        what = f"{self.path} was made from another picture ({use}), which it does not hold."
        raise InputError(
            what, f"Give it, too: t2i sample --replay {shlex.quote(str(self.path))} --from PICTURE", "image"
        )

    def mask(self, digest: Any, source: SourceImage, margins: tuple[int, int, int, int]) -> Image:
        """The mask with this digest: the picture's transparency, its margins, or one of the files. Raises
        InputError."""
        for file, mask in self._masks(source):
            joined, _ = join_masks(self.reporter, source, mask, [], outpaint_text(margins))
            if joined is not None and mask_digest(joined) == digest:
                self._used.add(file)
                return joined
        hint = "Give it, too, with --from; of a box, the file that --show-mask saved."
        raise InputError(f"the mask of {self.path} is missing.", hint, "image")

    def _masks(self, source: SourceImage) -> Iterator[tuple[str, Image | None]]:
        """(digest of the file, what it masks); no file first."""
        yield "", None
        for other in self.given:
            if other.image.size == source.image.size:
                with suppress(UsageError):  # a picture, not a mask
                    for mode in MODES:
                        yield other.digest, read_mask(self.reporter, other.path, source.image.size, mode)


def outpaint_text(margins: tuple[int, int, int, int]) -> str | None:
    """The margins (left, top, right, bottom) as --outpaint has them."""
    left, top, right, bottom = margins
    return f"left={left},top={top},right={right},bottom={bottom}" if any(margins) else None


def edit_of(command: str, settings: dict[str, Any], sources: Sources) -> Edit:
    """What the record of a command asks for.

    Raises InputError where a picture that it needs was not given, ValueError for values that make no sense: a file may
    say anything.
    """
    if command == "inpaint":
        return _inpaint(_table(settings.get("inpaint")), sources)
    if command == "vary":
        mode = next((mode for mode in VARY_MODES if mode in settings), "")
        return _vary(mode, _table(settings.get(mode)), sources)
    rerank, prior, best_of = (settings.get(name) for name in ("rerank", "prior", "prior_best_of"))
    for number in (rerank, best_of):
        if number is not None and (type(number) is not int or not 1 <= number <= MAX_CANDIDATES):
            raise ValueError(f"settings has {shown(number)} candidates, not 1 to {MAX_CANDIDATES}")
    if prior not in (None, "none"):
        raise ValueError(f"settings.prior is {shown(prior)}, not none")
    init, strength = None, None
    if "init" in settings:
        table = _table(settings["init"])
        (init,) = (sources.picture(digest, "init") for digest in _list(table.get("pictures"), 1))
        strength = _share(table.get("strength"))
    return SampleEdit(init, strength, rerank, prior, best_of)


def _vary(mode: str, table: dict[str, Any], sources: Sources) -> VaryEdit:
    pictures = _list(table.get("pictures"), 2 if mode == "blend" else 1)
    texts = _list(table.get("texts"), 2) if mode == "text-diff" else ["", ""]
    at = _share(table.get("at"))
    if (at is None) != (mode == "like") or not all(isinstance(text, str) for text in texts):
        raise ValueError("the settings of vary have no point, or no texts, that can be used")
    found = tuple(sources.picture(digest, mode) for digest in pictures)
    points = () if at is None else (at,)
    return VaryEdit(mode, found, (texts[0], texts[1]), points, _share(table.get("strength")))


def _inpaint(table: dict[str, Any], sources: Sources) -> InpaintEdit:
    feather, text, shape = table.get("feather"), table.get("text"), table.get("shape", "box")
    margins = _list(table.get("outpaint"), 4)
    if not all(type(side) is int and side >= 0 for side in margins):
        raise ValueError(f"settings.inpaint.outpaint is {shown(margins)}, not four sides")
    if not (feather is None or type(feather) is int):
        raise ValueError(f"settings.inpaint.feather is {shown(feather)}, not a whole number")
    if not (text is None or isinstance(text, str)):
        raise ValueError(f"settings.inpaint.text is {shown(text)}, not a text")
    if shape not in ("box", "exact"):
        raise ValueError(f"settings.inpaint.shape is {shown(shape)}, not box or exact")
    around = (margins[0], margins[1], margins[2], margins[3])
    source = sources.picture(table.get("picture"), "inpaint")
    mask = None if table.get("mask") is None else sources.mask(table["mask"], source, around)
    grow, threshold = _share(table.get("grow")), _share(table.get("threshold"))
    return InpaintEdit(sources.reporter, source, mask, around, feather, text, shape, grow or 0.0, threshold)


def _table(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise ValueError(f"the settings have {shown(value)} in the place of a table")
    return value


def _list(value: Any, length: int) -> list[Any]:
    if not isinstance(value, list) or len(value) != length:
        raise ValueError(f"the settings have {shown(value)} in the place of a list of {length}")
    return value


def _share(value: Any) -> float | None:
    """A number in [0, 1], or None."""
    if value is None:
        return None
    if type(value) not in (int, float) or not 0 <= value <= 1:
        raise ValueError(f"the settings have {shown(value)} in the place of a number from 0 to 1")
    return float(value)
